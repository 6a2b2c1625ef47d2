"""How well appearance networks find people again on footage that none of them was trained on.

python scripts/unseen_cameras.py --data DATA [--set "market=market1501/bounding_box_train[551:]"] MODEL [MODEL ...]

Two kinds of judges. Sets of crops (`--set NAME=SOURCE`, as for `reid-tracker train --test`). And sequences with pixels
and truth: every person once a second, uncovered; who is it a few seconds later? Their two figures:

- apart: Rank-1 / mAP among all crops of the sequence, without the person's own of the seconds around the query;
- in frame: how often the person is the likest of those in one frame, over all frames so far from the query.

A last column compares each model with the first by what it says of these crops: the mean squared difference of the
cosines of all pairs, after their mean and spread are made alike.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reid_tracker.appearance.embedder import Embedder
from reid_tracker.crop_sets.crops import load_images
from reid_tracker.crop_sets.layouts import read_crops
from reid_tracker.cropping import clip_boxes, cut_crops
from reid_tracker.evaluation.retrieval import evaluate_retrieval
from reid_tracker.motchallenge import CLASS, CONFIDENCE, FRAME, IDENTITY, LEFT, VISIBILITY, read_rows
from reid_tracker.tracking.costs import coverage
from reid_tracker.video.sources import open_source

LARGEST = (256, 128)  # crops are kept at this size; smaller networks see them shrunk
COVERED = 0.3


class Judge(NamedTuple):
    """A sequence to find people in: its truth's folder, its true rate, and how far apart query and match are (s)."""

    folder: str
    rate: float
    apart: float
    every: float


SEQUENCES = {
    "PETS": Judge("mot15/PETS09-S2L1", 7, 5, 1),
    "MOT17-11": Judge("mot17/MOT17-11-FRCNN", 30, 5, 1),
    "TUD": Judge("mot15/TUD-Campus", 25, 1, 0.4),
}
PEOPLE = {13: 2, 9: 5, 10: 6, 14: 8, 18: 8, 15: 8, 11: 3, 12: 4, 19: 1}  # PETS09-S2L1's truth numbers returns anew


class Crops(NamedTuple):
    """Uncovered crops of a sequence: pictures, who it is, and when (s)."""

    pictures: list[np.ndarray]
    person: np.ndarray
    time: np.ndarray


def cut(data: Path, name: str) -> Crops:
    """Cut the crops of a sequence by its truth."""
    judge = SEQUENCES[name]
    folder = data / judge.folder
    rows = read_rows(folder / "gt" / "gt.txt")
    keep = rows[:, CONFIDENCE] != 0
    if rows.shape[1] == VISIBILITY + 1:
        keep &= (rows[:, CLASS] == 1) & (rows[:, VISIBILITY] >= 1 - COVERED)
    rows = rows[keep]
    step = round(judge.every * judge.rate)
    pictures, person, time = [], [], []
    for frame in open_source(folder):
        if frame.index % step or frame.image is None:
            continue
        seen = rows[rows[:, FRAME] == frame.index + 1]
        boxes = np.hstack([seen[:, LEFT : LEFT + 2], seen[:, LEFT : LEFT + 2] + seen[:, LEFT + 2 : LEFT + 4]])
        inside, usable = clip_boxes(boxes, *frame.image.shape[:2])
        whole = np.prod(inside[:, 2:] - inside[:, :2], axis=1) >= (1 - COVERED) * np.prod(
            seen[:, LEFT + 2 : LEFT + 4], 1
        )
        usable &= whole & (coverage(boxes) < COVERED)
        for box, identity in zip(inside[usable], seen[usable, IDENTITY], strict=True):
            pictures.append(cut_crops(frame.image, box[None], LARGEST)[0])
            person.append(PEOPLE.get(int(identity), int(identity)) if name == "PETS" else int(identity))
            time.append(frame.index / judge.rate)
    return Crops(pictures, np.array(person), np.array(time))


