"""Offline mining: triplets found over the whole training set by the current network, kept in a file."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from reid_tracker.errors import UserError
from reid_tracker.reading import parse_json
from reid_tracker.training.distances import row_chunks, squared_distance_factors, widened
from reid_tracker.training.mining import Triplets

# Quantiles of an anchor's candidates, counted from the hardest. A hundredth of Market-1501 is still 120 strangers.
BANDS = {"hard": (0.0, 0.01), "semi-hard": (0.01, 0.1), "easy": (0.1, 1.0)}


class MinedTriplets(NamedTuple):
    """Triplets of a training set.

    Attributes
    ----------
    anchor, positive, negative : ndarray, int64 [T]
        Rows of the training set.
    hardness : ndarray, float32 [T]
        d(a, p) - d(a, n): above zero the network has the order wrong.
    about : dict
        How they were mined: band, metric, seed, the fingerprint of the identities, and what the caller added.
    """

    anchor: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    hardness: np.ndarray
    about: dict[str, Any]


@torch.no_grad()
def mine_offline(
    embeddings: Tensor,
    identities: np.ndarray,
    band: str = "hard",
    per_anchor: int = 1,
    metric: str = "euclidean",
    seed: int = 0,
    note: dict[str, Any] | None = None,
) -> MinedTriplets:
    """Draw triplets of one hardness from all crops.

    For every anchor its positives are sorted from the farthest and its negatives from the nearest; one of each is
    drawn from the same band of quantiles of that order. All distances of an anchor are looked at, but only of a few
    anchors at a time.

    Parameters
    ----------
    embeddings : Tensor [N, D]
        Of the training set, by the current network, on the device to work on.
    identities : ndarray, int [N]
        Who each is.
    band : {"hard", "semi-hard", "easy"}
        The hardest hundredth, from there to the hardest tenth, and the rest (`BANDS`). At least the hardest remaining
        candidate is always in a band, so that identities of few images take part in each.
    per_anchor : int
        Draws for each anchor.
    metric : {"euclidean", "squared_euclidean", "cosine"}
        Which distance `hardness` is in. The order only depends on whether it is cosine.
    seed : int
        The same seed gives the same triplets.
    note : dict, optional
        Goes into `about`, for example the epoch. JSON values only.

    Raises
    ------
    UserError
        If there is no triplet at all, or no such band.
    """
    if band not in BANDS:
        raise UserError(f"'{band}' is no hardness band; choose one of {', '.join(BANDS)}.")
    rows_of = torch.from_numpy(np.unique(identities, return_inverse=True)[1]).to(embeddings.device)
    size = torch.bincount(rows_of)[rows_of].cpu().numpy() if len(rows_of) else np.zeros(0, dtype=np.int64)
    anchors = np.flatnonzero((size > 1) & (size < len(size)))
    if not len(anchors):
        raise UserError("there is no triplet to mine; give at least two identities, one of them with two images.")
    embeddings = functional.normalize(embeddings.float()) if metric == "cosine" else embeddings.float()
    left, right = squared_distance_factors(widened(embeddings).float())
    draws = np.random.default_rng(seed).random((2, len(size), per_anchor))
    positive_rank = _ranks(size - 1, BANDS[band], draws[0])
    negative_rank = _ranks(len(size) - size, BANDS[band], draws[1])

    positives, negatives, hardness = [], [], []
    for chunk in row_chunks(len(anchors), len(size)):
        rows = anchors[chunk]
        distance = left[rows] @ right.T
        same = rows_of[rows][:, None] == rows_of
        strangers = _pick(distance.masked_fill(same, torch.inf), negative_rank[rows], largest=False)
        same[torch.arange(len(rows)), rows] = False
        others = _pick(distance.masked_fill_(~same, -torch.inf), positive_rank[rows], largest=True)
        positives.append(others.cpu().numpy())
        negatives.append(strangers.cpu().numpy())
        anchor = embeddings[rows][:, None]
        near, far = (_distance(anchor - embeddings[chosen], metric) for chosen in (others, strangers))
        hardness.append((near - far).cpu().numpy())
    about = {"band": band, "per_anchor": per_anchor, "metric": metric, "seed": seed, "crops": _fingerprint(identities)}
    positive, negative, hard = (np.concatenate(part).reshape(-1) for part in (positives, negatives, hardness))
    return MinedTriplets(np.repeat(anchors, per_anchor), positive, negative, hard, {**(note or {}), **about})


def save_triplets(path: Path, mined: MinedTriplets) -> None:
    """Write triplets to an .npz file without pickle; it replaces an older one only once it is whole."""
    unfinished = Path(path).with_name(Path(path).name + ".part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **{**mined._asdict(), "about": np.array(json.dumps(mined.about))})
    unfinished.replace(path)


def load_triplets(path: Path, identities: np.ndarray) -> MinedTriplets:
    """Read triplets that were mined from these crops.

    Parameters
    ----------
    path : Path
        Written by `save_triplets`.
    identities : ndarray, int [N]
        Of the training set to use them on.

    Raises
    ------
    UserError
        If the file is missing, no such file, or was mined from other crops.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in MinedTriplets._fields[:-1]]
            about = parse_json(str(file["about"]))
            crops = about["crops"]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a file of mined triplets.") from error
    if crops != _fingerprint(identities):
        raise UserError(f"{path}: mined from other crops; mine again with these.")
    anchor, positive, negative, hardness = arrays
    return MinedTriplets(anchor, positive, negative, hardness, about)


def triplet_batches(
    mined: MinedTriplets, size: int, random: np.random.Generator
) -> Iterator[tuple[np.ndarray, Triplets]]:
    """Batches of mined triplets, each triplet once, in random order.

    Parameters
    ----------
    mined : MinedTriplets
        From `mine_offline` or a file.
    size : int
        Triplets in a batch; a crop that comes several times is loaded once.
    random : numpy Generator
        Decides the order.

    Yields
    ------
    rows : ndarray, int64 [B]
        Crops of the training set to load, B at most three times `size`.
    triplets : Triplets
        By their place in `rows`.
    """
    order = random.permutation(len(mined.anchor))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        crops = np.stack([mined.anchor[chosen], mined.positive[chosen], mined.negative[chosen]])
        rows, place = np.unique(crops, return_inverse=True)
        yield rows, Triplets(*torch.from_numpy(place.reshape(3, -1)))


def _ranks(candidates: np.ndarray, band: tuple[float, float], draws: np.ndarray) -> np.ndarray:
    """Turn uniform draws [N, M] into ranks within a band of so many candidates [N]."""
    first = np.floor(band[0] * candidates)
    last = np.maximum(np.ceil(band[1] * candidates), first + 1)
    return (first[:, None] + draws * (last - first)[:, None]).astype(np.int64)


def _pick(distance: Tensor, rank: np.ndarray, largest: bool) -> Tensor:
    """Columns [R, M] of the entries of these ranks [R, M] in each row."""
    order = distance.topk(int(rank.max()) + 1, dim=1, largest=largest).indices
    return order.gather(1, torch.from_numpy(rank).to(order.device))


def _distance(difference: Tensor, metric: str) -> Tensor:
    squared = difference.square().sum(-1)
    return {"euclidean": squared.sqrt, "squared_euclidean": squared.clone, "cosine": lambda: squared / 2}[metric]()


def _fingerprint(identities: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(identities, dtype=np.int64).tobytes()).hexdigest()
