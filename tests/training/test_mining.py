import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_batches import LABELS, METRICS, all_triplets, batches, embeddings_of, few

from reid_tracker.training.distances import pairwise_distance
from reid_tracker.training.mining import (
    Triplets,
    batch_all,
    batch_hard,
    distance_weighted,
    positives_of,
    semi_hard,
)

WITHOUT_TRIPLETS = ["empty", "one row", "one identity", "all singletons"]


def rows_of(triplets: Triplets) -> list[tuple[int, int, int]]:
    return list(zip(*(rows.tolist() for rows in triplets), strict=True))


def strangers(labels: list[int], row: int) -> list[int]:
    return [other for other, label in enumerate(labels) if label != labels[row]]


@few
@given(batches())
def test_positives_are_the_other_rows_of_the_identity(batch: tuple) -> None:
    labels = batch[1].tolist()
    index, valid = positives_of(batch[1])
    for row, own in enumerate(labels):
        found = index[row][valid[row]].tolist()
        assert sorted(found) == [other for other, label in enumerate(labels) if label == own and other != row]
        assert set(index[row][~valid[row]].tolist()) <= {row}


@few
@given(batches())
def test_batch_all_is_every_triplet_once(batch: tuple) -> None:
    found = rows_of(batch_all(pairwise_distance(batch[0]), batch[1]))
    assert sorted(found) == all_triplets(batch[1].tolist())


@pytest.mark.parametrize("metric", METRICS)
@few
@given(batch=batches())
def test_batch_hard_is_the_farthest_positive_and_nearest_negative(metric: str, batch: tuple) -> None:
    distance, labels = pairwise_distance(batch[0], metric), batch[1].tolist()
    everything = all_triplets(labels)
    found = rows_of(batch_hard(distance, batch[1]))
    assert [a for a, _, _ in found] == sorted({a for a, _, _ in everything})
    for a, p, n in found:
        assert (a, p, n) in everything
        assert distance[a, p] == max(distance[a, other] for b, other, _ in everything if b == a)
        assert distance[a, n] == min(distance[a, other] for b, _, other in everything if b == a)


@pytest.mark.parametrize("metric", METRICS)
@few
@given(batch=batches(), margin=st.sampled_from([0.05, 0.2, 1.5]))
def test_semi_hard_is_the_nearest_negative_of_the_band_or_the_one_just_within(
    metric: str, batch: tuple, margin: float
) -> None:
    distance, labels = pairwise_distance(batch[0], metric), batch[1].tolist()
    expected = {}
    for a, p in dict.fromkeys((a, p) for a, p, _ in all_triplets(labels)):
        ap, candidates = float(distance[a, p]), [float(distance[a, n]) for n in strangers(labels, a)]
        band = [an for an in candidates if ap < an < ap + margin]
        within = [an for an in candidates if an <= ap]
        if band:
            expected[a, p] = min(band)
        elif within:
            expected[a, p] = max(within)
    found = rows_of(semi_hard(distance, batch[1], margin))
    assert {(a, p): float(distance[a, n]) for a, p, n in found} == expected and len(found) == len(expected)
    assert set(found) <= set(all_triplets(labels))


@pytest.mark.parametrize("metric", METRICS)
@few
@given(batch=batches(), dimension=st.sampled_from([2, 128, 2048]), seed=st.integers(0, 99))
def test_distance_weighted_takes_each_pair_once_and_what_may_be_drawn(
    metric: str, batch: tuple, dimension: int, seed: int
) -> None:
    embeddings, labels = torch.nn.functional.normalize(batch[0]), batch[1].tolist()
    everything = all_triplets(labels)
    distance = pairwise_distance(embeddings)
    generator = torch.Generator().manual_seed(seed)
    found = rows_of(
        distance_weighted(pairwise_distance(embeddings, metric), batch[1], dimension, metric, generator=generator)
    )
    assert sorted((a, p) for a, p, _ in found) == sorted({(a, p) for a, p, _ in everything})
    assert set(found) <= set(everything)
    for a, _, n in found:
        others = distance[a, strangers(labels, a)]
        assert distance[a, n] < 1.4 + 1e-6 if (others < 1.4 - 1e-6).any() else distance[a, n] < others.min() + 1e-6


