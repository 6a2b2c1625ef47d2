"""From cosine similarity to evidence: how alike are two crops of one person, and of two people, for this network?

Cosine scales differ between networks: 0.6 is a stranger for one and the same person for another; and between scenes:
under one camera, in one light, strangers look more alike than in a training set. So the two distributions are learned
while tracking: two detections in one frame are certain strangers, and a match that overlap alone makes certain is the
same person. Until enough of both has been seen, those in the header of a model trained by this project serve.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincc, betainccinv, ndtri

from reid_tracker.tracking.fading import FAR, FadingMean

# Cosines of a newcomer with people it is not, both taken from the mean of all people known (see
# `IdentityMemory.likeness`): `TAIL` of them are below the same quantiles of a normal distribution with this mean and
# deviation. Measured in scenes made up of 1 to 50 people of one camera, of the held-out people of Market-1501 and
# CUHK03; it is much the same for networks as different as the bundled one and OSNet, since the mean takes what differs
# between them.
STRANGER_MEAN, STRANGER_STD = -0.11, 0.25
TAIL = (0.99, 0.999)
# Quality of crops of which other people cover these shares, for the bundled network: mean of the held-out people of
# Market-1501 and CUHK03, who agree (`training.measure.quality_covered`). At 60 and 80 % .25 and .07 were found: held at
# the least, since what such a crop shows is mostly who is in front, and chance would pass for certainty.
COVERED_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
COVERED = (1.0, 0.96, 0.79, 0.5, 0.5)
LEAST_QUALITY = 0.5
# In a few seconds of good light the deviation of one person's cosines may come out too small: held at the least.
LEAST_STD = 0.02
# Where crops of one person are not so many deviations more alike than strangers' (one uniform, infrared, a hundred
# equal parcels), chance alone would pass for certainty.
LEAST_LEAD = 0.5
# Cosines of a kind needed before their distribution in this scene is trusted.
ENOUGH = 30


def return_cosine(
    false_match_rate: float | np.ndarray, known: np.ndarray, statistics: "CosineStatistics | None" = None
) -> np.ndarray:
    """Cosine that the most similar of people known exceeds for such a share of strangers.

    Parameters
    ----------
    false_match_rate : float or ndarray
        0..1, of newcomers, not of comparisons: the more people are known, the higher the cosine.
    known : ndarray of int
        How many people the newcomer is compared with, 1 or more.
    statistics : CosineStatistics, optional
        The model's own, from its header.

    Returns
    -------
    ndarray of float
        Of the shape of both.
    """
    mean, std = (statistics.return_mean, statistics.return_std) if statistics else (STRANGER_MEAN, STRANGER_STD)
    a, b = _fit_beta(mean, std)
    cosine: np.ndarray = 2 * betainccinv(a, b, -np.expm1(np.log1p(-false_match_rate) / known)) - 1
    return cosine


def return_chance(cosine: float, known: int, statistics: "CosineStatistics | None" = None) -> float:
    """Share of strangers whom the most similar of so many people known exceeds this cosine: `return_cosine` undone."""
    mean, std = (statistics.return_mean, statistics.return_std) if statistics else (STRANGER_MEAN, STRANGER_STD)
    one = float(betaincc(*_fit_beta(mean, std), float(np.clip((1 + cosine) / 2, 0, 1))))
    return float(-np.expm1(known * np.log1p(-min(one, 1 - 1e-16))))


@lru_cache(maxsize=64)
def _fit_beta(mean: float, std: float) -> tuple[float, float]:
    """Parameters of the Beta distribution of (1 + cosine) / 2 that has a normal distribution's quantiles at `TAIL`.

    The normal distribution is what the model's header gives. But its tail goes on beyond 1, where no cosine is: no one
    could be recognised among many people. That of directions drawn at random in D dimensions is Beta, with
    a = b = (D - 1) / 2.
    """
    low, high = (
        min((1 + mean + std * float(ndtri(share))) / 2, 1 - 1e-3 / place) for place, share in enumerate(TAIL, 1)
    )
    low = min(low, high - 1e-3)

    def first(spread: float) -> float:  # a for which the first quantile fits, of a + b = spread
        return float(
            brentq(lambda a: betainccinv(a, spread - a, 1 - TAIL[0]) - low, 1e-3 * spread, spread * (1 - 1e-6))
        )

    def miss(spread: float) -> float:
        a = first(spread)
        return float(betainccinv(a, spread - a, 1 - TAIL[1]) - high)

    most, least = 1e5, 0.5
    if miss(most) > 0 or miss(least) < 0:
        spread = most if miss(most) > 0 else least
    else:
        spread = float(brentq(miss, least, most))
    a = first(spread)
    return a, spread - a


@dataclass(frozen=True, slots=True)
class CosineStatistics:
    """Distributions of cosine similarity.

    Attributes
    ----------
    same_mean, same_std : float
        Two crops of one person.
    stranger_mean, stranger_std : float
        Crops of two people.
    return_mean, return_std : float
        A newcomer's mean crop and another person's, both taken from the mean of all people known: the normal
        distribution that has their quantiles at `TAIL` (`stranger_tail`).
    covered : sequence of float
        Quality (see `AppearanceCalibration.quality`) of crops that are covered by the `COVERED_SHARES`.
    """

    same_mean: float
    same_std: float
    stranger_mean: float
    stranger_std: float
    return_mean: float = STRANGER_MEAN
    return_std: float = STRANGER_STD
    covered: Sequence[float] = field(default=COVERED, kw_only=True)

    @classmethod
    def read(cls, header: dict[str, Any]) -> "CosineStatistics":
        """Take them from a file's header.

        Raises
        ------
        TypeError, ValueError
            If they are others, one is no finite number, or there are not as many of ``covered`` as shares.
        """
        statistics = cls(**header)
        *numbers, covered = astuple(statistics)
        if not np.isfinite([*numbers, *covered]).all() or len(covered) != len(COVERED_SHARES):
            raise ValueError(f"not statistics of cosines: {header}")
        return statistics


class Cosines(FadingMean):
    """The distribution of the cosines of certain pairs in this scene; its means are of them and of their squares."""

    PRIOR, MEMORY = 0.0, 20_000.0  # a frame alone may show a thousand pairs of strangers

    def __init__(self) -> None:
        super().__init__(0.0, 0.0)

    def learn(self, cosines: np.ndarray) -> None:
        """Take in some, 1-d."""
        self.add(np.array([cosines.sum(), np.square(cosines, dtype=np.float64).sum()]), cosines.size)

    @property
    def centre(self) -> float:
        """Their mean."""
        return float(self.mean[0])

    @property
    def std(self) -> float:
        """Their standard deviation."""
        return float(max(self.mean[1] - self.mean[0] ** 2, 0.0) ** 0.5)

    def enough(self) -> bool:
        """Whether they are as many as a distribution needs."""
        return bool(self.count[0] >= ENOUGH)


class AppearanceCalibration:
    """Turns cosine similarity into a distance: 0 = as alike as one person's crops, 1 = as unlike as strangers'.

    Between the two means the log-likelihood ratio of two Gaussians with a common spread is linear in the cosine, so
    the distance is linear as well, clipped to 0..1.

    Parameters
    ----------
    statistics : CosineStatistics, optional
        From the model's header, used until the video itself has shown enough. Without it appearance waits until then.

    Attributes
    ----------
    given : CosineStatistics or None
        Those.
    same, strangers : Cosines
        What the video has shown of one person, and of two.
    """

    def __init__(self, statistics: CosineStatistics | None = None) -> None:
        self.given = statistics
        self.same, self.strangers = Cosines(), Cosines()
        self._read: tuple[np.ndarray, np.ndarray, CosineStatistics | None] | None = None

    def learn(self, same: np.ndarray, strangers: np.ndarray) -> None:
        """Take in cosines of certain pairs (1-d): of one person, and of two."""
        self.same.learn(same)
        self.strangers.learn(strangers)

    @property
    def learned(self) -> bool:
        """Whether the video has shown enough certain pairs."""
        return self.same.enough() and self.strangers.enough()

    @property
    def statistics(self) -> CosineStatistics | None:
        """The distributions in use, or None while too little has been seen to trust appearance."""
        same, strangers = self.same, self.strangers
        # Read a dozen times a frame and learned once: each learning makes new arrays.
        if self._read is None or self._read[0] is not same.mean or self._read[1] is not strangers.mean:
            self._read = same.mean, strangers.mean, self._statistics(same, strangers)
        return self._read[2]

    def _statistics(self, same: Cosines, strangers: Cosines) -> CosineStatistics | None:
        if not self.learned:
            return self.given
        if same.centre - strangers.centre <= LEAST_LEAD * max(same.std, strangers.std):
            return None  # vectors that say nothing about identity
        return CosineStatistics(same.centre, same.std, strangers.centre, strangers.std)

    def quality(self, coverage: np.ndarray) -> np.ndarray:
        """How well crops covered by such shares (any shape, 0..1) still tell their person: 1 like whole ones.

        It is what was measured of held-out people: how much more such crops are like their own person than like
        others, as a share of what whole crops are.
        """
        covered = self.given.covered if self.given else COVERED
        return np.interp(coverage, COVERED_SHARES, covered)

    def distance(self, cosine: np.ndarray, quality: np.ndarray | float = 1.0) -> np.ndarray:
        """Calibrated distances 0..1 of cosines (any shape), NaN where NaN; statistics must not be None.

        Of a crop of less ``quality`` no more likeness is expected than such crops have to their own person.
        """
        known = self.statistics
        assert known is not None
        expected = quality * (known.same_mean - known.stranger_mean)
        return np.clip((known.stranger_mean + expected - cosine) / expected, 0.0, 1.0)

    def unlike(self, cosine: np.ndarray) -> np.ndarray:
        """Mask of cosines (any shape) that two crops of one person hardly ever have; statistics must not be None."""
        known = self.statistics
        assert known is not None
        mask: np.ndarray = cosine < known.same_mean - FAR * max(known.same_std, LEAST_STD)
        return mask

    def cosine(self, distance: float) -> float:
        """Cosine whose calibrated distance this is, the inverse of `distance` between 0 and 1."""
        known = self.statistics
        assert known is not None
        return known.same_mean - distance * (known.same_mean - known.stranger_mean)
