"""Smoothing by local lines (Cleveland 1979): a straight line through each value's neighbours, weighed by a Gaussian."""

import numpy as np

# Widths, s: of places, and of sizes, which change more slowly.
PLACE_SECONDS, SIZE_SMOOTHING = 0.1, 4.0
FURTHEST = 3.0  # widths from which neighbours count


def local_lines(times: np.ndarray, values: np.ndarray, width: float) -> np.ndarray:
    """Smooth a whole path.

    Parameters
    ----------
    times : ndarray [K]
        Ascending, s.
    values : ndarray [K, C]
        At these times.
    width : float
        Of the Gaussian, s.

    Returns
    -------
    ndarray [K, C]
    """
    furthest = int((np.searchsorted(times, times + FURTHEST * width, side="right") - np.arange(len(times))).max()) - 1
    sums = _Sums(*values.shape)
    for shift in range(-furthest, furthest + 1):
        here = np.arange(max(0, -shift), min(len(times), len(times) - shift))
        sums.add(here, times[here + shift] - times[here], values[here + shift], width)
    return sums.lines(values, width)


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
        As for `local_lines`.

    Returns
    -------
    ndarray [P, C]
    """
    sums = _Sums(*present.shape)
    sums.add(path, times - time, values, width)
    return sums.lines(present, width)


class _Sums:
    """Weighed sums for `count` lines of so many channels."""

    def __init__(self, count: int, channels: int) -> None:
        self._count = count
        self._weight = np.zeros((3, count))  # of 1, t, t^2
        self._value = np.zeros((2, count, channels))  # of v, t v

    def add(self, place: np.ndarray, off: np.ndarray, values: np.ndarray, width: float) -> None:
        """Add neighbours [N] to the lines at ``place``, ``off`` s away."""
        weight = np.exp(-0.5 * (off / width) ** 2) * (np.abs(off) <= FURTHEST * width)
        moments = np.stack([weight, weight * off, weight * off**2])
        for each, total in zip(moments, self._weight, strict=True):
            total += np.bincount(place, each, self._count)
        for each, totals in zip(moments[:2], self._value, strict=True):
            for channel in range(values.shape[1]):
                totals[:, channel] += np.bincount(place, each * values[:, channel], self._count)

    def lines(self, otherwise: np.ndarray, width: float) -> np.ndarray:
        """Where each line is at its own moment; the value itself where it has no neighbours."""
        (s0, s1, s2), (v0, v1) = self._weight, self._value
        determinant = s0 * s2 - s1**2
        lonely = determinant <= 1e-9 * width**2
        smooth = (s2[:, None] * v0 - s1[:, None] * v1) / np.where(lonely, 1, determinant)[:, None]
        smooth[lonely] = otherwise[lonely]
        return smooth
