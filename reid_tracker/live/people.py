"""Who is in view and who was: visits, best crops, names, and the events that they make; bounded, for many threads."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import Any, Protocol

import cv2
import numpy as np
import supervision as sv

from reid_tracker.config import PeopleSettings
from reid_tracker.errors import UserError
from reid_tracker.gallery.store import clean_name
from reid_tracker.live.visits import Person, Visit, copy, joined, length
from reid_tracker.tracking.costs import MOST_COVERED, coverage
from reid_tracker.video.annotate import clip_boxes

VISITS = 50  # kept per person
CROP_HEIGHT = 192  # px
BETTER = 1.1  # a crop must be so much better than the one kept: else each frame would bring another
UNDO_SECONDS = 60.0  # for which a merge can be taken back; only then the gallery and the trackers learn of it
MOST_UNDONE = 20  # merges that wait for it


class Merges(Protocol):
    """Who learns of merges."""

    def merge(self, keep: int, other: int) -> None:
        """Make one person of two."""


class Names(Merges, Protocol):
    """Where names and merges are kept beyond the run."""

    def name(self, number: int, text: str) -> None:
        """Name a person."""


@dataclass
class _Merge:
    """A merge that can be taken back: both people as they were."""

    keep: Person
    other: Person
    name: str  # of the one kept, since
    moment: float  # s, by the machine's clock
    merged: dict[int, int]


class People:
    """Everyone of a run, by the number that is shown.

    Parameters
    ----------
    settings : PeopleSettings, optional
        Limits.
    settle_seconds : float
        Newcomers are announced when they have been there so long: most who turn out to be someone known do so before.
        Of those who do later, the event "corrected" tells.
    emit : callable, optional
        Called with each event, see `events.EventLog`.
    known : dict of int to str, optional
        People of the gallery, with their names: their first sight is a return.
    names : Names, optional
        Learns names and merges too.
    keeps_crops : bool
        False where no one may be shown.
    memory : Merges, optional
        The trackers', which then give the number that was kept.
    clock : callable
        Seconds, by the machine's clock.
    """

    def __init__(
        self,
        settings: PeopleSettings | None = None,
        settle_seconds: float = 1.0,
        emit: Callable[[dict[str, Any]], None] = lambda event: None,
        known: dict[int, str] | None = None,
        names: Names | None = None,
        keeps_crops: bool = True,
        memory: Merges | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings or PeopleSettings()
        self._settle_seconds = settle_seconds
        self._emit = emit
        self._known = known or {}
        self._names, self._memory, self._clock = names, memory, clock
        self._undo: list[_Merge] = []  # the oldest first
        self._keeps_crops = keeps_crops
        self._people: dict[int, Person] = {}
        self._merged: dict[int, int] = {}  # number: the one shown in its place
        self._here: set[int] = set()
        self._numbers: dict[tuple[str, int], int] = {}  # camera and tracklet in view: number
        self._lock = RLock()
        self.total = 0

    def see(self, camera: str, tracks: sv.Detections, now: float, image: np.ndarray | None = None) -> None:
        """Take in one frame's tracks; ``tracks.tracker_id`` is set to the numbers that are shown.

        Parameters
        ----------
        camera : str
            Its name.
        tracks : supervision.Detections
            As `Tracker.update` gives them.
        now : float
            Time of the frame, s.
        image : ndarray, uint8 [H, W, 3], optional
            The frame, for crops.
        """
        self.tick(now)
        if not len(tracks):
            return
        with self._lock:
            tracks.tracker_id = np.array([self.shown(number) for number in tracks.tracker_id.tolist()])
            people = []
            for number, tracklet in zip(tracks.tracker_id.tolist(), tracks.data["tracklet"].tolist(), strict=True):
                self._correct(camera, tracklet, number)
                people.append(self._visit(number, camera, now))
            if image is not None and self._keeps_crops:
                self._keep_crops(people, tracks, image)

    def passed(self, number: int, camera: str, moment: float, place: str, way: str) -> None:
        """Tell that someone who was seen passed a place at a moment, s, in or out (``way``)."""
        with self._lock:
            person = self._people.get(self.shown(number))
            if person is not None:
                self._announce(person)  # nothing is told of somebody unknown
                self._tell("passed", person, camera, moment, place=place, way=way)

    def tick(self, now: float) -> None:
        """End the visits of those who have left, and forget those for whom there is no room."""
        with self._lock:
            for person in [self._people[number] for number in self._here]:
                for visit in person.visits:
                    if visit.ongoing and now - visit.end > self._settings.left_seconds:
                        self._announce(person)
                        visit.ongoing = False
                        self._tell("left", person, visit.camera, visit.end, seconds=round(visit.end - visit.start, 2))
                if not any(visit.ongoing for visit in person.visits):
                    self._here.discard(person.number)
            while self._undo and max(now, self._clock()) - self._undo[0].moment > UNDO_SECONDS:
                self._settle(self._undo.pop(0))
            self._numbers = {key: number for key, number in self._numbers.items() if number in self._here}
            excess = len(self._people) - self._settings.most
            if excess > 0:
                kept = self._here | {each.keep.number for each in self._undo}
                gone = [each for each in self._people.values() if each.number not in kept]
                for person in sorted(gone, key=lambda each: each.last_seen)[:excess]:
                    del self._people[person.number]
                    self._merged = {old: new for old, new in self._merged.items() if new != person.number}

    def shown(self, number: int) -> int:
        """The number that stands for a number since the merges."""
        return self._merged.get(number, number)

    def label(self, number: int) -> str:
        """What stands at someone's box."""
        with self._lock:
            person = self._people.get(number)
            return person.name if person and person.name else f"#{number}"

    def rename(self, number: int, name: str) -> None:
        """Give a name; an empty one takes it away. Raises UserError if the number is unknown."""
        with self._lock:
            person = self._find(number)
            name = clean_name(name)
            if self._names is not None:
                self._names.name(person.number, name)
            person.name = name
            if name or number in self._known:
                self._known[person.number] = name  # survives the person's place here

    def merge(self, keep: int, other: int) -> None:
        """Make one person of two who are the same; raises UserError if there are no two.

        For `UNDO_SECONDS` that can be taken back.
        """
        with self._lock:
            kept, gone = self._find(keep), self._find(other)
            keep, other = kept.number, gone.number
            if kept is gone:
                raise UserError(f"person {keep}: cannot be merged with themselves; choose two people.")
            if gone.announced:
                self._announce(kept)  # whose number the events of both bear from now on
            before = copy(kept), copy(gone)
            merged = dict(self._merged)
            self._join(kept, gone)
            self._undo.append(_Merge(*before, kept.name, self._clock(), merged))
            if len(self._undo) > MOST_UNDONE:
                self._settle(self._undo.pop(0))

    def undo(self) -> None:
        """Take the last merge back; raises UserError if there is none of late.

        Where both were seen since, as one, it counts for the one kept.
        """
        with self._lock:
            if not self._undo:
                raise UserError(f"There is no merge of the last {UNDO_SECONDS:g} s that could be taken back.")
            merge = self._undo.pop()
            keep, other = merge.keep, merge.other
            since = self._people.pop(keep.number, None)
            if since is not None and since.name != merge.name:
                keep.name = since.name
            for person in (keep, other):
                self._people[person.number] = person
                self._here.discard(person.number)
                for visit in person.visits:
                    visits = since.visits if since is not None else []
                    now = next((each for each in visits if each.ongoing and each.camera == visit.camera), None)
                    if visit.ongoing and now is not None:
                        person.seconds += max(now.end - visit.end, 0.0)
                        visit.end = now.end
                    if visit.ongoing:
                        self._here.add(person.number)
            self._merged = {**self._merged, **merge.merged}
            self._merged.pop(other.number, None)
            # Which of the two each tracklet is, the next frame tells.
            self._numbers = {key: number for key, number in self._numbers.items() if number != keep.number}

    def last_merge(self) -> dict[str, Any] | None:
        """The merge that `undo` would take back: who was kept, who is part of them, and for how many s it can be."""
        with self._lock:
            if not self._undo:
                return None
            last = self._undo[-1]
            left = UNDO_SECONDS - (self._clock() - last.moment)
            return {"keep": last.keep.number, "other": last.other.number, "seconds": round(max(left, 0.0), 1)}

    def follow(self, gone: dict[int, int | None]) -> None:
        """Learn which numbers other programs merged in the gallery (into which) or made it forget (None)."""
        with self._lock:
            for number, became in gone.items():
                person = self._people.get(number)
                name = self._known.pop(number, "")
                if became is not None:
                    self._known.setdefault(became, name)
                    if person is not None:
                        self._join(self._people.setdefault(became, Person(became, self._known[became])), person)
                elif person is not None:
                    self._drop(person)
                    self._numbers = {key: each for key, each in self._numbers.items() if each != number}
                self._undo = [each for each in self._undo if number not in (each.keep.number, each.other.number)]

    def _join(self, kept: Person, gone: Person) -> None:
        """Make one person of two."""
        keep, other = kept.number, gone.number
        self._drop(gone)
        self._absorb(kept, gone)
        kept.name = kept.name or gone.name
        self._merged = {old: keep if new == other else new for old, new in self._merged.items()} | {other: keep}
        self._numbers = {key: keep if number == other else number for key, number in self._numbers.items()}

    def _settle(self, merge: _Merge) -> None:
        """Let the gallery and the trackers learn of a merge."""
        for each in (self._names, self._memory):
            if each is not None:
                each.merge(merge.keep.number, merge.other.number)

    def crop(self, number: int) -> bytes:
        """Someone's best crop as JPEG; empty if there is none."""
        with self._lock:
            person = self._people.get(self.shown(number))
            return person.crop if person else b""

    def describe(self, numbers: list[int] | None = None) -> list[dict[str, Any]]:
        """These people, or everyone who was seen, those in view first, as plain values; times in s since 1970."""
        past = time.time() - time.monotonic()
        with self._lock:
            seen = [self._people[number] for number in numbers or () if number in self._people]
            if numbers is None:
                seen = sorted((each for each in self._people.values() if each.visits), key=self._order)
            return [
                {
                    "person": person.number,
                    "name": person.name,
                    "cameras": [visit.camera for visit in person.visits if visit.ongoing],
                    "seconds": round(person.seconds, 1),
                    "crop": round(person.crop_score, 3),
                    "visits": [[v.camera, round(v.start + past, 2), round(v.end + past, 2)] for v in person.visits],
                }
                for person in seen
            ]

    def in_view(self) -> list[int]:
        """Numbers of the people in view, the lowest first."""
        with self._lock:
            return sorted(self._here)

    def _order(self, person: Person) -> tuple[bool, float]:
        return (False, person.number) if person.number in self._here else (True, -person.last_seen)

    def _find(self, number: int) -> Person:
        person = self._people.get(self.shown(number))
        if person is None:
            raise UserError(f"person {number}: nobody has this number; reload the page.")
        return person

    def _correct(self, camera: str, tracklet: int, number: int) -> None:
        """Follow the tracker where it takes a number back because the newcomer is someone known."""
        before = self.shown(self._numbers.get((camera, tracklet), number))
        self._numbers[camera, tracklet] = number
        mistaken = self._people.get(before)
        if before == number or mistaken is None:
            return
        self._drop(mistaken)
        self.total -= 1
        if number in self._people or mistaken.announced:
            known = self._visit(number, camera, mistaken.visits[0].start)
            if mistaken.announced:
                self._announce(known)
            self._absorb(known, mistaken)
            if mistaken.announced:
                self._merged = {old: number if new == before else new for old, new in self._merged.items()}
                self._merged[before] = number  # an open page may still ask for it
                if mistaken.name and not known.name:
                    self.rename(number, mistaken.name)
                self._tell("corrected", known, camera, mistaken.visits[0].start, was=before)

    def _visit(self, number: int, camera: str, now: float) -> Person:
        """Note that a camera sees someone."""
        person = self._people.get(number)
        if person is None:
            known = number in self._known
            person = self._people[number] = Person(number, self._known.get(number, ""), announced=known)
            self.total += 1
        visit = next((visit for visit in person.visits if visit.ongoing and visit.camera == camera), None)
        if visit is None:
            before = max(person.visits, key=lambda visit: visit.end, default=None)
            person.visits = [*person.visits, Visit(camera, now, now)][-VISITS:]
            self._here.add(number)
            if person.announced:
                away = {} if before is None else {"away": round(now - before.end, 2), "from": before.camera}
                self._tell("reidentified", person, camera, now, **away)
        else:
            others = (each.end for each in person.visits if each.ongoing)
            person.seconds += max(now - max(visit.end, *others), 0)  # two cameras at once are one time
            visit.end = max(now, visit.end)
            if not person.announced and now - person.visits[0].start >= self._settle_seconds:
                self._announce(person)
        return person

    def _drop(self, person: Person) -> None:
        del self._people[person.number]
        self._here.discard(person.number)

    def _absorb(self, person: Person, other: Person) -> None:
        both = person.visits + other.visits
        person.seconds += other.seconds + length(both) - length(person.visits) - length(other.visits)
        person.visits = joined(both)[-VISITS:]
        person.announced |= other.announced
        if any(visit.ongoing for visit in person.visits):
            self._here.add(person.number)
        if other.crop_score > person.crop_score:
            person.crop, person.crop_score = other.crop, other.crop_score

    def _announce(self, person: Person) -> None:
        if not person.announced:
            person.announced = True
            self._tell("appeared", person, person.visits[0].camera, person.visits[0].start)

    def _tell(self, kind: str, person: Person, camera: str, moment: float, **more: Any) -> None:
        seconds = moment + time.time() - time.monotonic()
        event = {"event": kind, "time": seconds, "person": person.number, "name": person.name, "camera": camera}
        self._emit({**event, **more})

    def _keep_crops(self, people: list[Person], tracks: sv.Detections, image: np.ndarray) -> None:
        boxes, is_inside = clip_boxes(tracks.xyxy, image.shape[1], image.shape[0])
        confidence = np.ones(len(tracks)) if tracks.confidence is None else tracks.confidence
        rows = np.flatnonzero(is_inside)
        if not len(rows):
            return
        whole = (boxes[:, 2:] - boxes[:, :2]).prod(1) / (tracks.xyxy[rows, 2:] - tracks.xyxy[rows, :2]).prod(1)
        score = confidence[rows] * whole * np.sqrt(boxes[:, 3] - boxes[:, 1])
        score[coverage(tracks.xyxy)[rows] > MOST_COVERED] = 0
        for row, box, value in zip(rows, boxes, score.tolist(), strict=True):
            person = people[row]
            if value > BETTER * person.crop_score:
                left, top, right, bottom = box.round().astype(int)
                picture = image[top:bottom, left:right]
                if not picture.size:
                    continue
                shrink = min(CROP_HEIGHT / picture.shape[0], 1.0)
                size = (max(round(shrink * picture.shape[1]), 1), max(round(shrink * picture.shape[0]), 1))
                small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                person.crop, person.crop_score = cv2.imencode(".jpg", small)[1].tobytes(), value
