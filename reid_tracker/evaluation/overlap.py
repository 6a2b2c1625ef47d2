"""What every MOT metric starts from: the boxes of one sequence and the pairs of them that overlap, as flat arrays."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

# Thresholds are met up to one rounding step, as in the reference evaluation.
EPSILON = np.finfo(np.float64).eps
MATCH_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Overlaps:
    """One sequence: truth boxes, result boxes, and every pair of the two in one frame that overlaps.

    Boxes are ordered by frame and pairs by frame, so that a frame is a slice of each. Identities are renumbered from 0
    without gaps, so that they index arrays.

    Attributes
    ----------
    truth_frame, result_frame : ndarray, int64 [G], [D]
        0-based frame of each box, rising.
    truth_identity, result_identity : ndarray, int64 [G], [D]
        Identity of each box.
    pair_truth, pair_result : ndarray, int64 [P]
        Rows of the two boxes of each overlapping pair.
    iou : ndarray, float64 [P]
        Intersection over union of each pair, above 0.
    """

    truth_frame: np.ndarray
    truth_identity: np.ndarray
    result_frame: np.ndarray
    result_identity: np.ndarray
    pair_truth: np.ndarray
    pair_result: np.ndarray
    iou: np.ndarray

    def select(self, keep_truth: np.ndarray, keep_result: np.ndarray) -> "Overlaps":
        """Keep the boxes where the masks (bool [G] and [D]) are true, and the pairs of two kept boxes."""
        keep_pair = keep_truth[self.pair_truth] & keep_result[self.pair_result]
        return Overlaps(
            self.truth_frame[keep_truth],
            np.unique(self.truth_identity[keep_truth], return_inverse=True)[1],
            self.result_frame[keep_result],
            np.unique(self.result_identity[keep_result], return_inverse=True)[1],
            (np.cumsum(keep_truth) - 1)[self.pair_truth[keep_pair]],
            (np.cumsum(keep_result) - 1)[self.pair_result[keep_pair]],
            self.iou[keep_pair],
        )

    def identity_pairs(self, pairs: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Group pairs of boxes by who they are of.

        Parameters
        ----------
        pairs : ndarray or slice
            Which pairs to look at.

        Returns
        -------
        truth_identity, result_identity : ndarray, int64 [K]
            The distinct pairs of identities.
        inverse : ndarray, int64 [pairs]
            Which of the K each pair of boxes belongs to.
        """
        results = self.result_identity.max(initial=0) + 1
        key = self.truth_identity[self.pair_truth[pairs]] * results + self.result_identity[self.pair_result[pairs]]
        distinct, inverse = np.unique(key, return_inverse=True)
        return distinct // results, distinct % results, inverse


def find_overlaps(
    truth_frame: np.ndarray,
    truth_identity: np.ndarray,
    truth_ltwh: np.ndarray,
    result_frame: np.ndarray,
    result_identity: np.ndarray,
    result_ltwh: np.ndarray,
) -> Overlaps:
    """Find the pairs of boxes that overlap, frame by frame.

    Parameters
    ----------
    truth_frame, result_frame : ndarray, int64 [G], [D]
        0-based frame of each box, rising.
    truth_identity, result_identity : ndarray, int64 [G], [D]
        Any number that names an identity.
    truth_ltwh, result_ltwh : ndarray, float64 [G, 4], [D, 4]
        Left, top, width, height in pixels. A truth box without area overlaps nothing.
    """
    truth, result = _corners(truth_ltwh), _corners(result_ltwh)
    frames = max(truth_frame.max(initial=-1), result_frame.max(initial=-1)) + 1
    truth_start = np.searchsorted(truth_frame, np.arange(frames + 1))
    result_start = np.searchsorted(result_frame, np.arange(frames + 1))
    rows, columns, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for frame in np.flatnonzero((np.diff(truth_start) > 0) & (np.diff(result_start) > 0)):
        left, top, right, bottom, area = truth[:, truth_start[frame] : truth_start[frame + 1], None]
        others = result[:, None, result_start[frame] : result_start[frame + 1]]
        width = np.minimum(right, others[2]) - np.maximum(left, others[0])
        height = np.minimum(bottom, others[3]) - np.maximum(top, others[1])
        row, column = np.nonzero((width > 0) & (height > 0))
        common = width[row, column] * height[row, column]
        union = area[row, 0] + others[4][0, column] - common
        rows.append(row + truth_start[frame])
        columns.append(column + result_start[frame])
        values.append(common / union)
    iou = np.concatenate(values)
    found = iou > EPSILON
    return Overlaps(
        truth_frame,
        np.unique(truth_identity, return_inverse=True)[1],
        result_frame,
        np.unique(result_identity, return_inverse=True)[1],
        np.concatenate(rows)[found],
        np.concatenate(columns)[found],
        iou[found],
    )


