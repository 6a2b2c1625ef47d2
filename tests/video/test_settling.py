"""Files of recorded video are written once the boxes around each frame are known."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import supervision as sv

from reid_tracker.errors import UserError
from reid_tracker.video.frames import Frame
from reid_tracker.video.settling import Settling
from reid_tracker.video.sinks import FrameResult

PLACE, SIZE = 0.2, 0.4  # s, widths of the smoothing where a test holds them


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes are smoothed by the same widths throughout."""
    monkeypatch.setattr("reid_tracker.tracking.smoothing.Jitter.width", lambda *_: PLACE)


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.results: list[FrameResult] = []
        self.last_frame, self.closed = 0, 0

    def write(self, result: FrameResult) -> None:
        self.results.append(result)
        self.last_frame = result.frame.index + 1

    def close(self) -> None:
        self.closed += 1

    def rows(self) -> dict[tuple[int, int], tuple[np.ndarray, float]]:
        """Box and confidence by frame and identity."""
        return {
            (each.frame.index, identity): (box, confidence)
            for each in self.results
            for identity, box, confidence in zip(
                [] if each.tracks.tracker_id is None else each.tracks.tracker_id.tolist(),
                each.tracks.xyxy,
                [] if each.tracks.confidence is None else each.tracks.confidence.tolist(),
                strict=True,
            )
        }


def frame(index: int, time: float, boxes: dict[int, np.ndarray], expected: dict[int, np.ndarray] | None = None) -> Any:
    """A frame's result: people seen, who are their own tracklets, and those expected."""
    everyone = boxes | (expected or {})
    count, numbers = len(everyone), np.array(list(everyone), dtype=int)
    xyxy = np.array(list(everyone.values()), np.float32).reshape(count, 4)
    tracks = sv.Detections(
        xyxy + 1,  # as smoothed online
        confidence=np.array([0.8 if each in boxes else 0.0 for each in everyone]),
        class_id=np.zeros(count, int),
        tracker_id=numbers,
        data={"tracklet": numbers + 100, "class_name": np.full(count, "person"), "measured_xyxy": xyxy},
    )
    return FrameResult(Frame(np.zeros((4, 4, 3), np.uint8), index, time), tracks, tracks)


def box(x: float, y: float = 50.0, width: float = 20.0, height: float = 60.0) -> np.ndarray:
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def centred(xyxy: np.ndarray) -> np.ndarray:
    return np.concatenate([(xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]], axis=-1)


def local_lines(times: np.ndarray, values: np.ndarray, width: float) -> np.ndarray:
    """At each time the straight line through the neighbours [K, C], weighed by a Gaussian."""
    smooth = values.copy()
    for row, time in enumerate(times):
        near = np.abs(times - time) <= 3 * width
        if near.sum() > 1:
            weight = np.exp(-0.25 * ((times[near] - time) / width) ** 2)  # squared by polyfit
            smooth[row] = np.polyfit(times[near] - time, values[near], 1, w=weight)[1]
    return smooth


