"""Who of a gallery is one person after all: all visits looked at together, when many videos have been tracked.

While tracking each newcomer is compared with everyone known at that moment. Afterwards more is known: how every camera
changes what its people look like, and who was seen at once with whom. Numbers are joined by average linkage (Sokal &
Michener 1958): the most alike two first, each group by the mean over all pairs of its visits, so that no chain of
accidental likenesses holds two people together; and never two who were seen at once.
"""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.gallery.store import Gallery
from reid_tracker.tracking.calibration import CosineStatistics, return_chance, return_cosine
from reid_tracker.tracking.memory import common_part

# A camera's mean is taken as if so many visits like the whole archive's were among its own: of one visit alone the mean
# would be that visit.
PRIOR_VISITS = 1
# Views so close in time, s, of one video are of people seen at once.
SEEN_TOGETHER = 0.25
NEIGHBOURS = 40  # the most alike, with which each number is compared
# Of more numbers an index (HNSW, Malkov & Yashunin 2018) names the most alike: few are missed.
EXACT_UP_TO = 100_000


@dataclass(frozen=True)
class Join:
    """Two groups of numbers that are one person.

    Attributes
    ----------
    into, number : int
        The lowest number of each.
    cosine : float
        Mean likeness of the visits of the one with those of the other.
    asked : float
        What was needed at that moment.
    chance : float
        0..1: that somebody who is there once is as like the most alike of all groups, by accident.
    """

    into: int
    number: int
    cosine: float
    asked: float
    chance: float


@dataclass(frozen=True)
class Linked:
    """One person of several numbers.

    Attributes
    ----------
    numbers : tuple of int
        Rising.
    joins : tuple of Join
        In the order in which they were made.
    """

    numbers: tuple[int, ...]
    joins: tuple[Join, ...] = field(default=())


def find_links(gallery: Gallery, rate: float = 0.05, since: int = 0) -> list[Linked]:
    """Find the numbers that are one person.

    Parameters
    ----------
    gallery : Gallery
        Of either store.
    rate : float
        0..1: of people who are in the gallery once, at most this share may be joined with another person.
    since : int
        Only joins that take in a number beyond this one: the others were looked at before (`Gallery.linked`).

    Returns
    -------
    list of Linked
        Those of several numbers, by their lowest.

    Raises
    ------
    UserError
        If the rate cannot be, or another program changed the gallery meanwhile.
    """
    if not 0 < rate < 1:
        raise UserError(f"--rate {rate:g}: must lie between 0 and 1.")
    numbers, vectors = gallery.vectors()
    sources, times = gallery.moments()
    if len(sources) != len(numbers):
        raise UserError("Another program changed the gallery meanwhile; run it again.")
    if len(np.unique(numbers)) < 2:
        return []
    calibration = gallery.model.calibration.get("same_camera") or gallery.model.calibration.get("all")
    known = CosineStatistics(**calibration) if calibration else None  # whose vectors are taken from their camera's mean
    people, visit_of_whom, visits = _visits(numbers, vectors, sources, known.stranger_mean if known else 0.5)
    apart = _seen_at_once(numbers, sources, times)
    classes = {each.number: each.class_id for each in gallery.people()}
    linkage = _Linkage(people, visit_of_whom, visits, apart, classes)
    return linkage.run(rate, known, since)


def apply_links(gallery: Gallery, links: list[Linked], until: int) -> None:
    """Merge each person's numbers into the lowest, as one transaction; ``until`` is the last that `find_links` saw."""
    batch = time.time()
    with gallery.alone():
        for each in links:
            for number in each.numbers[1:]:
                gallery.merge(each.numbers[0], number, batch=batch)
        gallery.linked(until)


def undo_links(gallery: Gallery) -> list[tuple[int, int]]:
    """Take back what the last `apply_links` merged that is not taken back yet: each number and who it was part of.

    Raises
    ------
    UserError
        If there is nothing, or some of it was merged on since; then nothing changes.
    """
    with gallery.alone():
        merges = [each for each in gallery.merges() if each.batch]
        last = max((each.batch for each in merges), default=0.0)
        numbers = sorted(each.number for each in merges if each.batch == last)
        if not numbers:
            raise UserError("No link --apply is there that could be taken back.")
        done = [(number, gallery.unmerge(number)) for number in numbers]
        gallery.linked(0)
    return done


