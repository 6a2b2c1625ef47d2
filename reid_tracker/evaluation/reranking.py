"""Re-ranking by k-reciprocal neighbours (Zhong et al. 2017) without an N x N matrix."""

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array

from reid_tracker.evaluation.retrieval import Distances

# Similarities held at a time (float32: 64 MiB), and pairs of vectors compared at a time.
_BLOCK = 1 << 24
_PAIRS = 1 << 16


def k_reciprocal_distances(
    query: np.ndarray, gallery: np.ndarray, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> Distances:
    """Distances that also ask whose neighbours the two have in common.

    Each vector is described by its k-reciprocal neighbours j among all N = Q + G vectors: those that have it among
    their own k1 nearest, and the k1 / 2-reciprocal neighbours of these where more than two thirds of them are shared.
    A neighbour weighs exp(-d), d the squared distance over the vector's largest; the weights sum to 1 and are averaged
    over the k2 nearest vectors (itself the first). The result is (1 - weight) times the Jaccard distance of two
    descriptions + weight * d. Only the descriptions are kept, a few hundred numbers a vector.

    Parameters
    ----------
    query, gallery : ndarray, float32 [Q, D] and [G, D]
        Unit rows.
    k1, k2 : int
        Neighbours that describe a vector, and over how many the descriptions are averaged. The paper's are 20 and 6.
    weight : float
        Share of the original distance (lambda in the paper), 0..1.

    Returns
    -------
    callable
        distances(rows, columns) -> float32 [R, C], for `score_ranking`.
    """
    vectors = torch.from_numpy(np.concatenate([query, gallery]).astype(np.float32, copy=False))
    k1 = min(k1, len(vectors) - 1)
    neighbours, farthest = _nearest(vectors, min(max(k1 + 1, k2), len(vectors)))
    descriptions = _average(_describe(vectors, neighbours[:, : k1 + 1], farthest, k1), neighbours[:, :k2])
    asked, searched = descriptions[: len(query)], descriptions[len(query) :].tocsc()

    def block(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        original = 2 - 2 * (vectors[rows] @ vectors[len(query) + columns].T).numpy()
        result = original * (weight / farthest[rows, None])
        for distances, row in zip(result, rows, strict=True):
            entries = slice(asked.indptr[row], asked.indptr[row + 1])
            distances += (1 - weight) * _jaccard(asked.indices[entries], asked.data[entries], searched)[columns]
        return result

    return block


def _nearest(vectors: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Each vector's nearest, itself the first, int [N, count]; and its largest squared distance, float32 [N]."""
    neighbours = np.empty((len(vectors), count), dtype=np.int64)
    farthest = np.empty(len(vectors), dtype=np.float32)
    rows = max(1, _BLOCK // len(vectors))
    for start in range(0, len(vectors), rows):
        block = slice(start, start + rows)
        similarity = vectors[block] @ vectors.T
        farthest[block] = 2 - 2 * similarity.amin(dim=1).numpy()
        similarity.diagonal(start).fill_(torch.inf)  # also where others are equal to it
        neighbours[block] = similarity.topk(count, dim=1).indices.numpy()
    # Where all vectors are alike, distances are rounding: no smaller scale than that.
    return neighbours, np.maximum(farthest, 16 * np.finfo(np.float32).eps)


def _describe(vectors: torch.Tensor, neighbours: np.ndarray, farthest: np.ndarray, k1: int) -> csr_array:
    """Weights of each vector's expanded k-reciprocal neighbours, float32 [N, N] with rows that sum to 1."""
    count = len(neighbours)
    half = neighbours[:, : int(np.around(k1 / 2)) + 1]
    is_mutual, is_half_mutual = _is_mutual(neighbours), _is_mutual(half)
    keys = []
    for start in range(0, count, rows := max(1, (1 << 22) // (neighbours.shape[1] ** 2 * half.shape[1]))):
        block = slice(start, start + rows)
        own, mutual = neighbours[block], is_mutual[block]
        theirs, is_theirs = half[own], is_half_mutual[own]  # [R, k1 + 1, k1 / 2 + 1]
        shared = (theirs[..., None] == np.where(mutual, own, -1)[:, None, None]).any(axis=3) & is_theirs
        joins = mutual & (3 * shared.sum(axis=2) > 2 * is_theirs.sum(axis=2))
        row = np.arange(start, start + len(own))[:, None]
        keys.append((row * count + own)[mutual])
        keys.append((row[..., None] * count + theirs)[is_theirs & joins[..., None]])
    row, column = np.divmod(np.unique(np.concatenate(keys)), count)
    parts = [slice(start, start + _PAIRS) for start in range(0, len(row), _PAIRS)]
    cosine = np.concatenate([(vectors[row[part]] * vectors[column[part]]).sum(dim=1).numpy() for part in parts])
    weights = np.exp(-np.maximum(2 - 2 * cosine, 0) / farthest[row])
    weights /= np.bincount(row, weights)[row]
    return csr_array((weights.astype(np.float32), (row, column)), shape=(count, count))


def _is_mutual(neighbours: np.ndarray) -> np.ndarray:
    """Whether a vector's neighbour has it among its own neighbours too, bool [N, k]."""
    own = np.arange(len(neighbours))[:, None]
    return np.stack([(neighbours[column] == own).any(axis=1) for column in neighbours.T], axis=1)


def _average(descriptions: csr_array, over: np.ndarray) -> csr_array:
    """Mean of the descriptions [N, N] of the vectors `over` [N, k]."""
    count, size = over.shape
    shares = np.full(over.size, 1 / size, dtype=np.float32)
    return csr_array((shares, over.ravel(), np.arange(0, over.size + 1, size)), shape=(count, count)) @ descriptions


def _jaccard(columns: np.ndarray, weights: np.ndarray, others: csc_array) -> np.ndarray:
    """Jaccard distances of one description to all `others` (by columns): 1 - sum of minima / sum of maxima."""
    begin = others.indptr[columns]
    length = others.indptr[columns + 1] - begin
    entries = np.repeat(begin - np.cumsum(length) + length, length) + np.arange(length.sum())
    minima = np.minimum(np.repeat(weights, length), others.data[entries])
    overlap = np.bincount(others.indices[entries], minima, minlength=others.shape[0])
    return 1 - overlap / (2 - overlap)  # both sum to 1, so minima + maxima = 2
