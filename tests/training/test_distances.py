import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_batches import METRICS, batches, few, slow_distance

from reid_tracker.training.distances import pairwise_distance


@pytest.mark.parametrize("metric", METRICS)
@few
@given(batch=batches(), seed=st.integers(0, 99))
def test_values_and_gradients_follow_the_definition(metric: str, batch: tuple, seed: int) -> None:
    results = []
    for function in (pairwise_distance, slow_distance):
        embeddings = batch[0].clone().requires_grad_()
        distance = function(embeddings, metric)
        weight = torch.randn(distance.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        (distance * weight).sum().backward()
        results.append((distance.detach(), embeddings.grad))
    (value, gradient), (expected_value, expected_gradient) = results
    torch.testing.assert_close(value, expected_value, rtol=1e-9, atol=1e-9)
    if metric != "cosine" or batch[0].norm(dim=1).gt(0).all():  # the direction of a zero vector is a matter of taste
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-8)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("metric", METRICS)
def test_a_batch_of_several_chunks_follows_the_definition(metric: str) -> None:
    embeddings = torch.randn(700, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    embeddings.requires_grad_()
    difference = embeddings[:, None] - embeddings + 1e-300  # for a finite gradient on the diagonal
    expected = {
        "euclidean": lambda: difference.norm(dim=2),
        "squared_euclidean": lambda: difference.square().sum(2),
        "cosine": lambda: 1 - torch.cosine_similarity(embeddings[:, None], embeddings[None], dim=2),
    }[metric]()
    distance = pairwise_distance(embeddings, metric)
    torch.testing.assert_close(distance, expected, rtol=1e-9, atol=1e-9)
    weight = torch.rand(distance.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((values * weight).sum(), embeddings)[0] for values in (distance, expected)]
    torch.testing.assert_close(*gradients)


def test_near_duplicates_far_from_the_origin_keep_their_distance() -> None:
    embeddings = torch.full((40, 64), 100.0)
    embeddings[::3] *= 3
    embeddings[1::2, 0] += 0.045
    embeddings.requires_grad_()
    distance = pairwise_distance(embeddings)
    torch.testing.assert_close(distance[1, 2], torch.tensor(0.045), atol=1e-4, rtol=0)
    distance[1, 2].backward()
    torch.testing.assert_close(embeddings.grad[1, :2], torch.tensor([1.0, 0.0]), atol=1e-2, rtol=0)


def test_equal_rows_of_any_length_are_at_zero_and_pass_no_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    embeddings = (torch.randn(1, 512, generator=generator) * 1e4 + 1e3).repeat(6, 1)
    embeddings[3:] = torch.randn(1, 512, generator=generator)
    embeddings.requires_grad_()
    distance = pairwise_distance(embeddings)
    assert not distance[:3, :3].any() and not distance[3:, 3:].any()
    distance[:3, :3].sum().backward()
    assert not embeddings.grad.any()


@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_embeddings_are_compared_in_float32(metric: str) -> None:
    embeddings = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    expected = pairwise_distance(embeddings.detach().float(), metric)
    with torch.autocast("cpu", torch.bfloat16):
        distance = pairwise_distance(embeddings, metric)
    assert distance.dtype == torch.float32
    torch.testing.assert_close(distance, expected)
    distance.sum().backward()
    assert embeddings.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("metric", METRICS)
def test_gradients_agree_with_finite_differences(metric: str) -> None:
    embeddings = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    assert torch.autograd.gradcheck(lambda rows: pairwise_distance(rows, metric), embeddings)
