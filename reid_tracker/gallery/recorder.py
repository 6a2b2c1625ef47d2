"""A run and its gallery: the people a tracker already knows, and what the gallery learns from the run."""

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

import cv2
import numpy as np

from reid_tracker.config import TrackerSettings
from reid_tracker.cropping import resize_crop
from reid_tracker.errors import UserError
from reid_tracker.gallery.store import Gallery, Person, Sighting, View
from reid_tracker.gallery.views import a_few, choose_varied
from reid_tracker.tracking.calibration import CosineStatistics, return_cosine
from reid_tracker.tracking.costs import MOST_COVERED, coverage
from reid_tracker.tracking.memory import NEWCOMER_CROPS, VIEWS, IdentityMemory, common_part, unit
from reid_tracker.tracking.recognition import AT_ONCE, RETURN_MARGIN
from reid_tracker.video.annotate import clip_boxes
from reid_tracker.video.sinks import SMALLEST_CROP, FrameResult

EVERY_SECONDS = 0.5  # between two looks at one person, by the video's clock
MOST_WAITING = 1000  # tracklets whose views wait to be saved
# Sizes at which quality is half of what it can be: px of height, and variance of the Laplacian at SHARPNESS_SIZE.
HALF_HEIGHT, HALF_SHARPNESS, SHARPNESS_SIZE = 96.0, 100.0, (128, 64)