def slowly(
    seen: dict[int, dict[int, np.ndarray]], times: np.ndarray, fill: float, smooth: bool
) -> dict[tuple[int, int], np.ndarray]:
    """The obvious way: every person's whole path at once, centre and size."""
    paths = {}
    for who, boxes in seen.items():
        frames = sorted(boxes)
        wanted = set(frames)
        for first, second in pairwise(frames):
            if times[second] - times[first] <= fill + 1e-6:
                wanted |= set(range(first, second))
        rows = np.array(sorted(wanted))
        values = centred(np.array([boxes[each] for each in frames]))
        path = np.stack([np.interp(times[rows], times[frames], column) for column in values.T], axis=1)
        if smooth:
            path[:, :2] = local_lines(times[rows], path[:, :2], PLACE)
            path[:, 2:] = local_lines(times[rows], path[:, 2:], SIZE)
        paths |= {(int(row), who): each for row, each in zip(rows, path, strict=True)}
    return paths


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("shake", [0.0, 30.0])
@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("fill", [1.0, 0.25, 3.0, 0.0])
def test_frames_are_written_as_whole_paths_say(smooth: bool, fill: float, shake: float) -> None:
    """Also where the camera shakes: paths are smooth in the scene, not in the picture."""
    random = np.random.default_rng(3)
    shifts = shake * np.random.default_rng(4).normal(size=(150, 2))
    times = 7 + np.cumsum(random.choice([0.02, 0.04, 0.3], 150, p=[0.3, 0.6, 0.1]))
    seen: dict[int, dict[int, np.ndarray]] = {}
    for who in range(1, 7):
        first, last = sorted(random.choice(150, 2, replace=False).tolist())
        places = np.cumsum(random.normal(2, 3, 150)), np.exp(random.normal(0, 0.1, 150))
        shown = [at for at in range(first, last + 1) if random.random() < 0.6]
        seen[who] = {at: box(places[0][at], 50 + who, 20 * places[1][at], 60 * places[1][at]) for at in shown}
    seen = {who: boxes for who, boxes in seen.items() if boxes}
    sink = Kept()
    settling = Settling(sink, fill, smooth)
    for index, time in enumerate(times):
        there = {who: boxes[index] + np.tile(shifts[index], 2) for who, boxes in seen.items() if index in boxes}
        change = np.column_stack([np.eye(2), shifts[index] - shifts[max(index - 1, 0)]])
        settling.write(replace(frame(index, time, there), moved=change if shake else None))
    settling.close()
    assert [each.frame.index for each in sink.results] == list(range(150)) and sink.closed == 1
    expected = slowly(seen, times, fill, smooth)
    found = sink.rows()
    assert found.keys() == expected.keys()
    for (index, who), (xyxy, confidence) in found.items():
        xyxy, is_seen = xyxy - np.tile(shifts[index], 2), index in seen[who]
        assert (confidence > 0) == is_seen
        if smooth or not is_seen:
            np.testing.assert_allclose(centred(xyxy), expected[index, who], atol=2e-3)
        else:
            np.testing.assert_allclose(xyxy, seen[who][index] + 1, atol=1e-3)  # as it came


def test_jitter_is_calmed_and_a_straight_walk_kept() -> None:
    for deviation in (0.0, 4.0):
        jitter, sink = np.random.default_rng(1).normal(0, 1, 60) * deviation, Kept()
        settling = Settling(sink, 1.0)
        for index in range(60):
            settling.write(frame(index, index / 25, {1: box(100 + 3 * index + jitter[index])}))
        settling.close()
        error = [centred(xyxy)[0] - 100 - 3 * index for (index, _), (xyxy, _) in sink.rows().items()]
        assert np.std(error) < 0.6 * jitter.std() + 1e-3


