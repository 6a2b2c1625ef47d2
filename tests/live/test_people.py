"""Who came, left and came back, as the page and the events tell it."""

import cv2
import numpy as np
import pytest
from tracking_world import detections, person

from reid_tracker.config import PeopleSettings
from reid_tracker.errors import UserError
from reid_tracker.live.people import People


class Scene:
    """Cameras that see numbered tracklets, and what is told of it."""

    def __init__(self, **options) -> None:
        self.events: list[dict] = []
        self.now = 0.0
        settings = PeopleSettings(**options.pop("settings", {}))
        self.people = People(settings, emit=self.events.append, clock=lambda: self.now, **options)

    def see(self, now, numbers, camera="hall", tracklets=None, image=None):
        self.now = now
        tracks = detections([person(100 * number) for number in numbers])
        tracks.tracker_id = np.array(numbers)
        tracks.data["tracklet"] = np.array(tracklets or [10 * number for number in numbers])
        self.people.see(camera, tracks, now, image)
        self.people.tick(now)
        return tracks

    def told(self):
        return [(event["event"], event["person"], event["camera"]) for event in self.events]


def test_someone_appears_leaves_and_is_known_again():
    scene = Scene()
    for step in range(21):
        scene.see(100 + 0.1 * step, [1])
        assert bool(scene.events) == (step >= 10)  # newcomers may yet turn out to be known
    scene.people.tick(104.9)
    assert scene.told() == [("appeared", 1, "hall")] and scene.people.in_view() == [1]
    scene.people.tick(105.1)
    assert scene.told()[1:] == [("left", 1, "hall")] and scene.people.in_view() == []
    assert scene.events[1]["seconds"] == 2.0
    scene.see(112, [1], "yard")
    assert scene.told()[2:] == [("reidentified", 1, "yard")]
    assert (scene.events[2]["away"], scene.events[2]["from"]) == (10.0, "hall")
    scene.see(112.5, [1], "hall")  # also before another camera at once
    assert scene.told()[3:] == [("reidentified", 1, "hall")]
    (shown,) = scene.people.describe()
    assert [visit[0] for visit in shown["visits"]] == ["hall", "yard", "hall"] and shown["cameras"] == ["yard", "hall"]
    assert shown["seconds"] == 2.0 and scene.people.total == 1


def test_who_was_there_only_for_a_moment_is_told_too():
    scene = Scene()
    scene.see(100, [1])
    scene.people.tick(104)
    assert scene.told() == [("appeared", 1, "hall"), ("left", 1, "hall")]


def test_nothing_is_told_of_who_was_not_announced():
    scene = Scene()
    scene.see(100, [1, 2])
    scene.people.passed(1, "hall", 100, "door", "in")
    assert scene.told() == [("appeared", 1, "hall"), ("passed", 1, "hall")]
    for now in (100.5, 101.2):
        scene.see(now, [1, 2])
    assert scene.told()[2:] == [("appeared", 2, "hall")]  # each once
    scene.see(101.5, [1, 3], tracklets=[10, 30])
    scene.people.merge(3, 1)  # the events of both bear the newcomer's number
    assert scene.told()[3:] == [("appeared", 3, "hall")]
    scene.see(101.7, [4], "yard", tracklets=[40])
    scene.see(101.8, [4], "hall", tracklets=[20])  # number 2 is someone who has only just come
    assert scene.told()[4:] == [("appeared", 4, "yard"), ("corrected", 4, "hall")]


def test_a_number_that_is_taken_back_never_was():
    scene = Scene()
    for now in (100.0, 101.5):
        scene.see(now, [1])
    scene.people.tick(110)
    scene.see(120.0, [2], tracklets=[77])
    scene.see(120.5, [1], tracklets=[77])  # the tracker has recognised them
    assert scene.told() == [("appeared", 1, "hall"), ("left", 1, "hall"), ("reidentified", 1, "hall")]
    assert [each["person"] for each in scene.people.describe()] == [1] and scene.people.total == 1
    assert len(scene.people.describe()[0]["visits"]) == 2


def test_who_was_announced_and_turns_out_to_be_someone_known_is_told_as_a_correction():
    scene = Scene()
    for now in (100.0, 101.5):
        scene.see(now, [1])
    scene.people.tick(110)
    for now in (120.0, 121.5, 123.0):
        scene.see(now, [2], tracklets=[77])
    scene.people.rename(2, "Ada")
    scene.see(125.0, [1], tracklets=[77])
    assert scene.told()[2:] == [("appeared", 2, "hall"), ("reidentified", 1, "hall"), ("corrected", 1, "hall")]
    reidentified, corrected = scene.events[3:]
    assert corrected["was"] == 2 and corrected["name"] == "Ada"
    assert corrected["time"] == pytest.approx(scene.events[2]["time"], abs=0.05)  # since it was announced
    assert scene.people.total == 1 and [each["person"] for each in scene.people.describe()] == [1]
    assert scene.people.shown(2) == 1  # a page that still shows the number finds the person
    assert [round(stop - start, 1) for _, start, stop in scene.people.describe()[0]["visits"]] == [1.5, 5.0]
    assert reidentified["away"] == 18.5


def test_people_of_the_gallery_are_known_at_first_sight():
    scene = Scene(known={5: "Ada"})
    assert scene.people.describe() == []
    scene.see(100, [5])
    assert scene.told() == [("reidentified", 5, "hall")] and scene.events[0]["name"] == "Ada"
    assert "away" not in scene.events[0] and scene.people.label(5) == "Ada"


