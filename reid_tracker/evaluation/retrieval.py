"""Retrieval figures by the Market-1501 protocol: CMC, mAP and mINP (Zheng et al. 2015, Ye et al. 2021)."""

from dataclasses import dataclass

import numpy as np
import torch

from reid_tracker.errors import UserError

# Distances held at a time: bounds the memory whatever the gallery's size (2^24 float32 are 64 MiB).
_CHUNK = 1 << 24


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """Figures of one query set against one gallery.

    Attributes
    ----------
    cmc : ndarray, float64 [50]
        cmc[k - 1]: share of queries with a match among the first k of the gallery.
    mean_average_precision, mean_inverse_negative_penalty : float
        mAP (mean over the matches of k / rank_k) and mINP (matches / rank of the last match), 0..1.
    queries : int
        Queries that have a match in the gallery; the others are left out.
    """

    cmc: np.ndarray
    mean_average_precision: float
    mean_inverse_negative_penalty: float
    queries: int

    def as_dict(self) -> dict[str, float]:
        """Return the usual four figures."""
        return {
            "rank1": float(self.cmc[0]),
            "rank5": float(self.cmc[4]),
            "mAP": self.mean_average_precision,
            "mINP": self.mean_inverse_negative_penalty,
        }


def evaluate_retrieval(
    query: np.ndarray,
    gallery: np.ndarray,
    query_identities: np.ndarray,
    gallery_identities: np.ndarray,
    query_cameras: np.ndarray | None = None,
    gallery_cameras: np.ndarray | None = None,
) -> RetrievalFigures:
    """Rank the gallery for each query by cosine similarity and score the ranking.

    Parameters
    ----------
    query, gallery : ndarray, float32 [Q, D] and [G, D]
        Unit rows.
    query_identities, gallery_identities : ndarray, int [Q] and [G]
        A gallery row of identity -1 is ignored (Market-1501's junk).
    query_cameras, gallery_cameras : ndarray, int [Q] and [G], optional
        With cameras, a gallery row of the query's identity from the query's own camera is ignored.

    Returns
    -------
    RetrievalFigures
        A stranger at the same distance as a match counts as ranked before it, so a collapsed network earns nothing.

    Raises
    ------
    UserError
        If no query has a match in the gallery, or an embedding is not finite.
    """
    known = gallery_identities != -1
    # Ordered by identity, each query's own people are one run of gallery rows.
    order = np.flatnonzero(known)[np.argsort(gallery_identities[known], kind="stable")]
    gallery, gallery_identities = gallery[order], gallery_identities[order]
    first = np.searchsorted(gallery_identities, query_identities, side="left")
    count = np.searchsorted(gallery_identities, query_identities, side="right") - first
    widest = int(count.max(initial=0))
    if widest == 0:
        raise UserError("no query identity is in the gallery, so there is nothing to score.")
    if not (np.isfinite(query).all() and np.isfinite(gallery).all()):
        raise UserError("some embeddings are not finite; leave out the crops that have none.")
    own = first[:, None] + np.arange(widest)
    is_own = np.arange(widest) < count[:, None]
    # Short runs are padded with their own first row, or with row 0 (and no match) where there is none.
    own = np.where(is_own, own, np.minimum(first, len(gallery) - 1)[:, None])
    is_match = is_own
    if query_cameras is not None and gallery_cameras is not None:
        is_match = is_own & (gallery_cameras[order][own] != query_cameras[:, None])

    ranks = np.full((len(query), widest), np.inf)
    rows = max(1, _CHUNK // len(gallery))
    vectors = torch.from_numpy(np.ascontiguousarray(gallery, dtype=np.float32)).T
    for start in range(0, len(query), rows):
        chunk = slice(start, start + rows)
        distances = 1 - torch.from_numpy(np.ascontiguousarray(query[chunk], dtype=np.float32)) @ vectors
        own_distances = distances.gather(1, torch.from_numpy(own[chunk]))
        own_distances[~torch.from_numpy(is_match[chunk])] = torch.inf
        own_distances = own_distances.sort(dim=1).values
        strangers = _strangers(distances, own[chunk], is_own[chunk])
        closer = torch.searchsorted(strangers, own_distances, right=True).numpy()
        ranks[chunk] = np.where(np.isinf(own_distances.numpy()), np.inf, closer + np.arange(1, widest + 1))

    matches = is_match.sum(axis=1)
    scored = matches > 0
    if not scored.any():
        raise UserError("no query has a match from another camera, so there is nothing to score.")
    ranks, matches = ranks[scored], matches[scored]
    precision = (np.arange(1, widest + 1) / ranks).sum(axis=1) / matches
    penalty = matches / ranks[np.arange(len(ranks)), matches - 1]
    cmc = (ranks[:, :1] <= np.arange(1, 51)).mean(axis=0)
    return RetrievalFigures(cmc, float(precision.mean()), float(penalty.mean()), int(scored.sum()))


def _strangers(distances: torch.Tensor, own: np.ndarray, is_own: np.ndarray) -> torch.Tensor:
    """Sort each row's distances [Q, G] with the query's own people pushed to the end (in place)."""
    rows, columns = np.nonzero(is_own)
    distances[torch.from_numpy(rows), torch.from_numpy(own[rows, columns])] = torch.inf
    array = distances.numpy()
    array.sort(axis=1)  # NumPy's vectorised sort is several times faster than torch's, which also makes indices
    return distances


def similarity_statistics(
    embeddings: np.ndarray, identities: np.ndarray, cameras: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """Mean and spread of the cosine similarity of all pairs of the same and of different people.

    These turn a similarity into evidence: log N(s; same) - log N(s; stranger).

    Parameters
    ----------
    embeddings : ndarray, float32 [N, D]
        Unit rows of identities the network was not trained on.
    identities : ndarray, int [N]
        Who each row is.
    cameras : ndarray, int [N], optional
        With cameras, the figures are also given for pairs from one camera and pairs across cameras.

    Returns
    -------
    dict
        `all`, and with cameras `same_camera` and `cross_camera`: each `same_mean`, `same_std`, `stranger_mean`,
        `stranger_std` (cosine, -1..1). A group without pairs of both kinds is left out.
    """
    groups = {"all": None, "same_camera": True, "cross_camera": False} if cameras is not None else {"all": None}
    # Count, sum and sum of squares per group and kind, a block of rows at a time.
    sums = {group: np.zeros((2, 3)) for group in groups}
    rows = max(1, _CHUNK // max(len(embeddings), 1))
    for start in range(0, len(embeddings), rows):
        block = slice(start, start + rows)
        similarity = embeddings[block] @ embeddings.T
        later = np.arange(start, start + len(similarity))[:, None] < np.arange(len(embeddings))
        same = identities[block, None] == identities
        for group, one_camera in groups.items():
            pairs = later
            if one_camera is not None and cameras is not None:
                pairs = later & ((cameras[block, None] == cameras) == one_camera)
            for kind, chosen in enumerate((pairs & same, pairs & ~same)):
                values = similarity[chosen].astype(np.float64)
                sums[group][kind] += len(values), values.sum(), (values**2).sum()
    statistics = {}
    for group, total in sums.items():
        count, mean = total[:, 0], total[:, 1] / np.maximum(total[:, 0], 1)
        std = np.sqrt(np.maximum(total[:, 2] / np.maximum(count, 1) - mean**2, 0))
        if count.all():
            statistics[group] = {
                "same_mean": float(mean[0]),
                "same_std": float(std[0]),
                "stranger_mean": float(mean[1]),
                "stranger_std": float(std[1]),
            }
    return statistics
