"""The gallery of a live run: enrolled as cameras see people, named and merged from the page, never waited for."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

from reid_tracker.config import LiveConfig
from reid_tracker.errors import UserError
from reid_tracker.gallery.recorder import GallerySink
from reid_tracker.gallery.store import Gallery
from reid_tracker.tracking.memory import IdentityMemory
from reid_tracker.video.sinks import FrameResult

logger = logging.getLogger(__name__)

GRANT_SECONDS = 5.0  # between two tries of what could not be done yet
WISHES = 1000  # names and merges that wait for someone to be enrolled


class LiveGallery:
    """What the page and the cameras tell a gallery.

    A name or a merge may come before the people it is about are enrolled: it is kept and tried again.

    Parameters
    ----------
    gallery : Gallery
        Stays open.
    cameras : sequence of str
        Their names.
    config : LiveConfig
        What a good crop is, and how often to save.
    memory : IdentityMemory, optional
        The trackers'.
    """

    def __init__(
        self, gallery: Gallery, cameras: Sequence[str], config: LiveConfig, memory: IdentityMemory | None = None
    ) -> None:
        self._gallery = gallery
        save_seconds = config.gallery.save_seconds
        self._sinks = [GallerySink(gallery, name, config.tracker, save_seconds, memory) for name in cameras]
        self._wishes: deque[Callable[[], None]] = deque(maxlen=WISHES)
        self._granted, self._complaint = 0.0, ""
        self._lock = Lock()

    def name(self, number: int, text: str) -> None:
        """Name a person."""
        self._wish(lambda: self._gallery.name(number, text))

    def merge(self, keep: int, other: int) -> None:
        """Make one person of two."""
        self._wish(lambda: self._gallery.merge(keep, other))

    def write(self, camera: int, result: FrameResult) -> None:
        """Look at the people of a frame; a gallery that cannot be written stops nothing."""
        self._try(lambda: self._sinks[camera].write(result))
        if self._wishes and time.monotonic() > self._granted + GRANT_SECONDS:
            self._grant()

    def close(self) -> None:
        """Save everything."""
        for sink in self._sinks:
            self._try(sink.close)
        self._grant()

    def _wish(self, wish: Callable[[], None]) -> None:
        with self._lock:
            self._wishes.append(wish)
        self._grant()

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except UserError as error:
            if str(error) != self._complaint:  # once is enough
                logger.warning("%s", error)
            self._complaint = str(error)

    def _grant(self) -> None:
        """Do what can be done; the rest waits, in order."""
        with self._lock:
            self._granted = time.monotonic()
            waiting, self._wishes = self._wishes, deque(maxlen=WISHES)
            for wish in waiting:
                try:
                    wish()
                except UserError:
                    self._wishes.append(wish)
