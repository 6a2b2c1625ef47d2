"""What a tracker promises: who gets which number, and when."""

import datetime

import numpy as np
import pytest
import supervision as sv
from tracking_world import detections, person, seen, unit_vectors

from reid_tracker.config import TrackerSettings
from reid_tracker.errors import UserError
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.costs import SAME_PLACE
from reid_tracker.tracking.tracker import Tracker

FAR_APART = CosineStatistics(same_mean=0.9, same_std=0.05, stranger_mean=0.0, stranger_std=0.1)


def ids(tracked: sv.Detections) -> list[int]:
    return tracked.tracker_id.tolist()


def walk(tracker: Tracker, frames: int, *starts: tuple[float, float], **columns) -> list[list[int]]:
    """Let people walk from x at a speed (px a frame); the numbers reported in each frame."""
    return [
        ids(tracker.update(detections([person(x + speed * k) for x, speed in starts], **columns)))
        for k in range(frames)
    ]


def test_whoever_is_there_at_the_start_is_reported_at_once_and_keeps_the_number():
    assert walk(Tracker(frame_rate=10), 20, (0, 5), (300, -3)) == [[1, 2]] * 20


def test_a_newcomer_is_reported_after_three_sightings():
    tracker = Tracker(frame_rate=10)
    tracker.update(sv.Detections.empty())
    assert walk(tracker, 5, (0, 5)) == [[], [], [1], [1], [1]]


def test_one_false_box_never_gets_a_number():
    tracker = Tracker(frame_rate=10)
    tracker.update(sv.Detections.empty())
    assert ids(tracker.update(detections([person(0)]))) == []
    for _ in range(5):
        tracker.update(sv.Detections.empty())
    assert tracker.identities == 0


def test_an_unsure_box_does_not_begin_a_person_but_carries_one_on():
    tracker = Tracker(frame_rate=10)
    assert walk(tracker, 10, (0, 5), confidence=0.3) == [[]] * 10
    walk(tracker, 5, (0, 5))
    assert ids(tracker.update(detections([person(25)], confidence=0.2))) == [1]


def test_an_unsure_box_also_carries_on_whoever_was_missed_for_a_moment_where_they_are_expected():
    """Someone who stands behind a post is found with little confidence, and not in every frame."""
    tracker = Tracker(frame_rate=10)
    walk(tracker, 10, (0, 0))
    assert [ids(tracker.update(detections([]))) for _ in range(5)] == [[]] * 5
    assert ids(tracker.update(detections([person(90)], confidence=0.2))) == []
    assert ids(tracker.update(detections([person(3)], confidence=0.2))) == [1]


def test_a_short_gap_is_bridged_by_motion_and_a_long_one_is_not():
    for seconds, expected in ((1.0, [1]), (4.0, [])):
        tracker = Tracker(frame_rate=10)
        walk(tracker, 40, (0, 6))
        for _ in range(round(seconds * 10) - 1):
            assert len(tracker.update(sv.Detections.empty())) == 0
        assert ids(tracker.update(detections([person(6 * (39 + seconds * 10))]))) == expected


def test_whoever_is_fast_and_new_is_met_after_a_miss():
    """A car that moves a quarter of its length a frame, seen three times and then missed three times."""
    tracker, found = Tracker(frame_rate=25), []
    for frame in range(25):
        cars = [[900, 500, 960, 548]]
        if 5 <= frame < 8 or frame >= 11:
            cars.append([15 * frame, 60, 15 * frame + 60, 108])
        found.append(ids(tracker.update(detections(cars))))
    assert found[4] == [1] and found[7] == found[11] == found[-1] == [1, 2]


def test_by_overlap_alone_someone_missed_is_met_only_while_their_place_is_known():
    """Where people are shaken about, who is at the expected place after a second may be anyone; a vector would tell."""
    rng, look = np.random.default_rng(0), unit_vectors(1)
    for shake, embedding, expected in ((0.5, None, [1]), (9.0, None, []), (9.0, look, [1])):
        tracker = Tracker(frame_rate=10, statistics=FAR_APART)
        for _ in range(60):
            tracker.update(detections([person(*rng.normal(300, shake, 2))], embedding=embedding))
        for _ in range(9):
            tracker.update(sv.Detections.empty())
        place = tracker._table.mean[0, 0, :2] - [20, 50]  # where the filter expects the corner
        assert ids(tracker.update(detections([person(*place)], embedding=embedding))) == expected


