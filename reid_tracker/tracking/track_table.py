"""The state of all tracks as one structure of arrays: row i of every array belongs to track i."""

import numpy as np

from reid_tracker.tracking.memory import VIEWS

TENTATIVE, CONFIRMED, LOST = np.int8(0), np.int8(1), np.int8(2)
# Within a moment, s, people are where they were seen last. What has lasted until it is settled is no chance: a track
# moves as its filter says, and whoever looks like somebody else has changed.
MOMENT, SETTLED = 0.25, 1.0
UNMATCHED = -1  # instead of the row of a track's detection


class TrackTable:
    """Parallel arrays over N tracks; there is no object per track.

    Attributes
    ----------
    tracklet, identity : ndarray int64 [N]
        The unbroken piece of motion, and the person it is taken for (0 until confirmed).
    class_id : ndarray int64 [N]
        Class of the object.
    state : ndarray int8 [N]
        TENTATIVE, CONFIRMED or LOST.
    mean, covariance : ndarray float64 [N, 2, 4], [N, 3, 4]
        Kalman filters (see `kalman`).
    size : ndarray float64 [N, 2]
        Width and height, px, averaged over the last moments.
    embedding : ndarray float32 [N, D]
        Unit appearance vectors; NaN rows where no good crop has been seen yet. D is 0 until vectors arrive.
    last_seen : ndarray float64 [N]
        Time of the last matched detection, s.
    last_described : ndarray float64 [N]
        Time of the last matched detection with a vector, s; -inf before the first.
    views, view_count : ndarray float32 [N, VIEWS, D], int64 [N]
        Good crops' vectors that differ from each other (`memory.add_views`), and how many of them there are.
    last_view : ndarray float64 [N]
        Time of the last one shown to them, s; -inf before the first.
    born : ndarray float64 [N]
        Time of the first detection, s.
    sightings : ndarray int64 [N]
        How many detections were matched so far.
    whole_since : ndarray float64 [N]
        Time, s, from which no edge of the picture cut them off: until their first good crop of that kind it is inf, and
        a part of them makes do for the views.
    cut : ndarray bool [N]
        Whether an edge cut them off when they were seen last.
    unlike_since : ndarray float64 [N]
        Since when, s, their crops look like a stranger's without a break; NaN where the last one did not.
    resembles : ndarray int64 [N]
        Identity that a newcomer resembled at the last look; 0 for none.
    foreseen, foreseen_since, foreseen_stage : ndarray float64 [N, 2, 4], float64 [N], int64 [N]
        A copy of the filter's mean that is not corrected, since when (s; NaN without a copy), and how often it was
        judged (see `foresight`).
    surprise, residual : ndarray float64 [N, 2]
        How far the box seen last was from where it was expected (see `kalman.catch_up`), and from the filter's place
        then (see `lag`), body heights.
    """

    def __init__(self) -> None:
        self.tracklet = np.zeros(0, dtype=np.int64)
        self.identity = np.zeros(0, dtype=np.int64)
        self.class_id = np.zeros(0, dtype=np.int64)
        self.state = np.zeros(0, dtype=np.int8)
        self.mean = np.zeros((0, 2, 4))
        self.covariance = np.zeros((0, 3, 4))
        self.size = np.zeros((0, 2))
        self.embedding = np.zeros((0, 0), dtype=np.float32)
        self.last_seen = np.zeros(0)
        self.last_described = np.zeros(0)
        self.views = np.zeros((0, VIEWS, 0), dtype=np.float32)
        self.view_count = np.zeros(0, dtype=np.int64)
        self.last_view = np.zeros(0)
        self.born = np.zeros(0)
        self.sightings = np.zeros(0, dtype=np.int64)
        self.whole_since = np.zeros(0)
        self.cut = np.zeros(0, dtype=bool)
        self.unlike_since = np.zeros(0)
        self.resembles = np.zeros(0, dtype=np.int64)
        self.foreseen = np.zeros((0, 2, 4))
        self.foreseen_since = np.zeros(0)
        self.foreseen_stage = np.zeros(0, dtype=np.int64)
        self.surprise = np.zeros((0, 2))
        self.residual = np.zeros((0, 2))

    def __len__(self) -> int:
        return len(self.tracklet)

    def keep(self, rows: np.ndarray) -> None:
        """Drop every track that the mask ``rows`` bool [N] does not name."""
        if not rows.all():
            for name, array in vars(self).items():
                setattr(self, name, array[rows])

    def append(self, **columns: np.ndarray) -> None:
        """Add K tracks: one array of K rows for every attribute."""
        for name, array in vars(self).items():
            setattr(self, name, np.concatenate([array, columns[name]], axis=0, dtype=array.dtype))
