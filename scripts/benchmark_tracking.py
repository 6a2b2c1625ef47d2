"""Accuracy of association on recorded detections, and the evaluator against TrackEval's own figures.

    REID_TRACKER_DATA=... python scripts/benchmark_tracking.py [--peers-python /path/to/peers/bin/python]

Every tracker of a table was given the same boxes (and vectors, where there are any), at its default settings, online.
Peers' rows were measured once with TrackEval 1.3.0 on that input; this package's rows are measured now. With
`--peers-python` (an environment with `pip install trackeval==1.3.0`) TrackEval's time is taken beside ours.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reid_tracker import TrackConfig, evaluate_mot, track
from reid_tracker.config import load

MOT15 = ("PETS09-S2L1", "TUD-Campus")
MOT17 = ("MOT17-02-FRCNN", "MOT17-04-FRCNN", "MOT17-09-FRCNN", "MOT17-11-FRCNN")

# PETS09-S2L1's truth gives who returns after seconds a new number: here those of one person are put together, by eye.
ONE_PERSON = {13: 2, 9: 5, 10: 6, 14: 8, 15: 8, 18: 8, 19: 1, 11: 3, 12: 4}

# HOTA / MOTA / IDF1 / switches. With appearance: PETS09-S2L1, TUD-Campus.
PEERS_APPEARANCE = {
    "BoxMOT 25 HybridSort": ("56.4 / 78.0 / 79.7 / 27", "50.8 / 49.0 / 72.3 / 10", "55.9 / 75.9 / 79.1 / 37"),
    "BoxMOT 25 BotSort": ("54.2 / 78.1 / 72.1 / 26", "54.9 / 68.0 / 78.5 / 0", "54.2 / 77.3 / 72.6 / 26"),
    "BoxMOT 25 ByteTrack": ("53.8 / 78.1 / 69.4 / 38", "51.4 / 56.3 / 68.7 / 2", "53.6 / 76.5 / 69.3 / 40"),
    "Ultralytics 8.4 ByteTrack": ("52.4 / 78.1 / 65.0 / 44", "49.5 / 47.6 / 66.8 / 5", "-"),
    "Ultralytics 8.4 BoT-SORT": ("51.1 / 78.6 / 62.0 / 46", "46.3 / 49.9 / 60.9 / 7", "-"),
    "Ultralytics 8.4 TrackTrack": ("46.8 / 68.8 / 61.3 / 25", "47.3 / 57.7 / 64.5 / 6", "-"),
    "perfect association": ("68.7 / 93.8 / 96.8 / 0", "65.0 / 87.7 / 93.5 / 0", "68.4 / - / 96 / 0"),
}
PEERS_MOTION = {
    "BoxMOT 25 BotSort": "49.6 / 49.5 / 56.8 / 155",
    "BoxMOT 25 ByteTrack": "49.0 / 49.5 / 57.0 / 169",
    "BoxMOT 25 OcSort": "48.7 / 48.6 / 56.1 / 157",
    "Roboflow trackers 2.6 OCSORT": "48.7 / 48.2 / 56.3 / 135",
    "Roboflow trackers 2.6 SORT": "48.4 / 49.4 / 55.1 / 208",
    "Roboflow trackers 2.6 ByteTrack": "48.1 / 49.6 / 54.7 / 177",
    "Roboflow trackers 2.6 C-BIoU": "47.8 / 49.4 / 54.6 / 147",
}
TRACKEVAL = """
import sys, time, trackeval
truth, results, *sequences = sys.argv[1:]
quiet = {"PRINT_CONFIG": False}
start = time.perf_counter()
evaluator = trackeval.Evaluator({"PRINT_RESULTS": False, "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False,
    "PLOT_CURVES": False, "TIME_PROGRESS": False, **quiet})
data = trackeval.datasets.MotChallenge2DBox({"GT_FOLDER": truth, "TRACKERS_FOLDER": results, "BENCHMARK": "MOT17",
    "SEQ_INFO": dict.fromkeys(sequences), "SKIP_SPLIT_FOL": True, "TRACKER_SUB_FOLDER": "", "TRACKERS_TO_EVAL": ["t"],
    "CLASSES_TO_EVAL": ["pedestrian"], **quiet})