def test_whoever_is_missed_in_one_frame_is_met_at_any_frame_rate():
    """At a frame a second nobody's place is known to a quarter of a height, not even in view; times are not round."""
    for step in (1 / 3, 0.7, 1.0, 1.4):
        tracker = Tracker(frame_rate=1 / step)
        seen = [k for k in range(12) if k != 8]
        given = [ids(tracker.update(detections([person(300)] if k in seen else []), k * step)) for k in range(12)]
        assert given[-1] == given[9] == [1], step


def test_smooth_sizes_follow_at_once_where_people_are_hard_to_predict():
    def grow(shake):
        rng, tracker = np.random.default_rng(0), Tracker(frame_rate=10)
        for _ in range(60):
            tracker.update(detections([person(*rng.normal(300, shake, 2))]))
        x, y = tracker._table.mean[0, 0, :2] - [20, 50]
        tracker.update(detections([[x - 4, y, x + 44, y + 110]]))
        return tracker._table.size[0, 0]

    assert grow(0.5) < 44 < 46 < grow(9.0) < 48


def test_time_is_real_whatever_frames_are_dropped():
    """A person walks at 30 px/s; frames come at irregular times."""
    rng = np.random.default_rng(0)
    tracker = Tracker()
    times = np.cumsum(rng.uniform(0.03, 0.8, 60))
    numbers = {tuple(ids(tracker.update(detections([person(30 * t)]), timestamp=t))) for t in times}
    assert numbers == {(1,)}


def test_appearance_keeps_people_apart_who_change_places_behind_a_pillar():
    looks = unit_vectors(2)
    for columns, expected in (({"embedding": looks[::-1]}, [2, 1]), ({}, [1, 2])):
        tracker = Tracker(frame_rate=10, statistics=FAR_APART)
        rows = [person(100), person(150)]
        for _ in range(10):
            tracker.update(detections(rows, embedding=looks) if columns else detections(rows))
        for _ in range(5):
            tracker.update(sv.Detections.empty())
        assert ids(tracker.update(detections(rows, **columns))) == expected


def test_appearance_alone_brings_back_whoever_could_have_walked_there():
    looks = unit_vectors(2)
    for distance, look, expected in ((150, 0, [1]), (1500, 0, []), (150, 1, [])):
        tracker = Tracker(frame_rate=10, statistics=FAR_APART)
        for _ in range(5):
            tracker.update(detections([person(0)], embedding=looks[:1]))
        for _ in range(14):
            tracker.update(sv.Detections.empty())
        back = detections([person(distance)], embedding=looks[look : look + 1])
        assert ids(tracker.update(back)) == expected


def test_foreign_vectors_are_calibrated_from_the_video_itself():
    """The same crossing without given statistics: the two walk through each other and keep their numbers."""
    rng, looks = np.random.default_rng(1), unit_vectors(3)
    tracker = Tracker(frame_rate=10)
    for k in range(60):
        boxes = [person(6 * k), person(360 - 6 * k), person(100, 400)]
        visible = [0, 2] if 26 <= k <= 33 else [0, 1, 2]  # the second is hidden while they cross
        vectors = seen(looks, rng)[visible]
        tracked = tracker.update(detections([boxes[i] for i in visible], embedding=vectors))
    assert ids(tracked) == [1, 2, 3]


def test_a_covered_crop_does_not_change_what_is_remembered():
    looks = unit_vectors(2)
    tracker = Tracker(frame_rate=10, statistics=FAR_APART)
    behind, front = person(100, 100), person(110, 120)
    for _ in range(5):
        tracker.update(detections([behind, person(600)], embedding=looks))
    for _ in range(20):  # the one behind shows the front one's clothes
        tracker.update(detections([behind, front], embedding=looks[[1, 1]]))
    for _ in range(5):
        tracker.update(sv.Detections.empty())
    assert ids(tracker.update(detections([person(140)], embedding=looks[:1]))) == [1]


def test_a_half_hidden_crop_may_look_less_like_its_person(monkeypatch):
    monkeypatch.setattr("reid_tracker.tracking.association.ALIKE", 0)  # overlap alone
    settings = TrackerSettings(motion_limit=0.5)
    own, other = np.eye(32)[:2]
    unlike = 0.4 * own + np.sqrt(1 - 0.4**2) * np.eye(32)[2]
    for front, expected in ((person(320, 110), [1]), (person(320, 500), [])):
        tracker = Tracker(settings, frame_rate=10, statistics=FAR_APART)
        for _ in range(5):
            tracker.update(detections([person(300)], embedding=[own]))
        # 14 px on: an overlap of half, and someone who has just come stands in front, or does not.
        boxes = [person(314), front]
        assert ids(tracker.update(detections(boxes, embedding=[unlike, other]))) == expected


