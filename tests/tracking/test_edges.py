"""People whom the picture's edge cuts off, and people who pass from one camera to another."""

import numpy as np
import pytest
from tracking_world import detections, person, seen, unit_vectors

from reid_tracker.config import TrackerSettings
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.memory import IdentityMemory
from reid_tracker.tracking.tracker import Tracker

WHO = unit_vectors(8)
WIDTH, HEIGHT = 2000, 600
PICTURE = np.broadcast_to(np.uint8(0), (HEIGHT, WIDTH, 3))
OTHERS = {5: person(1000), 6: person(1300), 7: person(1600)}
STATISTICS = CosineStatistics(0.95, 0.02, 0.0, 0.15)
HALF = person(0, width=15)  # at the left edge


def camera(memory=None, **settings):
    settings = TrackerSettings(return_false_match_rate=0.01, camera_motion=False, **settings)
    return Tracker(settings, 10, STATISTICS, memory)


def show(tracker, people, seconds, looks=None, noise=0.05):
    """Show people, {number: box}, for some seconds, some of them with another's looks; the numbers at the end."""
    rng, given = np.random.default_rng(0), {}
    for _ in range(round(10 * seconds)):
        vectors = seen(WHO[[(looks or {}).get(who, who) for who in people]], rng, noise)
        found = tracker.update(
            detections(list(people.values()), embedding=vectors if people else None), (tracker.time or 0) + 0.1, PICTURE
        )
        boxes = found.xyxy.tolist()
        given = {who: int(found.tracker_id[boxes.index(box)]) for who, box in people.items() if box in boxes}
    return given


@pytest.fixture
def scene():
    """Persons 0 and 1 were there for three seconds and have been away for ten."""
    tracker = camera()
    numbers = show(tracker, OTHERS | {0: person(100), 1: person(500)}, 3)
    show(tracker, OTHERS, 10)
    return tracker, numbers


@pytest.mark.parametrize(
    "half", [HALF, person(WIDTH - 15, width=15), person(300, y=0, height=40), person(300, y=HEIGHT - 61, height=60)]
)
def test_who_comes_in_over_an_edge_is_recognised_once_whole(scene, half):
    tracker, numbers = scene
    show(tracker, OTHERS | {0: half}, 0.5, {0: 1})  # half of 0 looks like 1
    whole = np.clip(half, [0, 0, 0, 0], [WIDTH - 30, HEIGHT - 30, WIDTH - 30, HEIGHT - 30]).tolist()
    whole = [whole[0] + 10, whole[1] + 10, whole[2] + 15, whole[3] + 15]
    show(tracker, OTHERS | {0: whole}, 0.1)
    assert show(tracker, OTHERS | {0: whole}, 1.5)[0] == numbers[0]


@pytest.mark.parametrize("seconds", [0.5, 6.0])
def test_a_number_that_has_stood_for_long_is_not_changed(seconds):
    tracker, low = camera(return_seconds=2), person(300, y=HEIGHT - 60, height=60)
    known = show(tracker, OTHERS | {0: person(100), 1: person(500)}, 3)[0]
    show(tracker, OTHERS, 10)
    first = show(tracker, OTHERS | {0: low}, seconds, {0: 2})[0]  # the upper half of 0 looks like nobody known
    last = show(tracker, OTHERS | {0: person(300, y=HEIGHT - 75, height=60)}, 2.5)[0]
    assert first != known and last == (known if seconds < 2 else first)


def test_who_is_never_whole_is_taken_as_they_are():
    tracker, cut = camera(), person(100, y=HEIGHT - 100)
    first = show(tracker, OTHERS | {0: cut}, 3)[0]
    show(tracker, OTHERS, 10)
    assert show(tracker, OTHERS | {0: person(600, y=HEIGHT - 100)}, 2)[0] == first


