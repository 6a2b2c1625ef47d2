"""Everyone's vectors as one matrix in memory, searched by comparing all of them."""

import math

import numpy as np

from reid_tracker.gallery.store import BEST_VIEWS


class Matrix:
    """Vectors by person.

    Parameters
    ----------
    numbers : ndarray, int64 [N]
        Whose view each row is.
    rows : ndarray, float32 [N, D]
        Unit vectors.

    Attributes
    ----------
    numbers, rows : ndarray
        The same, by ascending number.

    Raises
    ------
    ValueError
        If a vector holds NaN or infinity.
    """

    def __init__(self, numbers: np.ndarray, rows: np.ndarray) -> None:
        # A sum with NaN or infinity in it is not finite, and takes no table of the matrix's size.
        if not math.isfinite(rows.sum(dtype=np.float64)):
            raise ValueError("a vector with NaN")
        order = np.argsort(numbers, kind="stable")
        if (np.diff(order) != 1).any():
            numbers, rows = numbers[order], rows[order]
        self.numbers, self.rows = numbers, rows
        # A table of one row a person: how many cells are filled, and which of them each view has.
        self._people, first, self._count = np.unique(numbers, return_index=True, return_counts=True)
        self._width = self._count.max(initial=0)
        begins = np.arange(len(self._people)) * self._width
        self._cell = np.arange(len(numbers)) + np.repeat(begins - first, self._count)

    def nearest(self, queries: np.ndarray, limit: int) -> list[list[tuple[int, float]]]:
        """For each unit vector [Q, D] the most similar people and their cosine, best first.

        A person's cosine is the mean of their `BEST_VIEWS` most similar views.
        """
        if not len(self._people):
            return [[] for _ in queries]
        cosine = np.full((len(self._people), self._width), -np.inf, np.float32)
        found, of = [], np.minimum(self._count, BEST_VIEWS).astype(np.float32)
        for row in np.ascontiguousarray((self.rows @ queries.T).T):
            cosine.reshape(-1)[self._cell] = row
            best = np.sort(cosine, axis=1)[:, -BEST_VIEWS:]
            score = np.where(np.isfinite(best), best, np.float32(0)).sum(axis=1) / of
            order = np.argpartition(-score, limit - 1)[:limit] if limit < len(score) else np.arange(len(score))
            order = order[np.argsort(-score[order])]
            found.append(list(zip(self._people[order].tolist(), score[order].tolist(), strict=True)))
        return found
