"""CLEAR and identity figures by py-motmetrics: a second opinion, by other people's code, on the same prepared boxes.

The distances are ours (1 - IoU, no pair under an IoU of 0.5). IDTP, IDFN, IDFP, IDF1, IDR and IDP are defined alike and
agree with the native engine. The CLEAR figures agree where no box is near two others, and elsewhere differ by what
py-motmetrics does otherwise:

- **Carried matches.** Any truth identity goes on with the identity of its last match whenever the two are near, however
  long ago that match was and even if another box fits better; natively only pairs of the previous timestep go on.
- **Free matches.** The rest is matched in as many pairs as possible, then at the least distance; natively the sum of
  IoU decides, which may leave a pair fewer. Both change CLR_TP, CLR_FN, CLR_FP, IDSW, MOTA and MOTP a little.
- **MT** takes tracked in 80 % of the frames or more (and PT less than that); natively it must be above 80 %.
- **Frag** counts the misses that interrupt a track, in any frame where the person is in the truth. Natively a frame
  without any result box interrupts nothing, and an absence from the truth does.
- **MOTP** is a mean distance there; it is turned into the mean IoU here.
"""

import motmetrics
import numpy as np

from reid_tracker.evaluation.overlap import MATCH_IOU, Overlaps

NAMES = {
    "mota": "MOTA",
    "motp": "MOTP",
    "recall": "CLR_Re",
    "precision": "CLR_Pr",
    "num_detections": "CLR_TP",
    "num_misses": "CLR_FN",
    "num_false_positives": "CLR_FP",
    "num_switches": "IDSW",
    "mostly_tracked": "MT",
    "partially_tracked": "PT",
    "mostly_lost": "ML",
    "num_fragmentations": "Frag",
    "idf1": "IDF1",
    "idr": "IDR",
    "idp": "IDP",
    "idtp": "IDTP",
    "idfn": "IDFN",
    "idfp": "IDFP",
}


def motmetrics_figures(prepared: dict[str, Overlaps], combined: str) -> dict[str, dict[str, float]]:
    """Compute CLEAR and identity figures of prepared sequences with py-motmetrics.

    Parameters
    ----------
    prepared : dict
        The sequences by name, prepared by `reid_tracker.evaluation.mot.prepare`.
    combined : str
        Name for the figures of all sequences together.

    Returns
    -------
    dict
        ``{sequence: {figure: value}}``, named and scaled as in TrackEval, as far as py-motmetrics has them; a ratio
        with nothing to divide by is 0.
    """
    table = motmetrics.metrics.create().compute_many(
        [_accumulate(overlaps) for overlaps in prepared.values()],
        names=list(prepared),
        metrics=list(NAMES),
        generate_overall=True,
    )
    # A sequence without a match has no mean distance, and would leave the combination none either.
    weighted = (table["motp"].fillna(0) * table["num_detections"])[:-1].sum()
    table.loc[table.index[-1], "motp"] = weighted / (table["num_detections"].iloc[-1] or np.nan)
    table["motp"] = 1 - table["motp"]
    values = np.nan_to_num(table.to_numpy(float), posinf=0, neginf=0)
    return {
        name: dict(zip(NAMES.values(), map(float, row), strict=True))
        for name, row in zip([*prepared, combined], values, strict=True)
    }


def _accumulate(overlaps: Overlaps) -> motmetrics.MOTAccumulator:
    """Feed a sequence frame by frame."""
    accumulator = motmetrics.MOTAccumulator()
    near = overlaps.iou >= MATCH_IOU
    truth, result, iou = overlaps.pair_truth[near], overlaps.pair_result[near], overlaps.iou[near]
    frame = overlaps.truth_frame[truth]
    for index in np.union1d(overlaps.truth_frame, overlaps.result_frame):
        first_truth, last_truth = np.searchsorted(overlaps.truth_frame, [index, index + 1])
        first_result, last_result = np.searchsorted(overlaps.result_frame, [index, index + 1])
        part = slice(*np.searchsorted(frame, [index, index + 1]))
        distance = np.full((last_truth - first_truth, last_result - first_result), np.nan)
        distance[truth[part] - first_truth, result[part] - first_result] = 1 - iou[part]
        accumulator.update(
            overlaps.truth_identity[first_truth:last_truth],
            overlaps.result_identity[first_result:last_result],
            distance,
            frameid=index,
        )
    return accumulator
