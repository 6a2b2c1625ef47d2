import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_tracker.errors import UserError
from reid_tracker.evaluation import retrieval
from reid_tracker.evaluation.retrieval import evaluate_retrieval, similarity_statistics, stranger_tail
from reid_tracker.tracking.calibration import CosineStatistics, return_cosine
from reid_tracker.tracking.memory import IdentityMemory


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def plain_definition(query, gallery, query_ids, gallery_ids, query_cams, gallery_cams):
    """One query at a time, one gallery row at a time; a stranger at the same distance goes first."""
    precisions, penalties, firsts = [], [], []
    for vector, identity, camera in zip(query, query_ids, query_cams, strict=True):
        entries = []
        for other, other_id, other_camera in zip(gallery, gallery_ids, gallery_cams, strict=True):
            if other_id != -1 and not (other_id == identity and other_camera == camera):
                entries.append((-np.float32(vector @ other), other_id == identity))
        ranks = [rank for rank, (_, match) in enumerate(sorted(entries), start=1) if match]
        if ranks:
            precisions.append(np.mean([found / rank for found, rank in enumerate(ranks, start=1)]))
            penalties.append(len(ranks) / ranks[-1])
            firsts.append(ranks[0])
    return np.mean(precisions), np.mean(penalties), [np.mean(np.array(firsts) <= k) for k in range(1, 51)]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), min_size=1, max_size=10),
    st.lists(st.tuples(st.integers(-1, 5), st.integers(1, 3)), min_size=1, max_size=40),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_figures_follow_the_plain_definition(queries, rows, seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    query_ids, query_cams = np.array(queries).T
    gallery_ids, gallery_cams = np.array(rows).T
    if ties:  # corners of a square: many distances are equal, and exactly so
        corners = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], dtype=np.float32)
        query, gallery = corners[random.integers(4, size=len(queries))], corners[random.integers(4, size=len(rows))]
    else:
        query, gallery = unit(random.normal(size=(len(queries), 4))), unit(random.normal(size=(len(rows), 4)))
    has_match = any(
        other == identity and other != -1 and camera != other_camera
        for identity, camera in queries
        for other, other_camera in rows
    )
    arguments = (query, gallery, query_ids, gallery_ids, query_cams, gallery_cams)
    if not has_match:
        with pytest.raises(UserError):
            evaluate_retrieval(*arguments)
        return
    figures = evaluate_retrieval(*arguments)
    precision, penalty, cmc = plain_definition(*arguments)
    assert figures.mean_average_precision == pytest.approx(precision, abs=1e-6)
    assert figures.mean_inverse_negative_penalty == pytest.approx(penalty, abs=1e-6)
    np.testing.assert_allclose(figures.cmc, cmc, atol=1e-9)


def test_a_worked_example() -> None:
    # The match of the same camera is ignored; the two others are ranked 1 and 3.
    angles = np.array([5, 10, 20, 30, 80])
    gallery = np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1).astype(np.float32)
    figures = evaluate_retrieval(
        np.array([[1, 0]], dtype=np.float32),
        gallery,
        np.array([7]),
        np.array([7, 7, 3, 7, 3]),
        np.array([1]),
        np.array([1, 2, 2, 3, 1]),
    )
    assert figures.as_dict() == pytest.approx({"rank1": 1, "rank5": 1, "mAP": (1 + 2 / 3) / 2, "mINP": 2 / 3})


def test_without_cameras_every_match_counts() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(20, 3)))
    identities = np.arange(20) % 5
    nobody = evaluate_retrieval(vectors[:5], vectors[5:], identities[:5], identities[5:])
    apart = evaluate_retrieval(
        vectors[:5], vectors[5:], identities[:5], identities[5:], np.zeros(5, int), np.ones(15, int)
    )
    assert nobody.as_dict() == apart.as_dict()


