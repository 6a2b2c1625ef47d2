"""How far a run is, in lines for a log: where no terminal shows a bar."""

import sys
import time

FIRST_SECONDS, MOST_SECONDS = 2.0, 60.0  # between two lines: each wait is twice the one before


class ProgressLines:
    """Prints a line at the beginning of a task, and now and then while it runs.

    Parameters
    ----------
    unit : str
        What is counted.
    """

    def __init__(self, unit: str = "frame") -> None:
        self._unit = unit
        self._tasks: dict[object, tuple[float, float, float]] = {}  # begun, next line, wait after that, s

    def advance(self, task: object, name: str, done: int, total: int | None) -> None:
        """Take note of how far a task is; several may run at a time."""
        now = time.monotonic()
        began, due, wait = self._tasks.get(task, (now, now, FIRST_SECONDS))
        if now < due:
            return
        text = f"{name}: {self._unit} {done}" + (f" of {total}" if total else "")
        seconds = now - began
        if seconds > 0 and done > 1:
            rate = (done - 1) / seconds
            text += f", {rate:.1f} a second"
            if total and total >= done:
                text += f", {_clock((total - done) / rate)} left"
        print(text, file=sys.stderr, flush=True)
        self._tasks[task] = began, now + wait, min(2 * wait, MOST_SECONDS)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
