"""The pictures that a review shows, taken from the video in one pass beside the page."""

from pathlib import Path
from threading import Event, Thread

import av
import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.exchange.replay import frames_for
from reid_tracker.exchange.tracks import Tracks
from reid_tracker.review.doubts import Doubt, rows_shown
from reid_tracker.video.frames import Frame, Source
from reid_tracker.video.sinks import FrameResult
from reid_tracker.video.video_sink import VideoSink

HEIGHT = 200  # px, of a person's picture
MARGIN = 0.15  # of the box's size, around it
OF_EACH = 6  # moments spread over an identity, so that either part of a split one has a picture
MOST_DOUBTS = 300  # are shown with pictures
COPY_WIDTH = 960  # px, of the copy of a video that browsers do not play
PLAYABLE = {"h264", "vp8", "vp9", "av1"}  # in these containers:
CONTAINERS = {".mp4", ".m4v", ".webm"}


def rows_to_show(tracks: Tracks, doubts: list[Doubt]) -> np.ndarray:
    """Rows of which pictures are taken: those of the doubts, and some of everyone, int [K]."""
    order = np.argsort(tracks.identity, kind="stable")
    order = order[tracks.confidence[order] > 0]
    bounds = np.flatnonzero(np.diff(tracks.identity[order])) + 1
    spread = [
        part[np.unique(np.linspace(0, len(part) - 1, OF_EACH + 2).round().astype(int)[1:-1])]
        for part in np.split(order, bounds)
        if len(part)
    ]
    rows: np.ndarray = np.unique(np.concatenate([rows_shown(doubts[:MOST_DOUBTS]), *spread]).astype(np.int64))
    return rows


def is_playable(video: Path) -> bool:
    """Whether browsers play a video as it is."""
    if video.suffix.lower() not in CONTAINERS:
        return False
    try:
        with av.open(str(video)) as container:
            return container.streams.video[0].codec_context.name in PLAYABLE
    except (av.error.FFmpegError, OSError, IndexError):
        return False


class Pictures(Thread):
    """Reads the video once: a picture of each of some boxes, and a copy where browsers do not play the video.

    Parameters
    ----------
    source : Source
    tracks : Tracks
    rows : ndarray of int
        Boxes of which pictures are taken.
    copy : Path, optional
        Where the copy goes; None where none is needed.

    Attributes
    ----------
    wanted : frozenset of int
        Rows of which there will be a picture.
    taken : dict of int to bytes
        The pictures so far, JPEG, by row.
    progress : float
        Share of the video that is done.
    failed : str
        Why it ended early.
    """

    def __init__(self, source: Source, tracks: Tracks, rows: np.ndarray, copy: Path | None) -> None:
        super().__init__(name="review-pictures", daemon=True)
        self._source, self._tracks, self._copy, self._ended = source, tracks, copy, Event()
        order = rows[np.argsort(tracks.frame[rows], kind="stable")]
        self._rows, self._frames = order, tracks.frame[order]
        self.wanted = frozenset(rows.tolist())
        self.taken: dict[int, bytes] = {}
        self.progress, self.failed = 0.0, ""

    def run(self) -> None:
        """Read the video."""
        try:
            self._read(self._source)
            self.progress = 1.0
        except UserError as error:
            self.failed = str(error)

    def end(self) -> None:
        """Stop reading."""
        self._ended.set()
        if self.is_alive():
            self.join()

    def _read(self, source: Source) -> None:
        from supervision import Detections

        sink = VideoSink(self._copy, source.frame_rate) if self._copy else None
        last = int(self._frames[-1]) if len(self._frames) else 0
        total = max(source.frame_count or 0, last, 1)
        none = Detections.empty()
        try:
            for frame in frames_for(self._tracks, source):
                if self._ended.is_set() or (sink is None and frame.index >= last):
                    break
                assert frame.image is not None
                for row in self._rows[slice(*np.searchsorted(self._frames, (frame.index + 1, frame.index + 2)))]:
                    self.taken[int(row)] = _cut(frame.image, self._tracks.xyxy[row])
                if sink is not None:
                    image = frame.image
                    if image.shape[1] > COPY_WIDTH:
                        scale = COPY_WIDTH / image.shape[1]
                        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                    sink.write(FrameResult(Frame(image, frame.index, frame.timestamp), none, none))
                self.progress = min((frame.index + 1) / total, 0.99)
        finally:
            if sink is not None:
                sink.close()


def _cut(image: np.ndarray, box: np.ndarray) -> bytes:
    """A box with a little around it, JPEG; grey where it lies outside of the picture."""
    height, width = image.shape[:2]
    room = MARGIN * (box[2:] - box[:2])
    low = np.clip((box[:2] - room).round(), 0, [width - 1, height - 1]).astype(int)
    high = np.maximum(np.clip((box[2:] + room).round(), 1, [width, height]).astype(int), low + 1)
    crop = image[low[1] : high[1], low[0] : high[0]]
    scale = HEIGHT / crop.shape[0]
    size = (int(np.clip(crop.shape[1] * scale, 1, 4 * HEIGHT)), HEIGHT)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.imencode(".jpg", cv2.resize(crop, size, interpolation=kind), [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
