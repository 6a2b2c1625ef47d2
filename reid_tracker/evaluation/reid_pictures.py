"""Pictures of what a network finds alike: ranked lists, and a map of the vectors."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from reid_tracker.cropping import resize_crop
from reid_tracker.errors import UserError
from reid_tracker.evaluation.retrieval import cosine_distances
from reid_tracker.writing import check_writable, write_whole

if TYPE_CHECKING:
    from reid_tracker.crop_sets.crops import CropSet

_SIZE = (128, 64)
_EDGE = 4
_QUERIES, _BEST = 12, 10
_GREEN, _RED, _GREY = (80, 175, 76), (54, 67, 244), (160, 160, 160)

_CAPTION, _TITLE = 14, 24  # px of a line of text

_MAP_SIDE, _MAP_CROPS, _MAP_PEOPLE = 1600, 400, 20


def draw_ranked_list(
    path: Path, crops: "CropSet", vectors: np.ndarray, picture: Callable[[int], np.ndarray], seed: int
) -> None:
    """Draw queries, one a line, and their ten best: framed green where it is the same person, red where not.

    Under each stand its identity and its cosine with the query.

    Parameters
    ----------
    path : Path
        The PNG to write.
    crops : CropSet
        Whose they are, and which of them ask.
    vectors : ndarray, float32 [N, D]
        Unit rows, one per crop.
    picture : callable
        Gives a crop's pixels by its number.
    seed : int
        Decides which queries.
    """
    asking, searched = np.flatnonzero(crops.query), np.flatnonzero(~crops.query)
    asking = np.sort(np.random.default_rng(seed).permutation(asking)[:_QUERIES])
    distances = cosine_distances(vectors[asking], vectors[searched])(np.arange(len(asking)), np.arange(len(searched)))
    lines = []
    for query, line in zip(asking, distances, strict=True):
        same = crops.identities[searched] == crops.identities[query]
        seen_here = (crops.cameras[searched] == crops.cameras[query]) & (crops.cameras[query] != -1)
        best = np.argsort(np.where(same & seen_here, np.inf, line), kind="stable")[:_BEST]
        asked = _framed(picture(int(query)), _GREY, f"#{crops.identities[query]}")
        cells = [asked, np.full((len(asked), 12, 3), 255, np.uint8)]
        cells += [
            _framed(
                picture(int(searched[row])),
                _GREEN if same[row] else _RED,
                f"#{crops.identities[searched[row]]} {-line[row]:.2f}",
            )
            for row in best
        ]
        lines.append(np.hstack(cells))
    title = f"{len(lines)} queries and their {_BEST} best: identity, cosine; green = the same identity, red = another"
    _write(path, np.vstack([_text(title, lines[0].shape[1], _TITLE), *lines]))


def _framed(crop: np.ndarray, colour: tuple[int, int, int], caption: str) -> np.ndarray:
    edges = (_EDGE, _EDGE, _EDGE, _EDGE)
    framed = cv2.copyMakeBorder(resize_crop(crop, _SIZE), *edges, cv2.BORDER_CONSTANT, value=colour)
    return np.vstack([framed, _text(caption, framed.shape[1], _CAPTION)])


def _text(words: str, width: int, height: int) -> np.ndarray:
    """A line of text on white, as large as it fits; uint8 [height, width, 3]."""
    line = np.full((height, width, 3), 255, np.uint8)
    (length, tall), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 1, 1)
    scale = min(0.85 * (width - 2) / max(length, 1), 0.55 * height / tall)
    base = (2, round(height - 0.3 * height))
    return cv2.putText(line, words, base, cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 1, cv2.LINE_AA)


def draw_embedding_map(
    path: Path, crops: "CropSet", vectors: np.ndarray, picture: Callable[[int], np.ndarray], seed: int
) -> None:
    """Draw the crops of some people in a plane, alike ones close together, each person's in a frame of one colour.

    The plane is that of t-SNE (van der Maaten & Hinton 2008) on the cosine distances. Parameters as `draw_ranked_list`.
    """
    random = np.random.default_rng(seed)
    people = random.permutation(np.unique(crops.identities))[:_MAP_PEOPLE]
    rows = random.permutation(np.flatnonzero(np.isin(crops.identities, people)))[:_MAP_CROPS]
    plane = embed_in_plane(vectors[rows], random)
    low, span = plane.min(axis=0), np.maximum(np.ptp(plane, axis=0), 1e-9)
    height, width = _SIZE[0] // 2, _SIZE[1] // 2
    places = (((plane - low) / span) * (_MAP_SIDE - np.array([width, height]) - 8)).astype(int) + 4
    title = (
        f"{len(rows)} crops of {len(people)} identities (t-SNE of the cosine distances); frames of one colour are one"
    )
    canvas = np.full((_MAP_SIDE, _MAP_SIDE, 3), 255, dtype=np.uint8)
    hues = (np.argsort(np.argsort(people)) * (180 / len(people))).astype(np.uint8)
    for row, (x, y) in zip(rows, places, strict=True):
        hue = hues[people == crops.identities[row]][0]
        colour = cv2.cvtColor(np.array([[[hue, 220, 220]]], dtype=np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
        canvas[y : y + height, x : x + width] = resize_crop(picture(int(row)), (height, width))
        cv2.rectangle(canvas, (x - 2, y - 2), (x + width + 1, y + height + 1), colour, 3)
        canvas[y + height - 9 : y + height, x : x + width] = _text(f"#{crops.identities[row]}", width, 9)
    _write(path, np.vstack([_text(title, _MAP_SIDE, _TITLE), canvas]))


def embed_in_plane(vectors: np.ndarray, random: np.random.Generator, perplexity: float = 15) -> np.ndarray:
    """t-SNE of unit rows [N, D] into [N, 2], plain gradient descent; fit for some hundreds of rows."""
    count = len(vectors)
    squared = np.maximum(2 - 2 * vectors.astype(np.float64) @ vectors.T, 0)
    np.fill_diagonal(squared, np.inf)
    squared -= squared.min(axis=1, keepdims=True)  # changes no share, and keeps exp from underflow
    target = np.log(max(min(perplexity, (count - 1) / 3), 1.0))
    # Each row's width is found by bisection, so that its neighbours have the wanted entropy.
    low, high = np.full((count, 1), 1e-3), np.full((count, 1), 1e5)
    for _ in range(60):
        sharpness = np.sqrt(low * high)
        shares = np.exp(-sharpness * squared)
        shares /= shares.sum(axis=1, keepdims=True)
        entropy = -(shares * np.log(np.maximum(shares, 1e-12))).sum(axis=1, keepdims=True)
        low, high = np.where(entropy > target, sharpness, low), np.where(entropy > target, high, sharpness)
    wanted = (shares + shares.T) / (2 * count)
    plane = random.normal(0, 1e-4, (count, 2))
    velocity = np.zeros_like(plane)
    for step in range(500):
        closeness = 1 / (1 + ((plane[:, None] - plane) ** 2).sum(axis=2))
        np.fill_diagonal(closeness, 0)
        pull = (wanted * (12 if step < 150 else 1) - closeness / closeness.sum()) * closeness
        gradient = 4 * (pull.sum(axis=1, keepdims=True) * plane - pull @ plane)
        velocity = (0.5 if step < 150 else 0.8) * velocity - max(count / 12, 10) * gradient
        plane = plane + velocity
    return plane


def check_pictures(*paths: Path | None) -> None:
    """Raise a UserError about the first of these files that could not be drawn; None is passed over."""
    for path in filter(None, paths):
        if path.suffix.lower() != ".png":
            raise UserError(f"{path}: pictures are written as PNG; let the name end in .png.")
    check_writable(*paths)


def _write(path: Path, image: np.ndarray) -> None:
    write_whole(path, cv2.imencode(".png", image)[1].tobytes(), private=True)
