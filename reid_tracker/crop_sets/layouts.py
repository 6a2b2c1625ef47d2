"""How sets of crops lie on the disk: one reader for each layout, and `read_crops`, which finds out which it is."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from reid_tracker.crop_sets.crops import CropSet, check_once, first_per_camera, join_crops
from reid_tracker.cropping import clip_boxes
from reid_tracker.errors import UserError
from reid_tracker.motchallenge import (
    CLASS,
    CONFIDENCE,
    FRAME,
    FURTHEST,
    HEIGHT,
    IDENTITY,
    LEFT,
    MOST,
    VISIBILITY,
    read_rows,
    read_sequence_info,
)
from reid_tracker.reading import read_table, read_text

Part = Literal["train", "test"]

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_PARTS = re.compile(
    r"(image_|bounding_box_)?(train(ing)?|val(idation)?|test(ing)?|query|gallery)(_all|_set)?", re.IGNORECASE
)


def read_crops(source: str, part: Part = "train", min_visibility: float = 0.5) -> CropSet:
    """Read a set of crops in whichever layout it has.

    Parameters
    ----------
    source : str
        A folder (Market-1501, CUHK03, MSMT17, a MOTChallenge sequence or a folder of them, or one folder per identity)
        or a CSV file, optionally followed by a slice of its identities in their order:
        `market/bounding_box_train[:551]` is the first 551 of them, `...[551:]` the others.
    part : {"train", "test"}
        Which part of a set that comes in parts (the folders that hold the parts of Market-1501 and MSMT17).
    min_visibility : float
        In MOTChallenge sequences: a box is cut out if at least this share of it is visible.

    Raises
    ------
    UserError
        If there is no such folder or file, it has no known layout or a fault, a picture stands under two
        identities, or the slice leaves nothing.
    """
    match = re.fullmatch(r"(.*?)(?:\[(\d*):(\d*)\])?", source)
    assert match is not None  # the pattern accepts any text
    path = Path(match[1])
    if path.is_file() and path.suffix.lower() == ".csv":
        crops = _read_csv(path)
    elif path.is_dir():
        crops = _read_folder(path, part, min_visibility)
    else:
        raise UserError(f"{path}: no such folder, and no CSV file.")
    check_once(crops)
    people = np.unique(crops.identities[crops.identities >= 0])  # -1 is Market-1501's junk
    low, high = (int(text) if text else None for text in match.group(2, 3))
    crops = crops.select(people[low:high])
    if not len(crops):
        raise UserError(f"{source}: no identity is left; the set has {len(people)}.")
    return crops


def _read_folder(folder: Path, part: Part, min_visibility: float) -> CropSet:
    if any((folder / name).is_dir() for name in ("bounding_box_train", "bounding_box_test")):
        return _read_market(folder, part)
    if (folder / "list_train.txt").is_file():
        return _read_msmt17(folder, part)
    if (folder / "gt").is_dir() or (folder / "seqinfo.ini").is_file():
        return _read_sequence(folder, min_visibility)
    subfolders = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    sequences = [child for child in subfolders if (child / "gt" / "gt.txt").is_file()]
    if sequences:
        return join_crops([_read_sequence(child, min_visibility) for child in sequences])
    if any(_pictures_in(child) for child in subfolders):
        if parts := [child.name for child in subfolders if _PARTS.fullmatch(child.name)]:
            raise UserError(f"{folder}: {', '.join(parts)} are parts of a set, not people; give one of these folders.")
        return _read_identity_folders(subfolders)
    return _read_names(folder)


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES and path.name[0] != ".")


def read_pictures(folder: Path | str) -> CropSet:
    """Read all pictures in a folder and its subfolders as crops without identities and queries.

    Raises
    ------
    UserError
        If there is no such folder, or no picture in it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of pictures.")
    paths = [
        path for each in sorted({folder, *(p for p in folder.rglob("*") if p.is_dir())}) for path in _pictures_in(each)
    ]
    if not paths:
        raise UserError(f"{folder}: no pictures in it ({', '.join(_PICTURES)}).")
    unknown = np.full(len(paths), -1)
    return CropSet(paths, unknown, unknown, np.zeros(len(paths), dtype=bool))


