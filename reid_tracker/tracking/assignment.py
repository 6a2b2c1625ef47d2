"""Which track gets which detection: the Hungarian method where any pair may opt out."""

import numpy as np
from scipy.optimize import linear_sum_assignment


def assign(cost: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Match rows to columns at the least total cost, where staying unmatched costs ``limit`` / 2 a side.

    Equal to ``lap.lapjv(cost, extend_cost=True, cost_limit=limit)``: a pair at or over the limit is never chosen, and
    it never keeps a better pair from being chosen. Clipping the costs at the limit and dropping the clipped pairs
    gives the same optimum as the usual (N + M) x (N + M) matrix.

    Pairs that are each other's only candidate are in every optimum and are taken without solving; in a crowd that is
    most of them, and the cubic part sees only the rest.

    Parameters
    ----------
    cost : ndarray [N, M]
        Finite, or inf where a pair is impossible.
    limit : float
        Pairs must cost less than this.

    Returns
    -------
    rows, columns : ndarray of int [K]
        The matched pairs, by ascending row.
    """
    possible = cost < limit
    per_row, per_column = possible.sum(axis=1), possible.sum(axis=0)
    candidate = possible.argmax(axis=1) if cost.shape[1] else np.zeros(len(cost), dtype=np.intp)
    alone = (per_row == 1) & (per_column[candidate] == 1) if cost.shape[1] else np.zeros(len(cost), dtype=bool)
    rows = np.flatnonzero(alone)
    columns = candidate[rows]

    contested_rows = np.flatnonzero((per_row > 0) & ~alone)
    if contested_rows.size:
        per_column[columns] = 0
        contested_columns = np.flatnonzero(per_column)
        contested = np.minimum(cost[np.ix_(contested_rows, contested_columns)], limit)
        r, c = linear_sum_assignment(contested)
        chosen = contested[r, c] < limit
        rows = np.concatenate([rows, contested_rows[r[chosen]]])
        columns = np.concatenate([columns, contested_columns[c[chosen]]])
        order = np.argsort(rows)
        rows, columns = rows[order], columns[order]
    return rows, columns