def _visits(
    numbers: np.ndarray, vectors: np.ndarray, sources: list[str], strangers: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Everyone [P]; of each visit, all views of a person in a source, whose it is (place in P) and its unit vector.

    The vectors are taken from their source's mean: what a camera's pictures have in common says nothing of people.
    ``strangers`` is the mean cosine of two people.
    """
    people, who = np.unique(numbers, return_inverse=True)
    where = np.unique(np.array(sources), return_inverse=True)[1]
    keys, visit = np.unique(np.stack([who, where]), axis=1, return_inverse=True)
    visit = visit.reshape(-1)
    means = np.zeros((keys.shape[1], vectors.shape[1]))
    np.add.at(means, visit, vectors)
    means /= np.bincount(visit)[:, None]
    common = common_part(means.sum(axis=0), len(means), strangers)
    count = np.bincount(keys[1])
    camera = np.zeros((len(count), vectors.shape[1]))
    np.add.at(camera, keys[1], means)
    camera = (camera + PRIOR_VISITS * common) / (count + PRIOR_VISITS)[:, None]
    means -= camera[keys[1]]
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return people, keys[0], means.astype(np.float32)


def _seen_at_once(numbers: np.ndarray, sources: list[str], times: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of numbers (the lower first) of which two views of one video are of the same moment."""
    found: set[tuple[int, int]] = set()
    where = np.unique(np.array(sources), return_inverse=True)[1]
    order = np.lexsort((times, where))
    step = 1
    while True:
        first, second = order[:-step], order[step:]
        near = (where[first] == where[second]) & (times[second] - times[first] <= SEEN_TOGETHER)
        if not near.any():
            return found
        pairs = np.sort(np.stack([numbers[first[near]], numbers[second[near]]]), axis=0)
        found |= {(one, two) for one, two in pairs.T.tolist() if one != two}
        step += 1


class _Linkage:
    """Average linkage of people over their visits, among the most alike."""

    def __init__(
        self,
        people: np.ndarray,
        whose: np.ndarray,
        visits: np.ndarray,
        apart: set[tuple[int, int]],
        classes: dict[int, int],
    ) -> None:
        self._people = people.tolist()
        self._sums = np.zeros((len(people), visits.shape[1]))
        np.add.at(self._sums, whose, visits)
        self._size = np.bincount(whose, minlength=len(people)).astype(float)
        places = {number: place for place, number in enumerate(self._people)}
        self._never: list[set[int]] = [set() for _ in self._people]
        for one, two in apart:
            if one in places and two in places:
                self._never[places[one]].add(places[two])
                self._never[places[two]].add(places[one])
        self._class = [classes.get(number, 0) for number in self._people]
        self._near: list[set[int]] = [set() for _ in self._people]
        self._version = [0] * len(self._people)
        self._heap: list[tuple[float, int, int, int, int]] = []

    def run(self, rate: float, known: CosineStatistics | None, since: int) -> list[Linked]:
        """Join while the most alike two are as alike as the rate asks of so many groups."""

        def asked_of(groups: int) -> float:
            return float(return_cosine(rate, np.array([groups]), known)[0])

        groups = len(self._people)
        asked = asked_of(groups)
        members = {place: [place] for place in range(groups)}
        joins: dict[int, list[Join]] = {place: [] for place in range(groups)}
        for one, two in self._candidates(asked_of(2), since):  # of a group some pair is as alike as its mean
            self._near[one].add(two)
            self._near[two].add(one)
            self._push(one, two)
        while self._heap:
            likeness, one, two, *versions = heapq.heappop(self._heap)
            if [self._version[one], self._version[two]] != versions or two in self._never[one]:
                continue
            if -likeness < asked:
                asked = asked_of(groups)  # with fewer groups an accident is less likely
                if -likeness < asked:
                    break
            groups -= 1
            chance = return_chance(-likeness, groups + 1, known)
            join = Join(self._people[min(one, two)], self._people[max(one, two)], -likeness, asked, chance)
            self._join(one, two)
            members[one] += members.pop(two)
            joins[one] += [*joins.pop(two), join]
        linked = [
            Linked(tuple(sorted(self._people[each] for each in places)), tuple(joins[one]))
            for one, places in members.items()
            if len(places) > 1
        ]
        return sorted(linked, key=lambda each: each.numbers)

    def _candidates(self, least: float, since: int) -> Iterator[tuple[int, int]]:
        """Pairs of places, each one's most alike of the same class; one of the two is beyond ``since``."""
        mean = (self._sums / self._size[:, None]).astype(np.float32)
        kind, is_new = np.array(self._class), np.array(self._people) > since
        for each in np.unique(kind):
            places = np.flatnonzero(kind == each)
            asking = places[is_new[places]]
            alike, nearest = _nearest(mean[places], mean[asking])
            for row, column in np.argwhere((alike >= least) & (nearest >= 0)).tolist():
                one, two = int(asking[row]), int(places[nearest[row, column]])
                if one != two:
                    yield one, two

    def _push(self, one: int, two: int) -> None:
        if two not in self._never[one]:
            one, two = min(one, two), max(one, two)
            likeness = float(self._sums[one] @ self._sums[two]) / (self._size[one] * self._size[two])
            heapq.heappush(self._heap, (-likeness, one, two, self._version[one], self._version[two]))

    def _join(self, one: int, two: int) -> None:
        """Make ``two`` part of ``one``."""
        self._sums[one] += self._sums[two]
        self._size[one] += self._size[two]
        self._version[one] += 1
        self._version[two] = -1  # matches nothing any more
        for each in self._never[two]:
            self._never[each].discard(two)
            self._never[each].add(one)
        self._never[one] |= self._never[two]
        for each in self._near[two]:
            self._near[each].discard(two)
            if each != one:
                self._near[each].add(one)
                self._near[one].add(each)
        self._near[one].discard(two)
        for each in self._near[one]:
            self._push(one, each)


def _nearest(vectors: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inner products with the `NEIGHBOURS` most alike and themselves, and their rows; -1 where there are fewer."""
    import faiss

    if len(vectors) <= EXACT_UP_TO:
        alike, rows = faiss.knn(queries, vectors, NEIGHBOURS + 1, metric=faiss.METRIC_INNER_PRODUCT)
        return alike, rows
    index = faiss.IndexHNSWFlat(vectors.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = 80, 2 * NEIGHBOURS
    index.add(vectors)
    alike, rows = index.search(queries, NEIGHBOURS + 1)
    return alike, rows
