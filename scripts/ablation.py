"""What each mechanism of the tracker is worth: removed one at a time, on recorded boxes and vectors.

    REID_TRACKER_DATA=... python scripts/ablation.py [--copies 10] [--set NAME=VALUE]

PETS09-S2L1 and TUD-Campus together, YOLO11n boxes and OSNet vectors. Re-entry is the share who get their number back
after 10 s (`benchmark_reentry.py`, cuts every 8 s, false-match rate 5 %); ms is association alone, a frame, by the
processor's clock. A single result is partly luck: `--copies` adds the mean and spread over copies whose boxes,
confidences and vectors are jittered. `--set` compares settings instead of removing anything.
"""

import argparse
import os
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from benchmark_reentry import FALSE_MATCH_RATE, Ours, prepare, trials

from reid_tracker import evaluate_mot, open_source
from reid_tracker.config import OutputSettings
from reid_tracker.evaluation.mot import COMBINED
from reid_tracker.motchallenge import format_row
from reid_tracker.tracking import kalman, motion_noise, tracker
from reid_tracker.tracking.bridge import Bridge
from reid_tracker.tracking.calibration import CosineStatistics

NAMES = ("PETS09-S2L1", "TUD-Campus")
# What is removed: settings, or the name of what `Variant` does.
VARIANTS: dict[str, dict[str, Any]] = {
    "everything": {},
    "appearance": {"without": "vectors"},
    "calibration (cosines as they are)": {"without": "calibration"},
    "quality of covered crops": {"without": "quality"},
    "memory": {"memory_seconds": 0},
    "smooth boxes": {"without": "smooth"},
    "less trust in unsure boxes": {"without": "trust"},
    "noise learned from the scene": {"without": "noise"},
    "slow shrinking": {"without": "shrinking"},
    "bridging of moments": {"without": "bridge"},
    "waiting for the lost": {"lost_seconds": 0},
    "low-confidence round": {"low_confidence": 0.35},
    "match without overlap": {"distant_appearance": 0},
    "occlusion rule": {"occlusion": 1},
    "slow change of appearance": {"appearance_momentum": 0},
    "duplicate rule": {"duplicate_iou": 1},
    "proof of arrival": {"confirm_sightings": 1},
    "vectors of certain matches": {"without": "certain"},
    "(added) following a camera that stands still": {"camera_motion": True},
}
# What these variants put in the place of a part of the tracker.
REPLACED: dict[str, tuple[Any, str, Any]] = {
    "trust": (kalman, "trust", np.ones_like),
    "noise": (motion_noise.MotionNoise, "factor", 1.0),
    "shrinking": (tracker, "SHRINKING_SHARE", tracker.SIZE_SHARE),
}


class Variant(Ours):
    """The tracker without a mechanism."""

    def __init__(self, rate: float, variant: dict[str, Any]) -> None:
        settings = {name: value for name, value in variant.items() if name != "without"}
        self.without = variant.get("without")
        raw = CosineStatistics(1.0, 0.0, 0.0, 0.0) if self.without == "calibration" else None
        super().__init__(rate, raw, settings)
        if self.without == "calibration":
            self.tracker._calibration.MINIMUM_SAME = np.inf
        if self.without == "quality":
            self.tracker._calibration.quality = np.ones_like
        self.bridge = Bridge(0.0 if self.without == "bridge" else OutputSettings().bridge_seconds)
        self.seconds, self.image, self.size = 0.0, None, None

    def step(self, time_: float, xyxy: np.ndarray, confidence: np.ndarray, embedding: np.ndarray) -> Any:  # noqa: D102
        import supervision as sv

        data = {"row": np.arange(len(xyxy))}
        found = sv.Detections(xyxy=xyxy, confidence=confidence, data=data)
        start = time.thread_time()
        if self.without != "vectors":
            if self.without == "certain":
                embedding = embedding.copy()
                embedding[self.tracker.certain(found, time_, 0.3)] = np.nan
            found.data["embedding"] = embedding
        tracks = self.tracker.update(found, time_, self.image)
        self.seconds += time.thread_time() - start
        numbers = tracks.tracker_id
        if self.without != "smooth":
            tracks.xyxy = tracks.data["smooth_xyxy"]
        self.shown = self.bridge(tracks, self.tracker, self.size)
        return tracks.data["row"], numbers


