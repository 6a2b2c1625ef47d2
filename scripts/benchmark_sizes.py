"""The detector at every size: what it finds, what the tracker makes of it, and what it takes.

    REID_TRACKER_DATA=... python scripts/benchmark_sizes.py [mot15/PETS09-S2L1 ...] [--sizes 640 960] [--model FILE]

AP is the area under precision over recall at IoU .5, from confidence .05 on. "False at equal recall": false boxes among
the surest that find as many people as the model finds at its own size and confidence .25. Boxes on what the truth says
to leave out count neither way. HOTA and the rest are those of the whole way from pixels, at default settings; folders
of a few frames, such as mot17_mini, are not tracked, and are counted together.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import supervision as sv
from benchmark_tracking import short
from evaluate_detector import IOU, read_truth

from reid_tracker import TrackConfig, YoloDetector, evaluate_mot, track
from reid_tracker.backends import detector_form
from reid_tracker.config import load
from reid_tracker.detection.size import STEPS
from reid_tracker.motchallenge import read_rows
from reid_tracker.video.sources import open_source

SIZES = (448, 640, 800, 960, 1120, 1280)
WHOLE = ("mot15/PETS09-S2L1", "mot15/TUD-Campus", "mot17/MOT17-11-FRCNN")
WEAKEST, USUAL, OWN = 0.05, 0.25, 640
TRACKED = 50  # frames from which on a sequence is tracked, too


def video_of(folder: Path) -> Path:
    """The film of a sequence, or its folder of pictures."""
    return next((each for kind in ("*.mp4", "*.avi") for each in sorted(folder.glob(kind))), folder)


def detect(video: Path, size: int, model: str | None, boxes: Path) -> float:
    """Write what a detector finds at a size; the milliseconds that a frame takes in the median."""
    detector = YoloDetector(detector_form(model), confidence=WEAKEST, image_size=size)
    rows, seconds = [np.zeros((0, 6))], []
    for frame in open_source(str(video)):
        start = time.perf_counter()
        found = detector.detect(frame)
        seconds.append(time.perf_counter() - start)
        rows.append(np.column_stack([np.full(len(found), frame.index + 1), found.xyxy, np.asarray(found.confidence)]))
    table = np.concatenate(rows)
    np.savez(boxes, frame=table[:, 0].astype(int), xyxy=table[:, 1:5].astype(np.float32), confidence=table[:, 5])
    return 1000 * float(np.median(seconds))


def judge(folder: Path, boxes: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Confidence and truth of every box that counts, and how many people there are in the frames.

    As COCO: the surest box first, each takes the free person that it overlaps most.
    """
    numbers, truth, wanted = read_truth(folder)
    with np.load(boxes) as found:
        frame, xyxy, confidence = found["frame"], found["xyxy"], found["confidence"]
    judged, people = [np.zeros((0, 2))], 0
    for number in np.union1d(numbers, frame):  # boxes in frames without anybody are false
        here, free = truth[numbers == number], wanted[numbers == number].copy()
        left_out, people = ~free, people + free.sum()
        rows = np.flatnonzero(frame == number)
        rows = rows[np.argsort(-confidence[rows], kind="stable")]
        overlap = sv.box_iou_batch(here, xyxy[rows]) if len(rows) else np.zeros((len(here), 0))
        for column, row in enumerate(rows):
            candidates = np.where(free, overlap[:, column], 0)
            right = bool((candidates >= IOU).any())
            if right:
                free[candidates.argmax()] = False
            elif (overlap[left_out, column] >= IOU).any():
                continue
            judged.append(np.array([[confidence[row], right]]))
    table = np.concatenate(judged)
    return table[:, 0], table[:, 1] > 0, int(people)


class Curve:
    """Precision over recall of judged boxes."""

    def __init__(self, confidence: np.ndarray, right: np.ndarray, people: int) -> None:
        order = np.argsort(-confidence, kind="stable")
        self._confidence = confidence[order]
        hits, self._false = np.cumsum(right[order]), np.cumsum(~right[order])
        self.recall, self._precision = hits / people, hits / np.maximum(hits + self._false, 1)

    def average_precision(self) -> float:
        """The area, with precision made to fall."""
        falling = np.maximum.accumulate(self._precision[::-1])[::-1]
        return float((np.diff(self.recall, prepend=0) * falling).sum())

    def at(self, confidence: float) -> tuple[float, float]:
        """Recall and precision from a confidence on."""
        last = max(int((self._confidence >= confidence).sum()) - 1, 0)
        return float(self.recall[last]), float(self._precision[last])

    def false_at(self, recall: float) -> str:
        """How many false boxes there are where so many people are found."""
        place = int(np.searchsorted(self.recall, recall))
        return str(self._false[place]) if place < len(self._false) else "-"


def follow(folder: Path, video: Path, work: Path, given: dict[str, Any]) -> str:
    """HOTA / MOTA / IDF1 / switches of the whole way."""
    with tempfile.TemporaryDirectory(dir=work) as place:
        truth, results = Path(place) / "truth", Path(place) / "results"
        truth.mkdir()
        (truth / video.stem).symlink_to(folder)
        track(video, load(TrackConfig, None, {**given, "output.mot": True, "output.folder": str(results)}))
        return short(evaluate_mot(truth, results)["COMBINED_SEQ"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sequences", nargs="*", default=WHOLE, help="folders under REID_TRACKER_DATA")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--model", help="another detector than the bundled one")
    chosen = parser.parse_args()
    data = Path(os.environ["REID_TRACKER_DATA"])
    few = sorted((data / "mot17_mini").glob("MOT17-*"))
    groups = {each: [data / each] for each in chosen.sequences} | ({"mot17_mini": few} if few else {})
    print(
        "| sequence | size | ms | AP | recall / precision at .25 | false at equal recall | HOTA / MOTA / IDF1 / IDSW |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, folders in groups.items():
            curves: dict[int, Curve] = {}
            ms: dict[int, float] = {}
            whole: dict[int, str] = {}
            for size in sorted({*chosen.sizes, OWN}):
                judged, took = [], []
                for place in folders:
                    boxes = Path(folder) / f"{place.name}_{size}.npz"
                    took.append(detect(video_of(place), size, chosen.model, boxes))
                    judged.append(judge(place, boxes))
                confidence, right, people = zip(*judged, strict=True)
                curves[size] = Curve(np.concatenate(confidence), np.concatenate(right), sum(people))
                ms[size] = float(np.median(took))
                if is_tracked(folders[0]):
                    given = {"detector.recorded": str(boxes)}
                    whole[size] = follow(folders[0], video_of(folders[0]), Path(folder), given)
            usual, _ = curves[OWN].at(USUAL)
            for size, curve in curves.items():
                found, precise = curve.at(USUAL)
                figures = f"{curve.average_precision():.3f} | {found:.3f} / {precise:.3f} | {curve.false_at(usual)}"
                print(f"| {name} | {size} | {ms[size]:.0f} | {figures} | {whole.get(size, '')} |", flush=True)
            for speed in STEPS if is_tracked(folders[0]) else ():
                given = {"detector.speed": speed, "detector.model": chosen.model}
                figures = follow(folders[0], video_of(folders[0]), Path(folder), given)
                print(f"| {name} | {speed} | | | | | {figures} |", flush=True)


def is_tracked(folder: Path) -> bool:
    """Whether a sequence is long enough for that."""
    return len(np.unique(read_rows(folder / "gt" / "gt.txt")[:, 0])) >= TRACKED


if __name__ == "__main__":
    main()
