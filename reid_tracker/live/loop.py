"""The loop: the newest frame of each camera, one detector and embedder for all, one memory of people."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event

import numpy as np
import supervision as sv

from reid_tracker.config import LiveConfig
from reid_tracker.detection.detector import Detector
from reid_tracker.live.capture import Camera
from reid_tracker.live.people import People
from reid_tracker.live.places import LivePlaces
from reid_tracker.pipeline.models import AppearanceModel
from reid_tracker.pipeline.vectors import attach_vectors, needs_vector
from reid_tracker.places.files import Places
from reid_tracker.tracking.bridge import Bridge
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.tracking.memory import IdentityMemory
from reid_tracker.tracking.tracker import Tracker
from reid_tracker.video.frames import Frame
from reid_tracker.video.sinks import FrameResult

RECENT = 50  # frames over which rates and delays are averaged
BLIND_SECONDS = 1.0  # without a frame, after which a camera's people are out of view


class Meter:
    """How a camera's frames get through.

    Attributes
    ----------
    frames : int
        Tracked so far.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._ends: deque[float] = deque(maxlen=RECENT)
        self._delays: deque[float] = deque(maxlen=RECENT)

    def add(self, end: float, arrived: float) -> None:
        """Count a frame that is done."""
        self.frames += 1
        self._ends.append(end)
        self._delays.append(end - arrived)

    def rate(self, now: float) -> float:
        """Frames per second of late; falls to nothing when none come."""
        ends = list(self._ends)
        return len(ends) / max(now - ends[0], 1e-3) if ends and now - ends[-1] < 5 else 0.0

    def delay(self) -> float:
        """Seconds from the arrival of a frame until it was done: the median of late."""
        delays = list(self._delays)  # at once: the page asks while the loop adds
        return float(np.median(delays)) if delays else 0.0


class LiveLoop:
    """Tracks what several cameras show at this moment.

    Parameters
    ----------
    cameras : sequence of Camera
    detector : Detector
        One that has ``detect_batch`` gets the frames of all cameras at once; one that has ``expect_shapes`` is told how
        many cameras there are, and one that has ``keep_up`` how many seconds a frame may take.
    embedder : AppearanceModel, optional
        Likewise with ``embed_batch``.
    config : LiveConfig
    people : People
        Learns who is there, and turns the tracker's numbers into those that are shown.
    put : callable
        Called with the camera's place, each result and the moment its frame arrived.
    statistics : CosineStatistics, optional
        Of the embedder.
    memory : IdentityMemory, optional
        People already known.
    clock : callable
        Seconds; that of the cameras.
    places : sequence of Places, optional
        Lines and zones of each camera, at which passages are counted.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        detector: Detector,
        embedder: AppearanceModel | None,
        config: LiveConfig,
        people: People,
        put: Callable[[int, FrameResult, float], None],
        statistics: CosineStatistics | None = None,
        memory: IdentityMemory | None = None,
        clock: Callable[[], float] = time.monotonic,
        places: Sequence[Places] | None = None,
    ) -> None:
        memory = IdentityMemory() if memory is None else memory
        self.cameras = cameras
        self.trackers = [Tracker(config.tracker, statistics=statistics, memory=memory) for _ in cameras]
        for tracker in self.trackers:
            tracker.knows_seconds = True  # a camera may be lost for long
        self.meters = [Meter() for _ in cameras]
        self._detector, self._embedder = detector, embedder
        if hasattr(detector, "expect_shapes"):
            detector.expect_shapes(len(cameras))
        if hasattr(detector, "keep_up") and config.capture.least_fps:
            detector.keep_up(1 / config.capture.least_fps / len(cameras))
        self._smooth = config.output.smooth_boxes
        self._bridge = Bridge(config.output.bridge_seconds, people.shown)
        self._refresh_seconds = config.embedder.refresh_seconds
        self._people, self._put, self._clock = people, put, clock
        drawn = places or [Places({}) for _ in cameras]
        self.places = [LivePlaces(each.name, own, people) for each, own in zip(cameras, drawn, strict=True)]

    def run(self, arrival: Event, stopping: Event, afterwards: Callable[[], None] = lambda: None) -> None:
        """Go on until told to stop, or until every source has ended; ``arrival`` wakes the loop for a round."""
        while not stopping.is_set():
            arrival.wait(0.2)
            arrival.clear()
            done = self.step()
            afterwards()
            if not done and all(camera.status == "ended" for camera in self.cameras):
                return

    def step(self) -> int:
        """Track the newest frame of each camera that has one; how many that were."""
        places, frames, arrivals = [], [], []
        for place, camera in enumerate(self.cameras):
            taken = camera.take()
            if taken is None:
                if self._clock() - (self.trackers[place].time or 0.0) > BLIND_SECONDS:
                    self.trackers[place].rest()
            else:
                places.append(place)
                frames.append(taken[0])
                arrivals.append(taken[1])
        if frames:
            found = self._detect(frames)
            self._describe([self.trackers[place] for place in places], frames, found)
        for place, frame, arrived, detections in zip(places, frames, arrivals, found if frames else [], strict=True):
            tracks = self.trackers[place].update(detections, frame.timestamp, frame.image)
            if self._smooth and len(tracks):
                tracks.xyxy = tracks.data["smooth_xyxy"]
            self._people.see(self.cameras[place].name, tracks, frame.timestamp, frame.image)
            counting = self.places[place]
            counting.update(tracks, frame.timestamp, frame.image)
            size = None if frame.image is None else frame.image.shape[1::-1]
            tracks = self._bridge(tracks, self.trackers[place], size)
            self.meters[place].add(self._clock(), arrived)
            counted = (counting.counts, counting.shapes, counting.dwell)
            self._put(place, FrameResult(frame, tracks, detections, *counted), arrived)
        self._people.tick(self._clock())
        return len(frames)

    def _detect(self, frames: list[Frame]) -> list[sv.Detections]:
        batch = getattr(self._detector, "detect_batch", None)
        return batch(frames) if batch else [self._detector.detect(frame) for frame in frames]

    def _describe(self, trackers: list[Tracker], frames: list[Frame], found: list[sv.Detections]) -> None:
        """Give the detections of all frames that need them their vectors; the others stay NaN."""
        if self._embedder is None or any("embedding" in each.data for each in found):
            return
        rows = [
            needs_vector(each, tracker, frame.timestamp, self._refresh_seconds)
            for each, tracker, frame in zip(found, trackers, frames, strict=True)
        ]
        images = [frame.image for frame in frames if frame.image is not None]
        boxes = [each.xyxy[some] for each, some in zip(found, rows, strict=True)]
        batch = getattr(self._embedder, "embed_batch", None)
        vectors = batch(images, boxes) if batch else list(map(self._embedder.embed, images, boxes))
        for each, some, part in zip(found, rows, vectors, strict=True):
            attach_vectors(each, some, part)