def follow(data: dict[str, np.ndarray], variant: dict[str, Any], folder: Path, result: Path) -> tuple[float, int]:
    """Track a sequence and write its result; seconds and frames."""
    rate = float(data["rate"])
    system, lines = Variant(rate, variant), []
    source = open_source(folder)
    system.size = (source.width, source.height)
    images = iter(source) if variant.get("camera_motion") else None
    last = int(data["frame"].max())
    for frame in range(1, last + 1):
        rows = slice(*np.searchsorted(data["frame"], (frame, frame + 1)))
        system.image = next(images).image if images is not None else None
        xyxy = data["xyxy"][rows]
        system.step(frame / rate, xyxy, data["confidence"][rows], data["embedding"][rows])
        pairs = zip(system.shown.tracker_id.tolist(), system.shown.xyxy, strict=True)
        lines += [format_row(frame, number, box, 1.0) for number, box in pairs]
    result.write_text("".join(lines))
    return system.seconds, last


def jittered(data: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Make a copy as another detector of the same skill might have seen it.

    Corners are off by 1.5 % of a person's height (deviation), confidences by .03, vectors by .01 a number; 3 % of the
    boxes are missing.
    """
    random, xyxy = np.random.default_rng(seed), data["xyxy"]
    height = xyxy[:, 3:] - xyxy[:, 1:2]
    vectors = data["embedding"] + random.normal(0, 0.01, data["embedding"].shape)
    changed = {
        "frame": data["frame"],
        "xyxy": xyxy + random.normal(0, 0.015, xyxy.shape) * height,
        "confidence": np.clip(data["confidence"] + random.normal(0, 0.03, len(xyxy)), 0.05, 1),
        "embedding": vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    }
    kept = random.random(len(xyxy)) > 0.03
    return {**data, **{name: values.astype(data[name].dtype)[kept] for name, values in changed.items()}}


def measure(
    data: list[dict[str, np.ndarray]], variant: dict[str, Any], folders: list[Path]
) -> tuple[dict[str, float], float]:
    """Figures of all sequences together, and association's ms a frame."""
    with tempfile.TemporaryDirectory() as work:
        truth, results = Path(work) / "truth", Path(work) / "results"
        truth.mkdir()
        results.mkdir()
        for folder in folders:
            (truth / folder.name).symlink_to(folder.resolve())
        taken = [
            follow(each, variant, folder, results / f"{folder.name}.txt")
            for each, folder in zip(data, folders, strict=True)
        ]
        seconds, frames = map(sum, zip(*taken, strict=True))
        return evaluate_mot(truth, results)[COMBINED], 1000 * seconds / frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=0, help="jittered copies to measure as well")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="Setting of this tracker.")
    arguments = parser.parse_args()
    if "REID_TRACKER_DATA" not in os.environ:
        parser.error("set REID_TRACKER_DATA to the folder of evaluation data.")
    folders = [Path(os.environ["REID_TRACKER_DATA"]) / "mot15" / name for name in NAMES]
    data = [prepare(folder, None) for folder in folders]
    variants = VARIANTS
    if arguments.set:
        variants = {"defaults": {}, ", ".join(arguments.set): dict(pair.split("=") for pair in arguments.set)}
    copied = f" HOTA of {arguments.copies} copies | IDF1 |" if arguments.copies else ""
    print("| removed | HOTA | IDF1 | switches | re-entry 10 s | ms |" + copied)
    print("|---|---|---|---|---|---|" + "---|---|" * bool(copied))
    for name, variant in variants.items():
        replaced = REPLACED.get(variant.get("without", ""))
        with patch.object(*replaced) if replaced else nullcontext():
            print(line_of(name, variant, data, folders, arguments.copies), flush=True)


def line_of(
    name: str, variant: dict[str, Any], data: list[dict[str, np.ndarray]], folders: list[Path], count: int
) -> str:
    """Row of the table: a variant's figures, and those of so many jittered copies."""
    figures, milliseconds = measure(data, variant, folders)
    asked = {**variant, "camera_motion": False, "return_false_match_rate": FALSE_MATCH_RATE}
    back = trials(lambda rate: Variant(rate, asked), *data, [10], 8.0, strangers=False)
    share = np.mean([row[4] == "back" for row in back])
    line = (
        f"| {name} | {100 * figures['HOTA']:.1f} | {100 * figures['IDF1']:.1f} | {figures['IDSW']:.0f} | "
        f"{100 * share:.0f} % of {len(back)} | {milliseconds:.2f} |"
    )
    if count:
        copies = [[jittered(each, seed) for each in data] for seed in range(count)]
        found = [measure(copy, variant, folders)[0] for copy in copies]
        spread = [[100 * each[key] for each in found] for key in ("HOTA", "IDF1")]
        line += "".join(f" {np.mean(part):.2f} ± {np.std(part):.2f} |" for part in spread)
    return line


if __name__ == "__main__":
    main()
