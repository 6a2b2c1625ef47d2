"""How hard people are to predict in this scene: one factor on the process noise of all filters, from innovations.

Under a standing camera people walk smoothly, and a calm filter overlooks the detector's jitter; from a moving car, or
at a low frame rate, the same filter lags behind and loses them. No constant serves both. The innovation, the measured
place less the predicted one, tells them apart: its variance is held at a share of what the filter itself expects
(covariance matching; Mehra 1970, Myers and Tapley 1976).
"""

import numpy as np

from reid_tracker.tracking.fading import FadingMean

# The mean squared innovation, in variances that the filter expects, at which the noise is right. Below 1: the boxes of
# one person err alike from frame to frame, so innovations are smaller than independent errors would make them. Any
# value from .3 to .6 serves as well.
TARGET = 0.5
# The factor's bounds, and the most that one innovation counts: the wrong person may have been matched.
CALMEST, WILDEST, MOST = 0.35, 8.0, 9.0
# A filter this many sightings old knows the person's velocity.
SETTLED_SIGHTINGS = 3


class MotionNoise(FadingMean):
    """The factor on the process noise at which past innovations would have been right, in the mean."""

    def __init__(self) -> None:
        super().__init__(1.0)

    @property
    def factor(self) -> float:
        """What the standard deviations of `kalman`'s process noise are multiplied by."""
        return float(self.mean[0])

    def share(self, calm: np.ndarray) -> np.ndarray:
        """Share, any shape, of a new box in a smooth size: ``calm`` where people are easy to predict, else more."""
        return 1 - (1 - calm) ** max(self.factor, 1.0)

    def learn(self, innovation: np.ndarray, variance: np.ndarray) -> None:
        """Take in a frame's matches of people who were seen in the last frame, too.

        Parameters
        ----------
        innovation, variance : ndarray float64 [K, 2]
            Along x and y, px, and px^2 as the filters expect it at the present factor.
        """
        if not len(innovation):
            return
        squared = np.minimum(innovation**2 / variance, MOST).mean(axis=1)
        # The expected variance grows about as the factor does: each innovation asks for its own.
        self.add((self.factor * squared / TARGET).sum(), len(squared))
        self.mean = np.clip(self.mean, CALMEST, WILDEST)
