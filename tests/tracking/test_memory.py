"""Who left and came back gets the old number; who only looks a little alike, or was here meanwhile, does not."""

import numpy as np
import pytest
from tracking_world import detections, person, seen, unit_vectors

from reid_tracker.config import TrackerSettings
from reid_tracker.errors import UserError
from reid_tracker.tracking.memory import VIEWS, IdentityMemory, add_views
from reid_tracker.tracking.tracker import Tracker

WHO = unit_vectors(8)


def show(tracker, rng, people, noise=0.05, step=0.1, vectors=WHO):
    """One frame of `run`."""
    boxes = [person(x) for x in people.values()]
    embedding = seen(vectors[list(people)], rng, noise) if people else None
    return tracker.update(detections(boxes, embedding=embedding), (tracker.time or 0) + step)


def run(tracker, rng, people, seconds, noise=0.05, step=0.1, vectors=WHO):
    """Show people, {number: x}, for some seconds; the numbers given to each in the last frame."""
    given = {}
    for _ in range(round(seconds / step)):
        tracked = show(tracker, rng, people, noise, step, vectors)
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


def looking(share: float) -> np.ndarray:
    """`WHO`, but the last looks so much like person 0 and else like nobody."""
    looks = WHO.copy()
    looks[7] = share * WHO[0] + (1 - share**2) ** 0.5 * WHO[7]
    return looks / np.linalg.norm(looks, axis=1, keepdims=True)


def test_who_looks_like_somebody_only_just_is_recognised_at_the_second_look(rng):
    moments = {}
    for share in np.linspace(0.3, 0.7, 9):
        tracker, first = scene(rng)
        for look in range(1, 31):
            back = run(tracker, rng, {1: 400.0, 2: 700.0, 7: 1500.0}, 0.1, noise=0.0, vectors=looking(share))
            if back.get(7) == first[0]:
                moments[share] = look
                break
    found = list(moments.values())
    assert 0.3 not in moments and found == sorted(found, reverse=True)  # the more alike, the sooner
    assert set(found) == {3, 8}  # the third crop at once, or a look half a second later


def test_who_waits_for_a_second_look_is_shown_as_perhaps_that_one(rng):
    tracker, first = scene(rng)
    shown = []
    for _ in range(12):
        here = {1: 400.0, 2: 700.0, 7: 1500.0}
        tracks = show(tracker, rng, here, noise=0.0, vectors=looking(0.5))
        shown.append(tuple(zip(tracks.tracker_id.tolist(), tracks.data["perhaps"].tolist(), strict=True))[-1])
    unsure = [each for each in shown if each[1]]
    assert unsure and all(perhaps == first[0] and number not in first.values() for number, perhaps in unsure)
    assert shown[-1] == (first[0], 0)  # it was so
    assert not any(perhaps for number, perhaps in shown if number == first[0])


@pytest.mark.parametrize(("seconds", "late"), [(15, True), (2, False)])
def test_whoever_turns_round_after_seconds_is_recognised_then(rng, seconds, late):
    tracker, first = scene(rng, return_seconds=seconds)
    here = {1: 400.0, 2: 700.0}
    assert run(tracker, rng, {**here, 7: 1500.0}, 5)[7] not in first.values()
    turned = run(tracker, rng, {**here, 7: 1500.0}, 8, vectors=looking(1.0))
    assert (turned[7] == first[0]) == late


def test_of_two_who_look_alike_neither_is_guessed(rng):
    twins = WHO.copy()
    twins[3] = twins[0]
    tracker = Tracker(frame_rate=10)
    everyone = {0: 100.0, 1: 400.0, 2: 700.0, 3: 1000.0}
    first = run(tracker, rng, everyone, 5, vectors=twins)
    run(tracker, rng, {1: 400.0, 2: 700.0}, 30, vectors=twins)
    back = run(tracker, rng, {1: 400.0, 2: 700.0, 0: 1500.0}, 3, vectors=twins)
    assert back[0] not in first.values()


def test_who_has_two_numbers_gets_the_older_one_and_no_third(rng):
    """Somebody was not recognised once: the two numbers are of one person, as nobody saw both at once."""
    tracker, first = scene(rng)
    tracker.rest()
    memory = tracker._memory
    asleep(memory, (50, seen(np.repeat(WHO[:1], 5, axis=0), rng)), last_seen=tracker.time)
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 0: 1500.0}, 3)[0] == first[0]


