"""A run with a gallery: who is known is recognised by number, who is new is enrolled, whatever ends the run."""

import time

import cv2
import numpy as np
import pytest
import supervision as sv
from tracking_world import detections, unit_vectors

from reid_tracker import TrackConfig, Tracker, UserError, track
from reid_tracker.config import TrackerSettings, load
from reid_tracker.gallery.opening import open_gallery
from reid_tracker.gallery.recorder import GalleryMemory, GallerySink, picture_quality
from reid_tracker.gallery.sqlite_store import SqliteGallery
from reid_tracker.gallery.store import Model, Sighting, View
from reid_tracker.motchallenge import read_rows
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult

RATE, FRAMES, SIZE = 10, 40, (120, 400)
SLOTS = np.array([[20, 20, 60, 110], [140, 20, 180, 110], [260, 20, 300, 110]], np.float32)
WHO = unit_vectors(6).astype(np.float32)
SHADES = 40 * np.arange(1, 7)  # person: how bright


class Standing:
    """A detector that finds everyone where they stand."""

    def __init__(self, fails_at=None):
        self._fails_at = fails_at

    def detect(self, frame):
        if frame.index == self._fails_at:
            raise UserError("the camera fell down.")
        return detections(SLOTS)


class ByBrightness:
    """An appearance model that knows people by their shade."""

    hash, dimension, header = "c" * 64, WHO.shape[1], {}

    def __init__(self):
        self._rng = np.random.default_rng(0)

    def embed(self, image, xyxy):
        shades = [image[int(top) : int(bottom), int(left) : int(right)].mean() for left, top, right, bottom in xyxy]
        rows = WHO[np.abs(np.array(shades)[:, None] - SHADES).argmin(axis=1)]
        rows = rows + self._rng.normal(0, 0.03, rows.shape)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def video(folder, people):
    """A folder of pictures in which these three stand side by side."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for index in range(FRAMES):
        image = np.zeros((*SIZE, 3), np.uint8)
        for (left, top, right, bottom), who in zip(SLOTS.astype(int), people, strict=True):
            image[top:bottom, left:right] = SHADES[who] + rng.integers(-12, 13, (bottom - top, right - left, 1))
        cv2.imwrite(str(folder / f"{index:03}.png"), image)
    return folder


@pytest.fixture
def run(tmp_path):
    def call(*videos, detector=None, embedder=None, **settings):
        fixed = {
            "source.fps": RATE,
            "output.folder": str(tmp_path / "out"),
            "output.mot": True,
            "embedder.refresh_seconds": 0,
            "gallery.where": str(tmp_path / "gallery"),
        }
        config = load(TrackConfig, None, {**fixed, **{key.replace("__", "."): each for key, each in settings.items()}})
        options = {"detector": detector or Standing(), "embedder": embedder or ByBrightness()}
        return track(list(videos), config, **options)

    return call


def numbers(tmp_path, name):
    """Who stood where in the last frame: numbers from left to right."""
    rows = read_rows(tmp_path / "out" / f"{name}.txt")
    last = rows[rows[:, 0] == FRAMES]
    return last[np.argsort(last[:, 2]), 1].astype(int).tolist()


def people(tmp_path):
    gallery = SqliteGallery(tmp_path / "gallery")
    try:
        return gallery.people()
    finally:
        gallery.close()


def test_a_later_run_gives_known_people_their_numbers_and_others_new_ones(run, tmp_path):
    (first,) = run(video(tmp_path / "one", [0, 1, 2]))
    assert (first.recognised, first.enrolled, first.identities) == (0, 3, 3)
    before = dict(zip([0, 1, 2], numbers(tmp_path, "one"), strict=True))
    (second,) = run(video(tmp_path / "two", [4, 0, 2]))
    new, *known = numbers(tmp_path, "two")
    assert known == [before[0], before[2]]
    assert new not in before.values()
    assert (second.recognised, second.enrolled, second.identities) == (2, 1, 3)
    assert "Gallery: 2 recognised, 1 new." in second.notes
    assert [each.number for each in people(tmp_path)] == sorted([*before.values(), new])


def test_videos_of_one_run_share_their_people(run, tmp_path):
    videos = [video(tmp_path / "one", [0, 1, 2]), video(tmp_path / "two", [2, 1, 0])]
    _, second = run(*videos)
    assert numbers(tmp_path, "two") == numbers(tmp_path, "one")[::-1]
    assert (second.recognised, second.enrolled) == (3, 0)


def test_views_carry_the_picture_and_where_it_is_from(run, tmp_path):
    run(video(tmp_path / "one", [0, 1, 2]))
    gallery = SqliteGallery(tmp_path / "gallery")
    for person in gallery.people():
        shades = set()
        for view in gallery.views(person.number):
            crop = cv2.imdecode(np.frombuffer(view.crop, np.uint8), cv2.IMREAD_COLOR)
            assert crop.shape == (90, 40, 3)
            assert (view.source, 0 < view.quality < 1, 0 <= view.time < FRAMES / RATE) == ("one", True, True)
            shades.add(int(np.abs(crop.mean() - SHADES).argmin()))
            assert WHO[min(shades)] @ view.vector > 0.9
        assert len(shades) == 1
    assert time.time() - gallery.people()[0].last_seen < 60
    gallery.close()


def test_ctrl_c_loses_nobody(run, tmp_path):
    def stop(source, done):
        if done == 25:
            raise KeyboardInterrupt

    config = {"source.fps": RATE, "output.folder": str(tmp_path), "output.mot": True}
    config["gallery.where"] = str(tmp_path / "gallery")
    (summary,) = track(
        video(tmp_path / "one", [0, 1, 2]),
        load(TrackConfig, None, config),
        detector=Standing(),
        embedder=ByBrightness(),
        progress=stop,
    )
    assert summary.interrupted
    assert summary.enrolled == len(people(tmp_path)) == 3


def test_an_error_loses_nobody(run, tmp_path):
    with pytest.raises(UserError, match="fell down"):
        run(video(tmp_path / "one", [0, 1, 2]), detector=Standing(fails_at=25))
    assert [each.views > 0 for each in people(tmp_path)] == [True] * 3


def test_retention_forgets_before_the_run_begins(run, tmp_path):
    gallery = SqliteGallery(tmp_path / "gallery", Model(ByBrightness.hash, ByBrightness.dimension))
    long_ago = time.time() - 40 * 86_400
    gallery.enrol({7: Sighting([View(WHO[0])], long_ago, long_ago), 8: Sighting([View(WHO[5])], 0, time.time())})
    gallery.close()
    run(video(tmp_path / "one", [0, 1, 2]), gallery__retention_days=30)
    kept = [each.number for each in people(tmp_path)]
    assert 7 not in kept and 8 in kept
    assert 7 not in numbers(tmp_path, "one")


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    clip = video(tmp_path / "one", [0, 1, 2])
    run(clip)

    class Other(ByBrightness):
        hash = "d" * 64

    with pytest.raises(UserError, match="cannot be compared"):
        run(clip, embedder=Other())

    class Nameless:
        embed = ByBrightness.embed

    with pytest.raises(UserError, match="a hash and a dimension"):
        run(clip, embedder=Nameless())
    with pytest.raises(UserError, match="memory_seconds"):
        run(clip, tracker__memory_seconds=0)
    with pytest.raises(UserError, match="a state has numbers of its own"):
        run(clip, output__save_state=str(tmp_path / "state"))
    np.savez(tmp_path / "seen.npz", frame=[1], xyxy=SLOTS[:1], confidence=[0.9], embedding=WHO[:1])
    config = {"detector.recorded": str(tmp_path / "seen.npz"), "gallery.where": str(tmp_path / "gallery")}
    with pytest.raises(UserError, match="recorded vectors do not say"):
        track(clip, load(TrackConfig, None, config))


def frame_result(index, identity, tracklet, vector=WHO[0]):
    image = np.random.default_rng(index).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    tracks = detections(SLOTS[:1], embedding=vector[None])
    tracks.tracker_id, tracks.data["tracklet"] = np.array([identity]), np.array([tracklet])
    return FrameResult(Frame(image, index, index / RATE), tracks, sv.Detections(SLOTS[:1]))


def test_only_numbers_that_stay_are_saved_and_saved_while_the_video_runs(tmp_path):
    gallery = SqliteGallery(tmp_path / "gallery", Model("a", WHO.shape[1]))
    sink = GallerySink(gallery, "cam", TrackerSettings(return_seconds=1), save_seconds=0)
    for index in range(6):
        sink.write(frame_result(index, identity=5, tracklet=1))
    assert not gallery.people()
    for index in range(6, 30):
        sink.write(frame_result(index, identity=2, tracklet=1))
    saved = gallery.person(2)
    assert saved.views >= 4
    sink.close()
    assert [each.number for each in gallery.people()] == [2]
    assert sink.summary() == "Gallery: 0 recognised, 1 new."


def test_whoever_is_never_seen_well_is_counted_not_enrolled(tmp_path):
    gallery = SqliteGallery(tmp_path / "gallery", Model("a", WHO.shape[1]))
    sink = GallerySink(gallery, "cam", TrackerSettings())
    sink.write(frame_result(0, 1, 1, np.full(WHO.shape[1], np.nan)))
    sink.close()
    assert sink.summary() == "Gallery: 0 recognised, 0 new, 1 not seen well enough for it."
    assert not gallery.people()


def test_names_stand_at_the_boxes(tmp_path):
    gallery = SqliteGallery(tmp_path / "gallery", Model("a", WHO.shape[1]))
    gallery.enrol({1: Sighting([View(WHO[0])], 1, 2), 2: Sighting([View(WHO[1])], 1, 2)})
    gallery.name(1, "Anna")
    sink = GallerySink(gallery, "cam", TrackerSettings())
    assert [sink.label(number) for number in (1, 2, 3)] == ["#1 Anna", "#2", "#3"]


def test_a_big_and_sharp_crop_is_better():
    sharp = np.random.default_rng(0).integers(0, 255, (256, 128, 3), dtype=np.uint8)
    sharp = cv2.resize(cv2.resize(sharp, (32, 64)), (128, 256), interpolation=cv2.INTER_CUBIC)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 8)
    small = cv2.resize(sharp, (32, 64), interpolation=cv2.INTER_AREA)
    assert picture_quality(sharp) > 2 * picture_quality(blurred)
    assert picture_quality(sharp) > picture_quality(small)


def test_who_was_enrolled_in_this_run_is_known_after_any_absence(tmp_path):
    """Longer than `memory_seconds`: the gallery knows them, and so does the run that enrolled them."""
    gallery = SqliteGallery(tmp_path / "gallery", Model("a", WHO.shape[1]))
    memory = GalleryMemory(gallery)
    settings = TrackerSettings(memory_seconds=60, return_false_match_rate=0.05, return_seconds=1)
    sink = GallerySink(gallery, "cam", settings, save_seconds=0, memory=memory)
    tracker = Tracker(settings, RATE, memory=memory)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    seen = []
    for visit in range(4):
        for step in range(40):
            found = detections(SLOTS[:2], embedding=WHO[:2] + rng.normal(0, 0.02, (2, WHO.shape[1])))
            now = 700.0 * visit + step / RATE
            tracks = tracker.update(found, now)
            sink.write(FrameResult(Frame(image, step, now), tracks, found))
        seen.append(sorted(tracks.tracker_id.tolist()))
        tracker.update(detections(SLOTS[:0]), now + 100)
    assert seen == [[1, 2]] * 4
    assert (tracker.identities, len(gallery.people())) == (2, 2)
    gallery.close()


def test_who_is_enrolled_by_another_run_meanwhile_is_known_by_that_number(tmp_path):
    """Two runs at once on one gallery: whom one of them has saved, the other recognises; nobody in sight is doubled."""
    rng, model = np.random.default_rng(0), Model("a", WHO.shape[1])
    image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    settings = TrackerSettings(return_false_match_rate=0.05, return_seconds=1)

    class Run:
        def __init__(self):
            self.gallery = SqliteGallery(tmp_path / "gallery", model)
            self.memory = GalleryMemory(self.gallery)
            self.sink, self.beside = (
                GallerySink(self.gallery, name, settings, save_seconds=0, memory=self.memory) for name in ("a", "b")
            )
            self.tracker = Tracker(settings, RATE, memory=self.memory)
            self.now = 0.0

        def see(self, *who, steps=30):
            """The numbers of these people, who stand there for some frames, after some without anybody."""
            self.tracker.update(detections(SLOTS[:0]), self.now + 50)
            self.now += 100
            for _ in range(steps):
                self.now += 1 / RATE
                vectors = WHO[list(who)] + rng.normal(0, 0.02, (len(who), WHO.shape[1]))
                found = detections(SLOTS[: len(who)], embedding=vectors)
                tracks = self.tracker.update(found, self.now)
                for sink in (self.sink, self.beside):  # of two cameras that see the same
                    sink.write(FrameResult(Frame(image, 0, self.now), tracks, found))
            return tracks.tracker_id.tolist()

    one, other = Run(), Run()
    assert one.see(0, 1) == [1, 2] and other.see(3) == [3]
    assert other.see(1, 3) == [2, 3]  # the second one's first saving told it of 1 and 2
    assert one.see(3, 0) == [3, 1] and one.see(2) == [4]
    assert other.see(2, 0) == [4, 1]
    assert [each.number for each in one.gallery.people()] == [1, 2, 3, 4]
    for sink in (other.sink, other.beside):
        assert {1, 2, 4} <= sink.recognised and 3 in sink.new


def test_who_comes_to_two_runs_at_once_is_one_person_in_the_end(tmp_path, postgres_gallery):
    """Neither run can know of the other's newcomers yet: whoever saves second finds that they are the same."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    settings = TrackerSettings(return_false_match_rate=0.05, return_seconds=1)

    class Run:
        def __init__(self, where):
            self.gallery = open_gallery(where, Model("a", WHO.shape[1]))
            self.memory = GalleryMemory(self.gallery)
            self.sink = GallerySink(self.gallery, "cam", settings, save_seconds=1e9, memory=self.memory)
            self.tracker, self.now = Tracker(settings, RATE, memory=self.memory), 0.0

        def see(self, *who, noise=0.02):
            self.tracker.update(detections(SLOTS[:0]), self.now + 50)
            self.now += 100
            for _ in range(30):
                self.now += 1 / RATE
                vectors = WHO[list(who)] + rng.normal(0, noise, (len(who), WHO.shape[1]))
                found = detections(SLOTS[: len(who)], embedding=vectors)
                tracks = self.tracker.update(found, self.now)
                self.sink.write(FrameResult(Frame(image, 0, self.now), tracks, found))
            return tracks.tracker_id.tolist()

    for where in (str(tmp_path / "one"), f"{postgres_gallery}, one"):  # alone in an empty gallery
        one, other = Run(where), Run(where)
        (first,), (second,) = one.see(4, noise=0.18), other.see(4, noise=0.18)
        one.sink.save(everyone=True)
        other.sink.save(everyone=True)
        assert other.sink.merged == {second: first}
        one.gallery.close(), other.gallery.close()
    for where in (str(tmp_path / "gallery"), postgres_gallery):
        one, other = Run(where), Run(where)
        first, second = one.see(0, 1, 2), other.see(1, 3, 0)
        assert len({*first, *second}) == 6
        one.sink.save(everyone=True)
        other.sink.save(everyone=True)
        assert other.sink.merged == {second[0]: first[1], second[2]: first[0]}
        assert {each.number for each in one.gallery.people()} == {*first, second[1]}
        assert other.sink.new == {second[1]} and other.sink.recognised == {first[0], first[1]}
        assert other.see(0, 1, 3) == [first[0], first[1], second[1]]
        one.gallery.close(), other.gallery.close()


def test_the_files_of_a_run_bear_the_number_that_another_run_gave_at_the_same_time(run, tmp_path):
    """The other run enrols them while this one is under way."""
    other, gallery = list(WHO[[1, 2]]), SqliteGallery(tmp_path / "gallery", Model("c" * 64, WHO.shape[1]))

    class WhileThisOneRuns(Standing):
        def detect(self, frame):
            if frame.index == 20:
                for vector in other:
                    gallery.enrol({gallery.new_numbers()[0]: Sighting([View(vector)] * 3, 1, 2)})
                other.clear()
            return super().detect(frame)

    (summary,) = run(video(tmp_path / "one", [0, 1, 2]), detector=WhileThisOneRuns(), tracker__return_seconds=1)
    last = numbers(tmp_path, "one")
    assert {each.number for each in gallery.people()} == set(last)
    assert (summary.recognised, summary.enrolled) == (2, 1)
    rows = read_rows(tmp_path / "out" / "one.txt")
    assert set(rows[:, 1].astype(int)) == set(last)  # from the first frame on
    gallery.close()
