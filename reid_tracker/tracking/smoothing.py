"""Smoothing by local lines (Cleveland 1979): a straight line through each value's neighbours, weighed by a Gaussian.

How wide the Gaussian is, the scene says (`Jitter`): wide where boxes jump and people walk smoothly, narrow where boxes
are precise or motion is hard to predict.
"""

import numpy as np

from reid_tracker.tracking.fading import FAR, FadingMean
from reid_tracker.tracking.kalman import MEASUREMENT_NOISE, POSITION_NOISE

SIZE_WIDTHS = 2.0  # of the Gaussian for sizes, in those for places: sizes change more slowly
FURTHEST = 3.0  # widths from which neighbours count
NARROWEST, WIDEST = 0.01, 0.4  # s
# Boxes are compared with those at least so long before and after, s, as a detector errs alike from one frame to the
# next; beyond the second, people's own motion counts for more than jitter.
LAG, APART = 0.1, 0.55
# Deviation of a box's centre, body heights, before the scene has shown its own.
PRIOR = 0.02


class Jitter(FadingMean):
    """How far the detector's boxes jump about the path of a person in this scene, and how much smoothing that needs."""

    def __init__(self) -> None:
        super().__init__(PRIOR**2)

    @property
    def variance(self) -> float:
        """Of a centre along an axis, body heights^2."""
        return float(self.mean[0])

    def learn(self, centres: np.ndarray, height: np.ndarray, share: float) -> None:
        """Take in how far people's boxes are from the straight line between a box before and one after.

        Their distance has the variance of three errors (Gasser, Sroka and Jennen-Steinmetz 1986).

        Parameters
        ----------
        centres : ndarray [3, K, 2]
            Of the boxes before, now and after, px.
        height : ndarray [K]
            Of the people, px.
        share : float
            Where between before (0) and after (1) now is.
        """
        if not len(height):
            return
        before, here, after = centres
        off = (here - (1 - share) * before - share * after) / np.maximum(height, 1.0)[:, None]
        squared = np.minimum(off**2 / (1 + share**2 + (1 - share) ** 2), (FAR * MEASUREMENT_NOISE) ** 2)
        self.add(squared.mean(axis=1).sum(), len(here))

    def width(self, step: float, noise: float) -> float:
        """Standard deviation of the Gaussian that smooths places, s.

        The best smoother of a random walk that is measured with errors weighs neighbours by exp(-t / T), where T is
        jitter x sqrt(step) / intensity of the walk. Its spread is that of a Gaussian of standard deviation sqrt(2) T.

        Parameters
        ----------
        step : float
            From frame to frame, s.
        noise : float
            How hard people are to predict (`Tracker.motion_noise`).
        """
        width = np.sqrt(2 * step * self.variance) / (noise * POSITION_NOISE[0])
        return float(np.clip(width, NARROWEST, WIDEST))


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