def test_names_and_merges_hold_and_reach_the_gallery():
    calls = []

    class Book:
        def name(self, number, text):
            calls.append(("name", number, text))

        def merge(self, keep, other):
            calls.append(("merge", keep, other))

    scene = Scene(names=Book(), memory=Book())
    scene.see(100, [1, 2])
    scene.see(101, [1, 2])
    scene.people.rename(2, "  Grace \n Hopper ")
    scene.people.merge(1, 2)
    assert calls == [("name", 2, "Grace Hopper")]  # the merge can be taken back yet
    assert scene.people.last_merge() == {"keep": 1, "other": 2, "seconds": 60.0}
    tracks = scene.see(102, [2, 3])
    assert tracks.tracker_id.tolist() == [1, 3]  # the tracker's number is shown as the one kept
    (kept, other) = sorted(scene.people.describe(), key=lambda each: each["person"])
    assert (kept["person"], kept["name"], len(kept["visits"])) == (1, "Grace Hopper", 1) and other["person"] == 3
    scene.people.rename(2, "Grace")  # by its old number too
    assert scene.people.label(1) == "Grace"
    for keep, lost in ((1, 2), (1, 9)):
        with pytest.raises(UserError, match=r"choose two people|nobody has this number"):
            scene.people.merge(keep, lost)
    scene.people.rename(1, "")
    assert scene.people.label(1) == "#1"
    scene.people.tick(162)
    assert calls[3:] == [("merge", 1, 2)] * 2 and scene.people.last_merge() is None  # the gallery and the trackers
    with pytest.raises(UserError, match="no merge of the last 60 s"):
        scene.people.undo()


def test_a_merge_can_be_taken_back():
    calls = []
    memory = type("Memory", (), {"merge": lambda self, *numbers: calls.append(numbers)})()
    scene, untouched = Scene(memory=memory), Scene()
    for each in (scene, untouched):
        each.see(100, [1], "hall")
        each.see(101, [2, 3], "yard")
        each.see(102, [2, 3], "yard")
    scene.people.rename(2, "Ada")
    untouched.people.rename(2, "Ada")
    scene.people.merge(1, 2)
    scene.people.merge(3, 1)
    scene.people.rename(3, "Grace")
    for each in (scene, untouched):
        each.see(103, [2, 3], "yard")
    assert [each["person"] for each in scene.people.describe()] == [3]
    scene.people.undo()
    assert scene.people.last_merge()["other"] == 2
    scene.people.undo()
    untouched.people.rename(3, "Grace")  # given since: it is the name of the number on which it was seen
    for each in (scene, untouched):
        assert each.see(104, [2, 3], "yard").tracker_id.tolist() == [2, 3]
        each.people.tick(200)
    assert scene.people.in_view() == []

    def plain(people):
        return sorted((each["person"], each["name"], round(each["seconds"], 3), len(each["visits"])) for each in people)

    assert plain(scene.people.describe()) == plain(untouched.people.describe())
    assert scene.told() == untouched.told() and calls == []


def test_what_other_programs_do_to_the_gallery_is_followed():
    scene = Scene(known={5: "Ada", 6: "", 7: "Grace"})
    scene.see(100, [5, 6, 7])
    scene.see(101, [5, 6, 7])
    scene.people.follow({5: None, 6: 7})
    assert [each["person"] for each in scene.people.describe()] == [7] and not scene.people.crop(5)
    assert scene.see(102, [5, 6, 7]).tracker_id.tolist() == [5, 7, 7]
    assert [scene.people.label(number) for number in (5, 7)] == ["#5", "Grace"]  # without the name


def test_the_best_crop_is_kept():
    scene = Scene()
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[:, 100:140] = 90  # whom the box of number 1 shows
    scene.see(100, [1], image=picture)
    kept = scene.people.crop(1)
    shown = cv2.imdecode(np.frombuffer(kept, np.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (100, 40, 3) and abs(shown.mean() - 90) < 3
    worse = detections([person(100), person(105, 120)])  # somebody stands in front
    worse.confidence[:] = 1
    worse.tracker_id, worse.data["tracklet"] = np.array([1, 2]), np.array([10, 20])
    scene.people.see("hall", worse, 100.1, picture)
    assert scene.people.crop(1) == kept and scene.people.crop(2)
    hidden = Scene(keeps_crops=False)
    hidden.see(100, [1], image=picture)
    assert not hidden.people.crop(1)


def test_a_day_of_strangers_takes_no_more_room_than_an_hour():
    scene = Scene(settings={"most": 20})
    for number in range(1, 200):
        scene.see(100 + 10 * number, [number])
        if number % 3 == 0:
            scene.people.merge(number - 1, number)
    people = scene.people
    assert len(people.describe()) <= 21 and people.describe()[0]["person"] in (198, 199)
    assert len(people._people) <= 21 and len(people._merged) <= 20 and len(people._numbers) <= 2
    for visit in range(300):
        scene.see(5000 + 10 * visit, [500])
    assert len(people.describe()[0]["visits"]) == 50


def test_two_cameras_at_once_are_one_time_in_view():
    scene = Scene()
    for step in range(21):
        for camera in ("hall", "yard"):
            scene.see(100 + 0.1 * step, [1], camera)
    (shown,) = scene.people.describe()
    assert shown["seconds"] == pytest.approx(2.0)
    for step in range(21):
        scene.see(101 + 0.1 * step, [2], "gate")  # one second of it beside the others
    scene.people.merge(1, 2)
    (shown,) = scene.people.describe()
    assert shown["seconds"] == pytest.approx(3.0)
