"""How well `reid-tracker link` finds who is one person among many visits, beside simpler ways.

    python scripts/benchmark_link.py SET [SET ...] [--crops 2] [--cameras 40] [--many 10000]

The sets are crops of people whom the network has not learned, as for `reid-tracker evaluate reid`. A visit is some
crops of one person by one camera; each visit gets a number of its own, and the numbers are linked again. Every third
person is there once only. `--cameras` makes more cameras of those there are: each has colours, contrast, brightness and
sharpness of its own, and shows some of the visits. Printed: pairwise F1 and B-cubed F1 (Amigo et al. 2009), recall of
pairs, the share of visits that lie with another person's, and of those who are there once the share who were joined
with somebody, which is what `--rate` states; for `link` at several rates, and for connected components and DBSCAN at
several thresholds. `--many` times `link` on visits of synthetic people, of all and of a hundredth that is new.
"""

import argparse
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.sparse.csgraph import connected_components

from reid_tracker import Embedder
from reid_tracker.backends import appearance_form
from reid_tracker.crop_sets.layouts import read_crops
from reid_tracker.gallery.link import find_links
from reid_tracker.gallery.store import Model


@dataclass
class Visits:
    """As much of a gallery as `find_links` asks for: one view of each visit, the mean of its crops."""

    rows: np.ndarray
    camera: list[str]
    model: Model
    numbers: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = np.arange(1, len(self.rows) + 1)

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102
        return self.numbers, self.rows

    def moments(self) -> tuple[list[str], np.ndarray]:  # noqa: D102
        return self.camera, 10.0 * self.numbers

    def people(self) -> list[object]:  # noqa: D102
        return []


def looks(number: int) -> Callable[[np.ndarray], np.ndarray]:
    """How a camera shows a picture, uint8 BGR: the same for all that it sees."""
    random = np.random.default_rng(number)
    gains, gamma = random.uniform(0.85, 1.15, 3), random.uniform(0.7, 1.4)
    contrast, colour, blur = random.uniform(0.7, 1.2), random.uniform(0.6, 1.3), random.uniform(0, 1.2)

    def look(picture: np.ndarray) -> np.ndarray:
        seen = np.clip((picture / 255.0) * gains, 0, 1) ** gamma
        grey = seen.mean(axis=2, keepdims=True)
        seen = grey + colour * (seen - grey)
        seen = 0.5 + contrast * (seen - 0.5)
        if blur > 0.3:
            seen = cv2.GaussianBlur(seen, (0, 0), blur)
        return np.asarray((255 * np.clip(seen, 0, 1)).round().astype(np.uint8))

    return look


