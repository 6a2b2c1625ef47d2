"""Overlaps of pairs against one box at a time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_tracker.tracking import costs


def random_boxes(rng, count):
    corner = rng.integers(0, 30, (count, 2)).astype(float)
    return np.hstack([corner, corner + rng.integers(1, 20, (count, 2))])


def slow_intersection(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def slow_area(a):
    return (a[2] - a[0]) * (a[3] - a[1])


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 7), m=st.integers(0, 7))
def test_overlapping_pairs_and_their_iou(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, n), random_boxes(rng, m)
    expected = {(i, j) for i in range(n) for j in range(m) if slow_intersection(a[i], b[j]) > 0}
    i, j = costs.overlapping(a, b)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == expected and len(i) == len(expected)
    slow = [slow_intersection(a[row], b[column]) for row, column in zip(i, j, strict=True)]
    areas = [slow_area(a[row]) + slow_area(b[column]) for row, column in zip(i, j, strict=True)]
    union = np.subtract(areas, slow)
    np.testing.assert_allclose(costs.iou(a[i], b[j]), np.divide(slow, union))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 7))
def test_coverage_counts_boxes_whose_feet_are_not_higher(seed, n):
    boxes = random_boxes(np.random.default_rng(seed), n)
    expected = []
    for i, box in enumerate(boxes):
        front = [other for k, other in enumerate(boxes) if k != i and other[3] >= box[3]]
        expected.append(max((slow_intersection(box, other) / slow_area(box) for other in front), default=0))
    np.testing.assert_allclose(costs.coverage(boxes), expected)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 12))
def test_lead_over_the_best_other_of_a_group(seed, count):
    rng = np.random.default_rng(seed)
    group, value = rng.integers(0, 4, count), rng.integers(0, 5, count).astype(float)
    found = costs.lead(group, value)
    for k in range(count):
        others = [value[m] for m in range(count) if m != k and group[m] == group[k]]
        assert found[k] == value[k] - max(others, default=-np.inf)
