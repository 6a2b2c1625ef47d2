"""How well this scene's people can be foreseen, and so how long someone who is missed can be shown where expected.

A copy of each track's filter goes on without being corrected, as if the person had been missed. After a quarter and
after half a second it is held against where the person really is. Under a still camera nine of ten such boxes are right
after half a second; from a moving car hardly any after a quarter. Nothing has to be missed to learn it.
"""

import numpy as np

from reid_tracker.tracking import costs, kalman
from reid_tracker.tracking.fading import FadingMean
from reid_tracker.tracking.track_table import MOMENT, SETTLED, TrackTable

# Ages at which copies are judged, s.
HORIZONS = np.array([MOMENT, 2 * MOMENT])
# A missed track is shown for as long as this share of such boxes is right.
TRUSTED = 0.85
# Share expected before anything was seen: the missed are then shown up to the last horizon.
PRIOR = (0.95, TRUSTED)


class Foresight(FadingMean):
    """Share of boxes foreseen rightly at each horizon, learned from the people in view."""

    def __init__(self) -> None:
        super().__init__(*PRIOR)

    def learn(self, table: TrackTable, rows: np.ndarray, seen: np.ndarray, now: float) -> None:
        """Judge the copies of the tracks ``rows`` int [K], whose people are at ``seen`` [K, 4]; begin new copies."""
        right = costs.iou(kalman.boxes(table.foreseen[rows]), seen) >= costs.RIGHT
        found, judged = np.zeros_like(HORIZONS), np.zeros_like(HORIZONS)
        for stage, horizon in enumerate(HORIZONS):
            due = (now - table.foreseen_since[rows] >= horizon - 1e-6) & (table.foreseen_stage[rows] == stage)
            found[stage], judged[stage] = (due & right).sum(), due.sum()
            table.foreseen_stage[rows[due]] += 1
        self.add(found, judged)
        over = np.isnan(table.foreseen_since[rows]) | (table.foreseen_stage[rows] == len(HORIZONS))
        begin = rows[over & (now - table.born[rows] >= SETTLED)]
        table.foreseen[begin] = table.mean[begin]
        table.foreseen_since[begin], table.foreseen_stage[begin] = now, 0

    @property
    def seconds(self) -> float:
        """For how long the missed are where they are expected, by straight lines through what was learned."""
        skill = np.minimum.accumulate(np.append(1.0, self.mean))
        ages = np.append(0.0, HORIZONS)
        part = min(int((skill[1:] >= TRUSTED).sum()), len(HORIZONS) - 1)
        slope = max((skill[part] - skill[part + 1]) / (ages[part + 1] - ages[part]), 1e-3)
        return float(ages[part] + (skill[part] - TRUSTED) / slope)
