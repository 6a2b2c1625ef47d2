"""The loss over every triplet of a batch, without ever listing the triplets."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from reid_tracker.training.distances import row_chunks
from reid_tracker.training.mining import positives_of

_FEW = 16


def batch_all_loss(distance: Tensor, identities: Tensor, margin: float | Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean of max(d(a, p) - d(a, n) + margin, 0) over the triplets for which it is not zero (Hermans et al. 2017).

    Exact, in memory for B x B numbers instead of B x B x B: the sum is linear in each distance, with the number of
    active triplets that it takes part in as its slope. The slopes, found by sorting the positives of an anchor and
    searching its negatives among them, give both the loss and its gradient.

    Parameters
    ----------
    distance : Tensor [B, B]
        Between all rows of the batch.
    identities : Tensor, int [B]
        Who each row is.
    margin : float, Tensor [B, B] or None
        In units of the distance; a matrix holds it for each anchor and negative. None is the soft margin
        log(1 + exp(d(a, p) - d(a, n))), which is never zero; its time grows with the images per identity.

    Returns
    -------
    loss : Tensor, scalar
        Zero, with zero gradients, if no triplet is active. It stays near the margin as the network learns, because the
        triplets that it solved leave the mean; watch `active` instead.
    active : Tensor, scalar
        The share of all triplets with d(a, p) + margin > d(a, n); for the soft margin with d(a, p) > d(a, n).
    """
    count, d = len(distance), distance.detach()
    index, valid = positives_of(identities)
    positives = valid.sum(1)
    triplets = (positives * (count - 1 - positives)).sum()
    slope = torch.empty_like(d)
    total, active = d.new_zeros(()), torch.zeros_like(triplets)
    for rows in row_chunks(count, count, 1 << 18):  # small enough for a cache
        shift = margin[rows] if isinstance(margin, Tensor) else d.new_tensor(margin or 0.0)
        near = d[rows].gather(1, index[rows]).masked_fill_(~valid[rows], -torch.inf)
        far = (d[rows] - shift).scatter_(1, index[rows], torch.inf)
        far.diagonal(rows.start).fill_(torch.inf)
        if margin is None:
            loss, of_positive, of_negative = _soft_slopes(near, far)
            violated = sum((near[:, k, None] > far).sum() for k in range(near.shape[1]))
        else:
            of_positive, of_negative = _counts(near, far)
            violated = of_positive.long().sum()
        torch.neg(of_negative, out=slope[rows]).scatter_add_(1, index[rows], of_positive)
        if margin is not None:
            # The slopes of an anchor add up to zero: taking its mean from its distances only spares digits.
            loss = (slope[rows] * (d[rows] - d[rows].mean(1, keepdim=True))).sum() + (of_negative * shift).sum()
        total, active = total + loss, active + violated
    terms = (triplets if margin is None else active).clamp(min=1)
    value = _KnownGradient.apply(distance, (total / terms).clamp_min(0), slope.div_(terms))
    return value, active / triplets.clamp(min=1)


def _counts(near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """For each positive [R, K] the number of negatives [R, B] that are nearer, and for each negative the reverse."""
    of_positive, of_negative = torch.zeros_like(near), torch.zeros_like(far)
    if near.shape[1] <= _FEW:
        active = torch.empty_like(far)  # 0 or 1 as floats: three times faster than through booleans
        for column in range(near.shape[1]):
            torch.gt(near[:, column, None], far, out=active)
            of_positive[:, column] = active.sum(1)
            of_negative += active
        return of_positive, of_negative
    ordered, order = near.sort(1)
    place = torch.searchsorted(ordered, far, right=True)  # from here on the positives are farther than the negative
    negatives_at = near.new_zeros(len(near), near.shape[1] + 1).scatter_add_(1, place, torch.ones_like(far))
    return of_positive.scatter_(1, order, negatives_at.cumsum(1)[:, :-1]), (near.shape[1] - place).to(far.dtype)


def _soft_slopes(near: Tensor, far: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of softplus over all pairs of a positive [R, K] and a negative [R, B], and its slope in each of them."""
    of_positive, of_negative = torch.zeros_like(near), torch.zeros_like(far)
    total = near.new_zeros(())
    for column in range(near.shape[1]):
        difference = near[:, column, None] - far
        total = total + functional.softplus(difference).sum()
        slope = difference.sigmoid_()
        of_positive[:, column] = slope.sum(1)
        of_negative += slope
    return total, of_positive, of_negative


class _KnownGradient(torch.autograd.Function):
    """A value computed from `distance`, with its gradient."""

    @staticmethod
    def forward(ctx: Any, distance: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        return upstream * ctx.saved_tensors[0], None, None
