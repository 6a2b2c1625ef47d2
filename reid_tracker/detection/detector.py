"""What a detector is, and which boxes are fit to be tracked."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
import supervision as sv

if TYPE_CHECKING:
    from reid_tracker.video.frames import Frame


class Detector(Protocol):
    """Anything that finds boxes in a frame: a YOLO, a file of recorded detections, or your own class."""

    def detect(self, frame: "Frame") -> sv.Detections:
        """Find the objects of one frame.

        Parameters
        ----------
        frame : Frame
            The frame, in the order of the source; detectors may not assume that none is left out.

        Returns
        -------
        supervision.Detections
            ``xyxy`` float32 [N, 4] in pixels, ``confidence`` float32 [N] in 0..1, ``class_id`` int [N], down to the
            low confidence (default 0.1) that the second stage of association feeds on. ``data["embedding"]``
            float32 [N, D] of unit rows is used in place of an embedder's where it is given.
        """
        ...


def usable_boxes(xyxy: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Tell which boxes have an area, and finite corners and confidence.

    Parameters
    ----------
    xyxy : ndarray [N, 4]
        Boxes in pixels.
    confidence : ndarray [N]
        Their confidences.

    Returns
    -------
    ndarray, bool [N]
        False for a box that no tracker can use: one NaN in the state of a Kalman filter stays there for good.
    """
    finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(confidence)
    return finite & (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