def test_a_tiny_crop_does_not_change_what_is_remembered():
    for height, remembered in ((20, False), (30, True)):
        tracker = Tracker(frame_rate=10, statistics=FAR_APART)
        for _ in range(5):
            boxes = [person(100, width=10, height=height)]
            tracker.update(detections(boxes, embedding=unit_vectors(1)))
        assert (tracker.views(1) is not None) == remembered


def test_classes_do_not_swap_identities_unless_asked():
    for agnostic, expected in ((False, []), (True, [1])):
        tracker = Tracker(TrackerSettings(class_agnostic=agnostic), frame_rate=10)
        for _ in range(3):
            tracker.update(detections([person(0), person(80)], class_id=[0, 0]))
        # Half a box away, and where two overlap, the other class is another thing.
        assert ids(tracker.update(detections([person(20)], class_id=[2]))) == expected
    tracker = Tracker(frame_rate=10)
    for _ in range(3):
        tracker.update(detections([person(0), person(8)], class_id=[0, 2]))
    assert ids(tracker.update(detections([person(4)], class_id=[2]))) == [2]


def test_whoever_turns_round_after_a_long_walk_keeps_the_number():
    random, tracker, places = np.random.default_rng(0), Tracker(frame_rate=25), np.zeros(6)
    numbers: list[list[int]] = []
    for step in range(25 * 14):
        places += (1 if step < 25 * 10 else -1) * 1.5 * 100 / 25  # 1.5 heights a second
        boxes = [person(x, 300 * lane) + random.normal(0, 1, 4) for lane, x in enumerate(places)]
        numbers.append(ids(tracker.update(detections(boxes))))
    assert tracker.motion_noise < 0.5  # calm people in precise boxes
    assert numbers[-1] == numbers[0]


def test_a_class_that_wavers_is_one_thing():
    random, tracker = np.random.default_rng(0), Tracker(frame_rate=10)
    seen = set()
    for step in range(60):
        seen |= set(ids(tracker.update(detections([person(5 * step)], class_id=[int(random.random() < 0.3)]))))
    assert seen == {1}


def test_side_by_side_too_each_thing_of_a_wavering_class_is_one():
    """A row of parked cars, each before the next."""
    random, tracker = np.random.default_rng(0), Tracker(frame_rate=10)
    cars = np.array([[45.0 * each, 15.0 * each, 45.0 * each + 90, 15.0 * each + 60] for each in range(6)])
    for _ in range(60):
        seen = detections(cars + random.normal(0, 1, (6, 4)), class_id=2 + 5 * (random.random(6) < 0.2))
        assert ids(tracker.update(seen)) == [1, 2, 3, 4, 5, 6]


def test_a_second_box_on_a_person_is_not_a_second_person():
    tracker = Tracker(frame_rate=10)
    for step in range(10):
        tracker.update(detections([person(3 * step), person(3 * step + 3)], confidence=[0.9, 0.8]))
    assert tracker.identities == 1  # from the first frame on
    for step in range(10, 20):
        boxes = [person(3 * step), person(400), person(403), person(400)]
        tracker.update(detections(boxes, confidence=[0.9, 0.7, 0.9, 0.8], class_id=[0, 0, 0, 2]))
    assert tracker.identities == 3  # nor of who comes later; another class may lie there
    tracker = Tracker(frame_rate=10)
    tracker.update(detections([person(0)]))
    for _ in range(10):
        tracker.update(detections([person(0), person(3)], confidence=[0.9, 0.8]))
    assert tracker.identities == 1  # nobody arrives inside of another


def test_of_newcomers_in_one_place_the_surest_stay():
    for seed in range(20):
        random = np.random.default_rng(seed)
        boxes = [person(*place) for place in random.uniform((0, 0), (80, 60), (30, 2))]
        confidence, kinds = random.uniform(0.7, 1, 30), random.integers(0, 2, 30)
        kept: list[int] = []
        for row in np.argsort(-confidence):
            apart = (kinds[row] != kinds[other] or overlap(boxes[row], boxes[other]) < SAME_PLACE for other in kept)
            kept += [row] if all(apart) else []
        given = detections(boxes, confidence=confidence, class_id=kinds)
        given.data["place"] = np.arange(30)
        assert Tracker().update(given).data["place"].tolist() == sorted(kept)