@pytest.mark.parametrize("dimension", [3, 8])
def test_distance_weighted_draws_in_proportion_to_the_inverse_density(dimension: int) -> None:
    distances = torch.tensor([0.3, 0.5, 0.9, 1.1, 1.3, 1.5])
    distance = torch.zeros(36, 36)
    distance[:, 30:] = distances
    labels = torch.tensor([0] * 30 + [1, 2, 3, 4, 5, 6])
    clipped = distances.clamp_min(0.5)
    weight = clipped ** (2 - dimension) * (1 - clipped**2 / 4) ** (-(dimension - 3) / 2)
    weight[distances >= 1.4] = 0
    generator = torch.Generator().manual_seed(0)
    draws = [distance_weighted(distance, labels, dimension, generator=generator).negative for _ in range(10)]
    share = torch.cat(draws).bincount(minlength=36)[30:] / 8700
    torch.testing.assert_close(share, weight / weight.sum(), atol=0.02, rtol=0)


def test_distance_weighted_keeps_every_anchor_among_look_alikes_and_strangers() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(32, 2048, generator=generator)
    centres[:8] = centres[0] + 0.3 * centres[:8]  # eight people who look alike, 24 who look like nobody else
    embeddings = centres.repeat_interleave(4, 0) + 0.3 * torch.randn(128, 2048, generator=generator)
    embeddings = torch.nn.functional.normalize(embeddings)
    labels = torch.arange(32).repeat_interleave(4)
    triplets = distance_weighted(pairwise_distance(embeddings), labels, 2048, generator=generator)
    assert len(triplets.anchor) == 128 * 3 and len(triplets.anchor.unique()) == 128
    assert (labels[triplets.anchor] != labels[triplets.negative]).all()


def test_distance_weighted_draws_alike_with_the_same_seed() -> None:
    embeddings = torch.nn.functional.normalize(embeddings_of("random", 40, 5))
    labels = torch.arange(40) // 4
    first, again, other = (
        distance_weighted(pairwise_distance(embeddings), labels, 3, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.negative, again.negative) and not torch.equal(first.negative, other.negative)


@pytest.mark.parametrize("case", WITHOUT_TRIPLETS)
def test_batches_without_a_triplet_give_none(case: str) -> None:
    labels = torch.tensor(LABELS[case], dtype=torch.long)
    distance = torch.rand(len(labels), len(labels))
    for triplets in (
        batch_all(distance, labels),
        batch_hard(distance, labels),
        semi_hard(distance, labels),
        distance_weighted(distance, labels, 128),
    ):
        assert [len(rows) for rows in triplets] == [0, 0, 0] and triplets.anchor.dtype == torch.int64


def test_mining_leaves_no_trace_in_the_graph() -> None:
    embeddings = embeddings_of("random", 12, 0).requires_grad_()
    distance, labels = pairwise_distance(embeddings), torch.arange(12) // 3
    for triplets in (batch_hard(distance, labels), semi_hard(distance, labels), distance_weighted(distance, labels, 3)):
        assert not any(rows.requires_grad for rows in triplets)


def test_a_negative_as_near_as_the_positive_is_not_semi_hard() -> None:
    distance = torch.tensor([[0.0, 1.0, 1.0, 1.1], [1.0, 0.0, 1.0, 1.5], [1.0] * 4, [1.0] * 4])
    found = semi_hard(distance, torch.tensor([0, 0, 1, 2]), 0.2)
    assert rows_of(found) == [(0, 1, 3), (1, 0, 2)]  # the second anchor has no band, and falls back to its tie
