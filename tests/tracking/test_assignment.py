"""Sparse assignment with opt-out against the (N + M) x (N + M) matrix that defines it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from reid_tracker.tracking import assignment
from reid_tracker.tracking.assignment import assign


def opt_out_total(cost: np.ndarray, limit: float) -> float:
    """Optimum of lapjv's extended matrix: every row and every column may stay alone for limit / 2."""
    n, m = cost.shape
    extended = np.full((n + m, n + m), limit / 2)
    extended[:n, :m] = np.where(np.isfinite(cost), cost, 1e6)
    extended[n:, m:] = 0
    return extended[linear_sum_assignment(extended)].sum()


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 8),
    m=st.integers(0, 8),
    density=st.floats(0, 1),
    ties=st.booleans(),
)
def test_total_is_the_opt_out_optimum(seed, n, m, density, ties):
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0, 1, (n, m))
    if ties:
        matrix = np.round(matrix, 1)
    listed = rng.random((n, m)) < density
    matrix[~listed] = np.inf
    rows, columns = np.nonzero(listed)
    chosen = assign(rows, columns, matrix[listed], limit := 0.7)
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    assert (matrix[listed][chosen] < limit).all()
    total = matrix[listed][chosen].sum() + (n + m - 2 * len(chosen)) * limit / 2
    np.testing.assert_allclose(total, opt_out_total(matrix, limit), atol=1e-9)


def test_a_pair_over_the_limit_does_not_keep_a_better_one_from_being_chosen():
    # The full matrix's optimum is (0, 1) + (1, 0); dropping (1, 0) afterwards must leave (0, 1).
    rows, columns, cost = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0.6, 0.1, 0.75, 0.9])
    chosen = assign(rows, columns, cost, 0.7)
    assert chosen.tolist() == [1]


def test_order_of_the_pairs_does_not_matter():
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(np.ones((6, 6)))
    cost = rng.random(36)
    shuffle = rng.permutation(36)
    plain = {(rows[k], columns[k]) for k in assign(rows, columns, cost, 0.8)}
    other = {
        (rows[shuffle][k], columns[shuffle][k]) for k in assign(rows[shuffle], columns[shuffle], cost[shuffle], 0.8)
    }
    assert plain == other


def test_the_solver_for_large_crowds_finds_the_same_total(monkeypatch):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows, columns = np.nonzero(rng.random((30, 25)) < rng.uniform(0.05, 0.9))
        cost, limit, totals = rng.uniform(0, 1, len(rows)), 0.7, []
        for cells in (0, 10**9):
            monkeypatch.setattr(assignment, "SPARSE_CELLS", cells)
            chosen = assign(rows, columns, cost, limit)
            assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
            totals.append((cost[chosen] - limit).sum())
        np.testing.assert_allclose(*totals, atol=1e-9)
