"""Decoded pictures as they are meant to be seen: upright, not mirrored, with square pixels."""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

MOST_OBLONG = 4.0
"""Pixels said to be longer than this are taken for square: no camera has them."""


class Upright:
    """Brings the pictures of one stream upright; an orientation holds until the stream tells another.

    Parameters
    ----------
    stream : av.VideoStream
        Its pixels' shape counts.
    """

    def __init__(self, stream: Any) -> None:
        aspect = float(stream.sample_aspect_ratio or 1)
        self._aspect = aspect if 1 / MOST_OBLONG <= aspect <= MOST_OBLONG else 1.0
        self._matrix: tuple[int, int, int, int] = (1, 0, 0, 1)
        self._rotation, self._was_key = 0, False
        # One for all pictures: PyAV would give each its own, with threads that live as long as the picture.
        self._colours, self._lock = VideoReformatter(), Lock()

    def __call__(self, picture: Any) -> Callable[[], np.ndarray]:
        """What gives the pixels of the next picture (``av.VideoFrame``), uint8 [H, W, 3], BGR."""
        # A picture that was asked for its side data lives until Python's collector finds it: its parts refer to it. So
        # only those are asked that may tell something new: key pictures, the next ones, and where it is turned.
        if picture.rotation != self._rotation or bool(picture.key_frame) != self._was_key:
            told = picture.side_data.get(Type.DISPLAYMATRIX)
            if told is not None:
                a, b, _, c, d = np.frombuffer(bytes(told), np.int32)[:5].tolist()
                self._matrix = (a, b, c, d)
        self._rotation, self._was_key = picture.rotation, bool(picture.key_frame)
        return partial(self._turn, picture, self._matrix)

    def _turn(self, picture: Any, matrix: tuple[int, int, int, int]) -> np.ndarray:
        with self._lock:
            plain = self._colours.reformat(picture, format="bgr24", threads=1)  # decoding takes the others
        return _turn(plain.to_ndarray(), matrix, self._aspect)


def _turn(image: np.ndarray, matrix: tuple[int, int, int, int], aspect: float) -> np.ndarray:
    """Pixels upright; a point (x, y) is shown at (a x + c y, b x + d y), as a container's display matrix says."""
    a, b, c, d = matrix
    if abs(aspect - 1) > 0.005:  # to the larger side, so that no detail is lost
        height, width = image.shape[:2]
        size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = cv2.transpose(image), c, b
    if a < 0 or d < 0:
        image = cv2.flip(image, {(True, True): -1, (True, False): 1, (False, True): 0}[a < 0, d < 0])
    return image


def fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """A picture of another size, scaled to lie in one of this size, black beside it."""
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    image = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    return cv2.copyMakeBorder(
        image, top, height - inner[1] - top, left, width - inner[0] - left, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )
