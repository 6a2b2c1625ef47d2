"""Where results go: annotated video, MOTChallenge text, JSON lines, crops; each readable up to the moment of a kill."""

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np
import supervision as sv

from reid_tracker.counting import Counts, Dwell, PassageCounter
from reid_tracker.errors import UserError
from reid_tracker.motchallenge import format_row
from reid_tracker.tracking.bridge import measured
from reid_tracker.video.annotate import Annotator, clip_boxes
from reid_tracker.video.sources import Frame
from reid_tracker.writing import write_whole

KEYFRAME_SECONDS = 2.0
"""Longest distance of two keyframes: how exactly a player can seek."""
LONGEST_GAP = 3600.0  # s between two frames of a video
FRAGMENT_SECONDS = 0.5
"""Length of a fragment: what a kill or a full disk may lose, beside the frames that the encoder holds back."""
TIME_BASE = Fraction(1, 90_000)
SMALLEST_CROP = 16
"""Crops narrower or lower than this many pixels are not kept."""


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What is known about one frame.

    Attributes
    ----------
    frame : Frame
        The frame itself.
    tracks : supervision.Detections
        Confirmed rows, with ``tracker_id``; those of confidence 0 were missed for a moment and are expected there.
    detections : supervision.Detections
        Everything the detector saw.
    counts : dict, optional
        Where lines or zones are counted: `PassageCounter.update` up to this frame.
    shapes : dict of str to ndarray [K, 2], optional
        Those of a live camera, of which the picture's size was not known before.
    dwell : dict of int to dict of str to float, optional
        How long each person, by number, has been in the zones they are in, s.
    """

    frame: Frame
    tracks: sv.Detections
    detections: sv.Detections
    counts: Counts | None = None
    shapes: dict[str, np.ndarray] | None = None
    dwell: Dwell | None = None


class Sink(Protocol):
    """Takes the results of a run one frame at a time.

    ``write`` raises UserError, naming the file, when it cannot store them; ``close`` may follow and then never raises.
    Sinks that write files frame by frame have ``last_frame``, an int: the number from 1 of the last frame that the file
    holds (0 = none), true once the sink is closed, whatever ended it.
    """

    def write(self, result: FrameResult) -> None:
        """Store one frame."""

    def close(self) -> None:
        """Finish the file."""


class VideoSink:
    """Annotated H.264 mp4 that browsers play, each frame at its own time.

    The file is a fragmented mp4: a fragment (FRAGMENT_SECONDS at most) is complete in itself, so a kill or a full disk
    leaves all finished ones playable. Odd sizes are padded by a pixel, as 4:2:0 colour needs even ones. A gap longer
    than an hour is left out, as an mp4 cannot tell of much longer ones; ``note`` then says so.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.
    frame_rate : float
        Nominal frames per second.
    annotator : Annotator, optional
        Draws each frame; without it the frames are drawn already.

    Raises
    ------
    UserError
        If the file cannot be written; from ``write`` also if a frame has no pixels.
    """

    def __init__(self, path: str | Path, frame_rate: float, annotator: Annotator | None = None) -> None:
        self._path = Path(path)
        with _naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._frame_rate = frame_rate
        self._annotator = annotator
        self._container: Any = None
        self._stream: Any = None
        self._file: _VideoFile | None = None
        self._start = self._keyframe = self._latest = 0.0
        self._pts = -1
        self._numbers = _Numbers()
        self.last_frame = 0
        self.note = ""

    def write(self, result: FrameResult) -> None:
        """Draw and encode one frame."""
        frame = result.frame
        if frame.image is None:
            raise UserError(f"{self._path}: a source without pictures gives no video; choose another output.")
        image = frame.image
        if self._annotator is not None:
            image = self._annotator.draw(
                image, result.tracks, result.detections, frame.timestamp, result.counts, result.dwell
            )
        height, width = image.shape[:2]
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        if self.last_frame and frame.timestamp - self._latest > LONGEST_GAP:
            hours = (frame.timestamp - self._latest) / LONGEST_GAP
            self.note = self.note or f"{self._path.name}: {hours:.1f} h without a frame are left out of the video."
            self._start += frame.timestamp - self._latest - 1 / self._frame_rate
            self._keyframe = -np.inf
        self._latest = frame.timestamp
        with _naming(self._path):
            self._encode(image, frame.timestamp)
        self.last_frame = frame.index + 1
        self._numbers.add(self.last_frame)

    def close(self) -> None:
        """Write what the encoder still holds and end the file; one that could not take it all ends with whole frames.

        Raises
        ------
        UserError
            If the end of the file cannot be written, and `write` has not said so before.
        """
        container, self._container = self._container, None
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with suppress(UserError) if file.has_failed else nullcontext(), _naming(self._path):
                try:
                    if container is not None:
                        container.mux(self._stream.encode(None))
                finally:
                    if container is not None:
                        container.close()
                    file.close()
        finally:
            if file.has_failed:
                self.last_frame = self._numbers.at(cut_to_whole_fragments(self._path))

    def _encode(self, image: np.ndarray, timestamp: float) -> None:
        is_keyframe = self._container is None
        if self._container is None:
            self._open(image.shape[1], image.shape[0])
            self._start = timestamp
        picture = av.VideoFrame.from_ndarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), format="yuv420p")
        self._pts = max(self._pts + 1, round((timestamp - self._start) / TIME_BASE))
        picture.pts, picture.time_base = self._pts, TIME_BASE
        # By time, not by count, as the rate may vary; a frame early, so that the next does not come too late.
        if is_keyframe or timestamp - self._keyframe > KEYFRAME_SECONDS - 1.5 / self._frame_rate:
            picture.pict_type = av.video.frame.PictureType.I
            self._keyframe = timestamp
        self._container.mux(self._stream.encode(picture))

    def _open(self, width: int, height: int) -> None:
        muxing = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        muxing["frag_duration"] = str(round(FRAGMENT_SECONDS * 1e6))
        self._file = _VideoFile(self._path)
        container = av.open(self._file, "w", format="mp4", container_options=muxing)
        # No B-frames: an mp4 whose header comes first cannot say that pictures are delayed, and all times would shift.
        coding = {"preset": "veryfast", "crf": "23", "bf": "0"}
        stream = container.add_stream(
            "libx264", rate=Fraction(self._frame_rate).limit_denominator(100_000), options=coding
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        # What OpenCV converts BGR to; untagged, players would guess by the picture's size.
        stream.codec_context.colorspace = av.video.reformatter.Colorspace.ITU601
        stream.codec_context.color_range = av.video.reformatter.ColorRange.MPEG
        container.start_encoding()
        self._container, self._stream = container, stream


class _Numbers:
    """The numbers of frames in the order they were written, as stretches of equal steps: short for any length."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int, int]] = []  # how many came before, the first one's number, the step
        self._count = self._last = 0

    def add(self, number: int) -> None:
        """Add the next one."""
        if not self._stretches or self._last + self._stretches[-1][2] != number:
            step = number - self._last if self._count else 1
            self._stretches.append((self._count, number, step))
        self._count, self._last = self._count + 1, number

    def at(self, count: int) -> int:
        """Number of the last of so many frames; 0 of none."""
        for before, first, step in reversed(self._stretches):
            if before < count:
                return first + (count - before - 1) * step
        return 0


