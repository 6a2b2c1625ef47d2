"""The size at which a detector looks, chosen for the video: by its picture and by how tall the people in it are.

A detector of this family finds most of what it ever finds once people are about `ENOUGH` px tall in its input. Smaller
ones are missed more and more often; beyond it, more pixels take time, and at the same confidence bring false boxes. So
the size is the smallest one of a few at which three of four people are that tall, and never one that enlarges the
picture, but for the model's own.

There are no tiles: on frames of 1920 px a tile's edges cost more people than its pixels find (docs/benchmarks.md), so
large pictures are seen whole, at larger sizes.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Speed = Literal["auto", "fast", "accurate"]

ENOUGH = 90.0  # px of height in the network's input
MARGIN = 1.1  # a size is left for a smaller one only if people are so much taller there than needed
CONFIDENT = 0.4  # boxes from here on are people, and tell how tall people are
LOOKS, EVERY = 10, 25  # frames at the largest size: the first ones, and then each of so many
KEPT = 300  # heights remembered
STEPS: dict[Speed, tuple[float, ...]] = {
    "fast": (0.7, 1.0),
    "auto": (1.0, 1.25, 1.5),
    "accurate": (1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 3.0, 4.0),
}
"""The sizes to choose from, as multiples of the size that the model was made for (640 px: 448 to 2560)."""
SHARP, LARGE = 0.75, 2.0
"""Sizes beyond LARGE times the model's own go up to the share SHARP of the picture's: video holds no more detail."""


@dataclass
class _Video:
    """What was seen in pictures of one shape."""

    sizes: list[int]
    size: int
    frames: int = 0
    heights: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    used: Counter[int] = field(default_factory=Counter)


class FittingSize:
    """Chooses a size for each frame; pictures of different shapes, as of several cameras, are kept apart.

    Parameters
    ----------
    own : int
        Longer side of the input that the model was made for, px.
    stride : int
        Sizes are multiples of it.
    speed : {"auto", "fast", "accurate"}
        Which sizes there are to choose from.
    """

    def __init__(self, own: int, stride: int = 32, speed: Speed = "auto") -> None:
        self._own = own
        self._sizes = [max(round(step * own / stride), 1) * stride for step in STEPS[speed]]
        self._videos: dict[tuple[int, int], _Video] = {}
        self._seconds: dict[int, deque[float]] = {}
        self.budget = float("inf")
        """Seconds that a frame may take; sizes that turn out to take longer are not used again."""

    def restart(self) -> None:
        """Begin another video: nothing of the one before counts."""
        self._videos.clear()

    def size(self, height: int, width: int) -> int:
        """The size for the next frame of this shape, px."""
        video = self._of(height, width)
        is_look = video.frames < LOOKS or video.frames % EVERY == 0
        return self._affordable(video, video.sizes[-1] if is_look else video.size)

    def learn(self, height: int, width: int, size: int, boxes: np.ndarray, seconds: float) -> None:
        """Take over what was found at this size.

        Parameters
        ----------
        height, width : int
            The frame's shape, px.
        size : int
            What `size` gave.
        boxes : ndarray [N, 6]
            xyxy in px of the frame, confidence, class.
        seconds : float
            What it took.
        """
        video = self._of(height, width)
        video.frames += 1
        video.used[size] += 1
        self._seconds.setdefault(size, deque(maxlen=LOOKS)).append(seconds)
        if size == self._affordable(video, video.sizes[-1]):  # a smaller size does not see the smaller ones
            video.heights.extend((boxes[:, 3] - boxes[:, 1])[boxes[:, 4] >= CONFIDENT].tolist())
            if video.heights:
                video.size = self._fitting(video, max(height, width))

    @staticmethod
    def _fitting(video: _Video, side: int) -> int:
        """The smallest size at which three of four people are tall enough; ``side`` is the picture's longer one, px."""
        tall = float(np.percentile(video.heights, 25)) / side
        needed = ((each, ENOUGH * (1.0 if each >= video.size else MARGIN)) for each in video.sizes)
        return next((each for each, enough in needed if tall * each >= enough), video.sizes[-1])

    def describe(self) -> list[str]:
        """A sentence for each shape of picture about the size that most of its frames were looked at."""
        return [
            f"The detector looked at {video.used.most_common(1)[0][0]} px for pictures of {width}x{height}."
            for (height, width), video in self._videos.items()
            if video.used and video.used.most_common(1)[0][0] != max(height, width)  # as it is: nothing to tell
        ]

    def _of(self, height: int, width: int) -> _Video:
        if (height, width) not in self._videos:
            side = max(height, width)
            whole = [each for each in self._sizes if each <= (side if each <= LARGE * self._own else SHARP * side)]
            sizes = whole or self._sizes[:1]
            self._videos[height, width] = _Video(sizes, sizes[-1])
        return self._videos[height, width]

    def _affordable(self, video: _Video, wanted: int) -> int:
        """The largest size up to this one that is not known to take too long; else the smallest."""
        sizes = [each for each in video.sizes if each <= wanted]
        slow = {each for each, took in self._seconds.items() if len(took) == LOOKS and np.median(took) > self.budget}
        return next((each for each in reversed(sizes) if each not in slow), sizes[0])