# --- names that say it all: Market-1501 and CUHK03 ---

# CUHK03 asks with every crop of camera 1 and searches camera 2.
_NAMES: list[tuple[re.Pattern[str], Callable[[np.ndarray, np.ndarray], np.ndarray]]] = [
    (re.compile(r"(-1|\d{4})_c(\d+)s\d+_\d+_\d+\."), first_per_camera),
    (re.compile(r"(\d+)_c(\d+)_\d+_\d+\."), first_per_camera),  # VeRi-776
    (re.compile(r"(\d+)_c?(\d+)_\d+\."), lambda _, cameras: cameras == 1),
]


def _read_names(folder: Path) -> CropSet:
    paths = _pictures_in(folder)
    # A stray file is no reason to refuse a set, so most of the names must fit, not all.
    fitting = (kind for kind in _NAMES if 2 * sum(bool(kind[0].match(path.name)) for path in paths) > len(paths))
    pattern, mark_queries = next(fitting, (None, None))
    if pattern is None or mark_queries is None:
        raise UserError(
            f"{folder}: no known layout; give one folder per identity, a CSV file, a MOTChallenge sequence, the folder "
            "of MSMT17, or pictures named as in Market-1501 (0002_c1s1_000451_03.jpg) or CUHK03 (0001_c1_00.jpg)."
        )
    found = [(path, name) for path in paths if (name := pattern.match(path.name))]
    identities = np.array([int(name[1]) for _, name in found])
    cameras = np.array([int(name[2]) for _, name in found])
    return CropSet([path for path, _ in found], identities, cameras, mark_queries(identities, cameras))


def _read_market(folder: Path, part: Part) -> CropSet:
    """Market-1501 as published: bounding_box_train; query and bounding_box_test (Zheng et al. 2015)."""
    if part == "train":
        if not (folder / "bounding_box_train").is_dir():
            raise UserError(
                f"{folder}: holds the test part only, which nothing is trained on; bounding_box_train is missing."
            )
        return _read_names(folder / "bounding_box_train")
    for name in ("query", "bounding_box_test"):
        if not (folder / name).is_dir():
            raise UserError(f"{folder}: its test part needs the folder {name}, which is not there.")
    return _with_queries(_read_names(folder / "query"), _read_names(folder / "bounding_box_test"))


def _with_queries(query: CropSet, gallery: CropSet) -> CropSet:
    """Two sets that share their identities, as one."""
    return CropSet(
        query.paths + gallery.paths,
        np.concatenate([query.identities, gallery.identities]),
        np.concatenate([query.cameras, gallery.cameras]),
        np.arange(len(query) + len(gallery)) < len(query),
    )


# --- lists ---


def _read_msmt17(folder: Path, part: Part) -> CropSet:
    """MSMT17 as published (Wei et al. 2018): lists of "path identity" lines; version 2 calls its folders mask_*_v2.

    Training is list_train.txt and list_val.txt together, as in the published protocol.
    """
    root = next((folder / name for name in (part, f"mask_{part}_v2") if (folder / name).is_dir()), None)
    if root is None:
        raise UserError(f"{folder}: MSMT17's folder {part} (or mask_{part}_v2) is not there.")
    first, second = ("list_train.txt", "list_val.txt") if part == "train" else ("list_query.txt", "list_gallery.txt")
    crops = _with_queries(_read_list(folder / first, root), _read_list(folder / second, root))
    if part == "test":
        return crops
    query = first_per_camera(crops.identities, crops.cameras)
    return CropSet(crops.paths, crops.identities, crops.cameras, query)


def _read_list(path: Path, root: Path) -> CropSet:
    """Lines such as `0000/0000_000_01_0303morning_0008_0.jpg 0`; the third part of the name is the camera."""
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        match = re.fullmatch(r"((?:.*/)?\d+_\d+_(\d+)_[^/]*) (\d+)\s*", line)
        if match:
            rows.append((root / match[1], int(match[3]), int(match[2])))
        elif line.strip():
            raise UserError(f"{path}: line {number} is not 'path identity' as in MSMT17: {line.strip()[:80]!r}.")
    identities, cameras = (np.array([row[column] for row in rows], dtype=np.int64) for column in (1, 2))
    return CropSet([row[0] for row in rows], identities, cameras, np.zeros(len(rows), dtype=bool))


