import numpy as np
from tracking_world import detections, person

from reid_tracker import Tracker
from reid_tracker.tracking.foresight import HORIZONS, PRIOR, TRUSTED, Foresight


def followed(jump: float) -> Tracker:
    """A tracker that followed four people for 20 s; each second they turn round and leap by so many px."""
    rng, tracker = np.random.default_rng(0), Tracker(frame_rate=20)
    place, speed = np.array([[300.0 * k, 100.0] for k in range(4)]), np.full((4, 2), 5.0)
    for frame in range(400):
        if frame % 8 == 0:
            speed = -speed + rng.normal(0, jump, (4, 2))
        place += speed / 20
        tracker.update(detections([person(*corner) for corner in place]))
    return tracker


def missed_are_shown_for(tracker: Tracker) -> float:
    """Seconds for which people whom nobody sees any more are expected."""
    for frame in range(60):
        tracker.update(detections([]))
        if not len(tracker.expected(3.0)):
            return frame / 20
    return 3.0


def test_the_missed_are_shown_for_as_long_as_their_place_is_foreseen():
    steady, unsteady = (missed_are_shown_for(followed(jump)) for jump in (0.0, 150.0))
    assert steady >= 0.5 and unsteady <= 0.25


def test_before_anything_is_learned_the_prior_says_for_how_long():
    assert Foresight().seconds == HORIZONS[-1] and PRIOR[-1] == TRUSTED


def test_skill_falls_along_straight_lines():
    foresight = Foresight()
    foresight.mean = np.array([0.7, 0.1])
    np.testing.assert_allclose(foresight.seconds, 0.25 * (1 - TRUSTED) / 0.3)
    foresight.mean = np.array([0.95, 0.75])
    np.testing.assert_allclose(foresight.seconds, 0.25 + 0.25 * 0.5)
    foresight.mean = np.array([1.0, 0.95])
    np.testing.assert_allclose(foresight.seconds, 0.5 + 0.25 * 2)
