"""Distillation: a larger network's vectors as targets (regression of features, Romero et al. 2015, "FitNets")."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_tracker.appearance.embedder import Embedder
from reid_tracker.errors import UserError
from reid_tracker.training.datasets import CropSet, load_images
from reid_tracker.training.mixtures import mix_crops

_CHUNK = 512  # crops decoded at a time: those of 256 x 128 take 98 kB each


def teach(teacher: Path | str, crops: CropSet, cache: Path, device: str = "auto") -> Tensor:
    """The teacher's vectors of the clean pictures of a training set.

    Parameters
    ----------
    teacher : path
        What `Embedder` takes.
    crops : CropSet
        N of them.
    cache : Path
        File (.npz) of the teacher's vectors: read if it is of this teacher and as many crops, else written.
    device : str
        As `Embedder` takes it.

    Returns
    -------
    Tensor, float32 [N, T]
    """
    embedder = Embedder(teacher, device=device)
    vectors = _read(cache, embedder.hash, len(crops))
    if vectors is None:
        parts = [np.zeros((0, embedder.dimension), dtype=np.float32)]
        for start in range(0, len(crops), _CHUNK):
            pictures = load_images(crops.take(np.arange(start, min(start + _CHUNK, len(crops)))), embedder.input_size)
            parts.append(embedder.describe(torch.from_numpy(pictures)))
        vectors = _keep(cache, embedder.hash, np.concatenate(parts), teacher)
    return torch.from_numpy(vectors)


def teach_mixtures(
    teacher: Path | str,
    crops: CropSet,
    count: int,
    size: tuple[int, int],
    cache: Path,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Make up people from the crops of a training set (`mix_crops`) and let the teacher describe them.

    Parameters
    ----------
    teacher, crops, cache, device
        As for `teach`.
    count : int
        K, how many.
    size : (int, int)
        Height and width of a picture for the student, px.
    seed : int
        Same seed, same people.

    Returns
    -------
    pictures : Tensor, uint8 [K, H, W, 3]
    vectors : Tensor, float32 [K, T]
        What the teacher says of them, at its own size.
    """
    embedder = Embedder(teacher, device=device)
    known = _read(cache, embedder.hash, count)
    random = np.random.default_rng(seed)
    pictures = np.empty((count, *size, 3), dtype=np.uint8)
    vectors = np.empty((count, embedder.dimension), dtype=np.float32)
    for start in range(0, count, _CHUNK):
        # From a few crops at a time: all of them at the teacher's size may not fit into memory.
        few = crops.take(random.permutation(len(crops))[:_CHUNK])
        mixed = mix_crops(load_images(few, embedder.input_size), min(_CHUNK, count - start), random)
        place = slice(start, start + len(mixed))
        pictures[place] = [cv2.resize(each, size[::-1], interpolation=cv2.INTER_AREA) for each in mixed]
        if known is None:
            vectors[place] = embedder.describe(torch.from_numpy(mixed))
    if known is None:
        known = _keep(cache, embedder.hash, vectors, teacher)
    return torch.from_numpy(pictures), torch.from_numpy(known)


def _keep(cache: Path, teacher_hash: str, vectors: np.ndarray, teacher: Path | str) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise UserError(f"{teacher}: gives vectors that are no numbers; it cannot teach.")
    np.savez(cache, vectors=vectors, teacher=teacher_hash)
    return vectors


def _read(cache: Path, teacher: str, count: int) -> Any:
    if not cache.is_file():
        return None
    with np.load(cache) as kept:
        fits = str(kept["teacher"]) == teacher and len(kept["vectors"]) == count
        return kept["vectors"] if fits else None


def fit_dimension(vectors: Tensor, dimension: int, of: Tensor | None = None) -> Tensor:
    """Turn vectors into targets of another length that keep their cosines as well as that length can.

    Centred first: a BNNeck without bias gives vectors around zero, so a common part could not be learned. A longer
    vector keeps its main directions (principal components), a shorter one is filled up with zeros.

    Parameters
    ----------
    vectors : Tensor, float32 [N, T]
        A representative set: mean and directions are taken from it.
    dimension : int
        D.
    of : Tensor, float32 [M, T], optional
        Vectors to turn in the same way instead of these.

    Returns
    -------
    Tensor, float32 [N or M, D]
        Unit rows.
    """
    mean = vectors.mean(0)
    turned = (vectors if of is None else of) - mean
    if vectors.shape[1] > dimension:
        # In double precision: close eigenvalues of a covariance lose their order in single.
        centred = (vectors - mean).double()
        turned = turned @ torch.linalg.eigh(centred.T @ centred)[1][:, -dimension:].float()
    return functional.normalize(functional.pad(turned, (0, dimension - turned.shape[1])))


def distillation_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """Sum of 1 - cos between each vector [N, D] and its target [N, D]."""
    return (1 - functional.cosine_similarity(vectors.float(), targets)).sum()
