"""What the innovations of a scene teach: calm filters for calm people, quick ones for people hard to predict."""

import numpy as np
import pytest
from tracking_world import detections, person

from reid_tracker import Tracker
from reid_tracker.tracking.motion_noise import CALMEST, TARGET, WILDEST, MotionNoise


def follow(tracker: Tracker, frames: int, shake: float, seed: int = 0) -> set[int]:
    """Follow six people, 100 px tall, who walk and are shaken by ``shake`` px a frame; the numbers given."""
    rng = np.random.default_rng(seed)
    place, speed, numbers = np.array([[150.0 * k, 100.0] for k in range(6)]), rng.normal(0, 1, (6, 2)), set()
    for _ in range(frames):
        place = place + speed + rng.normal(0, shake, (6, 2))
        numbers |= set(tracker.update(detections([person(*corner) for corner in place])).tracker_id.tolist())
    return numbers


def test_the_noise_of_the_filters_follows_the_scene():
    calm, wild = Tracker(frame_rate=30), Tracker(frame_rate=30)
    follow(calm, 60, shake=0.2)
    numbers = follow(wild, 60, shake=8.0)
    assert calm.motion_noise == CALMEST
    assert wild.motion_noise > 2
    assert len(numbers) <= 7  # with the factor held at 1 they are 10


def test_at_the_learned_factor_innovations_have_the_expected_variance():
    """Innovations of a known spread against filters whose expected variance grows as the factor does."""
    rng, noise, spread = np.random.default_rng(1), MotionNoise(), 3.0
    for _ in range(300):
        noise.learn(rng.normal(0, spread, (5, 2)), np.full((5, 2), 9.0 * noise.factor))
    # The innovations counted at most make the mean square a hair less than the variance.
    assert noise.factor == pytest.approx(spread**2 / 9.0 / TARGET, rel=0.15)


def test_one_frame_hardly_changes_it_and_no_frame_leaves_its_bounds():
    noise = MotionNoise()
    noise.learn(np.full((1, 2), 1e6), np.ones((1, 2)))
    assert 1 < noise.factor < 1 + 20 / MotionNoise.PRIOR  # one wild match of a wrong person counts at most so much
    for _ in range(200):
        noise.learn(np.full((50, 2), 1e6), np.ones((50, 2)))
    assert noise.factor == WILDEST
    noise.learn(np.zeros((0, 2)), np.zeros((0, 2)))
    assert noise.factor == WILDEST
