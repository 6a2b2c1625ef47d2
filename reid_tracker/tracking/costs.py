"""Overlap of boxes, for the pairs that overlap.

In a crowd of hundreds nearly all pairs are far apart. Four comparisons find those that are not, and everything after
that is done on short lists of pairs instead of N x M matrices. Boxes are (x1, y1, x2, y2) in px.
"""

import numpy as np


def overlapping(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a box of ``a`` [N, 4] and a box of ``b`` [M, 4] that have common area: rows, columns, int [K] each."""
    left, top, right, bottom = np.ascontiguousarray(b.T)
    common = a[:, 0:1] < right
    common &= a[:, 2:3] > left
    common &= a[:, 1:2] < bottom
    common &= a[:, 3:4] > top
    return pairs(common)


def pairs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a mask [N, M] that are true; `numpy.nonzero`, but several times faster for few."""
    rows, columns = np.divmod(np.flatnonzero(mask), max(mask.shape[1], 1))
    return rows, columns


def area(xyxy: np.ndarray) -> np.ndarray:
    """Area in px^2 of boxes [K, 4], [K]."""
    return (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Common area in px^2 of the k-th box of ``a`` [K, 4] and the k-th of ``b`` [K, 4], [K]; 0 where they are apart."""
    size = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    np.maximum(size, 0, out=size)
    return size[:, 0] * size[:, 1]


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of the k-th box of ``a`` [K, 4] and the k-th of ``b`` [K, 4], [K]."""
    common = intersection(a, b)
    return common / np.maximum(area(a) + area(b) - common, 1e-9)


def enlarge(xyxy: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Boxes [N, 4] grown by ``fraction`` [N] of their size on every side (C-BIoU, Yang et al. 2023)."""
    margin = (xyxy[:, 2:] - xyxy[:, :2]) * fraction[:, None]
    return np.concatenate([xyxy[:, :2] - margin, xyxy[:, 2:] + margin], axis=1)


def coverage(xyxy: np.ndarray) -> np.ndarray:
    """Share of each box [N, 4] that one other box in front of it covers, [N].

    On level ground the one whose feet are lower in the picture stands in front.
    """
    behind, front = overlapping(xyxy, xyxy)
    lower = xyxy[front, 3] > xyxy[behind, 3]
    behind, front = behind[lower], front[lower]
    covered = np.zeros(len(xyxy))
    np.maximum.at(covered, behind, intersection(xyxy[behind], xyxy[front]) / area(xyxy[behind]))
    return covered


def lead(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """How far each value [K] lies above the highest other value of its group (int [K]); inf where it is alone."""
    order = np.lexsort((-value, group))
    groups, values = group[order], value[order]
    first = np.ones(len(values), dtype=bool)
    first[1:] = groups[1:] != groups[:-1]
    highest = values[first][np.cumsum(first) - 1]
    following = np.append(values[1:], -np.inf)
    following[np.append(first[1:], True)] = -np.inf  # the next one is another group's
    result = np.empty(len(values))
    result[order] = values - np.where(first, following, highest)
    return result
