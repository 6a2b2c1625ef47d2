"""Evaluate an appearance network on a set of crops: figures, re-ranked figures, bad cameras, and pictures of them."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reid_tracker.appearance.embedder import Embedder
from reid_tracker.cropping import clip_boxes, resize_crop
from reid_tracker.errors import UserError
from reid_tracker.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from reid_tracker.evaluation.reid_pictures import check_pictures, draw_embedding_map, draw_ranked_list
from reid_tracker.evaluation.reranking import k_reciprocal_distances
from reid_tracker.evaluation.retrieval import Distances, cosine_distances, score_ranking
from reid_tracker.pictures import read_picture, unreadable

if TYPE_CHECKING:
    from reid_tracker.crop_sets.crops import CropSet

_BATCH = 256


def evaluate_reid(
    data: str,
    model: Path | str | None = None,
    corruptions: bool = False,
    rerank: bool = False,
    ranked_list: Path | None = None,
    embedding_map: Path | None = None,
    device: str = "auto",
    severities: tuple[int, ...] = SEVERITIES,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure how well a network finds people again, by the Market-1501 protocol.

    Parameters
    ----------
    data : str
        The test part of a set of crops, as `reid_tracker.crop_sets.layouts.read_crops` takes it: a folder, or a CSV
        with columns path, identity, and optionally camera and split (query or gallery).
    model : Path, optional
        What `Embedder` takes: a checkpoint, .onnx or .xml; without it, or as "bundled", the bundled network.
    corruptions : bool
        Also with all crops corrupted, query and gallery, by each kind of `CORRUPTIONS` at each severity.
    rerank : bool
        Also with k-reciprocal re-ranking.
    ranked_list, embedding_map : Path, optional
        PNG files to draw: some queries with their ten best, and the vectors in a plane.
    device : str
        As `Embedder` takes it.
    severities : tuple of int
        Of the corruptions, 1 to 5.
    seed : int
        Decides the corruptions' chances and the queries that are drawn.
    progress : callable, optional
        Called with what is being done, crops done and crops in all.

    Returns
    -------
    dict
        `rank1`, `rank5`, `mAP`, `mINP` (0..1); `data`, `model` (names), `model_hash`, `dimension`, `queries`,
        `gallery`, `identities` (counts). With `rerank`: `reranked`, the four figures. With `corruptions`: for each kind
        and severity (as text) the four figures, and in `robustness` the mean of the mAP over the kinds as a share of
        the clean mAP, for each severity.

    Raises
    ------
    UserError
        If the set or the model cannot be read, or nothing can be scored.
    """
    from reid_tracker.crop_sets.layouts import read_crops  # here, not above: the run time never imports training

    check_pictures(ranked_list, embedding_map)
    model = None if str(model) == "bundled" else model  # as `train --start` has it
    crops = read_crops(data, part="test")
    embedder = Embedder(model, device=device)
    query = crops.query
    if not query.any() or query.all():
        raise UserError(f"{data}: it needs queries and a gallery; name them in a CSV's column split.")

    def embed(kind: str | None = None, severity: int = 0) -> np.ndarray:
        report = None
        if progress:
            task, call = f"{kind} {severity}" if kind else "clean", progress
            report = lambda done: call(task, done, len(crops))  # noqa: E731
        return _embed(crops, embedder, kind, severity, seed, report)

    def score(make: Callable[[np.ndarray, np.ndarray], Distances], vectors: np.ndarray) -> dict[str, float]:
        figures = score_ranking(
            make(vectors[query], vectors[~query]),
            crops.identities[query],
            crops.identities[~query],
            crops.cameras[query],
            crops.cameras[~query],
        )
        return {**figures.as_dict(), "queries": figures.queries}

    vectors = embed()
    result: dict[str, Any] = {
        "data": data,
        "model": str(model) if model else "bundled",
        "model_hash": embedder.hash,
        "dimension": embedder.dimension,
        "gallery": int((~query).sum()),
        "identities": len(np.unique(crops.identities)),
        **score(cosine_distances, vectors),
    }
    if ranked_list:
        draw_ranked_list(ranked_list, crops, vectors, lambda row: next(_pictures(crops, [row])), seed)
    if embedding_map:
        draw_embedding_map(embedding_map, crops, vectors, lambda row: next(_pictures(crops, [row])), seed)
    if rerank:
        result["reranked"] = _four(score(k_reciprocal_distances, vectors))
    if corruptions:
        table = {
            kind: {str(severity): _four(score(cosine_distances, embed(kind, severity))) for severity in severities}
            for kind in CORRUPTIONS
        }
        result["corruptions"] = table
        result["robustness"] = {
            str(severity): float(np.mean([row[str(severity)]["mAP"] for row in table.values()])) / result["mAP"]
            for severity in severities
        }
    return result


def _four(figures: dict[str, float]) -> dict[str, float]:
    return {name: figures[name] for name in ("rank1", "rank5", "mAP", "mINP")}


def _embed(
    crops: "CropSet",
    embedder: Embedder,
    kind: str | None,
    severity: int,
    seed: int,
    report: Callable[[int], None] | None,
) -> np.ndarray:
    """Vectors [N, D] of the crops, corrupted before they are resized, as a camera would."""
    vectors = np.empty((len(crops), embedder.dimension), dtype=np.float32)
    for start in range(0, len(crops), _BATCH):
        rows = range(start, min(start + _BATCH, len(crops)))
        batch = np.empty((len(rows), *embedder.input_size, 3), dtype=np.uint8)
        for place, (row, picture) in enumerate(zip(rows, _pictures(crops, rows), strict=True)):
            if kind:  # a generator per crop: the chances of one do not depend on what came before
                random = np.random.default_rng([seed, zlib.crc32(kind.encode()), severity, row])
                picture = corrupt(picture, kind, severity, random)
            batch[place] = resize_crop(picture, embedder.input_size)
        vectors[rows.start : rows.stop] = embedder.describe(torch.from_numpy(batch))
        if report:
            report(rows.stop)
    return vectors


def _pictures(crops: "CropSet", rows: "range | list[int]") -> Iterator[np.ndarray]:
    """Crops in their own size, uint8 [h, w, 3]."""
    path: Path | None = None
    frame: np.ndarray = np.empty(0)
    for row in rows:
        if crops.paths[row] != path:  # many crops may lie in one frame
            path = crops.paths[row]
            read = read_picture(path)
            if read is None:
                raise UserError(f"{path}: {unreadable(path)}.")
            frame = read
        if crops.boxes is None or np.isnan(crops.boxes[row]).any():
            yield frame
            continue
        boxes, usable = clip_boxes(crops.boxes[row], frame.shape[0], frame.shape[1])
        if not usable[0]:
            raise UserError(f"{path}: a box lies outside of this picture; check the truth file.")
        left, top = np.floor(boxes[0, :2]).astype(int)
        right, bottom = np.ceil(boxes[0, 2:]).astype(int)
        yield frame[top:bottom, left:right]
