"""One frame's detections as plain arrays."""

from typing import Any

import numpy as np
import supervision as sv

from reid_tracker.config import TrackerSettings
from reid_tracker.errors import UserError
from reid_tracker.tracking import costs, kalman

# A box this close to the picture's edge, in shares of its height, shows a truncated person.
EDGE = 0.02
# Whoever comes in over an edge is taken as whole once this far from it: a detector's boxes jitter by more than `EDGE`.
CLEAR = 0.1
# Crops of people less tall than this, px, are a sixth less like their own person's other crops (held-out people of two
# sets, made so small); at 32 px a twelfth.
MINIMUM_HEIGHT = 24


class FrameArrays:
    """The usable rows of a frame's detections, M of them.

    Parameters
    ----------
    detections : supervision.Detections
        As `Tracker.update` takes them.

    Attributes
    ----------
    row : ndarray int [M]
        Where each stands in the input.
    xyxy : ndarray float32 [M, 4]
    confidence : ndarray [M]
    class_id : ndarray [M]
    measurement : ndarray [M, 4]
        What the filters take of the boxes (`kalman.measure`).
    cut : ndarray bool [M]
        Whether an edge of the picture cuts them off (`mark_cut`).
    near : ndarray bool [M]
        Whether it might, as boxes jitter.
    embedding : ndarray float32 [M, D] or None

    Raises
    ------
    UserError
        If the embeddings are not one row per detection, of one number at least.
    """

    def __init__(self, detections: sv.Detections) -> None:
        with np.errstate(over="ignore"):  # infinite ones are left out
            xyxy = np.asarray(detections.xyxy, dtype=np.float32).reshape(-1, 4)
        confidence = detections.confidence
        confidence = np.ones(len(xyxy)) if confidence is None else np.asarray(confidence, dtype=np.float64)
        usable = np.isfinite(xyxy).all(axis=1) & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1) & np.isfinite(confidence)
        self.row = np.flatnonzero(usable)
        self.xyxy = xyxy[self.row]
        self.confidence = confidence[self.row]
        class_id = detections.class_id
        self.class_id = (
            np.zeros(len(self.row), np.int64) if class_id is None else np.asarray(class_id)[self.row].astype(np.int64)
        )
        self.measurement = kalman.measure(self.xyxy)
        self.cut = self.near = np.zeros(len(self.xyxy), dtype=bool)
        self.embedding: np.ndarray | None = None
        if "embedding" in detections.data and len(xyxy):
            embedding = _vectors(detections.data["embedding"], len(xyxy))
            self.embedding = _unit_or_none(embedding if usable.all() else embedding[self.row])
        self._coverage: np.ndarray | None = None
        self._good: np.ndarray | None = None

    def mark_cut(self, width: int, height: int) -> None:
        """Mark the people truncated by the edges of a picture of this size."""
        self.cut, self.near = (at_edge(self.xyxy, width, height, edge) for edge in (EDGE, CLEAR))

    @property
    def coverage(self) -> np.ndarray:
        """Share of each box that another one covers, [M] (`costs.coverage`)."""
        if self._coverage is None:
            self._coverage = costs.coverage(self.xyxy)
        return self._coverage

    def shows_person_well(self, settings: TrackerSettings) -> np.ndarray:
        """Mask [M] of the crops that may change the appearance kept: sure, free of others, not tiny, with a vector."""
        if self._good is None:
            assert self.embedding is not None
            seen = ~np.isnan(self.embedding[:, 0])
            tall = self.xyxy[:, 3] - self.xyxy[:, 1] >= MINIMUM_HEIGHT
            self._good = (
                (self.coverage < costs.MOST_COVERED) & seen & tall & (self.confidence >= settings.high_confidence)
            )
        return self._good


def _vectors(given: Any, count: int) -> np.ndarray:
    """Vectors as float32 [N, D]; UserError if they are not one row for each of so many boxes."""
    try:
        with np.errstate(over="ignore"):  # an infinite one means none
            vectors = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UserError("embeddings are no array of numbers: one row per detection is needed.") from error
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1]:
        raise UserError(
            f"embeddings have the shape {vectors.shape}: one row per detection is needed, of one number at least."
        )
    return vectors


def _unit_or_none(vectors: np.ndarray) -> np.ndarray:
    """Vectors [M, D] at unit length; NaN rows, which mean none, where a number is not finite or all are zero."""
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.sqrt(np.einsum("md,md->m", vectors, vectors, dtype=np.float64))
    absent = ~(np.isfinite(length) & (length > 0))
    off = ~(np.abs(length - 1) <= 1e-3)
    if not off.any():
        return vectors
    vectors = vectors.copy()
    vectors[off] /= np.where(absent, 1.0, length)[off, None]
    vectors[absent] = np.nan
    return vectors


def at_edge(xyxy: np.ndarray, width: int, height: int, edge: float = EDGE) -> np.ndarray:
    """Mask [N] of the boxes [N, 4] that come within ``edge`` heights of an edge of a picture of this size."""
    inside = np.concatenate([xyxy[:, :2], np.array([width, height]) - xyxy[:, 2:]], axis=1)
    cut: np.ndarray = inside.min(axis=1) < edge * (xyxy[:, 3] - xyxy[:, 1])
    return cut