def test_who_is_known_gets_the_known_number_though_another_was_given_here(rng):
    memory = IdentityMemory()
    memory.know([(9, 0, WHO[[7]])])
    tracker = Tracker(frame_rate=10, memory=memory)
    assert run(tracker, rng, {0: 100.0, 1: 400.0, 2: 700.0}, 5)[0] == 10
    run(tracker, rng, {1: 400.0, 2: 700.0}, 30)
    memory.know([(3, 0, WHO[[0]])])
    assert run(tracker, rng, {1: 400.0, 2: 700.0, 0: 1500.0}, 3)[0] == 3


def test_cameras_that_see_the_same_people_keep_their_own_numbers(rng):
    memory = IdentityMemory()
    one, other = (Tracker(frame_rate=10, memory=memory) for _ in range(2))
    here = {0: 100.0, 1: 400.0, 2: 700.0}
    first = {}
    for _ in range(50):
        first = run(one, rng, here, 0.1), run(other, rng, here, 0.1)
    assert sorted([*first[0].values(), *first[1].values()]) == [1, 2, 3, 4, 5, 6]
    one.rest()  # its stream is lost
    run(other, rng, {1: 400.0, 2: 700.0}, 5)
    assert run(other, rng, {**here, 0: 1500.0}, 2)[0] == first[1][0]  # both numbers were out of view
    one.update(np.zeros((0, 5)), other.time)
    assert run(one, rng, here, 2) == first[0]


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


def shown(vectors):
    """Views after these were seen one after the other: float32 [1, VIEWS, D], and their number."""
    views, count = np.zeros((1, VIEWS, vectors.shape[1]), dtype=np.float32), np.zeros(1, dtype=np.int64)
    for vector in vectors:
        views, count = add_views(views, count, vector[None])
    return views, count


def asleep(memory, who, last_seen=0.0, class_id=0):
    """Put one person with these vectors to the dormant ones."""
    number, vectors = who
    memory.sleep(np.array([number]), np.array([class_id]), np.array([last_seen]), *shown(vectors))


def least_special_dropped(views, vector):
    """The obvious way: of the two most alike the one that is more like all others goes."""
    views = np.concatenate([views, vector[None]])
    if len(views) <= VIEWS:
        return views
    alike = views @ views.T
    np.fill_diagonal(alike, -1)
    pair = np.array(np.unravel_index(alike.argmax(), alike.shape))
    return np.delete(views, pair[alike[pair].sum(axis=1).argmax()], axis=0)


def test_views_are_few_and_varied(rng):
    views, count = shown(np.concatenate([np.repeat(WHO[:1], 50, axis=0), WHO[1:3]]))
    assert count.tolist() == [VIEWS]
    for rare in (WHO[1], WHO[2]):
        assert (views[0] @ rare).max() == pytest.approx(1, abs=1e-5)


def test_views_of_many_people_at_once_are_those_of_each_alone(rng):
    views, count = np.zeros((3, VIEWS, WHO.shape[1]), dtype=np.float32), np.zeros(3, dtype=np.int64)
    expected = [np.zeros((0, WHO.shape[1]), dtype=np.float32)] * 3
    for step in range(20):
        rows = np.arange(1 if step % 3 else 0, 3)
        fresh = seen(WHO[rows], rng, 0.5)
        views[rows], count[rows] = add_views(views[rows], count[rows], fresh)
        for row, vector in zip(rows, fresh, strict=True):
            expected[row] = least_special_dropped(expected[row], vector)
    assert count.tolist() == [len(each) for each in expected] == [7, VIEWS, VIEWS]
    for row in range(3):  # in another order
        alike = views[row, : count[row]] @ expected[row].T
        assert sorted(alike.argmax(axis=1)) == list(range(count[row]))
        assert np.allclose(alike.max(axis=1), 1, atol=1e-5)


