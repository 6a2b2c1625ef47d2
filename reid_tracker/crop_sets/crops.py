"""Sets of crops: which pictures, whose they are, which camera saw them, and which of them ask the queries."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_tracker.cropping import clip_boxes, cut_crops
from reid_tracker.errors import UserError
from reid_tracker.pictures import read_picture, unreadable


@dataclass(frozen=True, slots=True)
class CropSet:
    """Crops of one or more sets.

    Attributes
    ----------
    paths : list of Path
        The picture files, N of them.
    identities : ndarray, int64 [N]
    cameras : ndarray, int64 [N]
        -1 where it is not known.
    query : ndarray, bool [N]
        The crops that ask in retrieval; the others are the gallery.
    boxes : ndarray, float32 [N, 4], optional
        Where in its picture each crop is, xyxy in pixels; without it, and in rows of NaN, the picture is the crop.
    """

    paths: list[Path]
    identities: np.ndarray
    cameras: np.ndarray
    query: np.ndarray
    boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def cameras_apart(self) -> np.ndarray:
        """Cameras for a ranking, which leaves out what the query's own saw: one of its own for each unknown. [N]."""
        return np.where(self.cameras < 0, self.cameras.max(initial=0) + 1 + np.arange(len(self)), self.cameras)

    def select(self, identities: np.ndarray) -> "CropSet":
        """Keep the crops of these identities."""
        return self.take(np.flatnonzero(np.isin(self.identities, identities)))

    def take(self, rows: np.ndarray) -> "CropSet":
        """Keep these rows, int [M], in their order."""
        paths = [self.paths[row] for row in rows]
        boxes = None if self.boxes is None else self.boxes[rows]
        return CropSet(paths, self.identities[rows], self.cameras[rows], self.query[rows], boxes)


def first_per_camera(identities: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Mark the first crop of each identity in each camera: the queries of Market-1501's protocol. bool [N]."""
    _, first = np.unique(np.stack([identities, cameras], axis=1), axis=0, return_index=True)
    query = np.zeros(len(identities), dtype=bool)
    query[first] = True
    return query


def join_crops(sets: list[CropSet]) -> CropSet:
    """Put sets together; identities and cameras are numbered anew from 0, those of different sets kept apart."""
    cameras = _number_apart([crops.cameras for crops in sets])
    known = np.concatenate([crops.cameras for crops in sets]) >= 0
    return CropSet(
        [path for crops in sets for path in crops.paths],
        _number_apart([crops.identities for crops in sets]),
        np.where(known, cameras, -1),
        np.concatenate([crops.query for crops in sets]),
        np.concatenate([np.full((len(c), 4), np.nan, np.float32) if c.boxes is None else c.boxes for c in sets]),
    )


def _number_apart(sets: list[np.ndarray]) -> np.ndarray:
    pairs = np.concatenate(
        [np.stack([np.full_like(values, place), values]) for place, values in enumerate(sets)], axis=1
    )
    return np.unique(pairs, axis=1, return_inverse=True)[1]


def check_once(crops: CropSet) -> None:
    """Raise a UserError about a picture that stands under two identities, in one set or in two that were joined."""
    known: dict[str, int] = {}
    rows = range(len(crops)) if crops.boxes is None else np.flatnonzero(np.isnan(crops.boxes).all(axis=1))
    for row in rows:  # a picture that crops are cut from shows many people
        identity = int(crops.identities[row])
        if known.setdefault(os.path.normpath(crops.paths[row].absolute()), identity) != identity:
            raise UserError(f"{crops.paths[row]}: stands under two identities; leave it with one of them.")


def split_identities(crops: CropSet, held_out: int | None, seed: int) -> tuple[CropSet, CropSet]:
    """Divide into training and validation by *identity*: `held_out` random people are never trained on.

    Without a number a tenth of them, at most 40, is held out; of few people more, up to five or a quarter: what two
    people say of strangers is no calibration.

    Raises
    ------
    UserError
        If fewer than two identities would be left to train on.
    """
    people = np.unique(crops.identities)
    if held_out is None:
        held_out = min(max(len(people) // 10, min(5, len(people) // 4)), 40)
    if len(people) - held_out < 2:
        if len(people) < 2:
            raise UserError(f"there is {len(people)} identity to train on; name crops of at least two.")
        raise UserError(f"{len(people)} identities cannot spare {held_out}; lower schedule.validation_identities.")
    chosen = np.random.default_rng(seed).permutation(people)
    return crops.select(chosen[held_out:]), crops.select(chosen[:held_out])


def can_score(crops: CropSet) -> bool:
    """Whether any query has a match in the gallery from another camera (or an unknown one)."""
    query, gallery, cameras = crops.query, ~crops.query, crops.cameras_apart
    same = crops.identities[query, None] == crops.identities[gallery]
    return bool((same & (cameras[query, None] != cameras[gallery])).any())


def load_images(crops: CropSet, size: tuple[int, int]) -> np.ndarray:
    """Decode, cut and resize all crops into memory (128 x 64: 25 kB each).

    Returns
    -------
    ndarray, uint8 [N, H, W, 3]
        BGR.

    Raises
    ------
    UserError
        If a picture cannot be read, or a box lies outside of it.
    """
    images = np.empty((len(crops), *size, 3), dtype=np.uint8)
    rows_of: dict[Path, list[int]] = {}
    for row, path in enumerate(crops.paths):
        rows_of.setdefault(path, []).append(row)
    for path, rows in rows_of.items():
        picture = read_picture(path)
        if picture is None:
            raise UserError(f"{path}: {unreadable(path)}.")
        height, width = picture.shape[:2]
        boxes = np.tile(np.array([0, 0, width, height], dtype=np.float32), (len(rows), 1))
        if crops.boxes is not None:
            given = crops.boxes[rows]
            boxes = np.where(np.isnan(given), boxes, given)
        boxes, usable = clip_boxes(boxes, height, width)
        if not usable.all():
            raise UserError(f"{path}: a box lies outside of this picture of {width} x {height}; check the truth file.")
        images[rows] = cut_crops(picture, boxes, size)
    return images