def overlap(one: list[float], other: list[float]) -> float:
    """IoU of two boxes of one size."""
    common = max(40 - abs(one[0] - other[0]), 0) * max(100 - abs(one[1] - other[1]), 0)
    return common / (8000 - common)


def test_boxes_too_weak_for_anybody_are_told_once(caplog):
    tracker = Tracker(frame_rate=25)
    for step in range(300):
        tracker.update(detections([person(step)], confidence=[0.6 if step % 2 else 0.5]))
    told = [each.getMessage() for each in caplog.records]
    assert len(told) == 1 and "surest box of 100 frames has 0.60" in told[0] and "new_confidence" in told[0]
    caplog.clear()
    for confidence, before in ((0.3, 0.0), (0.6, 0.9)):  # nobody, and somebody from the first frame on
        tracker = Tracker(frame_rate=25)
        for step in range(300):
            tracker.update(detections([person(step)], confidence=[confidence if step else before]))
    assert not caplog.records


def test_vectors_that_tell_nobody_apart_are_as_none():
    found = []
    for dimension in (0, 32):
        random, tracker = np.random.default_rng(0), Tracker(frame_rate=5)
        for step in range(300):
            shown = np.flatnonzero(random.random(8) > 0.1)
            alike = np.ones((len(shown), 32)) + random.normal(0, 0.3, (len(shown), 32))
            boxes = [person(50 * each + 20 * np.sin(step / 5 + each)) for each in shown]
            tracker.update(detections(boxes, embedding=alike if dimension else None))
        found.append(tracker.identities)
    assert found == [8, 8]


def test_people_one_after_another_before_a_foreign_network_are_not_one():
    random, tracker, numbers = np.random.default_rng(0), Tracker(frame_rate=5), []
    common = random.normal(size=64)
    for _ in range(6):
        own = common + random.normal(0, 0.4, 64)  # strangers' cosines are about .86, one person's .99
        for step in range(30):
            tracked = tracker.update(detections([person(5 * step)], embedding=[own + random.normal(0, 0.12, 64)]))
        numbers.append(ids(tracked)[0])
        for _ in range(25):
            tracker.update(detections([], embedding=np.zeros((0, 64))))
    assert len(set(numbers)) == 6


def test_rows_come_back_in_input_order_with_measured_boxes_and_all_their_data():
    tracker = Tracker(frame_rate=10)
    boxes = [person(500), person(0), person(250)]
    tracker.update(detections(boxes))
    frame = detections([*boxes[::-1], person(900)], confidence=[0.9, 0.8, 0.7, 0.9], class_id=[0, 0, 0, 0])
    frame.data["colour"] = np.array(["red", "green", "blue", "white"])
    tracked = tracker.update(frame)
    assert ids(tracked) == [3, 2, 1]
    np.testing.assert_array_equal(tracked.xyxy, frame.xyxy[:3])
    assert tracked.data["colour"].tolist() == ["red", "green", "blue"]
    assert tracked.data["tracklet"].tolist() == [3, 2, 1]
    assert frame.tracker_id is None  # the caller's detections are left alone


def test_trackers_share_nothing():
    a, b = Tracker(frame_rate=10), Tracker(frame_rate=10)
    walk(a, 3, (0, 0), (200, 0), (400, 0))
    assert walk(b, 3, (0, 0)) == [[1]] * 3
    assert walk(a, 1, (0, 0), (200, 0), (400, 0)) == [[1, 2, 3]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "bad", [[np.nan, 0, 10, 10], [0, 0, np.inf, 10], [0, 0, 1e300, 10], [10, 10, 10, 40], [30, 10, 10, 40]], ids=str
)
def test_boxes_that_are_none_are_ignored(bad):
    tracker, other = Tracker(frame_rate=10), Tracker(frame_rate=10)
    for k in range(10):
        frame = detections([person(0), person(5 * k)])
        frame.xyxy = frame.xyxy.astype(np.float64)
        frame.xyxy[0] = bad  # supervision itself refuses NaN, but only when the object is made
        assert ids(tracker.update(frame)) == ids(other.update(np.array([bad, person(5 * k)]))) == [1]


def test_boxes_outside_the_picture_and_missing_columns_are_fine():
    tracker = Tracker(frame_rate=10)
    bare = sv.Detections(xyxy=np.array([person(-500.0)], dtype=np.float32))
    assert ids(tracker.update(bare)) == [1]


