"""Which track gets which detection: the Hungarian method on the pairs that are possible, where any pair may opt out."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

# Cells of the matrix of contested pairs from which the solver for sparse matrices is faster, as with some 200 people.
SPARSE_CELLS = 40_000


def assign(rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, limit: float) -> np.ndarray:
    """Choose pairs, each row and each column at most once, at the least total of (cost - limit).

    Equal to ``lap.lapjv(matrix, extend_cost=True, cost_limit=limit)`` where all other pairs cost inf: a pair at or
    over the limit is never chosen, and it never keeps a better pair from being chosen. Clipping a matrix at the limit
    and dropping the clipped pairs gives the same optimum as the usual (N + M) x (N + M) one.

    Pairs that are each other's only candidate are in every optimum and are taken without solving; in a crowd that is
    most of them, and the cubic part sees only the rest.

    Parameters
    ----------
    rows, columns : ndarray of int [K]
        The possible pairs, each once.
    cost : ndarray [K]
        What each costs; NaN is not allowed.
    limit : float
        Pairs must cost less than this.

    Returns
    -------
    ndarray of int
        Positions in ``rows`` and ``columns`` of the chosen pairs, ascending.
    """
    possible = np.flatnonzero(cost < limit)
    if not possible.size:
        return possible
    r, c = rows[possible], columns[possible]
    alone = (np.bincount(r)[r] == 1) & (np.bincount(c)[c] == 1)
    if alone.all():
        return possible
    contested = possible[~alone]
    (r, height), (c, width) = _renumber(rows[contested]), _renumber(columns[contested])
    solve = _solve_sparse if height * width > SPARSE_CELLS else _solve_dense
    return np.sort(np.concatenate([possible[alone], contested[solve(r, c, cost[contested], height, width, limit)]]))


def _solve_dense(r: np.ndarray, c: np.ndarray, cost: np.ndarray, height: int, width: int, limit: float) -> np.ndarray:
    """Positions of the chosen ones among the pairs ``r``, ``c`` [K], all of which cost less than the limit."""
    matrix = np.full((height, width), limit, dtype=np.float64)
    matrix[r, c] = cost
    i, j = linear_sum_assignment(matrix)
    chosen = matrix[i, j] < limit
    position = np.zeros(matrix.shape, dtype=np.intp)
    position[r, c] = np.arange(len(r))
    positions: np.ndarray = position[i[chosen], j[chosen]]
    return positions


def _solve_sparse(r: np.ndarray, c: np.ndarray, cost: np.ndarray, height: int, width: int, limit: float) -> np.ndarray:
    """The same by a solver that looks at the pairs only: each row may have a column of its own at the limit instead."""
    alone = np.arange(height)
    # It takes a weight of 0 for no pair.
    weights = np.concatenate([cost, np.full(height, limit)]) + 1.0
    graph = csr_array(
        (weights, (np.concatenate([r, alone]), np.concatenate([c, width + alone]))), shape=(height, width + height)
    )
    i, j = min_weight_full_bipartite_matching(graph)
    partner = np.empty(height, dtype=np.intp)
    partner[i] = j
    return np.flatnonzero(partner[r] == c)


def _renumber(names: np.ndarray) -> tuple[np.ndarray, int]:
    """Small integers [K] as places among their sorted distinct values, and how many of those there are."""
    used = np.bincount(names) > 0
    place = np.cumsum(used) - 1
    return place[names], int(place[-1]) + 1