class _VideoFile:
    """The file that FFmpeg writes a video to; after the first error nothing more goes in, so that it has no hole."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.name = str(path)
        self.has_failed = False

    def write(self, data: bytes) -> int:
        """Write all of it."""
        left = memoryview(data)
        while left and not self.has_failed:
            try:
                left = left[self._file.write(left) :]
            except OSError:
                self.has_failed = True
                raise
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to another place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_to_whole_fragments(path: Path) -> int:
    """Cut off what a full disk left of the last fragment of an mp4; how many frames remain."""
    end, whole = 0, 0
    with suppress(OSError), path.open("r+b") as file:
        size = file.seek(0, 2)
        while end + 8 <= size:
            file.seek(end)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length < 8 or end + length > size:
                break
            end += length
            whole = whole if kind == b"moof" else end  # a fragment is a moof and its mdat
        file.truncate(whole)
    try:
        with av.open(str(path)) as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)
    except (av.error.FFmpegError, IndexError):
        return 0  # not even the header is whole


class MotSink:
    """MOTChallenge result text: ``frame,id,left,top,width,height,conf,-1,-1,-1``, frames counted from 1.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.

    Raises
    ------
    UserError
        If the file cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = _LineFile(Path(path))
        self.last_frame = 0

    def write(self, result: FrameResult) -> None:
        """Append the rows of one frame."""
        tracks = result.tracks
        scores = np.ones(len(tracks)) if tracks.confidence is None else tracks.confidence
        rows = zip(_identities(tracks), tracks.xyxy, scores, strict=True)
        self._file.append("".join(format_row(result.frame.index + 1, *row) for row in rows))
        self.last_frame = result.frame.index + 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class JsonLinesSink:
    """One JSON object a frame, also for frames without tracks.

    ::

        {"index": 41, "timestamp": 1.64, "tracks": [
            {"id": 7, "tracklet": 9, "xyxy": [10.0, 20.5, 50.25, 120.0], "confidence": 0.913, "class_id": 0,
             "class": "person"}]}

    ``index`` counts from 0 (MOTChallenge text from 1), ``timestamp`` is in seconds by the source's clock, ``id`` the
    identity, ``tracklet`` the unbroken piece of motion, ``xyxy`` the box in pixels, ``confidence`` the detector's (0
    where the box is predicted, not seen). What is not known is null. Where lines or zones are
    counted, ``counts`` follows (`PassageCounter.update`). Named people have it as ``name``; people in a zone
    has ``dwell``, the seconds so far by the zone's name.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.
    name_of : callable, optional
        A person's name by number, "" without one.

    Raises
    ------
    UserError
        If the file cannot be written.
    """

    def __init__(self, path: str | Path, name_of: Callable[[int], str] = lambda _: "") -> None:
        self._file, self._name_of = _LineFile(Path(path)), name_of
        self.last_frame = 0

    def write(self, result: FrameResult) -> None:
        """Append one line."""
        tracks = result.tracks
        unknown = [None] * len(tracks)
        columns = {
            "id": _identities(tracks),
            "tracklet": _to_list(tracks.data.get("tracklet"), unknown),
            "xyxy": [[round(value, 2) for value in box] for box in tracks.xyxy.tolist()],
            "confidence": [value and round(value, 4) for value in _to_list(tracks.confidence, unknown)],
            "class_id": _to_list(tracks.class_id, unknown),
            "class": _to_list(tracks.data.get("class_name"), unknown),
        }
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for row in rows:
            if name := self._name_of(row["id"]) if row["id"] is not None else "":
                row["name"] = name
            if stays := (result.dwell or {}).get(row["id"]):
                row["dwell"] = {zone: round(seconds, 2) for zone, seconds in stays.items()}
        frame: dict[str, Any] = {
            "index": result.frame.index,
            "timestamp": round(result.frame.timestamp, 6),
            "tracks": rows,
        }
        if result.counts is not None:
            frame["counts"] = result.counts
        self._file.append(json.dumps(frame, ensure_ascii=False) + "\n")
        self.last_frame = result.frame.index + 1

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetSink:
    """A table of all boxes: frame (from 1), seconds, identity, tracklet, x1, y1, x2, y2, confidence, class.

    It is written when the run is over; until then it is in memory, some 50 bytes a box.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.

    Raises
    ------
    UserError
        If the file cannot be written, from ``close``.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._labels: list[str] = []
        self.last_frame = 0

    def write(self, result: FrameResult) -> None:
        """Take in one frame."""
        tracks, frame, count = result.tracks, result.frame, len(result.tracks)
        self.last_frame = frame.index + 1
        if not count:
            return
        about = np.full(count, frame.index + 1), np.full(count, frame.timestamp), np.array(_identities(tracks))
        confidence = np.ones(count) if tracks.confidence is None else tracks.confidence
        self._parts.append((*about, tracks.data["tracklet"], tracks.xyxy.astype(np.float32), confidence))
        self._labels += map(str, tracks.data.get("class_name", ["person"] * count))

    def close(self) -> None:
        """Write the file."""
        import polars

        empty = tuple(np.zeros(0, kind) for kind in (np.int64, np.float64, np.int64, np.int64)), np.zeros((0, 4))
        parts = self._parts or [(*empty[0], empty[1].astype(np.float32), np.zeros(0))]
        frame, seconds, identity, tracklet, xyxy, confidence = map(np.concatenate, zip(*parts, strict=True))
        corners = dict(zip(("x1", "y1", "x2", "y2"), xyxy.T, strict=True))
        about = {"frame": frame, "seconds": seconds, "identity": identity, "tracklet": tracklet}
        table = polars.DataFrame({**about, **corners, "confidence": confidence, "class": self._labels})
        with _naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            table.write_parquet(self._path)


class CountsSink:
    """The counts at the end of a run, each identity's passages, queues, and every visit, as JSON.

    ``{"lines", "zones", "by_identity", "queues", "visits"}``; a queue is ``{"mean", "most"}``: how many people are in a
    zone at a time; a visit is ``{"place", "identity", "entered", "left", "dwell"}`` of
    a zone or ``{"place", "identity", "seconds", "direction"}`` of a line, times in s, with ``name`` where there is one.

    Parameters
    ----------
    path : Path
        The file to write; its folder is made.
    counter : PassageCounter
        Whose counts the frames bring.
    visits : callable, optional
        Tells ``queues`` and ``visits`` at the end.

    Raises
    ------
    UserError
        If the file cannot be written, from ``close``.
    """

    def __init__(self, path: str | Path, counter: PassageCounter, visits: Callable[[], dict[str, Any]] = dict) -> None:
        self._path = Path(path)
        self._counter, self._visits = counter, visits
        self._counts: Counts | None = None

    def write(self, result: FrameResult) -> None:
        """Take note of one frame's counts."""
        self._counts = result.counts

    def close(self) -> None:
        """Write the file."""
        whole = {**(self._counts or {}), "by_identity": self._counter.by_identity(), **self._visits()}
        write_whole(self._path, (json.dumps(whole, ensure_ascii=False, indent=2) + "\n").encode())