def test_missing_vectors_are_nan_rows():
    looks = unit_vectors(2)
    tracker = Tracker(frame_rate=10, statistics=FAR_APART)
    looks[1] = np.nan
    for k in range(5):
        tracked = tracker.update(detections([person(5 * k), person(400)], embedding=looks))
    assert ids(tracked) == [1, 2]
    assert ids(tracker.update(detections([person(25), person(400)]))) == [1, 2]  # and none at all for a frame


def test_many_frames_with_nobody_leave_nothing_behind():
    tracker = Tracker(frame_rate=10)
    walk(tracker, 5, (0, 5), (300, 0))
    for _ in range(100):
        assert len(tracker.update(sv.Detections.empty())) == 0
    assert len(tracker._table) == 0


def test_errors_name_the_mistake():
    tracker = Tracker(frame_rate=10)
    tracker.update(detections([person(0)], embedding=unit_vectors(1, 32)), timestamp=5.0)
    for time in (5.0, 4.0):
        with pytest.raises(UserError, match="order of time"):
            tracker.update(detections([person(0)]), timestamp=time)
    for time in (float("nan"), float("inf"), 1e200):
        with pytest.raises(UserError, match="no time in seconds"):
            tracker.update(detections([person(0)]), timestamp=time)
    assert tracker.time == 5.0
    with pytest.raises(UserError, match=r"64 numbers after embeddings of 32"):
        tracker.update(detections([person(0)], embedding=unit_vectors(1, 64)), timestamp=6.0)
    for rate in (0, 1e-300, 1e300, float("nan")):
        with pytest.raises(UserError, match="frame_rate"):
            Tracker(frame_rate=rate)


def test_the_example_of_the_docstring():
    import doctest

    from reid_tracker.tracking import tracker

    assert doctest.testmod(tracker).attempted > 0 and doctest.testmod(tracker).failed == 0


def step_on(tracker, boxes, vectors, seconds=0.1):
    """One step of people in a row, each with a vector or a NaN row."""
    return tracker.update(detections(boxes, embedding=vectors), (tracker.time or 0) + seconds)


def test_motion_is_certain_of_who_walks_alone_and_of_nobody_else():
    vectors = unit_vectors(4)
    tracker = Tracker(frame_rate=10)
    for step in range(5):
        boxes = [person(10 + 2 * step), person(300), person(310, width=50), person(600)]
        sight = detections(boxes, embedding=vectors)
        if step == 0:
            assert not tracker.certain(sight).any()  # nobody is known yet
        step_on(tracker, boxes, vectors)
    # Alone; two who overlap; one who is not where motion expects; one who just came.
    next_boxes = detections([person(20), person(300), person(310, width=50), person(640), person(900)])
    before = tracker.time, tracker._table.mean.copy()
    assert tracker.certain(next_boxes).tolist() == [True, False, False, False, False]
    assert tracker.time == before[0] and (tracker._table.mean == before[1]).all()  # asking changes nothing


def test_whoever_had_no_vector_for_long_is_due_one():
    vectors = unit_vectors(1)
    tracker = Tracker(frame_rate=10)
    step_on(tracker, [person(10)], vectors)
    due = []
    for _ in range(8):
        sight = detections([person(10)])
        certain = tracker.certain(sight, tracker.time + 0.1, refresh_seconds=0.3)
        due.append(not certain[0])
        step_on(tracker, [person(10)], vectors if due[-1] else np.full_like(vectors, np.nan))
    assert due == [False, False, True, False, False, True, False, False]


def test_smooth_boxes_lie_closer_to_the_truth_and_follow_who_comes_near():
    rng = np.random.default_rng(0)
    tracker, errors = Tracker(frame_rate=10), []
    for step in range(80):
        grown = 1 + 0.02 * step  # nearly thrice as large in the end
        truth = np.array(person(5 * step, 100, 40 * grown, 100 * grown))
        measured = truth + rng.normal(0, 4 * grown, 4)
        tracked = tracker.update(detections([measured]))
        np.testing.assert_allclose(tracked.xyxy, [measured], atol=1e-3)  # as measured, whatever else is given
        errors.append(np.abs([measured - truth, tracked.data["smooth_xyxy"][0] - truth]).mean(axis=1) / grown)
    plain, smooth = np.mean(errors[10:], axis=0)
    assert smooth < 0.8 * plain


