"""Lines and zones of live cameras: counted, told of, drawn and measured."""

import json
import logging
import threading
import urllib.request

import numpy as np
import pytest
import yaml
from command_world import make_clip, refused
from live_world import ColorDetector, ColorEmbedder, free_port, picture, wait_until
from test_loop import Film

from reid_tracker.config import LiveConfig, load
from reid_tracker.counting import PassageCounter
from reid_tracker.errors import UserError
from reid_tracker.live.loop import LiveLoop
from reid_tracker.live.people import People
from reid_tracker.live.places import of_cameras
from reid_tracker.live.run import run_live
from reid_tracker.places.files import parse

# Red walks from 20 to the right and blue from 290 to the left; both pass the door, and red the yard.
DOOR = {
    "size": [320, 240],
    "lines": {"door": [[140, 239], [140, 0]]},
    "zones": {"yard": [[90, 0], [125, 0], [125, 130], [90, 130]]},
}


def follow(*cameras, places):
    """Results of each camera, and the events."""
    events, results = [], [[] for _ in cameras]
    loop = LiveLoop(
        cameras,
        ColorDetector(),
        ColorEmbedder(),
        load(LiveConfig, None, {}),
        People(emit=events.append),
        lambda place, result, arrived: results[place].append(result),
        ColorEmbedder.statistics,
        places=places,
    )
    while loop.step():
        pass
    return results, [each for each in events if each["event"] == "passed"]


def test_passages_are_counted_and_told_of():
    places = parse(DOOR, "here")
    (results,), events = follow(Film("hall", [picture(index) for index in range(70)]), places=[places])
    counts = results[-1].counts
    assert counts["lines"]["door"] == {"in": 1, "out": 1, "people_in": 1, "people_out": 1}
    assert counts["zones"]["yard"] | {"inside": 0, "longest": 0} == {
        "inside": 0,
        "in": 1,
        "out": 1,
        "people": 1,
        "longest": 0,
    }
    told = [(each["place"], each["way"], each["camera"]) for each in events]
    assert sorted(told) == [
        (*each, "hall") for each in (("door", "in"), ("door", "out"), ("yard", "in"), ("yard", "out"))
    ]
    red = {each["person"] for each in events if each["place"] == "yard"}
    assert len(red) == 1 and red < {each["person"] for each in events}
    assert {*results[-1].shapes} == {"door", "yard"}


def test_a_camera_of_another_size_is_scaled_to_and_one_of_another_shape_counts_nothing(caplog):
    small = [picture(index)[::2, ::2] for index in range(70)]
    tall = [np.full((320, 240, 3), 25, np.uint8)] * 3
    with caplog.at_level(logging.WARNING):
        results, _ = follow(Film("small", small), Film("tall", tall), places=[parse(DOOR, "here")] * 2)
    np.testing.assert_array_equal(results[0][-1].shapes["door"], [[70, 119.5], [70, 0]])
    assert results[0][-1].counts["lines"]["door"]["in"] == 1
    assert results[1][-1].counts is None and results[1][-1].shapes == {}
    warnings = [each.getMessage() for each in caplog.records]
    assert len(warnings) == 1 and "tall" in warnings[0] and "Nothing is counted there" in warnings[0]


def test_each_camera_may_have_places_of_its_own(tmp_path):
    for name, shapes in (("all", {"lines": {"a": [[0, 0], [9, 9]]}}), ("own", {"lines": {"b": [[0, 0], [9, 9]]}})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(shapes))
    both = [str(tmp_path / "all.yaml"), f"hall={tmp_path / 'own.yaml'}"]
    assert [[*each.shapes] for each in of_cameras(both, ["hall", "door"])] == [["b"], ["a"]]
    assert [each.shapes for each in of_cameras([], ["hall"])] == [{}]
    with pytest.raises(UserError, match=r"there is no camera 'hull'; these are there: hall, door"):
        of_cameras([f"hull={tmp_path / 'own.yaml'}"], ["hall", "door"])
    with pytest.raises(UserError, match="another file for every camera"):
        of_cameras([both[0]] * 2, ["hall"])


def test_of_the_longest_ago_only_the_sums_are_kept():
    """A camera that runs for months must not keep every number that ever passed."""
    free, bounded = (PassageCounter(parse(DOOR, "here").shapes, most) for most in (np.inf, 5))
    import supervision as sv

    for number in range(40):
        for step, x in enumerate((120, 130, 150, 160)):
            box = np.array([[x, 100, x + 1, 200]], np.float32)
            tracks = sv.Detections(box, tracker_id=np.array([number]), data={"tracklet": np.array([number])})
            for counter in (free, bounded):
                counter.update(tracks, 10.0 * number + step / 10)
                assert len(counter.take_passages()) <= 1
    assert free.counts() == bounded.counts()
    assert free.counts()["lines"]["door"]["people_out"] == 40
    assert len(bounded.by_identity()["door"]["out"]) <= 6 < len(free.by_identity()["door"]["out"])


def test_places_that_cannot_be_read_end_the_command_before_anything_begins(tmp_path, command):
    words = ["live", "-s", f"hall={make_clip(tmp_path / 'walk.mp4')}", "--realtime", "--no-serve"]
    refused(command(*words, "--places", tmp_path / "none.yaml"), "none.yaml")
    (tmp_path / "door.yaml").write_text(yaml.safe_dump(DOOR))
    refused(command(*words, "--places", f"hull={tmp_path / 'door.yaml'}"), "no camera 'hull'", "hall")


def test_the_page_s_metrics_and_state_say_what_was_counted(serve, tmp_path):
    near = DOOR | {"lines": {"door": [[80, 239], [80, 0]]}}  # the camera's film ends after 4 s and begins anew
    (tmp_path / "door.yaml").write_text(yaml.safe_dump(near))
    stopping, started, told = threading.Event(), threading.Event(), []
    settings = {"output.serve": f"127.0.0.1:{free_port()}", "count.places": [f"hall={tmp_path / 'door.yaml'}"]}
    thread = threading.Thread(
        target=run_live,
        daemon=True,
        args=([f"hall={serve('mjpeg').url}"], load(LiveConfig, None, settings)),
        kwargs={
            "detector": ColorDetector(),
            "embedder": ColorEmbedder(),
            "stopping": stopping,
            "started": lambda address: (told.append(address), started.set()),
        },
    )
    thread.start()
    try:
        assert started.wait(60)

        def read(path):
            with urllib.request.urlopen(told[0] + path) as answer:
                return answer.read().decode()

        line = 'reid_tracker_passages_total{camera="hall",place="door",way="out"} '
        wait_until(lambda: any(float(each.split()[-1]) >= 1 for each in read("metrics").splitlines() if line in each))
        assert 'reid_tracker_people_inside{camera="hall",place="yard"}' in read("metrics")
        camera = json.loads(read("state"))["cameras"][0]
        assert camera["counts"]["lines"]["door"]["out"] >= 1 and camera["counted"][0].startswith("door: ")
    finally:
        stopping.set()
        thread.join(10)
