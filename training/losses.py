"""Losses on a batch of embeddings. `batch_all` and `hierarchical` hold those over every triplet."""

import torch
from torch import Tensor
from torch.nn import functional

from reid_tracker.training.mining import Triplets, batch_hard, positives_of


def triplet_loss(distance: Tensor, triplets: Triplets, margin: float | None, reduction: str = "mean") -> Tensor:
    """Triplet loss max(d(a, p) - d(a, n) + margin, 0), or its soft margin log(1 + exp(d(a, p) - d(a, n))).

    Parameters
    ----------
    distance : Tensor [B, B]
        Between all rows of the batch (`pairwise_distance`).
    triplets : Triplets
        Which of them to learn from.
    margin : float or None
        In units of the distance; None is the soft margin (Hermans et al. 2017), which keeps pulling satisfied triplets.
    reduction : {"mean", "sum", "nonzero"}
        "sum" is the loss as first published (Schroff et al. 2015); "nonzero" the mean over the terms above zero.

    Returns
    -------
    Tensor, scalar
        Zero, with zero gradients, if there is no triplet.
    """
    near, far = distance[triplets.anchor, triplets.positive], distance[triplets.anchor, triplets.negative]
    terms = _hinge(near - far, margin)
    if reduction == "sum":
        return terms.sum()
    return _mean(terms if reduction == "mean" else terms[terms > 0])


def quadruplet_loss(distance: Tensor, identities: Tensor, margin: float | None, second_margin: float | None) -> Tensor:
    """Batch-hard triplet loss with a second term that keeps strangers of the anchor apart from each other.

    The mean over anchors of max(d(a, p) - d(a, n) + margin, 0) plus that of max(d(a, p) - d(n, m) + second_margin, 0),
    the quadruplet loss of Chen et al. 2017 (its two terms and its three different identities were checked against
    accounts of the paper). Mined batch-hard: a, p and n as in `batch_hard`, and m is the row nearest to n that is
    neither of n's nor of the anchor's identity. The paper gives the second term the smaller margin.

    Parameters
    ----------
    distance : Tensor [B, B]
        Between all rows of the batch.
    identities : Tensor, int [B]
        Who each row is.
    margin, second_margin : float or None
        In units of the distance; None is the soft margin.

    Returns
    -------
    Tensor, scalar
        With two identities in the batch, the first term alone.
    """
    anchor, positive, negative = batch_hard(distance, identities)
    if not len(anchor):
        return distance.sum() * 0
    own, other = identities[anchor][:, None], identities[negative][:, None]
    third = (identities != own) & (identities != other)
    nearest = distance.detach()[negative].masked_fill(~third, torch.inf).argmin(1)
    near = distance[anchor, positive]
    second = (near - distance[negative, nearest])[third.any(1)]
    return _mean(_hinge(near - distance[anchor, negative], margin)) + _mean(_hinge(second, second_margin))


def contrastive_loss(distance: Tensor, identities: Tensor, margin: float) -> Tensor:
    """Loss d^2 of pairs of one identity and max(margin - d, 0)^2 of pairs of two (Hadsell et al. 2006).

    Parameters
    ----------
    distance : Tensor [B, B]
        Between all rows of the batch.
    identities : Tensor, int [B]
        Who each row is.
    margin : float
        From this distance on, strangers are let be.

    Returns
    -------
    Tensor, scalar
        The mean over pairs of one identity plus the mean over pairs of two: strangers are so many more that one mean
        over all would be theirs.
    """
    same = identities[:, None] == identities
    positive = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    return _mean(distance[positive].square()) + _mean(functional.relu(margin - distance[~same]).square())


def constellation_loss(
    embeddings: Tensor, identities: Tensor, negatives: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Mean of log(1 + sum over K negatives of exp(a . n - a . p)) over all anchors and positives (Medela & Picon 2020).

    The multi-class N-pair loss, but with negatives of any identity, so that their number K can be chosen. The formula
    was checked against public implementations, which differ in how they pick the K; here each anchor draws its own.

    Parameters
    ----------
    embeddings : Tensor [B, D]
        Compared by their dot product as they are: normalise them first, or their length grows to please the loss.
    identities : Tensor, int [B]
        Who each row is.
    negatives : int, optional
        K, drawn without replacement; more than there are, or None, means all.
    generator : torch.Generator, optional
        Source of chance, on the device of `embeddings`.

    Returns
    -------
    Tensor, scalar
        Zero, with zero gradients, if no row has both a positive and a negative.
    """
    embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    with torch.autocast(embeddings.device.type, enabled=False):
        similarity = embeddings @ embeddings.T
    positive, valid = positives_of(identities)
    chosen = identities[:, None] != identities
    if negatives is not None:
        lot = torch.rand(chosen.shape, generator=generator, device=chosen.device).masked_fill(~chosen, -1)
        drawn = lot.topk(min(negatives, len(lot)), dim=1).indices
        chosen = chosen & torch.zeros_like(chosen).scatter_(1, drawn, True)
    anchor, slot = (valid & chosen.any(1, keepdim=True)).nonzero(as_tuple=True)
    push = similarity.masked_fill(~chosen, -torch.inf).logsumexp(1)
    return _mean(functional.softplus(push[anchor] - similarity[anchor, positive[anchor, slot]]))


def fixed_centroids(classes: int, dimension: int, seed: int = 0) -> Tensor:
    """Centroids float32 [C, D] for `centroid_bound_loss`: unit vectors, orthogonal while D >= C, else at random."""
    random = torch.randn(max(classes, dimension), dimension, generator=torch.Generator().manual_seed(seed))
    return torch.eye(classes, dimension) if classes <= dimension else functional.normalize(random)[:classes]


def centroid_bound_loss(embeddings: Tensor, classes: Tensor, centroids: Tensor) -> Tensor:
    """Mean of |f - c_y| - 1 / (3 (C - 1)) sum over k != y of |f - c_k| (Do et al. 2019), in time linear in the batch.

    Three times this is an upper bound on the mean of d(a, p) - d(a, n) over all triplets of a batch with equally many
    rows of each of the C classes, wherever the centroids are. Derived here, and the factor 1/3 of the paper with it:
    d(a, p) <= |a - c_a| + |p - c_a| and -d(a, n) <= |n - c_n| - |a - c_n|, averaged over all triplets. The paper fixes
    the centroids at the unit vectors of the axes, so that nothing but the embeddings moves.

    Parameters
    ----------
    embeddings : Tensor [B, D]
        Compared as they are.
    classes : Tensor, int [B]
        Row of each in `centroids`.
    centroids : Tensor [C, D]
        See `fixed_centroids`.

    Returns
    -------
    Tensor, scalar
        May be negative. Zero for an empty batch.
    """
    embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    with torch.autocast(embeddings.device.type, enabled=False):
        # By coordinate differences: at its goal an embedding lies on its centroid, where a product loses the distance.
        distance = torch.cdist(embeddings, centroids.to(embeddings), compute_mode="donot_use_mm_for_euclid_dist")
    own = distance.gather(1, classes[:, None]).squeeze(1)
    return _mean(own - (distance.sum(1) - own) / (3 * max(len(centroids) - 1, 1)))


def _hinge(difference: Tensor, margin: float | None) -> Tensor:
    # softplus, because log1p(exp(x)) overflows where a bad start puts x.
    return functional.softplus(difference) if margin is None else functional.relu(difference + margin)


def _mean(terms: Tensor) -> Tensor:
    """Mean of the terms; zero, with zero gradients, if there are none."""
    return terms.sum() / max(len(terms), 1)
