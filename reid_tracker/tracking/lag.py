"""How much of what smoothing takes off the boxes of a scene is motion, not jitter.

What is left of a box beside the smooth one, its residual, is the detector's jitter, which is another one in the next
frame, and the way that the filter lags behind, which is not: the residuals of a filter that follows rightly are not
correlated in time (Mehra 1970). So their correlation from one frame to the next is the lag's share of their variance,
and that is also the weight of the box as detected in the best mean of both, where the two are independent.
"""

import numpy as np

from reid_tracker.tracking.fading import FAR, FadingMean
from reid_tracker.tracking.kalman import MEASUREMENT_NOISE

# The correlation expected before anything was seen, and the deviation of residuals, body heights.
PRIOR, PRIOR_DEVIATION = 0.4, 0.01


class Lag(FadingMean):
    """Correlation of the residuals of the same people in one frame and the next.

    The means are of the products and of the squares of residuals, body heights^2.
    """

    def __init__(self) -> None:
        super().__init__(PRIOR * PRIOR_DEVIATION**2, PRIOR_DEVIATION**2)

    @property
    def share(self) -> float:
        """Of motion in what smoothing takes off, 0 to 1."""
        return float(np.clip(self.mean[0] / max(self.mean[1], 1e-15), 0, 1))

    def learn(self, before: np.ndarray, now: np.ndarray) -> None:
        """Take in the residuals [K, 2] of the same people in the last frame and this one, body heights."""
        most = FAR * MEASUREMENT_NOISE
        before, now = np.clip(before, -most, most), np.clip(now, -most, most)
        self.add(np.array([(before * now).sum() / 2, (before**2 + now**2).sum() / 4]), len(now))
