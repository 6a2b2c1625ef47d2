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
from reid_tracker.live.outputs import Outputs, Show, recording_place
from reid_tracker.live.people import People
from reid_tracker.live.places import of_cameras
from reid_tracker.pipeline.models import AppearanceModel, Models, model_of
from reid_tracker.tracking.memory import IdentityMemory
from reid_tracker.writing import check_writable

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
    _check(config)
    parsed = [LiveSource.parse(each, realtime) for each in dict.fromkeys(sources)]
    with ExitStack() as stack:
        run = _LiveRun(config, stack, stopping or Event())
        run.listen(token)
        run.connect(parsed)
        run.load(detector, embedder)
        run.recognise()
        return run.follow(started)


def _check(config: LiveConfig) -> None:
    output = config.output
    if config.detector.recorded:
        raise UserError("Recorded detections belong to a video; live sources need a detector.")
    if output.blur_people and config.gallery.where:
        raise UserError(
            "blur_people and a gallery contradict each other: a gallery keeps crops of people. Leave one out."
        )
    if config.gallery.retention_days is not None and not config.gallery.where:
        raise UserError("A retention is for people in a gallery: name one (--gallery), or leave the retention out.")
    if output.show:
        _check_screen()


class _LiveRun:
    """What a live run is made of, in the order in which it is made; ``stack`` takes it down again.

    A page that cannot be served ends the run before a camera is opened, a camera that is not there before the networks
    are loaded, and files begin only then, to be seen from the beginning.
    """

    def __init__(self, config: LiveConfig, stack: ExitStack, stopping: Event) -> None:
        self._config, self._stack, self._stopping, self._arrival = config, stack, stopping, Event()
        stack.enter_context(_signals(stopping, self._arrival))

    def listen(self, token: str | None) -> None:
        """Take the page's address."""
        self._listener: socket.socket | None = None
        self._address: str | None = None
        self._token, self._server = token or "", _server(self._config.output)
        if self._server is None:
            return
        from reid_tracker.web import guard  # needs what the server needs

        serve = self._config.output.serve
        host, port = guard.parse_address(serve or DEFAULT_PAGE)
        self._token = guard.make_token(token, guard.is_local(host)) or ""
        self._listener = self._stack.enter_context(guard.listen(host, port, or_any=serve is None))
        shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        query = f"?token={self._token}" if self._token else ""
        self._address = f"http://{shown}:{self._listener.getsockname()[1]}/{query}"

    def connect(self, sources: Sequence[LiveSource]) -> None:
        """Open the webhooks and the cameras."""
        self._events = EventLog()
        self._hooks = [Webhook(url) for url in self._config.output.webhooks]
        for hook in self._hooks:
            self._events.listen(hook.put)
            self._stack.callback(hook.close)
        self._cameras = [Camera(each, self._config.capture, self._arrival) for each in sources]
        _name_apart(self._cameras)
        self._names = [camera.name for camera in self._cameras]
        self._places = of_cameras(self._config.count.places, self._names)
        if self._config.output.record:
            check_writable(*(recording_place(self._config.output, name) for name in self._names))
        for camera in self._cameras:
            self._stack.callback(camera.stop)
        self._files = [camera for camera, each in zip(self._cameras, sources, strict=True) if each.kind == "file"]
        _start([camera for camera in self._cameras if camera not in self._files])

    def load(self, detector: Detector | None, embedder: AppearanceModel | None) -> None:
        """Load the networks."""
        models = Models(self._config, detector, embedder)
        self._detector = models.detector()
        self._embedder, self._statistics = models.embedder()
        _start(self._files)

    def recognise(self) -> None:
        """Open the gallery, and remember people."""
        config = self._config
        self._gallery: LiveGallery | None = None
        self._memory = IdentityMemory()
        known: dict[int, str] = {}
        if config.gallery.where:
            opened = open_gallery(config.gallery.where, model_of(self._embedder, config))
            self._stack.callback(opened.close)
            if config.gallery.retention_days is not None:
                forget_unseen(opened, config.gallery.retention_days)
            self._memory = known_people = GalleryMemory(opened, RESERVE)
            self._gallery = LiveGallery(opened, self._names, config, known_people)
            known = {person.number: person.name or "" for person in opened.people()}
        self._people = People(
            config.people,
            SETTLE_SECONDS,
            self._events.add,
            known,
            self._gallery,
            keeps_crops=not config.output.blur_people,
            memory=self._memory,
        )
        if self._gallery is not None:
            self._gallery.follow(self._people.follow)

    def follow(self, started: Callable[[str | None], None]) -> LiveLoop:
        """Track, show and write until told to stop."""
        output = self._config.output
        window = _Window(self._names, self._stopping) if output.show else None
        show: list[Show] = [window.show] if window else []
        outputs = Outputs(self._names, output, self._people.label, show, self._gallery)
        self._stack.callback(outputs.close)
        loop = LiveLoop(
            self._cameras,
            self._detector,
            self._embedder,
            self._config,
            self._people,
            outputs.put,
            self._statistics,
            self._memory,
            places=self._places,
        )
        page = self._open_page(loop, outputs)
        if page is not None:
            show.append(page.show)
        for camera in self._cameras:
            if (taken := camera.take()) is not None:
                self._detector.detect(taken[0])  # a network's first look at a shape may take seconds
                camera.dropped += 1
        started(self._address)
        loop.run(self._arrival, self._stopping, partial(_look_after, page, window))
        self._people.tick(np.inf)  # everyone leaves
        return loop

    def _open_page(self, loop: LiveLoop, outputs: Outputs) -> Any:
        if self._server is None or self._listener is None:
            return None
        page = self._server.Page(
            self._listener,
            self._token,
            self._people,
            self._events,
            describe=lambda: _describe(loop),
            metrics=lambda: _measure(outputs, self._hooks),
            jpeg_quality=self._config.output.jpeg_quality,
        )
        self._stack.callback(page.close)
        return page


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
