"""The gallery of a live run: enrolled as cameras see people, named and merged from the page, never waited for."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread

from reid_tracker.config import LiveConfig
from reid_tracker.errors import UserError
from reid_tracker.gallery.opening import forget_unseen
from reid_tracker.gallery.recorder import GalleryMemory, GallerySink
from reid_tracker.gallery.store import Gallery
from reid_tracker.video.sinks import FrameResult

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.5  # between two checks for work
GRANT_SECONDS = 5.0  # between two tries of what could not be done yet
RETENTION_SECONDS = 3600.0  # between two looks at who was unseen for too long
WISHES = 1000  # names and merges that wait for someone to be enrolled


class LiveGallery:
    """What the page and the cameras tell a gallery, in a thread of its own: a gallery may not answer for a while.

    A name or a merge may come before the people it is about are enrolled: it is kept and tried again.

    Parameters
    ----------
    gallery : Gallery
        Stays open.
    cameras : sequence of str
        Their names.
    config : LiveConfig
        What a good crop is, how often to save, and how long people are kept.
    memory : GalleryMemory
        The trackers'.
    """

    def __init__(self, gallery: Gallery, cameras: Sequence[str], config: LiveConfig, memory: GalleryMemory) -> None:
        self._gallery, self._memory = gallery, memory
        self._days = config.gallery.retention_days
        save_seconds = config.gallery.save_seconds
        self._sinks = [GallerySink(gallery, name, config.tracker, save_seconds, memory) for name in cameras]
        self._wishes: deque[Callable[[], None]] = deque(maxlen=WISHES)
        self._complaint = ""
        self._lock = Lock()
        self._granted = self._looked = time.monotonic()
        self._is_open, self._wanted = True, Event()
        self._tell: Callable[[dict[int, int | None]], None] = lambda gone: None
        self._thread = Thread(target=self._run, daemon=True, name="gallery")
        self._thread.start()

    def follow(self, tell: Callable[[dict[int, int | None]], None]) -> None:
        """Report numbers that other programs merged (into which) or made the gallery forget (None)."""
        self._tell = tell

    def name(self, number: int, text: str) -> None:
        """Name a person, soon."""
        self._wish(lambda: self._gallery.name(number, text))

    def merge(self, keep: int, other: int) -> None:
        """Make one person of two, soon."""
        self._wish(lambda: self._gallery.merge(keep, other))

    def write(self, camera: int, result: FrameResult) -> None:
        """Look at the people of a frame; nothing is written yet."""
        self._sinks[camera].look(result)

    def close(self) -> None:
        """Save everything."""
        self._is_open = False
        self._wanted.set()
        self._thread.join()
        for sink in self._sinks:
            self._try(sink.close)
        self._grant()
        self._try(self._memory.close)

    def _run(self) -> None:
        while self._is_open:
            is_wanted = self._wanted.wait(CHECK_SECONDS)
            self._wanted.clear()
            try:
                self._work(is_wanted)
            except Exception as error:  # this thread must not end unnoticed: what waits is tried again
                self._complain(f"The gallery could not be written ({type(error).__name__}: {error}).")
                logger.debug("Where:", exc_info=True)

    def _work(self, is_wanted: bool) -> None:
        """Do the work that is due."""
        now = time.monotonic()
        self._try(self._memory.top_up)
        for sink in self._sinks:
            if self._is_open and sink.is_due():
                self._try(sink.save)
                self._tell(sink.gone)
        if self._wishes and (is_wanted or now > self._granted + GRANT_SECONDS):
            self._grant()
        if self._days is not None and now > self._looked + RETENTION_SECONDS:
            self._looked = now
            days = self._days
            self._try(lambda: forget_unseen(self._gallery, days))

    def _wish(self, wish: Callable[[], None]) -> None:
        with self._lock:
            self._wishes.append(wish)
        self._wanted.set()

    def _try(self, step: Callable[[], object]) -> None:
        try:
            step()
        except UserError as error:
            self._complain(str(error))

    def _complain(self, text: str) -> None:
        if text != self._complaint:  # once is enough
            logger.warning("%s", text)
        self._complaint = text

    def _grant(self) -> None:
        """Do what can be done; the rest waits, in order."""
        self._granted = time.monotonic()
        with self._lock:
            waiting, self._wishes = self._wishes, deque(maxlen=WISHES)
        left = []
        for wish in waiting:
            try:
                wish()
            except UserError:
                left.append(wish)
        with self._lock:
            self._wishes = deque([*left, *self._wishes], maxlen=WISHES)
