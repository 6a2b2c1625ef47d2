"""Overlap of boxes, for the pairs that overlap.

In a crowd of hundreds nearly all pairs are far apart. Four comparisons find those that are not, and everything after
that is done on short lists of pairs instead of N x M matrices. Boxes are (x1, y1, x2, y2) in px.
"""

import numpy as np

# IoU from which a box is the one expected, as evaluations have it; and from which two boxes are of one person, whoever
# says otherwise: people who walk together overlap by half.
RIGHT, SAME_PLACE = 0.5, 0.6
# A crop covered more than this by a box in front of it does not tell who is behind.
MOST_COVERED = 0.3
# Rounding of float32 may not lose a pair.
SLACK = 1.001


def overlapping(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a box of ``a`` [N, 4] and a box of ``b`` [M, 4] that have common area, in order: rows, columns, int [K].

    Only boxes of ``b`` whose left edges lie near enough are compared: in a wide crowd a twentieth of all.
    """
    if not len(a) or not len(b):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    order = np.argsort(b[:, 0], kind="stable")
    left = b[order, 0]
    first = np.searchsorted(left, a[:, 0] - (b[:, 2] - b[:, 0]).max() * SLACK - SLACK, side="right")
    count = np.maximum(np.searchsorted(left, a[:, 2], side="left") - first, 0)
    rows = np.repeat(np.arange(len(a)), count)
    columns = order[np.arange(len(rows)) + np.repeat(first - (np.cumsum(count) - count), count)]
    common = (b[columns, 2] > a[rows, 0]) & (a[rows, 1] < b[columns, 3]) & (a[rows, 3] > b[columns, 1])
    common &= a[rows, 2] > b[columns, 0]
    rows, columns = rows[common], columns[common]
    ordered = np.argsort(rows * len(b) + columns, kind="stable")  # the rows are in order already: fast so
    return rows[ordered], columns[ordered]


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


def in_front(xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping pairs of boxes [N, 4]: rows of who is behind and of who stands in front, int [K] each.

    On level ground the one whose feet are lower in the picture stands in front; of two on one line either may.
    """
    behind, front = overlapping(xyxy, xyxy)
    lower = (xyxy[front, 3] >= xyxy[behind, 3]) & (behind != front)
    return behind[lower], front[lower]


def coverage(xyxy: np.ndarray) -> np.ndarray:
    """Share of each box [N, 4] that one other box in front of it covers, [N]."""
    behind, front = in_front(xyxy)
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
