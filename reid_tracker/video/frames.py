"""A source of frames: cut to a range, with true times; what films and folders of pictures have in common."""

import math
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.motchallenge import MOST_FRAMES
from reid_tracker.video.clock import Clock
from reid_tracker.video.upright import fit

DEFAULT_FPS = 25.0
"""Frames per second of a folder of pictures unless stated otherwise."""
LONGEST = 40  # characters of a frame's number or a time: hundreds of digits make an infinite one
# One frame as a reader sees it: index, seconds (None: not told), and how to get its pixels if they are wanted.
Load = Callable[[], np.ndarray | None]
Read = tuple[int, float | None, Load]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source.

    Attributes
    ----------
    image : ndarray, uint8 [H, W, 3], BGR, or None
        The pixels, upright; None when the sequence comes without pixels.
    index : int
        Number of the frame in its source, from 0; MOTChallenge text writes ``index + 1``.
    timestamp : float
        Seconds since the source's first frame, by the source's own clock; strictly increasing.
    """

    image: np.ndarray | None
    index: int
    timestamp: float


class UnreadableError(Exception):
    """One picture of a folder cannot be decoded."""


@dataclass(frozen=True)
class Cut:
    """Which frames are wanted: inclusive bounds by index and by time, then every ``stride``-th."""

    first_index: float = 0
    last_index: float = math.inf
    first_time: float = -math.inf
    last_time: float = math.inf
    stride: int = 1

    @classmethod
    def parse(cls, start: str | int | None, end: str | int | None, stride: int) -> "Cut":
        """From what a user wrote; UserError where that is impossible."""
        if not 1 <= stride <= MOST_FRAMES:
            raise UserError(f"stride {stride}: must be between 1 (every frame) and {MOST_FRAMES}.")
        first, last = parse_bound(start, "start"), parse_bound(end, "end")
        if first and last and type(first) is type(last) and first > last:
            raise UserError(f"start {start} lies after end {end}; swap them.")
        bounds: dict[str, float] = {}
        # Numbers are 1-based. Times get a microsecond of grace: 12.5 s of a 1/30 s clock is not exactly 12.5.
        for name, bound, grace in (("first", first, -1e-6), ("last", last, 1e-6)):
            if isinstance(bound, int):
                bounds[f"{name}_index"] = bound - 1
            elif bound is not None:
                bounds[f"{name}_time"] = bound + grace
        return cls(stride=stride, **bounds)

    def contains(self, index: Any, timestamp: Any) -> Any:
        """Whether frames lie inside the bounds; scalars or arrays."""
        return (
            (self.first_index <= index)
            & (index <= self.last_index)
            & (self.first_time <= timestamp)
            & (timestamp <= self.last_time)
        )

    def is_past(self, index: int, timestamp: float) -> bool:
        """Whether nothing wanted can follow."""
        return index > self.last_index or timestamp > self.last_time

    def count(self, indices: np.ndarray, timestamps: np.ndarray) -> int:
        """How many of these frames are taken."""
        return math.ceil(np.count_nonzero(self.contains(indices, timestamps)) / self.stride)

    def count_of(self, frames: int, rate: float) -> int:
        """How many are taken of so many frames at even steps."""
        first = max(self.first_index, math.ceil(max(self.first_time, 0.0) * rate), 0)
        last = min(self.last_index, frames - 1, self.last_time * rate)
        return max(math.ceil((math.floor(last) - first + 1) / self.stride), 0)


class Source:
    """The frames of one video, folder or sequence; iterate as often as wanted, each time from the start.

    Attributes
    ----------
    name : str
        Stem of the file or name of the folder: what output files are called.
    width, height : int
        Size of the upright picture in pixels.
    frame_rate : float
        Nominal frames per second after the stride.
    frame_count : int or None
        Number of frames expected, None when unknown. A damaged file gives fewer, a variable rate may give others.
    has_pixels : bool
        Whether frames carry an image.
    notes : list of str
        Sentences for the user. Some are known at once, others (damage, repaired times) after reading.
    corrupt_frames : int
        Frames that were damaged or lost in the last reading.
    corrupt_after : int or None
        Number (from 1) of the last sound frame before the first damage, 0 when the very first was hit.
    """

    def __init__(self, name: str, rate: float, cut: Cut) -> None:
        self.name = name
        self.width = self.height = 0
        self.frame_rate = rate / cut.stride
        self.frame_count: int | None = None
        self.has_pixels = True
        self.notes: list[str] = []
        self.corrupt_frames = 0
        self.corrupt_after: int | None = None
        self._rate = rate
        self._cut = cut
        self._other_sizes: list[tuple[int, ...]] = []

    def __iter__(self) -> Iterator[Frame]:
        self.corrupt_frames, self.corrupt_after = 0, None
        position, index, clock = 0, -1, Clock[Load](self._rate)
        frames = self._read()
        try:
            for index, timestamp, load in clock.run(frames):
                if self._cut.is_past(index, timestamp):
                    break
                if not self._cut.contains(index, timestamp):
                    continue
                position += 1
                if (position - 1) % self._cut.stride:
                    continue
                try:
                    image = load()
                except UnreadableError:
                    self._add_damage(index)
                    continue
                if image is not None and image.shape[:2] != (self.height, self.width):
                    image = self._take_other_size(index, image)
                yield Frame(image, index, timestamp)
        finally:
            frames.close()
            if self.corrupt_frames:
                lost = f"{self.corrupt_frames} damaged frame{'s' * (self.corrupt_frames > 1)}"
                self._note(f"{self.name}: {lost}, the first after frame {self.corrupt_after}.")
            if clock.repaired:
                self._note(f"{self.name}: {clock.repaired} frames had no increasing timestamp; theirs were estimated.")
            if clock.sets:
                times = "" if clock.sets == 1 else f" and {clock.sets - 1} times later"
                self._note(f"{self.name}: its clock was set after frame {clock.first_set}{times}; time goes on evenly.")
        if position == 0:
            raise UserError(self.describe_nothing_wanted(f"looked at up to frame {index + 1}"))

    def _read(self) -> Generator[Read, None, None]:
        raise NotImplementedError

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _add_damage(self, index: int, count: int = 1) -> None:
        """Count frames from ``index`` on as damaged."""
        self.corrupt_frames += count
        self.corrupt_after = index if self.corrupt_after is None else self.corrupt_after

    def _take_other_size(self, index: int, image: np.ndarray) -> np.ndarray:
        """Go on with a picture of another size than those before."""
        before = f"{self.width}x{self.height}"
        if image.shape not in self._other_sizes:
            self._other_sizes.append(image.shape)
            self._note(
                f"{self.name}: from frame {index + 1} on the picture is {image.shape[1]}x{image.shape[0]} instead of "
                f"{before}; it is scaled to that."
            )
        return fit(image, self.width, self.height)

    def describe_nothing_wanted(self, extent: str) -> str:
        """The error of a range in which no frame lies."""
        return f"{self.name}: no frame lies between start and end ({extent})."


def parse_bound(value: str | int | None, name: str) -> int | float | None:
    """Read a frame number (int, from 1) or a time (float, seconds)."""
    if value is None:
        return None
    text = str(value).strip()
    if text.isdecimal() and len(text) < LONGEST:
        if int(text) < 1:
            raise UserError(f"{name} {value}: frame numbers begin at 1.")
        return int(text)
    match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)(s?)", text)
    if not match or not (match[4] or match[2]) or len(text) > LONGEST:
        raise UserError(f'{name} {value}: give a frame number (100), seconds ("12.5s") or a clock time ("1:30").')
    hours, minutes, seconds = (float(part or 0) for part in match.groups()[:3])
    return hours * 3600 + minutes * 60 + seconds
