"""What bad cameras do to pictures, at severities 1 to 5: how far does a network hold when they do?

The kinds follow ImageNet-C (Hendrycks & Dietterich 2019) where it has them; light is scaled in linear light, as a lens
or a shorter exposure would.
"""

from collections.abc import Callable

import cv2
import numpy as np

from reid_tracker.errors import UserError


def corrupt(
    image: np.ndarray, kind: str, severity: int, random: np.random.Generator, person_height: float | None = None
) -> np.ndarray:
    """Corrupt a picture; the same generator state gives the same result.

    Parameters
    ----------
    image : ndarray, uint8 [H, W, 3]
        BGR, a crop or a frame; left as it is.
    kind : str
        One of `CORRUPTIONS`.
    severity : int
        1 (slight) to 5 (hardly usable).
    random : Generator
        Decides what the kind leaves open: angle, place, noise.
    person_height : float, optional
        How tall a person is in pixels, which the blurs go by. Default: the picture's height,
        right for a crop.

    Returns
    -------
    ndarray, uint8 [H, W, 3]

    Raises
    ------
    UserError
        If the kind is not known or the severity is not 1 to 5.
    """
    if kind not in CORRUPTIONS:
        raise UserError(f"corruption {kind!r} is not known; choose one of {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise UserError(f"severity {severity} is not possible; choose 1 to 5.")
    function, strengths = CORRUPTIONS[kind]
    height = person_height or image.shape[0]
    return function(image, strengths[severity - 1], random, height)


def _motion_blur(image: np.ndarray, length: float, random: np.random.Generator, height: float) -> np.ndarray:
    """Mean along a line of random direction; `length` as a share of a person's height."""
    reach = max(length * height, 1) / 2
    angle = random.uniform(0, np.pi)
    centre = int(np.ceil(reach))
    kernel = np.zeros((2 * centre + 1, 2 * centre + 1), dtype=np.float32)
    step = np.array([np.cos(angle), np.sin(angle)]) * reach
    ends = [tuple(int(v) for v in np.rint(16 * (centre + sign * step))) for sign in (-1, 1)]  # in sixteenths of a pixel
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA, shift=4)
    return _convolve(image, kernel)


def _defocus(image: np.ndarray, radius: float, random: np.random.Generator, height: float) -> np.ndarray:
    """Mean over a disc, the picture of a point out of focus; `radius` as a share of a person's height."""
    reach = radius * height
    across = np.arange(-int(np.ceil(reach)), int(np.ceil(reach)) + 1)
    distance = np.hypot(across[:, None], across)
    return _convolve(image, np.clip(reach + 0.5 - distance, 0, 1).astype(np.float32))


def _convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _low_light(image: np.ndarray, exposure: float, random: np.random.Generator, height: float) -> np.ndarray:
    """A share of the light, with the noise of few photons (600 from a white pixel in full light) and of the sensor."""
    photons = 600 * exposure * to_light(image)
    deviation = np.sqrt(photons + 1.5**2)  # a photon count varies by its root
    return from_light((photons + deviation * random.standard_normal(image.shape, dtype=np.float32)) / 600)


def _over_exposure(image: np.ndarray, exposure: float, random: np.random.Generator, height: float) -> np.ndarray:
    """A multiple of the light: what was bright is white, and its detail is lost."""
    return from_light(to_light(image) * exposure)


def _shadow(image: np.ndarray, light: float, random: np.random.Generator, height: float) -> np.ndarray:
    """A band of random place and direction that only this share of the light reaches, with a soft edge."""
    rows, columns = image.shape[:2]
    angle, place, width = random.uniform(0, np.pi), random.uniform(0.3, 0.7), random.uniform(0.4, 0.7)
    y, x = np.ogrid[-0.5 : 0.5 : rows * 1j, -0.5 : 0.5 : columns * 1j]
    across = np.abs(np.cos(angle) * x + np.sin(angle) * y + 0.5 - place)
    lit = np.clip((across - width / 2) / 0.05 + 0.5, 0, 1).astype(np.float32)
    return from_light(to_light(image) * (light + (1 - light) * lit)[..., None])


def _contrast(image: np.ndarray, share: float, random: np.random.Generator, height: float) -> np.ndarray:
    """Values drawn towards the picture's mean, as in haze."""
    return _to_uint8((image - image.mean()) * share + image.mean())


def _noise(image: np.ndarray, deviation: float, random: np.random.Generator, height: float) -> np.ndarray:
    """Normal noise of this standard deviation (of 0..1) in each channel."""
    return _to_uint8(image + 255 * deviation * random.standard_normal(image.shape, dtype=np.float32))


def _jpeg(image: np.ndarray, quality: int, random: np.random.Generator, height: float) -> np.ndarray:
    """Compressed to this JPEG quality and back."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))


_VALUES = np.arange(256, dtype=np.float32) / 255
_LIGHT = np.where(_VALUES <= 0.04045, _VALUES / 12.92, ((_VALUES + 0.055) / 1.055) ** 2.4)


def to_light(image: np.ndarray) -> np.ndarray:
    """Linear light 0..1 by the sRGB curve."""
    return _LIGHT[image]


def from_light(light: np.ndarray) -> np.ndarray:
    """Picture of linear light; what is brighter than white is white."""
    light = np.clip(light, 0, 1)
    return _to_uint8(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


SEVERITIES = (1, 2, 3, 4, 5)

# Kind: (function, its strength at each severity)
CORRUPTIONS: dict[str, tuple[Callable[..., np.ndarray], tuple[float, ...]]] = {
    "motion_blur": (_motion_blur, (0.03, 0.05, 0.08, 0.11, 0.15)),
    "defocus": (_defocus, (0.01, 0.018, 0.027, 0.038, 0.05)),
    "low_light": (_low_light, (0.4, 0.22, 0.12, 0.07, 0.04)),
    "over_exposure": (_over_exposure, (1.6, 2.4, 3.5, 5, 8)),
    "shadow": (_shadow, (0.5, 0.33, 0.2, 0.12, 0.06)),
    "contrast": (_contrast, (0.7, 0.5, 0.35, 0.22, 0.12)),
    "noise": (_noise, (0.03, 0.05, 0.08, 0.12, 0.17)),
    "jpeg": (_jpeg, (40, 25, 15, 10, 7)),
}
