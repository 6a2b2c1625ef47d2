import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_batches import KINDS, LABELS, METRICS, all_triplets, batches, embeddings_of, few
from torch import Tensor
from torch.nn import functional

from reid_tracker.training.distances import pairwise_distance
from reid_tracker.training.losses import (
    centroid_bound_loss,
    constellation_loss,
    contrastive_loss,
    fixed_centroids,
    quadruplet_loss,
    triplet_loss,
)
from reid_tracker.training.mining import Triplets, batch_all, batch_hard

MARGIN = st.one_of(st.none(), st.floats(0, 2))


def term(difference: Tensor, margin: float | None) -> Tensor:
    return (1 + difference.exp()).log() if margin is None else (difference + margin).clamp_min(0)


def average(terms: list[Tensor], zero: Tensor) -> Tensor:
    return torch.stack(terms).mean() if terms else zero.sum() * 0


def check(function, slow, embeddings: Tensor, gradients: bool = True) -> None:
    """Compare both functions of the embeddings, in value and gradient."""
    results = []
    for compute in (function, slow):
        rows = embeddings.clone().requires_grad_()
        loss = compute(rows)
        loss.backward()
        results += [loss.detach(), rows.grad]
    torch.testing.assert_close(results[0], results[2], rtol=1e-8, atol=1e-9)
    assert torch.isfinite(results[0]) and torch.isfinite(results[1]).all()
    if gradients:
        torch.testing.assert_close(results[1], results[3], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum", "nonzero"])
@few
@given(batch=batches(), margin=MARGIN)
def test_triplet_loss_sums_its_terms(reduction: str, batch: tuple, margin: float | None) -> None:
    triplets = batch_all(pairwise_distance(batch[0]), batch[1])

    def slow(rows: Tensor) -> Tensor:
        distance = pairwise_distance(rows)
        terms = [term(distance[a, p] - distance[a, n], margin) for a, p, n in zip(*triplets, strict=True)]
        if reduction == "sum":
            return torch.stack(terms).sum() if terms else distance.sum() * 0
        return average([t for t in terms if reduction == "mean" or t > 0], distance)

    def fast(rows: Tensor) -> Tensor:
        return triplet_loss(pairwise_distance(rows), triplets, margin, reduction)

    # relu and clamp disagree on the slope exactly at the kink, where batches with ties sit.
    check(fast, slow, batch[0], gradients=len(batch[0].unique()) == batch[0].numel())


@pytest.mark.parametrize("metric", METRICS)
@few
@given(batch=batches(), margin=MARGIN, second_margin=MARGIN)
def test_quadruplet_loss_adds_the_hardest_pair_of_strangers(
    metric: str, batch: tuple, margin: float | None, second_margin: float | None
) -> None:
    labels = batch[1].tolist()

    def slow(rows: Tensor) -> Tensor:
        distance = pairwise_distance(rows, metric)
        first, second = [], []
        for a, p, n in zip(*batch_hard(distance, batch[1]), strict=True):
            first.append(term(distance[a, p] - distance[a, n], margin))
            others = [m for m, label in enumerate(labels) if label not in (labels[a], labels[n])]
            if others:
                second.append(term(distance[a, p] - min(distance[n, m] for m in others), second_margin))
        return average(first, distance) + average(second, distance)

    def fast(rows: Tensor) -> Tensor:
        return quadruplet_loss(pairwise_distance(rows, metric), batch[1], margin, second_margin)

    check(fast, slow, batch[0], gradients=len(batch[0].unique()) == batch[0].numel())


@pytest.mark.parametrize("metric", METRICS)
@few
@given(batch=batches(), margin=st.floats(0.1, 3))
def test_contrastive_loss_averages_both_kinds_of_pairs(metric: str, batch: tuple, margin: float) -> None:
    labels = batch[1].tolist()

    def slow(rows: Tensor) -> Tensor:
        distance = pairwise_distance(rows, metric)
        same, different = [], []
        for i, one in enumerate(labels):
            for j, two in enumerate(labels):
                if one == two and i != j:
                    same.append(distance[i, j] ** 2)
                elif one != two:
                    different.append((margin - distance[i, j]).clamp_min(0) ** 2)
        return average(same, distance) + average(different, distance)

    check(lambda rows: contrastive_loss(pairwise_distance(rows, metric), batch[1], margin), slow, batch[0])


@few
@given(batch=batches())
def test_constellation_loss_compares_each_pair_with_all_negatives(batch: tuple) -> None:
    everything = all_triplets(batch[1].tolist())

    def slow(rows: Tensor) -> Tensor:
        terms = []
        for a, p in dict.fromkeys((a, p) for a, p, _ in everything):
            push = [(rows[a] @ rows[n] - rows[a] @ rows[p]).exp() for b, q, n in everything if (b, q) == (a, p)]
            terms.append((1 + torch.stack(push).sum()).log())
        return average(terms, rows)

    check(lambda rows: constellation_loss(rows, batch[1]), slow, batch[0])
    check(lambda rows: constellation_loss(rows, batch[1], negatives=99), slow, batch[0])


def test_constellation_loss_draws_so_many_negatives() -> None:
    labels = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    for negatives in (1, 3):
        # All products are zero, so that the loss counts the negatives.
        loss = constellation_loss(torch.zeros(7, 2), labels, negatives, torch.Generator().manual_seed(0))
        assert float(loss) == pytest.approx(float(torch.tensor(1.0 + negatives).log()))
    embeddings = embeddings_of("random", 7, 0)
    drawn = {float(constellation_loss(embeddings, labels, 1, torch.Generator().manual_seed(s))) for s in range(20)}
    assert len(drawn) > 5
    assert float(constellation_loss(embeddings, labels, 1, torch.Generator().manual_seed(3))) in drawn


@few
@given(batch=batches(), classes=st.integers(10, 12), dimension=st.sampled_from([3, 20]), seed=st.integers(0, 99))
def test_centroid_bound_loss_follows_its_formula(batch: tuple, classes: int, dimension: int, seed: int) -> None:
    centroids = fixed_centroids(classes, dimension, seed).double()
    padded = functional.pad(batch[0], (0, dimension - 3))

    def slow(rows: Tensor) -> Tensor:
        terms = []
        for row, label in zip(rows, batch[1].tolist(), strict=True):
            distances = [(row - centroid).norm() for centroid in centroids]
            others = sum(distances[k] for k in range(classes) if k != label)
            terms.append(distances[label] - others / (3 * (classes - 1)))
        return average(terms, rows)

    check(lambda rows: centroid_bound_loss(rows, batch[1], centroids), slow, padded)


@few
@given(st.integers(2, 4), st.integers(2, 5), st.integers(0, 2**32 - 1), st.sampled_from(KINDS))
def test_centroid_bound_bounds_the_mean_over_all_triplets(classes: int, images: int, seed: int, kind: str) -> None:
    embeddings = embeddings_of(kind, classes * images, seed)
    labels = torch.arange(classes).repeat_interleave(images)
    centroids = torch.randn(classes, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    distance = pairwise_distance(embeddings)
    anchor, positive, negative = batch_all(distance, labels)
    mean = (distance[anchor, positive] - distance[anchor, negative]).mean()
    assert mean <= 3 * centroid_bound_loss(embeddings, labels, centroids) + 1e-9


def test_centroid_bound_is_finite_on_a_centroid_and_with_one_class() -> None:
    centroids = fixed_centroids(3, 4)
    assert torch.equal(centroids @ centroids.T, torch.eye(3))
    rows = centroids.clone().requires_grad_()
    loss = centroid_bound_loss(rows, torch.arange(3), centroids)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-(2**0.5) / 3) and torch.isfinite(rows.grad).all()
    assert torch.isfinite(centroid_bound_loss(rows, torch.zeros(3, dtype=torch.long), centroids[:1]))


def test_random_centroids_are_unit_vectors_and_repeat_with_their_seed() -> None:
    centroids = fixed_centroids(50, 8, seed=4)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(50))
    assert len(centroids.unique(dim=0)) == 50
    assert torch.equal(centroids, fixed_centroids(50, 8, seed=4))
    assert not torch.equal(centroids, fixed_centroids(50, 8, seed=5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", LABELS)
def test_degenerate_batches_in_float32_have_finite_values_and_gradients(case: str, kind: str) -> None:
    labels = torch.tensor(LABELS[case], dtype=torch.long)
    values = embeddings_of(kind, len(labels), 0).float()
    losses = [lambda rows: constellation_loss(rows, labels), lambda rows: constellation_loss(rows, labels, 2)]
    losses.append(lambda rows: centroid_bound_loss(rows, labels, fixed_centroids(10, 3)))
    for metric in METRICS:
        for margin in (None, 0.3):

            def triplet(rows: Tensor, metric: str = metric, margin: float | None = margin) -> Tensor:
                distance = pairwise_distance(rows, metric)
                return triplet_loss(distance, batch_hard(distance, labels), margin)

            def quadruplet(rows: Tensor, metric: str = metric, margin: float | None = margin) -> Tensor:
                return quadruplet_loss(pairwise_distance(rows, metric), labels, margin, margin)

            losses += [triplet, quadruplet]
        losses.append(lambda rows, metric=metric: contrastive_loss(pairwise_distance(rows, metric), labels, 1.0))
    for loss in losses:
        rows = values.clone().requires_grad_()
        value = loss(rows)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(rows.grad).all()


def test_a_hopeless_triplet_does_not_overflow_the_soft_margin() -> None:
    rows = torch.tensor([[0.0], [1000.0], [0.0], [1.0]], requires_grad=True)
    distance = pairwise_distance(rows)
    one = torch.tensor([0])
    loss = triplet_loss(distance, Triplets(one, one + 1, one + 2), None)
    loss = loss + quadruplet_loss(distance, torch.tensor([1, 1, 2, 3]), None, None)
    loss = loss + constellation_loss(100 * rows, torch.tensor([1, 1, 2, 3]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(rows.grad).all()
