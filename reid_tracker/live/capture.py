"""Cameras and streams, each read in a thread of its own: the newest frame wins, a lost source is tried again."""

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Literal

import av
import cv2
import numpy as np

from reid_tracker.config import CaptureSettings
from reid_tracker.errors import UserError
from reid_tracker.urls import is_url, masked
from reid_tracker.video.film import invents_times, open_input
from reid_tracker.video.frames import Frame
from reid_tracker.video.upright import Upright

logger = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "http", "https")
# What a playlist or a server may send FFmpeg on to: not the files of this machine.
PROTOCOLS = "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtsps,crypto"
FORGIVEN = 1.0  # s by which a stream's own clock may lag behind this machine's, or leap, before it is set anew
DRIFT = 2e-4  # by which a stream's own clock may be slow: crystals are off by 1e-5 to 1e-4, and it is followed smoothly
NAMED = re.compile(r"([\w .-]+)=(.+)", re.DOTALL)
SNAPSHOT_SECONDS = 1.0  # between two pictures of a URL that gives one at a time
LEAP = 10.0  # s between two pictures from which the clock of a file or playlist was set anew
DEVICES = Path("/dev")

# One picture of a source: seconds by its own clock (None: it has none), and how to get its pixels.
Picture = tuple[float | None, Callable[[], np.ndarray]]
Status = Literal["live", "lost", "ended"]


@dataclass(frozen=True)
class LiveSource:
    """What the user named.

    Attributes
    ----------
    address : str
        A device's path, a URL or a file.
    name : str
        What it is called everywhere: as the user named it, else without the password and the query that a URL may hold.
    kind : {"device", "stream", "file"}
    """

    address: str
    name: str
    kind: Literal["device", "stream", "file"]

    @classmethod
    def parse(cls, text: str, realtime: bool = False) -> "LiveSource":
        """Tell what a source is: ``0``, ``/dev/video0``, a URL, or with ``realtime`` a video file; ``NAME=`` before it.

        Raises
        ------
        UserError
            If it is none of them.
        """
        named = NAMED.fullmatch(text)
        if named is not None and (is_url(named[2]) or not Path(text).expanduser().exists()):
            return replace(cls.parse(named[2], realtime), name=named[1].strip())
        if re.fullmatch(r"\d+", text):
            return cls(f"/dev/video{text}" if sys.platform == "linux" else text, f"camera {text}", "device")
        if text.startswith("/dev/"):
            return cls(text, text, "device")
        if is_url(text):
            shown = masked(text)
            scheme, _, place = shown.partition("://")
            if scheme.lower() not in SCHEMES or not place.strip("/"):
                raise UserError(f"{shown}: write a URL as SCHEME://HOST/..., with one of {', '.join(SCHEMES)}.")
            return cls(text, place.strip("/"), "stream")
        path = Path(text).expanduser()
        if not path.is_file():
            shown = masked(text) if "@" in text else text
            raise UserError(
                f"{shown}: no such file; give a camera's number, a device, a URL, or a file with --realtime."
            )
        if not realtime:
            raise UserError(f"{text}: a file does not run live; add --realtime, or use reid-tracker track.")
        return cls(str(path), path.stem, "file")

    def open(self, timeout: float, stopping: Event) -> Generator[Picture, None, None]:
        """Read the source from now on.

        Parameters
        ----------
        timeout : float
            Seconds of silence after which it is given up.
        stopping : Event
            Ends the waiting between the pictures of a file or playlist.

        Yields
        ------
        seconds : float or None
        load : callable
            Gives the pixels, uint8 [H, W, 3], BGR.

        Raises
        ------
        UserError
            From the first step if it cannot be read, from a later one if it fails.
        """
        if self.kind == "device":
            return _read_device(self.address, self.name)
        return _read_stream(self, timeout, stopping)


@dataclass(frozen=True)
class Captured:
    """A picture that waits to be tracked: the moment it is of and the moment it came, s by the machine's clock."""

    timestamp: float
    arrived: float
    load: Callable[[], np.ndarray]


