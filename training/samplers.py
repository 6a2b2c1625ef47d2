"""Which crops go together in a batch."""

from collections.abc import Iterator

import numpy as np

_ALIKE = 4  # identities that come together where likeness counts


def identity_batches(
    identities: np.ndarray,
    people: int,
    images: int,
    random: np.random.Generator,
    cameras: np.ndarray | None = None,
    distance: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Batches of P identities with K images each; every identity comes once an epoch (Hermans et al. 2017).

    Parameters
    ----------
    identities : ndarray, int [N]
        Who each crop is.
    people, images : int
        P and K. Someone with fewer than K images has some of them twice.
    random : numpy Generator
        Decides which identities share a batch.
    cameras : ndarray, int [N], optional
        With cameras, the images of an identity are taken from its cameras in turn, however few some of them saw.
    distance : ndarray, float [C, C], optional
        Between the identities, ascending: people come with the three most like them that are left (Ge et al. 2018).

    Yields
    ------
    ndarray, int [P * K]
        Rows of `identities`. The identities that P does not divide are spread evenly: the last batches are smaller by
        one, or, where that left one without negatives, larger.
    """
    order = np.argsort(identities, kind="stable")
    rows_of = np.split(order, np.unique(identities[order], return_index=True)[1][1:])
    shuffled = random.permutation(len(rows_of))
    if distance is not None:
        shuffled = _bring_together(shuffled, distance)
    count = max(1, min(-(-len(shuffled) // people), len(shuffled) // 2))
    for chosen in np.array_split(shuffled, count):
        if len(shuffled) > 1:
            yield np.concatenate([_pick(rows_of[person], images, random, cameras) for person in chosen])


def _bring_together(people: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Each of them in turn, followed by the nearest of those that have not come yet. int [C]."""
    left, order = people, people[:0]
    while len(left):
        nearest = np.argsort(distance[left[0], left[1:]], kind="stable")[: _ALIKE - 1] + 1
        order = np.concatenate([order, left[:1], left[nearest]])
        left = np.delete(left, [0, *nearest])
    return order


def _pick(rows: np.ndarray, count: int, random: np.random.Generator, cameras: np.ndarray | None) -> np.ndarray:
    """Pick `count` rows, each (of its camera) as often as any other give or take one."""
    if cameras is None:
        return _cycle(rows, count, random)
    seen_by = random.permutation(np.unique(cameras[rows]))
    shares = np.bincount(np.arange(count) % len(seen_by), minlength=len(seen_by))
    return np.concatenate(
        [_cycle(rows[cameras[rows] == camera], share, random) for camera, share in zip(seen_by, shares, strict=True)]
    )


def _cycle(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    repeats = -(-count // len(rows))
    return np.concatenate([random.permutation(rows) for _ in range(max(repeats, 1))])[:count]