class ReportSink:
    """A file that is written when the run is over; ``make`` is asked for it then."""

    def __init__(self, path: str | Path, make: Callable[[], bytes]) -> None:
        self._path, self._make = Path(path), make
        self.last_frame = 0

    def write(self, result: FrameResult) -> None:
        """Take note that there was a frame."""
        self.last_frame = result.frame.index + 1

    def close(self) -> None:
        """Write the file; UserError if it cannot be written."""
        if self.last_frame:
            write_whole(self._path, self._make())


class CropSink:
    """Pictures of each identity: ``folder/<identity>/<frame from 1>.jpg``, both of 6 digits.

    Parameters
    ----------
    folder : Path
        Where the folders of the identities go; it is made.
    every_seconds : float
        Least time between two pictures of one identity.

    Raises
    ------
    UserError
        If a file cannot be written; from ``write`` also if a frame has no pixels.
    """

    def __init__(self, folder: str | Path, every_seconds: float = 1.0) -> None:
        self._folder = Path(folder)
        with _naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._every_seconds = every_seconds
        self._written: dict[int, float] = {}
        self.last_frame = 0

    def write(self, result: FrameResult) -> None:
        """Cut out those identities whose time has come."""
        image, now = result.frame.image, result.frame.timestamp
        if image is None:
            raise UserError(f"{self._folder}: a source without pictures gives no crops; choose another output.")
        # A microsecond of grace for sums of frame times; those due anyway are forgotten.
        self._written = {key: time for key, time in self._written.items() if now - time < self._every_seconds - 1e-6}
        tracks = measured(result.tracks)
        boxes, is_inside = clip_boxes(tracks.xyxy, image.shape[1], image.shape[0])
        for identity, box in zip(np.array(_identities(tracks), int)[is_inside].tolist(), boxes, strict=True):
            left, top, right, bottom = box.round().astype(int)
            if identity in self._written or min(right - left, bottom - top) < SMALLEST_CROP:
                continue
            path = self._folder / f"{identity:06d}" / f"{result.frame.index + 1:06d}.jpg"
            write_whole(path, cv2.imencode(".jpg", image[top:bottom, left:right])[1].tobytes())
            self._written[identity] = now
        self.last_frame = result.frame.index + 1

    def close(self) -> None:
        """Nothing is left to do: each picture is written whole."""


class _LineFile:
    """A text file that grows by whole frames: one unbuffered write each; one that fails half-way is cut off again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        with _naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=0)

    def append(self, text: str) -> None:
        left = data = text.encode()
        with _naming(self._path):
            try:
                while left:
                    left = left[self._file.write(left) :]
            except OSError:
                with suppress(OSError):
                    self._file.truncate(self._size)
                raise
        self._size += len(data)

    def close(self) -> None:
        with suppress(OSError):  # every write has been checked; nothing is buffered
            self._file.close()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn a failing system or FFmpeg call into a UserError that names the file."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); what was stored before is kept.") from error


def _identities(tracks: sv.Detections) -> list[int]:
    """The identities' numbers; an empty ``Detections`` has none."""
    return [] if tracks.tracker_id is None else tracks.tracker_id.tolist()


def _to_list(column: np.ndarray | None, unknown: list[None]) -> list[Any]:
    return unknown if column is None else column.tolist()
