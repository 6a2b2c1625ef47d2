"""Learn which decisions of finished tracks are likely wrong (`reid_tracker.review.doubts`), and measure it held out.

    REID_TRACKER_DATA=... python scripts/fit_doubts.py [--cache DIR]

The sequences and groups of `fit_association.py`, tracked without returns and with a few other settings, so that there
are more mistakes to learn from. A decision is wrong where the ground truth under the boxes is another person's before
and after it, or where a newcomer's person had another number. For each group the weights are learned on the others;
printed is how many wrong decisions are among the twenty most doubtful of the first settings' tracks. Last come the
weights learned on all, which `WEIGHTS` holds.
"""

import argparse
import os
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from fit_association import GROUPS, PIXELS, read, tracks_of
from scipy.optimize import linear_sum_assignment, minimize

from reid_tracker.exchange.tracks import Tracks
from reid_tracker.motchallenge import read_rows
from reid_tracker.review.doubts import CROSSING, GAP, NEWCOMER, Doubt, Timeline, find_doubts
from reid_tracker.tracking import costs

SETTINGS: tuple[dict[str, Any], ...] = (
    {"memory_seconds": 0.0},
    {"memory_seconds": 0.0, "lost_seconds": 0.5},
    {"memory_seconds": 0.0, "lost_seconds": 6.0, "motion_limit": 0.95},
    {"memory_seconds": 0.0, "motion_limit": 0.55},
    {"memory_seconds": 0.0, "new_confidence": 0.35},
)
MOST_DOUBTFUL = 20
SURE = 0.6  # share of a side's boxes that must be one person's
Judged = list[tuple[Doubt, float]]


def truth_under(tracks: Tracks, truth: np.ndarray) -> np.ndarray:
    """Person of the ground truth under each box, -1 where there is none, int [R]."""
    found = np.full(len(tracks), -1)
    for frame in np.unique(tracks.frame).tolist():
        rows, there = np.flatnonzero(tracks.frame == frame), truth[truth[:, 0] == frame]
        boxes = np.concatenate([there[:, 2:4], there[:, 2:4] + there[:, 4:6]], axis=1)
        i, j = costs.overlapping(tracks.xyxy[rows], boxes)
        overlap = np.zeros((len(rows), len(there)))
        overlap[i, j] = costs.iou(tracks.xyxy[rows[i]], boxes[j])
        overlap[overlap < 0.5] = 0
        i, j = linear_sum_assignment(overlap, maximize=True)
        matched = overlap[i, j] > 0
        found[rows[i[matched]]] = there[j[matched], 1]
    return found


def judge(task: tuple[str, dict[str, Any], Path, Path]) -> tuple[str, Judged]:
    """The decisions of a sequence, and whether each is wrong (NaN: the truth does not say)."""
    sequence, settings, data, cache = task
    rate = float(read(sequence, data, cache)[1]["frameRate"])
    rows = [
        (each.frame.index + 1, *row, "person", each.frame.timestamp)
        for each in tracks_of(sequence, settings, 0, data, cache)
        for row in zip(
            each.tracks.tracker_id.tolist(),
            *each.tracks.xyxy.T.tolist(),
            each.tracks.confidence.tolist(),
            strict=True,
        )
    ]
    tracks = Tracks.from_rows(rows, sequence)
    truth = read_rows(data / sequence / "gt" / "gt.txt")
    truth = truth[truth[:, 6] != 0]
    if sequence.startswith("mot17/"):
        truth = truth[truth[:, 7] == 1]
    person = truth_under(tracks, truth)
    first: dict[int, dict[int, float]] = {}  # when each person first had each number
    for row in np.flatnonzero((person >= 0) & (tracks.confidence > 0)).tolist():
        first.setdefault(int(person[row]), {}).setdefault(int(tracks.identity[row]), float(tracks.seconds[row]))

    def of(rows: np.ndarray) -> int:
        who, count = np.unique(person[rows][person[rows] >= 0], return_counts=True)
        return int(who[count.argmax()]) if count.size and count.max() >= SURE * count.sum() else -1

    judged = []
    for doubt in find_doubts(Timeline(tracks, rate)):
        after = of(doubt.sides["own after"])
        before = of(doubt.sides.get("own before", np.zeros(0, np.int64)))
        wrong = np.nan
        if doubt.kind == NEWCOMER and after >= 0:
            others = [moment for number, moment in first[after].items() if number != doubt.identity]
            wrong = float(min(others, default=np.inf) < doubt.end)
        elif doubt.kind != NEWCOMER and min(before, after) >= 0:
            wrong = float(before != after)
        judged.append((doubt, wrong))
    return sequence, judged


def learn(judged: Judged, kind: str) -> np.ndarray:
    """Logistic regression with a little shrinking: the constant and the weights."""
    known = [(doubt.features, wrong) for doubt, wrong in judged if doubt.kind == kind and not np.isnan(wrong)]
    features, wrong = np.array([each for each, _ in known]), np.array([each for _, each in known])
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    scaled, weight = (features - mean) / std, 1 / len(SETTINGS)

    def loss(weights: np.ndarray) -> float:
        value = weights[0] + scaled @ weights[1:]
        each = np.logaddexp(0, -value) * wrong + np.logaddexp(0, value) * (1 - wrong)
        return float(weight * each.sum() + (weights[1:] ** 2).sum() / 2)

    found = minimize(loss, np.zeros(features.shape[1] + 1)).x
    return np.concatenate([[found[0] - (found[1:] * mean / std).sum()], found[1:] / std])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("runs") / "association", help="what the bundled models see")
    arguments = parser.parse_args()
    if "REID_TRACKER_DATA" not in os.environ:
        parser.error("set REID_TRACKER_DATA to the folder of evaluation data.")
    data = Path(os.environ["REID_TRACKER_DATA"]).resolve()
    for sequence in PIXELS:
        if not (arguments.cache / f"{Path(sequence).name}.npz").exists():
            parser.error("run fit_association.py with this --cache first.")
    sequences = [each for group in GROUPS.values() for each in group]
    with Pool(os.cpu_count()) as pool:
        tasks = [(each, settings, data, arguments.cache) for settings in SETTINGS for each in sequences]
        found = pool.map(judge, tasks, 1)
    kinds = (GAP, CROSSING, NEWCOMER)
    print(f"{'held out':<18}{'decisions':>10}{'wrong':>7}{f'among the {MOST_DOUBTFUL}':>15}")
    for group in GROUPS.values():
        others = [each for sequence, judged in found if sequence not in group for each in judged]
        weights = {kind: learn(others, kind) for kind in kinds}
        for sequence, judged in found[: len(sequences)]:
            if sequence not in group:
                continue
            known = [(doubt, wrong) for doubt, wrong in judged if not np.isnan(wrong)]
            score = [weights[doubt.kind] @ [1, *doubt.features] for doubt, _ in known]
            wrong = np.array([each for _, each in known])
            among = wrong[np.argsort(score)[::-1][:MOST_DOUBTFUL]].sum()
            print(f"{Path(sequence).name:<18}{len(known):>10}{wrong.sum():>7.0f}{among:>15.0f}", flush=True)
    everything = [each for _, judged in found for each in judged]
    for kind in kinds:
        print(f"{kind}: ({', '.join(f'{each:.2f}' for each in learn(everything, kind))})")


if __name__ == "__main__":
    main()
