"""How the camera moved between two frames, from the boxes alone: what all people seem to do at once, the camera did.

It serves where there is no picture. The shift is estimated in every frame, but followed only while it is significant:
under a standing camera people's departures from their own motion are independent, and the square of their mean beside
its standard error is about 1 in the long run; under a moving one it is many times that.
"""

import numpy as np

from reid_tracker.tracking import costs

# A box at most this far (body heights) from where a track is expected, of much the same height (log ratio), may be its.
NEAR, SAME_HEIGHT = 1.5, 0.3
# At most this many standard deviations from the shift of all; of three or fewer people no shift is believed.
FAR, MINIMUM_PAIRS = 4.0, 4
# Degrees of freedom of the t distribution that a departure follows: a few people always turn or stop.
FREEDOM = 4.0
ROUNDS = 3
# Where nothing has been learned, a camera shifts so much a frame (std, body heights), believed like so many frames.
PRIOR_SHIFT, PRIOR_FRAMES, MEMORY_FRAMES = 0.2, 30, 60
# The running mean of the squared significance from which the camera is taken to move, each frame's share in it, and
# the most that one frame counts. Chosen on the nine sequences of MOT15 and MOT17 at hand; 2.5 already follows people.
MOVING, SHARE, MOST = 3.5, 0.05, 10.0


class BoxMotion:
    """The common displacement of boxes, by empirical Bayes.

    Attributes
    ----------
    variance : ndarray float64 [2]
        Of the shift a frame along x and y, in squares of the median body height, learned from the frames before.
    learned : ndarray float64 [2]
        Frames that this rests on, and the running mean of the squared significance.
    """

    def __init__(self) -> None:
        self.variance = np.full(2, PRIOR_SHIFT**2)
        self.learned = np.array([PRIOR_FRAMES, 1.0])

    def estimate(
        self, expected: np.ndarray, variance: np.ndarray, measured: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Shift of the picture since the last frame.

        Parameters
        ----------
        expected : ndarray [N, 4]
            Centre boxes (cx, cy, w, h), px, where the tracks seen in the last frame are expected.
        variance : ndarray [N, 2]
            Of the place where each would be measured, px^2.
        measured : ndarray [M, 4]
            Centre boxes of the sure detections, px.

        Returns
        -------
        shift, variance : ndarray [2], [2]
            In px and px^2; or None where the camera seems to stand, or too few people tell.
        """
        if len(expected) < MINIMUM_PAIRS or len(measured) < MINIMUM_PAIRS:
            return None
        height = np.maximum(expected[:, 3], 1.0)
        reach = (NEAR * height)[:, None]
        possible = np.abs(measured[:, 0] - expected[:, :1]) < reach
        possible &= np.abs(measured[:, 1] - expected[:, 1:2]) < reach
        i, j = costs.pairs(possible)
        alike = np.abs(np.log(np.maximum(measured[j, 3], 1.0) / height[i])) < SAME_HEIGHT
        i, j = i[alike], j[alike]
        apart, variance = measured[j, :2] - expected[i, :2], variance[i]
        ruler = np.median(height) ** 2
        prior = self.variance * ruler
        shift = np.zeros(2)
        for _ in range(ROUNDS):
            off = (apart - shift) ** 2 / variance
            distance = off[:, 0] + off[:, 1]
            pairs = _closest(i, j, distance)
            if len(pairs) < MINIMUM_PAIRS:
                return None
            departure = apart[pairs]
            weight = ((FREEDOM + 2) / (FREEDOM + distance[pairs]))[:, None] / variance[pairs]
            precision = weight.sum(axis=0) + 1 / prior
            shift = (weight * departure).sum(axis=0) / precision
        uncertain = 1 / precision
        self._learn(shift, uncertain, departure, weight, ruler)
        return (shift, uncertain) if self.learned[1] >= MOVING else None

    def _learn(
        self, shift: np.ndarray, uncertain: np.ndarray, departure: np.ndarray, weight: np.ndarray, ruler: float
    ) -> None:
        frames = min(self.learned[0], MEMORY_FRAMES)
        seen = (np.minimum(shift**2, ruler) + uncertain) / ruler
        self.variance = (self.variance * frames + seen) / (frames + 1)
        mean = (weight * departure).sum(axis=0) / weight.sum(axis=0)
        spread = (weight * (departure - mean) ** 2).sum(axis=0) / weight.sum(axis=0) / (len(departure) - 1)
        significance = np.minimum(mean**2 / np.maximum(spread, 1e-9), MOST).mean()
        self.learned = np.array([frames + 1, (1 - SHARE) * self.learned[1] + SHARE * significance])


def _closest(i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Positions in ``i`` and ``j`` of the pairs that are each other's closest, and not too far."""
    least_i, least_j = np.full(i.max(initial=-1) + 1, FAR**2), np.full(j.max(initial=-1) + 1, FAR**2)
    np.minimum.at(least_i, i, distance)
    np.minimum.at(least_j, j, distance)
    return np.flatnonzero((distance == least_i[i]) & (distance == least_j[j]))
