"""How often a stranger takes the number of who stood in the same place before, and how often who comes back keeps it.

    python scripts/successors.py [--crops cuhk03/val] [--seeds 20]

Eight people stand in one place, one after another, with nobody there in between, beside two who stay; or one person
does so eight times. Ten variants differ in frame rate, gap, size, jitter of the boxes, and what all vectors have in
common; in one the film is cut, and everyone is somebody else at once. `--crops` takes the vectors that the bundled
network gives of a set of crops (of each person those of one camera) instead of made ones.
"""

import argparse
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import supervision as sv

from reid_tracker import CosineStatistics, Embedder, Tracker
from reid_tracker.backends import appearance_form
from reid_tracker.crop_sets.crops import load_images
from reid_tracker.crop_sets.layouts import read_crops

TURNS, STAY, CROPS = 8, 8.0, 4  # people in turn, s that each stays, and the least crops of somebody
PLACES = np.array([[600.0, 200.0], [900.0, 210.0], [300.0, 200.0]])  # of the two who stay, and of the others
SIZE = (144, 72)


class Variant(NamedTuple):
    """One way to stand in one place."""

    rate: float
    gap: float  # s
    height: float  # px
    jitter: float  # heights
    common: float  # share of the vectors' variance
    noise: float  # length of what differs between two vectors of one person
    cut: bool = False


VARIANTS = (
    Variant(10, 2.0, 160, 0.01, 0.0, 0.3),
    Variant(7, 0.3, 160, 0.01, 0.3, 0.3),
    Variant(15, 0.5, 80, 0.02, 0.5, 0.4),
    Variant(25, 1.0, 300, 0.01, 0.8, 0.3),
    Variant(30, 2.9, 120, 0.03, 0.2, 0.5),
    Variant(30, 0.3, 200, 0.01, 0.6, 0.3),
    Variant(10, 0.6, 60, 0.02, 0.4, 0.4),
    Variant(20, 1.5, 160, 0.02, 0.7, 0.4),
    Variant(25, 0.0, 160, 0.01, 0.3, 0.3, cut=True),
    Variant(12, 2.5, 240, 0.03, 0.5, 0.5),
)


def unit(vectors: np.ndarray) -> np.ndarray:
    length: np.ndarray = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / length


def made(variant: Variant, random: np.random.Generator, count: int) -> list[np.ndarray]:
    """Vectors [K, 128] of so many people."""
    own, common = unit(random.normal(size=(count, 128))), unit(random.normal(size=128))
    mean = unit(np.sqrt(1 - variant.common) * own + np.sqrt(variant.common) * common)
    return [unit(each + random.normal(0, variant.noise / 128**0.5, (200, 128))) for each in mean]


def of_crops(source: str) -> tuple[list[np.ndarray], CosineStatistics | None]:
    """What the bundled network says of a set's people, and its statistics."""
    embedder, crops = Embedder(appearance_form(None)), read_crops(source, "test")
    rows = defaultdict(list)
    for row, key in enumerate(zip(crops.identities.tolist(), crops.cameras.tolist(), strict=True)):
        rows[key].append(row)
    best: dict[int, list[int]] = {}
    for (who, _), found in rows.items():
        best[who] = max(best.get(who, []), found, key=len)
    images = load_images(crops, SIZE)
    whole = np.array([[0, 0, SIZE[1], SIZE[0]]], dtype=np.float32)
    return [
        np.concatenate([embedder.embed(images[row], whole) for row in found])
        for found in best.values()
        if len(found) >= CROPS
    ], embedder.statistics


def one_place(
    variant: Variant, people: list[np.ndarray], statistics: CosineStatistics | None, same: bool, seed: int
) -> int:
    """In how many of the turns after the first somebody had a number of before."""
    random, tracker = np.random.default_rng(seed), Tracker(frame_rate=variant.rate, statistics=statistics)
    size, known, count = np.array([0.4, 1.0]) * variant.height, set[int](), 0
    for turn in range(TURNS):
        here = set()
        who = [TURNS, TURNS + 1, 0 if same else turn]
        if variant.cut and not same:
            who[:2] = [TURNS + 2 * (turn % 2), TURNS + 1 + 2 * (turn % 2)]
        for frame in range(round(STAY * variant.rate) + round(variant.gap * variant.rate)):
            shown = who if frame < round(STAY * variant.rate) else who[:2]
            corner = PLACES[: len(shown)]
            xyxy = np.concatenate([corner, corner + size], axis=1)
            xyxy += random.normal(0, variant.jitter * variant.height, xyxy.shape)
            vectors = np.stack([people[each][random.integers(len(people[each]))] for each in shown])
            found = sv.Detections(
                xyxy.astype(np.float32),
                confidence=np.full(len(xyxy), 0.9),
                class_id=np.zeros(len(xyxy), int),
                data={"embedding": vectors.astype(np.float32)},
            )
            tracks = tracker.update(found)
            assert tracks.tracker_id is not None
            here |= {int(number) for box, number in zip(tracks.xyxy, tracks.tracker_id, strict=True) if box[0] < 450}
        count += bool(here & known)
        known |= here
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", help="a set of crops, as for `reid-tracker train`; without it vectors are made")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    known, statistics = of_crops(arguments.crops) if arguments.crops else (None, None)
    of_all, pairs = np.zeros(2, int), (TURNS - 1) * arguments.seeds
    for number, variant in enumerate(VARIANTS):
        counts = np.zeros(2, int)
        for column, same in enumerate((False, True)):
            for seed in range(arguments.seeds):
                random = np.random.default_rng((seed, column, number))
                if known is None:
                    people = made(variant, random, TURNS + 4)
                else:
                    people = [known[each] for each in random.permutation(len(known))[: TURNS + 4]]
                counts[column] += one_place(variant, people, statistics, same, seed)
        of_all += counts
        print(f"{variant}: strangers who took a number {counts[0]} of {pairs}, same who kept it {counts[1]} of {pairs}")
    taken, kept = 100 * of_all / (pairs * len(VARIANTS))
    print(f"\nstrangers who took a number {taken:.1f} %, who came back and kept it {kept:.1f} %")


if __name__ == "__main__":
    main()
