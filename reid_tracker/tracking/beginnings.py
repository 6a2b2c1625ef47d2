"""Where newcomers were before the tracker was sure of them: in a recording their weak first boxes are found afterwards.

A new person needs a sure box and some sightings, so that false boxes get no number. Someone known is carried on by weak
boxes; the same holds backwards in time, from the first sightings on.
"""

from collections.abc import Iterable

import numpy as np

from reid_tracker.tracking import costs, kalman
from reid_tracker.tracking.track_table import MOMENT


def free(xyxy: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Mask [M] of the boxes [M, 4] that are of none of those whose boxes are ``taken`` [N, 4]."""
    mask = np.ones(len(xyxy), dtype=bool)
    i, j = costs.overlapping(xyxy, taken)
    mask[i[costs.iou(xyxy[i], taken[j]) >= costs.RIGHT]] = False
    return mask


def sightings_before(
    times: np.ndarray, boxes: np.ndarray, earlier: Iterable[tuple[float, np.ndarray]], seconds: float
) -> list[int | None]:
    """Follow someone back in time.

    Parameters
    ----------
    times : ndarray [K]
        Of the first sightings, ascending, s.
    boxes : ndarray [K, 4]
        Where they were seen, xyxy in px.
    earlier : iterable of (float, ndarray [M, 4])
        The frames before, the latest first: the time, s, and the boxes that are nobody's.
    seconds : float
        How far back to look.

    Returns
    -------
    list of int or None
        For each of these frames as far as the person could be followed: the row of their box, or None.
    """
    sure = np.ones(1)
    centred = kalman.measure(boxes)
    mean, covariance = kalman.initiate(centred[-1:])
    for step, place in zip(np.diff(times)[::-1], centred[-2::-1], strict=True):
        mean, covariance = kalman.predict(mean, covariance, step)
        mean, covariance = kalman.update(mean, covariance, place[None], sure)
    last_seen = now = times[0]
    found: list[int | None] = []
    for time, candidates in earlier:
        if last_seen - now > MOMENT + 1e-6 or times[0] - time > seconds + 1e-6:
            break
        mean, covariance = kalman.predict(mean, covariance, now - time)
        now, best = time, None
        if len(candidates):
            overlap = costs.iou(np.repeat(kalman.boxes(mean), len(candidates), axis=0), candidates)
            best = int(overlap.argmax()) if overlap.max() >= costs.SAME_PLACE else None
        if best is not None:
            mean, covariance = kalman.update(mean, covariance, kalman.measure(candidates[best : best + 1]), sure)
            last_seen = time
        found.append(best)
    while found and found[-1] is None:
        found.pop()
    return found
