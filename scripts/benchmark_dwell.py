"""How well dwell times in zones are told, against the ground truth of PETS09-S2L1.

    REID_TRACKER_DATA=... python scripts/benchmark_dwell.py RESULTS.jsonl

RESULTS are those of `reid-tracker track PETS09-S2L1.avi --jsonl --fps 7`. The truth, with one number a person
(`people.json`), and the results go through the same counting (`report`), in three zones across the picture. A visit of
the truth is compared with all of the same person's in the results that meet it in time.
"""

import argparse
import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from reid_tracker.counting import PassageCounter, parse_shapes
from reid_tracker.exchange.replay import replay
from reid_tracker.exchange.tracks import Tracks, read_results
from reid_tracker.motchallenge import read_rows
from reid_tracker.report.visits import Visit, VisitLog
from reid_tracker.tracking import costs
from reid_tracker.tracking.bridge import measured
from reid_tracker.video.sinks import FrameResult

RATE = 7.0
ZONES = (
    "path=330,150 700,150 700,420",
    "crossing=250,250 550,250 550,450 250,450",
    "lawn=50,300 350,300 350,560 50,560",
)


def visits(tracks: Tracks) -> list[Visit]:
    """Stays in the zones."""
    counter = PassageCounter(parse_shapes([], ZONES))
    log = VisitLog(counter)
    for frame, here in replay(tracks, None, RATE):
        counter.update(measured(here), frame.timestamp)
        log.write(FrameResult(frame, here, here))
    return [each for each in log.visits() if each.place]


def people_of(truth: Tracks, results: Tracks) -> dict[int, int]:
    """Whom of the truth each number of the results overlaps most often."""
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for frame in np.unique(truth.frame).tolist():
        i, j = np.flatnonzero(truth.frame == frame), np.flatnonzero(results.frame == frame)
        row, column = costs.overlapping(truth.xyxy[i], results.xyxy[j])
        near = costs.iou(truth.xyxy[i[row]], results.xyxy[j[column]]) >= 0.5
        for person, number in zip(truth.identity[i[row[near]]], results.identity[j[column[near]]], strict=True):
            votes[int(number)][int(person)] += 1
    return {number: found.most_common(1)[0][0] for number, found in votes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    arguments = parser.parse_args()
    if "REID_TRACKER_DATA" not in os.environ:
        parser.error("set REID_TRACKER_DATA to the folder of evaluation data.")
    folder = Path(os.environ["REID_TRACKER_DATA"]) / "mot15" / "PETS09-S2L1"
    one = {int(number): int(person) for number, person in json.loads((folder / "people.json").read_text()).items()}
    rows = read_rows(folder / "gt" / "gt.txt")
    truth = Tracks.from_rows(
        [(r[0], one.get(int(r[1]), int(r[1])), r[2], r[3], r[2] + r[4], r[3] + r[5], 1.0) for r in rows], folder
    )
    results = read_results(arguments.results)
    person, true, told = people_of(truth, results), visits(truth), visits(results)
    errors, missed = [], 0
    for stay in true:
        own = [each for each in told if each.place == stay.place and person.get(each.number) == stay.number]
        own = [each for each in own if each.left >= stay.entered and each.entered <= stay.left]
        missed += not own
        if own:
            dwell = max(each.left for each in own) - min(each.entered for each in own)
            errors.append(abs(dwell - (stay.left - stay.entered)))
    median, most = np.percentile(errors, (50, 90))
    print(f"{len(true)} visits of the truth, {len(told)} told, {missed} missed")
    print(f"error of the dwell time: median {median:.2f} s, 90 % below {most:.2f} s")


if __name__ == "__main__":
    main()
