import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_tracker.training.samplers import identity_batches


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=40),
    st.integers(2, 5),
    st.integers(2, 4),
    st.booleans(),
    st.integers(0, 1000),
)
def test_every_identity_comes_once_with_k_of_its_images(
    crops: list[tuple[int, int]], people: int, images: int, balanced: bool, seed: int
) -> None:
    identities, cameras = np.array(crops).T
    random = np.random.default_rng(seed)
    batches = list(identity_batches(identities, people, images, random, cameras if balanced else None))
    seen: list[int] = []
    for rows in batches:
        groups = rows.reshape(-1, images)
        assert 2 <= len(groups) <= people + (people == 2)  # an odd one is added to a pair rather than left alone
        for group in groups:
            (person,) = set(identities[group])
            seen.append(person)
            mine = identities == person
            if balanced:
                counts = [int((cameras[group] == camera).sum()) for camera in set(cameras[mine])]
                assert max(counts) - min(counts) <= 1
            else:
                assert len(set(group)) == min(images, int(mine.sum()))  # none twice while another is left
    everyone = set(identities)
    assert sorted(seen) == (sorted(everyone) if len(everyone) > 1 else [])
    assert not batches or max(map(len, batches)) - min(map(len, batches)) <= images


@pytest.mark.parametrize("cameras", [None, np.arange(50) % 3])
def test_the_same_chance_gives_the_same_batches(cameras: np.ndarray | None) -> None:
    identities = np.repeat(np.arange(10), 5)
    first, again, other = (
        np.concatenate(list(identity_batches(identities, 4, 3, np.random.default_rng(seed), cameras)))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_people_come_with_those_most_like_them() -> None:
    """Five groups of four look-alikes: every batch holds whole groups."""
    identities = np.repeat(np.arange(20), 3)
    group = np.random.default_rng(0).permutation(20) % 5
    distance = (group[:, None] != group) + 0.1 * np.random.default_rng(1).random((20, 20))
    batches = list(identity_batches(identities, 4, 2, np.random.default_rng(2), distance=distance))
    found = [set(identities[rows]) for rows in batches]
    assert [len({group[person] for person in people}) for people in found] == [1] * 5
    assert sorted(person for people in found for person in people) == list(range(20))
    again = [set(identities[rows]) for rows in identity_batches(identities, 4, 2, np.random.default_rng(2))]
    assert max(len({group[person] for person in people}) for people in again) > 1
