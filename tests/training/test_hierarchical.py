import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_batches import KINDS, LABELS, all_triplets, batches, embeddings_of, few

from reid_tracker.training.distances import pairwise_distance
from reid_tracker.training.hierarchical import build_class_tree, hierarchical_triplet_loss


def slow_tree(embeddings: torch.Tensor, labels: list[int], levels: int) -> tuple[dict, dict]:
    """Spread of each class and merging threshold of each pair, by merging the closest two nodes again and again."""
    unit = torch.nn.functional.normalize(embeddings)
    rows = {c: [i for i, label in enumerate(labels) if label == c] for c in labels}

    def mean(one: int, two: int) -> float:
        pairs = [float((unit[i] - unit[j]).square().sum()) for i in rows[one] for j in rows[two] if i != j]
        return sum(pairs) / len(pairs)

    several = {c: mean(c, c) for c in rows if len(rows[c]) > 1}
    start = sum(several.values()) / len(several) if several else 0.0
    spread = {c: several.get(c, start) for c in rows}
    thresholds = [start + level * (4 - start) / levels for level in range(levels + 1)]

    nodes, merged = [{c} for c in rows], {}
    while len(nodes) > 1:
        apart = {
            (i, j): float(np.mean([mean(p, q) for p in nodes[i] for q in nodes[j]]))
            for i in range(len(nodes))
            for j in range(i)
        }
        (i, j), distance = min(apart.items(), key=lambda item: item[1])
        above = [threshold for threshold in thresholds if threshold > distance]
        merged |= {
            (p, q): (above or thresholds[-1:])[0]
            for p in nodes[i] | nodes[j]
            for q in nodes[i] | nodes[j]
            if (p in nodes[i]) != (q in nodes[i])
        }
        nodes[j] |= nodes.pop(i)
    return spread, merged


@few
@given(batch=batches(kinds=("random",)), levels=st.sampled_from([1, 4, 16]))
def test_tree_is_that_of_merging_the_closest_nodes(batch: tuple, levels: int) -> None:
    labels = batch[1].tolist()
    tree = build_class_tree(batch[0], batch[1], levels)
    spread, merged = slow_tree(batch[0], labels, levels)
    assert tree.classes.tolist() == sorted(set(labels))
    for i, p in enumerate(tree.classes.tolist()):
        assert float(tree.spread[i]) == pytest.approx(spread[p], abs=1e-5)
        for j, q in enumerate(tree.classes.tolist()):
            if p != q:
                assert float(tree.merged_at[i, j]) == pytest.approx(merged[p, q], abs=1e-5)


@few
@given(batch=batches(kinds=("random",)), slack=st.floats(0, 1))
def test_loss_is_half_the_mean_over_all_triplets_with_their_margins(batch: tuple, slack: float) -> None:
    labels = batch[1].tolist()
    spread, merged = slow_tree(batch[0], labels, 16)
    fast = torch.nn.functional.normalize(batch[0]).requires_grad_()
    slow = fast.detach().clone().requires_grad_()
    distance = pairwise_distance(slow, "squared_euclidean")
    terms = [
        torch.relu(distance[a, p] - distance[a, n] + slack + merged[labels[a], labels[n]] - spread[labels[a]])
        for a, p, n in all_triplets(labels)
    ]
    expected = torch.stack(terms).mean() / 2 if terms else distance.sum() * 0
    tree = build_class_tree(batch[0], batch[1])
    loss = hierarchical_triplet_loss(pairwise_distance(fast, "squared_euclidean"), batch[1], tree, slack)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-4, atol=1e-5)


def test_look_alikes_get_a_smaller_margin_than_strangers() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.98, 0.2], [-1.0, 0.1]])
    embeddings = directions.repeat_interleave(2, 0) + torch.tensor([[0.01, 0.0], [0.0, 0.01]]).repeat(3, 1)
    tree = build_class_tree(embeddings, torch.tensor([4, 4, 6, 6, 9, 9]))
    assert tree.classes.tolist() == [4, 6, 9]
    assert tree.merged_at[0, 1] < 0.5 < 3 < tree.merged_at[0, 2] <= 4
    assert torch.equal(tree.merged_at, tree.merged_at.T)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", LABELS)
def test_degenerate_sets_make_a_finite_tree_and_loss(case: str, kind: str) -> None:
    labels = torch.tensor(LABELS[case], dtype=torch.long)
    rows = embeddings_of(kind, len(labels), 0).float().requires_grad_()
    tree = build_class_tree(rows, labels)
    assert all(torch.isfinite(part).all() for part in tree)
    loss = hierarchical_triplet_loss(pairwise_distance(rows, "squared_euclidean"), labels, tree)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(rows.grad).all()