class GalleryMemory(IdentityMemory):
    """A tracker's memory that knows everyone of a gallery and takes new numbers from there.

    Parameters
    ----------
    gallery : Gallery
        Stays open.
    reserve : int
        Numbers held ready, so that newcomers get theirs while the gallery cannot be written; see `top_up`, `close`.

    Attributes
    ----------
    others : set of int
        Numbers of people enrolled by other runs since this one began (`meet`).
    """

    def __init__(self, gallery: Gallery, reserve: int = 0) -> None:
        super().__init__()
        self._gallery = gallery
        self._own: set[int] = set()
        self._met: deque[tuple[int, int, np.ndarray]] = deque()
        # When (Unix time, s) who was met, as far back as any newcomer waits to be enrolled.
        self._latest: list[tuple[float, int, int, np.ndarray]] = []
        self._waiting: dict[object, float] = {}
        self._settled: set[int] = set()  # own newcomers who have been compared and enrolled
        self._reserve, self._ready = reserve, deque[int]()
        self.others: set[int] = set()
        class_of = {person.number: person.class_id for person in gallery.people()}
        numbers, vectors = gallery.vectors()
        people, starts, counts = (each.tolist() for each in np.unique(numbers, return_index=True, return_counts=True))
        self.know(
            (number, class_of[number], a_few(vectors[start : start + count]))
            for number, start, count in zip(people, starts, counts, strict=True)
            if number in class_of
        )
        self._total = self.mean.sum(axis=0) if len(self) else np.zeros(gallery.model.dimension)
        self._counted = len(self)
        self.top_up()

    def new_identities(self, count: int) -> np.ndarray:
        """Numbers that no other run with this gallery gives, int [count]."""
        missing = count - len(self._ready)
        if missing > 0:
            self._ready.extend(self._gallery.new_numbers(missing))
        numbers = [self._ready.popleft() for _ in range(count)]
        self._own.update(numbers)
        return np.array(numbers, dtype=np.int64)

    def top_up(self) -> None:
        """Reserve numbers in place of those given. From any thread."""
        missing = self._reserve - len(self._ready)
        if missing > 0:
            self._ready.extend(self._gallery.new_numbers(missing))

    def close(self) -> None:
        """Return the unused numbers."""
        numbers, self._reserve = list(self._ready), 0
        self._ready.clear()
        if numbers:
            self._gallery.give_back(numbers)

    def meet(self, people: Sequence[Person]) -> dict[int, int | None]:
        """Learn who was enrolled, merged or forgotten by others. From any thread.

        Parameters
        ----------
        people : sequence of Person
            Everyone in the gallery.

        Returns
        -------
        dict of int to int or None
            Numbers that are gone: the number they are part of now, or None.
        """
        present = {person.number for person in people}
        gone = self._gallery.gone(sorted((self.known | self.lasting | self.others) - present))
        for number, became in gone.items():
            self.others.discard(number)
            self.lose(number) if became is None else self.merge(became, number)
        known, now = self._own | self.known | self.others, time.time()
        for person in people:
            if not person.views or person.number in known:
                continue
            with suppress(UserError):  # merged or forgotten meanwhile
                views = self._gallery.views(person.number)
                self.others.add(person.number)
                vectors = a_few(np.stack([view.vector for view in views]))
                self._met.append((person.number, person.class_id, vectors))
                self._latest.append((now, person.number, person.class_id, vectors))
                self._count(vectors)
        return gone

    def _count(self, vectors: np.ndarray) -> None:
        """Take a person's views [K, D] into the mean of everyone in the gallery."""
        self._total, self._counted = self._total + vectors.mean(axis=0), self._counted + 1

    def wait_since(self, who: object, since: float) -> None:
        """Note since when (Unix time, s) the oldest newcomer of a sink has been waiting to be enrolled."""
        self._waiting[who] = since
        oldest = min(self._waiting.values())
        self._latest = [each for each in self._latest if each[0] > oldest]

    def settle(self, sightings: Mapping[int, Sighting], same: Mapping[int, int]) -> None:
        """Note who has been enrolled, some of them as people whom another run had enrolled (``same``)."""
        for number in self._own & (sightings.keys() - self._settled - same.keys()):
            if sightings[number].views:
                self._count(np.stack([view.vector for view in sightings[number].views]))
        self._settled.update(sightings)

    def met_already(self, sightings: Mapping[int, Sighting], settings: TrackerSettings) -> dict[int, int]:
        """Find newcomers that another run has enrolled as well: neither could know of the other's.

        Newcomers of this run are compared with those met since they came, as the tracker compares newcomers with
        people known: at half the stated rate, since they have passed that comparison already.

        Parameters
        ----------
        sightings : mapping of int to Sighting
            By number, newcomers of this run and others.
        settings : TrackerSettings
            The stated rate.

        Returns
        -------
        dict of int to int
            The other run's number of a newcomer.
        """
        new = {
            number: each
            for number, each in sightings.items()
            if number in self._own - self._settled and len(each.views) >= NEWCOMER_CROPS
        }
        if not new or not self._latest or not settings.memory_seconds:
            return {}
        when, numbers, classes, views = zip(*self._latest, strict=True)
        fresh = np.stack([np.mean([view.vector for view in each.views], axis=0) for each in new.values()])
        met = np.stack([each.mean(axis=0) for each in views])
        told = self._gallery.model.calibration.get("all")
        statistics = CosineStatistics.read(dict(told)) if told else None
        common = common_part(self._total, self._counted, statistics.stranger_mean if statistics else 0.5)
        cosine = unit(fresh - common) @ unit(met - common).T
        possible = np.array([each.first_seen for each in new.values()])[:, None] < np.array(when)
        if not settings.class_agnostic:
            possible &= np.array([each.class_id for each in new.values()])[:, None] == np.array(classes)
        cosine[~possible] = -1.0
        asked = return_cosine(
            AT_ONCE * settings.return_false_match_rate, np.maximum(possible.sum(axis=1), 1), statistics
        )
        nearest = -np.sort(-np.pad(cosine, ((0, 0), (0, 1)), constant_values=-1.0), axis=1)[:, :2]
        clear = (nearest[:, 0] > asked) & (nearest[:, 0] - nearest[:, 1] >= RETURN_MARGIN)
        own, found = list(new), dict[int, int]()
        for row in np.flatnonzero(clear)[np.argsort(-nearest[clear, 0])]:
            known = numbers[int(cosine[row].argmax())]
            if known not in found.values():  # two newcomers cannot be one person
                found[own[row]] = known
        return found

    def absorb(self) -> None:
        """Take in what `meet` and others learned, in the tracker's thread."""
        while self._met:
            self.know([self._met.popleft()])
        super().absorb()


@dataclass
class _Tracklet:
    """What an unbroken piece of motion showed since the last saving; its identity may still change."""

    identity: int
    class_id: int
    began: float  # video's clock, s
    first_seen: float  # Unix time, s
    last_seen: float = 0.0
    last_look: float = -np.inf  # video's clock, s
    views: list[View] = field(default_factory=list)