def test_likeness_is_measured_from_the_mean_of_all_people(rng):
    memory = IdentityMemory()
    given = {}
    for identity, count in ((1, 1), (2, 5), (3, VIEWS)):
        given[identity] = seen(np.repeat(WHO[identity][None], count, axis=0), rng, 0.3)
        asleep(memory, (identity, given[identity]), last_seen=float(identity))
    cosine = memory.likeness(WHO[[2, 4]], np.array([0, 0]), np.array([10.0, 2.5]), WHO[[5]])
    common = sum([each.mean(axis=0) for each in given.values()], WHO[5]) / 5  # and one that is zero
    for row, who in ((0, 2), (1, 4)):
        pairs = [(WHO[who] - common, each.mean(axis=0) - common) for each in given.values()]
        expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
        if row == 1:
            expected[2] = -np.inf  # was still in sight when this one came
        assert cosine[row] == pytest.approx(expected, abs=1e-6)
    assert np.isneginf(memory.likeness(WHO[[2]], np.array([7]), np.array([10.0]), WHO[:0])).all()
    assert np.isfinite(memory.likeness(WHO[[2]], None, np.array([10.0]), WHO[:0])).all()


def test_who_is_merged_or_lost_is_so_in_the_memory_too(rng):
    memory = IdentityMemory()
    memory.know([(each, 0, WHO[[each]]) for each in range(1, 7)])
    memory.merge(1, 2)  # both are dormant: the views of the one kept stay
    memory.merge(9, 3)  # nobody there: the views come along
    memory.merge(8, 9)  # and go on
    memory.merge(2, 1)  # told the other way round, too: they are one already
    memory.lose(4)
    assert len(memory) == 6  # until the tracker's thread looks
    memory.absorb()
    assert sorted(memory.identity) == [1, 5, 6, 8] and memory.known == memory.lasting == {1, 5, 6, 8}
    assert memory.views_of(8) == pytest.approx(WHO[[3]]) and memory.views_of(2) is None
    for number, last_seen in ((3, 10.0), (8, 9.0), (4, 10.0), (2, 10.0), (7, 10.0)):
        asleep(memory, (number, WHO[[number % len(WHO)]]), last_seen)
    assert sorted(memory.identity) == [1, 5, 6, 7, 8]  # 4 is nobody any more
    memory.sleep(np.array([9, 3, 5]), np.zeros(3, int), np.array([3.0, 2.0, 1.0]), *_three_views())
    assert memory.views_of(8)[0] == pytest.approx(WHO[0])  # of one in two places the one seen last
    assert sorted(memory.identity) == [1, 5, 6, 7, 8]


def _three_views():
    views = np.zeros((3, VIEWS, WHO.shape[1]), np.float32)
    views[:, 0] = WHO[:3]
    return views, np.ones(3, int)


def test_known_people_take_no_room_of_their_own(rng):
    """A gallery's matrix is shared, and what is compared is what a table of padded views would give."""
    matrix = seen(np.repeat(WHO, VIEWS, axis=0), rng, 0.3).astype(np.float32)
    memory = IdentityMemory()
    ends = np.cumsum([1 + each % VIEWS for each in range(len(WHO))])
    memory.know((who + 1, 0, matrix[end - 1 - who % VIEWS : end]) for who, end in enumerate(ends))
    assert all(np.shares_memory(memory.views_of(who + 1), matrix) for who in range(len(WHO)))
    padded = memory.views
    assert np.allclose(memory.mean, padded.sum(axis=1) / memory.count[:, None])
    assert [padded[who, : memory.count[who]].tolist() for who in range(len(WHO))] == [
        memory.views_of(who + 1).tolist() for who in range(len(WHO))
    ]


def test_the_memory_is_bounded():
    memory = IdentityMemory(capacity=10)
    memory.know([(100, 0, WHO[:2])])
    for identity in range(30):
        asleep(memory, (identity, WHO[:1]), last_seen=float(identity))
    assert sorted(memory.identity) == [*range(20, 30), 100]
    memory.forget(before=25.0)
    assert sorted(memory.identity) == [*range(25, 30), 100]


def test_whoever_is_known_beforehand_is_recognised_by_that_number(rng):
    memory = IdentityMemory()
    memory.know([(40, 0, WHO[3:4]), (7, 0, WHO[4:5])])
    tracker = Tracker(frame_rate=10, memory=memory)
    given = run(tracker, rng, {0: 100.0, 1: 400.0, 2: 700.0}, 5)
    assert min(given.values()) > 40  # numbers of known people are not given to others
    given |= run(tracker, rng, {0: 100.0, 1: 400.0, 2: 700.0, 3: 1500.0}, 2)
    assert given[3] == 40 and tracker.identities == 4
    run(tracker, rng, {0: 100.0}, 1200, step=1.0)
    assert tracker.views(40) is not None and tracker.views(7) is not None  # not forgotten
    assert tracker.views(int(given[1])) is None
    assert run(tracker, rng, {0: 100.0, 3: 1500.0}, 2)[3] == 40 and tracker.identities == 4


