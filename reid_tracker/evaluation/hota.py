"""HOTA: detection and association in one figure (Luiten et al., IJCV 2021), as TrackEval computes it.

For each localisation threshold alpha = 0.05, 0.10 ... 0.95, with boxes matched one to one in each frame:

    DetA = TP / (TP + FN + FP)
    AssA = mean over the TP of  TPA / (TPA + FNA + FPA)
    HOTA = sqrt(DetA * AssA)

where TPA counts the frames in which the same two identities are matched. The figures are means over alpha. One matching
serves every alpha: it maximises IoU times how well the two identities agree over the whole sequence.
"""

from collections.abc import Mapping

import numpy as np

from reid_tracker.evaluation.overlap import EPSILON, Overlaps, assign_each_frame

ALPHAS = np.arange(0.05, 0.99, 0.05)


def hota_tally(overlaps: Overlaps) -> dict[str, np.ndarray]:
    """Count what HOTA is computed from; the tallies of several sequences add up to that of all of them.

    Returns
    -------
    dict of ndarray [19]
        Per alpha ``HOTA_TP``, ``HOTA_FN``, ``HOTA_FP``, and the sums over the TP of IoU (``LocA_sum``) and of
        association accuracy, recall and precision (``AssA_sum``, ``AssRe_sum``, ``AssPr_sum``).
    """
    matches = _match(overlaps)
    iou = overlaps.iou[matches]
    # A match counts at every alpha up to its IoU, so one histogram over the highest such alpha serves them all.
    level = np.searchsorted(ALPHAS - EPSILON, iou, side="right")
    levels = len(ALPHAS) + 1
    true_positives = _from_level_up(np.bincount(level, minlength=levels))
    iou_sum = _from_level_up(np.bincount(level, weights=iou, minlength=levels))

    truth_identity, result_identity, pair = overlaps.identity_pairs(matches)
    together = np.bincount(pair * levels + level, minlength=len(truth_identity) * levels).reshape(-1, levels)
    together = _from_level_up(together)
    in_truth = np.bincount(overlaps.truth_identity)[truth_identity, None]
    in_result = np.bincount(overlaps.result_identity)[result_identity, None]
    return {
        "HOTA_TP": true_positives,
        "HOTA_FN": len(overlaps.truth_frame) - true_positives,
        "HOTA_FP": len(overlaps.result_frame) - true_positives,
        "LocA_sum": iou_sum,
        "AssA_sum": (together**2 / (in_truth + in_result - together)).sum(axis=0),
        "AssRe_sum": (together**2 / in_truth).sum(axis=0),
        "AssPr_sum": (together**2 / in_result).sum(axis=0),
    }


def _match(overlaps: Overlaps) -> np.ndarray:
    """Match boxes one to one in every frame: the indices of the matched pairs."""
    in_truth, in_result = overlaps.pair_truth, overlaps.pair_result
    # How much of its boxes' overlap in the frame a pair has, summed over the sequence, says who belongs to whom.
    share = overlaps.iou / (
        np.bincount(in_truth, overlaps.iou)[in_truth] + np.bincount(in_result, overlaps.iou)[in_result] - overlaps.iou
    )
    truth_identity, result_identity, pair = overlaps.identity_pairs()
    shared = np.bincount(pair, share)
    lengths = (
        np.bincount(overlaps.truth_identity)[truth_identity] + np.bincount(overlaps.result_identity)[result_identity]
    )
    alignment = shared / (lengths - shared)
    return assign_each_frame(overlaps, np.arange(len(overlaps.iou)), alignment[pair] * overlaps.iou)


def _from_level_up(histogram: np.ndarray) -> np.ndarray:
    """Turn a histogram over the number of alphas reached [..., 20] into sums per alpha [..., 19]."""
    return np.cumsum(histogram[..., ::-1], axis=-1)[..., -2::-1]


def hota_figures(tally: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Compute the figures of a tally, named as in TrackEval; ``(0)`` is at the lowest alpha alone."""
    tp, fn, fp = tally["HOTA_TP"], tally["HOTA_FN"], tally["HOTA_FP"]
    det_a, det_re, det_pr = tp / np.maximum(1, [tp + fn + fp, tp + fn, tp + fp])
    ass_a, ass_re, ass_pr = (tally[f"{name}_sum"] / np.maximum(1, tp) for name in ("AssA", "AssRe", "AssPr"))
    loc_a = np.where(tp > 0, tally["LocA_sum"] / np.maximum(1, tp), 1.0)
    hota = np.sqrt(det_a * ass_a)
    means = {
        "HOTA": hota,
        "DetA": det_a,
        "AssA": ass_a,
        "DetRe": det_re,
        "DetPr": det_pr,
        "AssRe": ass_re,
        "AssPr": ass_pr,
        "LocA": loc_a,
        "OWTA": np.sqrt(det_re * ass_a),
    }
    lowest = {"HOTA(0)": hota[0], "LocA(0)": loc_a[0], "HOTALocA(0)": hota[0] * loc_a[0]}
    return {name: float(np.mean(value)) for name, value in (means | lowest).items()}
