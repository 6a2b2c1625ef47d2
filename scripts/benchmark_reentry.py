"""Re-entry: who gets the old number back after everybody was gone for 2, 10, 30 or 60 s, and which stranger gets one?

    REID_TRACKER_DATA=... python scripts/benchmark_reentry.py [--bundled] [--peers-python /path/to/peers/bin/python]

PETS09-S2L1 with recorded YOLO11n boxes and OSNet vectors (`--bundled`: the bundled network's vectors of the same boxes)
is cut: everything up to an offset is the past, then come frames without anybody for the gap, then the pictures from
there on, for 6 s. Cuts lie every 2 s.

Returns   Everyone whom the truth shows in the last second before the gap and in the first after it. They are back if
          the number they bear longest in the last 2 s of their sight is one that was theirs: a number belongs to whom
          it covered most in the past. The truth renumbers people who come back: by eye 19 is 1, 13 is 2, 11 is 3,
          12 is 4, 9 is 5, 10 is 6, and 14, 15 and 18 are 8. Here they are one person each, ten in all; the usual
          figures (IDF1, switches) count these returns as mistakes of whoever recognises them.
Strangers Everyone there after the gap, one at a time, with all their detections left out of the past; and, after
          the same cuts, the people of TUD-Campus. They are mistaken if they bear a number of the past.
Oracle    Appearance alone: the mean of all of someone's clean crops after the gap beside the mean of every clean crop
          of each person of the past, by the truth, both taken from the mean of all those people (about as good as the
          best of nine ways of comparing that were tried). Its threshold is the one that 5 % of the strangers of
          PETS pass; TUD's look less alike.

This tracker runs at its defaults but for the false-match rate, which is set to the oracle's 5 %.
Intervals are 95 % of 2,000 bootstrap samples of identities. BoxMOT's trackers (an environment with boxmot 25) get the
same boxes and vectors at their default settings, camera motion off: the camera stands.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

GAPS = (2, 10, 30, 60)
SAME = {13: 2, 9: 5, 10: 6, 14: 8, 18: 8, 15: 8, 11: 3, 12: 4, 19: 1}
STEP, WINDOW, JUDGED = 2.0, 6.0, 2.0  # s: between cuts, after the gap, of sight at its end
FALSE_MATCH_RATE = 0.05
SHOWN_IOU = 0.2
Arrays = dict[str, np.ndarray]


def prepare(folder: Path, embedder: Any, confidence: float = 0.1) -> Arrays:
    """Recorded boxes with vectors, whom of the truth each shows (0: nobody), whether clean; and the truth itself."""
    from reid_tracker.evaluation.overlap import MATCH_IOU, assign_each_frame, find_overlaps
    from reid_tracker.motchallenge import CONFIDENCE, FRAME, IDENTITY, LEFT, WIDTH, read_rows, read_sequence_info
    from reid_tracker.tracking.costs import coverage
    from reid_tracker.video.sources import open_source

    with np.load(folder / "yolo11n_osnet.npz") as file:
        rows = file["confidence"] >= confidence
        data = {name: file[name][rows] for name in ("frame", "xyxy", "confidence", "embedding")}
    order = np.argsort(data["frame"], kind="stable")
    data = {name: column[order] for name, column in data.items()}
    if embedder is not None:
        data["embedding"] = np.concatenate(
            [
                embedder.embed(frame.image, data["xyxy"][data["frame"] == frame.index + 1])
                for frame in open_source(folder)
            ]
        )
    data["embedding"] = data["embedding"].astype(np.float32)
    truth = read_rows(folder / "gt" / "gt.txt")
    truth = truth[(truth[:, CONFIDENCE] != 0)][:, : WIDTH + 2]
    truth = truth[np.argsort(truth[:, FRAME], kind="stable")]
    people = np.array([SAME.get(int(each), int(each)) for each in truth[:, IDENTITY]])
    sizes = np.hstack([data["xyxy"][:, :2], data["xyxy"][:, 2:] - data["xyxy"][:, :2]])
    overlaps = find_overlaps(
        *(truth[:, FRAME].astype(int) - 1, people, truth[:, LEFT : LEFT + 4]),
        *(data["frame"] - 1, np.arange(len(sizes)), sizes),
    )
    near = np.flatnonzero(overlaps.iou >= MATCH_IOU)
    matches = assign_each_frame(overlaps, near, overlaps.iou[near])
    data["person"] = np.zeros(len(sizes), dtype=np.int64)
    data["person"][overlaps.pair_result[matches]] = people[overlaps.pair_truth[matches]]
    # Whom a box shows at least in part: the truth's boxes are not always tight, and who is left out must be so wholly.
    data["shown"] = np.zeros(len(sizes), dtype=np.int64)
    order = np.argsort(overlaps.iou)
    order = order[overlaps.iou[order] > SHOWN_IOU]
    data["shown"][overlaps.pair_result[order]] = people[overlaps.pair_truth[order]]
    covered = np.concatenate([coverage(data["xyxy"][data["frame"] == n]) for n in np.unique(data["frame"])])
    data["clean"] = (covered < 0.3) & (data["confidence"] >= 0.5) & ~np.isnan(data["embedding"][:, 0])
    data |= {"truth_frame": truth[:, FRAME].astype(int), "truth_person": people}
    data["rate"] = np.array(read_sequence_info(folder).frame_rate)
    return data


class Ours:
    """The tracker of this package; like its rivals', a step takes a frame's arrays and gives rows and their numbers."""

    def __init__(self, rate: float, statistics: Any, settings: dict[str, Any]) -> None:
        from reid_tracker.config import TrackConfig, load
        from reid_tracker.tracking.tracker import Tracker

        named = {f"tracker.{name}": value for name, value in settings.items()}
        self.tracker = Tracker(load(TrackConfig, None, named).tracker, rate, statistics)

    def step(self, time: float, xyxy: np.ndarray, confidence: np.ndarray, embedding: np.ndarray) -> Any:  # noqa: D102
        import supervision as sv

        data = {"embedding": embedding, "row": np.arange(len(xyxy))}
        found = self.tracker.update(sv.Detections(xyxy=xyxy, confidence=confidence, data=data), time)
        return found.data["row"], found.tracker_id


class BoxMot:
    """A tracker of BoxMOT, which counts frames: `time` means nothing to it."""

    PICTURE = np.zeros((576, 768, 3), dtype=np.uint8)

    def __init__(self, name: str) -> None:
        import boxmot

        self.tracker = boxmot.BotSort(use_cmc=False) if name == "BotSort" else getattr(boxmot, name)()
        if name == "HybridSort":
            self.tracker.cmc = Still()

    def step(self, time: float, xyxy: np.ndarray, confidence: np.ndarray, embedding: np.ndarray) -> Any:  # noqa: D102
        import torch
        from boxmot.structures import Boxes, Detections

        detections = Detections(
            geometry=Boxes(torch.from_numpy(xyxy)),
            scores=torch.from_numpy(confidence),
            class_ids=torch.zeros(len(xyxy), dtype=torch.int64),
            sample_id="video",
            embeddings=torch.from_numpy(np.nan_to_num(embedding)),  # it takes no NaN
        )
        found = self.tracker.update(detections, self.PICTURE)
        return found.detection_indices.numpy(), found.track_ids.numpy()


class Still:
    """Camera motion of a camera that stands."""

    def apply(self, *_: Any) -> np.ndarray:  # noqa: D102
        return np.eye(2, 3)


def rows_of(data: Arrays, frame: int) -> slice:
    return slice(*np.searchsorted(data["frame"], (frame, frame + 1)))


def feed(system: Any, time: float, data: Arrays, rows: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
    """One frame; the people shown (0: nobody of the truth) and the numbers they bear."""
    index, numbers = system.step(time, *(data[name][rows] for name in ("xyxy", "confidence", "embedding")))
    return data["shown"][rows][index], numbers


def present(data: Arrays, first: int, last: int) -> set[int]:
    inside = (data["truth_frame"] >= first) & (data["truth_frame"] <= last)
    return set(data["truth_person"][inside].tolist())


def cuts_of(data: Arrays, gap: int, step: float) -> list[int]:
    """Last frames of the past."""
    rate, last = float(data["rate"]), int(data["frame"].max())
    grid = np.rint(np.arange(2 * STEP, last / rate, step) * rate).astype(int)
    return [int(cut) for cut in grid if cut + (gap + 1) * rate <= last]


def after_gap(system: Any, cut: int, gap: int, past: Arrays, future: Arrays, first: int) -> dict[int, int]:
    """Play on a copy of the tracker what comes after a cut; the number that each person bears at the end."""
    system = copy.deepcopy(system)
    rate, time = float(past["rate"]), cut / float(past["rate"])
    for _ in range(round(gap * rate) - 1):
        time += 1 / rate
        feed(system, time, past, slice(0, 0))
    borne: dict[int, list[int]] = defaultdict(list)
    step = 1 / float(future["rate"])
    for frame in range(first, min(first + round(WINDOW / step), int(future["frame"].max()) + 1)):
        time += step
        for person, number in zip(*feed(system, time, future, rows_of(future, frame)), strict=True):
            borne[int(person)].append(int(number))
    judged = round(JUDGED / step)
    return {person: Counter(numbers[-judged:]).most_common(1)[0][0] for person, numbers in borne.items() if person}


def trials(
    make: Any, pets: Arrays, tud: Arrays, gaps: list[int], step: float, strangers: bool = True
) -> list[list[Any]]:
    """All trials of a tracker: kind, gap, cut, person, outcome (back, someone's, new, or unseen)."""
    rate, found = float(pets["rate"]), []
    cuts = {gap: set(cuts_of(pets, gap, step)) for gap in gaps}
    for left_out in (0, *(np.unique(pets["truth_person"]).tolist() if strangers else ())):
        system, owners = make(rate), defaultdict(Counter)
        for frame in range(1, max(map(max, cuts.values())) + 1):
            rows = np.arange(rows_of(pets, frame).start, rows_of(pets, frame).stop)
            rows = rows[pets["shown"][rows] != left_out] if left_out else rows
            for person, number in zip(*feed(system, frame / rate, pets, rows), strict=True):
                owners[int(number)][int(person)] += 1
            owner = {number: seen.most_common(1)[0][0] for number, seen in owners.items()}
            owner = {number: person for number, person in owner.items() if person}
            for gap in (gap for gap in gaps if frame in cuts[gap]):
                first = frame + round(gap * rate)
                there = present(pets, first, first + round(rate) - 1)
                if left_out:
                    if left_out in there:
                        numbers = after_gap(system, frame, gap, pets, pets, first)
                        outcome = "someone's" if numbers.get(left_out) in owner else "new"
                        found.append(["stranger", gap, frame, left_out, outcome])
                    continue
                numbers = after_gap(system, frame, gap, pets, pets, first)
                for person in there & present(pets, frame - round(rate) + 1, frame):
                    number = numbers.get(person)
                    whose = "back" if owner.get(number) == person else "someone's" if number in owner else "new"
                    found.append(["return", gap, frame, person, whose if number else "unseen"])
                numbers = after_gap(system, frame, gap, pets, tud, 1) if strangers else {}
                for person in np.unique(tud["truth_person"]).tolist() if strangers else ():
                    outcome = "someone's" if numbers.get(person) in owner else "new"
                    found.append(["TUD", gap, frame, person, outcome])
    return found


def oracle(pets: Arrays, tud: Arrays, gaps: list[int], step: float) -> list[list[Any]]:
    """The same trials by appearance alone, the threshold passed by 5 % of the strangers of each gap."""
    rate, found = float(pets["rate"]), []
    clean = pets["clean"] & (pets["person"] > 0)

    def query(data: Arrays, person: int, first: int) -> np.ndarray | None:
        rows = data["clean"] & (data["person"] == person) & (data["frame"] >= first)
        rows &= data["frame"] < first + round(WINDOW * float(data["rate"]))
        return data["embedding"][rows].mean(axis=0) if rows.any() else None

    for gap in gaps:
        scored = []
        for cut in cuts_of(pets, gap, step):
            past, first = clean & (pets["frame"] <= cut), cut + round(gap * rate)
            known = np.unique(pets["person"][past])
            there = present(pets, first, first + round(rate) - 1)
            back = there & present(pets, cut - round(rate) + 1, cut)
            asked = [("return", pets, each, first) for each in back]
            asked += [("stranger", pets, each, first) for each in there]
            asked += [("TUD", tud, each, 1) for each in np.unique(tud["truth_person"]).tolist()]
            means = np.stack([pets["embedding"][past & (pets["person"] == each)].mean(axis=0) for each in known])
            for kind, data, person, begin in asked:
                vector, best, who = query(data, person, begin), -1.0, 0
                others = known != person if kind == "stranger" else known > 0
                if vector is not None and others.sum() > 1:
                    common = means[others].mean(axis=0)
                    likeness = unit(means[others] - common) @ unit(vector - common)
                    best, who = float(likeness.max()), int(known[others][likeness.argmax()])
                scored.append((kind, cut, person, best, who))
        limit = np.quantile([best for kind, *_, best, _ in scored if kind == "stranger"], 1 - FALSE_MATCH_RATE)
        for kind, cut, person, best, who in scored:
            right = kind == "return" and who == person
            found.append([kind, gap, cut, person, "new" if best <= limit else "back" if right else "someone's"])
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def share(rows: list[list[Any]], outcome: str, random: np.random.Generator) -> str:
    """Share of an outcome, with its interval over identities."""
    people = sorted({row[3] for row in rows})
    counts = np.array([[sum(r[4] == outcome for r in rows if r[3] == p), sum(r[3] == p for r in rows)] for p in people])
    samples = counts[random.integers(0, len(people), (2000, len(people)))].sum(axis=1)
    low, high = np.quantile(samples[:, 0] / samples[:, 1], (0.025, 0.975))
    return f"{100 * counts[:, 0].sum() / counts[:, 1].sum():.1f} % ({100 * low:.0f}..{100 * high:.0f})"


def print_tables(results: dict[str, list[list[Any]]], gaps: list[int]) -> None:
    for gap in gaps:
        of = {name: [row for row in rows if row[1] == gap] for name, rows in results.items()}
        one = next(iter(of.values()))
        counts = [
            f"{len(rows)} {label} of {len({r[3] for r in rows})} people"
            for kind, label in (("return", "returns"), ("stranger", "strangers"), ("TUD", "strangers of TUD-Campus"))
            for rows in [[row for row in one if row[0] == kind]]
        ]
        print(f"\ngone {gap} s, {len({row[2] for row in one})} cuts: {', '.join(counts)}\n")
        print(f"{'':<22}{'got their number':>22}{'got someone else' + chr(39) + 's':>22}", end="")
        print(f"{'strangers mistaken':>22}{'of TUD-Campus':>22}")
        for name, rows in of.items():
            cells = []
            for kind, outcome in (
                ("return", "back"),
                ("return", "someone's"),
                ("stranger", "someone's"),
                ("TUD", "someone's"),
            ):
                cells.append(share([row for row in rows if row[0] == kind], outcome, np.random.default_rng(0)))
            print(f"{name:<22}" + "".join(f"{cell:>22}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundled", action="store_true", help="Vectors of the bundled network.")
    parser.add_argument("--peers-python", help="Python of an environment that has boxmot 25")
    parser.add_argument("--gaps", type=int, nargs="+", default=list(GAPS), help="s")
    parser.add_argument("--ours", action="store_true", help="No oracle: to try settings.")
    parser.add_argument("--step", type=float, default=STEP, help="s from cut to cut")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="Setting of this tracker.")
    parser.add_argument("--json", type=Path, help="Write every trial.")
    parser.add_argument("--peer", nargs=2, metavar=("NAME", "DATA"), help=argparse.SUPPRESS)  # for the processes below
    arguments = parser.parse_args()
    if arguments.peer:
        name, folder = arguments.peer
        pets, tud = (dict(np.load(Path(folder) / f"{each}.npz")) for each in ("pets", "tud"))
        found = trials(lambda _: BoxMot(name), pets, tud, arguments.gaps, arguments.step)
        (Path(folder) / f"{name}.json").write_text(json.dumps(found))
        return
    if "REID_TRACKER_DATA" not in os.environ:
        parser.error("set REID_TRACKER_DATA to the folder of evaluation data.")
    folder = Path(os.environ["REID_TRACKER_DATA"]) / "mot15"
    embedder = None
    if arguments.bundled:
        from reid_tracker.appearance.embedder import Embedder

        embedder = Embedder(device="cpu")
    pets, tud = (prepare(folder / name, embedder) for name in ("PETS09-S2L1", "TUD-Campus"))
    settings = {"return_false_match_rate": FALSE_MATCH_RATE} | dict(pair.split("=") for pair in arguments.set)
    statistics = embedder.statistics if embedder else None
    run = (pets, tud, arguments.gaps, arguments.step)
    results = {} if arguments.ours else {"oracle": oracle(*run)}
    results["reid_tracker"] = trials(lambda rate: Ours(rate, statistics, settings), *run)
    if arguments.peers_python:
        with tempfile.TemporaryDirectory() as work:
            np.savez(Path(work) / "pets.npz", **pets)
            np.savez(Path(work) / "tud.npz", **tud)
            for name in ("BotSort", "HybridSort"):
                command = [arguments.peers_python, __file__, "--peer", name, work, "--step", str(arguments.step)]
                command += ["--gaps", *map(str, arguments.gaps)]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"BoxMOT {name} could not be run:\n{done.stderr}")
                results[f"BoxMOT {name}"] = json.loads((Path(work) / f"{name}.json").read_text())
    print_tables(results, arguments.gaps)
    if arguments.json:
        arguments.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