def describe(model: Embedder, pictures: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """Vectors, unit rows [N, D], of crops of `LARGEST` size."""
    boxes = np.array([[0, 0, LARGEST[1], LARGEST[0]]], dtype=np.float32)
    return model.describe(np.concatenate([cut_crops(each, boxes, model.input_size) for each in pictures]))


def score(vectors: np.ndarray, crops: Crops, apart: float) -> tuple[float, float, float, int]:
    """Rank-1, mAP, the share of frames in which the person is the likest (0..1), and how many queries there are."""
    cosine = vectors @ vectors.T
    firsts, precisions, found = [], [], []
    for row, (who, when) in enumerate(zip(crops.person, crops.time, strict=True)):
        own = crops.person == who
        far = np.abs(crops.time - when) >= apart
        if not (own & far).any():
            continue
        candidates = np.flatnonzero(far | ~own)
        matches = own[candidates[np.argsort(-cosine[row, candidates], kind="stable")]]
        ranks = np.flatnonzero(matches) + 1
        firsts.append(ranks[0] == 1)
        precisions.append((np.arange(1, len(ranks) + 1) / ranks).mean())
        together = []
        for moment in np.unique(crops.time[own & far]):
            there = np.flatnonzero(crops.time == moment)
            if len(there) > 1:
                together.append(crops.person[there[np.argmax(cosine[row, there])]] == who)
        if together:
            found.append(np.mean(together))
    return float(np.mean(firsts)), float(np.mean(precisions)), float(np.mean(found)), len(firsts)


def standardised(vectors: np.ndarray) -> np.ndarray:
    """Cosines of all pairs, of mean 0 and spread 1."""
    cosine = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    return (cosine - cosine.mean()) / cosine.std()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help='weights (.safetensors, .onnx, .xml), or "bundled"')
    parser.add_argument("--data", type=Path, required=True, help="folder of the sequences and the sets")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=SOURCE", help="crops, relative to --data")
    parser.add_argument("--sequences", nargs="*", choices=SEQUENCES, default=list(SEQUENCES))
    chosen = parser.parse_args()
    sequences = {name: cut(chosen.data, name) for name in chosen.sequences}
    sets = {}
    for each in chosen.set:
        name, source = each.split("=", 1)
        crops = read_crops(str(chosen.data / source), "test")
        sets[name] = crops, load_images(crops, LARGEST)
    first: dict[str, np.ndarray] = {}
    print("| model | " + " | ".join([*sets, *sequences]) + " | unlike the first |")
    print("|---" * (len(sets) + len(sequences) + 2) + "|")
    for path in chosen.models:
        model = Embedder(None if path == "bundled" else path)
        cells = []
        for crops, pictures in sets.values():
            vectors, query = describe(model, pictures), crops.query
            camera = crops.cameras_apart
            who = crops.identities
            figures = evaluate_retrieval(
                vectors[query], vectors[~query], who[query], who[~query], camera[query], camera[~query]
            )
            found = figures.as_dict()
            cells.append(f"{100 * found['rank1']:.1f} / {100 * found['mAP']:.1f}")
        unlike = []
        for name, crops in sequences.items():
            vectors = describe(model, crops.pictures)
            rank1, precision, alone, _ = score(vectors, crops, SEQUENCES[name].apart)
            cells.append(f"{100 * rank1:.1f} / {100 * precision:.1f}, in frame {100 * alone:.1f}")
            ours = standardised(vectors)
            unlike.append(np.mean((ours - first.setdefault(name, ours)) ** 2))
        print(f"| {Path(path).stem} | " + " | ".join(cells) + f" | {np.mean(unlike):.3f} |", flush=True)
    counts = ", ".join(
        f"{name} {score(np.eye(len(each.person)), each, SEQUENCES[name].apart)[3]}" for name, each in sequences.items()
    )
    print(f"Queries: {counts}.")


if __name__ == "__main__":
    main()
