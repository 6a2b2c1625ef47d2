"""Memory and CPU time per frame of a live run over hours, with a fresh crowd of identities in each loop of its input.

    python scripts/soak.py VIDEO [--minutes 60] [--frames 100]

The first --frames frames of VIDEO are played over and over at full speed, each time in other colours, so that everyone
looks new; a client watches the page. A line a minute; at the end the two figures that must stay flat: memory after the
first 5 minutes and at the end, CPU time (of all threads) per frame in the first and in the last 5 minutes.
"""

import argparse
import json
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from resident import memory
from websockets.sync.client import connect

from reid_tracker.config import LiveConfig
from reid_tracker.live.events import EventLog
from reid_tracker.live.loop import LiveLoop
from reid_tracker.live.outputs import Outputs
from reid_tracker.live.people import People
from reid_tracker.live.server import Page, listen
from reid_tracker.pipeline import Models
from reid_tracker.tracking.memory import IdentityMemory
from reid_tracker.video.sources import Frame, open_source

WINDOW = 5  # minutes that are compared


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
    with connect(f"ws://127.0.0.1:{port}/socket", max_size=None) as client:
        while not stopping.is_set():
            message = client.recv()
            client.send("-1" if isinstance(message, str) else str(message[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--frames", type=int, default=100)
    arguments = parser.parse_args()
    config = LiveConfig()
    models = Models(config)
    detector, (embedder, statistics) = models.detector(), models.embedder()
    camera = Loop([frame.image for frame in open_source(arguments.video, end=arguments.frames)])
    events, dormant = EventLog(), IdentityMemory()
    people = People(config.people, config.tracker.return_seconds, events.add)
    listener, stopping = listen("127.0.0.1", 0), threading.Event()
    page = Page(listener, "", people, events, lambda: [])
    outputs = Outputs([camera.name], config.output, people.label, [page.show])
    loop = LiveLoop([camera], detector, embedder, config, people, outputs.put, statistics, dormant)
    threading.Thread(target=watch, args=(listener.getsockname()[1], stopping), daemon=True).start()
    resident, cpu = [], []
    print(f"{'minute':>6}{'frames':>8}{'fps':>7}{'CPU ms a frame':>16}{'memory MiB':>12}{'people':>8}{'dormant':>9}")
    for minute in range(1, arguments.minutes + 1):
        start, used, frames = time.monotonic(), time.process_time(), 0
        while time.monotonic() < start + 60:
            frames += loop.step()
        cpu.append((time.process_time() - used, frames))
        resident.append(memory("VmRSS"))
        each = 1000 * cpu[-1][0] / frames
        figures = f"{minute:>6}{frames:>8}{frames / 60:>7.1f}{each:>16.1f}{resident[-1]:>12.0f}"
        print(f"{figures}{people.total:>8}{len(dormant):>9}", flush=True)
    stopping.set()
    outputs.close()
    page.close()
    first, last = (1000 * sum(c for c, _ in part) / sum(n for _, n in part) for part in (cpu[:WINDOW], cpu[-WINDOW:]))
    early, late = resident[min(WINDOW, len(resident)) - 1], resident[-1]
    print(f"memory MiB: {early:.0f} after {WINDOW} minutes, {late:.0f} at the end ({100 * (late / early - 1):+.1f} %)")
    print(f"CPU ms a frame: {first:.1f} first, {last:.1f} last ({100 * (last / first - 1):+.1f} %)")
    print("events: " + json.dumps(events.counts))


if __name__ == "__main__":
    main()