class Camera:
    """A source that is read by a thread, and the one newest picture of it.

    Parameters
    ----------
    source : LiveSource
        What to read.
    settings : CaptureSettings
        Time limits.
    arrival : Event, optional
        Set at each new picture; several cameras may share one.
    clock : callable
        Seconds; by default the machine's monotonic clock.

    Attributes
    ----------
    name : str
    status : {"live", "lost", "ended"}
    error : str
        Why it is lost.
    received, dropped, reconnects : int
        Pictures that came, those that a newer one replaced before they were wanted, and returns after a loss.
    """

    def __init__(
        self,
        source: LiveSource,
        settings: CaptureSettings | None = None,
        arrival: Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = source.name
        self.status: Status = "lost"
        self.error = "not connected yet"
        self.received = self.dropped = self.reconnects = 0
        self._source = source
        self._settings = settings or CaptureSettings()
        self._arrival = arrival or Event()
        self._clock = clock
        self._offset: float | None = None  # from the source's clock to this machine's
        self._seconds = 0.0  # of the last picture, by the source's clock
        self._waiting: Captured | None = None
        self._lock = Lock()
        self._last = -np.inf
        self._index = 0
        self._stopping = Event()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Connect, and read from then on; raises UserError if the source is not there at all."""
        pictures = self._open()
        first = next(pictures, None)
        if first is None:
            raise UserError(f"{self.name}: sends no picture.")
        self.offer(*first)
        self._begin(pictures)

    def wait(self, reason: str) -> None:
        """Begin as lost: it is tried until it is there."""
        self.error = reason
        self._begin(None)

    def _begin(self, pictures: Generator[Picture, None, None] | None) -> None:
        self._thread = Thread(target=self._run, args=(pictures,), daemon=True, name=self.name)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that hangs in a dead connection ends later, by the time limit."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def take(self) -> tuple[Frame, float] | None:
        """The newest picture not taken yet, with the moment it arrived; None if there is none.

        Frames are numbered as they are taken, and their times increase.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is None:
            return None
        self._last = max(waiting.timestamp, self._last + 1e-3)
        frame = Frame(waiting.load(), self._index, self._last)
        self._index += 1
        return frame, waiting.arrived

    def offer(self, seconds: float | None, load: Callable[[], np.ndarray]) -> None:
        """Let a picture wait, in place of the one that does."""
        now = self._clock()
        with self._lock:
            self.received += 1
            self.dropped += self._waiting is not None
            self._waiting = Captured(self._time_of(seconds, now), now, load)
        self.status, self.error = "live", ""
        self._arrival.set()

    def _time_of(self, seconds: float | None, now: float) -> float:
        """When a picture was taken, on this machine's clock: steps are the source's own, not the network's."""
        if seconds is None:
            return now
        if self._offset is not None:
            self._offset += DRIFT * min(max(seconds - self._seconds, 0.0), 1.0)
        self._seconds = seconds
        if self._offset is None or not now - FORGIVEN <= seconds + self._offset <= now:
            self._offset = now - seconds  # the least delay met of late; or the source's clock was set anew
        return seconds + self._offset

    def _open(self) -> Generator[Picture, None, None]:
        self._offset = None
        return self._source.open(self._settings.timeout_seconds, self._stopping)

    def _run(self, pictures: Generator[Picture, None, None] | None) -> None:
        wait = self._settings.retry_first_seconds
        while not self._stopping.is_set():
            reason, count, is_film = f"{self.name}: the stream ended.", int(pictures is not None), False
            try:
                pictures = pictures or self._open()
                for seconds, load in pictures:
                    if self._stopping.is_set():
                        break
                    if self.status == "lost":
                        self.reconnects += 1
                        logger.warning("%s is back.", self.name)
                    wait, count = self._settings.retry_first_seconds, count + 1
                    self.offer(seconds, load)
            except _FilmEndedError:
                is_film = True
            except UserError as error:
                reason, count = str(error), 0
            except Exception as error:  # whatever a driver or decoder raises must not end this thread unnoticed
                reason, count = f"{self.name}: cannot be read ({type(error).__name__}).", 0
                logger.debug("%s", reason, exc_info=True)
            finally:
                if pictures is not None:
                    pictures.close()
                pictures = None
            if self._stopping.is_set():
                return  # closed, not lost
            if is_film or self._source.kind == "file":
                self.status = "ended"
                self._arrival.set()
                return
            if count == 1:  # a URL that gives one picture at a time
                self._stopping.wait(SNAPSHOT_SECONDS)
                continue
            if self.status == "live":
                logger.warning("%s It is tried again until it is back.", reason)
            self.status, self.error = "lost", reason
            self._stopping.wait(wait)
            wait = min(2 * wait, self._settings.retry_most_seconds)


class _FilmEndedError(Exception):
    """A URL of a film, not of a camera, was played to its end."""


def _read_stream(source: LiveSource, timeout: float, stopping: Event) -> Generator[Picture, None, None]:
    """Read a URL or a file through FFmpeg."""
    # Microseconds: short, to be back soon. UDP loses pictures; it is for cameras that offer nothing else.
    options = {"analyzeduration": "200000", "rtsp_flags": "prefer_tcp"}
    address = f"file:{source.address}"
    if source.kind == "stream":
        options["protocol_whitelist"] = PROTOCOLS
        address = source.address
    try:
        with open_input(address, options=options, timeout=(timeout, timeout)) as container:
            if not container.streams.video or container.format.name == "tty":  # FFmpeg renders any text as a film
                shown = source.address if source.kind == "file" else source.name  # a URL may hold a password
                raise UserError(f"{shown}: there is no video in it.")
            stream = container.streams.video[0]
            stream.thread_type = "SLICE"  # threads by frames would hold back as many frames as there are threads
            has_times, upright = not invents_times(container), Upright(stream)
            # Playlists come in pieces of seconds: like a file, they are played at their own pace.
            is_picture = container.format.name == "image2" or container.format.name.endswith("_pipe")
            is_served = source.address.startswith("http") and bool(container.duration) and not is_picture
            is_film = source.kind == "file" or is_served
            pace = _Pace(stopping) if is_film or container.format.name == "hls" else None
            for packet in container.demux(stream):
                for picture in _decode(packet):
                    seconds = float(picture.time) if has_times and picture.time is not None else None
                    if pace is not None and seconds is not None:
                        pace.wait(seconds)
                    yield seconds, upright(picture)
                if stopping.is_set():
                    return
            if is_film:
                raise _FilmEndedError
    except (OSError, av.error.FFmpegError) as error:
        if source.kind == "file":
            raise UserError(f"{source.address}: not a video that can be read ({error.strerror or error}).") from error
        raise UserError(f"{source.name}: {_reason(error, timeout)}") from error


def _decode(packet: Any) -> list[Any]:
    """Pictures of a packet; none of a damaged one, as the next may be sound again."""
    try:
        return packet.decode()
    except av.error.FFmpegError:
        return []


class _Pace:
    """Holds pictures back until their time has come."""

    def __init__(self, stopping: Event) -> None:
        self._stopping = stopping
        self._offset: float | None = None
        self._last = 0.0

    def wait(self, seconds: float) -> None:
        now = time.monotonic()
        if self._offset is None or not 0 <= seconds - self._last <= LEAP:
            self._offset = now - seconds
        self._last = seconds
        self._stopping.wait(max(seconds + self._offset - now, 0.0))


def _reason(error: Exception, timeout: float) -> str:
    """What FFmpeg's error means, and how to fix it."""
    known: dict[type[Exception], str] = {
        av.error.HTTPUnauthorizedError: "wrong user name or password; write them as user:password@host.",
        av.error.HTTPForbiddenError: "access is forbidden (403); check the user's rights there.",
        av.error.HTTPNotFoundError: "there is no such stream (404); check the path of the URL.",
        av.error.ConnectionRefusedError: "nobody answers there (connection refused); check host and port.",
        av.error.InvalidDataError: "what it sends is not video; check the URL.",
        av.error.ExitError: f"silent for {timeout:g} s; check that it is on and can be reached.",
        TimeoutError: f"silent for {timeout:g} s; check that it is on and can be reached.",
    }
    for kind, text in known.items():
        if isinstance(error, kind):
            return text
    told = getattr(error, "strerror", None) or type(error).__name__  # the text of an error may hold the password
    return f"cannot be read ({told}); check the address, and write / ? # % @ of a password as %2F %3F %23 %25 %40."


def _read_device(address: str, name: str) -> Generator[Picture, None, None]:
    """Read a camera of this machine through OpenCV."""
    if address.startswith("/"):
        path = Path(address)
        if not path.exists():
            raise UserError(f"{name}: there is no such camera; {_describe_cameras()}.")
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise UserError(f"{name}: no permission to use {path}; add this user to the group that owns it (video).")
    capture = cv2.VideoCapture(address if address.startswith("/") else int(address))
    try:
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        if not capture.isOpened():
            raise UserError(f"{name}: cannot be opened; is another program using it? {_describe_cameras()}.")
        while True:
            is_there, image = capture.read()
            if not is_there:
                raise UserError(f"{name}: gives no more pictures; check its cable.")
            yield None, partial(_itself, image)
    finally:
        capture.release()


def _itself(image: np.ndarray) -> np.ndarray:
    return image


def _describe_cameras() -> str:
    """The cameras of this machine, as a clause."""
    found = []
    for path in sorted(DEVICES.glob("video*")):
        label = Path(f"/sys/class/video4linux/{path.name}/name")
        found.append(f"{path} ({label.read_text().strip()})" if label.is_file() else str(path))
    return f"cameras here: {', '.join(found)}" if found else "this machine has no camera"
