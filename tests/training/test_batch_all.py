import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_batches import METRICS, all_triplets, batches, embeddings_of, few, slow_distance

from reid_tracker.training.batch_all import batch_all_loss
from reid_tracker.training.distances import pairwise_distance


def slow_batch_all(distance: torch.Tensor, labels: list[int], margin: float | torch.Tensor | None) -> tuple:
    terms, violations = [], 0
    for a, p, n in all_triplets(labels):
        shift = 0.0 if margin is None else margin[a, n] if isinstance(margin, torch.Tensor) else margin
        difference = distance[a, p] - (distance[a, n] - shift)
        violations += bool(difference > 0)
        if margin is None:
            terms.append(torch.nn.functional.softplus(difference))
        elif difference > 0:
            terms.append(difference)
    share = violations / max(len(all_triplets(labels)), 1)
    return (torch.stack(terms).mean() if terms else distance.sum() * 0), share


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("margin", [None, 0.0, 0.3, "matrix"])
@few
@given(batch=batches(), seed=st.integers(0, 99))
def test_values_gradients_and_active_share_are_those_of_the_listed_triplets(
    margin: float | str | None, metric: str, batch: tuple, seed: int
) -> None:
    labels = batch[1]
    if margin == "matrix":
        generator = torch.Generator().manual_seed(seed)
        margin = torch.randn(len(labels), len(labels), generator=generator, dtype=torch.float64)
    fast, slow = batch[0].clone().requires_grad_(), batch[0].clone().requires_grad_()
    # Both from one distance: where triplets tie, the rounding of another formula would decide which are active.
    distance = pairwise_distance(fast, metric)
    loss, active = batch_all_loss(distance, labels, margin)
    expected, share = slow_batch_all(pairwise_distance(slow, metric), labels.tolist(), margin)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-7, atol=1e-9)
    assert float(active) == pytest.approx(share)
    assert torch.isfinite(loss) and torch.isfinite(fast.grad).all()


@pytest.mark.parametrize("sizes", [[30, 45], [25, 1, 1, 1, 19], [18] * 4])
@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["random", "few places", "identical"])
def test_many_images_of_an_identity_give_the_same_as_listing_the_triplets(
    kind: str, margin: float, sizes: list[int]
) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    distance = pairwise_distance(embeddings_of(kind, len(labels), 1)).requires_grad_()
    other = distance.detach().clone().requires_grad_()
    same = labels[:, None] == labels
    valid = (same & ~torch.eye(len(labels), dtype=torch.bool))[:, :, None] & ~same[:, None]
    terms = torch.relu((other[:, :, None] - (other - margin)[:, None])[valid])
    expected = terms.sum() / (terms > 0).sum().clamp(min=1)
    loss, active = batch_all_loss(distance, labels, margin)
    (7 * loss).backward()
    (7 * expected).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(distance.grad, other.grad)
    assert float(active) == pytest.approx(float((terms > 0).double().mean()))


@pytest.mark.parametrize("margin", [0.3, None])
def test_a_large_batch_in_float32_keeps_its_digits(margin: float | None) -> None:
    embeddings = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))  # worked on in several chunks
    labels = torch.arange(600) // 3
    distance = pairwise_distance(embeddings).requires_grad_()
    other = distance.detach().double().requires_grad_()
    positives = other[labels[:, None] == labels].reshape(600, 3, 1)  # with the row itself, at distance zero
    itself = torch.arange(600)[:, None] == torch.arange(600).reshape(200, 1, 3).repeat(1, 3, 1).reshape(600, 3)
    difference = positives - other.masked_fill(labels[:, None] == labels, torch.inf)[:, None]
    difference = difference[~itself]
    terms = torch.nn.functional.softplus(difference) if margin is None else torch.relu(difference + margin)
    expected = terms.sum() / (terms > 0).sum()
    loss, active = batch_all_loss(distance, labels, margin)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(distance.grad.double(), other.grad, rtol=1e-3, atol=1e-9)
    violations = int((difference.detach() + (margin or 0) > 0).sum())
    assert float(active) == pytest.approx(violations / (600 * 2 * 597), abs=1e-6)


def test_solved_batches_cost_nothing_and_collapsed_ones_the_margin() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[0.0], [0.1], [5.0], [5.1]], requires_grad=True)
    loss, active = batch_all_loss(pairwise_distance(apart), labels, 0.3)
    loss.backward()
    assert loss == 0 and active == 0 and not apart.grad.any()
    collapsed = torch.ones(4, 2, requires_grad=True)
    for margin, stuck in ((0.3, 0.3), (None, math.log(2))):
        loss, _ = batch_all_loss(pairwise_distance(collapsed), labels, margin)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(stuck) and torch.isfinite(collapsed.grad).all()


def test_a_hopeless_batch_does_not_overflow_the_soft_margin() -> None:
    embeddings = torch.tensor([[0.0], [1e6], [0.0], [1e6]], requires_grad=True)
    loss, _ = batch_all_loss(pairwise_distance(embeddings), torch.tensor([1, 1, 2, 2]), None)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(embeddings.grad).all()


@few
@given(batch=batches(kinds=("random",)))
def test_it_follows_the_definition_down_to_the_embeddings(batch: tuple) -> None:
    fast, slow = batch[0].clone().requires_grad_(), batch[0].clone().requires_grad_()
    loss, _ = batch_all_loss(pairwise_distance(fast), batch[1], 0.3)
    expected, _ = slow_batch_all(slow_distance(slow), batch[1].tolist(), 0.3)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-6, atol=1e-8)
