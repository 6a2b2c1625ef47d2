"""Who left and came back gets the old number; who only looks a little alike, or was here meanwhile, does not."""

import numpy as np
import pytest
from tracking_world import detections, person, seen, unit_vectors

from reid_tracker.config import TrackerSettings
from reid_tracker.tracking.memory import VIEWS, IdentityMemory
from reid_tracker.tracking.tracker import Tracker

WHO = unit_vectors(8)


def run(tracker, rng, people, seconds, noise=0.05, step=0.1, vectors=WHO):
    """Show people, {number: x}, for some seconds; the numbers given to each in the last frame."""
    given = {}
    for _ in range(round(seconds / step)):
        boxes = [person(x) for x in people.values()]
        embedding = seen(vectors[list(people)], rng, noise) if people else None
        tracked = tracker.update(detections(boxes, embedding=embedding), (tracker.time or 0) + step)
        lefts = tracked.xyxy[:, 0].tolist()
        given = {who: tracked.tracker_id[lefts.index(x)] for who, x in people.items() if x in lefts}
    return given


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def scene(rng, **settings):
    """Three people are seen for five seconds, then person 0 leaves for half a minute."""
    tracker = Tracker(TrackerSettings(**settings), frame_rate=10)
    first = run(tracker, rng, {0: 100.0, 1: 400.0, 2: 700.0}, 5)
    run(tracker, rng, {1: 400.0, 2: 700.0}, 30)
    return tracker, first


def test_who_returns_elsewhere_gets_the_old_number(rng):
    tracker, first = scene(rng)
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 0: 1500.0}, 1)[0] == first[0]
    assert tracker.identities == 3


def test_a_stranger_gets_a_new_number(rng):
    tracker, first = scene(rng)
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 5: 100.0}, 3)[5] not in first.values()
    assert tracker.identities == 4
    # And the one who left is still remembered.
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 5: 100.0, 0: 1500.0}, 1)[0] == first[0]


def test_of_two_who_look_alike_neither_is_guessed(rng):
    twins = WHO.copy()
    twins[3] = twins[0]
    tracker = Tracker(frame_rate=10)
    everyone = {0: 100.0, 1: 400.0, 2: 700.0, 3: 1000.0}
    first = run(tracker, rng, everyone, 5, vectors=twins)
    run(tracker, rng, {1: 400.0, 2: 700.0}, 30, vectors=twins)
    back = run(tracker, rng, {1: 400.0, 2: 700.0, 0: 1500.0}, 3, vectors=twins)
    assert back[0] not in first.values()


def test_who_was_here_at_the_same_time_is_somebody_else(rng):
    twins = WHO.copy()
    twins[3] = twins[0]
    tracker = Tracker(frame_rate=10)
    run(tracker, rng, {0: 100.0, 1: 400.0, 2: 700.0}, 5, vectors=twins)
    both = run(tracker, rng, {0: 100.0, 1: 400.0, 2: 700.0, 3: 1000.0}, 0.5, vectors=twins)
    # One leaves while the other's number could still be taken back.
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 3: 1000.0}, 3, vectors=twins)[3] == both[3] != both[0]


def test_nobody_is_remembered_for_longer_than_asked(rng):
    tracker, first = scene(rng, memory_seconds=20)
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 0: 1500.0}, 3)[0] not in first.values()
    tracker, first = scene(rng, memory_seconds=0)
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 0: 1500.0}, 3)[0] not in first.values()


def test_whoever_is_lost_for_a_moment_may_return_anywhere_too(rng):
    tracker = Tracker(frame_rate=10)
    first = run(tracker, rng, {0: 100.0, 1: 400.0, 2: 700.0}, 5)
    run(tracker, rng, {1: 400.0, 2: 700.0}, 1)  # lost, not yet dormant
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 0: 2500.0}, 1)[0] == first[0]
    assert len(tracker._table) == 3  # the lost track is gone


def test_views_are_few_and_varied(rng):
    memory = IdentityMemory()
    for _ in range(50):
        memory.look(1, WHO[0])
    memory.look(1, WHO[1])
    memory.look(1, WHO[2])
    views = memory.views(1)
    assert len(views) == VIEWS
    for rare in (WHO[1], WHO[2]):
        assert (views @ rare).max() == pytest.approx(1, abs=1e-5)


def test_likeness_is_the_mean_of_the_best_views(rng):
    memory = IdentityMemory()
    for identity, count in ((1, 1), (2, 5), (3, VIEWS)):
        for vector in seen(np.repeat(WHO[identity][None], count, axis=0), rng, 0.3):
            memory.look(identity, vector)
        memory.sleep(identity, identity, 0, float(identity))
    memory.look(9, WHO[2])
    expected = {n: np.sort(each.views @ WHO[2])[-3:].mean() for n, each in memory.dormant.items()}
    identities, cosine = memory.likeness(9, 0, 10.0)
    assert dict(zip(identities.tolist(), cosine, strict=True)) == pytest.approx(expected, abs=1e-6)
    assert memory.likeness(9, None, 2.5)[0].tolist() == [1, 2]
    assert not len(memory.likeness(9, 7, 10.0)[0])


def test_the_memory_is_bounded():
    memory = IdentityMemory(capacity=10)
    for identity in range(30):
        memory.look(identity, WHO[0])
        memory.sleep(identity, identity, 0, float(identity))
    assert sorted(memory.dormant) == list(range(20, 30))
    memory.forget(before=25.0)
    assert sorted(memory.dormant) == list(range(25, 30))
