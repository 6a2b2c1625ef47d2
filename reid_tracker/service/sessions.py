"""A tracker for each camera, kept until it is not used any more."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import supervision as sv

from reid_tracker.appearance.embedder import Embedder
from reid_tracker.backends import appearance_form
from reid_tracker.config import TrackerSettings
from reid_tracker.errors import UserError
from reid_tracker.pictures import decode_picture
from reid_tracker.tracking.tracker import Tracker

MOST_PIXELS = 1 << 25  # of all crops of a frame: a small file may hold gigabytes
MOST_TRACKLETS = 10_000  # of a session, whose identities are remembered


class UnknownSessionError(UserError):
    """There is no such session (any more)."""


class TooManySessionsError(UserError):
    """No further session may begin."""


@dataclass
class Session:
    """One camera."""

    tracker: Tracker
    used: float  # monotonic clock, s
    frames: int = 0
    identities: OrderedDict[int, int] = field(default_factory=OrderedDict)  # of the tracklets seen last
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True)
class Tracked:
    """What a frame's boxes are.

    Attributes
    ----------
    time : float
        Of the frame, s.
    tracks : Detections
        Confirmed ones, as `Tracker.update` gives them; ``data["row"]`` tells which box of the frame each was.
    renumbered : dict of int to int
        Numbers that turned out, in this frame, to be older ones: all that was said of the first is of the second.
    """

    time: float
    tracks: sv.Detections
    renumbered: dict[int, int]


class Sessions:
    """All cameras; every method may be called from any thread.

    Parameters
    ----------
    idle_seconds : float
        A session that is not used for so long ends.
    most : int
        Sessions at a time.
    embedder : callable
        Gives the network that describes crops; called once, when the first crop comes.
    """

    def __init__(self, idle_seconds: float, most: int, embedder: Callable[[], Embedder] | None = None) -> None:
        self.idle_seconds, self._most = idle_seconds, most
        self._open: dict[str, Session] = {}
        self._lock, self._loading = Lock(), Lock()
        self._make_embedder = embedder or (lambda: Embedder(appearance_form(None)))
        self._embedder: Embedder | None = None

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._open)

    def begin(self, frame_rate: float, settings: TrackerSettings, crops: bool) -> str:
        """Begin a session, of crops or else of vectors or boxes alone; its unguessable key."""
        statistics = self._network().statistics if crops else None
        with self._lock:
            self._expire()
            if len(self._open) >= self._most:
                raise TooManySessionsError(f"{self._most} sessions are open; end one, or wait until one expires.")
            key = secrets.token_urlsafe(16)
            self._open[key] = Session(Tracker(settings, frame_rate, statistics), time.monotonic())
        return key

    def get(self, key: str) -> Session:
        """One of them; UnknownSessionError for others."""
        with self._lock:
            self._expire()
            session = self._open.get(key)
            if session is None:
                raise UnknownSessionError("There is no such session; it may have expired. Begin a new one.")
            session.used = time.monotonic()
            return session

    def end(self, key: str) -> None:
        """End one."""
        self.get(key)
        with self._lock:
            self._open.pop(key, None)

    def track(
        self,
        key: str,
        boxes: np.ndarray,
        moment: float | None,
        vectors: np.ndarray | None = None,
        crops: list[bytes | None] | None = None,
    ) -> Tracked:
        """Track a frame.

        Parameters
        ----------
        key : str
            Of the session.
        boxes : ndarray [N, 4 to 6]
            As `Tracker.update` takes them.
        moment : float, optional
            Time of the frame, s.
        vectors : ndarray [N, D], optional
            Appearance; NaN rows where there is none.
        crops : list of bytes or None, optional
            Pictures of the people in the boxes instead, described here.

        Raises
        ------
        UnknownSessionError, UserError
        """
        session = self.get(key)
        if crops is not None:
            vectors = self._describe(crops)
        with session.lock:
            tracks = session.tracker.update(boxes, moment, embedding=vectors)
            session.frames += 1
            assert session.tracker.time is not None
            return Tracked(session.tracker.time, tracks, _renumbered(session.identities, tracks))

    def _describe(self, crops: list[bytes | None]) -> np.ndarray:
        """Vectors [N, D]; NaN rows where there is no crop."""
        network = self._network()
        vectors = np.full((len(crops), network.dimension), np.nan, dtype=np.float32)
        given, left = list[tuple[int, np.ndarray]](), MOST_PIXELS
        for row, crop in enumerate(crops):
            if crop is not None:
                given.append((row, decode_picture(crop, f"crop {row}", left)))
                left -= given[-1][1].size // 3
        whole = [np.array([[0, 0, picture.shape[1], picture.shape[0]]], np.float32) for _, picture in given]
        for (row, _), vector in zip(given, network.embed_batch([each for _, each in given], whole), strict=True):
            vectors[row] = vector[0]
        return vectors

    def _network(self) -> Embedder:
        with self._loading:
            if self._embedder is None:
                self._embedder = self._make_embedder()
            return self._embedder

    def _expire(self) -> None:
        now = time.monotonic()
        for key in [key for key, each in self._open.items() if now - each.used > self.idle_seconds]:
            del self._open[key]


def _renumbered(identities: OrderedDict[int, int], tracks: sv.Detections) -> dict[int, int]:
    """Note the identity of each tracklet; those that were others, and which they are now."""
    found = {}
    for tracklet, identity in zip(tracks.data["tracklet"].tolist(), tracks.tracker_id.tolist(), strict=True):
        before = identities.pop(tracklet, identity)
        if before != identity:
            found[before] = identity
        identities[tracklet] = identity
    while len(identities) > MOST_TRACKLETS:
        identities.popitem(last=False)
    return found
