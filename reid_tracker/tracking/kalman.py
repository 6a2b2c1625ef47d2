"""Constant-velocity Kalman filters for many boxes at once, in real seconds.

A box is (cx, cy, w, h). With noise that is diagonal in these four axes, as in SORT and all its descendants, the usual
8-state filter falls apart into four independent position-velocity filters whose 2 x 2 algebra is a handful of
elementwise operations. The result is that of the 8 x 8 filter (a test holds the two equal) without a matrix product.

Notation: ``mean`` float64 [N, 2, 4] holds positions (px) and velocities (px/s); ``covariance`` float64 [N, 3, 4] holds
var(position), cov(position, velocity), var(velocity) of each axis.

Noise scales with the height of the box, because a person's height in the picture is the ruler for the person's motion:
walking is about 0.8 heights a second whatever the zoom.
"""

import numpy as np

# In heights: what a detector's box jitters (std).
MEASUREMENT_NOISE = 0.05
# From this confidence down boxes jitter more: the variance grows as the confidence falls (after NSA, Du et al. 2021).
SURE_CONFIDENCE = 0.7
# Heights/s that people hardly exceed, twice that of walking; and what a newcomer's velocity may be (std), so that
# runners and cars are followed, too.
BRISK = 1.5
INITIAL_SPEED = np.array([1.6, 1.0, 0.1, 0.2])
# Random-walk intensity of the velocity, heights / s^1.5: how fast walking turns into standing or turning round.
ACCELERATION_NOISE = np.array([0.5, 0.35, 0.15, 0.15])
# Random-walk intensity of the position, heights / s^0.5: boxes breathe with limbs and partial occlusion.
POSITION_NOISE = np.array([0.09, 0.09, 0.06, 0.06])
# A box that grows does not go on growing: its size velocity dies out within about this time, s.
SIZE_MEMORY = 0.3


def measure(xyxy: np.ndarray) -> np.ndarray:
    """Corner boxes [N, 4] to centre boxes (cx, cy, w, h), float64 [N, 4]."""
    xyxy = np.asarray(xyxy, dtype=np.float64)
    size = xyxy[:, 2:] - xyxy[:, :2]
    return np.concatenate([xyxy[:, :2] + size / 2, size], axis=1)


def boxes(mean: np.ndarray) -> np.ndarray:
    """State means [N, 2, 4] to corner boxes [N, 4] in px; a size that shrank to nothing is held at one pixel."""
    centre, size = mean[:, 0, :2], np.maximum(mean[:, 0, 2:], 1.0)
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def initiate(measurement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [N, 2, 4] and covariance [N, 3, 4] of boxes seen for the first time, from centre boxes [N, 4]."""
    height = measurement[:, 3:4]
    mean = np.stack([measurement, np.zeros_like(measurement)], axis=1)
    position = np.broadcast_to((2 * MEASUREMENT_NOISE * height) ** 2, measurement.shape)
    covariance = np.stack([position, np.zeros_like(measurement), (INITIAL_SPEED * height) ** 2], axis=1)
    return mean, covariance


def predict(
    mean: np.ndarray, covariance: np.ndarray, seconds: float, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Move every filter ``seconds`` into the future. Returns new arrays of the same shapes.

    ``noise`` multiplies the standard deviations of the process noise (`motion_noise`).

    The velocity's random walk enters the position as its integral, so two steps of 0.1 s are one step of 0.2 s:
    dropped frames and low frame rates need no other settings.
    """
    height = np.maximum(mean[:, 0, 3:4], 1.0)
    acceleration = (noise * ACCELERATION_NOISE * height) ** 2
    drift = (noise * POSITION_NOISE * height) ** 2
    pp, pv, vv = covariance[:, 0], covariance[:, 1], covariance[:, 2]
    predicted_covariance = np.stack(
        [
            pp + 2 * seconds * pv + seconds**2 * vv + drift * seconds + acceleration * (seconds**3 / 3),
            pv + seconds * vv + acceleration * (seconds**2 / 2),
            vv + acceleration * seconds,
        ],
        axis=1,
    )
    return move(mean, seconds), predicted_covariance


def move(mean: np.ndarray, seconds: float) -> np.ndarray:
    """Where means [N, 2, 4] are after ``seconds``; the mean's part of `predict`."""
    position, velocity = mean[:, 0], mean[:, 1]
    moved = np.stack([position + seconds * velocity, velocity], axis=1)
    moved[:, 1, 2:] *= np.exp(-seconds / SIZE_MEMORY)
    return moved


def trust(confidence: np.ndarray) -> np.ndarray:
    """Weight [N], 0.1 to 1, of boxes of so much confidence [N] beside a sure one."""
    return np.clip(confidence / SURE_CONFIDENCE, 0.1, 1.0)


def place_deviation(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """How far filters may be off with the place, [N]: std along an axis of the picture, in body heights."""
    deviation: np.ndarray = np.sqrt(covariance[:, 0, :2].mean(axis=1)) / np.maximum(mean[:, 0, 3], 1.0)
    return deviation


def innovation(
    mean: np.ndarray, covariance: np.ndarray, measurement: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far centre boxes [N, 4] are from where they were predicted, and the variance expected of it, [N, 4] each."""
    noise = (MEASUREMENT_NOISE * np.maximum(measurement[:, 3:4], 1.0)) ** 2 / weight[:, None]
    return measurement - mean[:, 0], covariance[:, 0] + noise


def catch_up(covariance: np.ndarray, innovation: np.ndarray, before: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Make filters uncertain that lag behind, as when somebody turns round.

    Where a filter follows rightly, two innovations in a row have nothing in common but chance and what a detector errs
    alike (Mehra 1970). What they have in common beyond the errors of both boxes is added to the variance of the place,
    and all of the covariance along x and y grows with it (a fading memory: Zhou and Frank 1990).

    Parameters
    ----------
    covariance : ndarray [N, 3, 4]
        Of the filters.
    innovation, before : ndarray [N, 2]
        Along x and y, px, now and in the frame before; 0 where there was none.
    variance : ndarray [N]
        Of a box's error, px^2.

    Returns
    -------
    ndarray float64 [N, 3, 4]
        The covariance.
    """
    common = np.maximum((innovation * before).mean(axis=1) - 2 * variance, 0)
    wider = covariance.copy()
    wider[:, :, :2] *= (1 + common / covariance[:, 0, :2].mean(axis=1))[:, None, None]
    return wider


def update(
    mean: np.ndarray, covariance: np.ndarray, measurement: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correct every filter with its measured centre box [N, 4] in px. Returns new arrays of the same shapes.

    ``weight`` [N] is what the box is worth beside a sure one (`trust`).
    """
    pp, pv, vv = covariance[:, 0], covariance[:, 1], covariance[:, 2]
    surprise, variance = innovation(mean, covariance, measurement, weight)
    position_gain, velocity_gain = pp / variance, pv / variance
    corrected_mean = np.stack([mean[:, 0] + position_gain * surprise, mean[:, 1] + velocity_gain * surprise], 1)
    shrink = 1 - position_gain
    corrected_covariance = np.stack([shrink * pp, shrink * pv, vv - velocity_gain * pv], axis=1)
    return corrected_mean, corrected_covariance
