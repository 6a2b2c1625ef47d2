"""People of one colour each who walk through a picture, what finds them by their colour, and servers of their video."""

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe_core_python
import cv2
import numpy as np
import supervision as sv

from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.video.frames import Frame

SIZE, RATE, SECONDS = (320, 240), 10, 4
COLORS = {"red": (40, 40, 230), "green": (40, 200, 40), "blue": (230, 60, 40)}  # BGR
SPEEDS = {"red": (20, 3), "green": (150, 0), "blue": (290, -3)}  # x at the start, px a frame


def place(color: str, index: int) -> tuple[int, int, int, int]:
    """Box of someone in a frame."""
    left, speed = SPEEDS[color]
    left += speed * index - 12
    top = {"red": 30, "green": 100, "blue": 160}[color]
    return left, top, left + 24, top + 60


def picture(index: int) -> np.ndarray:
    """A frame of everyone; it is never quite the same as another."""
    image = np.full((SIZE[1], SIZE[0], 3), 25 + index % 5, np.uint8)
    for color in COLORS:
        left, top, right, bottom = place(color, index)
        image[top:bottom, max(left, 0) : max(right, 0)] = COLORS[color]
    return image


class ColorDetector:
    """Finds the people by their colour, whatever the codec made of it."""

    def detect(self, frame: Frame) -> sv.Detections:
        assert frame.image is not None
        boxes = []
        for color in COLORS.values():
            mask = (np.abs(frame.image.astype(int) - color).max(axis=2) < 60).astype(np.uint8)
            left, top, width, height = cv2.boundingRect(mask)
            if width > 4 and height > 20:
                boxes.append([left, top, left + width, top + height])
        xyxy = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        return sv.Detections(xyxy, confidence=np.full(len(xyxy), 0.9), class_id=np.zeros(len(xyxy), int))


class ColorEmbedder:
    """One vector for each colour."""

    hash, dimension, header = "colors", 3, {}
    statistics = CosineStatistics(0.99, 0.02, 0.1, 0.1)

    def embed(self, image: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
        vectors = np.zeros((len(xyxy), 3), np.float32)
        for vector, (left, top, right, bottom) in zip(vectors, xyxy.astype(int), strict=True):
            shade = image[top:bottom, max(left, 0) : right].reshape(-1, 3).mean(axis=0)
            vector[np.argmin([np.abs(shade - color).sum() for color in COLORS.values()])] = 1
        return vectors


class Server:
    """A server in a process of its own, that can be killed and started again at the same address."""

    def __init__(self, command: list[str], url: str) -> None:
        self.url = url
        self._command = command
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def barriers(browser: Any) -> list[str]:
    """What keeps people out of the page shown, by axe-core: rule and element."""
    script = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": script})  # the page's own policy lets no script in
    found = browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    return [f"{each['id']}: {node['html']}" for each in found["violations"] for node in each["nodes"]]


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> float:
    """Wait for something to become true; how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not come true in time"
        time.sleep(0.01)
    return time.monotonic() - start
