"""Distances between the embeddings of a batch: exact for near-duplicates, and with a finite gradient everywhere."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def pairwise_distance(embeddings: Tensor, metric: str = "euclidean") -> Tensor:
    """Distances between all rows of a batch.

    Parameters
    ----------
    embeddings : Tensor [B, D]
        Half precision is widened first: it cannot tell hard triplets apart.
    metric : {"euclidean", "squared_euclidean", "cosine"}
        Cosine is 1 - cos.

    Returns
    -------
    Tensor [B, B]
        float32 (float64 for float64 embeddings). Equal embeddings are at zero and pass each other no gradient.
    """
    embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    with torch.autocast(embeddings.device.type, enabled=False):
        if metric == "cosine":
            unit = functional.normalize(embeddings)
            return 1 - unit @ unit.T
        distance: Tensor = _Euclidean.apply(embeddings)
        return distance if metric == "euclidean" else distance.square()


def squared_distance_factors(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Two matrices [N, D + 2], of which left @ right.T are the squared distances |a|^2 + |b|^2 - 2ab of all rows.

    Negative results are to be taken as zero.
    """
    squares, one = embeddings.square().sum(1, keepdim=True), torch.ones_like(embeddings[:, :1])
    # What the rounding of the three terms leaves of equal rows must go: its root would steer a gradient of length one.
    own = squares * (1 - 1024 * torch.finfo(embeddings.dtype).eps)
    return torch.cat([-2 * embeddings, own, one], 1), torch.cat([embeddings, one, squares], 1)


def widened(embeddings: Tensor) -> Tensor:
    """Embeddings [B, D] around their mean and in float64, where |a|^2 + |b|^2 - 2ab keeps near-duplicates apart.

    Differences of the coordinates would keep them apart in float32 too, at fifty times the time. Apple's GPUs have no
    float64; there, rows closer than a hundredth of their distance to the mean count as equal.
    """
    wide = embeddings if embeddings.device.type == "mps" else embeddings.double()
    return wide - wide.mean(0)


def row_chunks(rows: int, columns: int, elements: int = 1 << 20) -> Iterator[slice]:
    """Slices over the rows of a matrix, of about `elements` elements each."""
    step = max(1, elements // max(columns, 1))
    return (slice(start, start + step) for start in range(0, rows, step))


class _Euclidean(torch.autograd.Function):
    """Euclidean distances; between forward and backward only the embeddings and the distances are kept."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor) -> Tensor:
        left, right = squared_distance_factors(widened(embeddings))
        distance = embeddings.new_empty(len(left), len(left))
        for rows in row_chunks(len(left), len(left), 1 << 18):
            upper = (left[rows] @ right[rows.start :].T).to(distance.dtype).clamp_min_(0).sqrt_()
            distance[rows, rows.start :] = upper
            distance[rows.start :, rows] = upper.T
        ctx.save_for_backward(embeddings, distance)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        embeddings, distance = ctx.saved_tensors
        # Here the narrow type will do: its rounding turns a pair's direction no more than that of the embeddings did.
        centred = widened(embeddings).to(embeddings.dtype)
        result = torch.empty_like(embeddings)
        for rows in row_chunks(len(embeddings), len(embeddings), 1 << 18):
            # d|a - b| / da = (a - b) / |a - b|, summed over all b, for entries (a, b) and (b, a) alike; and 1 / d is
            # written as d / d^2, with the smallest float below, so that it is zero where d is.
            d = distance[rows]
            pull = (gradient[rows] + gradient[:, rows].T).mul_(d).div_(d.square().add_(torch.finfo(d.dtype).tiny))
            result[rows] = pull.sum(1, keepdim=True) * centred[rows] - pull @ centred
        return result
