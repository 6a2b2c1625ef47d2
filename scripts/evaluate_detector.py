"""Recall and precision of detectors on sequences with truth, as they are and corrupted as by bad light and motion.

    python scripts/evaluate_detector.py mot15/PETS09-S2L1:8 mot15/TUD-Campus --detector yolo11n.pt \
        --detector reid_tracker/weights/person.pt --corruption motion_blur --corruption low_light --severity 3

A sequence is a MOTChallenge folder; ":8" takes every 8th frame. A person is found by a box of IoU .5 or more, one each
(most found, then largest IoU). Boxes on what the truth says to leave out (flag 0, other classes) count neither way.
The same frames, corrupted alike, go to all detectors. Blur goes by the median height of the truth's boxes. With
"--corruption all --severity 1 --severity 3 --severity 5" it ends with one table of everything.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import supervision as sv
from scipy.optimize import linear_sum_assignment

from reid_tracker.detection.yolo import YoloDetector
from reid_tracker.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from reid_tracker.evaluation.mot import CLASSES, PEDESTRIAN
from reid_tracker.motchallenge import CLASS, CONFIDENCE, FRAME, HEIGHT, LEFT, read_rows
from reid_tracker.video.sources import open_source

IOU = 0.5


def read_truth(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frame numbers [G], boxes xyxy [G, 4], and which must be found [G]."""
    rows = read_rows(folder / "gt" / "gt.txt")
    boxes = rows[:, LEFT : HEIGHT + 1].copy()
    boxes[:, 2:] += boxes[:, :2]
    wanted = rows[:, CONFIDENCE] != 0
    if np.isin(rows[:, CLASS], CLASSES).all():  # MOT15 knows none
        wanted &= rows[:, CLASS] == PEDESTRIAN
    return rows[:, FRAME].astype(int), boxes, wanted


def count(found: np.ndarray, boxes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """True positives, false positives, people, in one frame."""
    iou = sv.box_iou_batch(boxes, found) if len(found) and len(boxes) else np.zeros((len(boxes), len(found)))
    score = np.where(iou >= IOU, 1 + iou / 1000, 0)
    rows, columns = linear_sum_assignment(score[wanted], maximize=True)
    hit = score[wanted][rows, columns] > 0
    rest = np.delete(iou, columns[hit], axis=1)
    left_out = (rest[~wanted] >= IOU).any(axis=0).sum()
    return np.array([hit.sum(), rest.shape[1] - left_out, wanted.sum()])


def rates(counts: np.ndarray) -> str:
    """Recall and precision of what `count` gave."""
    hit, false, people = counts
    return f"{hit / max(people, 1):.3f} / {hit / max(hit + false, 1):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", nargs="+", metavar="FOLDER[:EVERY]")
    parser.add_argument("--detector", action="append", required=True)
    parser.add_argument("--image-size", type=int, default=None)
    parser.add_argument("--confidence", type=float, action="append", help="may be repeated; default .25")
    parser.add_argument("--corruption", action="append", choices=[*CORRUPTIONS, "all"], default=[])
    parser.add_argument("--severity", type=int, action="append", choices=SEVERITIES)
    arguments = parser.parse_args()
    confidences = arguments.confidence or [0.25]
    detectors = {
        name: YoloDetector(name, confidence=min(confidences), image_size=arguments.image_size)
        for name in arguments.detector
    }
    corrupted = list(CORRUPTIONS) if "all" in arguments.corruption else arguments.corruption
    severities = arguments.severity or [3]
    kinds = [("clean", 0)] + [(kind, severity) for kind in corrupted for severity in severities]
    totals: dict[tuple[str, str, float, tuple[str, int]], np.ndarray] = {}
    names = []
    for sequence in arguments.sequences:
        path, _, every = sequence.partition(":")
        numbers, boxes, wanted = read_truth(Path(path))
        names.append(Path(path).name)
        tall = float(np.median((boxes[:, 3] - boxes[:, 1])[wanted]))
        for frame in open_source(path):
            if frame.index % int(every or 1) or frame.image is None:
                continue
            here = numbers == frame.index + 1
            for kind in kinds:
                image = frame.image
                if kind[1]:
                    image = corrupt(image, *kind, np.random.default_rng(frame.index), tall)
                for model, detector in detectors.items():
                    seen = detector.detect(dataclasses.replace(frame, image=image))
                    for confidence in confidences:
                        found = seen.xyxy[np.asarray(seen.confidence) >= confidence]
                        place = (names[-1], model, confidence, kind)
                        totals[place] = totals.get(place, 0) + count(found, boxes[here], wanted[here])
    print(f"{'recall / precision':<40}{'conf':>6}" + "".join(f"{name[:16]:>18}" for name in [*names, "all"]))
    for kind in kinds:
        print(kind[0] + (f", severity {kind[1]}" if kind[1] else ""))
        for model in detectors:
            for confidence in confidences:
                cells = [totals[name, model, confidence, kind] for name in names]
                text = [rates(cell) for cell in [*cells, np.sum(cells, axis=0)]]
                print(f"  {Path(model).name[:36]:<38}{confidence:>6.2f}" + "".join(f"{cell:>18}" for cell in text))
    if corrupted:
        columns = [(model, severity) for model in detectors for severity in severities]
        print(f"\n| all, at {confidences[0]} |", *(f"{Path(model).name}, {severity} |" for model, severity in columns))
        print("|---|" + "---|" * len(columns))
        for kind in ("clean", *corrupted):
            cells = [
                np.sum([totals[name, model, confidences[0], (kind, severity * (kind != "clean"))] for name in names], 0)
                for model, severity in columns
            ]
            print(f"| {kind.replace('_', ' ')} |", *(f"{rates(cell)} |" for cell in cells))


if __name__ == "__main__":
    main()
