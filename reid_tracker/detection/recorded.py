"""Detections recorded in a file: a MOTChallenge det.txt, or an .npz that may carry appearance vectors too."""

import logging
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import supervision as sv

from reid_tracker import motchallenge
from reid_tracker.detection.detector import usable_boxes
from reid_tracker.errors import UserError
from reid_tracker.tracking.checks import are_classes

if TYPE_CHECKING:
    from reid_tracker.video.frames import Frame

logger = logging.getLogger(__name__)

UNIT_TOLERANCE = 1e-3
NOT_GIVEN = -1.0  # what MOTChallenge writes where a detector gives no confidence


class RecordedDetections:
    """A file of detections as a `Detector`, which needs no pixels.

    Parameters
    ----------
    path : str or Path
        A MOTChallenge text file (``frame,id,left,top,width,height,confidence``, further columns ignored, identities
        too), or an .npz of arrays ``frame`` [R] (1-based), ``xyxy`` [R, 4], ``confidence`` [R] and, optionally,
        ``class_id`` [R] and ``embedding`` [R, D]. Rows may be in any order.
    confidence : float
        Weaker detections are dropped.
    classes : sequence of str or int, optional
        Numbers of the classes to keep, for a file with ``class_id``; by default, or with "all", every class.

    Attributes
    ----------
    dimension : int or None
        Length D of the appearance vectors; None without.
    path : Path
        The file.
    last_frame : int
        1-based number of the last frame with a detection; 0 without any.

    Raises
    ------
    UserError
        If the file is missing, is neither of the two, or contradicts itself; or cannot tell the classes apart.

    Notes
    -----
    Rows without area or with NaN are dropped, and vectors brought to unit length, each with a warning that says how
    many. How confidences outside 0..1 are read: see `probability`.
    """

    def __init__(self, path: str | Path, confidence: float = 0.1, classes: Sequence[str | int] | None = None) -> None:
        if not 0 <= confidence <= 1:
            raise UserError(f"Confidence {confidence:g}: must be between 0 and 1.")
        self.path = path = Path(path)
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is left out below
            columns = _read_npz(path) if path.suffix == ".npz" else _read_text(path)
        columns["confidence"], note = probability(columns["confidence"])
        if note:
            logger.warning("%s: %s", path, note)

        usable = usable_boxes(columns["xyxy"], columns["confidence"])
        if not usable.all():
            logger.warning("%s: %d boxes without area or with NaN are left out", path, (~usable).sum())
        wanted = _of_classes(columns.get("class_id"), classes, path)
        columns.setdefault("class_id", np.zeros(len(usable), np.int64))
        rows = np.flatnonzero(usable & wanted & (columns["confidence"] >= confidence))
        rows = rows[np.argsort(columns["frame"][rows], kind="stable")]
        columns = {name: column[rows] for name, column in columns.items()}

        self._frame = columns.pop("frame")
        self._columns = columns
        if "embedding" in columns:
            _normalise(columns["embedding"], path)
        self.dimension: int | None = columns["embedding"].shape[1] if "embedding" in columns else None
        self.last_frame = int(self._frame[-1]) if len(rows) else 0

    def detect(self, frame: "Frame") -> sv.Detections:
        """Look up one frame by its index.

        Parameters
        ----------
        frame : Frame
            Its 0-based index counts; the image is not needed.

        Returns
        -------
        supervision.Detections
            ``xyxy`` float32 [N, 4], ``confidence`` float32 [N], ``class_id`` int64 [N], and ``data["embedding"]``
            float32 [N, D] where the file has it: unit rows, NaN rows where there is none. In the file's order.
        """
        start, stop = np.searchsorted(self._frame, (frame.index + 1, frame.index + 2))
        columns = {name: column[start:stop].copy() for name, column in self._columns.items()}
        data = {"embedding": columns.pop("embedding")} if "embedding" in columns else {}
        return sv.Detections(**columns, data=data)


def probability(confidence: np.ndarray) -> tuple[np.ndarray, str]:
    """Bring a file's confidences to 0..1, where the thresholds of association are.

    Parameters
    ----------
    confidence : ndarray [R]
        What the file says.

    Returns
    -------
    ndarray, float32 [R]
        Confidences in 0..1; NaN where the file has no finite number.
    str
        What was done, for the user; empty if nothing.

    Notes
    -----
    Values in 0..1 stay. -1 among them is MOTChallenge's "not given" and counts as 1: such a file lists what its
    detector had already decided for. If anything else lies outside, the file holds raw scores of a classifier (DPM's
    margins from -1 to 5, ACF's up to 100 and more), whose zero is the decision: the logistic function turns them all
    into probabilities, in the same order. Scaling by the file's own extremes would let one outlier move every box.
    """
    confidence = np.where(np.isfinite(confidence), confidence, np.nan)
    given = confidence != NOT_GIVEN
    if ((confidence[given] < 0) | (confidence[given] > 1)).any():
        scores = np.clip(confidence, -80, 80)  # exp stays finite
        return (1 / (1 + np.exp(-scores))).astype(np.float32), "scores outside 0..1 are read by the logistic function"
    note = "" if given.all() else f"{(~given).sum()} detections without a confidence (-1) count as certain"
    return np.where(given, confidence, 1).astype(np.float32), note


