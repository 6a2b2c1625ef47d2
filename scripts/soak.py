"""Memory and CPU time per frame of a live run over hours, with a fresh crowd of identities in each loop of its input.

    python scripts/soak.py VIDEO [--minutes 60] [--frames 100]

The first --frames frames of VIDEO are played over and over at full speed, each time in other colours, so that everyone
looks new; a client watches the page. A line a minute; at the end the two figures that must stay flat: memory after the
first 5 minutes and at the end, CPU time (of all threads) per frame in the first and in the last 5 minutes. A machine
that others share is faster at times; so at last a new run and the old one take turns.
"""

import argparse
import json
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from resident import memory
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from reid_tracker.config import LiveConfig
from reid_tracker.live.events import EventLog
from reid_tracker.live.loop import LiveLoop
from reid_tracker.live.outputs import Outputs
from reid_tracker.live.people import People
from reid_tracker.live.server import Page, listen
from reid_tracker.pipeline.models import Models
from reid_tracker.tracking.memory import IdentityMemory
from reid_tracker.video.frames import Frame
from reid_tracker.video.sources import open_source

WINDOW = 5  # minutes that are compared
TURN, TURNS = 10, 12  # s that the old run and a new one have in turn, and how often


class Loop:
    """A camera that always has the next picture of an endless film."""

    name, status, error = "soak", "live", ""

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self._pictures = pictures
        self._index = 0

    def take(self) -> tuple[Frame, float]:
        """Give the next picture, in this turn's colours."""
        turn, place = divmod(self._index, len(self._pictures))
        if place == 0:
            random = np.random.default_rng(turn)
            self._hue, self._mix = random.integers(180), random.uniform(0.6, 1.4, 3)
        hsv = cv2.cvtColor(self._pictures[place], cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + self._hue) % 180
        hsv[..., 1] = cv2.add(hsv[..., 1], 60)  # dull clothes have no hue to turn
        image = np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR) * self._mix, 0, 255).astype(np.uint8)
        now = time.monotonic()
        frame = Frame(image, self._index, now)
        self._index += 1
        return frame, now


def watch(port: int, stopping: threading.Event) -> None:
    """Confirm every picture, as a browser does."""
    with suppress(ConnectionClosed), connect(f"ws://127.0.0.1:{port}/socket", max_size=None) as client:
        while not stopping.is_set():
            message = client.recv()
            client.send("-1" if isinstance(message, str) else str(message[0]))


class Run:
    """A live loop with a page and somebody who watches it."""

    def __init__(self, pictures: list[np.ndarray], config: LiveConfig, models: tuple[Any, ...]) -> None:
        detector, embedder, statistics = models
        camera = Loop(pictures)
        self.events, self.dormant, self._stopping = EventLog(), IdentityMemory(), threading.Event()
        self.people = People(config.people, config.tracker.return_seconds, self.events.add)
        listener = listen("127.0.0.1", 0)
        self._page = Page(listener, "", self.people, self.events, lambda: [])
        self._outputs = Outputs([camera.name], config.output, self.people.label, [self._page.show])
        put = self._outputs.put
        self._loop = LiveLoop([camera], detector, embedder, config, self.people, put, statistics, self.dormant)
        address = listener.getsockname()[1], self._stopping
        threading.Thread(target=watch, args=address, daemon=True).start()

    def go_on(self, seconds: float) -> np.ndarray:
        """Run for so long; processor time of all threads in s, and frames."""
        start, used, frames = time.monotonic(), time.process_time(), 0
        while time.monotonic() < start + seconds:
            frames += self._loop.step()
        return np.array([time.process_time() - used, frames])

    def close(self) -> None:
        """End it."""
        self._stopping.set()
        self._outputs.close()
        self._page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--frames", type=int, default=100)
    arguments = parser.parse_args()
    config = LiveConfig()
    found = Models(config)
    models = (found.detector(), *found.embedder())
    pictures = [frame.image for frame in open_source(arguments.video, end=arguments.frames)]
    old = Run(pictures, config, models)
    resident, cpu = [], []
    print(f"{'minute':>6}{'frames':>8}{'fps':>7}{'CPU ms a frame':>16}{'memory MiB':>12}{'people':>8}{'dormant':>9}")
    for minute in range(1, arguments.minutes + 1):
        cpu.append(old.go_on(60))
        resident.append(memory("VmRSS"))
        used, frames = cpu[-1]
        figures = f"{minute:>6}{frames:>8.0f}{frames / 60:>7.1f}{1000 * used / frames:>16.1f}{resident[-1]:>12.0f}"
        print(f"{figures}{old.people.total:>8}{len(old.dormant):>9}", flush=True)
    first, last = (milliseconds(sum(part)) for part in (cpu[:WINDOW], cpu[-WINDOW:]))
    early, late = resident[min(WINDOW, len(resident)) - 1], resident[-1]
    print(f"memory MiB: {early:.0f} after {WINDOW} minutes, {late:.0f} at the end ({100 * (late / early - 1):+.1f} %)")
    print(f"CPU ms a frame: {first:.1f} first, {last:.1f} last ({100 * (last / first - 1):+.1f} %)")
    young = Run(pictures, config, models)
    turns = [(old.go_on(TURN), young.go_on(TURN)) for _ in range(TURNS)]
    aged, fresh = (milliseconds(sum(part)) for part in zip(*turns, strict=True))
    ratios = [milliseconds(one) / milliseconds(other) for one, other in turns]
    print(
        f"CPU ms a frame, in turns of {TURN} s: {aged:.1f} old run, {fresh:.1f} new run beside it "
        f"({100 * (aged / fresh - 1):+.1f} %; median of the turns {100 * (np.median(ratios) - 1):+.1f} %)"
    )
    print("events: " + json.dumps(old.events.counts))
    old.close()
    young.close()


def milliseconds(part: np.ndarray) -> float:
    """Milliseconds a frame of what `Run.go_on` gave."""
    return float(1000 * part[0] / part[1])


if __name__ == "__main__":
    main()
