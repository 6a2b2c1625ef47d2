"""What the files of recorded video say and show: a moment later it is known how somebody went on.

While a video is tracked, a box is smoothed by what came before, and who is missed is shown where expected. Files can
wait: boxes are smoothed from both sides, who was missed for a moment is on the straight line to where they were seen
again, newcomers are there from their first weak boxes on (`beginnings`), and whoever was recognised meanwhile has the
right number. Where the camera's motion is followed, all of that is done in the pixels of one frame: a box is not to be
smoothed against a picture that shakes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import supervision as sv

from reid_tracker.tracking import beginnings, kalman
from reid_tracker.tracking.bridge import add_missed, measured
from reid_tracker.tracking.camera_motion import zoom
from reid_tracker.tracking.smoothing import APART, FURTHEST, LAG, SIZE_WIDTHS, Jitter, lines_at
from reid_tracker.tracking.track_table import SETTLED
from reid_tracker.video.sinks import FrameResult, Sink

TICK = 1e-6  # s
MANY = 100  # tracklets from which those long gone are dropped
FURTHEST_ZOOM = 1e4  # between frames whose pixels are compared
PICTURE_BYTES = 600_000_000  # of pictures that wait at most: two seconds of 1080p at 40 frames a second


@dataclass(slots=True)
class _Moment:
    """One frame's measured and filled boxes (centre, size), by tracklet."""

    result: FrameResult
    view: np.ndarray  # [3, 3], from the pixels of some frame to this one's; the same object where the camera stands
    tracklet: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # [P]
    box: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))  # [P, 4]
    added: dict[int, sv.Detections] = field(default_factory=dict)  # who is not in the result, by tracklet

    @property
    def time(self) -> float:
        return self.result.frame.timestamp

    def identities(self) -> set[int]:
        numbers = self.result.tracks.tracker_id
        return set() if numbers is None else set(numbers.tolist())

    def add(self, tracklet: np.ndarray, box: np.ndarray) -> None:
        self.tracklet, self.box = np.append(self.tracklet, tracklet), np.concatenate([self.box, box])

    def add_later(self, who: sv.Detections, box: np.ndarray, confidence: float) -> None:
        """Add somebody as found later: their row of another frame, and their centre and size [4] here."""
        who = who[[0]]
        who.confidence = np.array([confidence])
        tracklet = who.data["tracklet"]
        self.add(tracklet, box[None])
        self.added[int(tracklet[0])] = who

    def seen_from(self, other: "_Moment", boxes: np.ndarray) -> np.ndarray:
        """Boxes (centre, size) [N, 4] of another frame, in the pixels of this one."""
        if self.view is other.view:
            return boxes
        change = self.view @ np.linalg.inv(other.view)
        centre = boxes[:, :2] @ change[:2, :2].T + change[:2, 2]
        return np.concatenate([centre, boxes[:, 2:] * zoom(change[:2])], axis=1)

    def seen(self) -> np.ndarray:
        """The tracklets [S] that were detected here, not added later."""
        return self.tracklet[~np.isin(self.tracklet, list(self.added))] if self.added else self.tracklet

    def nobodys(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes that were detected and are no one's, xyxy float32 [M, 4], and their confidences [M]."""
        found, tracks = self.result.detections, self.result.tracks
        left = beginnings.free(found.xyxy, np.concatenate([tracks.xyxy, corners(self.box)]))
        confidence = np.ones(len(found)) if found.confidence is None else found.confidence
        return found.xyxy[left], confidence[left]


class _Sighting(NamedTuple):
    """Somebody in a frame; the box is centre and size [4]."""

    moment: _Moment
    box: np.ndarray

    def seen_from(self, other: _Moment) -> np.ndarray:
        """The box in the pixels of another frame."""
        return other.seen_from(self.moment, self.box[None])[0]


def corners(centred: np.ndarray) -> np.ndarray:
    """Centres and sizes [N, 4] as corner boxes, xyxy float32 [N, 4]; a size is one pixel at least."""
    half = np.maximum(centred[:, 2:], 1) / 2
    return np.concatenate([centred[:, :2] - half, centred[:, :2] + half], axis=1).astype(np.float32)


class Settling:
    """Gives a sink each frame once the boxes around it are known.

    Parameters
    ----------
    sink : Sink
    fill_seconds : float
        Who is missed for no longer than this is written on the straight line between the boxes seen before and after.
    smooth : bool
        Whether boxes are smoothed.
    inside : callable, optional
        Tells, of boxes [N, 4], which may be added at all.
    lead_in_seconds : float
        How far back the beginnings of newcomers are looked for.
    pictures : bool
        Whether the sink needs the frames' pictures. Then frames wait for less long where `PICTURE_BYTES` would not hold
        them.
    """

    def __init__(
        self,
        sink: Sink,
        fill_seconds: float,
        smooth: bool = True,
        inside: Callable[[np.ndarray], np.ndarray] | None = None,
        lead_in_seconds: float = 0.0,
        pictures: bool = False,
    ) -> None:
        self._sink, self._fill, self._smooth, self._inside = sink, fill_seconds, smooth, inside
        self._lead_in, self._pictures = lead_in_seconds, pictures
        self._jitter, self._width = Jitter(), 0.0
        self._moments: deque[_Moment] = deque()  # those written within reach, then those that wait
        self._waiting = 0  # how many of them wait
        self._last: dict[int, _Sighting] = {}  # when and where each tracklet was last measured
        self._first: dict[int, list[_Sighting]] = {}  # the first sightings of newcomers
        self._number: dict[int, int] = {}  # that each tracklet has now

    def write(self, result: FrameResult) -> None:
        """Take in a frame, and write those that are settled."""
        image = result.frame.image if self._pictures else None
        moment = _Moment(replace(result, frame=replace(result.frame, image=image)), self._view_of(result))
        self._moments.append(moment)
        self._waiting += 1
        self._measure(moment)
        if self._smooth:
            step = (moment.time - self._moments[0].time) / max(len(self._moments) - 1, 1)
            self._width = self._jitter.width(step, result.motion_noise)
        self._write_until(moment.time - self._wait)
        while image is not None and self._waiting * image.nbytes > PICTURE_BYTES:
            self._write_next()

    def close(self) -> None:
        """Write the last frames, also where writing one fails, and close the sink."""
        failure: Exception | None = None
        for _ in range(self._waiting):
            try:
                self._write_next()
            except Exception as error:
                failure = failure or error
        self._moments.clear()
        self._waiting = 0
        self._sink.close()
        if failure is not None:
            raise failure

    @property
    def _reach(self) -> float:
        """How far boxes smooth one another, s."""
        return FURTHEST * SIZE_WIDTHS * self._width

    @property
    def _wait(self) -> float:
        """How long frames wait, s."""
        wait = self._reach + self._fill  # a box within reach may be filled in so late
        return max(wait, self._lead_in + SETTLED) if self._lead_in else wait

    def _view_of(self, result: FrameResult) -> np.ndarray:
        """Where the camera looks now, [3, 3]."""
        view = self._moments[-1].view if self._moments else np.eye(3)
        if result.moved is None:
            return view
        view = np.vstack([result.moved, [0, 0, 1]]) @ view
        if not 1 / FURTHEST_ZOOM < zoom(view[:2]) < FURTHEST_ZOOM:  # as when walking on for minutes: begin anew here
            anew, views = np.linalg.inv(view), {id(each.view): each.view for each in self._moments}
            views = {key: each @ anew for key, each in views.items()}
            for each in self._moments:
                each.view = views[id(each.view)]
            view = np.eye(3)
        return view

    def _measure(self, moment: _Moment) -> None:
        """Take in where everybody was seen, fill the gaps that end here, and look for the beginnings of newcomers."""
        tracks = measured(moment.result.tracks)
        if not len(tracks) or tracks.tracker_id is None or "tracklet" not in tracks.data:
            return
        boxes = kalman.measure(np.asarray(tracks.data.get("measured_xyxy", tracks.xyxy))).astype(float)
        moment.add(tracks.data["tracklet"], boxes)
        self._number.update(zip(tracks.data["tracklet"].tolist(), tracks.tracker_id.tolist(), strict=True))
        previous = self._moments[-2].time if len(self._moments) > 1 else -np.inf
        for row, tracklet in enumerate(tracks.data["tracklet"].tolist()):
            here = _Sighting(moment, boxes[row])
            if tracklet not in self._last and self._lead_in:
                self._first[tracklet] = []
            before = self._last.get(tracklet)
            self._last[tracklet] = here
            if before is not None and moment.time - self._fill - TICK <= before.moment.time < previous:
                self._fill_gap(tracks[[row]], before, here)
            if tracklet in self._first:
                self._first[tracklet].append(here)
                if moment.time - self._first[tracklet][0].moment.time >= SETTLED - TICK:
                    self._begin_earlier(tracks[[row]], self._first.pop(tracklet))

    def _unwritten(self) -> list[_Moment]:
        return list(self._moments)[-self._waiting :]

    def _fill_gap(self, who: sv.Detections, before: "_Sighting", after: "_Sighting") -> None:
        """Put somebody (a row of tracks) on the straight line between two sightings."""
        began, ended = before.moment.time, after.moment.time
        for each in self._unwritten():
            if began < each.time < ended:
                share = (each.time - began) / (ended - began)
                each.add_later(who, (1 - share) * before.seen_from(each) + share * after.seen_from(each), 0)

    def _begin_earlier(self, who: sv.Detections, first: list["_Sighting"]) -> None:
        """Add a newcomer (a row of tracks), known from the first sightings, to the frames before."""
        begin = first[0].moment
        earlier = list[tuple[_Moment, np.ndarray, np.ndarray]]()

        def before() -> Iterator[tuple[float, np.ndarray]]:
            for each in reversed(self._unwritten()):
                if each.time < begin.time:
                    if who.tracker_id[0] in each.identities():
                        return
                    earlier.append((each, *each.nobodys()))
                    yield each.time, corners(begin.seen_from(each, kalman.measure(earlier[-1][1])))

        times = np.array([each.moment.time for each in first])
        boxes = corners(np.stack([each.seen_from(begin) for each in first]))
        found = beginnings.sightings_before(times, boxes, before(), self._lead_in)
        after = first[0]
        for row, (moment, xyxy, confidence) in zip(found, earlier, strict=False):
            if row is not None:
                here = _Sighting(moment, kalman.measure(xyxy[row][None])[0])
                moment.add_later(who, here.box, confidence[row])
                if after.moment.time - moment.time <= self._fill + TICK:
                    self._fill_gap(who, here, after)
                after = here

    def _write_until(self, time: float) -> None:
        while self._waiting and self._moments[-self._waiting].time <= time + TICK:
            self._write_next()
        if len(self._last) > 2 * sum(len(each.tracklet) for each in self._moments) + MANY:
            recent = time - self._wait
            self._last = {tracklet: seen for tracklet, seen in self._last.items() if seen.moment.time >= recent}
            self._first = {tracklet: seen for tracklet, seen in self._first.items() if tracklet in self._last}
            self._number = {tracklet: number for tracklet, number in self._number.items() if tracklet in self._last}

    def _write_next(self) -> None:
        moment = self._moments[-self._waiting]
        if self._smooth:
            self._learn_jitter(moment)
        self._waiting -= 1  # before it is written: no frame is written twice
        self._sink.write(self._settled(moment))
        moment.result = replace(moment.result, frame=replace(moment.result.frame, image=None))
        while self._moments[0].time < moment.time - max(self._reach, APART) - TICK:
            self._moments.popleft()

    def _learn_jitter(self, moment: _Moment) -> None:
        """Compare a frame's boxes with those of the same people a little before and after."""
        earlier = list(self._moments)[: -self._waiting]
        before = next((each for each in reversed(earlier) if each.time <= moment.time - LAG + TICK), None)
        after = next((each for each in self._unwritten() if each.time >= moment.time + LAG - TICK), None)
        if before is None or after is None or after.time - before.time > APART:
            return
        in_all = np.intersect1d(np.intersect1d(before.seen(), moment.seen()), after.seen())
        boxes = np.empty((3, len(in_all), 4))
        for kept, each in zip(boxes, (before, moment, after), strict=True):
            order = np.argsort(each.tracklet)
            row = order[np.searchsorted(each.tracklet, in_all, sorter=order)]
            kept[:] = moment.seen_from(each, each.box[row])
        share = (moment.time - before.time) / (after.time - before.time)
        self._jitter.learn(boxes[:, :, :2], boxes[1, :, 3], share)

    def _settled(self, moment: _Moment) -> FrameResult:
        """The frame's result with settled boxes and the numbers known by now."""
        tracks = self._placed(moment) if len(moment.tracklet) else moment.result.tracks
        if tracks.tracker_id is None or "tracklet" not in tracks.data:
            return replace(moment.result, tracks=tracks)
        now = {
            number: self._number.get(tracklet, number)
            for tracklet, number in zip(tracks.data["tracklet"].tolist(), tracks.tracker_id.tolist(), strict=True)
        }
        return replace(moment.result, tracks=tracks).renumbered(lambda number: now.get(number, number))

    def _placed(self, moment: _Moment) -> sv.Detections:
        """The frame's tracks with settled boxes, and those added."""
        boxes = corners(self._smoothed(moment) if self._smooth else moment.box)
        place = dict(zip(moment.tracklet.tolist(), boxes, strict=True))
        tracks = moment.result.tracks
        settled = tracks.xyxy.copy()  # others have the original
        seen = np.ones(len(tracks), bool) if tracks.confidence is None else tracks.confidence > 0
        for row, tracklet in enumerate(np.asarray(tracks.data.get("tracklet", ())).tolist()):
            if tracklet in place and (self._smooth or not seen[row]):
                settled[row] = place[tracklet]
        tracks = replace(tracks, xyxy=settled)
        there = moment.identities()
        for tracklet, who in moment.added.items():
            box = place[tracklet][None]
            if who.tracker_id[0] not in there and (self._inside is None or self._inside(box)[0]):
                data = {name: who.data[name] for name in ("tracklet", "class_name") if name in who.data}
                added = sv.Detections(box, None, who.confidence, who.class_id, who.tracker_id, data)
                tracks = add_missed(tracks, added)
        if moment.added and tracks.confidence is not None:
            tracks = tracks[np.argsort(tracks.confidence == 0, kind="stable")]  # those that were seen first
        return tracks

    def _smoothed(self, moment: _Moment) -> np.ndarray:
        """A frame's boxes [P, 4], smoothed by those of the moments within reach."""
        near = [each for each in self._moments if abs(each.time - moment.time) <= self._reach + TICK]
        which = np.concatenate([each.tracklet for each in near])
        values = np.concatenate([moment.seen_from(each, each.box) for each in near])
        times = np.repeat([each.time for each in near], [len(each.tracklet) for each in near])
        order = np.argsort(moment.tracklet)
        path = order[np.searchsorted(moment.tracklet, which, sorter=order).clip(max=len(order) - 1)]
        here = moment.tracklet[path] == which
        path, times, values = path[here], times[here], values[here]
        smooth = np.empty_like(moment.box)
        for channels, width in ((slice(2), self._width), (slice(2, 4), SIZE_WIDTHS * self._width)):
            smooth[:, channels] = lines_at(
                moment.time, moment.box[:, channels], path, times, values[:, channels], width
            )
        return smooth
