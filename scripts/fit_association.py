"""Choose association's settings on all groups of sequences but one, and measure on the one held out.

    REID_TRACKER_DATA=... python scripts/fit_association.py [--cache DIR] [--copies 2] [--choose] [--json figures.json]
        [--set memory_seconds=0] [--files]

Pixels are what the bundled detector and network see in PETS09-S2L1, TUD-Campus and MOT17-11 (kept in `--cache`, so that
every variant and every other tracker gets the same input: `scripts/peers.py` reads these files); the other sequences
have public boxes only, and no vectors. Each sequence is measured as it is and on `--copies` jittered copies
(`jittered`), since one result is partly luck. Without `--choose` the defaults are measured. With it, for
every group that variant is taken which has the highest mean of HOTA and IDF1 over the other groups. `--files` measures
what the files of recorded video say, a moment later (`reid_tracker.video.settling`); without it each frame is as it is
known at that moment.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import supervision as sv

from reid_tracker import Embedder, RecordedDetections, Tracker, TrackerSettings, YoloDetector, evaluate_mot, open_source
from reid_tracker.backends import appearance_form, detector_form
from reid_tracker.config import OutputSettings, TrackConfig
from reid_tracker.pipeline.follow import Follower
from reid_tracker.results import RunSummary
from reid_tracker.video.frames import Frame
from reid_tracker.video.settling import Settling
from reid_tracker.video.sinks import FrameResult, MotSink, Sink

# Group: its sequences. What was filmed alike, or with one camera, is left out together.
GROUPS = {
    "PETS, TUD (pixels)": ("mot15/PETS09-S2L1", "mot15/TUD-Campus"),
    "MOT17-11 (pixels)": ("mot17/MOT17-11-FRCNN",),
    "ADL-Rundle-6, Venice-2": ("mot15/ADL-Rundle-6", "mot15/Venice-2"),
    "ETH-Bahnhof, ETH-Sunnyday": ("mot15/ETH-Bahnhof", "mot15/ETH-Sunnyday"),
    "KITTI-13": ("mot15/KITTI-13",),
    "MOT17-02": ("mot17/MOT17-02-FRCNN",),
    "MOT17-04": ("mot17/MOT17-04-FRCNN",),
    "MOT17-09": ("mot17/MOT17-09-FRCNN",),
}
PIXELS = {
    "mot15/PETS09-S2L1": "PETS09-S2L1.avi",
    "mot15/TUD-Campus": "TUD-Campus.mp4",
    "mot17/MOT17-11-FRCNN": "MOT17-11.mp4",
}
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"lost_seconds": 2.0},
    {"lost_seconds": 5.0},
    {"new_confidence": 0.55},
    {"new_confidence": 0.75},
    {"high_confidence": 0.25},
    {"high_confidence": 0.5},
    {"motion_limit": 0.7},
    {"motion_limit": 0.9},
    {"appearance_weight": 0.4},
    {"appearance_weight": 0.6},
    {"confirm_sightings": 2},
    {"confirm_sightings": 4},
)

OUTPUT, FILES = OutputSettings(), False


def see(video: Path, kept: Path) -> None:
    """Write what the bundled models see in a video."""
    detector, embedder = YoloDetector(detector_form(None)), Embedder(appearance_form(None))
    columns: dict[str, list[np.ndarray]] = {"frame": [], "xyxy": [], "confidence": [], "embedding": []}
    for frame in open_source(video):
        found = detector.detect(frame)
        vectors = embedder.embed(frame.image, found.xyxy)
        rows = (np.full(len(found), frame.index + 1), found.xyxy, found.confidence, vectors)
        for column, values in zip(columns.values(), rows, strict=True):
            column.append(values)
    kept.parent.mkdir(parents=True, exist_ok=True)
    np.savez(kept, **{name: np.concatenate(column) for name, column in columns.items()})


def see_all(data: Path, cache: Path) -> None:
    """Let the bundled models see what they have not seen yet."""
    for sequence, video in PIXELS.items():
        kept = cache / f"{Path(sequence).name}.npz"
        if not kept.exists():
            see(data / sequence / video, kept)


def read(sequence: str, data: Path, cache: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Boxes, confidences and vectors of a sequence, and what its seqinfo.ini says."""
    folder = data / sequence
    lines = dict(line.split("=") for line in (folder / "seqinfo.ini").read_text().split() if "=" in line)
    path = cache / f"{folder.name}.npz" if sequence in PIXELS else folder / "det" / "det.txt"
    recorded = RecordedDetections(path)
    names = ("xyxy", "confidence", "embedding") if sequence in PIXELS else ("xyxy", "confidence")
    columns = {"frame": recorded._frame, **{name: recorded._columns[name] for name in names}}
    columns.setdefault("embedding", np.zeros((len(columns["frame"]), 2), dtype=np.float32))
    return columns, lines


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