metrics = trackeval.metrics
evaluator.evaluate([data], [metrics.HOTA(), metrics.CLEAR(quiet), metrics.Identity(quiet)])
print(time.perf_counter() - start)
"""


def short(figures: dict[str, float]) -> str:
    ratios = " / ".join(f"{100 * figures[name]:.1f}" for name in ("HOTA", "MOTA", "IDF1"))
    return f"{ratios} / {figures['IDSW']:.0f}"


def look_back(folders: list[Path], recorded: str, work: Path) -> dict[str, tuple[str, ...]]:
    """Rows of the table for `--refine` and its parts, and against the truth that numbers every person once."""
    for folder in folders:
        for truth in ("truth", "persons"):
            (work / truth / folder.name / "gt").mkdir(parents=True)
            shutil.copy(folder / "seqinfo.ini", work / truth / folder.name)
        shutil.copy(folder / "gt" / "gt.txt", work / "truth" / folder.name / "gt")
        rows = [line.split(",") for line in (folder / "gt" / "gt.txt").read_text().split()]
        for row in rows if folder.name == "PETS09-S2L1" else ():
            row[1] = str(ONE_PERSON.get(int(row[1]), row[1]))
        (work / "persons" / folder.name / "gt" / "gt.txt").write_text("\n".join(map(",".join, rows)))
    parts = {
        "refined": {},
        "refined, absences to 3 s only": {"link_seconds": 3},
        "refined, nothing filled in": {"fill_seconds": 0},
    }
    table: dict[str, tuple[str, ...]] = {}
    for name, settings in parts.items():
        given = {"detector.recorded": recorded, "output.mot": True, "output.folder": str(work / name)}
        refine = {f"refine.{key}": value for key, value in settings.items()}
        track(folders, load(TrackConfig, None, {**given, **refine, "refine.enabled": True}))
        results = {"online": work / name, name: work / f"{name} alone"}
        results[name].mkdir()
        for folder in folders:
            shutil.copy(work / name / f"{folder.name}_refined.txt", results[name] / f"{folder.name}.txt")
        for row, where in results.items():
            columns = [evaluate_mot(work / truth, where)["COMBINED_SEQ"] for truth in ("truth", "persons")]
            table[row] = tuple(short(each) for each in columns)
    return table


def run(folders: list[Path], recorded: str, work: Path) -> tuple[dict[str, dict[str, float]], float]:
    """Track and evaluate sequences; their figures and the milliseconds that association took a frame."""
    truth, results = work / "truth", work / "results"
    truth.mkdir()
    for folder in folders:
        (truth / folder.name).symlink_to(folder)
    settings = {"detector.recorded": recorded, "output.mot": True, "output.folder": str(results)}
    summaries = track(folders, load(TrackConfig, None, settings))
    seconds = sum(summary.stage_seconds["associate"] for summary in summaries)
    return evaluate_mot(truth, results), 1000 * seconds / sum(summary.frames for summary in summaries)


def print_table(title: str, heading: list[str], rows: dict[str, tuple[str, ...]]) -> None:
    print(f"\n{title}\n")
    print(f"{'HOTA / MOTA / IDF1 / switches':<34}" + "".join(f"{name:>26}" for name in heading))
    for name, cells in rows.items():
        print(f"{name:<34}" + "".join(f"{cell:>26}" for cell in cells))


def check_evaluator(data: Path, work: Path, peers_python: str | None) -> None:
    expected = json.loads((data / "mot17" / "trackeval_expected.json").read_text())["results"]
    truth, results = work / "truth", work / "results"
    (results / "t").mkdir(parents=True)
    truth.mkdir()
    for name in MOT17:
        (truth / name).symlink_to(data / "mot17" / name)
        shutil.copy(data / "mot17" / name / "mpntrack.txt", results / "t" / f"{name}.txt")
    start = time.perf_counter()
    figures = evaluate_mot(truth, results / "t")
    seconds = time.perf_counter() - start
    differences = [
        abs(figures[sequence][name] - value) for sequence, row in expected.items() for name, value in row.items()
    ]
    print("Evaluator: MPNTrack's published results on MOT17-02, 04, 09, 11\n")
    print(f"{len(differences)} figures of TrackEval 1.3.0, largest difference {max(differences):.1e}")
    line = f"time: {seconds:.2f} s"
    if peers_python:
        command = [peers_python, "-c", TRACKEVAL, str(truth), str(results), *MOT17]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"TrackEval could not be run:\n{done.stderr}")
        theirs = float(done.stdout.split()[-1])
        line += f"; TrackEval here: {theirs:.2f} s ({theirs / seconds:.1f}x)"
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", help="Python of an environment that has trackeval 1.3.0")
    arguments = parser.parse_args()
    if "REID_TRACKER_DATA" not in os.environ:
        parser.error("set REID_TRACKER_DATA to the folder of evaluation data.")
    data = Path(os.environ["REID_TRACKER_DATA"]).resolve()
    with tempfile.TemporaryDirectory() as work:
        check_evaluator(data, Path(work), arguments.peers_python)
    with tempfile.TemporaryDirectory() as work:
        folders = [data / "mot15" / name for name in MOT15]
        figures, milliseconds = run(folders, "{source}/yolo11n_osnet.npz", Path(work))
    ours = {"reid_tracker": tuple(short(figures[name]) for name in (*MOT15, "COMBINED_SEQ"))}
    print_table(
        f"YOLO11n boxes >= 0.1 with OSNet vectors ({milliseconds:.2f} ms a frame)",
        [*MOT15, "both"],
        ours | PEERS_APPEARANCE,
    )
    with tempfile.TemporaryDirectory() as work:
        rows = look_back(folders, "{source}/yolo11n_osnet.npz", Path(work))
    print_table("Refined (--refine), both", ["truth as published", "one number a person"], rows)
    with tempfile.TemporaryDirectory() as work:
        folders = [data / "mot17" / name for name in MOT17]
        figures, milliseconds = run(folders, "{source}/det/det.txt", Path(work))
    rows = {"reid_tracker": (short(figures["COMBINED_SEQ"]),)} | {name: (cell,) for name, cell in PEERS_MOTION.items()}
    print_table(
        f"Motion only, MOT17 public FRCNN boxes, 02 04 09 11 ({milliseconds:.2f} ms a frame)", ["all four"], rows
    )


if __name__ == "__main__":
    main()
