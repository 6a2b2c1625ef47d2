"""How much a crop is worth when someone in front covers part of its box: the table in `tracking.calibration`.

    python scripts/measure_reliability.py DATA [DATA ...] [--model FILE] [--crops 500]

Each crop of DATA (any layout of `reid-tracker train`; people whom the model was not trained on) is covered from one
side by another person, an upright ellipse as wide as most of a box, and compared with the free crops of everyone. A row
per share of the box that the other's box covers: mean cosines with the same person and with strangers, how far apart
the two lie in their mean deviation (d'), and the chance, beyond a coin's, that the same person is more alike than a
stranger, over that of free crops.
"""

import argparse

import numpy as np
import torch
from scipy.special import ndtr

from reid_tracker.appearance.embedder import Embedder
from reid_tracker.training.datasets import load_images
from reid_tracker.training.layouts import read_crops
from reid_tracker.weights import APPEARANCE

SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
ELLIPSE = 0.42  # its half width as a share of a box: people are narrower than their boxes
SEPARATION = "d'"
DOWN = 0.2  # the one in front stands up to so much of a crop's height lower


def cover(crops: np.ndarray, people: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Crops [N, H, W, 3] with another person's box over this share of each."""
    height, width = crops.shape[1:3]
    y, x = np.mgrid[0.5:height, 0.5:width]
    body = ((x / width - 0.5) / ELLIPSE) ** 2 + ((y / height - 0.5) / 0.5) ** 2 < 1
    covered = crops.copy()
    for crop, person in zip(covered, people, strict=True):
        other = crops[random.choice(np.flatnonzero(people != person))]
        down = int(random.uniform(0, DOWN) * height)
        across = min(round(share * width * height / (height - down)), width)
        here, there = (slice(0, across), slice(width - across, width))[:: random.choice([-1, 1])]
        shown = body[: height - down, there]
        crop[down:, here][shown] = other[: height - down, there][shown]
    return covered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model", default=APPEARANCE)
    parser.add_argument("--crops", type=int, default=500)
    arguments = parser.parse_args()
    embedder = Embedder(arguments.model)
    for source in arguments.data:
        random = np.random.default_rng(0)
        crops = read_crops(source)
        few = np.unique(crops.identities)[: max(arguments.crops // 8, 2)]
        chosen = random.permutation(np.flatnonzero(np.isin(crops.identities, few)))[: arguments.crops]
        crops = crops.take(np.sort(chosen))
        people, pictures = crops.identities, load_images(crops, embedder.input_size)
        free = embedder.describe(torch.from_numpy(pictures))
        same = people[:, None] == people
        strangers = ~same
        np.fill_diagonal(same, False)
        print(f"{source}\n{'covered':>9}{'same':>7}{'stranger':>10}{SEPARATION:>6}{'reliability':>13}")
        whole = None
        for share in SHARES:
            cosine = embedder.describe(torch.from_numpy(cover(pictures, people, share, random))) @ free.T
            one, other = cosine[same], cosine[strangers]
            apart = (one.mean() - other.mean()) / np.sqrt((one.var() + other.var()) / 2)
            beyond_chance = 2 * ndtr(apart / 2**0.5) - 1
            whole = whole or beyond_chance
            print(f"{share:9.1f}{one.mean():7.3f}{other.mean():10.3f}{apart:6.2f}{beyond_chance / whole:13.2f}")


if __name__ == "__main__":
    main()
