"""What bad cameras do to videos, at severities 1 to 5: a seeded choice for each frame's number, whatever came before.

Blurs and low light are those of `corruptions`, with new chances in each frame; the others take their course in time.
"""

import zlib

import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.evaluation.corruptions import SEVERITIES, corrupt, from_light, to_light

# Kind: its strength at each severity.
VIDEO_CORRUPTIONS: dict[str, tuple[float, ...]] = {
    "motion_blur": (),
    "defocus": (),
    "low_light": (),
    "light_change": (1.5, 2.2, 3.2, 5, 8),  # the light is this much less, then as it was, then this much more
    "flicker": (0.2, 0.4, 0.6, 0.9, 1.3),  # logarithm of the exposure, up or down, from frame to frame
    "moving_shadow": (0.5, 0.33, 0.2, 0.12, 0.06),  # share of the light within it
    "dropped_frames": (0.1, 0.2, 0.3, 0.45, 0.6),  # share of them
    "low_fps": (2, 3, 4, 6, 8),  # one frame of so many
    "camera_shake": (0.03, 0.06, 0.1, 0.15, 0.25),  # deviation, as a share of a person's height
}
BLUR_AND_LIGHT = ("motion_blur", "defocus", "low_light", "light_change", "flicker", "moving_shadow")
LIGHT_SECONDS, SHADOW_SECONDS = 3.0, 8.0  # between changes of light; for a shadow to cross the picture
SHAKE_HERTZ = (0.7, 1.9, 4.3)  # a hand's


class VideoCorruption:
    """One kind at one severity.

    Parameters
    ----------
    kind : str
        One of `VIDEO_CORRUPTIONS`, or "clean".
    severity : int
        1 (slight) to 5 (hardly usable).
    person_height : float
        How tall people are, px: blur and shake go by it.
    seed : int
        Same seed, same frame: same picture.

    Raises
    ------
    UserError
        If the kind is not known or the severity is not 1 to 5.
    """

    def __init__(self, kind: str, severity: int, person_height: float, seed: int = 0) -> None:
        if kind not in (*VIDEO_CORRUPTIONS, "clean"):
            raise UserError(f"corruption {kind!r} is not known; choose of {', '.join(VIDEO_CORRUPTIONS)}.")
        if severity not in SEVERITIES:
            raise UserError(f"severity {severity} is not possible; choose 1 to 5.")
        self.kind, self.severity, self.person_height, self.seed = kind, severity, person_height, seed
        strengths = VIDEO_CORRUPTIONS.get(kind)
        self._strength = strengths[severity - 1] if strengths else 0.0

    def keeps(self, position: int) -> bool:
        """Whether the frame at this place among those read, from 0, is there at all; the first always is."""
        if self.kind == "low_fps":
            return position % int(self._strength) == 0
        return self.kind != "dropped_frames" or position == 0 or self._random(position).random() >= self._strength

    def shift(self, timestamp: float) -> np.ndarray:
        """How far the picture is from its place at a time in s, [2] in px: right, down."""
        if self.kind != "camera_shake":
            return np.zeros(2)
        phases = self._random(0).uniform(0, 2 * np.pi, (2, len(SHAKE_HERTZ)))
        waves = np.sin(2 * np.pi * np.array(SHAKE_HERTZ) * timestamp + phases)
        return np.asarray(self._strength * self.person_height * np.sqrt(2 / len(SHAKE_HERTZ)) * waves.sum(axis=1))

    def apply(self, image: np.ndarray, index: int, timestamp: float) -> np.ndarray:
        """Corrupt a frame.

        Parameters
        ----------
        image : ndarray, uint8 [H, W, 3]
            BGR; left as it is.
        index : int
            Number of the frame.
        timestamp : float
            Its time, s.

        Returns
        -------
        ndarray, uint8 [H, W, 3]
        """
        strength = self._strength
        if self.kind == "camera_shake":
            matrix = np.hstack([np.eye(2), self.shift(timestamp)[:, None]])
            return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        if self.kind == "light_change":
            power = (0, -1, 0, 1)[int(timestamp / LIGHT_SECONDS) % 4]
            return from_light(to_light(image) * strength**power) if power else image
        if self.kind == "flicker":
            return from_light(to_light(image) * np.exp(self._random(index).uniform(-strength, strength)))
        if self.kind == "moving_shadow":  # a slanted band a third of the picture wide
            y, x = np.ogrid[0 : 1 : image.shape[0] * 1j, 0 : 1 : image.shape[1] * 1j]
            centre = 1.8 * (timestamp / SHADOW_SECONDS % 1) - 0.4
            lit = np.clip((np.abs(x + 0.3 * (y - 0.5) - centre) - 1 / 6) / 0.05 + 0.5, 0, 1).astype(np.float32)
            return from_light(to_light(image) * (strength + (1 - strength) * lit)[..., None])
        if VIDEO_CORRUPTIONS.get(self.kind) == ():
            return corrupt(image, self.kind, self.severity, self._random(index), self.person_height)
        return image

    def _random(self, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.kind.encode()), self.severity, number])
