"""Peers: other packages' trackers on the same recorded boxes, at their default settings.

    python scripts/peers.py TRACKER INPUT.npz OUT.txt [--frame-rate 30] [--frames LAST] [--video FILE] [--size WxH]
    python scripts/peers.py TRACKER --time PEOPLE --crowd crowd.py

It needs nothing of reid_tracker, only an environment that has the peers (`pip install boxmot==25.0.0 trackers==2.6.1
ultralytics`), and TRACKER is one of boxmot-bytetrack, boxmot-ocsort, boxmot-botsort, boxmot-hybridsort,
boxmot-occluboost, roboflow-cbiou, roboflow-bytetrack, ultralytics-bytetrack and ultralytics-botsort.

Input     `frame` (1-based), `xyxy` [N, 4], `confidence` [N] and, optionally, `embedding` [N, D]. Boxes below 0.1 are
          dropped. Vectors go to the trackers that take them (BotSort, HybridSort and OccluBoost of BoxMOT); without
          any, and with `--motion-only`, these run without appearance.
Output    MOTChallenge text, the boxes as the tracker gives them. Every frame of 1..LAST counts, empty ones too.
Pictures  With `--video`, a tracker that looks for camera motion gets the frames. Without, camera motion is switched off
          and the picture is blank.
Settings  Those of a tracker's constructor. BoxMOT has a second set, of its command line: `--configured`, the numbers in
          the YAML files that it ships. Its C++ trackers (`--backend cpp`: bytetrack, ocsort, botsort, occluboost) know
          no other; they are compiled at their first use, which takes CMake, a compiler, OpenCV and Eigen.
          `--frame-rate` is for Roboflow's trackers, which wait for the lost by it. BoxMOT's BotSort and ByteTrack count
          on 30 by default, and so they do here; Ultralytics' have no rate.

`--time` prints the median milliseconds a frame on a synthetic crowd, built outside of the clock: 120 frames of which 20
warm up. `--crowd` is a Python file with `crowd(people, frames)` that yields (xyxy, confidence, embedding).
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

LEAST_CONFIDENCE = 0.1
FRAMES, WARM_UP = 120, 20
SIZE = "1920x1080"
BOXMOT = {"bytetrack": "ByteTrack", "ocsort": "OcSort", "botsort": "BotSort"}
BOXMOT |= {"hybridsort": "HybridSort", "occluboost": "OccluBoost"}
WITH_APPEARANCE = ("botsort", "hybridsort", "occluboost")  # of BoxMOT; all of them may look for camera motion too
ROBOFLOW = {"cbiou": "CBIoUTracker", "bytetrack": "ByteTrackTracker"}
ULTRALYTICS = {"bytetrack": "BYTETracker", "botsort": "BOTSORT"}
TRACKERS = [f"boxmot-{name}" for name in BOXMOT] + [f"roboflow-{name}" for name in ROBOFLOW]
TRACKERS += [f"ultralytics-{name}" for name in ULTRALYTICS]

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # numbers, boxes, confidences
Step = Callable[[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray], Rows]


def boxmot_tracker(name: str, appearance: bool, pictures: bool, configured: bool, backend: str) -> Any:
    import boxmot
    from boxmot.trackers import TrackerSpec

    options: dict[str, Any] = {}
    if name in WITH_APPEARANCE:
        options = {"use_embeddings": appearance} | ({} if pictures else {"use_cmc": False})
    if name == "hybridsort" and not pictures:
        del options["use_cmc"]
        options["cmc_method"] = None
    if configured or backend == "cpp":
        return boxmot.create_tracker(TrackerSpec(name=name, backend=backend, options=tuple(sorted(options.items()))))
    return getattr(boxmot, BOXMOT[name])(**options)


def boxmot_step(name: str, appearance: bool, pictures: bool, configured: bool, backend: str) -> Step:
    import torch
    from boxmot.structures import Boxes, Detections

    appearance = appearance and name in WITH_APPEARANCE
    tracker = boxmot_tracker(name, appearance, pictures, configured, backend)

    def step(xyxy: np.ndarray, confidence: np.ndarray, embedding: np.ndarray | None, picture: np.ndarray) -> Rows:
        detections = Detections(
            geometry=Boxes(torch.from_numpy(xyxy)),
            scores=torch.from_numpy(confidence),
            class_ids=torch.zeros(len(xyxy), dtype=torch.int64),
            sample_id="video",
            embeddings=torch.from_numpy(embedding) if appearance else None,
        )
        found = tracker.update(detections, picture)
        return found.track_ids.numpy(), found.geometry.values.numpy(), found.scores.numpy()

    return step


def roboflow_step(name: str, rate: float) -> Step:
    import supervision as sv
    import trackers

    tracker = getattr(trackers, ROBOFLOW[name])(frame_rate=rate)

    def step(xyxy: np.ndarray, confidence: np.ndarray, _: np.ndarray | None, __: np.ndarray) -> Rows:
        found = tracker.update(sv.Detections(xyxy, confidence=confidence, class_id=np.zeros(len(xyxy), dtype=int)))
        found = found[found.tracker_id >= 0]
        return found.tracker_id, found.xyxy, found.confidence

    return step


def ultralytics_step(name: str, pictures: bool) -> Step:
    from ultralytics import trackers
    from ultralytics.engine.results import Boxes
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    settings = YAML.load(check_yaml(f"{name}.yaml")) | ({} if pictures else {"gmc_method": "none"})
    tracker = getattr(trackers, ULTRALYTICS[name])(IterableSimpleNamespace(**settings))

    def step(xyxy: np.ndarray, confidence: np.ndarray, _: np.ndarray | None, picture: np.ndarray) -> Rows:
        rows = np.column_stack([xyxy, confidence, np.zeros(len(xyxy), np.float32)])
        found = tracker.update(Boxes(rows, picture.shape[:2]), picture).reshape(-1, 8)
        return found[:, 4].astype(int), found[:, :4], found[:, 5]

    return step


def make_step(arguments: argparse.Namespace, appearance: bool, pictures: bool) -> Step:
    package, name = arguments.tracker.split("-")
    if package == "boxmot":
        return boxmot_step(name, appearance, pictures, arguments.configured, arguments.backend)
    return roboflow_step(name, arguments.frame_rate) if package == "roboflow" else ultralytics_step(name, pictures)


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        data = {name: file[name] for name in ("frame", "xyxy", "confidence", "embedding") if name in file}
    rows = data["confidence"] >= LEAST_CONFIDENCE
    data = {name: column[rows] for name, column in data.items()}
    order = np.argsort(data["frame"], kind="stable")
    data = {name: column[order] for name, column in data.items()}
    for name in ("xyxy", "confidence", "embedding"):
        if name in data:
            data[name] = np.nan_to_num(data[name].astype(np.float32))  # the trackers take no NaN
    return data


def pictures_of(video: Path | None, size: str) -> Iterator[np.ndarray]:
    """The frames of a video, then and without one the blank picture."""
    width, height = map(int, size.split("x"))
    blank = np.zeros((height, width, 3), dtype=np.uint8)
    if video:
        import cv2

        capture = cv2.VideoCapture(str(video))
        if not capture.isOpened():
            sys.exit(f"{video} cannot be opened.")
        while (found := capture.read())[0]:
            yield found[1]
    while True:
        yield blank


def track(step: Step, data: dict[str, np.ndarray], last: int, pictures: Iterator[np.ndarray]) -> list[str]:
    lines = []
    for frame, picture in zip(range(1, last + 1), pictures, strict=False):
        rows = slice(*np.searchsorted(data["frame"], (frame, frame + 1)))
        embedding = data["embedding"][rows] if "embedding" in data else None
        found = step(data["xyxy"][rows], data["confidence"][rows], embedding, picture)
        for number, (left, top, right, bottom), confidence in zip(*found, strict=True):
            box = f"{left:.2f},{top:.2f},{right - left:.2f},{bottom - top:.2f}"
            lines.append(f"{frame},{number},{box},{confidence:.4f},-1,-1,-1\n")
    return lines


def measure(step: Step, people: int, crowd_file: Path, size: str) -> float:
    """Median milliseconds a frame; building the input is outside of the clock."""
    spec = importlib.util.spec_from_file_location("crowd", crowd_file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    frames, picture = list(module.crowd(people, FRAMES)), next(pictures_of(None, size))
    milliseconds = []
    for arrays in frames:
        start = time.perf_counter()
        step(*arrays, picture)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return statistics.median(milliseconds[WARM_UP:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracker", choices=TRACKERS, metavar="TRACKER")
    parser.add_argument("input", type=Path, nargs="?", metavar="INPUT.npz")
    parser.add_argument("output", type=Path, nargs="?", metavar="OUT.txt")
    parser.add_argument("--frame-rate", type=float, default=30, help="frames a second (default: 30)")
    parser.add_argument("--frames", type=int, help="last frame; default: the last that has boxes")
    parser.add_argument("--video", type=Path, help="its frames, for camera motion")
    parser.add_argument("--size", default=SIZE, help="of the blank picture")
    parser.add_argument("--motion-only", action="store_true", help="leave vectors out")
    parser.add_argument("--configured", action="store_true", help="BoxMOT: the settings of its command line")
    parser.add_argument("--backend", choices=("python", "cpp"), default="python", help="BoxMOT's")
    parser.add_argument("--time", type=int, metavar="PEOPLE", help="milliseconds a frame on a synthetic crowd")
    parser.add_argument("--crowd", type=Path, help="the file that makes the crowd")
    arguments = parser.parse_args()
    if arguments.time:
        if not arguments.crowd:
            parser.error("--time needs --crowd.")
        step = make_step(arguments, appearance=not arguments.motion_only, pictures=False)
        print(f"{measure(step, arguments.time, arguments.crowd, arguments.size):.3f}")
        return
    if not arguments.output:
        parser.error("name INPUT.npz and OUT.txt, or --time.")
    data = read(arguments.input)
    if arguments.motion_only:
        data.pop("embedding", None)
    step = make_step(arguments, appearance="embedding" in data, pictures=arguments.video is not None)
    last = arguments.frames or int(data["frame"].max(initial=0))
    arguments.output.write_text("".join(track(step, data, last, pictures_of(arguments.video, arguments.size))))


if __name__ == "__main__":
    main()