def test_who_leaves_one_camera_keeps_the_number_in_another(rng):
    memory = IdentityMemory()
    one, other = Tracker(frame_rate=10, memory=memory), Tracker(frame_rate=10, memory=memory)
    first = run(one, rng, {0: 100.0, 1: 400.0}, 5)
    second = run(other, rng, {2: 100.0, 3: 400.0}, 6)
    assert len({*first.values(), *second.values()}) == 4
    run(one, rng, {1: 400.0}, 3)
    assert run(other, rng, {2: 100.0, 3: 400.0, 0: 900.0}, 3)[0] == first[0]


def test_whom_two_cameras_see_at_once_has_no_new_number_at_each_visit(rng):
    """Each walks from one picture into the other, whose views overlap by a second: a number in each is right."""
    memory = IdentityMemory()
    first, second = (Tracker(frame_rate=10, memory=memory) for _ in range(2))
    numbers = {(who, camera): [] for who in range(3) for camera in "ab"}
    for who in [0, 1, 2] * 4:
        here = there = {}
        for moment in range(120):
            here = run(first, rng, {who: 100.0} if moment < 60 else {}, 0.1) or here
            there = run(second, rng, {who: 700.0} if 50 <= moment < 100 else {}, 0.1) or there
        numbers[who, "a"].append(here[who])
        numbers[who, "b"].append(there[who])
    used = [set(numbers[who, "a"] + numbers[who, "b"]) for who in range(3)]
    assert max(map(len, used)) <= 2 and sum(map(len, used)) == len(set.union(*used))  # nobody has another's


@pytest.mark.parametrize("common", [0.3, 0.8, 0.9, 0.95])
def test_strangers_are_strangers_however_alike_all_vectors_of_a_network_are(rng, common):
    """One stays, five others come one after another; crops of one person are far more alike than those of two."""
    looks = common**0.5 * WHO[7] + (1 - common) ** 0.5 * WHO
    tracker, given = Tracker(frame_rate=10), set()
    for who in range(5):
        given.add(run(tracker, rng, {6: 1000.0, who: 100.0 + 150 * who}, 4, noise=0.01, vectors=looks)[who])
        run(tracker, rng, {6: 1000.0}, 3, noise=0.01, vectors=looks)
    assert len(given) == 5


def test_known_people_of_another_model_are_refused(rng):
    memory = IdentityMemory()
    memory.know([(1, 0, np.eye(5, dtype=np.float32)[:1])])
    with pytest.raises(UserError, match="5"):
        run(Tracker(frame_rate=10, memory=memory), rng, {0: 100.0}, 1)


def test_whoever_is_there_when_the_video_begins_can_be_recognised_once_it_has_taught_enough(rng):
    memory = IdentityMemory()
    memory.know((11 + who, 0, seen(WHO[[who] * VIEWS], rng, 0.05)) for who in range(2))
    tracker = Tracker(frame_rate=10, memory=memory)
    people = {0: 100.0, 1: 400.0, 2: 700.0}
    assert set(run(tracker, rng, people, 0.2).values()).isdisjoint({11, 12})
    given = run(tracker, rng, people, 3)
    assert (given[0], given[1]) == (11, 12)
    assert given[2] > 12
    assert tracker.identities == 3


def test_someone_known_who_is_always_alone_is_recognised_by_what_others_look_like(rng):
    many = unit_vectors(10)
    memory = IdentityMemory()
    memory.know((11 + who, 0, seen(many[[who] * VIEWS], rng, 0.05)) for who in range(9))
    tracker = Tracker(frame_rate=10, memory=memory)
    assert run(tracker, rng, {0: 100.0}, 6, vectors=many) == {0: 11}
    run(tracker, rng, {}, 10, vectors=many)
    assert run(tracker, rng, {9: 100.0}, 3, vectors=many)[9] > 19
    run(tracker, rng, {}, 10, vectors=many)
    assert run(tracker, rng, {3: 500.0}, 1, vectors=many) == {3: 14}
