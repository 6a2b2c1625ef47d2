"""What happens to each frame: those inside the region get vectors and identities, the missed are added."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import supervision as sv

from reid_tracker.config import TrackConfig
from reid_tracker.counting import parse_points
from reid_tracker.errors import UserError
from reid_tracker.pipeline.models import AppearanceModel
from reid_tracker.pipeline.vectors import attach_vectors, needs_vector
from reid_tracker.places.files import lies_outside
from reid_tracker.results import RunSummary
from reid_tracker.tracking.bridge import Bridge
from reid_tracker.tracking.tracker import Tracker
from reid_tracker.video.frames import Frame, Source
from reid_tracker.video.sinks import FrameResult


class Follower:
    """Takes a video's detections frame by frame.

    Attributes
    ----------
    shift : float
        What is added to the source's times, s, where its video follows on an earlier one.
    """

    def __init__(
        self,
        source: Source,
        embedder: AppearanceModel | None,
        tracker: Tracker,
        polygon: np.ndarray | None,
        config: TrackConfig,
        summary: RunSummary,
    ) -> None:
        self._embedder, self._tracker, self._polygon = embedder, tracker, polygon
        self._config, self._summary = config, summary
        tracker.knows_seconds = True  # a recording may have a gap
        self._before, self._step, self.shift = tracker.time, 1 / source.frame_rate, 0.0
        self._bridge = Bridge(config.output.bridge_seconds, inside=inside_of(polygon))
        self._size = (source.width, source.height) if source.width else None

    def follow(self, frame: Frame, detections: sv.Detections) -> FrameResult:
        """Take in one frame, in the order of time."""
        if self._before is not None:  # this video follows on an earlier one
            self.shift, self._before = self._before + self._step - frame.timestamp, None
        now, tracker, polygon = frame.timestamp + self.shift, self._tracker, self._polygon
        inside = detections if polygon is None else detections[_feet_inside(detections.xyxy, polygon)]
        with self._summary.timed("embed"):
            if self._embedder is not None and frame.image is not None and "embedding" not in inside.data:
                needed = needs_vector(inside, tracker, now, self._config.embedder.refresh_seconds)
                attach_vectors(inside, needed, self._embedder.embed(frame.image, inside.xyxy[needed]))
        with self._summary.timed("associate"):
            tracks = tracker.update(inside, now, frame.image)
        if self._config.output.smooth_boxes:
            tracks.data["measured_xyxy"], tracks.xyxy = tracks.xyxy, tracks.data["smooth_xyxy"]
        shown = self._bridge(tracks, tracker, self._size)
        return FrameResult(frame, shown, detections, moved=tracker.moved, motion_noise=tracker.motion_noise)


def parse_polygon(text: str) -> np.ndarray:
    """Read a region of interest.

    Parameters
    ----------
    text : str
        ``"x1,y1 x2,y2 x3,y3 ..."`` in px, at least three corners.

    Returns
    -------
    ndarray float32 [K, 2]
        Its corners.

    Raises
    ------
    UserError
        If it is not that, or a mere point.
    """
    points = parse_points(text, "roi", 3)
    if (points == points[0]).all():
        raise UserError(f"roi {text!r}: is a mere point, in which no one can stand; give the corners of a region.")
    return points


def check_region(polygon: np.ndarray | None, source: Source, path: str | Path) -> None:
    """Raise a UserError if a region of interest lies outside of the picture: no one would be tracked."""
    width, height = source.width, source.height
    if polygon is not None and width and height and lies_outside(polygon, width, height):
        raise UserError(f"{path}: the region (roi) lies outside of its picture, which is {width}x{height}.")


def inside_of(polygon: np.ndarray | None) -> Callable[[np.ndarray], np.ndarray] | None:
    """What tells which boxes [N, 4] have their foot point in a polygon; None where there is none."""
    return None if polygon is None else partial(_feet_inside, polygon=polygon)


def _feet_inside(xyxy: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Mask [N] of the boxes whose foot point (middle of the lower edge) lies in the polygon."""
    feet = [((box[0] + box[2]) / 2, box[3]) for box in xyxy.tolist()]
    return np.array([cv2.pointPolygonTest(polygon, foot, False) >= 0 for foot in feet], dtype=bool)