def _read_csv(path: Path) -> CropSet:
    """Columns path (relative to the file), identity, and optionally camera and split (query or gallery)."""
    columns, rows = read_table(path)
    missing = [name for name in ("path", "identity") if name not in columns]
    if missing:
        raise UserError(f"{path}: no column {' and no column '.join(missing)}; the first line names the columns.")
    for number, row in enumerate(rows, start=2):
        for name in ("path", "identity", *({"camera", "split"} & set(columns))):
            if not (row[name] or "").strip():
                raise UserError(f"{path}: line {number} has no {name}.")
        if "split" in columns and row["split"] not in ("query", "gallery"):
            raise UserError(f"{path}: line {number}: split is {row['split']!r}; write query or gallery.")
    identities = _number([row["identity"] for row in rows])
    cameras = _number([row["camera"] for row in rows]) if "camera" in columns else np.full(len(rows), -1)
    if "split" in columns:
        query = np.array([row["split"] == "query" for row in rows], dtype=bool)
    else:
        query = first_per_camera(identities, cameras)
    return CropSet([path.parent / row["path"] for row in rows], identities, cameras, query)


def _number(names: list[str]) -> np.ndarray:
    """Numbers as they are (-1 stays junk), if all are plain ones; else each name is one, in their order."""
    if all(re.fullmatch(r"-1|0|[1-9]\d{0,17}", name) for name in names):
        return np.array([int(name) for name in names], dtype=np.int64)
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)


# --- folders ---


def _read_identity_folders(folders: list[Path]) -> CropSet:
    """One folder per identity, the pictures in it; the first of each asks. No camera is known."""
    paths = [_pictures_in(folder) for folder in folders]
    identities = np.repeat(np.arange(len(folders)), [len(each) for each in paths])
    cameras = np.full(len(identities), -1)
    query = first_per_camera(identities, cameras)
    return CropSet([path for each in paths for path in each], identities, cameras, query)


def _read_sequence(folder: Path, min_visibility: float) -> CropSet:
    """A MOTChallenge sequence: each true track is an identity, each of its boxes in a picture a crop.

    One camera saw them all; it is given as unknown, since retrieval leaves out what the query's own camera saw.
    """
    info, rows = read_sequence_info(folder), read_rows(folder / "gt" / "gt.txt")
    if not info.image_folder.is_dir():
        raise UserError(f"{folder}: no pictures in {info.image_folder.name}/; crops are cut from the pictures.")
    whole, box = rows[:, :LEFT], rows[:, LEFT : HEIGHT + 1]
    if not (np.abs(whole) < MOST).all() or (whole % 1 != 0).any() or not (np.abs(box) < FURTHEST).all():
        raise UserError(
            f"{folder / 'gt' / 'gt.txt'}: frames and identities must be whole numbers, and boxes in pixels."
        )
    corner, size = rows[:, LEFT : LEFT + 2], rows[:, LEFT + 2 : LEFT + 4]
    boxes = np.concatenate([corner, corner + size], axis=1)
    clipped, usable = clip_boxes(boxes, info.height, info.width)
    visible = np.prod(clipped[:, 2:] - clipped[:, :2], axis=1) / np.maximum(np.prod(size, axis=1), 1)
    if rows.shape[1] > CONFIDENCE:
        usable &= rows[:, CONFIDENCE] != 0
    if rows.shape[1] == VISIBILITY + 1:  # in files of ten columns (MOT15) these are coordinates in the world
        usable &= rows[:, CLASS] == 1
        visible = np.minimum(visible, rows[:, VISIBILITY])
    pictures = {path.name for path in _pictures_in(info.image_folder)}
    names = [f"{int(frame):06d}{info.image_extension}" for frame in rows[:, FRAME]]
    usable &= (visible >= min_visibility) & np.array([name in pictures for name in names], dtype=bool)
    chosen = np.flatnonzero(usable)
    identities = rows[chosen, IDENTITY].astype(np.int64)
    cameras = np.full(len(chosen), -1)
    paths = [info.image_folder / names[row] for row in chosen]
    return CropSet(paths, identities, cameras, first_per_camera(identities, cameras), clipped[chosen])
