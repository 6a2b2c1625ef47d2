import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reid_tracker.training.mining import batch_hard, pairwise_distance

BATCH = st.lists(st.integers(0, 4), max_size=14)


@given(BATCH, st.integers(0, 2**32 - 1))
def test_batch_hard_is_the_farthest_positive_and_nearest_negative(labels: list[int], seed: int) -> None:
    embeddings = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
    distance = pairwise_distance(embeddings)
    expected = []
    for anchor, own in enumerate(labels):
        positives = [j for j, other in enumerate(labels) if other == own and j != anchor]
        negatives = [j for j, other in enumerate(labels) if other != own]
        if positives and negatives:
            hardest = (
                max(positives, key=lambda j: distance[anchor, j]),
                min(negatives, key=lambda j: distance[anchor, j]),
            )
            expected.append((anchor, *hardest))
    triplets = batch_hard(distance, torch.tensor(labels, dtype=torch.long))
    assert list(zip(*(rows.tolist() for rows in triplets), strict=True)) == expected


@pytest.mark.parametrize("labels", [[], [1], [1, 1, 1], [1, 2, 3]])
def test_batches_without_a_triplet_give_none(labels: list[int]) -> None:
    triplets = batch_hard(torch.rand(len(labels), len(labels)), torch.tensor(labels, dtype=torch.long))
    assert [len(rows) for rows in triplets] == [0, 0, 0]


@pytest.mark.parametrize("metric", ["euclidean", "squared_euclidean", "cosine"])
def test_distances_follow_their_definition(metric: str) -> None:
    embeddings = torch.randn(30, 5, dtype=torch.float64)
    difference = embeddings[:, None] - embeddings
    expected = {
        "euclidean": difference.norm(dim=2),
        "squared_euclidean": difference.pow(2).sum(2),
        "cosine": 1 - torch.nn.functional.cosine_similarity(embeddings[:, None], embeddings[None], dim=2),
    }[metric]
    torch.testing.assert_close(pairwise_distance(embeddings, metric), expected)


def test_near_duplicates_far_from_the_origin_keep_their_distance() -> None:
    embeddings = torch.full((40, 64), 100.0)
    embeddings[1::2, 0] += 0.045
    distance = pairwise_distance(embeddings)
    torch.testing.assert_close(distance[0, 1], torch.tensor(0.045), atol=1e-4, rtol=0)


def test_half_precision_embeddings_are_compared_in_float32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert pairwise_distance(torch.randn(4, 8, dtype=torch.bfloat16), "cosine").dtype == torch.float32
