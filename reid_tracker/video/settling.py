"""Boxes in the files of recorded video: a moment later it is known how somebody went on.

While a video is tracked, a box is smoothed by what came before, and who is missed is shown where expected. Files can
wait: boxes are smoothed from both sides, and who was missed for a moment is on the straight line to where they were
seen again.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import supervision as sv

from reid_tracker.tracking import kalman
from reid_tracker.tracking.bridge import add_missed, measured
from reid_tracker.tracking.smoothing import FURTHEST, PLACE_SECONDS, SIZE_SMOOTHING, lines_at
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult, Sink

TICK = 1e-6  # s
MANY = 100  # tracklets from which those long gone are dropped


@dataclass(slots=True)
class _Moment:
    """One frame's measured and filled boxes (centre, size), by tracklet."""

    result: FrameResult
    tracklet: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # [P]
    box: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))  # [P, 4]
    missed: dict[int, sv.Detections] = field(default_factory=dict)  # by tracklet, as they were seen again

    @property
    def time(self) -> float:
        return self.result.frame.timestamp

    def add(self, tracklet: np.ndarray, box: np.ndarray) -> None:
        self.tracklet, self.box = np.append(self.tracklet, tracklet), np.concatenate([self.box, box])


class Settling:
    """Gives a sink each frame once the boxes around it are known.

    Parameters
    ----------
    sink : Sink
        One that needs no pictures.
    fill_seconds : float
        Who is missed for no longer than this is written on the straight line between the boxes seen before and after.
    smooth : bool
        Whether boxes are smoothed.
    inside : callable, optional
        Tells, of boxes [N, 4], which may be added at all.
    """

    def __init__(
        self,
        sink: Sink,
        fill_seconds: float,
        smooth: bool = True,
        inside: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._sink, self._fill, self._smooth, self._inside = sink, fill_seconds, smooth, inside
        self._reach = FURTHEST * PLACE_SECONDS * SIZE_SMOOTHING if smooth else 0.0
        self._wait = self._reach + fill_seconds  # a box within reach may be filled in so late
        self._moments: deque[_Moment] = deque()  # those written within reach, then those that wait
        self._waiting = 0  # how many of them wait
        self._last: dict[int, tuple[float, np.ndarray]] = {}  # when and where each tracklet was last measured

    @property
    def last_frame(self) -> int:
        """Number from 1 of the last frame that the file holds."""
        return getattr(self._sink, "last_frame", 0)

    def write(self, result: FrameResult) -> None:
        """Take in a frame, and write those that are settled."""
        frame = Frame(None, result.frame.index, result.frame.timestamp)
        moment = _Moment(replace(result, frame=frame))
        self._moments.append(moment)
        self._waiting += 1
        self._measure(moment)
        self._write_until(moment.time - self._wait)

    def close(self) -> None:
        """Write the last frames and close the sink, also where writing has failed before."""
        try:
            self._write_until(np.inf)
        finally:
            self._sink.close()

    def _measure(self, moment: _Moment) -> None:
        """Take in where everybody was seen, and fill the gaps that end here."""
        tracks = measured(moment.result.tracks)
        if not len(tracks) or tracks.tracker_id is None or "tracklet" not in tracks.data:
            return
        boxes = kalman.measure(np.asarray(tracks.data.get("measured_xyxy", tracks.xyxy))).astype(float)
        moment.add(tracks.data["tracklet"], boxes)
        previous = self._moments[-2].time if len(self._moments) > 1 else -np.inf
        for row, tracklet in enumerate(tracks.data["tracklet"].tolist()):
            before, box = self._last.get(tracklet, (-np.inf, boxes[row]))
            self._last[tracklet] = moment.time, boxes[row]
            if moment.time - self._fill - TICK <= before < previous:
                who = tracks[[row]]
                for each in list(self._moments)[-self._waiting : -1]:
                    if each.time > before:
                        share = (each.time - before) / (moment.time - before)
                        each.add(np.array([tracklet]), ((1 - share) * box + share * boxes[row])[None])
                        each.missed[tracklet] = who

    def _write_until(self, time: float) -> None:
        while self._waiting and self._moments[-self._waiting].time <= time + TICK:
            moment = self._moments[-self._waiting]
            self._waiting -= 1  # before it is written: a sink that fails is not given the next one
            try:
                self._sink.write(self._settled(moment))
            except BaseException:
                self._waiting = 0
                raise
            while self._moments[0].time < moment.time - self._reach - TICK:
                self._moments.popleft()
        if not self._waiting and not np.isfinite(time):
            self._moments.clear()
        if len(self._last) > 2 * sum(len(each.tracklet) for each in self._moments) + MANY:
            self._last = {tracklet: seen for tracklet, seen in self._last.items() if seen[0] >= time - self._wait}

    def _settled(self, moment: _Moment) -> FrameResult:
        """The frame's result with settled boxes."""
        if not len(moment.tracklet):
            return moment.result
        boxes = self._smoothed(moment) if self._smooth else moment.box
        half = np.maximum(boxes[:, 2:], 1) / 2
        xyxy = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1).astype(np.float32)
        place = dict(zip(moment.tracklet.tolist(), xyxy, strict=True))
        tracks = moment.result.tracks
        settled = tracks.xyxy.copy()  # others have the original
        seen = np.ones(len(tracks), bool) if tracks.confidence is None else tracks.confidence > 0
        for row, tracklet in enumerate(np.asarray(tracks.data.get("tracklet", ())).tolist()):
            if tracklet in place and (self._smooth or not seen[row]):
                settled[row] = place[tracklet]
        tracks = replace(tracks, xyxy=settled)
        there = set() if tracks.tracker_id is None else set(tracks.tracker_id.tolist())
        for tracklet, who in moment.missed.items():
            box = place[tracklet][None]
            if who.tracker_id[0] not in there and (self._inside is None or self._inside(box)[0]):
                data = {name: who.data[name] for name in ("tracklet", "class_name") if name in who.data}
                tracks = add_missed(tracks, sv.Detections(box, None, None, who.class_id, who.tracker_id, data))
        return replace(moment.result, tracks=tracks)

    def _smoothed(self, moment: _Moment) -> np.ndarray:
        """A frame's boxes [P, 4], smoothed by those of the moments within reach."""
        near = [each for each in self._moments if abs(each.time - moment.time) <= self._reach + TICK]
        which, values = (np.concatenate(each) for each in zip(*((m.tracklet, m.box) for m in near), strict=True))
        times = np.repeat([each.time for each in near], [len(each.tracklet) for each in near])
        order = np.argsort(moment.tracklet)
        path = order[np.searchsorted(moment.tracklet, which, sorter=order).clip(max=len(order) - 1)]
        here = moment.tracklet[path] == which
        path, times, values = path[here], times[here], values[here]
        smooth = np.empty_like(moment.box)
        for channels, width in ((slice(2), PLACE_SECONDS), (slice(2, 4), SIZE_SMOOTHING * PLACE_SECONDS)):
            smooth[:, channels] = lines_at(
                moment.time, moment.box[:, channels], path, times, values[:, channels], width
            )
        return smooth
