"""How much of what smoothing takes off the boxes of a scene is motion, not jitter.

What is left of a box beside the smooth one, its residual, is the detector's jitter, which is another one in the next
frame, and the way that the filter lags behind, which is not: the residuals of a filter that follows rightly are not
correlated in time (Mehra 1970). So their correlation from one frame to the next is the lag's share of their variance,
and that is also the weight of the box as detected in the best mean of both, where the two are independent.
"""

import numpy as np

# The correlation expected before anything was seen, and the deviation of residuals, body heights; the pairs that this
# is worth, and those that are remembered; and the most that a residual counts: the wrong person may have been matched.
PRIOR, PRIOR_DEVIATION, PRIOR_PAIRS, MEMORY_PAIRS, MOST = 0.4, 0.01, 50.0, 2000.0, 0.2


class Lag:
    """Correlation of the residuals of the same people in one frame and the next.

    Attributes
    ----------
    learned : ndarray float64 [3]
        Sums of the products and of the squares of residuals, body heights^2, and how many pairs they are of; what is
        old fades.
    """

    def __init__(self) -> None:
        self.learned = PRIOR_PAIRS * np.array([PRIOR * PRIOR_DEVIATION**2, PRIOR_DEVIATION**2, 1.0])

    @property
    def share(self) -> float:
        """Of motion in what smoothing takes off, 0 to 1."""
        return float(np.clip(self.learned[0] / max(self.learned[1], 1e-12), 0, 1))

    def learn(self, before: np.ndarray, now: np.ndarray) -> None:
        """Take in the residuals [K, 2] of the same people in the last frame and this one, body heights."""
        before, now = np.clip(before, -MOST, MOST), np.clip(now, -MOST, MOST)
        fresh = np.array([(before * now).sum() / 2, (before**2 + now**2).sum() / 4, len(now)])
        self.learned = min(max(MEMORY_PAIRS - len(now), 0) / self.learned[2], 1) * self.learned + fresh
