"""Smoothing by local lines (Cleveland 1979): a straight line through each value's neighbours, weighed by a Gaussian."""

import numpy as np

# Widths, s: of places, and of sizes, which change more slowly.
PLACE_SECONDS, SIZE_SMOOTHING = 0.1, 4.0
FURTHEST = 3.0  # widths from which neighbours count


def lines_at(
    time: float, present: np.ndarray, path: np.ndarray, times: np.ndarray, values: np.ndarray, width: float
) -> np.ndarray:
    """Smooth many paths at one moment.

    Parameters
    ----------
    time : float
        The moment, s.
    present : ndarray [P, C]
        Each path's value then.
    path : ndarray, int [N]
        Which path each neighbour is of.
    times, values : ndarray [N] and [N, C]
        Of all neighbours, those present included.
    width : float
        Of the Gaussian, s.

    Returns
    -------
    ndarray [P, C]
    """
    off, count = times - time, len(present)
    weight = np.exp(-0.5 * (off / width) ** 2) * (np.abs(off) <= FURTHEST * width)
    s0, s1, s2 = (np.bincount(path, weight * off**power, count) for power in range(3))
    v0, v1 = (
        np.stack([np.bincount(path, weight * off**power * channel, count) for channel in values.T], axis=1)
        for power in range(2)
    )
    determinant = s0 * s2 - s1**2
    lonely = determinant <= 1e-9 * width**2
    smooth: np.ndarray = (s2[:, None] * v0 - s1[:, None] * v1) / np.where(lonely, 1, determinant)[:, None]
    smooth[lonely] = present[lonely]  # no neighbours
    return smooth