def test_without_overlap_nobody_is_guessed_between_two_who_look_alike():
    look, other = unit_vectors(2)
    for second, expected in ((other, [1]), (look, [])):
        tracker = Tracker(TrackerSettings(memory_seconds=0), frame_rate=10, statistics=FAR_APART)
        for _ in range(3):
            tracker.update(detections([person(100), person(300)], embedding=[look, second]))
        for _ in range(9):
            tracker.update(sv.Detections.empty())
        found = tracker.update(detections([person(200)], embedding=[look]))  # as far from where either was last
        assert ids(found) == expected


def at_the_counter(tracker: Tracker, look: np.ndarray, bystanders: np.ndarray, rng: np.random.Generator) -> set[int]:
    """The numbers of who stands at a counter for 2 s and then leaves it empty for 2 s, beside two bystanders."""
    numbers: set[int] = set()
    for step in range(40):
        people, looks = [person(600), person(800)], list(bystanders)
        if step < 20:
            people, looks = [*people, person(300)], [*looks, look]
        boxes = np.array(people) + rng.normal(0, 1.5, (len(people), 4))
        tracked = tracker.update(detections(boxes, embedding=seen(np.array(looks), rng)))
        numbers |= set(tracked.tracker_id[tracked.xyxy[:, 0] < 450].tolist())
    return numbers


def test_a_stranger_in_somebody_s_place_does_not_take_the_number_and_who_returns_keeps_it():
    rng = np.random.default_rng(0)
    *customers, left, right = unit_vectors(8, 128)
    tracker, bystanders = Tracker(frame_rate=10), np.array([left, right])
    numbers = [at_the_counter(tracker, each, bystanders, rng) for each in customers]
    assert all(len(each) == 1 for each in numbers) and len(set.union(*numbers)) == len(customers)
    assert at_the_counter(tracker, customers[-1], bystanders, rng) == numbers[-1]


@pytest.mark.parametrize(("likeness", "kept"), [(0.5, True), (0.32, False), (0.2, False), (0.0, False)])
def test_who_follows_in_the_same_place_and_looks_a_little_alike_is_somebody_else(likeness: float, kept: bool):
    """Crops of one person have a cosine of .9, and these so much with who left half a second ago."""
    rng, (one, other, aside) = np.random.default_rng(0), unit_vectors(3, 64)
    other = other - (other @ one) * one
    other = likeness / 0.9 * one + np.sqrt(1 - (likeness / 0.9) ** 2) * other / np.linalg.norm(other)
    tracker = Tracker(TrackerSettings(memory_seconds=0), 10, FAR_APART)
    for look, frames in ((one, 20), (None, 5), (other, 20)):
        for _ in range(frames):
            looks = np.array([aside] if look is None else [aside, look])
            boxes = [person(600), person(100)][: len(looks)]
            tracked = tracker.update(detections(boxes, embedding=seen(looks, rng, noise=0.04)))
    assert (ids(tracked) == [1, 2]) == kept and len(tracked) == 2


def test_after_a_gap_without_frames_strangers_get_numbers_of_their_own():
    for gap in (3.5, 10.0, 3600.0):
        tracker = Tracker(frame_rate=10)
        for step in range(20):
            before = tracker.update(detections([person(100), person(300)]), step / 10)
        for step in range(5):
            after = tracker.update(detections([person(100), person(300)]), 1.9 + gap + step / 10)
        assert len(after) == 2 and not set(ids(before)) & set(ids(after))


@pytest.mark.parametrize("every", [4.0, 30.0])
def test_in_a_time_lapse_who_sits_is_followed_from_picture_to_picture(every: float):
    for frame_rate in (1 / every, 25.0):
        tracker, given = Tracker(frame_rate=frame_rate), []
        for frame in range(8):
            given.append(ids(tracker.update(detections([person(200.0 * who) for who in range(4)]), every * frame)))
        assert given[4] == given[7] == ([1, 2, 3, 4] if frame_rate < 1 else [5, 6, 7, 8])  # 25 a second: a gap at first


def test_a_gap_ends_everybody_however_short_the_wait_for_the_lost():
    for seconds in (0.0, 0.5, 3.0):
        tracker = Tracker(TrackerSettings(lost_seconds=seconds), frame_rate=10)
        for frame in range(20):
            tracker.update(detections([person(100)]), frame / 10)
        for frame in range(3):
            later = tracker.update(detections([person(100)]), 3600 + frame / 10)
        assert ids(later) == [2]


