import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reid_tracker.evaluation import reranking
from reid_tracker.evaluation.reranking import k_reciprocal_distances
from reid_tracker.evaluation.retrieval import cosine_distances, score_ranking


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def plain_definition(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """Zhong et al. 2017, section 3, one vector at a time on the full matrix."""
    vectors = np.concatenate([query, gallery]).astype(np.float64)
    squared = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    original = squared / squared.max(axis=1, keepdims=True)
    ranking = np.argsort(np.where(np.eye(len(vectors)) > 0, -1, original), axis=1, kind="stable")

    def reciprocal(i: int, k: int) -> set[int]:
        return {int(j) for j in ranking[i, : k + 1] if i in ranking[j, : k + 1]}

    described = np.zeros_like(original)
    for i in range(len(vectors)):
        expanded = reciprocal(i, k1)
        for j in reciprocal(i, k1):
            candidates = reciprocal(j, int(np.around(k1 / 2)))
            if len(candidates & reciprocal(i, k1)) > 2 / 3 * len(candidates):
                expanded |= candidates
        chosen = sorted(expanded)
        weights = np.exp(-original[i, chosen])
        described[i, chosen] = weights / weights.sum()
    described = np.stack([described[ranking[i, :k2]].mean(axis=0) for i in range(len(vectors))])
    minima = np.minimum(described[:, None], described[None]).sum(axis=2)
    maxima = np.maximum(described[:, None], described[None]).sum(axis=2)
    return ((1 - weight) * (1 - minima / maxima) + weight * original)[: len(query), len(query) :]


@settings(deadline=None, max_examples=40)
@given(
    queries=st.integers(1, 12),
    searched=st.integers(2, 40),
    people=st.integers(1, 6),
    k1=st.integers(2, 9),
    k2=st.integers(1, 4),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
@example(queries=1, searched=3, people=1, k1=2, k2=4, weight=0.0, seed=0)  # more to average over than describe
def test_distances_follow_the_plain_definition(queries, searched, people, k1, k2, weight, seed) -> None:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, 6))
    vectors = unit(
        centres[random.integers(people, size=queries + searched)] + random.normal(size=(queries + searched, 6))
    )
    k1 = min(k1, len(vectors) - 1)
    query, gallery = vectors[:queries], vectors[queries:]
    distances = k_reciprocal_distances(query, gallery, k1, k2, weight)(np.arange(queries), np.arange(searched))
    np.testing.assert_allclose(distances, plain_definition(query, gallery, k1, k2, weight), atol=1e-5)


def test_small_blocks_and_any_selection_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(70, 4)))
    whole = k_reciprocal_distances(vectors[:20], vectors[20:])(np.arange(20), np.arange(50))
    monkeypatch.setattr(reranking, "_BLOCK", 150)
    monkeypatch.setattr(reranking, "_PAIRS", 17)
    rows, columns = np.array([13, 2, 5]), np.array([40, 3, 3, 9])
    part = k_reciprocal_distances(vectors[:20], vectors[20:])(rows, columns)
    np.testing.assert_allclose(part, whole[np.ix_(rows, columns)], atol=1e-6)


def test_neighbours_in_common_improve_the_ranking() -> None:
    random = np.random.default_rng(0)
    identities = np.arange(600) % 40
    vectors = unit(random.normal(size=(40, 16))[identities] + 0.9 * random.normal(size=(600, 16)))
    before, after = (
        score_ranking(make(vectors[:80], vectors[80:]), identities[:80], identities[80:]).mean_average_precision
        for make in (cosine_distances, k_reciprocal_distances)
    )
    assert after > before + 0.05


def test_equal_vectors_are_no_trouble() -> None:
    vectors = np.tile(np.array([[1, 0]], dtype=np.float32), (60, 1))
    distances = k_reciprocal_distances(vectors[:10], vectors[10:])(np.arange(10), np.arange(50))
    assert np.isfinite(distances).all()
