"""Short gaps: people missed by the detector for a moment are shown and written where they are expected."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import supervision as sv

if TYPE_CHECKING:
    from reid_tracker.tracking.tracker import Tracker


class Bridge:
    """Adds the people missed for a moment to what a tracker reports.

    Parameters
    ----------
    seconds : float
        How long they may be missed; 0 adds none.
    shown : callable, optional
        Gives the number that is shown in place of an identity's.
    inside : callable, optional
        Tells, of boxes [N, 4], which may be added at all.
    """

    def __init__(
        self,
        seconds: float,
        shown: Callable[[int], int] = int,
        inside: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._seconds, self._shown, self._inside = seconds, shown, inside
        self._names: dict[int, Any] = {}

    def __call__(self, tracks: sv.Detections, tracker: "Tracker", size: tuple[int, int] | None = None) -> sv.Detections:
        """Add them.

        Parameters
        ----------
        tracks : supervision.Detections
            What `Tracker.update` gave for this frame, or the same with other boxes.
        tracker : Tracker
            The one that gave them.
        size : (int, int), optional
            Width and height of the picture, px.

        Returns
        -------
        supervision.Detections
            First ``tracks``, then those missed: their confidence is 0, and what was not measured is NaN, empty or 0.
        """
        known = tracks.data.get("class_name")
        if known is not None and tracks.class_id is not None:
            self._names.update(zip(tracks.class_id.tolist(), known.tolist(), strict=True))
        missed = tracker.expected(self._seconds, size) if self._seconds else sv.Detections.empty()
        if self._inside is not None and len(missed):
            missed = missed[self._inside(missed.xyxy)]
        if not len(missed) or tracks.tracker_id is None:
            return tracks
        missed.tracker_id = np.array([self._shown(each) for each in missed.tracker_id.tolist()])
        missed.data["class_name"] = np.array([self._names.get(each, "") for each in missed.class_id.tolist()])
        return add_missed(tracks, missed)


def add_missed(tracks: sv.Detections, missed: sv.Detections) -> sv.Detections:
    """Append people to a frame's tracks who were not seen, or only found afterwards.

    Parameters
    ----------
    tracks : supervision.Detections
        With ``tracker_id``, or nobody.
    missed : supervision.Detections
        With ``class_id`` and ``tracker_id``; without ``confidence`` it is 0: not seen. What they lack of the tracks'
        ``data`` is NaN, empty or 0.
    """
    count = len(missed)
    confidence = np.zeros(count) if missed.confidence is None else missed.confidence
    return sv.Detections(
        xyxy=np.concatenate([tracks.xyxy, missed.xyxy]),
        mask=_add(tracks.mask, None, count),
        confidence=np.append(np.ones(len(tracks)) if tracks.confidence is None else tracks.confidence, confidence),
        class_id=_add(tracks.class_id, missed.class_id, count),
        tracker_id=missed.tracker_id if tracks.tracker_id is None else np.append(tracks.tracker_id, missed.tracker_id),
        data={name: _add(np.asarray(column), missed.data.get(name), count) for name, column in tracks.data.items()},
        metadata=tracks.metadata,
    )


def measured(tracks: sv.Detections) -> sv.Detections:
    """Only the rows that the detector saw."""
    if tracks.confidence is None or tracks.confidence.all():
        return tracks
    seen: sv.Detections = tracks[tracks.confidence > 0]
    return seen


def _add(column: np.ndarray | None, rows: Any, count: int) -> np.ndarray | None:
    """Append rows to a column; where there are none, NaN, or zero (no, nothing) where that cannot be."""
    if column is None:
        return None
    if rows is None:
        blank = np.nan if column.dtype.kind == "f" else None if column.dtype.kind == "O" else np.zeros((), column.dtype)
        rows = np.full((count, *column.shape[1:]), blank, dtype=column.dtype)
    return np.concatenate([column, np.asarray(rows)]) if column.dtype.kind in "UO" else np.append(column, rows, axis=0)