def test_a_vector_that_is_not_finite_or_has_no_length_counts_as_none_and_length_does_not_matter():
    looks = unit_vectors(3)

    def numbers_of(change) -> list[int]:
        tracker = Tracker(TrackerSettings(return_false_match_rate=0.05), 10, FAR_APART)
        for step in range(40):
            here = 10 <= step < 30
            vectors = change(step, looks.copy())
            boxes = [person(100), person(300), person(500)]
            tracked = tracker.update(detections([], embedding=vectors[:0]) if here else detections(boxes, 0.9, vectors))
        return ids(tracked)

    def broken(step: int, vectors: np.ndarray) -> np.ndarray:
        if step in (1, 2):
            vectors[0, 3], vectors[1] = (np.inf, np.nan)[step - 1], 0
        return vectors

    expected = numbers_of(lambda step, vectors: vectors)
    assert expected == [1, 2, 3]
    assert numbers_of(broken) == expected
    assert numbers_of(lambda step, vectors: 20 * vectors) == expected


SEEN = np.array([[10, 10, 50, 110, 0.9, 0.0], [200, 10, 240, 110, 0.9, 2.0]])  # as detectors give them


@pytest.mark.parametrize(
    ("given", "others", "said"),
    [
        ([[0, 0, 10, 10]], {}, "detections are a list"),
        (np.zeros((2, 3)), {}, r"float64 \[2, 3\]: give numbers \[N, 4 to 6\]"),
        (np.zeros((2, 4)), {"embedding": np.ones((3, 8))}, "a vector for each of the 2 boxes"),
        (np.full((1, 6), 0.5), {}, "class_id holds other things"),
        (np.zeros((2, 4)), {"embedding": np.ones((2, 0))}, "one number at least"),
        (np.zeros((2, 4)), {"embedding": np.array([["a"], ["b"]])}, "no array of numbers"),
        (detections(SEEN[:, :4], embedding=np.ones((2, 0))), {}, "one number at least"),
        (np.full((1, 6), 1e300), {}, "class_id holds other things"),
        (detections(SEEN[:, :4], class_id=np.array([1, 2**64 - 1], np.uint64)), {}, "class_id holds other things"),
        (detections([person(0)]), {"embedding": np.ones((1, 8))}, "goes with an array"),
        (None, {}, "detections are a NoneType"),
        (detections(SEEN[:, :4], class_id=["person", "car"]), {}, "class_id"),
        (detections(SEEN[:, :4], class_id=[0.5, 1.0]), {}, "class_id"),
        (detections(SEEN[:, :4]), {"timestamp": datetime.datetime(2026, 1, 1)}, "timestamp is a datetime"),
        (detections(SEEN[:, :4]), {"timestamp": np.zeros((4, 4, 3), np.uint8)}, "image=..."),
        (detections(SEEN[:, :4]), {"image": np.zeros((240, 320), np.uint8)}, r"image is uint8 \[240, 320\]"),
        (detections(SEEN[:, :4]), {"image": np.zeros((240, 320, 3))}, "image is float64"),
    ],
)
def test_what_is_of_the_wrong_kind_is_named_and_the_frame_can_be_given_again(given, others, said):
    tracker = Tracker()
    tracker.update(detections(SEEN[:, :4], class_id=SEEN[:, 5]), 0.0)
    with pytest.raises(UserError, match=said):
        tracker.update(given, **({"timestamp": 0.04} | others))
    assert ids(tracker.update(detections(SEEN[:, :4], class_id=SEEN[:, 5]), 0.04)) == [1, 2]


def test_mistakes_of_units_are_noted_once(caplog):
    for boxes, confidence, tick, said in (
        (SEEN[:, :4] / 1280, 0.9, 0.04, "pixels"),
        (SEEN[:, :4], 90, 0.04, "percent"),
        (SEEN[:, :4], 0.9, 40, "milliseconds"),
        (SEEN[:, :4], 0.9, 0.04, None),
    ):
        caplog.clear()
        tracker = Tracker(frame_rate=25)
        for frame in range(5):
            tracker.update(detections(boxes, confidence), frame * tick)
        assert [said in each for each in caplog.messages] == [True] * (said is not None)