@pytest.mark.parametrize("rate", [7, 30])
def test_the_scene_says_how_much_is_smoothed(rate: int) -> None:
    """Boxes that jump by .04 heights are calmed; precise ones of people who turn are left where they are."""
    random, times = np.random.default_rng(1), np.arange(40 * rate) / rate
    paths = [60 * np.sin(2 * np.pi * times / 10 + each) for each in range(4)]
    error = {}
    for jitter in (0.001, 0.04):
        seen = np.array(paths) + random.normal(0, jitter * 60, (4, len(times)))
        sink = Kept()
        settling = Settling(sink, 1.0)
        for index, time in enumerate(times):
            boxes = {who + 1: box(path[index], 100 * who) for who, path in enumerate(seen)}
            settling.write(replace(frame(index, time, boxes), motion_noise=0.35))
        settling.close()
        off = [centred(xyxy)[0] - paths[who - 1][index] for (index, who), (xyxy, _) in sink.rows().items()]
        error[jitter] = np.std(off[len(off) // 2 :]) / 60
    assert error[0.001] < 0.008 and error[0.04] < 0.75 * 0.04


def test_a_film_of_one_frame_is_written() -> None:
    sink = Kept()
    settling = Settling(sink, 1.0)
    settling.write(frame(0, 0, {1: box(50)}))
    settling.close()
    np.testing.assert_allclose(sink.rows()[0, 1][0], box(50), atol=1e-3)


def test_whoever_comes_near_a_walking_camera_stays_smooth_whatever_the_zoom() -> None:
    """The picture grows by a fifth a frame and turns; after fifty frames it is ten thousand times as large."""
    turn, sink = 1.2 * np.array([[np.cos(0.02), -np.sin(0.02)], [np.sin(0.02), np.cos(0.02)]]), Kept()
    settling, place, size = Settling(sink, 1.0), np.array([3.0, 2.0]), np.array([2.0, 6.0])
    boxes = []
    for index in range(100):
        boxes.append(np.concatenate([place - size / 2, place + size / 2]))
        result = frame(index, index / 10, {1: boxes[-1]} if index % 7 else {})
        settling.write(replace(result, moved=np.column_stack([turn, [1.0, -1.0]]) if index else None))
        place, size = turn @ place + [1.0, -1.0], 1.2 * size
    settling.close()
    found = sink.rows()
    assert sorted(index for index, _ in found) == list(range(1, 100))
    for (index, _), (xyxy, _) in found.items():
        np.testing.assert_allclose(xyxy, boxes[index], rtol=1e-3, atol=1.2 ** (index - 8))


def test_who_is_expected_stays_there_until_seen_again_in_time() -> None:
    sink = Kept()
    settling = Settling(sink, 1.0)
    for index in range(60):
        is_seen = index < 10 or 15 <= index < 20
        settling.write(
            frame(index, index / 10, {1: box(10 * index)} if is_seen else {}, {} if is_seen else {1: box(500)})
        )
    settling.close()
    centre = {index: centred(xyxy)[0] for (index, _), (xyxy, _) in sink.rows().items()}
    assert centre[12] == pytest.approx(120, abs=1)  # between the two sightings
    assert centre[30] == pytest.approx(501, abs=1)  # nobody came back


@pytest.mark.usefixtures("steady")
def test_frames_wait_no_longer_than_they_must_and_without_their_pictures() -> None:
    sink = Kept()
    settling = Settling(sink, 1.0)
    for index in range(100):
        settling.write(frame(index, index / 10, {1: box(index)}))
        assert len(sink.results) == max(0, index - 21)  # 1.2 s for smoothing, and 1 s for gaps
    assert all(each.frame.image is None for each in sink.results)
    assert len(settling._moments) < 40
    settling.close()
    assert len(sink.results) == 100 and sink.last_frame == 100


@pytest.mark.usefixtures("steady")
def test_pictures_wait_with_their_frames_as_far_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    size = frame(0, 0, {}).frame.image.nbytes
    for held, late in ((1000, 21), (5, 5), (0, 0)):
        monkeypatch.setattr("reid_tracker.video.settling.PICTURE_BYTES", held * size)
        sink = Kept()
        settling = Settling(sink, 1.0, pictures=True)
        for index in range(60):
            settling.write(frame(index, index / 10, {1: box(index)}))
            assert len(sink.results) == max(0, index + 1 - late - (held == 1000))
            pictures = [each.result.frame.image for each in settling._moments]
            assert sum(each is not None for each in pictures) == index + 1 - len(sink.results)
        settling.close()
        assert all(each.frame.image is not None for each in sink.results) and len(sink.results) == 60


def test_who_is_recognised_meanwhile_has_one_number_and_one_box() -> None:
    """Lost as 2, expected for a moment, back as 5 and soon recognised: 2 all the way."""
    sink, results = Kept(), []
    for index in range(60):
        shown = {1: box(300), **({2: box(50)} if index < 20 else {5: box(90)} if index >= 25 else {})}
        result = frame(index, index / 10, shown, {2: box(50)} if 20 <= index < 30 else {})
        if index >= 35:
            result.tracks.tracker_id[result.tracks.tracker_id == 5] = 2
        result.tracks.data["perhaps"] = np.where(result.tracks.tracker_id == 5, 2, 0)
        results.append(replace(result, dwell={5: {"hall": 1.0}} if 25 <= index < 35 else None))
    settling = Settling(sink, 0.0, smooth=False)
    for each in results:
        settling.write(each)
    settling.close()
    assert [each.tracks.tracker_id.tolist() for each in sink.results] == [
        each.tracks.tracker_id.tolist()
        for each in results  # what does not wait is as known at that moment
    ]
    sink = Kept()
    settling = Settling(sink, 1.0)
    for each in results:
        settling.write(each)
    settling.close()
    for index, each in enumerate(sink.results):
        assert sorted(each.tracks.tracker_id.tolist()) == [1, 2] and not each.tracks.data["perhaps"].any()
        assert (each.tracks.confidence[each.tracks.tracker_id == 2] > 0) == (not 20 <= index < 25)
        assert each.dwell == ({2: {"hall": 1.0}} if 25 <= index < 35 else None)


def test_nobody_is_added_outside_the_region_or_beside_themselves() -> None:
    def left(xyxy: np.ndarray) -> np.ndarray:
        return xyxy[:, 0] < 100

    def run(inside: Callable[[np.ndarray], np.ndarray] | None) -> dict[tuple[int, int], tuple[np.ndarray, float]]:
        sink = Kept()
        settling = Settling(sink, 1.0, inside=inside)
        for index, place in enumerate((40, 60, None, None, 180, 200)):
            others = {2: box(5 * index)}
            settling.write(frame(index, index / 10, others | ({1: box(place)} if place is not None else {})))
        settling.close()
        return sink.rows()

    assert {each for each in run(None) if each[1] == 1} == {(index, 1) for index in range(6)}
    assert {each for each in run(left) if each[1] == 1} == {(index, 1) for index in (0, 1, 2, 4, 5)}


def test_what_others_were_given_is_left_as_it_was() -> None:
    settling = Settling(Kept(), 1.0)
    results = [frame(index, index / 10, {1: box(10 * index)}) for index in range(30)]
    before = [each.tracks.xyxy.copy() for each in results]
    for each in results:
        settling.write(each)
    settling.close()
    assert all(np.array_equal(each.tracks.xyxy, was) for each, was in zip(results, before, strict=True))


@pytest.mark.usefixtures("steady")
def test_a_frame_that_fails_is_not_written_again_and_the_rest_is() -> None:
    class Full(Kept):
        def write(self, result: FrameResult) -> None:
            if result.frame.index == 3:
                raise UserError("the disk is full.")
            super().write(result)

    sink = Full()
    settling = Settling(sink, 1.0)
    with pytest.raises(UserError, match="full"):
        for index in range(30):
            settling.write(frame(index, index / 10, {1: box(index)}))
    settling.close()
    assert [each.frame.index for each in sink.results] == [0, 1, 2, *range(4, 26)] and sink.closed == 1


def newcomer(boxes: dict[int, Any], born: int, count: int = 40, known: int = 1) -> list[FrameResult]:
    """Frames 0.1 s apart; `boxes` of somebody (with a confidence) are detected, and tracked as 2 from `born` on."""
    results = []
    for index in range(count):
        result = frame(index, index / 10, {known: box(300, 200)} | ({2: boxes[index][0]} if 0 <= born <= index else {}))
        seen = sv.Detections(
            np.array([box(300, 200)] + ([boxes[index][0]] if index in boxes else [])).astype(np.float32),
            confidence=np.array([0.8] + ([boxes[index][1]] if index in boxes else [])),
        )
        results.append(FrameResult(result.frame, result.tracks, seen))
    return results


def led_in(results: list[FrameResult], seconds: float = 1.0, **settings: Any) -> dict[int, tuple[np.ndarray, float]]:
    """Boxes and confidences of 2, by frame."""
    sink = Kept()
    settling = Settling(sink, **{"fill_seconds": 1.0, "smooth": False, "lead_in_seconds": seconds} | settings)
    for each in results:
        settling.write(each)
    settling.close()
    assert sorted(index for index, who in sink.rows() if who == 1) == list(range(len(results)))
    return {index: row for (index, who), row in sink.rows().items() if who == 2}


WALK = {index: (box(20 + 4 * index), 0.2 if index < 20 else 0.9) for index in range(40)}


def test_newcomers_are_there_from_their_first_weak_boxes_on() -> None:
    found = led_in(newcomer(WALK, 20))
    assert sorted(found) == list(range(10, 40))  # a second before
    for index, (xyxy, confidence) in found.items():
        np.testing.assert_allclose(xyxy, WALK[index][0] + (index >= 20), atol=1e-3)
        assert confidence == pytest.approx(0.2 if index < 20 else 0.8)
    assert sorted(led_in(newcomer(WALK, 20), 0.35)) == list(range(17, 40))
    assert sorted(led_in(newcomer(WALK, 20), 0)) == list(range(20, 40))
    assert sorted(led_in(newcomer(WALK, 20), 5)) == list(range(40))
    short = newcomer(WALK, 20, count=24)
    assert sorted(led_in(short)) == [20, 21, 22, 23]  # not followed for long enough


def test_beginnings_that_were_missed_for_a_moment_are_filled_and_long_gaps_end_them() -> None:
    weak = {index: row for index, row in WALK.items() if index not in (17, 18)}
    found = led_in(newcomer(weak, 20))
    assert sorted(found) == list(range(10, 40)) and found[17][1] == found[18][1] == 0
    np.testing.assert_allclose(found[17][0], WALK[17][0], atol=0.1)
    assert sorted(led_in(newcomer(weak, 20), fill_seconds=0)) == [*range(10, 17), *range(19, 40)]
    assert sorted(led_in(newcomer({i: row for i, row in WALK.items() if not 13 <= i < 18}, 20))) == list(range(18, 40))


def test_no_beginning_takes_the_boxes_of_others_or_leaves_the_region() -> None:
    beside = {index: (box(20 + 4 * index), 0.9) for index in range(40)}
    results = newcomer(beside, 20)
    for index, each in enumerate(results[:20]):  # somebody else was there until then
        both = frame(index, index / 10, {1: box(300, 200), 3: beside[index][0]})
        results[index] = FrameResult(each.frame, both.tracks, each.detections)
    assert sorted(led_in(results)) == list(range(20, 40))
    right = led_in(newcomer(WALK, 20), inside=lambda xyxy: xyxy[:, 0] > WALK[15][0][0] - 1)
    assert sorted(right) == list(range(15, 40))
    jump = {index: (box(20 + 4 * index + (200 if index < 15 else 0)), 0.9) for index in range(40)}
    assert sorted(led_in(newcomer(jump, 20))) == list(range(15, 40))


def test_of_whom_was_in_sight_under_that_number_nothing_is_added() -> None:
    """Back within a moment, and recognised at once: the number is in the frames before already."""
    results = newcomer(WALK, 20)
    for index, each in enumerate(results[:16]):
        there = frame(index, index / 10, {1: box(300, 200), 2: box(200)})
        there.tracks.data["tracklet"][1] = 7
        results[index] = FrameResult(each.frame, there.tracks, each.detections)
    found = led_in(results)
    assert all(found[index][0][0] > 150 for index in range(16)) and found[16][0][0] < 100


def test_whoever_is_missed_by_all_stands_alone_in_a_frame() -> None:
    sink, nothing = Kept(), sv.Detections.empty()
    settling = Settling(sink, 1.0)
    for index in range(12):
        alone = frame(index, index / 10, {1: box(10 * index)})
        settling.write(FrameResult(alone.frame, nothing, nothing) if index == 5 else alone)
    settling.close()
    assert sink.rows()[5, 1][1] == 0 and centred(sink.rows()[5, 1][0])[0] == pytest.approx(50, abs=0.1)
    settling.close()
