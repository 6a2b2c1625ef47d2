"""Batches that the tests of distances, miners and losses share, from ordinary to degenerate, and slow distances."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

few = settings(deadline=None, max_examples=25)  # the first call into torch is slow

METRICS = ["euclidean", "squared_euclidean", "cosine"]
KINDS = ["random", "few places", "identical", "zero"]
LABELS = {
    "empty": [],
    "one row": [1],
    "one identity": [1, 1, 1, 1],
    "all singletons": [1, 2, 3, 4],
    "a pair and a stranger": [7, 3, 7],
    "two identities": [0, 0, 0, 5, 5],
    "uneven": [2, 0, 2, 1, 2, 2, 1, 9],
}


def embeddings_of(kind: str, count: int, seed: int, dimension: int = 3) -> Tensor:
    """Float64 rows; "few places" makes duplicates and ties, in which all arithmetic is exact."""
    random = torch.randn(count, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if kind == "few places":
        return torch.zeros_like(random).index_fill_(1, torch.tensor([0]), 1) * random[:, :1].mul(1.5).round()
    return {"random": random, "identical": torch.ones_like(random), "zero": torch.zeros_like(random)}[kind]


@st.composite
def batches(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> tuple[Tensor, Tensor]:
    """Embeddings [B, 3] and identities [B]."""
    labels = draw(st.one_of(st.sampled_from(list(LABELS.values())), st.lists(st.integers(0, 4), max_size=12)))
    embeddings = embeddings_of(draw(st.sampled_from(kinds)), len(labels), draw(st.integers(0, 2**32 - 1)))
    return embeddings, torch.tensor(labels, dtype=torch.long)


def slow_distance(embeddings: Tensor, metric: str = "euclidean") -> Tensor:
    """Each pair by the definition; a pair at distance zero is a constant, so that it has no gradient."""
    rows = []
    for a in embeddings:
        for b in embeddings:
            if metric == "cosine":
                length = a.norm().clamp_min(1e-12) * b.norm().clamp_min(1e-12)
                rows.append(1 - (a * b).sum() / length)
            else:
                same = bool((a == b).all())
                distance = (a * 0).sum() if same else (a - b).square().sum().sqrt()
                rows.append(distance if metric == "euclidean" else distance.square())
    return torch.stack(rows).reshape(len(embeddings), -1) if rows else embeddings.new_zeros(0, 0) + embeddings.sum()


def all_triplets(labels: list[int]) -> list[tuple[int, int, int]]:
    rows = range(len(labels))
    return [
        (a, p, n)
        for a in rows
        for p in rows
        for n in rows
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]
    ]
