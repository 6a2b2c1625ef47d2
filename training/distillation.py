"""Distillation: a larger network's vectors as targets (regression of features, Romero et al. 2015, "FitNets")."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_tracker.appearance.embedder import Embedder
from reid_tracker.errors import UserError
from reid_tracker.training.datasets import CropSet, load_images

_CHUNK = 512  # crops decoded at a time: those of 256 x 128 take 98 kB each


def teach(teacher: Path | str, crops: CropSet, dimension: int, cache: Path, device: str = "auto") -> Tensor:
    """Targets for the crops of a training set, from the teacher's vectors of the clean pictures.

    Parameters
    ----------
    teacher : path
        What `Embedder` takes.
    crops : CropSet
        N of them.
    dimension : int
        Length D of the student's vector.
    cache : Path
        File (.npz) of the teacher's vectors: read if it is of this teacher and as many crops, else written.
    device : str
        As `Embedder` takes it.

    Returns
    -------
    Tensor, float32 [N, D]
        Unit rows (`fit_dimension`).
    """
    embedder = Embedder(teacher, device=device)
    vectors = _read(cache, embedder.hash, len(crops))
    if vectors is None:
        parts = [np.zeros((0, embedder.dimension), dtype=np.float32)]
        for start in range(0, len(crops), _CHUNK):
            pictures = load_images(crops.take(np.arange(start, min(start + _CHUNK, len(crops)))), embedder.input_size)
            parts.append(embedder.describe(torch.from_numpy(pictures)))
        vectors = np.concatenate(parts)
        if not np.isfinite(vectors).all():
            raise UserError(f"{teacher}: gives vectors that are no numbers; it cannot teach.")
        np.savez(cache, vectors=vectors, teacher=embedder.hash)
    return fit_dimension(torch.from_numpy(vectors), dimension)


def _read(cache: Path, teacher: str, count: int) -> Any:
    if not cache.is_file():
        return None
    with np.load(cache) as kept:
        fits = str(kept["teacher"]) == teacher and len(kept["vectors"]) == count
        return kept["vectors"] if fits else None


def fit_dimension(vectors: Tensor, dimension: int) -> Tensor:
    """Turn vectors into targets of another length that keep their cosines as well as that length can.

    Centred first: a BNNeck without bias gives vectors around zero, so a common part could not be learned. A longer
    vector keeps its main directions (principal components), a shorter one is filled up with zeros.

    Parameters
    ----------
    vectors : Tensor, float32 [N, T]
        Of a representative set: their mean and directions are taken from it.
    dimension : int
        D.

    Returns
    -------
    Tensor, float32 [N, D]
        Unit rows.
    """
    centred = vectors - vectors.mean(0)
    if vectors.shape[1] > dimension:
        # In double precision: close eigenvalues of a covariance lose their order in single.
        covariance = centred.double().T @ centred.double()
        centred = centred @ torch.linalg.eigh(covariance)[1][:, -dimension:].float()
    return functional.normalize(functional.pad(centred, (0, dimension - centred.shape[1])))


def distillation_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """Sum of 1 - cos between each vector [N, D] and its target [N, D]."""
    return (1 - functional.cosine_similarity(vectors.float(), targets)).sum()
