"""Losses on mined triplets."""

from torch import Tensor
from torch.nn import functional

from reid_tracker.training.mining import Triplets


def triplet_loss(distance: Tensor, triplets: Triplets, margin: float | None) -> Tensor:
    """Mean of max(d(a, p) - d(a, n) + margin, 0), or of the soft margin log(1 + exp(d(a, p) - d(a, n))).

    Parameters
    ----------
    distance : Tensor [B, B]
        Between all rows of the batch (`pairwise_distance`).
    triplets : Triplets
        Which of them to learn from.
    margin : float or None
        In units of the distance; None is the soft margin (Hermans et al. 2017), which keeps pulling satisfied triplets.

    Returns
    -------
    Tensor, scalar
        Zero, with zero gradients, if there is no triplet.
    """
    if not len(triplets.anchor):
        return distance.sum() * 0
    difference = distance[triplets.anchor, triplets.positive] - distance[triplets.anchor, triplets.negative]
    # softplus, because log1p(exp(x)) overflows where a bad start puts x.
    return (functional.softplus(difference) if margin is None else functional.relu(difference + margin)).mean()
