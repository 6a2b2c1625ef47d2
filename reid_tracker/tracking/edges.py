"""People cut off by the edges of the picture: where the whole of them is.

A detector draws a box as far as the picture goes. Whoever walks out of it seems to shrink and to slow down, and whoever
comes closer than the camera reaches seems to stand still. What is hidden is known all the same: a person's width and
height keep their proportion. So the filters are told of whole people, and what they expect is compared with a
detector's boxes only as far as the picture goes. The ground truth of MOTChallenge counts whole people, too.
"""

import numpy as np

from reid_tracker.tracking import kalman

# A box this close to the picture's edge, in shares of its height, shows a truncated person.
EDGE = 0.02
# Whoever comes in over an edge is taken as whole once this far from it: a detector's boxes jitter by more than `EDGE`.
CLEAR = 0.1
# Of a box, so much of each side must lie in the picture for a detector to show it at all.
LEAST_SHOWN = 0.1


def sides_cut(xyxy: np.ndarray, size: np.ndarray | tuple[int, int], edge: float = EDGE) -> np.ndarray:
    """Tell at which sides the edge of a picture cuts people off.

    Parameters
    ----------
    xyxy : ndarray [N, 4]
        Boxes in px.
    size : (int, int)
        Width and height of the picture, px.
    edge : float
        How close to the edge a box must come for that, in shares of its height.

    Returns
    -------
    ndarray, bool [N, 4]
        Left, top, right and bottom of each box.
    """
    inside = np.concatenate([xyxy[:, :2], np.asarray(size) - xyxy[:, 2:]], axis=1)
    cut: np.ndarray = inside < edge * (xyxy[:, 3:] - xyxy[:, 1:2])
    return cut


def at_edge(xyxy: np.ndarray, size: np.ndarray | tuple[int, int], edge: float = EDGE) -> np.ndarray:
    """Mask [N] of the boxes [N, 4] that an edge of a picture of this width and height cuts off, or leaves out."""
    cut: np.ndarray = np.any(sides_cut(xyxy, size, edge), axis=1)
    return cut


def complete(xyxy: np.ndarray, cut: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Draw the boxes of truncated people on beyond the picture's edges.

    Parameters
    ----------
    xyxy : ndarray float64 [N, 4]
        Boxes as far as the picture goes, px.
    cut : ndarray bool [N, 4]
        At which sides they are cut off.
    known : ndarray float64 [N, 2]
        Width and height of each person before, px. Where a box still shows one of them, it tells how much nearer or
        further away the person is now.

    Returns
    -------
    ndarray float64 [N, 4]
        Sides that are not cut off stay where they are, and no box becomes smaller.
    """
    size = xyxy[:, 2:] - xyxy[:, :2]
    either = cut[:, :2] | cut[:, 2:]  # along x and y
    nearer = np.where(either.all(axis=1, keepdims=True), 1.0, size[:, ::-1] / known[:, ::-1])
    more = np.where(either, np.maximum(known * nearer - size, 0.0), 0.0)
    before = more * np.where(cut[:, :2] & cut[:, 2:], 0.5, cut[:, :2])
    return np.concatenate([xyxy[:, :2] - before, xyxy[:, 2:] + more - before], axis=1)


class Picture:
    """The picture of the last frame, as far as its edges matter.

    Attributes
    ----------
    size : ndarray int64 [2]
        Width and height, px; 0 until a picture was given.
    """

    def __init__(self) -> None:
        self.size = np.zeros(2, dtype=np.int64)

    def look(self, image: np.ndarray | None) -> None:
        """Take in a frame [H, W, 3], or that there is none."""
        self.size = np.array((0, 0) if image is None else image.shape[1::-1], dtype=np.int64)

    def shown(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] as far as the picture goes; those (nearly) outside it stay as they are."""
        if not self.size.any():
            return boxes
        inside = np.clip(boxes, 0, np.tile(self.size, 2)).astype(boxes.dtype)
        away = (inside[:, 2:] - inside[:, :2] < LEAST_SHOWN * (boxes[:, 2:] - boxes[:, :2])).any(axis=1)
        inside[away] = boxes[away]
        return inside

    def whole(self, xyxy: np.ndarray, measurement: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Complete the measured boxes of people of whom an edge hides a part.

        Parameters
        ----------
        xyxy : ndarray float32 [N, 4]
            The boxes.
        measurement : ndarray float64 [N, 4]
            The same as centres and sizes.
        size : ndarray float64 [N, 2]
            Width and height of each person up to now, px.

        Returns
        -------
        ndarray float64 [N, 4]
            Centres and sizes.
        """
        if not self.size.any():
            return measurement
        cut = sides_cut(xyxy, self.size)
        rows = np.flatnonzero(cut.any(axis=1))
        if not rows.size:
            return measurement
        boxes = complete(xyxy[rows].astype(np.float64), cut[rows], np.maximum(size[rows], 1.0))
        measurement = measurement.copy()
        measurement[rows] = kalman.measure(boxes)
        return measurement
