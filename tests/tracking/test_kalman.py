"""The four-axis filters against the textbook's 8 x 8 filter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_tracker.tracking import kalman


def dense(mean, covariance):
    """One track's state as the textbook writes it: x [8] = positions then velocities, P [8, 8]."""
    pp, pv, vv = (np.diag(block) for block in covariance)
    return mean.reshape(8), np.block([[pp, pv], [pv, vv]])


def textbook_predict(x, p, height, seconds, factor):
    eye, zero = np.eye(4), np.zeros((4, 4))
    move = np.block([[eye, seconds * eye], [zero, eye]])
    acceleration = np.diag((factor * kalman.ACCELERATION_NOISE * height) ** 2)
    drift = np.diag((factor * kalman.POSITION_NOISE * height) ** 2)
    noise = np.block(
        [
            [acceleration * seconds**3 / 3 + drift * seconds, acceleration * seconds**2 / 2],
            [acceleration * seconds**2 / 2, acceleration * seconds],
        ]
    )
    x = move @ x
    x[6:] *= np.exp(-seconds / kalman.SIZE_MEMORY)
    return x, move @ p @ move.T + noise


def textbook_update(x, p, z, weight):
    observe = np.hstack([np.eye(4), np.zeros((4, 4))])
    noise = np.eye(4) * (kalman.MEASUREMENT_NOISE * max(z[3], 1)) ** 2 / weight
    gain = p @ observe.T @ np.linalg.inv(observe @ p @ observe.T + noise)
    return x + gain @ (z - observe @ x), (np.eye(8) - gain @ observe) @ p


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tracks=st.integers(1, 5), steps=st.integers(1, 6))
def test_equals_the_8_x_8_filter(seed, tracks, steps):
    rng = np.random.default_rng(seed)
    z = np.column_stack([rng.uniform(0, 500, (tracks, 2)), rng.uniform(5, 200, (tracks, 2))])
    mean, covariance = kalman.initiate(z)
    reference = [dense(m, c) for m, c in zip(mean, covariance, strict=True)]
    for _ in range(steps):
        seconds, factor = rng.uniform(0.01, 1), rng.uniform(0.3, 8)
        heights = np.maximum(mean[:, 0, 3], 1)
        mean, covariance = kalman.predict(mean, covariance, seconds, factor)
        reference = [
            textbook_predict(*each, height, seconds, factor) for each, height in zip(reference, heights, strict=True)
        ]
        z = z + rng.normal(0, 3, z.shape)
        z[:, 2:] = np.maximum(z[:, 2:], 2)
        weight = rng.uniform(0.1, 1, tracks)
        mean, covariance = kalman.update(mean, covariance, z, weight)
        reference = [textbook_update(*each, *seen) for each, *seen in zip(reference, z, weight, strict=True)]
        for i, (x, p) in enumerate(reference):
            ours_x, ours_p = dense(mean[i], covariance[i])
            np.testing.assert_allclose(ours_x, x, rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(ours_p, p, rtol=1e-7, atol=1e-8)


def test_two_short_steps_are_one_long_step():
    mean, covariance = kalman.initiate(np.array([[100.0, 50, 40, 80]]))
    mean[:, 1, :2] = 30  # moving, of constant size: the noise scales with the height, which then stays
    once = kalman.predict(mean, covariance, 0.5)
    twice = kalman.predict(*kalman.predict(mean, covariance, 0.2), 0.3)
    np.testing.assert_allclose(once[0], twice[0])
    np.testing.assert_allclose(once[1], twice[1])


def test_a_steady_walk_is_learned():
    mean, covariance = kalman.initiate(np.array([[0.0, 0, 40, 80]]))
    for step in range(1, 40):
        mean, covariance = kalman.predict(mean, covariance, 0.1)
        mean, covariance = kalman.update(mean, covariance, np.array([[6.0 * step, 0, 40, 80]]), np.ones(1))
    assert mean[0, 1, 0] == pytest.approx(60, rel=0.05)  # px/s


def test_an_unsure_box_moves_a_track_less():
    mean, covariance = kalman.predict(*kalman.initiate(np.array([[100.0, 50, 40, 80]] * 3)), 0.1)
    weight = kalman.trust(np.array([0.15, 0.4, 0.95]))
    moved = kalman.update(mean, covariance, np.array([[110.0, 50, 40, 80]] * 3), weight)[0][:, 0, 0] - 100
    assert 0 < moved[0] < moved[1] < moved[2] < 10
    np.testing.assert_array_equal(kalman.trust(np.array([0.0, kalman.SURE_CONFIDENCE, 1])), [0.1, 1, 1])


def test_a_filter_that_lags_behind_becomes_uncertain_and_no_other_does():
    covariance = kalman.initiate(np.array([[0.0, 0.0, 40.0, 100.0]] * 3))[1]
    # Off twice to the same side, to either side, and by what boxes err.
    innovation = np.array([[20.0, 0.0], [20.0, 0.0], [6.0, 0.0]])
    wider = kalman.catch_up(covariance, innovation, np.array([[20.0, 0.0], [-20.0, 0.0], [6.0, 0.0]]), np.full(3, 25.0))
    place = covariance[0, 0, 0]
    np.testing.assert_allclose(wider[0, :, :2], covariance[0, :, :2] * (place + 20 * 20 / 2 - 2 * 25) / place)
    np.testing.assert_array_equal(wider[0, :, 2:], covariance[0, :, 2:])
    np.testing.assert_array_equal(wider[1:], covariance[1:])


def test_no_tracks():
    mean, covariance = kalman.predict(*kalman.initiate(np.zeros((0, 4))), 0.1)
    assert mean.shape == (0, 2, 4) and covariance.shape == (0, 3, 4)
    assert kalman.boxes(mean).shape == (0, 4)


def test_boxes_and_measurements_are_inverse():
    xyxy = np.array([[1.0, 2, 31, 92], [5, 5, 6, 9]])
    np.testing.assert_allclose(kalman.boxes(kalman.initiate(kalman.measure(xyxy))[0]), xyxy)
