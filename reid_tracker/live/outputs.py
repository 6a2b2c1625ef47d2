"""What is made of the results: each is drawn once, in a thread of its own, then recorded and shown."""

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Condition, Thread

import numpy as np

from reid_tracker.config import LiveOutputSettings
from reid_tracker.errors import UserError
from reid_tracker.live.gallery import LiveGallery
from reid_tracker.ownership import create_new
from reid_tracker.video.annotate import Annotator
from reid_tracker.video.sinks import FrameResult
from reid_tracker.video.video_sink import VideoSink

logger = logging.getLogger(__name__)

WAITING = 2  # results of a camera that may wait to be drawn
Show = Callable[[int, np.ndarray, float], None]


class Outputs:
    """Draws results and hands them on; what it is too slow for is skipped, so that nothing waits for it.

    Parameters
    ----------
    cameras : sequence of str
        Their names.
    settings : LiveOutputSettings
        What to draw and to record.
    label : callable
        What stands at an identity's box.
    show : sequence of callable
        Called with the camera's place, the picture (uint8 [H, W, 3], BGR) and the moment its frame arrived.
    gallery : LiveGallery, optional
        Learns who was seen.

    Attributes
    ----------
    skipped, failed : int
        Results left out, and those that something was wrong with.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        settings: LiveOutputSettings,
        label: Callable[[int], str],
        show: Sequence[Show],
        gallery: LiveGallery | None = None,
    ) -> None:
        self._annotators = [Annotator(settings.trail_seconds, settings.blur_people, label=label) for _ in cameras]
        self._recorders = [Recorder(settings, name) for name in cameras] if settings.record else []
        self._show = show
        self._gallery = gallery
        self._waiting: deque[tuple[int, FrameResult, float]] = deque()
        self._is_open = True
        self._changed = Condition()
        self.skipped = self.failed = 0
        self._complaint = ""
        self._thread = Thread(target=self._run, daemon=True, name="outputs")
        self._thread.start()

    def put(self, camera: int, result: FrameResult, arrived: float) -> None:
        """Let a result be drawn, in place of the camera's oldest that waits if there are too many."""
        with self._changed:
            own = [item for item in self._waiting if item[0] == camera]
            if len(own) >= WAITING:
                self._waiting.remove(own[0])
                self.skipped += 1
            self._waiting.append((camera, result, arrived))
            self._changed.notify()

    def close(self) -> None:
        """Draw what waits, finish the recordings and save the gallery."""
        with self._changed:
            self._is_open = False
            self._changed.notify()
        self._thread.join()
        with ExitStack() as closing:  # each of them, whatever is wrong with one
            if self._gallery is not None:
                closing.callback(self._gallery.close)
            for recorder in self._recorders:
                closing.callback(recorder.close)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or not self._is_open)
                if not self._waiting:
                    return
                camera, result, arrived = self._waiting.popleft()
            try:
                self._make(camera, result, arrived)
            except Exception as error:  # one result less must not end the recordings of all cameras unnoticed
                if str(error) != self._complaint:
                    logger.warning("A result could not be drawn or stored (%s: %s).", type(error).__name__, error)
                    logger.debug("Where:", exc_info=True)
                self._complaint, self.failed = str(error), self.failed + 1

    def _make(self, camera: int, result: FrameResult, arrived: float) -> None:
        frame = result.frame
        assert frame.image is not None
        annotator = self._annotators[camera]
        annotator.shapes = result.shapes or {}
        drawn = annotator.draw(
            frame.image, result.tracks, result.detections, frame.timestamp, result.counts, result.dwell
        )
        if self._recorders:
            self._recorders[camera].write(replace(result, frame=replace(frame, image=drawn)))
        for show in self._show:
            show(camera, drawn, arrived)
        if self._gallery is not None:
            self._gallery.write(camera, result)


def recording_place(settings: LiveOutputSettings, name: str) -> Path:
    """Where a recording of the camera ``name`` goes that begins now."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip("_") or "camera"
    return Path(settings.record or ".").expanduser() / f"{safe}-{time.strftime('%Y%m%d-%H%M%S')}.mp4"


class Recorder:
    """Videos of one camera, a new one every so often; where they cannot be written, it goes on without for as long.

    Parameters
    ----------
    settings : LiveOutputSettings
        Folder and length.
    name : str
        The camera's.
    """

    def __init__(self, settings: LiveOutputSettings, name: str) -> None:
        self._settings, self._name = settings, name
        self._sink: VideoSink | None = None
        self._path: Path | None = None
        self._until = -np.inf
        self._size: tuple[int, ...] = ()

    def write(self, result: FrameResult) -> None:
        """Add a drawn frame."""
        assert result.frame.image is not None
        shape, now = result.frame.image.shape, result.frame.timestamp
        try:
            if now >= self._until or (self._sink is not None and shape != self._size):
                self.close()
                self._until, self._size = now + self._settings.segment_seconds, shape
                self._path = create_new(recording_place(self._settings, self._name), self._settings.private)
                self._sink = VideoSink(self._path, 30.0)
            if self._sink is not None:
                self._sink.write(result)
        except UserError as error:
            logger.warning("%s Recording is tried again in %g s.", error, self._settings.segment_seconds)
            self.close()

    def close(self) -> None:
        """Finish the video."""
        try:
            self._finish()
        except UserError as error:
            logger.warning("%s", error)

    def _finish(self) -> None:
        """Close the file; one without a frame is removed, and a missing one is reported."""
        sink, self._sink = self._sink, None
        path, self._path = self._path, None
        if sink is not None:
            sink.close()
        if path is None:
            return
        if not path.exists():
            logger.warning("%s: was moved or deleted while it was recorded.", path)
        elif sink is None or not sink.last_frame:
            path.unlink(missing_ok=True)
