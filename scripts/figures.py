"""Draw the figures of the documentation, from the demo's clip and the bundled models.

python scripts/figures.py [--output docs/figures]
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from reid_tracker import Embedder, TrackConfig, track
from reid_tracker.backends import appearance_form
from reid_tracker.demo import FRAME_RATE, make_clip
from reid_tracker.motchallenge import CLASS, FRAME, HEIGHT, IDENTITY, LEFT, WIDTH, read_rows
from reid_tracker.tracking.calibration import AppearanceCalibration
from reid_tracker.tracking.costs import iou
from reid_tracker.video.annotate import css_color
from reid_tracker.video.sources import open_source

STATES = {"tentative": (0.0, 0.0), "confirmed": (1.0, 0.0), "lost": (2.0, 0.0), "dormant": (3.0, 0.0)}
ARROWS = (  # from, to, what happens, how far the arrow bends
    ("tentative", "confirmed", "3 sightings\nin a row", -0.35),
    ("confirmed", "lost", "missed", -0.35),
    ("lost", "confirmed", "motion or\nappearance matches", -0.35),
    ("lost", "dormant", "not found\nfor 3 s", -0.35),
)
PAUSE = 0.4  # s without a box that show as a gap


def save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    print(path)


def spans(frames: np.ndarray) -> Iterable[tuple[float, float]]:
    """Begin and length (s) of each stretch of frames without a long gap."""
    times = np.sort(frames) / FRAME_RATE
    for part in np.split(times, np.flatnonzero(np.diff(times) > PAUSE) + 1):
        yield float(part[0]), float(part[-1] - part[0]) + 1 / FRAME_RATE


def corners(rows: np.ndarray) -> np.ndarray:
    return np.hstack([rows[:, LEFT:WIDTH], rows[:, LEFT:WIDTH] + rows[:, WIDTH : HEIGHT + 1]]).astype(np.float32)


def people_of(truth: np.ndarray, result: np.ndarray) -> np.ndarray:
    """The person of each result, by overlap; 0 where there is none."""
    person = np.zeros(len(result), dtype=int)
    for row, box in enumerate(corners(result)):
        there = truth[truth[:, FRAME] == result[row, FRAME]]
        if len(there):
            overlap = iou(np.repeat(box[None], len(there), axis=0), corners(there))
            if overlap.max() >= 0.5:
                person[row] = there[overlap.argmax(), IDENTITY]
    return person


def presence(truth: np.ndarray, result: np.ndarray, path: Path) -> None:
    """Who is in view when by the truth, and which number each has."""
    person, number = people_of(truth, result), result[:, IDENTITY].astype(int)
    known = np.unique(truth[:, IDENTITY]).astype(int).tolist()
    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    for place, who in enumerate(known):
        for begin, length in spans(truth[truth[:, IDENTITY] == who, FRAME]):
            axes.barh(place - 0.3, length, 0.14, left=begin, color="#999999")
        for given in np.unique(number[person == who]).tolist():
            frames = result[(person == who) & (number == given), FRAME]
            for begin, length in spans(frames):
                axes.barh(place + 0.05, length, 0.48, left=begin, color=css_color(given))
                if length > PAUSE:
                    axes.text(begin + 0.1, place + 0.05, str(given), va="center", fontsize=8, fontweight="bold")
    axes.set_yticks(range(len(known)), [f"person {who}" for who in known])
    axes.set_xlabel("seconds")
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def evidence(clip: Path, truth: np.ndarray, path: Path) -> None:
    """Cosines of crops of one person and of two, and the distance that the tracker makes of them."""
    embedder = Embedder(appearance_form(None))
    vectors, who, when = [], [], []
    for frame in open_source(clip):
        rows = truth[truth[:, FRAME] == frame.index + 1]
        if frame.index % 5 or not len(rows) or frame.image is None:
            continue
        vectors.append(embedder.embed(frame.image, corners(rows)))
        who += rows[:, IDENTITY].tolist()
        when += [frame.index] * len(rows)
    matrix, people, frames = np.concatenate(vectors), np.array(who), np.array(when)
    cosine = (matrix @ matrix.T)[np.triu_indices(len(matrix), 1)]
    same = (people[:, None] == people)[np.triu_indices(len(matrix), 1)]
    apart = (np.abs(frames[:, None] - frames) >= FRAME_RATE)[np.triu_indices(len(matrix), 1)]
    calibration = AppearanceCalibration(embedder.statistics)
    calibration.learn(cosine[same & apart], cosine[~same])
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    bins = np.linspace(-0.3, 1, 53).tolist()
    axes.hist(cosine[~same], bins, density=True, alpha=0.6, color="#b0413e", label="two people")
    axes.hist(
        cosine[same & apart], bins, density=True, alpha=0.6, color="#2a7f62", label="one person, 1 s or more apart"
    )
    axes.set_xlabel("cosine of two crops")
    axes.set_ylabel("density")
    distance = axes.twinx()
    line = np.linspace(-0.3, 1, 200)
    distance.plot(line, calibration.distance(line), color="black", label="calibrated distance (right)")
    distance.set_ylim(0, 1.05)
    handles = [each for one in (axes, distance) for each in one.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, loc="center left", fontsize=8)
    save(figure, path)


def life(path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 2.2), layout="constrained")
    for name, (x, y) in STATES.items():
        axes.text(
            x, y, name, ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "fc": "white", "ec": "black"}
        )

    def arrow(start: tuple[float, float], end: tuple[float, float], text: str, bend: float) -> None:
        style = {"arrowstyle": "->", "connectionstyle": f"arc3,rad={bend}", "shrinkA": 24, "shrinkB": 24}
        axes.annotate("", end, start, arrowprops=style)
        middle = (start[0] + end[0]) / 2, 0.42 if end[0] > start[0] else -0.24
        axes.text(*middle, text, ha="center", va="center", fontsize=8)

    for one, other, text, bend in ARROWS:
        arrow(STATES[one], STATES[other], text, bend)
    axes.annotate(
        "", (1.05, -0.12), (2.95, -0.12), arrowprops={"arrowstyle": "->", "connectionstyle": "arc3,rad=-0.35"}
    )
    axes.text(2.55, -0.72, "comes back and looks the same: gets the number back", ha="center", fontsize=8)
    axes.set_xlim(-0.4, 3.4)
    axes.set_ylim(-0.9, 0.7)
    axes.axis("off")
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs") / "figures")
    chosen = parser.parse_args()
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "reid_tracker"  # the same figure, the same file
    chosen.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        clip = make_clip(Path(work) / "demo")
        config = TrackConfig()
        config.output.folder, config.output.mot = str(Path(work) / "out"), True
        track(clip, config)
        truth = read_rows(Path(work) / "demo" / "gt" / "gt.txt")
        truth = truth[truth[:, CLASS] == 1]
        presence(truth, read_rows(Path(work) / "out" / "demo.txt"), chosen.output / "presence.svg")
        evidence(clip, truth, chosen.output / "evidence.svg")
    life(chosen.output / "life.svg")


if __name__ == "__main__":
    main()
