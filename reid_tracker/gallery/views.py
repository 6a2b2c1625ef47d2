"""Views as vectors: which of many are kept, how alike two people's are, and what that says."""

import math
from dataclasses import dataclass

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.gallery.store import BEST_VIEWS, Gallery
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.memory import VIEWS

# People needed to estimate how alike strangers are, and the most that are sampled, for speed.
ENOUGH, SAMPLE = 10, 100
# A doubt needs such odds at least, and as many views on either side of a mixture.
LEAST_ODDS, FEWEST_VIEWS = 20, 2
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


def a_few(vectors: np.ndarray) -> np.ndarray:
    """Of a person's views [K, D], oldest first, the `VIEWS` most varied: someone merged of many has more."""
    if len(vectors) <= VIEWS:
        return vectors
    some = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).astype(int)]
    return some[choose_varied(some, np.ones(len(some)))]


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
        Whether that is likelier than not, at even prior odds.
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


@dataclass(frozen=True)
class Doubt:
    """Something in a gallery that is likely wrong.

    Attributes
    ----------
    kind : {"double", "mixture"}
        Two numbers that are likely one person, or a number under which there are likely two.
    numbers : tuple of int
        The numbers: two, or one.
    views : tuple of int
        Of a mixture, the views (as `gallery show` counts them, from 1) that are likely another person's.
    odds : float
        How many times likelier that is than not, by the views alone.
    """

    kind: str
    numbers: tuple[int, ...]
    views: tuple[int, ...]
    odds: float


def find_doubts(gallery: Gallery) -> list[Doubt]:
    """List likely doubles and mixtures, the likeliest first.

    Of many people some pairs look alike by chance. So the odds of a double must exceed the number of people, as if one
    of the pairs that each of them makes were the same person; those of a mixture the same, as each is looked at once.
    And in front of one camera all look alike: a double must still do so when that is taken off, as `find_links` does.
    """
    from reid_tracker.gallery.link import find_links

    known, _ = statistics_of(gallery)
    numbers, vectors = gallery.vectors()
    people, starts = np.unique(numbers, return_index=True)
    if not len(people):
        return []
    views = np.split(vectors, starts[1:])
    person_of = {number: linked.numbers[0] for linked in find_links(gallery) for number in linked.numbers}
    least, doubts = float(max(len(people), LEAST_ODDS)), list[Doubt]()
    means = np.stack([each.mean(axis=0) for each in views])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    for row, one in enumerate(views):
        # The likeness with each later person, all at once; few are so alike that odds are worth working out.
        alike = np.sort(one @ means[row + 1 :].T, axis=0)[-BEST_VIEWS:].mean(axis=0)
        for other in np.flatnonzero(alike > (known.same_mean + known.stranger_mean) / 2) + row + 1:
            odds = verify(known, one, views[other]).likelihood_ratio
            is_one = person_of.get(int(people[row])) == person_of.get(int(people[other]), -1)
            if odds > least and is_one:
                doubts.append(Doubt("double", (int(people[row]), int(people[other])), (), odds))
        parts = _two_parts(one)
        if min(map(len, parts)) >= FEWEST_VIEWS:
            odds = 1 / verify(known, one[parts[0]], one[parts[1]]).likelihood_ratio
            if odds > least:
                # As `gallery show` counts them, which need not be the order of all vectors.
                fewer = min(_two_parts(np.stack([view.vector for view in gallery.views(int(people[row]))])), key=len)
                doubts.append(Doubt("mixture", (int(people[row]),), tuple(int(each) + 1 for each in fewer), odds))
    return sorted(doubts, key=lambda doubt: -doubt.odds)


def _two_parts(views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of views [K, D], divided between the two that are least alike."""
    alike = views @ views.T
    one, other = np.unravel_index(int(alike.argmin()), alike.shape)
    nearer = alike[one] >= alike[other]
    return np.flatnonzero(nearer), np.flatnonzero(~nearer)
