"""Put together what `reid-tracker live` runs: cameras, networks, loop, page, recordings, webhooks."""

import logging
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event, current_thread, main_thread
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from reid_tracker.config import NO_PAGE, LiveConfig, LiveOutputSettings
from reid_tracker.counting import describe
from reid_tracker.detection.detector import Detector
from reid_tracker.errors import UserError
from reid_tracker.gallery.opening import forget_unseen, open_gallery
from reid_tracker.gallery.recorder import GalleryMemory
from reid_tracker.live.capture import Camera, LiveSource
from reid_tracker.live.events import EventLog, Webhook
from reid_tracker.live.gallery import LiveGallery
from reid_tracker.live.loop import LiveLoop
from reid_tracker.live.outputs import Outputs, Show
from reid_tracker.live.people import People
from reid_tracker.live.places import of_cameras
from reid_tracker.pipeline.models import AppearanceModel, Models, model_of
from reid_tracker.tracking.memory import IdentityMemory

logger = logging.getLogger(__name__)

DEFAULT_PAGE = "127.0.0.1:8000"
RESERVE = 32  # numbers for newcomers who come while the gallery cannot be written
SETTLE_SECONDS = 2.0  # after which newcomers are announced; what turns out later is told as a correction


def run_live(
    sources: Sequence[str],
    config: LiveConfig | None = None,
    *,
    realtime: bool = False,
    token: str | None = None,
    detector: Detector | None = None,
    embedder: AppearanceModel | None = None,
    stopping: Event | None = None,
    started: Callable[[str | None], None] = lambda address: None,
) -> LiveLoop:
    """Track cameras and streams until told to stop.

    Parameters
    ----------
    sources : sequence of str
        Cameras (``0``, ``/dev/video0``), URLs (rtsp, http), with ``realtime`` video files.
    config : LiveConfig, optional
        Settings.
    realtime : bool
        Play files at their own pace.
    token : str, optional
        What the page's users must give; made up where one is needed and none is given.
    detector, embedder : optional
        Your own, in place of those that the settings name.
    stopping : Event, optional
        Ends the run when set; SIGTERM, SIGHUP and SIGINT do too, where this is called from the main thread.
    started : callable, optional
        Called with the page's address, or None, when everything runs.

    Returns
    -------
    LiveLoop
        With the figures of the run.

    Raises
    ------
    UserError
        If a source is not there at the start, the address is taken, or something given cannot be used.
    """
    config = config or LiveConfig()
    stopping, arrival, output = stopping or Event(), Event(), config.output
    if config.detector.recorded:
        raise UserError("Recorded detections belong to a video; live sources need a detector.")
    if output.blur_people and config.gallery.where:
        raise UserError(
            "blur_people and a gallery contradict each other: a gallery keeps crops of people. Leave one out."
        )
    if output.show:
        _check_screen()
    parsed = [LiveSource.parse(each, realtime) for each in dict.fromkeys(sources)]
    with ExitStack() as stack:
        stack.enter_context(_signals(stopping, arrival))
        listener = address = None
        server = _server(output)
        if server is not None:
            from reid_tracker.web import guard  # needs what the server needs

            host, port = guard.parse_address(output.serve or DEFAULT_PAGE)
            token = guard.make_token(token, guard.is_local(host))
            listener = stack.enter_context(guard.listen(host, port, or_any=output.serve is None))
            shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{listener.getsockname()[1]}/" + (f"?token={token}" if token else "")
        events = EventLog()
        hooks = [Webhook(url) for url in output.webhooks]
        for hook in hooks:
            events.listen(hook.put)
            stack.callback(hook.close)
        cameras = [Camera(each, config.capture, arrival) for each in parsed]
        _name_apart(cameras)
        names = [camera.name for camera in cameras]
        places = of_cameras(config.count.places, names)
        for camera in cameras:
            stack.callback(camera.stop)
        is_file = [each.kind == "file" for each in parsed]
        _start([camera for camera, waits in zip(cameras, is_file, strict=True) if not waits])
        models = Models(config, detector, embedder)
        run_detector = models.detector()
        run_embedder, statistics = models.embedder()
        # Files only now, to be seen from the beginning.
        _start([camera for camera, waits in zip(cameras, is_file, strict=True) if waits])
        gallery, memory = None, IdentityMemory()
        known: dict[int, str] = {}
        if config.gallery.where:
            opened = open_gallery(config.gallery.where, model_of(run_embedder, config))
            stack.callback(opened.close)
            if config.gallery.retention_days is not None:
                forget_unseen(opened, config.gallery.retention_days)
            memory = known_people = GalleryMemory(opened, RESERVE)
            gallery = LiveGallery(opened, names, config, known_people)
            known = {person.number: person.name or "" for person in opened.people()}
        people = People(
            config.people,
            SETTLE_SECONDS,
            events.add,
            known,
            gallery,
            keeps_crops=not output.blur_people,
            memory=memory,
        )
        if gallery is not None:
            gallery.follow(people.follow)
        window = _Window(names, stopping) if output.show else None
        show: list[Show] = [window.show] if window else []
        outputs = Outputs(names, output, people.label, show, gallery)
        stack.callback(outputs.close)
        loop = LiveLoop(
            cameras, run_detector, run_embedder, config, people, outputs.put, statistics, memory, places=places
        )
        page = None
        if server is not None and listener is not None:
            page = server.Page(
                listener,
                token or "",
                people,
                events,
                describe=lambda: _describe(loop),
                metrics=lambda: _measure(outputs, hooks),
                jpeg_quality=output.jpeg_quality,
            )
            stack.callback(page.close)
            show.append(page.show)
        for taken in filter(None, (camera.take() for camera in cameras)):
            run_detector.detect(taken[0])  # a network's first look at a shape may take seconds
        started(address)
        loop.run(arrival, stopping, partial(_look_after, page, window))
        people.tick(np.inf)  # everyone leaves
    return loop