def test_vectors_of_an_unknown_network_serve_at_one_frame_in_two_seconds():
    rng, looks = np.random.default_rng(0), unit_vectors(5, 64)
    tracker, places = Tracker(TrackerSettings(return_false_match_rate=0.05), frame_rate=0.5), np.arange(5) * 400.0
    numbers: list[dict[int, int]] = []
    for _ in range(60):
        places = places + rng.normal(0, 60, 5)  # more than a body between two frames
        tracked = tracker.update(detections([person(x) for x in places], embedding=seen(looks, rng)))
        order = [int(np.abs(places - x).argmin()) for x in tracked.xyxy[:, 0]]
        numbers.append(dict(zip(order, ids(tracked), strict=True)))
    late = numbers[30:]
    assert all(len(each) >= 4 for each in late)
    assert all(len({each[who] for each in late if who in each}) == 1 for who in range(5))


def test_a_stranger_s_crop_for_a_moment_changes_nothing_and_for_good_it_does():
    rng, (look, left, post) = np.random.default_rng(0), unit_vectors(3, 64)
    tracker = Tracker(frame_rate=10)

    def show(vector: np.ndarray, frames: int) -> float:
        """Likeness of the views kept to what hid the person."""
        for _ in range(frames):
            boxes, looks = [person(100), person(400)], np.array([vector, left])
            assert ids(tracker.update(detections(boxes, embedding=seen(looks, rng)))) == [1, 2]
        return float((tracker.views(1) @ post).max())

    assert show(look, 40) < 0.5
    assert show(post, 8) < 0.5  # something stands in front
    assert show(look, 10) < 0.5
    assert show(post, 25) > 0.8  # another coat


def test_arrays_are_tracked_as_detections_are():
    """Columns for confidence and class, vectors beside; each result says which row it was."""
    looks, rng = unit_vectors(2), np.random.default_rng(0)
    one, other = Tracker(), Tracker()
    for frame in range(8):
        boxes = np.array([person(100.0 + 4 * frame), person(400.0)], np.float32)[:: 1 if frame % 2 else -1]
        vectors = seen(looks[:: 1 if frame % 2 else -1], rng).astype(np.float32)
        given = sv.Detections(boxes, confidence=np.full(2, 0.9, np.float32), class_id=np.zeros(2, int))
        given.data["embedding"] = vectors
        rows = np.hstack([boxes, [[0.9, 0], [0.9, 0]]])
        expected, found = one.update(given), other.update(rows, embedding=vectors)
        assert found.tracker_id.tolist() == expected.tracker_id.tolist() and len(found) == 2
        np.testing.assert_array_equal(found.xyxy, boxes[found.data["row"]])
    assert len(other.update(np.zeros((0, 6)))) == 0 and len(other.update(np.array([]))) == 0
    assert len(other.update(np.array([person(132.0), person(400.0)]))) == 2  # boxes alone


def test_what_lies_in_the_detections_comes_back_with_its_row():
    """Masks, keypoints, oriented corners and whatever else: of the confirmed rows, in the order of the input."""
    rng, tracker = np.random.default_rng(0), Tracker(frame_rate=10)
    for step in range(6):
        given = detections([person(100 * each + 2 * step) for each in (3, 1, 2)])
        given.confidence = np.array([0.9, 0.2, 0.9], np.float32)  # the second is too unsure to begin
        given.mask = rng.random((3, 120, 500)) > 0.5
        given.data |= {
            "keypoints": rng.random((3, 17, 3)),
            "xyxyxyxy": rng.random((3, 4, 2)),
            "note": np.array(list("abc")),
        }
        found = tracker.update(given)
    assert found.data["note"].tolist() == ["a", "c"]
    np.testing.assert_array_equal(found.mask, given.mask[[0, 2]])
    for name in ("keypoints", "xyxyxyxy"):
        np.testing.assert_array_equal(found.data[name], given.data[name][[0, 2]])


@pytest.mark.parametrize("same", [True, False])
def test_when_everybody_looks_different_at_once_it_is_the_light_or_a_cut(same):
    """Light changes all vectors alike, and people go on differing from each other; a cut of the film brings others."""
    rng = np.random.default_rng(0)
    before, light = unit_vectors(9), unit_vectors(1, seed=1)
    after = 0.5 * (before[:4] if same else before[4:8]) + light
    after /= np.linalg.norm(after, axis=1, keepdims=True)
    tracker, places = Tracker(frame_rate=10, statistics=FAR_APART), [person(x) for x in (0, 200, 400, 600)]
    for _ in range(60):
        tracker.update(detections(places, embedding=seen(before[:4], rng)))
    for _ in range(30):
        tracks = tracker.update(detections(places, embedding=seen(after, rng)))
    assert (ids(tracks) == [1, 2, 3, 4]) == same
    assert tracker.identities == (4 if same else 8)
