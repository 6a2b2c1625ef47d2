"""How much of what smoothing takes off is motion: told by whether residuals go on from one frame to the next."""

import numpy as np
import pytest
from tracking_world import detections, person

from reid_tracker import Tracker
from reid_tracker.tracking.lag import PRIOR, Lag


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_the_share_is_that_of_what_goes_on(share: float) -> None:
    """Residuals of a lag that stays and a jitter that does not, of which it is the share of the variance."""
    random, lag = np.random.default_rng(5), Lag()
    stays = random.normal(0, np.sqrt(share) * 0.02, (400, 2))
    before = stays + random.normal(0, np.sqrt(1 - share) * 0.02, stays.shape)
    for start in range(0, 400, 8):
        rows = slice(start, start + 8)
        for _ in range(20):
            now = stays[rows] + random.normal(0, np.sqrt(1 - share) * 0.02, (8, 2))
            lag.learn(before[rows], now)
            before[rows] = now
    assert lag.share == pytest.approx(share, abs=0.06)


def test_the_share_stays_within_its_bounds_and_forgets() -> None:
    lag = Lag()
    assert lag.share == pytest.approx(PRIOR)
    lag.learn(np.zeros((0, 2)), np.zeros((0, 2)))
    assert lag.share == pytest.approx(PRIOR)
    wild = np.full((50, 2), 1e6)
    for _ in range(100):
        lag.learn(wild, -wild)
    assert lag.share == 0 and lag.count.max() <= Lag.MEMORY
    for _ in range(100):
        lag.learn(wild, wild)
    assert lag.share > 0.8
    lag.learn(np.zeros((5000, 2)), np.zeros((5000, 2)))
    assert 0 <= lag.share <= 1 and np.isfinite(lag.mean).all()


@pytest.mark.parametrize(("jitter", "least", "most"), [(0.1, 0.0, 0.5), (5.0, 0.6, 1.05)])
def test_precise_boxes_are_kept_and_jumping_ones_smoothed(jitter: float, least: float, most: float) -> None:
    """People who turn back and forth: errors of the smooth boxes in those of a filter alone, and of the detector."""
    random, tracker, errors = np.random.default_rng(0), Tracker(frame_rate=10), []
    for frame in range(300):
        truth = np.array([person(300 * k + 100 * np.sin(0.1 * frame + k)) for k in range(4)])
        measured = truth + random.normal(0, jitter, (4, 1)) * np.array([1.0, 0, 1, 0])
        smooth = tracker.update(detections(measured)).data["smooth_xyxy"]
        alone = tracker._smooth_boxes(np.arange(4))
        errors.append([np.abs(each - truth)[:, 0].mean() for each in (smooth, alone, measured)])
    smooth, alone, detected = np.mean(errors[100:], axis=0)
    assert least * alone <= smooth <= most * alone
    assert smooth < detected or jitter < 1
