"""Bad cameras: this tracker and BoxMOT's on the same corrupted pictures, that is on the same boxes and vectors.

    REID_TRACKER_DATA=... python scripts/benchmark_robustness.py [--end 300] [--peers-python /path/to/peers/bin/python]

PETS09-S2L1, recorded YOLO11n boxes of the clean frames (moved when the camera shakes), vectors by the bundled network
from the corrupted frames, one of every box; all trackers at their defaults, BoxMOT's (an environment with boxmot 25)
without camera motion. IDF1, and what is kept of the clean one. Dropped frames and low rates are scored on the frames
that are left. `reid-tracker evaluate robustness` measures a sequence of one's own, also with the detector.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_reentry import BoxMot, Ours

PEERS = ("BotSort", "HybridSort")


def record(folder: Path, kinds: list[str], severity: int, end: int, work: Path) -> Any:
    """Write what trackers get, ``<kind>.npz``, and the truth beside it, ``<kind>/``; the network's statistics."""
    from reid_tracker import Embedder, RecordedDetections, open_source
    from reid_tracker.evaluation.robustness import write_truth
    from reid_tracker.evaluation.video_corruptions import VideoCorruption
    from reid_tracker.motchallenge import HEIGHT, read_rows

    embedder, boxes = Embedder(device="cpu"), RecordedDetections(folder / "yolo11n_osnet.npz")
    truth = read_rows(folder / "gt" / "gt.txt")
    corruptions = [VideoCorruption(kind, severity, float(np.median(truth[:, HEIGHT]))) for kind in kinds]
    columns: dict[str, list[Any]] = {kind: [] for kind in kinds}
    for position, frame in enumerate(open_source(folder, end=end)):
        found = boxes.detect(frame)
        for each in (each for each in corruptions if each.keeps(position)):
            xyxy = (found.xyxy + np.tile(each.shift(frame.timestamp), 2)).astype(np.float32)
            vectors = embedder.embed(each.apply(frame.image, frame.index, frame.timestamp), xyxy)
            numbers = np.full(len(xyxy), frame.index + 1)
            columns[each.kind].append((numbers, np.full(len(xyxy), frame.timestamp), xyxy, found.confidence, vectors))
    for each in corruptions:
        frame, time, xyxy, confidence, embedding = map(np.concatenate, zip(*columns[each.kind], strict=True))
        np.savez(
            work / f"{each.kind}.npz", frame=frame, time=time, xyxy=xyxy, confidence=confidence, embedding=embedding
        )
        write_truth(work / each.kind, truth, dict(zip(frame.tolist(), time.tolist(), strict=True)), each)
    return embedder.statistics


def follow(system: Any, data: Any, result: Path) -> None:
    """Track what was recorded and write a MOTChallenge file."""
    lines = []
    data = {name: data[name] for name in data}
    for frame in np.unique(data["frame"]):
        rows = np.flatnonzero(data["frame"] == frame)
        arrays = (data[name][rows] for name in ("xyxy", "confidence", "embedding"))
        for index, number in zip(*system.step(float(data["time"][rows[0]]), *arrays), strict=True):
            left, top, right, bottom = data["xyxy"][rows[index]]
            lines.append(f"{frame},{number},{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f},1,-1,-1,-1\n")
    result.write_text("".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--end", type=int, default=795, help="Last frame.")
    parser.add_argument("--peers-python", help="Python of an environment that has boxmot 25")
    parser.add_argument(
        "--peer", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS
    )  # for the processes below
    arguments = parser.parse_args()
    if arguments.peer:
        name, work = arguments.peer[0], Path(arguments.peer[1])
        for file in work.glob("*.npz"):
            follow(BoxMot(name), np.load(file), work / f"{name}-{file.stem}.txt")
        return
    if "REID_TRACKER_DATA" not in os.environ:
        parser.error("set REID_TRACKER_DATA to the folder of evaluation data.")
    from reid_tracker import evaluate_mot
    from reid_tracker.evaluation.video_corruptions import BLUR_AND_LIGHT, VIDEO_CORRUPTIONS

    folder, kinds = Path(os.environ["REID_TRACKER_DATA"]) / "mot15" / "PETS09-S2L1", ["clean", *VIDEO_CORRUPTIONS]
    names = ["reid_tracker", *(PEERS if arguments.peers_python else ())]
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        statistics = record(folder, kinds, arguments.severity, arguments.end, work)
        for kind in kinds:
            follow(Ours(7.0, statistics, {}), np.load(work / f"{kind}.npz"), work / f"reid_tracker-{kind}.txt")
        for name in names[1:]:
            command = [arguments.peers_python, __file__, "--peer", name, place]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"BoxMOT {name} could not be run:\n{done.stderr}")
        idf1 = {
            (name, kind): evaluate_mot(work / kind, work / f"{name}-{kind}.txt")[kind]["IDF1"]
            for name in names
            for kind in kinds
        }
    print(f"PETS09-S2L1 frames 1-{arguments.end}, severity {arguments.severity}: IDF1 / kept of clean\n")
    print(f"{'':<20}" + "".join(f"{name:>18}" for name in names))
    for kind in kinds:
        cells = (
            f"{100 * idf1[name, kind]:.1f} / {100 * idf1[name, kind] / idf1[name, 'clean']:.0f} %" for name in names
        )
        print(f"{kind:<20}" + "".join(f"{cell:>18}" for cell in cells))
    means = [np.mean([idf1[name, kind] for kind in BLUR_AND_LIGHT]) for name in names]
    cells = (
        f"{100 * mean:.1f} / {100 * mean / idf1[name, 'clean']:.0f} %" for name, mean in zip(names, means, strict=True)
    )
    print(f"{'blur and light':<20}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
