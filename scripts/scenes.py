"""Simulated scenes that no constant was chosen on: people of several speeds at several frame rates.

    python scripts/scenes.py [--seeds 3]

Ten people of 100 to 150 px go from goal to goal, with speeds and accelerations of walking, running and sport. Boxes
jitter by 1.5 % of a height at each edge, whoever is hidden by three quarters is missed, and so is a share of all boxes
in half of the runs. With vectors (a stranger's cosine .2, one's own .84) and with boxes alone, beside a plain tracker:
constant velocity, overlap, Hungarian assignment, three seconds of patience.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from reid_tracker import Tracker, evaluate_mot
from reid_tracker.motchallenge import format_row
from reid_tracker.tracking import costs

PEOPLE, SECONDS, WIDTH, HEIGHT = 10, 30, 1600, 700
SPEEDS = {"walking": (1.4, 1.5), "brisk": (2.0, 3.0), "running": (3.5, 4.0), "sport": (7.0, 6.0)}  # m/s, m/s^2
RATES, MISSED = (25, 12, 6), (0.0, 0.15)
TALL = 1.75  # m
Seen = tuple[np.ndarray, np.ndarray]


def go(random: np.random.Generator, rate: float, speed: float, acceleration: float) -> Iterator[np.ndarray]:
    """Boxes [PEOPLE, 4] of each frame."""
    tall = random.uniform(100, 150, PEOPLE)[:, None]
    place = random.uniform((0, 150), (WIDTH, HEIGHT), (PEOPLE, 2))
    goal, velocity, fast = place.copy(), np.zeros((PEOPLE, 2)), np.full((PEOPLE, 1), speed)
    steps = int(np.ceil(25 / rate))
    for _ in range(int(SECONDS * rate)):
        for _ in range(steps):
            way = (goal - place) / tall * TALL
            far = np.linalg.norm(way, axis=1, keepdims=True) + 1e-9
            new = (far[:, 0] < 0.6) | (random.random(PEOPLE) < 0.15 / rate / steps)
            goal[new] = random.uniform((0, 150), (WIDTH, HEIGHT), (PEOPLE, 2))[new]
            fast[new] = speed * random.uniform(0.5, 1, (PEOPLE, 1))[new]
            change = (way / far * np.minimum(fast, np.sqrt(2 * acceleration * far)) - velocity) * 5
            change *= np.minimum(1, acceleration / (np.linalg.norm(change, axis=1, keepdims=True) + 1e-9))
            velocity += change / rate / steps
            place += velocity * (1, 0.35) * tall / TALL / rate / steps
        yield np.concatenate([place - tall * (0.2, 0.5), place + tall * (0.2, 0.5)], axis=1)


def see(random: np.random.Generator, truth: np.ndarray, missed: float) -> Seen:
    """Boxes [K, 5] that a detector gives, and whose they are [K]."""
    shown = np.flatnonzero((costs.coverage(truth) <= 0.75) & (random.random(PEOPLE) >= missed))
    tall = (truth[shown, 3:] - truth[shown, 1:2]) * 0.015
    boxes = truth[shown] + random.normal(0, 1, (len(shown), 4)) * tall
    return np.column_stack([boxes, random.uniform(0.75, 0.95, len(shown))]), shown


class Plain:
    """Constant velocity, overlap above .2, three sightings, three seconds."""

    def __init__(self, rate: float) -> None:
        self._rate, self._tracks, self._given = rate, list[dict[str, np.ndarray | int]](), 0

    def update(self, boxes: np.ndarray, number: int) -> np.ndarray:
        """Identities of the boxes [K, 5], 0 for none yet."""
        first, found = number == 0, np.zeros(len(boxes), int)
        self._tracks = [each for each in self._tracks if number - each["seen"] <= 3 * self._rate]
        for each in self._tracks:
            each["box"] = each["box"] + np.tile(each["velocity"], 2)
        pairs = [(i, j) for i in range(len(self._tracks)) for j in range(len(boxes))]
        i, j = (np.array(each, int) for each in (zip(*pairs, strict=True) if pairs else ((), ())))
        overlap = np.zeros((len(self._tracks), len(boxes)))
        if pairs:
            overlap[i, j] = costs.iou(np.array([each["box"] for each in self._tracks])[i], boxes[j, :4])
        taken = set()
        for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[i, j] <= 0.2:
                continue
            track, centre = self._tracks[i], (boxes[j, :2] + boxes[j, 2:4]) / 2
            share = 0.3 if track["sightings"] > 1 else 1.0
            moved = (centre - track["centre"]) / (number - track["seen"])
            track |= {"velocity": (1 - share) * track["velocity"] + share * moved, "centre": centre}
            track |= {"box": boxes[j, :4], "seen": number, "sightings": track["sightings"] + 1}
            if not track["who"] and track["sightings"] >= 3:
                self._given += 1
                track["who"] = self._given
            found[j] = track["who"]
            taken.add(j)
        for j in set(range(len(boxes))) - taken:
            self._given += first
            who = self._given if first else 0
            about = {"box": boxes[j, :4], "centre": (boxes[j, :2] + boxes[j, 2:4]) / 2, "velocity": np.zeros(2)}
            self._tracks.append(about | {"seen": number, "sightings": 1, "who": who})
            found[j] = who
        return found


def follow(kind: str, frames: list[Seen], rate: float, random: np.random.Generator) -> list[np.ndarray]:
    """Identities that a tracker gives to the boxes of each frame."""
    if kind == "plain":
        plain = Plain(rate)
        return [plain.update(boxes, number) for number, (boxes, _) in enumerate(frames)]
    tracker, given = Tracker(frame_rate=rate), []
    own = np.sqrt(0.8) * random.normal(size=(PEOPLE, 128)) + np.sqrt(0.2) * random.normal(size=128)
    for boxes, who in frames:
        crops = own[who] + np.sqrt(1 / 0.84 - 1) * random.normal(size=(len(who), 128))
        tracks = tracker.update(boxes, embedding=crops if kind == "vectors" else None)
        found = np.zeros(len(boxes), int)
        found[tracks.data["row"]] = tracks.tracker_id
        given.append(found)
    return given


def judge(truth: list[np.ndarray], frames: list[Seen], given: list[np.ndarray], folder: Path) -> dict[str, float]:
    """IDF1 and switches, by the truth of whoever is seen."""
    (folder / "gt").mkdir(parents=True, exist_ok=True)
    rows, real = [], []
    for number, (boxes, (seen, who), numbers) in enumerate(zip(truth, frames, given, strict=True), 1):
        real += [f"{number},{each + 1},{_place(boxes[each])},1,1,1\n" for each in who]
        rows += [format_row(number, n, box[:4], box[4]) + "\n" for n, box in zip(numbers, seen, strict=True) if n]
    (folder / "gt" / "gt.txt").write_text("".join(real))
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nname={folder.name}\nframeRate=25\nseqLength={len(truth)}\n")
    (folder / "result.txt").write_text("".join(rows))
    return evaluate_mot(folder, folder / "result.txt")[folder.name]


def _place(box: np.ndarray) -> str:
    return f"{box[0]:.2f},{box[1]:.2f},{box[2] - box[0]:.2f},{box[3] - box[1]:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    kinds = ("vectors", "boxes", "plain")
    print("IDF1 / switches | vectors | boxes alone | plain tracker, boxes alone")
    everything: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as work:
        for name, (speed, acceleration) in SPEEDS.items():
            for rate in RATES:
                found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
                for seed in range(arguments.seeds):
                    for missed in MISSED:
                        random = np.random.default_rng(seed)
                        truth = list(go(random, rate, speed, acceleration))
                        frames = [see(random, each, missed) for each in truth]
                        for kind in kinds:
                            given = follow(kind, frames, rate, np.random.default_rng(seed))
                            found[kind].append(judge(truth, frames, given, Path(work) / "scene"))
                _print(f"{name}, {rate} a second", found)
                for kind in kinds:
                    everything[kind] += found[kind]
    _print("mean", everything)


def _print(name: str, found: dict[str, list[dict[str, float]]]) -> None:
    shares = (
        f"{100 * np.mean([each['IDF1'] for each in rows]):.1f} / {np.mean([each['IDSW'] for each in rows]):.1f}"
        for rows in found.values()
    )
    print(f"| {name} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