def _corners(ltwh: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom and area [5, N] of boxes [N, 4], the area from the corners as the reference takes it."""
    left, top, width, height = ltwh.T
    right, bottom = left + width, top + height
    return np.stack([left, top, right, bottom, (right - left) * (bottom - top)])


def assign(rows: np.ndarray, columns: np.ndarray, score: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pick the pairs of one frame that together score highest, each row and column at most once.

    The matrix covers the whole frame, also the boxes without a pair: where scores tie, the solver then decides as it
    does in the reference evaluation.

    Parameters
    ----------
    rows, columns : ndarray, int64 [P]
        Rows and columns of the pairs.
    score : ndarray, float64 [P]
        Their scores, above 0.
    shape : tuple
        Number of rows and columns.

    Returns
    -------
    ndarray, bool [P]
        Which pairs are matched.
    """
    matrix = np.zeros(shape)
    matrix[rows, columns] = score
    matched_row, matched_column = linear_sum_assignment(matrix, maximize=True)
    partner = np.full(shape[0], -1)
    partner[matched_row] = matched_column
    return partner[rows] == columns


def contested_frames(
    overlaps: Overlaps, truth: np.ndarray, result: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, tuple[int, int]]]:
    """Go through the frames where a box is in more than one pair; elsewhere every pair is a match.

    Parameters
    ----------
    overlaps : Overlaps
        The sequence.
    truth, result : ndarray, int64 [P]
        Rows of the boxes of the pairs that may be matched, ordered by frame.

    Yields
    ------
    part, rows, columns, shape
        The frame's slice of the pairs, and what `assign` takes besides the scores.
    """
    frame = overlaps.truth_frame[truth]
    contested = (np.bincount(truth)[truth] > 1) | (np.bincount(result)[result] > 1)
    frames = np.unique(frame[contested])
    bounds = [
        np.searchsorted(of, frames, side)
        for of in (frame, overlaps.truth_frame, overlaps.result_frame)
        for side in ("left", "right")
    ]
    for start, end, truth_start, truth_end, result_start, result_end in np.transpose(bounds).tolist():
        part = slice(start, end)
        shape = (truth_end - truth_start, result_end - result_start)
        yield part, truth[part] - truth_start, result[part] - result_start, shape


def assign_each_frame(overlaps: Overlaps, pairs: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Match boxes one to one in every frame, for the highest sum of scores.

    Parameters
    ----------
    overlaps : Overlaps
        The sequence.
    pairs : ndarray, int64 [N]
        Which of its pairs may be matched, rising.
    score : ndarray, float64 [N]
        Their scores, above 0.

    Returns
    -------
    ndarray, int64 [M]
        The matched ones of ``pairs``.
    """
    truth, result = overlaps.pair_truth[pairs], overlaps.pair_result[pairs]
    chosen = np.ones(len(pairs), bool)
    for part, rows, columns, shape in contested_frames(overlaps, truth, result):
        chosen[part] = assign(rows, columns, score[part], shape)
    return pairs[chosen]
