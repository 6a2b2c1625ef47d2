"""What a report is made of: where everyone was and when, their best pictures, and who entered which place."""

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate

import cv2
import numpy as np
import supervision as sv

from reid_tracker.counting import MISSING_SECONDS, PassageCounter
from reid_tracker.exchange.tracks import Tracks
from reid_tracker.review.doubts import Doubt, Timeline, find_doubts
from reid_tracker.tracking import costs
from reid_tracker.tracking.bridge import measured
from reid_tracker.video.sinks import SMALLEST_CROP, FrameResult
from reid_tracker.writing import csv_table

# Where someone is, is kept so often, s, in the log of a tracklet.
EVERY_SECONDS = 0.2
PICTURE_HEIGHT = 160  # px, of the best picture of each person
BETTER = 1.15  # a picture takes another's place from so many times its worth on
TALL_ENOUGH = 200.0  # px; more of a person says no more
STILL_WIDTH = 960  # px
# Decisions listed in a report: from these odds on, and at most this many.
WORTH_A_LOOK, MOST_DOUBTS = 0.5, 20


@dataclass(slots=True)
class _Trail:
    """Samples of one tracklet: the moment's number, seconds, boxes (x1, y1, x2, y2 in turn, px); its best picture."""

    moment: array = field(default_factory=lambda: array("l"))
    seconds: array = field(default_factory=lambda: array("d"))
    boxes: array = field(default_factory=lambda: array("f"))
    seen: float = 0.0  # s, in which it was detected
    last: float = -np.inf  # when it was last seen
    worth: float = 0.0
    picture: bytes | None = None

    def stretches(self) -> list[tuple[float, float]]:
        """When it was in view, from and to: motion may be followed through a longer time out of sight."""
        seconds = np.array(self.seconds)
        breaks = np.flatnonzero(np.diff(seconds) > MISSING_SECONDS)
        starts, ends = [*seconds[[0, *(breaks + 1)]].tolist()], [*seconds[breaks].tolist(), self.last]
        return list(zip(starts, ends, strict=True))


@dataclass(frozen=True, slots=True)
class Visit:
    """A person at a place: the picture (""), a zone, or a line (then ``entered`` is when it was crossed)."""

    number: int
    place: str
    entered: float
    left: float
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """A person in a video.

    Attributes
    ----------
    number : int
    name : str
    first, last : float
        When first and last seen, s.
    seconds : float
        How long in view: the time during which the detector saw the person.
    visits : int
        Stretches in the picture that lie `MISSING_SECONDS` or more apart.
    places : list of str
        Zones entered and lines crossed.
    picture : bytes or None
        The best crop, JPEG.
    """

    number: int
    name: str
    first: float
    last: float
    seconds: float
    visits: int
    places: list[str]
    picture: bytes | None