def read(sources: list[str], crops: float, embedder: Embedder, made: int) -> tuple[Visits, np.ndarray]:
    """Visits of all sets together, by so many cameras (0: as the sets have them), and whose each is."""
    rows, cameras, people = [], [], []
    height, width = embedder.input_size
    random = np.random.default_rng(0)
    for source in sources:
        given = read_crops(source, "test")
        pictures = [
            cv2.resize(cv2.imread(str(path)), (width, height), interpolation=cv2.INTER_AREA) for path in given.paths
        ]
        vectors = embedder.describe(np.stack(pictures))
        real = len(np.unique(given.cameras))
        for person, camera in np.unique(np.stack([given.identities, given.cameras]), axis=1).T.tolist():
            own = random.permutation(np.flatnonzero((given.identities == person) & (given.cameras == camera)))
            for part in np.array_split(own, max(round(len(own) / crops), 1)):
                where = f"{source} {camera}"
                if made:
                    variant = int(random.integers(max(made // (real * len(sources)), 1)))
                    where += f".{variant}"
                    look = looks(zlib.crc32(where.encode()))
                    vectors[part] = embedder.describe(np.stack([look(pictures[each]) for each in part]))
                rows.append(vectors[part].mean(axis=0))
                cameras.append(where)
                people.append(f"{source} {person}")
    names = np.array(people)
    lone = np.unique(names)[::3]
    first = np.zeros(len(names), dtype=bool)
    first[np.unique(names, return_index=True)[1]] = True
    kept = first | ~np.isin(names, lone)
    rows, cameras, names = np.array(rows)[kept], np.array(cameras)[kept].tolist(), names[kept]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    calibration = embedder.header.get("calibration", {})
    return Visits(unit.astype(np.float32), cameras, Model("0", unit.shape[1], calibration)), names


def judge(name: str, group: np.ndarray, people: np.ndarray) -> float:
    """Print a line; B-cubed F1."""
    one, two = (np.unique(each, return_inverse=True)[1] for each in (group, people))
    table = np.zeros((one.max() + 1, two.max() + 1))
    np.add.at(table, (one, two), 1)
    total, found, true = (float((part * (part - 1) / 2).sum()) for part in (table, table.sum(1), table.sum(0)))
    precision, recall = total / max(found, 1), total / true
    pure = (table**2 / table.sum(1, keepdims=True)).sum() / len(group)
    whole = (table**2 / table.sum(0, keepdims=True)).sum() / len(group)
    cubed = 2 * pure * whole / (pure + whole)
    wrong = 1 - table.max(1).sum() / len(group)
    once = table.sum(axis=0) == 1
    joined = (table[:, once].argmax(axis=0), table.sum(axis=1))
    lone = float((joined[1][joined[0]] > 1).mean()) if once.any() else 0.0
    pairs = 2 * precision * recall / max(precision + recall, 1e-9)
    print(
        f"{name:<32}{len(table):>7}{pairs:>8.3f}{cubed:>10.3f}{recall:>8.3f}{100 * wrong:>9.2f} %{100 * lone:>9.2f} %",
        flush=True,
    )
    return cubed


def linked(visits: Visits, rate: float) -> np.ndarray:
    group = visits.numbers.copy()
    for each in find_links(visits, rate):  # type: ignore[arg-type]
        group[np.isin(visits.numbers, each.numbers)] = each.numbers[0]
    return group


def dbscan(alike: np.ndarray, threshold: float, least: int = 3) -> np.ndarray:
    near = alike > threshold
    core = near.sum(axis=1) >= least
    group = connected_components(near & core[:, None] & core, directed=False)[1]
    for row in np.flatnonzero(~core):
        reached = np.flatnonzero(near[row] & core)
        if reached.size:
            group[row] = group[reached[alike[row, reached].argmax()]]
    return group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--crops", type=float, default=2, help="of a visit")
    parser.add_argument("--cameras", type=int, default=0, help="made of those of the sets")
    parser.add_argument("--many", type=int, nargs="*", default=[], help="visits of synthetic people to time")
    arguments = parser.parse_args()
    visits, people = read(arguments.sets, arguments.crops, Embedder(appearance_form(None)), arguments.cameras)
    print(f"{len(people)} visits of {len(np.unique(people))} people by {len(set(visits.camera))} cameras")
    print(f"{'':<32}{'groups':>7}{'pairs F1':>9}{'B-cubed':>9}{'recall':>8}{'wrong':>11}{'joined':>11}")
    for rate in (0.2, 0.05, 0.01, 0.001):
        judge(f"link, stated {100 * rate:g} %", linked(visits, rate), people)
    centred = visits.rows - visits.rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    alike = centred @ centred.T
    ways = {
        "connected components": lambda threshold: connected_components(alike > threshold, directed=False)[1],
        "DBSCAN": lambda threshold: dbscan(alike, threshold),
    }
    for name, way in ways.items():
        for threshold in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85):
            judge(f"{name}, {threshold}", way(threshold), people)
    for many in arguments.many:
        random = np.random.default_rng(0)
        centres = random.standard_normal((many // 7 + 1, visits.rows.shape[1]))
        rows = centres[random.integers(len(centres), size=many)] + 0.3 * random.standard_normal(
            (many, centres.shape[1])
        )
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        made = Visits(rows.astype(np.float32), [f"{each}" for each in random.integers(40, size=many)], visits.model)
        began = time.perf_counter()
        found = find_links(made)  # type: ignore[arg-type]
        print(f"{many} visits of synthetic people: {time.perf_counter() - began:.1f} s, {len(found)} people found")
        began = time.perf_counter()
        found = find_links(made, since=many - many // 100)  # type: ignore[arg-type]
        print(f"of them {many // 100} new: {time.perf_counter() - began:.1f} s, {len(found)} people found", flush=True)


if __name__ == "__main__":
    main()
