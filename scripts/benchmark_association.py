"""Association alone: milliseconds a frame on a synthetic crowd, beside other trackers of the same boxes and vectors.

    python scripts/benchmark_association.py --crowd crowd.py [--peers-python /path/to/peers/bin/python]
        [--peers boxmot-botsort boxmot-botsort-cpp ...] [--people 100 300]

`--crowd` is a Python file with `crowd(people, frames)` that yields (xyxy [N, 4], confidence [N], embedding [N, 256])
for each frame; by default bench/crowd.py beside the folder that REID_TRACKER_DATA names. Peers are those of
`scripts/peers.py`, in an environment of their own; a name that ends in -cpp is BoxMOT's C++ tracker (what that needs is
told there). Without `--peers-python` only this package is measured. Each measurement is a process of its own, and all
take turns on the same machine, so that a busy neighbour disturbs all alike.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from peers import FRAMES, SIZE, TRACKERS, WARM_UP, measure

ROUNDS = 3
OURS = "reid_tracker"
CPP = "-cpp"


def our_step() -> Callable:
    import supervision as sv

    from reid_tracker import Tracker

    tracker = Tracker()

    def step(xyxy: np.ndarray, confidence: np.ndarray, embedding: np.ndarray | None, _: np.ndarray) -> None:
        tracker.update(sv.Detections(xyxy=xyxy, confidence=confidence, data={"embedding": embedding}))

    return step


def in_a_process(system: str, people: int, crowd_file: Path, peers_python: str | None) -> float:
    if system == OURS:
        command = [sys.executable, __file__, "--crowd", str(crowd_file), "--alone", str(people)]
    else:
        assert peers_python is not None
        command = [peers_python, str(Path(__file__).with_name("peers.py")), system.removesuffix(CPP)]
        command += ["--backend", "cpp"] if system.endswith(CPP) else []
        command += ["--time", str(people), "--crowd", str(crowd_file)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{system} could not be measured:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = os.environ.get("REID_TRACKER_DATA")
    known = [name + end for name in TRACKERS for end in ("", CPP) if name.startswith("boxmot-") or not end]
    parser.add_argument("--crowd", type=Path, default=Path(data).parent / "bench" / "crowd.py" if data else None)
    parser.add_argument("--peers-python", help="Python of an environment that has the peers")
    parser.add_argument("--peers", nargs="+", choices=known, metavar="PEER", help="[boxmot-botsort]")
    parser.add_argument("--people", type=int, nargs="+", default=[20, 100, 300, 1000])
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)  # one measurement, for the processes above
    arguments = parser.parse_args()
    if arguments.crowd is None or not arguments.crowd.is_file():
        parser.error("name the file that makes the crowd with --crowd, or set REID_TRACKER_DATA.")
    if arguments.alone:
        print(measure(our_step(), arguments.alone, arguments.crowd, SIZE))
        return
    if arguments.peers and not arguments.peers_python:
        parser.error("name the Python of an environment that has the peers with --peers-python.")

    systems = [OURS, *((arguments.peers or ["boxmot-botsort"]) if arguments.peers_python else [])]
    print(f"Median of {FRAMES - WARM_UP} frames, best of {ROUNDS} rounds in turns, ms a frame; {os.cpu_count()} cores")
    ours: dict[int, float] = {}
    for people in arguments.people:
        best = dict.fromkeys(systems, float("inf"))
        for _ in range(ROUNDS):
            for system in systems:
                best[system] = min(best[system], in_a_process(system, people, arguments.crowd, arguments.peers_python))
        ours[people] = best[OURS]
        print(f"{people} people")
        for system, value in best.items():
            print(f"    {system:<26}{value:>9.2f}{value / ours[people]:>8.1f}x", flush=True)
    few, many = min(ours, key=lambda n: abs(n - 100)), max(ours)
    if many > few:
        print(f"from {few} to {many} people ({many / few:.0f}x): {ours[many] / ours[few]:.1f}x the time")


if __name__ == "__main__":
    main()