def _read_text(path: Path) -> dict[str, np.ndarray]:
    """The columns of a MOTChallenge text file."""
    rows = motchallenge.read_rows(path)
    corner = rows[:, [motchallenge.LEFT, motchallenge.TOP]]
    size = rows[:, [motchallenge.WIDTH, motchallenge.HEIGHT]]
    has_confidence = rows.shape[1] > motchallenge.CONFIDENCE
    return {
        "frame": _frame_numbers(rows[:, motchallenge.FRAME], path),
        "xyxy": np.hstack([corner, corner + size]).astype(np.float32),
        "confidence": rows[:, motchallenge.CONFIDENCE] if has_confidence else np.full(len(rows), NOT_GIVEN),
    }


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz of detections, checked."""
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path}: not a NumPy file (.npz), whatever its name says; a MOTChallenge text is named .txt.")
    try:
        # Arrays of objects would be unpickled, which runs code: refused by allow_pickle=False.
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # zipfile, zlib and NumPy's header parser each have their own for a damaged file
        raise UserError(f"{path}: not an .npz of plain arrays of numbers, or damaged; write it anew.") from error
    for name in ("frame", "xyxy", "confidence"):
        if name not in arrays:
            raise UserError(f"{path}: has no array {name!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}.")
    rows = len(np.atleast_1d(arrays["xyxy"]))
    shapes = {"frame": (rows,), "xyxy": (rows, 4), "confidence": (rows,), "class_id": (rows,)}
    shapes["embedding"] = (rows, *arrays.get("embedding", arrays["xyxy"]).shape[-1:])
    columns = {name: arrays[name] for name in shapes if name in arrays}
    for name, column in columns.items():
        if column.shape != shapes[name] or column.dtype.kind not in "iuf":
            found = f"{column.dtype} {list(column.shape)}"
            raise UserError(f"{path}: {name} must be numbers {list(shapes[name])} beside xyxy, but is {found}.")
    if "embedding" in columns and not columns["embedding"].shape[1]:
        raise UserError(f"{path}: embedding has vectors of no number; give one at least, or leave the array out.")
    columns["frame"] = _frame_numbers(columns["frame"], path)
    if not are_classes(columns.get("class_id", np.zeros(rows))):
        raise UserError(f"{path}: class_id holds other things than whole numbers; give the classes' numbers.")
    kinds = {"xyxy": np.float32, "embedding": np.float32, "class_id": np.int64}
    return columns | {name: columns[name].astype(kind, copy=False) for name, kind in kinds.items() if name in columns}


def _of_classes(class_id: np.ndarray | None, classes: Sequence[str | int] | None, path: Path) -> np.ndarray | bool:
    """Which rows are of some classes."""
    wanted = [str(each).strip() for each in ([classes] if isinstance(classes, str) else classes or ())]
    if not wanted or wanted == ["all"]:
        return True
    if class_id is None:
        raise UserError(f"{path}: says no classes to choose from; leave out --classes, or give an .npz with class_id.")
    held = {str(each): each for each in np.unique(class_id).tolist()}
    known = ", ".join(held) or "none"
    for each in wanted:
        if not re.fullmatch(r"-?\d+", each):
            raise UserError(f"Class {each!r}: {path} knows classes by number only; choose of {known}, or name all.")
        if each not in held:
            logger.warning("%s: nothing in it is of class %s, but of %s", path, each, known)
    return np.isin(class_id, [held[each] for each in wanted if each in held])


def _frame_numbers(frame: np.ndarray, path: Path) -> np.ndarray:
    """Frame numbers as integers, or a `UserError` if they are not whole numbers from 1 on that a video can have."""
    if not ((frame == np.round(frame)) & (frame >= 1) & (frame <= motchallenge.MOST_FRAMES)).all():
        raise UserError(f"{path}: frame numbers must be whole and begin at 1; {motchallenge.MOST_FRAMES} is the last.")
    return frame.astype(np.int64)


def _normalise(embedding: np.ndarray, path: Path) -> None:
    """Bring vectors to unit length, in place; a vector without a direction becomes NaN, which means none."""
    with np.errstate(over="ignore"):
        length = np.linalg.norm(embedding, axis=1)
    length[~(np.isfinite(length) & (length > 0))] = np.nan
    off = ~(np.abs(length - 1) <= UNIT_TOLERANCE)  # NaN too
    embedding[off] /= length[off, None]
    scaled = off & ~np.isnan(length)
    if scaled.any():
        logger.warning("%s: %d appearance vectors were not of unit length; they are scaled to it", path, scaled.sum())