class GallerySink:
    """Enrols everyone confirmed, with their best and most varied views; a sink of the pipeline.

    Parameters
    ----------
    gallery : Gallery
        Stays open.
    source : str
        Name of the video.
    settings : TrackerSettings
        What a good crop is, and how long a number may be taken back: only then is it saved.
    save_seconds : float
        A running video is saved so often, in one transaction: a kill loses what came since.
    memory : IdentityMemory, optional
        The trackers'; it never forgets who was enrolled.

    Attributes
    ----------
    recognised, new, unclear : set of int
        Numbers: of the gallery's people who were seen, of those enrolled, and of those never seen well enough for it.
    gone : dict of int to int or None
        People who were merged or forgotten, as `Gallery.gone` tells; of the last saving.
    merged : dict of int to int
        All of the run whose numbers are part of others now.
    """

    def __init__(
        self,
        gallery: Gallery,
        source: str,
        settings: TrackerSettings,
        save_seconds: float = 60.0,
        memory: IdentityMemory | None = None,
    ) -> None:
        self._gallery, self._source, self._settings, self._save_seconds = gallery, source, settings, save_seconds
        self._memory = memory
        self._tracklets: dict[int, _Tracklet] = {}
        self._saved = time.monotonic()
        self._now = 0.0
        self._lock = Lock()  # of the tracklets: `look` and `save` may be called from two threads
        self.recognised, self.new, self.unclear = set[int](), set[int](), set[int]()
        self.gone: dict[int, int | None] = {}
        self.merged = dict[int, int]()
        people = gallery.people()
        self._known = {person.number for person in people}
        self._names = {person.number: person.name for person in people if person.name}

    def name(self, number: int) -> str:
        """What the gallery calls someone; empty without a name."""
        return self._names.get(number, "")

    def label(self, number: int) -> str:
        """What stands at someone's box: the number, and the name where there is one."""
        return f"#{number} {self.name(number)}".rstrip()

    def summary(self) -> str:
        """One sentence for the user."""
        unclear = f", {len(self.unclear)} not seen well enough for it" if self.unclear else ""
        return f"Gallery: {len(self.recognised)} recognised, {len(self.new)} new{unclear}."

    def write(self, result: FrameResult) -> None:
        """Look at everyone who is due, and save from time to time."""
        self.look(result)
        if self.is_due():
            self.save()

    def is_due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved >= self._save_seconds

    def look(self, result: FrameResult) -> None:
        """Look at everyone who is due."""
        with self._lock:
            tracks, self._now = result.tracks, result.frame.timestamp
            if len(tracks):
                looked_at = self._note(result)
                if looked_at.size:
                    self._look(result, looked_at)
            if len(self._tracklets) > MOST_WAITING:  # nothing could be saved for long
                del self._tracklets[min(self._tracklets, key=lambda key: self._tracklets[key].last_seen)]

    def close(self) -> None:
        """Save everything."""
        self.save(everyone=True)

    def _note(self, result: FrameResult) -> np.ndarray:
        """Note who is there; the rows that are worth a look now."""
        tracks, settings, clock = result.tracks, self._settings, time.time()
        classes = np.zeros(len(tracks), int) if tracks.class_id is None else tracks.class_id
        confidence = np.ones(len(tracks)) if tracks.confidence is None else tracks.confidence
        due = np.zeros(len(tracks), dtype=bool)
        rows = zip(tracks.data["tracklet"].tolist(), tracks.tracker_id.tolist(), classes.tolist(), strict=True)
        for row, (tracklet, identity, class_id) in enumerate(rows):
            known = self._tracklets.get(tracklet)
            if known is None:
                known = self._tracklets[tracklet] = _Tracklet(identity, class_id, self._now, clock)
            known.identity, known.class_id, known.last_seen = identity, class_id, clock
            due[row] = self._now - known.last_look >= EVERY_SECONDS - 1e-6
        embedding = tracks.data.get("embedding")
        if embedding is None or result.frame.image is None:
            return np.zeros(0, dtype=int)
        good = (confidence >= settings.high_confidence) & ~np.isnan(embedding[:, 0])
        return np.flatnonzero(due & good & (coverage(tracks.xyxy) < MOST_COVERED))

    def _look(self, result: FrameResult, rows: np.ndarray) -> None:
        """Keep views of these rows."""
        tracks, image = result.tracks, result.frame.image
        assert image is not None
        covered = coverage(tracks.xyxy)
        boxes, is_inside = clip_boxes(tracks.xyxy[rows], image.shape[1], image.shape[0])
        for row, box in zip(rows[is_inside], boxes.round().astype(int), strict=True):
            left, top, right, bottom = box
            if min(right - left, bottom - top) < SMALLEST_CROP:
                continue
            picture = image[top:bottom, left:right]
            sure = 1.0 if tracks.confidence is None else float(tracks.confidence[row])
            tracklet = self._tracklets[int(tracks.data["tracklet"][row])]
            tracklet.last_look = self._now
            view = View(
                np.array(tracks.data["embedding"][row], np.float32),
                cv2.imencode(".jpg", picture)[1].tobytes(),
                self._source,
                self._now,
                sure * (1 - float(covered[row])) * picture_quality(picture),
            )
            tracklet.views = _choose([*tracklet.views, view])

    def save(self, everyone: bool = False) -> None:
        """Enrol those whose numbers are settled, or everyone, and drop what is over.

        Raises
        ------
        UserError
            If the gallery cannot be written; then what was to be saved waits for the next time.
        """
        enrolled, self.gone = self._known | self.new, {}
        with self._lock:
            settled = np.inf if everyone else self._now - self._settings.return_seconds
            taken = [(key, each, each.views) for key, each in self._tracklets.items() if each.began <= settled]
            seen = _sum_up(taken)
            waiting = min(
                (each.first_seen for each in self._tracklets.values() if each.identity not in enrolled),
                default=time.time(),
            )
            for _, each, _ in taken:
                each.views = []
        try:
            # A newcomer without a view could not be known.
            sightings = {number: each for number, each in seen.items() if each.views or number in enrolled}
            with self._gallery.alone():
                people, same = self._gallery.people(), dict[int, int]()
                if isinstance(self._memory, GalleryMemory):
                    self.gone = self._memory.meet(people)
                    self._memory.wait_since(self, waiting)
                    same = self._memory.met_already(sightings, self._settings)
                if sightings:
                    self._gallery.enrol(sightings)
                for number, known in same.items():
                    self._gallery.merge(known, number, for_good=True)
        except UserError:
            with self._lock:
                for _, each, views in taken:
                    each.views = _choose([*views, *each.views])
            raise
        finally:
            self._saved = time.monotonic()
        self._heed(sightings, same)
        self._count(seen, enrolled)
        self._names = {person.number: person.name for person in people if person.name}
        with self._lock:
            for key, each, _ in taken:
                if each.last_seen < time.time() - self._save_seconds and not each.views:
                    self._tracklets.pop(key, None)

    def _heed(self, sightings: Mapping[int, Sighting], same: Mapping[int, int]) -> None:
        """Take in who is enrolled now, and which newcomers another run had enrolled already."""
        self.gone |= same
        self.merged |= {number: became for number, became in self.gone.items() if became is not None}
        if self._memory is not None:
            self._memory.keep(sightings)
            for number, known in same.items():
                self._memory.merge(known, number)
        if isinstance(self._memory, GalleryMemory):
            self._memory.settle(sightings, same)
            self._known |= self._memory.others  # also those met by another camera's sink

    def _count(self, seen: Mapping[int, Sighting], enrolled: set[int]) -> None:
        """Count the people enrolled and recognised."""
        for given, sighting in seen.items():
            number = self.merged.get(given, given)
            if number in self._known:
                self.recognised.add(number)
            elif sighting.views:
                self.new.add(number)
                self.unclear.discard(number)
            elif number not in enrolled:
                self.unclear.add(number)
        self.new -= set(self.merged)


def _sum_up(tracklets: Iterable[tuple[int, _Tracklet, list[View]]]) -> dict[int, Sighting]:
    """What tracklets with these views tell of each number."""
    seen: dict[int, Sighting] = {}
    for _, each, own in tracklets:
        before = seen.get(each.identity)
        views = _choose([*(before.views if before else ()), *own])
        first = min(each.first_seen, before.first_seen) if before else each.first_seen
        last = max(each.last_seen, before.last_seen) if before else each.last_seen
        seen[each.identity] = Sighting(views, first, last, each.class_id)
    return seen


def picture_quality(picture: np.ndarray) -> float:
    """How much a crop (uint8 [h, w, 3]) can tell by size and sharpness, 0..1."""
    grey = cv2.cvtColor(resize_crop(picture, SHARPNESS_SIZE), cv2.COLOR_BGR2GRAY)
    sharpness = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    return picture.shape[0] / (picture.shape[0] + HALF_HEIGHT) * sharpness / (sharpness + HALF_SHARPNESS)


def _choose(views: list[View]) -> list[View]:
    if len(views) <= VIEWS:
        return views
    kept = choose_varied(np.stack([view.vector for view in views]), np.array([view.quality for view in views]))
    return [views[each] for each in kept]