class VisitLog:
    """Follows a run as a `Sink`; afterwards it tells who was where.

    Parameters
    ----------
    counter : PassageCounter, optional
        Whose zones and lines are the places.
    name_of : callable, optional
        Names by number.
    began : datetime, optional
        When the video began, by the clock on the wall.
    pictures : bool
        Whether to keep any.

    Attributes
    ----------
    still : ndarray or None
        The first picture, at most `STILL_WIDTH` px wide.
    scale : float
        Its size as a share of the video's.
    end : float
        When the last frame was, s.
    """

    def __init__(
        self,
        counter: PassageCounter | None = None,
        name_of: Callable[[int], str] = lambda _: "",
        began: datetime | None = None,
        pictures: bool = True,
    ) -> None:
        self.counter, self.name_of, self.began, self._pictures = counter, name_of, began, pictures
        self._trails: defaultdict[int, _Trail] = defaultdict(_Trail)
        self._identity: dict[int, int] = {}
        self._moment, self._sampled = 1, -np.inf
        self._doubts: list[Doubt] | None = None  # until the next frame
        self.still: np.ndarray | None = None
        self.end, self.scale = 0.0, 1.0

    def write(self, result: FrameResult) -> None:
        """Take in one frame."""
        now, image = result.frame.timestamp, result.frame.image if self._pictures else None
        step, self.end, self._doubts = now - self.end, now, None
        if self.still is None and image is not None:
            self.scale = min(STILL_WIDTH / image.shape[1], 1.0)
            self.still = cv2.resize(image, None, fx=self.scale, fy=self.scale, interpolation=cv2.INTER_AREA)
        tracks = measured(result.tracks)
        if not len(tracks):
            return
        self._identity.update(zip(tracks.data["tracklet"].tolist(), tracks.tracker_id.tolist(), strict=True))
        trails = [self._trails[tracklet] for tracklet in tracks.data["tracklet"].tolist()]
        due = now - self._sampled >= EVERY_SECONDS - 1e-6  # everyone in one frame: they may cross
        if due:
            self._moment, self._sampled = self._moment + 1, now
        for trail, box in zip(trails, tracks.xyxy.tolist(), strict=True):
            trail.seen += min(step, MISSING_SECONDS) if trail.seconds else 0.0
            trail.last = now
            if due or not trail.seconds:
                trail.moment.append(self._moment)
                trail.seconds.append(now)
                trail.boxes.extend(box)
        if image is not None:
            self._look(trails, image, tracks)

    def _look(self, trails: list[_Trail], image: np.ndarray, tracks: sv.Detections) -> None:
        """Keep the crops that show a person better than those before: large, uncovered, surely seen, whole."""
        size = np.maximum(tracks.xyxy[:, 2:] - tracks.xyxy[:, :2], 1)
        low, high = np.zeros(4), np.array([image.shape[1], image.shape[0]] * 2)
        inside = np.clip(tracks.xyxy, low, high).round().astype(int)
        shown = inside[:, 2:] - inside[:, :2]
        worth = (1 - costs.coverage(tracks.xyxy)) ** 2 * np.prod(np.clip(shown / size, 0, 1), axis=1)
        worth *= np.minimum(size[:, 1] / TALL_ENOUGH, 1) * (1 if tracks.confidence is None else tracks.confidence)
        better = worth > BETTER * np.array([trail.worth for trail in trails])
        for row in np.flatnonzero(better & (shown.min(axis=1) >= SMALLEST_CROP)):
            left, top, right, bottom = inside[row]
            crop = image[top:bottom, left:right]
            scale = min(PICTURE_HEIGHT / crop.shape[0], 1.0)
            crop = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            trails[row].worth = float(worth[row])
            trails[row].picture = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()

    def close(self) -> None:
        """Nothing is left to do."""

    def paths(self) -> dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        """The stretches in view of each person, by number: seconds, x and y of the feet in pixels of the still, [K]."""
        found: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = defaultdict(list)
        for tracklet, trail in self._trails.items():
            boxes = np.array(trail.boxes).reshape(-1, 4) * self.scale
            columns = np.array([trail.seconds, boxes[:, [0, 2]].mean(axis=1), boxes[:, 3]])
            breaks = np.flatnonzero(np.diff(columns[0]) > MISSING_SECONDS) + 1  # no straight line across an absence
            found[self._identity[tracklet]] += [(one[0], one[1], one[2]) for one in np.split(columns, breaks, axis=1)]
        return {number: sorted(found[number], key=lambda stretch: stretch[0][0]) for number in sorted(found)}

    def doubts(self) -> list[Doubt]:
        """The decisions that are most likely wrong, and so likely that they are worth a look, the likeliest first."""
        if self._doubts is None:
            self._doubts = self._find_doubts()
        return self._doubts

    def _find_doubts(self) -> list[Doubt]:
        rows = []
        for tracklet, trail in self._trails.items():
            who = self._identity[tracklet]
            boxes = np.array(trail.boxes).reshape(-1, 4).tolist()
            for moment, seconds, box in zip(trail.moment, trail.seconds, boxes, strict=True):
                rows.append((moment, who, *box, 1.0, None, seconds, tracklet))
        if not rows:
            return []
        found = find_doubts(Timeline(Tracks.from_rows(rows, "here"), 1 / EVERY_SECONDS))
        return [each for each in found if each.odds >= WORTH_A_LOOK][:MOST_DOUBTS]

    def visits(self) -> list[Visit]:
        """Every visit to the picture and to each place, in the order of time."""
        found = []
        presence: dict[int, list[list[float]]] = defaultdict(list)
        ends = sorted(
            (first, last, self._identity[tracklet])
            for tracklet, trail in self._trails.items()
            for first, last in trail.stretches()
        )
        for first, last, number in ends:
            stays = presence[number]
            if stays and first - stays[-1][1] <= MISSING_SECONDS:
                stays[-1][1] = max(stays[-1][1], last)
            else:
                stays.append([first, last])
        for number, stays in presence.items():
            found += [Visit(number, "", first, last) for first, last in stays]
        if self.counter is not None:
            found += self._at_places()
        return sorted(found, key=lambda visit: (visit.entered, visit.number, visit.place))

    def _at_places(self) -> list[Visit]:
        """Visits to zones, and crossings of lines; who is out of sight has left the zone as well."""
        assert self.counter is not None
        found = []
        since: dict[tuple[int, str], float] = {}

        def leave(tracklet: int, place: str, seconds: float) -> None:
            entered = since.pop((tracklet, place))
            found.append(Visit(self._identity[tracklet], place, entered, max(seconds, entered)))

        for seconds, tracklet, place, way in self.counter.passages:
            if tracklet not in self._identity:
                continue  # of a video before this one
            if len(self.counter.shapes[place]) == 2:
                found.append(Visit(self._identity[tracklet], place, seconds, seconds, way))
                continue
            if (tracklet, place) in since:
                # In once more without having left: out of sight meanwhile, since the last time it was seen before.
                before = self._trails[tracklet].seconds
                leave(
                    tracklet,
                    place,
                    seconds if way == "out" else before[bisect_left(before, seconds - MISSING_SECONDS) - 1],
                )
            if way == "in":
                since[tracklet, place] = seconds
        for tracklet, place in list(since):
            leave(tracklet, place, self._trails[tracklet].last)
        return found

    def queues(self, visits: Sequence[Visit]) -> dict[str, tuple[float, int]]:
        """How many people are in each zone at a time: the mean over the video's time, and the most."""
        assert self.counter is not None
        told = {}
        for place, points in self.counter.shapes.items():
            stays = [each for each in visits if each.place == place]
            if len(points) == 2:
                continue
            # Of those who come in the moment another leaves, the one who leaves is first.
            steps = sorted([(each.left, -1) for each in stays] + [(each.entered, 1) for each in stays])
            length = sum(each.left - each.entered for each in stays)
            most = max(accumulate((step for _, step in steps), initial=0))
            told[place] = length / max(self.end, 1e-9), most
        return told

    def people(self) -> list[Person]:
        """Everyone, by number."""
        visits: dict[int, list[Visit]] = defaultdict(list)
        for visit in self.visits():
            visits[visit.number].append(visit)
        trails: dict[int, list[_Trail]] = defaultdict(list)
        for tracklet, trail in self._trails.items():
            trails[self._identity[tracklet]].append(trail)
        found = []
        for number in sorted(trails):
            own = trails[number]
            stays = [visit for visit in visits[number] if not visit.place]
            best = max(own, key=lambda trail: trail.worth)
            found.append(
                Person(
                    number,
                    self.name_of(number),
                    min(visit.entered for visit in stays),
                    max(visit.left for visit in stays),
                    sum(trail.seen for trail in own),
                    len(stays),
                    sorted({visit.place for visit in visits[number] if visit.place}),
                    best.picture,
                )
            )
        return found

    def people_table(self) -> bytes:
        """``<name>_people.csv``."""
        rows = []
        doubtful = Counter(number for each in self.doubts() for number in {each.identity, each.other})
        for each in self.people():
            moments = [f"{value:.2f}" for value in (each.first, each.last, each.seconds)]
            at = self._at(each.first), self._at(each.last)
            about = each.visits, "; ".join(each.places), doubtful[each.number]
            rows.append([each.number, each.name, *moments, *about, *at])
        columns = ("number", "name", "first_seen_s", "last_seen_s", "in_view_s", "visits", "places", "doubts")
        return csv_table((*columns, "first_seen_at", "last_seen_at"), rows)

    def _at(self, seconds: float) -> str:
        """A moment by the clock on the wall, empty where that is not known, or beyond the calendar."""
        with suppress(OverflowError):
            return (self.began + timedelta(seconds=seconds)).isoformat(" ", "seconds") if self.began else ""
        return ""

    def visits_table(self) -> bytes:
        """``<name>_visits.csv``."""
        rows = []
        for each in self.visits():
            dwell = "" if each.direction else f"{each.left - each.entered:.2f}"
            moments = f"{each.entered:.2f}", f"{each.left:.2f}"
            at = self._at(each.entered), self._at(each.left)
            rows.append([each.number, self.name_of(each.number), each.place, *moments, dwell, each.direction, *at])
        columns = ("number", "name", "place", "entered_s", "left_s", "dwell_s", "direction")
        return csv_table((*columns, "entered_at", "left_at"), rows)
