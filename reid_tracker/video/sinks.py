"""Where results go: annotated video, MOTChallenge text, JSON lines, crops; after a kill each can be read."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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
from reid_tracker.video.annotate import clip_boxes
from reid_tracker.video.frames import Frame
from reid_tracker.writing import write_whole

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
    moved : ndarray float64 [2, 3], optional
        How the picture moved since the last frame (`Tracker.moved`).
    motion_noise : float
        How hard people are to predict (`Tracker.motion_noise`).
    """

    frame: Frame
    tracks: sv.Detections
    detections: sv.Detections
    counts: Counts | None = None
    shapes: dict[str, np.ndarray] | None = None
    dwell: Dwell | None = None
    moved: np.ndarray | None = None
    motion_noise: float = 1.0

    def renumbered(self, number_of: Callable[[int], int]) -> "FrameResult":
        """The same with other numbers; of the boxes that then have one number the first stays."""
        tracks = self.tracks
        if tracks.tracker_id is None or not len(tracks):
            return self
        numbers = np.array([number_of(each) for each in tracks.tracker_id.tolist()])
        if (numbers == tracks.tracker_id).all():
            return self
        data = dict(tracks.data)
        if "perhaps" in data:
            data["perhaps"] = np.where(np.asarray(data["perhaps"]) == numbers, 0, data["perhaps"])  # it was so
        first = np.sort(np.unique(numbers, return_index=True)[1])
        dwell = self.dwell and {number_of(number): each for number, each in self.dwell.items()}
        return replace(self, tracks=replace(tracks, tracker_id=numbers, data=data)[first], dwell=dwell)


class Sink(Protocol):
    """Takes the results of a run one frame at a time.

    ``write`` raises UserError, naming the file, when it cannot store them; ``close`` may follow and then never raises.
    """

    def write(self, result: FrameResult) -> None:
        """Store one frame."""

    def close(self) -> None:
        """Finish the file."""


class FileSink(Sink, Protocol):
    """A sink that fills a file or a folder.

    ``last_frame`` is the number from 1 of the last frame that it holds or, where it is made at the end, that it is to
    hold (0 = none): true once the sink is closed, whatever ended it.
    """

    last_frame: int


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
    have ``dwell``, the seconds so far by the zone's name; whoever may turn out to be somebody known has that one's
    number as ``perhaps``.

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
            "perhaps": _to_list(tracks.data.get("perhaps"), unknown),
        }
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for row in rows:
            if name := self._name_of(row["id"]) if row["id"] is not None else "":
                row["name"] = name
            if perhaps := row.pop("perhaps"):
                row["perhaps"] = perhaps
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
    private : bool
        Whether only this user may read it.

    Raises
    ------
    UserError
        If the file cannot be written, from ``close``.
    """

    def __init__(self, path: str | Path, private: bool = False) -> None:
        self._path, self._private = Path(path), private
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
        written = io.BytesIO()  # polars itself tells of a full disk by an error of its own
        table.write_parquet(written)
        write_whole(self._path, written.getvalue(), self._private)


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
    private : bool
        Whether only this user may read it.

    Raises
    ------
    UserError
        If the file cannot be written, from ``close``.
    """

    def __init__(
        self,
        path: str | Path,
        counter: PassageCounter,
        visits: Callable[[], dict[str, Any]] = dict,
        private: bool = False,
    ) -> None:
        self._path, self._private = Path(path), private
        self._counter, self._visits = counter, visits
        self._counts: Counts | None = None
        self.last_frame = 0

    def write(self, result: FrameResult) -> None:
        """Take note of one frame's counts."""
        self._counts, self.last_frame = result.counts, result.frame.index + 1

    def close(self) -> None:
        """Write the file."""
        whole = {**(self._counts or {}), "by_identity": self._counter.by_identity(), **self._visits()}
        write_whole(self._path, (json.dumps(whole, ensure_ascii=False, indent=2) + "\n").encode(), self._private)


class ReportSink:
    """A file that is written when the run is over; ``make`` is asked for it then; ``private``: for this user only."""

    def __init__(self, path: str | Path, make: Callable[[], bytes], private: bool = False) -> None:
        self._path, self._make, self._private = Path(path), make, private
        self.last_frame = 0

    def write(self, result: FrameResult) -> None:
        """Take note that there was a frame."""
        self.last_frame = result.frame.index + 1

    def close(self) -> None:
        """Write the file; UserError if it cannot be written."""
        if self.last_frame:
            write_whole(self._path, self._make(), self._private)


class CropSink:
    """Pictures of each identity: ``folder/<identity>/<frame from 1>.jpg``, both of 6 digits.

    Parameters
    ----------
    folder : Path
        Where the folders of the identities go; it is made.
    every_seconds : float
        Least time between two pictures of one identity.
    private : bool
        Whether only this user may read them.

    Raises
    ------
    UserError
        If a file cannot be written; from ``write`` also if a frame has no pixels.
    """

    def __init__(self, folder: str | Path, every_seconds: float = 1.0, private: bool = False) -> None:
        self._folder, self._private = Path(folder), private
        with naming(self._folder):
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
            write_whole(path, cv2.imencode(".jpg", image[top:bottom, left:right])[1].tobytes(), self._private)
            self._written[identity] = now
        self.last_frame = result.frame.index + 1

    def close(self) -> None:
        """Nothing is left to do: each picture is written whole."""


class _LineFile:
    """A text file that grows by whole frames: one unbuffered write each; one that fails half-way is cut off again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("wb", buffering=0)

    def append(self, text: str) -> None:
        left = data = text.encode()
        with naming(self._path):
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
def naming(path: Path) -> Iterator[None]:
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