def _server(output: LiveOutputSettings) -> ModuleType | None:
    """What serves the page; None where none is wanted, or it is not installed and something else is asked for."""
    if output.serve == NO_PAGE:
        return None
    try:
        return import_module("reid_tracker.live.server")
    except UserError as error:
        if output.serve is not None or not (output.show or output.record or output.webhooks):
            raise
        logger.warning("No page is served: %s", error)
        return None


def _look_after(page: Any, window: "_Window | None") -> None:
    """Between two rounds: draw the window, and end the run where the page's thread has ended with an error."""
    if page is not None and not page.is_alive():
        raise UserError("The page has ended with an error (above); start again, or go on without it by --no-serve.")
    if window is not None:
        window.refresh()


def _start(cameras: Sequence[Camera]) -> None:
    """Connect to all at once; those that are not there are waited for, unless none is: then the address is wrong."""

    def start(camera: Camera) -> UserError | None:
        try:
            camera.start()
        except UserError as error:
            return error
        return None

    if not cameras:
        return
    with ThreadPoolExecutor(len(cameras)) as pool:
        errors = list(pool.map(start, cameras))
    for camera, error in zip(cameras, errors, strict=True):
        if error is None:
            continue
        if all(errors):
            raise error
        logger.warning("%s It is tried again until it is there.", error)
        camera.wait(str(error))


def _name_apart(cameras: Sequence[Camera]) -> None:
    """Number cameras of one name: two hosts may call a path the same, two folders a file."""
    seen: Counter[str] = Counter()
    for camera in cameras:
        seen[camera.name] += 1
        if seen[camera.name] > 1:
            camera.name = f"{camera.name} ({seen[camera.name]})"


def _describe(loop: LiveLoop) -> list[dict[str, Any]]:
    """Each camera's figures."""
    now = time.monotonic()
    return [
        {
            "name": camera.name,
            "status": camera.status,
            "error": camera.error,
            "fps": round(meter.rate(now), 2),
            "delay": round(meter.delay(), 4),
            "frames": meter.frames,
            "received": camera.received,
            "dropped": camera.dropped,
            "reconnects": camera.reconnects,
            "counts": counting.counts or {"lines": {}, "zones": {}},
            "counted": describe(counting.counts) if counting.counts else [],
        }
        for camera, meter, counting in zip(loop.cameras, loop.meters, loop.places, strict=True)
    ]


def _measure(outputs: Outputs, hooks: Sequence[Webhook]) -> dict[str, float]:
    """What /metrics says besides."""
    figures = {
        "reid_tracker_results_not_drawn_total": outputs.skipped,
        "reid_tracker_results_failed_total": outputs.failed,
        "reid_tracker_webhook_delivered_total": sum(hook.delivered for hook in hooks),
        "reid_tracker_webhook_lost_total": sum(hook.lost for hook in hooks),
        "process_cpu_seconds_total": time.process_time(),
    }
    pages = Path("/proc/self/statm")
    if pages.is_file():
        figures["process_resident_memory_bytes"] = int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return figures


@contextmanager
def _signals(stopping: Event, arrival: Event) -> Iterator[None]:
    """End cleanly at SIGTERM, SIGHUP and Ctrl-C; a second Ctrl-C ends at once."""
    if current_thread() is not main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        stopping.set()
        arrival.set()
        for each, handler in before.items():  # service managers send SIGHUP right behind SIGTERM
            signal.signal(each, handler if each == signal.SIGINT else signal.SIG_IGN)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
    # nohup ignores SIGHUP, and means it.
    before = {each: signal.signal(each, end) for each in numbers if signal.getsignal(each) != signal.SIG_IGN}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _check_screen() -> None:
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UserError("--show: there is no screen here; use --serve and look at the page.")


class _Window:
    """One window for each camera. Only the thread that makes windows may draw them: pictures wait here for it."""

    def __init__(self, names: Sequence[str], stopping: Event) -> None:
        self._names, self._stopping = names, stopping
        self._pictures: dict[int, np.ndarray] = {}

    def show(self, camera: int, image: np.ndarray, arrived: float) -> None:
        """Keep a picture until the next `refresh`."""
        self._pictures[camera] = image

    def refresh(self) -> None:
        """Draw what came since; q or Esc ends the run."""
        while self._pictures:
            camera, image = self._pictures.popitem()
            cv2.imshow(self._names[camera], image)
        if cv2.waitKey(1) & 0xFF in (ord("q"), 27):
            self._stopping.set()
