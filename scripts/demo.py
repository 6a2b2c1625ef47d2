"""Track a real sequence from pixels to an annotated video, and measure the result against its truth.

Needs two folders: REID_TRACKER_DATA with mot15/PETS09-S2L1 (video, seqinfo.ini, gt/gt.txt) and REID_TRACKER_WEIGHTS
with a YOLO. Run it with `make demo`.
"""

import os
import sys
from pathlib import Path

SEQUENCE = "mot15/PETS09-S2L1"
DETECTORS = ("yolo11n_int8_openvino_model", "yolo11n_float.pt")


def main() -> int:
    data, weights = (os.environ.get(name) for name in ("REID_TRACKER_DATA", "REID_TRACKER_WEIGHTS"))
    if not data or not weights:
        print(
            f"The demo needs REID_TRACKER_DATA, a folder with the MOTChallenge sequence {SEQUENCE} and its video,\n"
            f"and REID_TRACKER_WEIGHTS, a folder that holds a YOLO: {' or '.join(DETECTORS)}.\n"
            "With a video and a YOLO of your own, run: .venv/bin/reid-tracker track VIDEO --detector YOLO",
            file=sys.stderr,
        )
        return 2
    sequence = Path(data) / SEQUENCE
    detector = next((Path(weights) / name for name in DETECTORS if (Path(weights) / name).exists()), None)
    if detector is None or not sequence.is_dir():
        print(f"There is no {sequence}, or none of {', '.join(DETECTORS)} in {weights}.", file=sys.stderr)
        return 2
    command = Path(sys.executable).with_name("reid-tracker")
    results = Path("runs") / "demo"
    track = [command, "track", sequence, "--detector", detector, "--output", results]
    measure = [command, "evaluate", "mot", "--truth", sequence, "--results", results]
    for arguments in (track, measure):
        status = os.spawnv(os.P_WAIT, command, [str(argument) for argument in arguments])
        if status:
            return status
    print(results / f"{sequence.name}.mp4")
    return 0


if __name__ == "__main__":
    sys.exit(main())
