"""The tracks of a finished run as one table, read from what it wrote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.motchallenge import (
    CONFIDENCE,
    FRAME,
    FURTHEST,
    HEIGHT,
    IDENTITY,
    LEFT,
    MOST,
    MOST_FRAMES,
    WIDTH,
    read_rows,
)
from reid_tracker.reading import parse_json, read_text

if TYPE_CHECKING:
    import pandas as pd

PERSON = "person"
LATEST = 1e15  # s, as of a tracker


@dataclass(frozen=True, slots=True)
class Tracks:
    """Rows by frame: who was where.

    Attributes
    ----------
    frame : ndarray int64 [R]
        From 1, rising.
    identity, tracklet : ndarray int64 [R]
        The person, and the unbroken piece of motion (the identity again where it is not known).
    xyxy : ndarray float64 [R, 4]
        Boxes, px.
    confidence : ndarray float64 [R]
        The detector's; 0 where the box is predicted, not seen, 1 where nothing is known.
    label : list of str
        What each is.
    seconds : ndarray float64 [R]
        When, by the video's clock; NaN where it is not known.
    names : dict of int to str
        What identities are called, where they have names.
    """

    frame: np.ndarray
    identity: np.ndarray
    tracklet: np.ndarray
    xyxy: np.ndarray
    confidence: np.ndarray
    label: list[str]
    seconds: np.ndarray
    names: dict[int, str] = field(default_factory=dict)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Any]], where: Path | str) -> "Tracks":
        """Take rows of frame, identity, x1, y1, x2, y2, confidence and, optionally, label, seconds, tracklet.

        Raises
        ------
        UserError
            If a number is none, or no frame's, identity's or box's; it names ``where`` they are from.
        """
        try:
            numbers = np.array([row[:7] for row in rows], dtype=np.float64).reshape(-1, 7)
            seconds = np.array([row[8] if len(row) > 8 else np.nan for row in rows], dtype=np.float64)
            told = [row[9] if len(row) > 9 and row[9] is not None else row[1] for row in rows]
            tracklet = np.array(told, dtype=np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{where}: a frame, identity, box or confidence is not a number.") from error
        whole = numbers[:, :2]
        if not np.isfinite(numbers).all() or (whole != whole.round()).any() or (abs(whole) >= MOST).any():
            raise UserError(f"{where}: frames and identities must be whole numbers, and boxes finite.")
        frame = numbers[:, 0].astype(np.int64)
        if frame.size and not 1 <= frame.min() <= frame.max() <= MOST_FRAMES:
            raise UserError(f"{where}: frame {frame.min()} or {frame.max()} cannot be; they count from 1.")
        if (abs(numbers[:, 2:6]) > FURTHEST).any():
            raise UserError(f"{where}: a box lies beyond any picture.")
        if (numbers[:, 4:6] < numbers[:, 2:4]).any():
            raise UserError(f"{where}: a box ends before it begins.")
        if (abs(seconds) > LATEST).any():
            raise UserError(f"{where}: {np.nanmax(abs(seconds)):g} is no time in seconds; the most is {LATEST:g}.")
        order = np.argsort(frame, kind="stable")
        identity = numbers[:, 1].astype(np.int64)
        labels = [str(row[7]) if len(row) > 7 and row[7] else PERSON for row in rows]
        return cls(
            frame=frame[order],
            identity=identity[order],
            tracklet=tracklet[order],
            xyxy=numbers[order, 2:6],
            confidence=numbers[order, 6],
            label=[labels[row] for row in order.tolist()],
            seconds=seconds[order],
        )

    def __len__(self) -> int:
        return len(self.frame)

    def within(self, width: int, height: int) -> "Tracks":
        """Boxes as far as a picture of this size, px, goes: MOTChallenge text shows whole people at its edges, too."""
        xyxy = np.clip(self.xyxy, 0, np.array([width, height] * 2))
        rows = np.flatnonzero((xyxy[:, 2:] > xyxy[:, :2]).all(axis=1))
        arrays = {
            name: getattr(self, name)[rows] for name in ("frame", "identity", "tracklet", "confidence", "seconds")
        }
        return Tracks(xyxy=xyxy[rows], label=[self.label[row] for row in rows.tolist()], names=self.names, **arrays)

    def columns(self) -> dict[str, Any]:
        """The table's columns by name: frame, seconds, identity, tracklet, x1, y1, x2, y2, confidence, class."""
        corners = dict(zip(("x1", "y1", "x2", "y2"), self.xyxy.T, strict=True))
        about = {"frame": self.frame, "seconds": self.seconds, "identity": self.identity, "tracklet": self.tracklet}
        return {**about, **corners, "confidence": self.confidence, "class": self.label}

    def to_frame(self) -> "pd.DataFrame":
        """The same as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.columns())


def read_results(path: Path | str) -> Tracks:
    """Read what a run wrote: ``<name>.jsonl`` or ``<name>.txt`` (MOTChallenge).

    Raises
    ------
    UserError
        If it is missing or something else.
    """
    path = Path(path)
    if path.suffix.lower() == ".jsonl":
        names: dict[int, str] = {}
        tracks = Tracks.from_rows(list(_json_rows(path, names)), path)
        return replace(tracks, names=names)
    rows = read_rows(path)
    confidence = rows[:, [CONFIDENCE]] if rows.shape[1] > CONFIDENCE else np.ones((len(rows), 1))
    corners = rows[:, LEFT : LEFT + 2]
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
        ends = corners + rows[:, [WIDTH, HEIGHT]]
    boxes = np.hstack([rows[:, [FRAME, IDENTITY]], corners, ends, confidence])
    return Tracks.from_rows(boxes.tolist(), path)


def _json_rows(path: Path, names: dict[int, str]) -> Iterator[tuple[Any, ...]]:
    """Rows for `Tracks.from_rows`; what identities are called goes to ``names``."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            frame = parse_json(line)
            for track in frame["tracks"]:
                confidence = 1.0 if track["confidence"] is None else track["confidence"]
                about = (track.get("class"), frame["timestamp"], track.get("tracklet"))
                x1, y1, x2, y2 = track["xyxy"]
                if track.get("name"):
                    names[track["id"]] = str(track["name"])
                yield frame["index"] + 1, track["id"], x1, y1, x2, y2, confidence, *about
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: line {number} is not of a run's JSON lines.") from error
