"""A run and its gallery: whom the tracker knows beforehand, and what the gallery learns of everyone seen."""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import cv2
import numpy as np

from reid_tracker.appearance.crops import resize_crop
from reid_tracker.config import TrackerSettings
from reid_tracker.errors import UserError
from reid_tracker.gallery.store import Gallery, Person, Sighting, View
from reid_tracker.gallery.views import choose_varied
from reid_tracker.tracking.costs import coverage
from reid_tracker.tracking.memory import VIEWS, IdentityMemory
from reid_tracker.video.annotate import clip_boxes
from reid_tracker.video.sinks import SMALLEST_CROP, FrameResult

EVERY_SECONDS = 0.5  # between two looks at one person, by the video's clock
# Sizes at which quality is half of what it can be: px of height, and variance of the Laplacian at SHARPNESS_SIZE.
HALF_HEIGHT, HALF_SHARPNESS, SHARPNESS_SIZE = 96.0, 100.0, (128, 64)


class GalleryMemory(IdentityMemory):
    """A tracker's memory that knows everyone of a gallery and takes new numbers from there.

    Attributes
    ----------
    others : set of int
        Numbers of those whom other runs have enrolled since it began (`meet`).
    """

    def __init__(self, gallery: Gallery) -> None:
        super().__init__()
        self._gallery = gallery
        self._own: set[int] = set()
        self._met: deque[tuple[int, int, np.ndarray]] = deque()
        self.others: set[int] = set()
        class_of = {person.number: person.class_id for person in gallery.people()}
        numbers, vectors = gallery.vectors()
        people, starts, counts = (each.tolist() for each in np.unique(numbers, return_index=True, return_counts=True))
        self.know(
            (number, class_of[number], vectors[start : start + count])
            for number, start, count in zip(people, starts, counts, strict=True)
            if number in class_of
        )

    def new_identities(self, count: int) -> np.ndarray:
        """Numbers that no other run with this gallery gives, int [count]."""
        numbers = self._gallery.new_numbers(count) if count else []
        self._own.update(numbers)
        return np.array(numbers, dtype=np.int64)

    def meet(self, people: Sequence[Person]) -> None:
        """Get to know those of the gallery's people whom another run has enrolled. From any thread."""
        known = self._own | self.known | self.others
        for person in people:
            if not person.views or person.number in known:
                continue
            with suppress(UserError):  # merged or forgotten meanwhile
                views = self._gallery.views(person.number)
                self.others.add(person.number)
                self._met.append((person.number, person.class_id, np.stack([view.vector for view in views])))

    def absorb(self) -> None:
        """Take in those of `meet`, in the tracker's thread."""
        while self._met:
            self.know([self._met.popleft()])


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
        self.recognised, self.new, self.unclear = set[int](), set[int](), set[int]()
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
        tracks, self._now = result.tracks, result.frame.timestamp
        if len(tracks):
            looked_at = self._note(result)
            if looked_at.size:
                self._look(result, looked_at)
        if time.monotonic() - self._saved >= self._save_seconds:
            self._save(self._now - self._settings.return_seconds)

    def close(self) -> None:
        """Save everything."""
        self._save(np.inf)

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
        return np.flatnonzero(due & good & (coverage(tracks.xyxy) < settings.occlusion))

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

    def _save(self, settled: float) -> None:
        """Enrol everyone whose tracklet began before a time of the video, and drop what is over."""
        sightings: dict[int, Sighting] = {}
        for key, each in list(self._tracklets.items()):
            if each.began > settled:
                continue
            before = sightings.get(each.identity)
            views = _choose([*(before.views if before else ()), *each.views])
            first = min(each.first_seen, before.first_seen) if before else each.first_seen
            last = max(each.last_seen, before.last_seen) if before else each.last_seen
            sightings[each.identity] = Sighting(views, first, last, each.class_id)
            each.views = []
            if each.last_seen < time.time() - self._save_seconds:
                del self._tracklets[key]
        enrolled = self._known | self.new
        sightings = {number: each for number, each in sightings.items() if self._tell(number, each, enrolled)}
        if sightings:
            self._gallery.enrol(sightings)
            if self._memory is not None:
                self._memory.keep(sightings)
        people = self._gallery.people()
        if isinstance(self._memory, GalleryMemory):
            self._memory.meet(people)
            self._known |= self._memory.others  # also those whom another camera's sink has met
        self._names = {person.number: person.name for person in people if person.name}
        self._saved = time.monotonic()

    def _tell(self, number: int, sighting: Sighting, enrolled: set[int]) -> bool:
        """Count someone; whether there is anything for the gallery: a newcomer without a view could not be known."""
        if number in self._known:
            self.recognised.add(number)
        elif sighting.views:
            self.new.add(number)
            self.unclear.discard(number)
        elif number not in enrolled:
            self.unclear.add(number)
        return bool(sighting.views) or number in enrolled


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
