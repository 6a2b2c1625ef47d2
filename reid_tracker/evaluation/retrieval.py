"""Retrieval figures by the Market-1501 protocol: CMC, mAP and mINP (Zheng et al. 2015, Ye et al. 2021)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri

from reid_tracker.errors import UserError
from reid_tracker.tracking.calibration import TAIL
from reid_tracker.tracking.memory import NEWCOMER_CROPS, IdentityMemory

# Distances held at a time, whatever the gallery's size: 1,024 queries by 16,384 gallery rows in float32 are 64 MiB.
_ROWS, _COLUMNS = 1 << 10, 1 << 14
_SCENES = 200  # simulated from each camera's people

# distances(rows, columns) -> float32 [R, C], free to overwrite: from queries to gallery rows, given by their numbers
Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """Figures of one query set against one gallery.

    Attributes
    ----------
    cmc : ndarray, float64 [50]
        cmc[k - 1]: share of queries with a match among the first k of the gallery.
    mean_average_precision, mean_inverse_negative_penalty : float
        mAP (mean over the matches of k / rank_k, as torchreid and fast-reid have it; Market-1501's own MATLAB script
        takes the trapezoid under the curve, about a point lower) and mINP (matches / rank of the last match), 0..1.
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
    query, gallery : ndarray, float [Q, D] and [G, D]
        Unit rows. The gallery is read piece by piece: it may be a float16 `numpy.memmap` larger than the memory.
    query_identities, gallery_identities, query_cameras, gallery_cameras : ndarray
        As `score_ranking` takes them.

    Raises
    ------
    UserError
        If no query has a match in the gallery, or an embedding is not finite.
    """
    distances = cosine_distances(query, gallery)
    return score_ranking(distances, query_identities, gallery_identities, query_cameras, gallery_cameras)


def cosine_distances(query: np.ndarray, gallery: np.ndarray) -> Distances:
    """Distances between unit rows [Q, D] and [G, D]: the negative cosine, which unlike 1 - cosine loses no digits."""

    def block(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        asked, searched = (np.asarray(part, dtype=np.float32) for part in (query[rows], gallery[columns]))
        result = torch.from_numpy(-asked) @ torch.from_numpy(searched).T
        # An entry that is not finite spoils its whole row or column.
        if not (result[0].isfinite().all() and result[:, 0].isfinite().all()):
            raise UserError("some embeddings are not finite; leave out the crops that have none.")
        return result.numpy()

    return block


def score_ranking(
    distances: Distances,
    query_identities: np.ndarray,
    gallery_identities: np.ndarray,
    query_cameras: np.ndarray | None = None,
    gallery_cameras: np.ndarray | None = None,
) -> RetrievalFigures:
    """Score the ranking of the gallery that each query's distances make; no ranking is ever written out.

    The rank of a match is its place among the query's matches plus the number of strangers at most as far. So a match
    needs only its own distance and a count, which adds up over pieces of the gallery: exact, in bounded memory.

    Parameters
    ----------
    distances : callable
        `cosine_distances(query, gallery)` or `k_reciprocal_distances(query, gallery)`.
    query_identities, gallery_identities : ndarray, int [Q] and [G]
        A gallery row of identity -1 is ignored (Market-1501's junk).
    query_cameras, gallery_cameras : ndarray, int [Q] and [G], optional
        With cameras, a gallery row of the query's identity from the query's own camera is ignored. A camera of -1 is
        not known, and so no reason to ignore anything.

    Returns
    -------
    RetrievalFigures
        A stranger at the same distance as a match counts as ranked before it, so a collapsed network earns nothing.

    Raises
    ------
    UserError
        If no query has a match in the gallery.
    """
    # Ordered by identity, each query's own people are one run of gallery rows, and a block of queries needs few pieces.
    order = np.argsort(gallery_identities, kind="stable")
    order = order[gallery_identities[order] != -1]
    people = gallery_identities[order]
    asking = np.argsort(query_identities, kind="stable")
    first = np.searchsorted(people, query_identities[asking], side="left")
    count = np.searchsorted(people, query_identities[asking], side="right") - first
    if not count.any():
        raise UserError("no query identity is in the gallery, so there is nothing to score.")
    asking, first, count = asking[count > 0], first[count > 0], count[count > 0]

    figures = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(asking), _ROWS):
            rows = asking[start : start + _ROWS]
            run = np.arange(count[start : start + _ROWS].max())
            is_own = run < count[start : start + _ROWS, None]
            own = np.where(is_own, first[start : start + _ROWS, None] + run, 0)
            is_match = is_own
            if query_cameras is not None and gallery_cameras is not None:
                cameras = query_cameras[rows, None]
                is_match = is_own & ((gallery_cameras[order[own]] != cameras) | (cameras == -1))
            scored = is_match.any(axis=1)
            if scored.any():
                ranks = _ranks_of_matches(
                    distances, rows[scored], order, own[scored], is_own[scored], is_match[scored], pool
                )
                figures.append(_score(ranks, is_match[scored].sum(axis=1)))
    if not figures:
        raise UserError("no query has a match from another camera, so there is nothing to score.")
    best, precision, penalty = np.concatenate(figures, axis=1)
    cmc = (best[:, None] <= np.arange(1, 51)).mean(axis=0)
    return RetrievalFigures(cmc, float(precision.mean()), float(penalty.mean()), len(best))


def _ranks_of_matches(
    distances: Distances,
    rows: np.ndarray,
    order: np.ndarray,
    own: np.ndarray,
    is_own: np.ndarray,
    is_match: np.ndarray,
    pool: ThreadPoolExecutor,
) -> np.ndarray:
    """Ranks [R, W] of each query's matches, best first, then infinity; `own` [R, W] are places in `order`."""
    pieces = [slice(start, start + _COLUMNS) for start in range(0, len(order), _COLUMNS)]
    threads = torch.get_num_threads()
    block = np.empty(0)
    matches = np.full(own.shape, np.inf, dtype=np.float32)
    for piece in pieces:
        row, place = np.nonzero(is_match & (own >= piece.start) & (own < piece.stop))
        if len(row):
            block = distances(rows, order[piece])
            matches[row, place] = block[row, own[row, place] - piece.start]
    matches.sort(axis=1)

    closer = np.zeros(own.shape, dtype=np.int64)
    for piece in pieces:
        if len(pieces) > 1:  # a single piece is still there
            block = distances(rows, order[piece])
        row, place = np.nonzero(is_own & (own >= piece.start) & (own < piece.stop))
        block[row, own[row, place] - piece.start] = np.inf  # what is left are strangers
        # NumPy's sort is vectorised, several times faster than torch's, and lets other threads run.
        list(pool.map(lambda part: part.sort(axis=1), np.array_split(block, threads)))
        closer += torch.searchsorted(torch.from_numpy(block), torch.from_numpy(matches), right=True).numpy()
    return np.where(np.isinf(matches), np.inf, closer + np.arange(1, own.shape[1] + 1))


def _score(ranks: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """Rank of the first match, AP and INP [3, R] by the ranks [R, W] of all of them, `matches` [R] in number."""
    precision = (np.arange(1, ranks.shape[1] + 1) / ranks).sum(axis=1) / matches
    penalty = matches / ranks[np.arange(len(ranks)), matches - 1]
    return np.stack([ranks[:, 0], precision, penalty])


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
    rows = max(1, (_ROWS * _COLUMNS) // max(len(embeddings), 1))
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


def stranger_tail(
    embeddings: np.ndarray, identities: np.ndarray, cameras: np.ndarray, people: int = 10, seed: int = 0
) -> dict[str, float]:
    """How similar a stranger is to the people known, in scenes simulated from people of one camera.

    What the tracker compares when someone comes is done here with people who are certain strangers, so that its
    threshold has a known rate of false matches.

    Parameters
    ----------
    embeddings : ndarray, float32 [N, D]
        Unit rows of identities the network was not trained on.
    identities, cameras : ndarray, int [N]
        Who each row is, and who saw it.
    people : int
        Known in each scene.
    seed : int
        Decides the scenes.

    Returns
    -------
    dict
        `return_mean`, `return_std`: the normal distribution that has the cosines' quantiles .99 and .999. Empty where
        no camera saw more than ``people`` identities three times.
    """
    random, cosines = np.random.default_rng(seed), []
    for camera in np.unique(cameras):
        rows = np.flatnonzero(cameras == camera)
        known, count = np.unique(identities[rows], return_counts=True)
        known = known[count >= NEWCOMER_CROPS]
        alike = float(np.square(embeddings[rows].mean(axis=0)).sum())  # mean cosine, nearly all of it of two people
        for _ in range(_SCENES if len(known) > people else 0):
            first, *others = random.permutation(known)[: people + 1]
            views = {who: embeddings[random.permutation(rows[identities[rows] == who])] for who in (first, *others)}
            memory = IdentityMemory()
            memory.know([(int(who), 0, views[who]) for who in others])
            seen = views[first][None, :NEWCOMER_CROPS].mean(axis=1)
            cosines.append(memory.likeness(seen, None, np.zeros(1), embeddings[:0], alike))
    if not cosines:
        return {}
    low, high = np.quantile(np.concatenate(cosines), TAIL)
    std = (high - low) / (ndtri(TAIL[1]) - ndtri(TAIL[0]))
    return {"return_mean": float(low - std * ndtri(TAIL[0])), "return_std": float(std)}
