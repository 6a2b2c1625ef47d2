"""Made-up people for a teacher to describe: the student then copies what the teacher does, not some crops by heart.

A teacher can say something of any picture, so pictures need not be of anybody: two people's crops cut together at the
waist or laid over each other, in other colours ("function matching", Beyer et al. 2022, "Knowledge distillation: a good
teacher is patient and consistent").
"""

import cv2
import numpy as np

OUTFIT, OVERLAY, RECOLOUR = (
    0.6,
    0.15,
    0.5,
)  # shares of the pictures: one's top with another's legs, both at once; colours


def mix_crops(crops: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Make pictures of people that do not exist.

    Parameters
    ----------
    crops : ndarray, uint8 [N, H, W, 3]
        BGR, of whole people.
    count : int
        How many to make.
    random : numpy.random.Generator
        Source of chance.

    Returns
    -------
    ndarray, uint8 [count, H, W, 3]
    """
    mixed = np.empty((count, *crops.shape[1:]), dtype=np.uint8)
    heights = (np.arange(crops.shape[1]) + 0.5)[:, None, None] / crops.shape[1]
    for row in range(count):
        one, other = crops[random.integers(len(crops), size=2)]
        kind = random.random()
        if kind < OUTFIT:
            waist, softness = random.uniform(0.35, 0.6), 0.02
            share = 1 / (1 + np.exp((heights - waist) / softness))
        else:
            share = random.uniform(0.3, 0.7) if kind < OUTFIT + OVERLAY else 1.0
        picture = (share * one + (1 - share) * other).astype(np.uint8)
        if random.random() < RECOLOUR:
            hue, colourful = random.integers(180), random.uniform(0.3, 1.5)
            hsv = cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)
            hsv[..., 0] = (hsv[..., 0].astype(np.int64) + hue) % 180
            hsv[..., 1] = np.clip(hsv[..., 1] * colourful, 0, 255).astype(np.uint8)
            picture = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
        mixed[row] = picture
    return mixed
