"""Which crops go together in a batch."""

from collections.abc import Iterator

import numpy as np


def identity_batches(
    identities: np.ndarray, people: int, images: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Batches of P identities with K images each; every identity comes once an epoch (Hermans et al. 2017).

    Parameters
    ----------
    identities : ndarray, int [N]
        Who each crop is.
    people, images : int
        P and K. Someone with fewer than K images has some of them twice.
    random : numpy Generator
        Decides who meets whom.

    Yields
    ------
    ndarray, int [P * K]
        Rows of `identities`. A last batch of a single identity has no negatives and is left out.
    """
    order = np.argsort(identities, kind="stable")
    rows_of = np.split(order, np.unique(identities[order], return_index=True)[1][1:])
    shuffled = random.permutation(len(rows_of))
    for start in range(0, len(shuffled), people):
        chosen = [rows_of[person] for person in shuffled[start : start + people]]
        if len(chosen) > 1:
            yield np.concatenate([_pick(rows, images, random) for rows in chosen])


def _pick(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Pick `count` rows, each as often as any other give or take one."""
    repeats = -(-count // len(rows))
    return np.concatenate([random.permutation(rows) for _ in range(repeats)])[:count]
