"""Online mining: which triplets of a batch are learned from. Pure functions on a distance matrix."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Triplets(NamedTuple):
    """Rows of the batch: anchor, positive (same identity) and negative (another identity), each int64 [T]."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def pairwise_distance(embeddings: Tensor, metric: str = "euclidean") -> Tensor:
    """Distances between all rows of a batch.

    Parameters
    ----------
    embeddings : Tensor [B, D]
        Computed in float32 at least, whatever comes in: half precision cannot tell hard triplets apart.
    metric : {"euclidean", "squared_euclidean", "cosine"}
        Cosine is 1 - cos.

    Returns
    -------
    Tensor [B, B]
        With finite gradients also where two embeddings are equal.
    """
    embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    with torch.autocast(embeddings.device.type, enabled=False):
        if metric == "cosine":
            unit = functional.normalize(embeddings)
            return 1 - unit @ unit.T
        # Not by |a|^2 + |b|^2 - 2ab: that loses near-duplicates, the very pairs that hard mining looks for.
        distance = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
        return distance if metric == "euclidean" else distance.square()


def batch_hard(distance: Tensor, identities: Tensor) -> Triplets:
    """For each anchor its farthest positive and its nearest negative (Hermans et al. 2017).

    Parameters
    ----------
    distance : Tensor [B, B]
        Between all rows of the batch.
    identities : Tensor, int [B]
        Who each row is.

    Returns
    -------
    Triplets
        At most B of them: an anchor without another image of its identity, or without another identity, has none.
    """
    with torch.no_grad():
        same = identities[:, None] == identities
        positive = same & ~torch.eye(len(identities), dtype=torch.bool, device=same.device)
        anchor = torch.nonzero(positive.any(1) & (~same).any(1)).squeeze(1)
        if not len(anchor):
            return Triplets(anchor, anchor, anchor)
        farthest = distance.masked_fill(~positive, -torch.inf)[anchor].argmax(1)
        nearest = distance.masked_fill(same, torch.inf)[anchor].argmin(1)
        return Triplets(anchor, farthest, nearest)