class Seen:
    """Gives the vectors that were recorded of a frame's boxes."""

    boxes = vectors = np.zeros((0, 0), dtype=np.float32)

    def embed(self, image: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
        """Vectors [K, D] of the boxes [K, 4]."""
        rows = {tuple(box): row for row, box in enumerate(self.boxes.tolist())}
        return self.vectors[[rows[tuple(box)] for box in xyxy.tolist()]]


def tracks_of(sequence: str, settings: dict[str, Any], copy: int, data: Path, cache: Path) -> Iterator[FrameResult]:
    """Track a sequence, or a jittered copy (0 is none): each frame's result, as known at that moment."""
    columns, about = read(sequence, data, cache)
    rate = float(about["frameRate"])
    if copy:
        columns = jittered(columns, copy)
        sure = columns["confidence"] >= 0.1
        columns = {name: values[sure] for name, values in columns.items()}
    pixels = sequence in PIXELS
    statistics = Embedder(appearance_form(None)).statistics if pixels else None
    config = TrackConfig(tracker=TrackerSettings(**settings), output=OUTPUT)
    tracker, seen = Tracker(config.tracker, rate, statistics), Seen()
    source: Any = SimpleNamespace(frame_rate=rate, width=int(about["imWidth"]), height=int(about["imHeight"]))
    follower = Follower(source, seen, tracker, None, config, RunSummary(sequence))
    images = iter(open_source(data / sequence / PIXELS[sequence])) if pixels else None
    for number in range(1, int(about["seqLength"]) + 1):
        rows = slice(*np.searchsorted(columns["frame"], (number, number + 1)))
        found = sv.Detections(xyxy=columns["xyxy"][rows], confidence=columns["confidence"][rows])
        seen.boxes, seen.vectors = found.xyxy, columns["embedding"][rows]
        image = None if images is None else next(images).image
        yield follower.follow(Frame(image, number - 1, number / rate), found)


def follow(task: tuple[str, dict[str, Any], int, Path, Path]) -> tuple[str, dict[str, float]]:
    """Figures of a sequence, tracked as `tracks_of` does."""
    sequence, _, _, data, _ = task
    with tempfile.TemporaryDirectory() as work:
        result = Path(work) / f"{Path(sequence).name}.txt"
        sink: Sink = MotSink(result)
        if FILES:
            sink = Settling(sink, OUTPUT.bridge_seconds, lead_in_seconds=OUTPUT.lead_in_seconds)
        for each in tracks_of(*task):
            sink.write(each)
        sink.close()
        figures = evaluate_mot(data / sequence, result)
    return sequence, next(iter(figures.values()))


def measure(settings: dict[str, Any], copies: int, data: Path, cache: Path, pool: Any) -> dict[str, dict[str, float]]:
    """Mean figures of every sequence over itself and its copies."""
    sequences = [each for group in GROUPS.values() for each in group]
    tasks = [(each, settings, copy, data, cache) for copy in range(copies + 1) for each in sequences]
    found = pool.map(follow, tasks, 1)
    names = ("HOTA", "MOTA", "IDF1", "IDSW")
    return {
        each: {name: float(np.mean([row[name] for key, row in found if key == each])) for name in names}
        for each in sequences
    }


def of_group(figures: dict[str, dict[str, float]], group: str, name: str) -> float:
    return float(np.mean([figures[each][name] for each in GROUPS[group]]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("runs") / "association", help="what the bundled models see")
    parser.add_argument("--copies", type=int, default=2, help="jittered copies of each sequence")
    parser.add_argument("--choose", action="store_true", help="choose by the other groups; else the defaults")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a tracker setting of all runs"
    )
    parser.add_argument("--json", type=Path, help="write all figures")
    parser.add_argument("--files", action="store_true", help="what the files of recorded video say")
    arguments = parser.parse_args()
    global FILES
    FILES = arguments.files
    if "REID_TRACKER_DATA" not in os.environ:
        parser.error("set REID_TRACKER_DATA to the folder of evaluation data.")
    data = Path(os.environ["REID_TRACKER_DATA"]).resolve()
    see_all(data, arguments.cache)
    common = {name: float(value) for name, value in (each.split("=") for each in arguments.set)}
    variants = [common | each for each in (VARIANTS if arguments.choose else VARIANTS[:1])]
    with Pool(os.cpu_count()) as pool:
        measured = [measure(each, arguments.copies, data, arguments.cache, pool) for each in variants]
    for settings, figures in zip(variants, measured, strict=True):
        means = [100 * np.mean([of_group(figures, group, name) for group in GROUPS]) for name in ("HOTA", "IDF1")]
        print(f"{settings or 'defaults'}: HOTA {means[0]:.2f}  IDF1 {means[1]:.2f}, mean over groups")
    print(f"\n{'held out':<28}{'HOTA':>7}{'MOTA':>7}{'IDF1':>7}{'switches':>10}   chosen on the others")
    rows = []
    for group, sequences in GROUPS.items():
        others = [each for each in GROUPS if each != group]
        score = [np.mean([of_group(f, o, name) for o in others for name in ("HOTA", "IDF1")]) for f in measured]
        best = int(np.argmax(score))
        for each in sequences:
            row = measured[best][each]
            rows.append(row)
            name, shares = Path(each).name, "".join(f"{100 * row[key]:>7.1f}" for key in ("HOTA", "MOTA", "IDF1"))
            print(f"{name:<28}{shares}{row['IDSW']:>10.0f}   {variants[best] or 'defaults'}")
    if arguments.json:
        named = [{"settings": s, "figures": f} for s, f in zip(variants, measured, strict=True)]
        arguments.json.write_text(json.dumps(named, indent=1))


if __name__ == "__main__":
    main()
