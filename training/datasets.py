"""Sets of person crops: which files, whose they are, which camera saw them, and which of them ask the queries."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from reid_tracker.appearance.crops import resize_crop
from reid_tracker.errors import UserError


@dataclass(frozen=True, slots=True)
class CropSet:
    """Crops of one or more sets.

    Attributes
    ----------
    paths : list of Path
        The picture files, N of them.
    identities : ndarray, int64 [N]
    cameras : ndarray, int64 [N]
    query : ndarray, bool [N]
        The crops that ask in retrieval; the others are the gallery.
    """

    paths: list[Path]
    identities: np.ndarray
    cameras: np.ndarray
    query: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, identities: np.ndarray) -> "CropSet":
        """Keep the crops of these identities."""
        rows = np.flatnonzero(np.isin(self.identities, identities))
        paths = [self.paths[row] for row in rows]
        return CropSet(paths, self.identities[rows], self.cameras[rows], self.query[rows])


def read_crops(source: str) -> CropSet:
    """Read a folder of crops, in the layout that its file names show.

    Parameters
    ----------
    source : str
        A folder, optionally followed by a slice of its identities sorted by number: `market/bounding_box_train[:551]`
        is the first 551 of them, `...[551:]` the others.

    Raises
    ------
    UserError
        If the folder is missing, holds no known layout, or the slice leaves nothing.
    """
    match = re.fullmatch(r"(.*?)(?:\[(\d*):(\d*)\])?", source)
    assert match is not None  # the pattern accepts any text
    folder = Path(match[1])
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder.")
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    # A stray file is no reason to refuse a set, so most of the names must fit, not all.
    layouts = (layout for layout in _LAYOUTS if 2 * sum(map(bool, map(layout[0].match, names))) > len(names))
    pattern, mark_queries = next(layouts, (None, None))
    if pattern is None or mark_queries is None:
        raise UserError(
            f"{folder}: no known layout; the picture names must be as in Market-1501 (0002_c1s1_000451_03.jpg) "
            "or CUHK03 (0001_c1_00.jpg)."
        )
    found = [(name, part) for name in names if (part := pattern.match(name))]
    identities = np.array([int(part[1]) for _, part in found])
    cameras = np.array([int(part[2]) for _, part in found])
    crops = CropSet([folder / name for name, _ in found], identities, cameras, mark_queries(identities, cameras))
    people = np.unique(identities[identities >= 0])  # -1 is Market-1501's junk
    low, high = (int(text) if text else None for text in match.group(2, 3))
    crops = crops.select(people[low:high])
    if not len(crops):
        raise UserError(f"{source}: no identity is left; the folder has {len(people)}.")
    return crops


def first_per_camera(identities: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Mark the first crop of each identity in each camera: the queries of Market-1501's protocol. bool [N]."""
    _, first = np.unique(np.stack([identities, cameras], axis=1), axis=0, return_index=True)
    query = np.zeros(len(identities), dtype=bool)
    query[first] = True
    return query


# CUHK03 asks with every crop of camera 1 and searches camera 2.
_LAYOUTS: list[tuple[re.Pattern[str], Callable[[np.ndarray, np.ndarray], np.ndarray]]] = [
    (re.compile(r"(-1|\d{4})_c(\d+)s\d+_\d+_\d+\."), first_per_camera),
    (re.compile(r"(\d+)_c?(\d+)_\d+\."), lambda _, cameras: cameras == 1),
]


def join_crops(sets: list[CropSet]) -> CropSet:
    """Put sets together; identities and cameras are numbered anew from 0, those of different sets kept apart."""
    return CropSet(
        [path for crops in sets for path in crops.paths],
        _number_apart([crops.identities for crops in sets]),
        _number_apart([crops.cameras for crops in sets]),
        np.concatenate([crops.query for crops in sets]),
    )


def _number_apart(sets: list[np.ndarray]) -> np.ndarray:
    pairs = np.concatenate(
        [np.stack([np.full_like(values, place), values]) for place, values in enumerate(sets)], axis=1
    )
    return np.unique(pairs, axis=1, return_inverse=True)[1]


def split_identities(crops: CropSet, held_out: int, seed: int) -> tuple[CropSet, CropSet]:
    """Divide into training and validation by *identity*: `held_out` random people are never trained on.

    Raises
    ------
    UserError
        If fewer than two identities would be left to train on.
    """
    people = np.unique(crops.identities)
    if len(people) - held_out < 2:
        raise UserError(f"{len(people)} identities cannot spare {held_out}; lower validation_identities.")
    chosen = np.random.default_rng(seed).permutation(people)
    return crops.select(chosen[held_out:]), crops.select(chosen[:held_out])


def load_images(crops: CropSet, size: tuple[int, int]) -> np.ndarray:
    """Decode and resize all crops into memory (128 x 64: 25 kB each).

    Returns
    -------
    ndarray, uint8 [N, H, W, 3]
        BGR.

    Raises
    ------
    UserError
        If a picture cannot be read.
    """
    images = np.empty((len(crops), *size, 3), dtype=np.uint8)
    for image, path in zip(images, crops.paths, strict=True):
        picture = cv2.imread(str(path))
        if picture is None:
            raise UserError(f"{path}: not a readable picture; remove it or copy it again.")
        image[:] = resize_crop(picture, size)
    return images
