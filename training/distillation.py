"""Distillation: a larger network's vectors as targets (regression of features, Romero et al. 2015, "FitNets")."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_tracker.appearance.embedder import Embedder
from reid_tracker.appearance.exported import SUFFIXES
from reid_tracker.crop_sets.crops import CropSet, join_crops, load_images
from reid_tracker.errors import UserError
from reid_tracker.training.mixtures import film, mix_crops

MIXTURES_VERSION = 2  # of how they are made: targets of another version do not fit
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
        File (.npz) of the teacher's vectors: read if it is of this teacher and these crops, else written.
    device : str
        As `Embedder` takes it.

    Returns
    -------
    Tensor, float32 [N, T]
    """
    embedder = _open(teacher, device)
    key = _key(embedder.hash, crops)
    vectors = _read(cache, key)
    if vectors is None:
        parts = [np.zeros((0, embedder.dimension), dtype=np.float32)]
        for start in range(0, len(crops), _CHUNK):
            pictures = load_images(crops.take(np.arange(start, min(start + _CHUNK, len(crops)))), embedder.input_size)
            parts.append(embedder.describe(torch.from_numpy(pictures)))
        vectors = _keep(cache, key, np.concatenate(parts), teacher)
    return torch.from_numpy(vectors)


def teach_mixtures(
    teacher: Path | str,
    sets: Sequence[CropSet],
    count: int,
    size: tuple[int, int],
    cache: Path,
    seed: int = 0,
    device: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Make up people (`mix_crops`), as other cameras would show them (`film`), and let the teacher describe them.

    Parameters
    ----------
    teacher, cache, device
        As for `teach`.
    sets : sequence of CropSet
        What they are made of. Each set is drawn from as often as the root of its size says: a small set of other
        cameras counts for more than its few crops.
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
    embedder = _open(teacher, device)
    key = _key(embedder.hash, join_crops(list(sets)), count, seed, MIXTURES_VERSION, *map(len, sets))
    known = _read(cache, key)
    random = torch.Generator().manual_seed(seed)
    pictures = torch.empty(count, *size, 3, dtype=torch.uint8)
    vectors = np.empty((count, embedder.dimension), dtype=np.float32)
    for start in range(0, count, _CHUNK):
        # From a few crops at a time: all of them at the teacher's size may not fit into memory.
        large = torch.from_numpy(load_images(_draw(sets, random), embedder.input_size))
        mixed = film(mix_crops(large, min(_CHUNK, count - start), random), random)
        place = slice(start, start + len(mixed))
        pictures[place] = resize(mixed, size)
        if known is None:
            vectors[place] = embedder.describe(mixed)
    if known is None:
        known = _keep(cache, key, vectors, teacher)
    return pictures, torch.from_numpy(known)


def _draw(sets: Sequence[CropSet], random: torch.Generator) -> CropSet:
    """Draw up to `_CHUNK` crops, from each set as many as the root of its size says, none twice."""
    sizes = np.array([len(each) for each in sets])
    shares = _CHUNK * np.sqrt(sizes) / np.sqrt(sizes).sum()
    shares = np.ceil(shares * min(1, (sizes / shares).min()) - 1e-9).astype(int)
    drawn = [torch.randperm(len(each), generator=random)[:share] for each, share in zip(sets, shares, strict=True)]
    return join_crops([each.take(rows.numpy()) for each, rows in zip(sets, drawn, strict=True)])


def _key(teacher: str, crops: CropSet, *more: int) -> str:
    """What vectors are of: the teacher, the crops by their files and boxes, and what else they depend on."""
    digest = hashlib.sha256(repr((teacher, more)).encode())
    for path in crops.paths:
        with suppress(OSError):  # loading it reports what is wrong
            found = path.stat()
            digest.update(f"{path.resolve()} {found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    if crops.boxes is not None:
        digest.update(np.ascontiguousarray(crops.boxes).tobytes())
    return digest.hexdigest()


def _keep(cache: Path, key: str, vectors: np.ndarray, teacher: Path | str) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise UserError(f"{teacher}: gives vectors that are no numbers; it cannot teach.")
    np.savez(cache, vectors=vectors, key=key)
    return vectors


def _read(cache: Path, key: str) -> Any:
    """The vectors of a cache; None where there are none, or of something else."""
    try:
        with np.load(cache) as kept:
            return kept["vectors"] if str(kept["key"]) == key else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):  # torn, empty, or a mere array
        return None


class Turning(NamedTuple):
    """How a teacher's vectors become targets of another length.

    Attributes
    ----------
    mean : Tensor [T]
    directions : Tensor [T, D]
    """

    mean: Tensor
    directions: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """Turn vectors [M, T] into unit rows [M, D]."""
        return functional.normalize((vectors - self.mean) @ self.directions)


def fit_dimension(vectors: Tensor, dimension: int) -> Turning:
    """Find targets of another length that keep the vectors' cosines as well as that length can.

    Centred first: a BNNeck without bias gives vectors around zero, so a common part could not be learned. A longer
    vector keeps its main directions (principal components), a shorter one is filled up with zeros.

    Parameters
    ----------
    vectors : Tensor, float32 [N, T]
        A representative set: mean and directions are taken from it.
    dimension : int
        D.

    Returns
    -------
    Turning
    """
    mean, length = vectors.mean(0), vectors.shape[1]
    if length <= dimension:
        return Turning(mean, torch.eye(length, dimension))
    # In double precision: close eigenvalues of a covariance lose their order in single.
    centred = (vectors - mean).double()
    return Turning(mean, torch.linalg.eigh(centred.T @ centred)[1][:, -dimension:].float())


class FreshMixtures:
    """Synthetic people that are new in every batch, with a teacher at hand to describe them.

    As many of them as are made before a run are learned by heart sooner or later; a teacher that looks at each
    batch costs a pass of it, which a GPU hardly notices.

    Parameters
    ----------
    teacher : path
        What `Embedder` takes.
    crops : CropSet
        N, from which people are made; kept in memory at the teacher's size (256 x 128: 98 kB each).
    turning : Turning
        From the teacher's vectors to targets.
    size : (int, int)
        Height and width of a picture for the student, px.
    device : torch.device
        Where people are made.
    """

    def __init__(
        self,
        teacher: Path | str,
        crops: CropSet,
        turning: Turning,
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        self._teacher = _open(teacher, str(device))
        self._crops = torch.from_numpy(load_images(crops, self._teacher.input_size)).to(device)
        self._turning, self._size = turning, size

    def make(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Make people: pictures, uint8 [count, H, W, 3], and targets, unit rows [count, D], on the device."""
        mixed = film(mix_crops(self._crops, count, random), random)
        shown = mixed if self._teacher.device else mixed.cpu()
        targets = self._turning(torch.from_numpy(self._teacher.describe(shown)))
        return resize(mixed, self._size), targets.to(self._crops.device)


def resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Shrink or enlarge pictures, uint8 [N, H, W, 3], without aliasing."""
    planes = pictures.permute(0, 3, 1, 2).float()
    resized = functional.interpolate(planes, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _open(teacher: Path | str, device: str) -> Embedder:
    """Open a teacher; exported networks run on the CPU, whatever the student runs on."""
    return Embedder(teacher, device="cpu" if Path(teacher).suffix in SUFFIXES else device)


def distillation_loss(vectors: Tensor, targets: Tensor) -> Tensor:
    """Sum of 1 - cos between each vector [N, D] and its target [N, D]."""
    return (1 - functional.cosine_similarity(vectors.float(), targets)).sum()
