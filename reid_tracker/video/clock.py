"""A true, increasing clock made of whatever timestamps a container gives."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

DAY = 86_400.0
"""A leap ahead of this many seconds means that the clock was set; a shorter one that nothing was recorded."""
AHEAD = 8
"""So many frames are looked ahead: a leap that one of them takes back was none."""

STANDS = 0.05
"""Of a nominal step: frames that are no further apart on average tell no time."""


class Clock(Generic[T]):
    """Gives each frame of one reading its time.

    A timestamp that a later frame takes back was wrong, and so is a missing or a repeated one: it is estimated from
    those beside it. Where the clock goes back for good or leaps by a day, it was set: time goes on with a nominal step.
    A shorter gap is one, and is kept. Where a run of frames lies within no time, as muxers write that were given an
    older time, the clock stood, and the frames are nominal steps apart.

    Parameters
    ----------
    rate : float
        Nominal frames per second.

    Attributes
    ----------
    repaired : int
        Timestamps that were estimated.
    sets : int
        How often the clock was set.
    first_set : int
        Index of the first frame after that.
    """

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate
        self._raw: float | None = None  # the last timestamp that was believed
        self._offset = 0.0  # from timestamps to times
        self._time = 0.0  # given last
        self._stood = False
        self.repaired = self.sets = self.first_set = 0

    def run(self, frames: Iterable[tuple[int, float | None, T]]) -> Iterator[tuple[int, float, T]]:
        """Yield each frame (index, seconds or None, anything) with its time in s, strictly increasing."""
        waiting: deque[tuple[int, float | None, T]] = deque()
        for frame in frames:
            waiting.append(frame)
            if len(waiting) > AHEAD:
                yield self._next(waiting)
        while waiting:
            yield self._next(waiting)

    def _next(self, waiting: deque[tuple[int, float | None, T]]) -> tuple[int, float, T]:
        index, raw, anything = waiting.popleft()
        ahead = [each for _, each, _ in waiting if each is not None]
        if self._raw is None:
            self._begin(raw, ahead)
        else:
            time = self._tell(index, raw, self._raw, ahead)
            # An estimate before it may have been too late.
            self._time = time if time > self._time else self._time + self._step / 2
        return index, self._time, anything

    def _begin(self, raw: float | None, ahead: list[float]) -> None:
        """The first frame's time is its timestamp; 0 where that is missing or one that follows is earlier."""
        if raw is None or any(each < raw for each in ahead):
            self.repaired += 1
            raw = min(ahead, default=0.0) - self._step
            self._offset = -raw
        self._raw, self._time = raw, raw + self._offset

    def _tell(self, index: int, raw: float | None, before: float, ahead: list[float]) -> float:
        """The time of a later frame, by its timestamp, the last one believed and those of the next frames."""
        sound = [each for each in ahead if before < each < before + DAY]
        leaps = raw is None or not before < raw < before + DAY or any(each < raw for each in sound)
        if not leaps and raw is not None:
            self._raw = raw
            span = (max([raw, *ahead]) - before) / (1 + len(ahead))
            self._stood = span < STANDS * self._step and (self._stood or len(ahead) == AHEAD)
            if self._stood:
                self.repaired += 1
                self._offset = self._time + self._step - raw
            return raw + self._offset
        if raw is None or raw == before or sound:
            self.repaired += 1
            following = min(sound, default=before + 2 * self._step)
            return self._time + min(self._step, (following - before) / 2)
        self.first_set = self.first_set if self.sets else index
        self.sets += 1
        self._raw, self._offset = raw, self._time + self._step - raw
        return self._time + self._step
