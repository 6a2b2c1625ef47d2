"""How much places are smoothed is learned from how far boxes jump, and how hard people are to predict."""

import numpy as np
import pytest

from reid_tracker.tracking.kalman import POSITION_NOISE
from reid_tracker.tracking.smoothing import NARROWEST, WIDEST, Jitter, lines_at

HEIGHT = 80.0


def scene(rate: int, deviation: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times [T], and the true and the measured places [T, 8] of eight people who stray at random, px."""
    random = np.random.default_rng(seed)
    steps = noise * POSITION_NOISE[0] * HEIGHT / np.sqrt(rate) * random.normal(size=(40 * rate, 8))
    truth = np.cumsum(steps, axis=0)
    return np.arange(len(truth)) / rate, truth, truth + deviation * HEIGHT * random.normal(size=truth.shape)


def learned(measured: np.ndarray, rate: int) -> Jitter:
    jitter, lag = Jitter(), max(int(np.ceil(0.1 * rate)), 1)
    for at in range(lag, len(measured) - lag):
        jitter.learn(measured[[at - lag, at, at + lag]].reshape(3, 4, 2), np.full(4, HEIGHT), 0.5)
    return jitter


@pytest.mark.parametrize("rate", [7, 30])
@pytest.mark.parametrize(("noise", "deviation"), [(0.35, 0.02), (0.35, 0.05), (1.0, 0.05), (1.0, 0.1)])
def test_the_width_is_nearly_the_best_there_is(rate: int, deviation: float, noise: float) -> None:
    times, truth, measured = scene(rate, deviation, noise, seed=rate)

    def error(width: float) -> float:
        path, smooth = np.zeros(len(times), int), []
        for at in range(2 * rate, len(times) - 2 * rate):
            smooth.append(lines_at(times[at], measured[[at]], path, times, measured, width)[0])
        return float(np.sqrt(np.mean((np.array(smooth) - truth[2 * rate : -2 * rate]) ** 2)))

    jitter = learned(measured, rate)
    best = min(error(width) for width in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4))
    assert error(jitter.width(1 / rate, noise)) < 1.12 * best
    assert np.sqrt(jitter.variance) == pytest.approx(deviation, rel=0.15)  # what people stray in .1 s included


def test_the_width_has_bounds() -> None:
    jitter = Jitter()
    assert NARROWEST < jitter.width(1 / 30, 1.0) < WIDEST
    still, apart = np.zeros((3, 50, 2)), np.zeros((3, 50, 2))
    apart[1] = 1e6
    for _ in range(500):
        jitter.learn(still, np.full(50, HEIGHT), 0.5)
    assert jitter.width(1 / 30, 1.0) == NARROWEST
    for _ in range(500):
        jitter.learn(apart, np.full(50, HEIGHT), 0.3)
    assert jitter.width(1.0, 0.35) == WIDEST and np.isfinite(jitter.variance)
    before = jitter.variance
    jitter.learn(still[:, :0], np.zeros(0), 0.5)
    assert jitter.variance == before
