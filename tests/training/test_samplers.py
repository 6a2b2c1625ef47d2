import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reid_tracker.training.samplers import identity_batches


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.integers(2, 5),
    st.integers(2, 4),
    st.integers(0, 1000),
)
def test_every_identity_comes_once_with_k_of_its_images(labels: list[int], people: int, images: int, seed: int) -> None:
    identities = np.array(labels)
    batches = list(identity_batches(identities, people, images, np.random.default_rng(seed)))
    seen: list[int] = []
    for rows in batches:
        groups = rows.reshape(-1, images)
        assert 2 <= len(groups) <= people
        for group in groups:
            (person,) = set(identities[group])
            seen.append(person)
            available = int((identities == person).sum())
            assert len(set(group)) == min(images, available)  # none twice while another is left
    everyone = set(labels)
    assert len(seen) == len(set(seen))
    # Only a lone last identity, which has nobody to be told from, is left out.
    assert len(everyone) - len(seen) == (1 if len(everyone) % people == 1 else 0)


def test_the_same_chance_gives_the_same_batches() -> None:
    identities = np.repeat(np.arange(10), 5)
    first, again, other = (
        np.concatenate(list(identity_batches(identities, 4, 3, np.random.default_rng(seed)))) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
