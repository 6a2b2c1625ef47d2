"""CLEAR figures (Bernardin and Stiefelhagen, 2008): misses, false positives and switches, as TrackEval counts them.

In each frame boxes with IoU >= 0.5 are matched one to one: first as many pairs as possible go on from the previous
timestep, then the sum of IoU is highest. Three details decide the counts:

- The previous timestep is the last frame that had both truth and result boxes; other frames do not break a pair.
- A switch is a match with another identity than in the truth identity's last match, however long ago that was.
- A fragmentation is a match that follows a gap of a timestep or more, also where the truth identity was absent.
"""

from collections.abc import Mapping

import numpy as np

from reid_tracker.evaluation.overlap import EPSILON, MATCH_IOU, Overlaps, assign, contested_frames

# Outweighs the sum of IoU in any frame, so that going on with a pair comes first.
CONTINUATION = 1000
COUNTS = ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW", "MT", "PT", "ML", "Frag")


def clear_tally(overlaps: Overlaps) -> dict[str, float]:
    """Count what the CLEAR figures are computed from; tallies of several sequences add up.

    Returns
    -------
    dict
        ``CLR_TP``, ``CLR_FN``, ``CLR_FP``, ``IDSW``, ``MT`` (tracked in more than 80 % of their frames), ``PT``, ``ML``
        (in less than 20 %), ``Frag``, and ``MOTP_sum``, the sum of IoU over the matches.
    """
    timestep, previous_row = _timesteps(overlaps)
    matched, iou_sum = _match(overlaps, previous_row)

    # Along each truth identity through time: which identity it is matched with next, and after how many timesteps.
    order = np.lexsort((timestep, overlaps.truth_identity))
    order = order[matched[order] >= 0]
    identity, partner, when = overlaps.truth_identity[order], matched[order], timestep[order]
    same = identity[1:] == identity[:-1]

    length = np.bincount(overlaps.truth_identity)
    tracked = np.bincount(identity, minlength=len(length)) / length
    mostly, at_least_partly = int((tracked > 0.8).sum()), int((tracked >= 0.2).sum())
    return {
        "CLR_TP": len(order),
        "CLR_FN": len(matched) - len(order),
        "CLR_FP": len(overlaps.result_frame) - len(order),
        "IDSW": int((same & (np.diff(partner) != 0)).sum()),
        "MT": mostly,
        "PT": at_least_partly - mostly,
        "ML": len(length) - at_least_partly,
        "Frag": int((same & (np.diff(when) > 1)).sum()),
        "MOTP_sum": iou_sum,
    }


def _timesteps(overlaps: Overlaps) -> tuple[np.ndarray, np.ndarray]:
    """Count timesteps and look back along identities.

    Returns
    -------
    timestep : ndarray, int64 [G]
        Number of the last frame with both truth and result boxes, for each truth box.
    previous_row : ndarray, int64 [G]
        The same identity's truth box one timestep earlier, or -1.
    """
    frames = np.intersect1d(overlaps.truth_frame, overlaps.result_frame)
    timestep = np.searchsorted(frames, overlaps.truth_frame, side="right") - 1
    rows = np.flatnonzero(np.isin(overlaps.truth_frame, frames))
    rows = rows[np.lexsort((timestep[rows], overlaps.truth_identity[rows]))]
    goes_on = (np.diff(overlaps.truth_identity[rows]) == 0) & (np.diff(timestep[rows]) == 1)
    previous_row = np.full(len(timestep), -1)
    previous_row[rows[1:][goes_on]] = rows[:-1][goes_on]
    return timestep, previous_row


def _match(overlaps: Overlaps, previous_row: np.ndarray) -> tuple[np.ndarray, float]:
    """Match boxes: the result identity of each truth box (int64 [G], -1 for none), and the sum of the matches' IoU."""
    near = overlaps.iou >= MATCH_IOU - EPSILON
    truth, result, iou = overlaps.pair_truth[near], overlaps.pair_result[near], overlaps.iou[near]
    partner = overlaps.result_identity[result]
    previous = previous_row[truth]
    chosen = np.ones(len(iou), bool)
    matched = np.full(len(previous_row) + 1, -1)  # The last entry stays -1: previous_row = -1 points to it.
    matched[truth] = partner  # Right where there is one candidate; the frames with more are set in order below.
    for part, rows, columns, shape in contested_frames(overlaps, truth, result):
        score = iou[part] + CONTINUATION * (matched[previous[part]] == partner[part])
        chosen[part] = assign(rows, columns, score, shape)
        matched[truth[part]] = -1
        matched[truth[part][chosen[part]]] = partner[part][chosen[part]]
    return matched[:-1], float(iou[chosen].sum())


def clear_figures(tally: Mapping[str, float]) -> dict[str, float]:
    """Compute the figures of a tally, named as in TrackEval.

    Without any truth box the ratios are 0 and MLR is 1, as TrackEval has it for a sequence (but not for a combination).
    """
    tp, fn, fp, switches = (tally[name] for name in ("CLR_TP", "CLR_FN", "CLR_FP", "IDSW"))
    boxes, identities = tp + fn, tally["MT"] + tally["PT"] + tally["ML"]
    figures = {
        "MOTA": (tp - fp - switches) / boxes if boxes else 0,
        "MOTP": tally["MOTP_sum"] / max(1, tp),
        "MODA": (tp - fp) / boxes if boxes else 0,
        "CLR_Re": tp / max(1, boxes),
        "CLR_Pr": tp / max(1, tp + fp),
        "MTR": tally["MT"] / max(1, identities),
        "PTR": tally["PT"] / max(1, identities),
        "MLR": tally["ML"] / identities if identities else 1,
        "sMOTA": (tally["MOTP_sum"] - fp - switches) / boxes if boxes else 0,
    }
    return {name: float(value) for name, value in (figures | {name: tally[name] for name in COUNTS}).items()}
