"""What a pair of track and detection costs: overlap, appearance, and how the two are put together.

Plain functions on arrays. Boxes are (x1, y1, x2, y2) in px; N tracks, M detections.
"""

import numpy as np


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Common area in px^2 of each box of ``a`` [N, 4] with each of ``b`` [M, 4], [N, M]."""
    width = np.minimum(a[:, None, 2], b[None, :, 2])
    width -= np.maximum(a[:, None, 0], b[None, :, 0])
    np.maximum(width, 0, out=width)
    height = np.minimum(a[:, None, 3], b[None, :, 3])
    height -= np.maximum(a[:, None, 1], b[None, :, 1])
    np.maximum(height, 0, out=height)
    width *= height
    return width


def area(xyxy: np.ndarray) -> np.ndarray:
    """Area in px^2 of boxes [N, 4], [N]."""
    return (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes ``a`` [N, 4] and ``b`` [M, 4], [N, M]; 0 where both are empty."""
    common = intersection(a, b)
    union = area(a)[:, None] + area(b)[None, :]
    union -= common
    np.maximum(union, 1e-9, out=union)
    common /= union
    return common


def enlarge(xyxy: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Boxes [N, 4] grown by ``fraction`` [N] of their size on every side (C-BIoU, Yang et al. 2023)."""
    margin = (xyxy[:, 2:] - xyxy[:, :2]) * fraction[:, None]
    return np.concatenate([xyxy[:, :2] - margin, xyxy[:, 2:] + margin], axis=1)


def coverage(xyxy: np.ndarray) -> np.ndarray:
    """Share of each box [N, 4] that one other box in front of it covers, [N].

    On level ground the one whose feet are lower in the picture stands in front.
    """
    common = intersection(xyxy, xyxy)
    common /= np.maximum(area(xyxy), 1e-9)[:, None]
    common[xyxy[None, :, 3] <= xyxy[:, None, 3]] = 0
    return common.max(axis=1, initial=0)
