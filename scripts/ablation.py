"""What each mechanism of the tracker is worth: removed one at a time, on the eight groups of `fit_association.py`.

    REID_TRACKER_DATA=... python scripts/ablation.py [--cache DIR] [--copies 0] [--only NAME ...]

Online, without returns (the published truth of PETS09-S2L1 counts them as mistakes). Rows are means over the groups; of
pixels (three sequences) and of public boxes alone the change of IDF1 stands apart. Nothing is chosen anew after a
removal.
"""

import argparse
import os
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import fit_association
import numpy as np
from fit_association import GROUPS, PIXELS, of_group

from reid_tracker.config import OutputSettings
from reid_tracker.pipeline import follow
from reid_tracker.tracking import association, calibration, costs, kalman, lag, motion_noise, recognition, tracker
from reid_tracker.tracking.calibration import AppearanceCalibration, CosineStatistics

# What is removed: settings, or what is put in the place of a part: (where, name, substitute).
REMOVED: dict[str, dict[str, Any] | list[tuple[Any, str, Any]]] = {
    "nothing": {},
    "appearance": [(follow, "needs_vector", lambda found, *_: np.zeros(0, dtype=np.intp))],
    "calibration (cosines as they are)": [
        (calibration, "ENOUGH", np.inf),
        (fit_association.Embedder, "statistics", CosineStatistics(1.0, 0.0, 0.0, 0.0)),
    ],
    "quality of covered crops": [(AppearanceCalibration, "quality", lambda self, covered: np.ones_like(covered))],
    "refusal of certain strangers": [
        (association, "STRANGER_DISTANCE", np.inf),
        (association, "WHOLE_STRANGER", np.inf),
        (association, "UNLIKE_STRANGER", np.inf),
    ],
    "overlap alone only where the place is known": [(association, "KNOWN_PLACE", np.inf)],
    "less trust in unsure boxes": [(kalman, "trust", np.ones_like)],
    "noise learned from the scene": [(motion_noise.MotionNoise, "factor", 1.0)],
    "the camera's motion": {"camera_motion": False},
    "slow shrinking": [(tracker, "SHRINKING_SHARE", tracker.SIZE_SHARE)],
    "boxes as detected, as far as smoothing takes off motion": [(lag.Lag, "share", 0.0)],
    "smooth boxes": [(fit_association, "OUTPUT", OutputSettings(smooth_boxes=False))],
    "bridging of short misses": [(fit_association, "OUTPUT", OutputSettings(bridge_seconds=0.0))],
    "waiting for the lost": {"lost_seconds": 0.0},
    "low-confidence round": {"low_confidence": 0.35},
    "match without overlap": [(association, "ALIKE", 0.0)],
    "occlusion rule": [(costs, "MOST_COVERED", 1.0)],
    "slow change of appearance": [(recognition, "MOMENTUM", 0.0)],
    "duplicate rule": [(tracker.Tracker, "_without_doubles", lambda self, frame, new, matched: new)],
    "proof of arrival": {"confirm_sightings": 1},
    "embeddings only of sure boxes, and of certain ones seldom": [
        (follow, "needs_vector", lambda found, *_: np.arange(len(found)))
    ],
}


def remove(name: str) -> None:
    """Take a mechanism out, in a process that measures nothing else."""
    parts = REMOVED[name]
    for where, attribute, substitute in parts if isinstance(parts, list) else ():
        setattr(where, attribute, substitute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("runs") / "association", help="as fit_association.py's")
    parser.add_argument("--copies", type=int, default=0, help="jittered copies of each sequence")
    parser.add_argument("--only", nargs="+", choices=list(REMOVED), default=list(REMOVED), metavar="NAME")
    arguments = parser.parse_args()
    if "REID_TRACKER_DATA" not in os.environ:
        parser.error("set REID_TRACKER_DATA to the folder of evaluation data.")
    data = Path(os.environ["REID_TRACKER_DATA"]).resolve()
    fit_association.see_all(data, arguments.cache)
    print("| removed | HOTA | IDF1 | switches | IDF1, pixels | IDF1, boxes alone |\n|---|---|---|---|---|---|")
    whole: dict[str, float] = {}
    for name in dict.fromkeys(["nothing", *arguments.only]):
        parts = REMOVED[name]
        settings = {"memory_seconds": 0.0, **(parts if isinstance(parts, dict) else {})}
        with Pool(os.cpu_count(), remove, (name,)) as pool:
            found = fit_association.measure(settings, arguments.copies, data, arguments.cache, pool)
        row = {key: 100 * float(np.mean([of_group(found, group, key) for group in GROUPS])) for key in ("HOTA", "IDF1")}
        for kind in ("pixels", "boxes"):
            rows = [each["IDF1"] for key, each in found.items() if (key in PIXELS) == (kind == "pixels")]
            row[kind] = 100 * float(np.mean(rows))
        whole = whole or row
        switches = sum(each["IDSW"] for each in found.values())
        apart = " | ".join(f"{row[kind]:.1f} ({row[kind] - whole[kind]:+.1f})" for kind in ("pixels", "boxes"))
        print(f"| {name} | {row['HOTA']:.1f} | {row['IDF1']:.1f} | {switches:.0f} | {apart} |", flush=True)


if __name__ == "__main__":
    main()
