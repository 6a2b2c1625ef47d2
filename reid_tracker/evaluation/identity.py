"""Identity figures (Ristani et al., ECCVW 2016): how much of the truth carries one right identity all along.

Truth and result identities are paired one to one over the whole sequence so that the frames in which the two of a pair
overlap with IoU >= 0.5 (IDTP) are most. What is left of the truth is IDFN, what is left of the result IDFP.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from reid_tracker.evaluation.overlap import MATCH_IOU, Overlaps


def identity_tally(overlaps: Overlaps) -> dict[str, int]:
    """Count IDTP, IDFN and IDFP of a sequence."""
    truth, result, pair = overlaps.identity_pairs(np.flatnonzero(overlaps.iou >= MATCH_IOU))
    # Only identities that meet at all enter the matrix, which keeps it small in long sequences.
    rows, columns = (np.unique(identity, return_inverse=True)[1] for identity in (truth, result))
    together = np.zeros((rows.max(initial=-1) + 1, columns.max(initial=-1) + 1), np.int64)
    together[rows, columns] = np.bincount(pair, minlength=len(truth))
    true_positives = int(together[linear_sum_assignment(together, maximize=True)].sum())
    return {
        "IDTP": true_positives,
        "IDFN": len(overlaps.truth_frame) - true_positives,
        "IDFP": len(overlaps.result_frame) - true_positives,
    }


def identity_figures(tally: Mapping[str, float]) -> dict[str, float]:
    """Compute the figures of a tally (of one sequence, or added up over several), named as in TrackEval."""
    tp, fn, fp = tally["IDTP"], tally["IDFN"], tally["IDFP"]
    figures = {
        "IDF1": tp / max(1, tp + (fn + fp) / 2),
        "IDR": tp / max(1, tp + fn),
        "IDP": tp / max(1, tp + fp),
        "IDTP": tp,
        "IDFN": fn,
        "IDFP": fp,
    }
    return {name: float(value) for name, value in figures.items()}