def test_views_of_a_part_do_not_stand_for_a_person():
    tracker = camera()
    first = show(tracker, OTHERS | {0: person(10)}, 1)[0]
    assert show(tracker, OTHERS | {0: person(0, width=30)}, 4, {0: 3})[0] == first  # half of 0 looks like 3
    show(tracker, OTHERS, 10)
    assert show(tracker, OTHERS | {3: person(500)}, 3)[3] != first
    assert show(tracker, OTHERS | {0: person(100)}, 3)[0] == first


def test_who_comes_in_where_another_went_out_is_somebody_else(scene):
    tracker, numbers = scene
    first = show(tracker, OTHERS | {2: person(15)}, 2)[2]
    show(tracker, OTHERS | {2: person(0, width=35)}, 0.5)
    tracklet = show(tracker, OTHERS | {0: person(0, width=35)}, 0.3)
    assert tracklet[0] == first  # half a body says nothing
    assert show(tracker, OTHERS | {0: person(15)}, 1.5)[0] == numbers[0]
    assert show(tracker, OTHERS | {0: person(15), 2: person(600)}, 1.5)[2] == first


def test_one_false_box_where_somebody_went_out_is_nobody():
    tracker, noise = camera(), 0.3  # a crop of another is not so unlike that it is left aside
    first = show(tracker, OTHERS | {2: person(15)}, 2, noise=noise)[2]
    show(tracker, OTHERS | {2: person(0, width=35)}, 0.5, noise=noise)
    known = tracker.identities
    assert 0 not in show(tracker, OTHERS | {0: person(15)}, 0.1, noise=noise)  # one frame
    show(tracker, OTHERS, 2, noise=noise)
    assert tracker.identities == known
    assert show(tracker, OTHERS | {2: person(15)}, 2)[2] == first


def test_who_is_cut_off_for_a_while_keeps_the_number():
    tracker = camera()
    first = show(tracker, OTHERS | {0: person(15)}, 2)[0]
    show(tracker, OTHERS | {0: person(0, width=35)}, 1, {0: 3})
    assert show(tracker, OTHERS | {0: person(15)}, 0.2)[0] == first


def test_a_camera_that_is_lost_holds_nobody():
    memory = IdentityMemory()
    one, other = camera(memory), camera(memory)
    numbers = show(one, OTHERS | {0: person(100)}, 3)
    show(other, {2: person(300)}, 3)
    one.rest()
    assert show(other, {2: person(300), 0: person(900)}, 1)[0] == numbers[0]


def test_nobody_is_before_two_cameras_with_one_number():
    memory = IdentityMemory()
    one, other = camera(memory), camera(memory)
    numbers = show(one, OTHERS | {0: person(100)}, 3)
    show(other, {2: person(300)}, 3)
    show(one, OTHERS, 0.1)
    assert show(other, {2: person(300), 0: person(900)}, 1)[0] == numbers[0]
    assert show(one, OTHERS | {0: person(100)}, 1)[0] != numbers[0]  # a moment ago it would have been the same track


def test_boxes_that_jitter_at_the_edge_make_nobody_whole_before_they_are():
    tracker, rng, given = camera(), np.random.default_rng(5), set()
    for k in range(30):  # comes in slowly, and looks more and more like the whole person
        right, share = min(10 + 2 * k, 60), np.clip((k - 5) / 12, 0, 1)
        box = [max(right - 40, 4 * (k == 5)), 100, right, 200]
        looks = np.vstack([(1 - share) * WHO[3] + share * WHO[0], WHO[5:8]])
        vectors = seen(looks / np.linalg.norm(looks, axis=1, keepdims=True), rng, 0.02)
        boxes = detections([box, *OTHERS.values()], embedding=vectors)
        found = tracker.update(boxes, (tracker.time or 0) + 0.1, PICTURE)
        given |= {int(i) for i, b in zip(found.tracker_id, found.xyxy, strict=True) if b[0] < 100}
    assert len(given) == 1
