"""Which boxes of a frame get an appearance vector, and which go without."""

import numpy as np
import supervision as sv

from reid_tracker.tracking.tracker import Tracker


def needs_vector(detections: sv.Detections, tracker: Tracker, timestamp: float, refresh_seconds: float) -> np.ndarray:
    """Rows whose appearance matters: association matches weak boxes, and where told so certain ones, by motion."""
    confidence = np.ones(len(detections)) if detections.confidence is None else detections.confidence
    needed = confidence >= tracker.settings.high_confidence
    if refresh_seconds > 0:
        strong = np.flatnonzero(needed)
        needed[strong[tracker.certain(detections[strong], timestamp, refresh_seconds)]] = False
    return np.flatnonzero(needed)


def attach_vectors(detections: sv.Detections, rows: np.ndarray, vectors: np.ndarray) -> None:
    """Give these rows of the detections their vectors; the others stay NaN."""
    embedding = np.full((len(detections), vectors.shape[1]), np.nan, dtype=np.float32)
    embedding[rows] = vectors
    detections.data["embedding"] = embedding