def test_small_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    vectors, identities, cameras = (
        unit(random.normal(size=(60, 8))),
        random.integers(0, 9, 60),
        random.integers(0, 3, 60),
    )
    arguments = [part for values in (vectors, identities, cameras) for part in (values[:20], values[20:])]
    whole, statistics = evaluate_retrieval(*arguments), similarity_statistics(vectors, identities, cameras)
    monkeypatch.setattr(retrieval, "_ROWS", 7)
    monkeypatch.setattr(retrieval, "_COLUMNS", 11)
    chunked, by_chunk = evaluate_retrieval(*arguments), similarity_statistics(vectors, identities, cameras)
    assert chunked.as_dict() == pytest.approx(whole.as_dict())
    assert by_chunk["all"] == pytest.approx(statistics["all"])


def test_a_collapsed_network_earns_nothing() -> None:
    vectors = np.ones((50, 1), dtype=np.float32)
    identities = np.repeat(np.arange(25), 2)
    figures = evaluate_retrieval(vectors[::2], vectors[1::2], identities[::2], identities[1::2])
    assert figures.cmc[0] == 0 and figures.mean_average_precision == pytest.approx(1 / 25)


def test_what_cannot_be_scored_is_refused() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(4, 3)))
    with pytest.raises(UserError, match="no query identity"):
        evaluate_retrieval(vectors[:2], vectors[2:], np.array([1, 2]), np.array([3, 4]))
    with pytest.raises(UserError, match="another camera"):
        ones = np.ones(2, int)
        evaluate_retrieval(vectors[:2], vectors[2:], np.array([1, 2]), np.array([1, 2]), ones, ones)
    vectors[3] = np.nan
    with pytest.raises(UserError, match="not finite"):
        evaluate_retrieval(vectors[:2], vectors[2:], np.array([1, 2]), np.array([1, 2]))


def test_statistics_are_those_of_all_pairs() -> None:
    random = np.random.default_rng(2)
    vectors, identities, cameras = (
        unit(random.normal(size=(30, 4))),
        random.integers(0, 4, 30),
        random.integers(0, 2, 30),
    )
    statistics = similarity_statistics(vectors, identities, cameras)
    for group, wanted in [("all", None), ("same_camera", True), ("cross_camera", False)]:
        same, stranger = [], []
        for i in range(30):
            for j in range(i):
                if wanted is None or (cameras[i] == cameras[j]) == wanted:
                    (same if identities[i] == identities[j] else stranger).append(float(vectors[i] @ vectors[j]))
        assert statistics[group] == pytest.approx(
            {
                "same_mean": np.mean(same),
                "same_std": np.std(same),
                "stranger_mean": np.mean(stranger),
                "stranger_std": np.std(stranger),
            },
            abs=1e-5,
        )


def test_a_group_without_pairs_of_both_kinds_is_left_out() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(4, 3)))
    statistics = similarity_statistics(vectors, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert set(statistics) == {"all", "cross_camera"}  # nobody is twice in one camera


def test_of_strangers_as_many_pass_the_threshold_as_its_rate_says():
    random = np.random.default_rng(0)
    people = random.standard_normal((80, 16)) + 2  # alike in what all have in common
    identities = np.repeat(np.arange(80), 6)
    vectors = people[identities] + 0.3 * random.standard_normal((len(identities), 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    half = identities < 40
    alike = float(np.square(vectors.mean(axis=0)).sum())
    tail = stranger_tail(vectors[half], identities[half], np.zeros(half.sum(), dtype=int))
    statistics = CosineStatistics(0.8, 0.1, 0.2, 0.1, **tail)
    mistaken = []
    for _ in range(400):
        first, *others = random.permutation(np.unique(identities[~half]))[:11]
        memory = IdentityMemory()
        memory.know([(int(who), 0, vectors[identities == who]) for who in others])
        seen = vectors[identities == first][None, :3].mean(axis=1)
        best = memory.likeness(seen, None, np.zeros(1), vectors[:0], alike).max()
        mistaken.append(best > return_cosine(0.1, np.array([10]), statistics)[0])
    assert 0.03 < np.mean(mistaken) < 0.2
    assert stranger_tail(vectors[:30], identities[:30], np.zeros(30, dtype=int)) == {}  # five people are no crowd
