"""Retrieval evaluation at Market-1501's size, and with a large gallery: seconds, extra memory, the plain definition.

python scripts/benchmark_retrieval.py [--gallery 1000000 --queries 100 --dimension 512] [--rerank]
"""

import argparse
import time

import numpy as np
import torch
from resident import memory, start_measuring

from reid_tracker.evaluation.reranking import k_reciprocal_distances
from reid_tracker.evaluation.retrieval import evaluate_retrieval, score_ranking


def synthetic(count: int, dimension: int, people: int, random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Unit rows around one centre a person, with identities and six cameras."""
    identities, cameras = random.integers(0, people, count), random.integers(0, 6, count)
    centres = random.standard_normal((people, dimension), dtype=np.float32)
    vectors = np.empty((count, dimension), dtype=np.float32)
    for start in range(0, count, 50_000):
        part = slice(start, start + 50_000)
        rows = 0.3 * centres[identities[part]]
        rows += random.standard_normal(rows.shape, dtype=np.float32)
        vectors[part] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors, identities, cameras


def plain_definition(query: tuple[np.ndarray, ...], gallery: tuple[np.ndarray, ...]) -> tuple[float, float, float]:
    """Rank-1, mAP and mINP, one query's whole ranking at a time."""
    firsts, precisions, penalties = [], [], []
    for vector, identity, camera in zip(*query, strict=True):
        keep = (gallery[1] != identity) | (gallery[2] != camera)
        ranking = np.argsort(-(gallery[0] @ vector)[keep], kind="stable")
        ranks = np.flatnonzero(gallery[1][keep][ranking] == identity) + 1
        if len(ranks):
            firsts.append(ranks[0] == 1)
            precisions.append((np.arange(1, len(ranks) + 1) / ranks).mean())
            penalties.append(len(ranks) / ranks[-1])
    return float(np.mean(firsts)), float(np.mean(precisions)), float(np.mean(penalties))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=15913)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--people", type=int, default=750)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain", type=int, default=100, help="queries to check against the plain definition")
    parser.add_argument("--rerank", action="store_true", help="k-reciprocal re-ranking as well")
    chosen = parser.parse_args()
    random = np.random.default_rng(0)
    rows = synthetic(chosen.queries + chosen.gallery, chosen.dimension, chosen.people, random)
    query = tuple(part[: chosen.queries] for part in rows)
    gallery = tuple(part[chosen.queries :] for part in rows)
    arguments = [part for pair in zip(query, gallery, strict=True) for part in pair]
    before, seconds = start_measuring(), []
    for _ in range(chosen.repeats):
        start = time.perf_counter()
        figures = evaluate_retrieval(*arguments)
        seconds.append(time.perf_counter() - start)
    print(f"{chosen.queries} x {chosen.gallery}, {chosen.dimension}-d, {torch.get_num_threads()} threads")
    print(
        f"best of {chosen.repeats}: {min(seconds):.2f} s, {memory('VmHWM') - before:.0f} MiB extra, {figures.as_dict()}"
    )
    few = tuple(part[: chosen.plain] for part in query)
    pairs = [part for pair in zip(few, gallery, strict=True) for part in pair]
    ours = evaluate_retrieval(*pairs).as_dict()
    plain = plain_definition(few, gallery)
    difference = max(abs(a - b) for a, b in zip((ours["rank1"], ours["mAP"], ours["mINP"]), plain, strict=True))
    print(f"plain definition, first {chosen.plain} queries: largest difference {difference:.1e}")
    if chosen.rerank:
        start = time.perf_counter()
        distances = k_reciprocal_distances(query[0], gallery[0])
        reranked = score_ranking(distances, query[1], gallery[1], query[2], gallery[2])
        duration = time.perf_counter() - start
        print(f"re-ranked: {duration:.1f} s, {memory('VmHWM') - before:.0f} MiB extra, {reranked.as_dict()}")


if __name__ == "__main__":
    main()
