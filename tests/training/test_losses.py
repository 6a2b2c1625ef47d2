import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reid_tracker.training.losses import triplet_loss
from reid_tracker.training.mining import batch_hard, pairwise_distance

DEGENERATE = {
    "empty": (torch.zeros(0, 4), []),
    "one identity": (torch.randn(4, 4), [1, 1, 1, 1]),
    "all singletons": (torch.randn(4, 4), [1, 2, 3, 4]),
    "identical embeddings": (torch.ones(6, 4), [1, 1, 2, 2, 3, 3]),
    "zero embeddings": (torch.zeros(6, 4), [1, 1, 2, 2, 3, 3]),
    "duplicates": (torch.randn(2, 4).repeat(3, 1), [1, 1, 2, 2, 3, 3]),
}


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=12),
    st.integers(0, 2**32 - 1),
    st.one_of(st.none(), st.floats(0, 2)),
)
def test_loss_is_the_mean_over_the_triplets(labels: list[int], seed: int, margin: float | None) -> None:
    embeddings = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    distance = pairwise_distance(embeddings)
    triplets = batch_hard(distance, torch.tensor(labels))
    terms = []
    for a, p, n in zip(*(rows.tolist() for rows in triplets), strict=True):
        difference = float(distance[a, p] - distance[a, n])
        terms.append(math.log1p(math.exp(difference)) if margin is None else max(difference + margin, 0.0))
    expected = sum(terms) / len(terms) if terms else 0.0
    assert float(triplet_loss(distance, triplets, margin)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("margin", [None, 0.3])
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_batches_have_finite_values_and_gradients(case: str, margin: float | None, metric: str) -> None:
    values, labels = DEGENERATE[case]
    embeddings = values.clone().requires_grad_()
    distance = pairwise_distance(embeddings, metric)
    loss = triplet_loss(distance, batch_hard(distance, torch.tensor(labels, dtype=torch.long)), margin)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(embeddings.grad).all()
    if case in ("empty", "one identity", "all singletons"):
        assert loss == 0 and not embeddings.grad.any()


def test_a_hopeless_triplet_does_not_overflow_the_soft_margin() -> None:
    embeddings = torch.tensor([[0.0], [1000.0], [0.0]], requires_grad=True)
    distance = pairwise_distance(embeddings)
    loss = triplet_loss(distance, batch_hard(distance, torch.tensor([1, 1, 2])), None)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("metric", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("margin", [None, 0.5])
def test_gradients_agree_with_finite_differences(metric: str, margin: float | None) -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])

    def loss(embeddings: torch.Tensor) -> torch.Tensor:
        distance = pairwise_distance(embeddings, metric)
        return triplet_loss(distance, batch_hard(distance, labels), margin)

    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(6, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(loss, embeddings)
