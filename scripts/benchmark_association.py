"""Association alone: milliseconds a frame on a synthetic crowd, and beside it BoxMOT's BotSort given the same vectors.

    python scripts/benchmark_association.py --crowd crowd.py [--peers-python /path/to/peers/bin/python]

`--crowd` is a Python file with `crowd(people, frames)` that yields (xyxy [N, 4], confidence [N], embedding [N, 256])
for each frame; by default bench/crowd.py beside the folder that REID_TRACKER_DATA names. BoxMOT lives in an environment
of its own (`pip install boxmot==25.0.0`); without `--peers-python` only this package is measured. Both run in turns on
the same machine, so that a busy neighbour disturbs both alike.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

FRAMES = 120
WARM_UP = 20
ROUNDS = 3


def load_crowd(path: Path) -> Callable:
    spec = importlib.util.spec_from_file_location("crowd", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.crowd


def reid_tracker_step() -> Callable:
    import supervision as sv

    from reid_tracker import Tracker

    tracker = Tracker()

    def step(xyxy, confidence, embedding):
        tracker.update(sv.Detections(xyxy=xyxy, confidence=confidence, data={"embedding": embedding}))

    return step


def boxmot_step() -> Callable:
    import numpy as np
    import torch
    from boxmot import BotSort
    from boxmot.structures import Boxes, Detections

    tracker = BotSort(use_cmc=False)
    frame = np.zeros((1080, 1920, 3), dtype=np.uint8)

    def step(xyxy, confidence, embedding):
        detections = Detections(
            geometry=Boxes(torch.from_numpy(xyxy)),
            scores=torch.from_numpy(confidence),
            class_ids=torch.zeros(len(xyxy), dtype=torch.int64),
            sample_id="crowd",
            embeddings=torch.from_numpy(embedding),
        )
        tracker.update(detections, frame)

    return step


SYSTEMS = {"reid_tracker": reid_tracker_step, "BoxMOT BotSort": boxmot_step}


def measure(system: str, people: int, crowd_file: Path) -> float:
    """Median milliseconds a frame; building the input is outside of the clock."""
    step = SYSTEMS[system]()
    milliseconds = []
    for arrays in load_crowd(crowd_file)(people, FRAMES):
        start = time.perf_counter()
        step(*arrays)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return statistics.median(milliseconds[WARM_UP:])


def in_a_process(python: str, system: str, people: int, crowd_file: Path) -> float:
    command = [python, __file__, "--crowd", str(crowd_file), "--system", system, "--people", str(people)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{system} could not be measured:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("REID_TRACKER_DATA")
    parser.add_argument("--crowd", type=Path, default=Path(data).parent / "bench" / "crowd.py" if data else None)
    parser.add_argument("--peers-python", help="Python of an environment that has boxmot 25")
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)  # one measurement, for the processes below
    parser.add_argument("--people", type=int, nargs="+", default=[20, 100, 300, 1000])
    arguments = parser.parse_args()
    if arguments.crowd is None or not arguments.crowd.is_file():
        parser.error("name the file that makes the crowd with --crowd, or set REID_TRACKER_DATA.")
    if arguments.system:
        print(measure(arguments.system, arguments.people[0], arguments.crowd))
        return

    pythons = {"reid_tracker": sys.executable}
    if arguments.peers_python:
        pythons["BoxMOT BotSort"] = arguments.peers_python
    print(f"Median of {FRAMES - WARM_UP} frames, best of {ROUNDS} rounds in turns, ms a frame; {os.cpu_count()} cores")
    print(f"{'people':>8}" + "".join(f"{name:>18}" for name in pythons) + f"{'ratio':>8}" * (len(pythons) - 1))
    ours = {}
    for people in arguments.people:
        best = dict.fromkeys(pythons, float("inf"))
        for _ in range(ROUNDS):
            for name, python in pythons.items():
                best[name] = min(best[name], in_a_process(python, name, people, arguments.crowd))
        ours[people] = best["reid_tracker"]
        ratios = [best[name] / ours[people] for name in pythons if name != "reid_tracker"]
        row = "".join(f"{value:>18.2f}" for value in best.values()) + "".join(f"{ratio:>7.1f}x" for ratio in ratios)
        print(f"{people:>8}{row}", flush=True)
    few, many = min(ours, key=lambda n: abs(n - 100)), max(ours)
    if many > few:
        print(f"from {few} to {many} people ({many / few:.0f}x): {ours[many] / ours[few]:.1f}x the time")


if __name__ == "__main__":
    main()
