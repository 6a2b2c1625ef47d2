"""Views as vectors: which of many are kept, how alike two people's are, and what that says."""

import math
from dataclasses import dataclass

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.gallery.store import BEST_VIEWS, Gallery
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.memory import VIEWS

# People whose views tell how alike strangers are: no fewer, and no more looked at than a moment allows.
ENOUGH, SAMPLE = 10, 100
CERTAIN = 1e6  # likelihood ratios beyond it are the Gaussians' tails, not knowledge


def choose_varied(vectors: np.ndarray, quality: np.ndarray, limit: int = VIEWS) -> np.ndarray:
    """Choose views: first those of less than half the best one's quality go, then of the most alike two the worse one.

    Parameters
    ----------
    vectors : ndarray, float32 [N, D]
        Unit rows.
    quality : ndarray [N]
        0..1.
    limit : int
        Most that are kept.

    Returns
    -------
    ndarray, int [K]
        Rows to keep, ascending.
    """
    kept = np.arange(len(vectors))
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -2)
    while len(kept) > limit:
        worse = int(quality[kept].argmin())
        if quality[kept[worse]] >= quality.max() / 2:
            pair = np.array(np.unravel_index(alike.argmax(), alike.shape))
            worse = int(pair[quality[kept[pair]].argmin()])
        kept = np.delete(kept, worse)
        alike = np.delete(np.delete(alike, worse, axis=0), worse, axis=1)
    return kept


def likeness(views: np.ndarray, seen: np.ndarray) -> float:
    """Mean of the best `BEST_VIEWS` cosines of views [K, D] with the mean of others [L, D]."""
    mean = seen.mean(axis=0)
    cosine = views @ (mean / max(float(np.linalg.norm(mean)), 1e-12))
    return float(np.sort(cosine)[-BEST_VIEWS:].mean())


@dataclass(frozen=True)
class Verdict:
    """Whether two are one person.

    Attributes
    ----------
    same : bool
        Whether that is likelier than not, both being as likely beforehand.
    cosine : float
        Likeness.
    distance : float
        The same, calibrated: 0 as alike as one person's crops, 1 as unlike as strangers'.
    likelihood_ratio : float
        How many times likelier this likeness is for one person than for two.
    false_match_rate : float
        Share of pairs of strangers that are called the same, were they Gaussian.
    """

    same: bool
    cosine: float
    distance: float
    likelihood_ratio: float
    false_match_rate: float


def statistics_of(gallery: Gallery) -> tuple[CosineStatistics, str]:
    """How alike two people, and one person at two times, are by `likeness`; and where that is from.

    From the gallery's own people where there are enough: in one place strangers look more alike than in a training
    set. Two halves of a person's views stand for two times, which is a little too kind; whoever was enrolled twice
    counts as strangers, which is a little too strict. Otherwise from the model's header.
    """
    numbers, vectors = gallery.vectors()
    people, starts = np.unique(numbers, return_index=True)
    if len(people) > SAMPLE:
        chosen = np.random.default_rng(0).choice(len(people), SAMPLE, replace=False)
    else:
        chosen = np.arange(len(people))
    views = [vectors[starts[each] : np.append(starts, len(numbers))[each + 1]] for each in chosen]
    same = [likeness(each[::2], each[1::2]) for each in views if len(each) >= 2 * BEST_VIEWS]
    strangers = [likeness(one, other) for place, one in enumerate(views) for other in views[:place]]
    if len(same) >= ENOUGH and np.mean(same) > np.mean(strangers):
        found = (float(value) for part in (same, strangers) for value in (np.mean(part), np.std(part)))
        return CosineStatistics(*found), f"the gallery's own {len(people)} people"
    if "all" not in gallery.model.calibration:
        raise UserError(
            f"The gallery's model does not say how alike strangers are, and fewer than {ENOUGH} people have views "
            "enough to tell: enrol more, or use a trained checkpoint."
        )
    return CosineStatistics(**gallery.model.calibration["all"]), "the model's header"


def verify(known: CosineStatistics, views: np.ndarray, others: np.ndarray) -> Verdict:
    """Compare views [K, D] with others [L, D].

    Two Gaussians with a common spread, whose ratio is linear in the cosine: the middle between their means divides.
    """
    cosine = likeness(views, others)
    gap = known.same_mean - known.stranger_mean
    distance = (known.same_mean - cosine) / gap
    variance = (known.same_std**2 + known.stranger_std**2) / 2
    exponent = float(np.clip(gap**2 / variance * (0.5 - distance), -math.log(CERTAIN), math.log(CERTAIN)))
    false_matches = math.erfc(gap / 2 / known.stranger_std / math.sqrt(2)) / 2
    return Verdict(distance < 0.5, cosine, min(max(distance, 0.0), 1.0), math.exp(exponent), false_matches)
