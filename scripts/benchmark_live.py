"""End-to-end delay of `reid-tracker live` with a camera three times as fast as the pipeline.

    python scripts/benchmark_live.py VIDEO [--seconds 60] [--times 3]

VIDEO is sent as MJPEG over HTTP, in an endless loop, at --times the pipeline's own speed on this machine; each picture
carries the moment it was sent as a row of black and white squares at its lower edge. A client of the page reads that
moment from the pictures it gets and takes the time: camera's encoder, network, decoding, queue, detection, embedding,
association, drawing, JPEG and socket are all in it.
"""

import argparse
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
from websockets.sync.client import connect

from reid_tracker.config import LiveConfig, load
from reid_tracker.live.run import run_live
from reid_tracker.pipeline.models import Models
from reid_tracker.video.sources import open_source

BITS, SQUARE = 32, 16  # squares of so many pixels; time in ms by the machine's clock


def stamp(image: np.ndarray) -> np.ndarray:
    """Paint this moment on a picture."""
    bits = (int(1000 * time.monotonic()) >> np.arange(BITS)) & 1
    stamped = image.copy()
    stamped[-SQUARE:, : BITS * SQUARE] = np.repeat(255 * bits, SQUARE).astype(np.uint8)[None, :, None]
    return stamped


def read_stamp(image: np.ndarray) -> float:
    """Seconds by the machine's clock, as painted."""
    middles = image[-SQUARE // 2, SQUARE // 2 : BITS * SQUARE : SQUARE].mean(axis=1) > 127
    return float((middles.astype(np.int64) << np.arange(BITS)).sum()) / 1000


def serve(video: str, rate: float, port: int = 0) -> None:
    """Be the camera; prints the port."""
    pictures = [frame.image for frame in open_source(video, end=300)]

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            due = time.monotonic()
            for image in cycle(pictures):
                jpeg = cv2.imencode(".jpg", stamp(image))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                due += 1 / rate
                time.sleep(max(due - time.monotonic(), 0))

        def handle(self) -> None:
            with suppress(ConnectionError):  # whoever watched has gone
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Camera)
    print(server.server_port, flush=True)
    server.serve_forever()


def measure_speed(video: Path, config: LiveConfig) -> float:
    """Frames per second of the pipeline alone."""
    from reid_tracker.live.loop import LiveLoop
    from reid_tracker.live.people import People

    frames = list(open_source(video, end=60))
    models = Models(config)
    detector, (embedder, statistics) = models.detector(), models.embedder()

    class Camera:
        name = "test"

        def take(self):
            frame = frames.pop(0)
            return frame, frame.timestamp

    loop = LiveLoop([Camera()], detector, embedder, config, People(), lambda *_: None, statistics)
    for _ in range(10):
        loop.step()
    start, count = time.monotonic(), len(frames)
    while frames:
        loop.step()
    return count / (time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--times", type=float, default=3)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(str(arguments.video), arguments.serve, arguments.port)
        return
    config = load(LiveConfig, None, {"output.serve": "127.0.0.1:0"})
    speed = measure_speed(arguments.video, config)
    rate = arguments.times * speed
    command = [sys.executable, __file__, str(arguments.video), "--serve", str(rate)]
    camera = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{camera.stdout.readline().strip()}/camera"
    stopping, delays = threading.Event(), []

    def watch(address: str | None) -> None:
        """Start a client when the run has started."""

        def work() -> None:
            with connect(str(address).replace("http", "ws") + "socket", max_size=None) as client:
                end = time.monotonic() + arguments.seconds
                while time.monotonic() < end:
                    message = client.recv()
                    if isinstance(message, bytes):
                        picture = cv2.imdecode(np.frombuffer(message[1:], np.uint8), cv2.IMREAD_COLOR)
                        delays.append(time.monotonic() - read_stamp(picture))
                    client.send("-1" if isinstance(message, str) else str(message[0]))
            stopping.set()

        threading.Thread(target=work, daemon=True).start()

    try:
        loop = run_live([url], config, stopping=stopping, started=watch)
    finally:
        camera.kill()
    taken, source = loop.meters[0], loop.cameras[0]
    print(f"pipeline alone {speed:.1f} fps; camera {rate:.1f} fps for {arguments.seconds:g} s")
    print(f"received {source.received}, tracked {taken.frames}, dropped {source.dropped}")
    milliseconds = 1000 * np.array(delays)
    halves = [np.median(half) for half in np.array_split(milliseconds, 2)]
    low, high = np.percentile(milliseconds, [50, 95])
    print(f"camera to client: median {low:.0f} ms, 95 % {high:.0f} ms, longest {milliseconds.max():.0f} ms")
    print(f"first half {halves[0]:.0f} ms, second half {halves[1]:.0f} ms; one frame's step is {1000 / speed:.0f} ms")


if __name__ == "__main__":
    main()
