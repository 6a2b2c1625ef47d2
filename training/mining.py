"""Online mining: which triplets of a batch are learned from. Pure functions on a distance matrix."""

from typing import NamedTuple

import torch
from torch import Tensor


class Triplets(NamedTuple):
    """Rows of the batch: anchor, positive (same identity) and negative (another identity), each int64 [T]."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def positives_of(identities: Tensor) -> tuple[Tensor, Tensor]:
    """List for each row the other rows of its identity.

    Parameters
    ----------
    identities : Tensor, int [B]
        Who each row is.

    Returns
    -------
    index : Tensor, int64 [B, K]
        Rows; K is the size of the largest identity less one. Smaller identities are filled up with the row itself.
    valid : Tensor, bool [B, K]
        Which of them are positives.
    """
    _, group, size = identities.unique(return_inverse=True, return_counts=True)
    order = group.argsort(stable=True)
    start = (size.cumsum(0) - size)[group][:, None]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    slot = torch.arange(max(size.tolist(), default=1) - 1, device=order.device)
    valid = slot < size[group][:, None] - 1
    index = start + slot + (slot >= place[:, None] - start)  # steps over the row itself
    return order[torch.where(valid, index, place[:, None])], valid


def batch_all(distance: Tensor, identities: Tensor) -> Triplets:
    """Every triplet of the batch (Hermans et al. 2017).

    They are B (K - 1) (B - K) for B rows of K per identity; `batch_all_loss` does without listing them.

    Parameters
    ----------
    distance : Tensor [B, B]
        Not looked at; it is here so that every miner is called alike.
    identities : Tensor, int [B]
        Who each row is.
    """
    positive, valid = positives_of(identities)
    anchor, slot = valid.nonzero(as_tuple=True)
    pair, negative = (identities[anchor][:, None] != identities).nonzero(as_tuple=True)
    return Triplets(anchor[pair], positive[anchor, slot][pair], negative)


@torch.no_grad()
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
    same = identities[:, None] == identities
    positive = same & ~torch.eye(len(identities), dtype=torch.bool, device=same.device)
    anchor = torch.nonzero(positive.any(1) & (~same).any(1)).squeeze(1)
    if not len(anchor):
        return Triplets(anchor, anchor, anchor)
    farthest = distance.masked_fill(~positive, -torch.inf)[anchor].argmax(1)
    nearest = distance.masked_fill(same, torch.inf)[anchor].argmin(1)
    return Triplets(anchor, farthest, nearest)


@torch.no_grad()
def semi_hard(distance: Tensor, identities: Tensor, margin: float = 0.2) -> Triplets:
    """For each anchor and positive a negative that is farther than the positive, but by less than the margin.

    FaceNet's definition (Schroff et al. 2015), d(a, p) < d(a, n) < d(a, p) + margin; the paper means squared Euclidean
    distances of unit embeddings and a margin of 0.2. Of several such negatives the nearest is taken. Where there is
    none, the pair falls back to the farthest of the negatives that are no farther than the positive: the one nearest
    to the band from within. A pair whose negatives are all beyond the margin has nothing to learn and is left out.

    Parameters
    ----------
    distance : Tensor [B, B]
        Between all rows of the batch.
    identities : Tensor, int [B]
        Who each row is.
    margin : float
        In units of the distance.

    Returns
    -------
    Triplets
        At most one for each anchor and positive.
    """
    positive, valid = positives_of(identities)
    if not valid.any():
        return Triplets(*positive.new_empty(3, 0))
    far, order = distance.masked_fill(identities[:, None] == identities, torch.inf).sort(1)
    near = distance.gather(1, positive)
    place = torch.searchsorted(far, near, right=True)  # of the first negative farther than the positive
    following = far.gather(1, place.clamp(max=len(far) - 1))
    place -= ((place == len(far)) | (following >= near + margin)).long()
    anchor, slot = (valid & (place >= 0)).nonzero(as_tuple=True)
    return Triplets(anchor, positive[anchor, slot], order[anchor, place[anchor, slot]])


@torch.no_grad()
def distance_weighted(
    distance: Tensor,
    identities: Tensor,
    dimension: int,
    metric: str = "euclidean",
    generator: torch.Generator | None = None,
    nearest: float = 0.5,
    limit: float = 1.4,
) -> Triplets:
    """For each anchor and positive a negative drawn so that all distances come equally often (Wu et al. 2017).

    On the unit sphere in D dimensions nearly all pairs are sqrt(2) apart: a uniform draw brings nothing but easy
    negatives. Each is weighted by the inverse of the density of its distance d, in logarithms
    (2 - D) ln d - (D - 3) / 2 ln(1 - d^2 / 4), relative to the largest weight of the same anchor: relative to that of
    the batch, one pair of look-alikes would push the weights of all other anchors below the smallest float.

    Parameters
    ----------
    distance : Tensor [B, B]
        Between unit embeddings.
    identities : Tensor, int [B]
        Who each row is.
    dimension : int
        D.
    metric : {"euclidean", "squared_euclidean", "cosine"}
        What `distance` is.
    generator : torch.Generator, optional
        Source of chance, on the device of `distance`.
    nearest : float
        Euclidean; smaller distances are weighted as this one, since their weight explodes.
    limit : float
        Euclidean; negatives from here on are never drawn, unless an anchor has no other: then its nearest is taken.

    Returns
    -------
    Triplets
        One for each anchor and positive, if there is another identity.
    """
    positive, valid = positives_of(identities)
    different = identities[:, None] != identities
    anchor, slot = (valid & different.any(1, keepdim=True)).nonzero(as_tuple=True)
    if not len(anchor):
        return Triplets(anchor, anchor, anchor)
    if metric != "euclidean":
        distance = ((2 if metric == "cosine" else 1) * distance).clamp_min(0).sqrt()
    drawable = different & (distance < limit)
    alone = ~drawable.any(1)
    drawable[alone, distance.masked_fill(~different, torch.inf)[alone].argmin(1)] = True
    d = distance.clamp(nearest, limit)
    log_weight = (2 - dimension) * d.log() - (dimension - 3) / 2 * torch.log1p(-d.square() / 4)
    probability = log_weight.masked_fill(~drawable, -torch.inf).softmax(1)
    negative = probability.multinomial(positive.shape[1], replacement=True, generator=generator)
    return Triplets(anchor, positive[anchor, slot], negative[anchor, slot])
