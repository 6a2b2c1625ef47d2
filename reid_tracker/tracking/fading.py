"""Means of what a scene shows: they begin with an expectation, and forget what is old, as light and cameras change."""

import numpy as np

# What is further off than so many standard deviations is something else: another person, or a wrong match.
FAR = 4.0


class FadingMean:
    """Running means of K quantities.

    Parameters
    ----------
    *expected : float
        The K means before anything was seen.

    Attributes
    ----------
    mean, count : ndarray float64 [K]
        The means, and of how many numbers they are; `PRIOR` at first, and then at most `MEMORY`.
    """

    PRIOR, MEMORY = 50.0, 1000.0

    def __init__(self, *expected: float) -> None:
        self.mean = np.array(expected, dtype=np.float64)
        self.count = np.full(len(self.mean), self.PRIOR)

    def add(self, total: np.ndarray | float, count: np.ndarray | int) -> None:
        """Take in so many numbers with these sums, of each quantity [K] or of the same number of all."""
        kept = np.minimum(self.count, np.maximum(self.MEMORY - count, 0))
        self.count = kept + count
        self.mean = (kept * self.mean + total) / np.maximum(self.count, 1)
