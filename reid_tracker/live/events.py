"""What happens, as JSON: a log that can be followed, and webhooks that are told.

An event is an object::

    {"id": 17, "event": "reidentified", "time": "2026-03-01T09:30:12.250Z", "person": 4, "name": "Ada",
     "camera": "hall", "away": 42.5, "from": "door"}

========== ==========================================================================================================
key        meaning
========== ==========================================================================================================
id         counts from 1 and never repeats in a run
event      "appeared": someone new; "reidentified": someone known is back, or before another camera; "left": out of a
           camera's sight for some seconds
time       when it happened (UTC), which is a little before it is told: newcomers may yet turn out to be known
person     number; name is "" where none was given
camera     name of the source
seconds    of "left" only: how long the visit lasted
away, from of "reidentified" only, and only if seen before in this run: seconds since, and the camera then
========== ==========================================================================================================
"""

import json
import logging
import urllib.error
import urllib.request
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from queue import Full, Queue
from threading import Event, Lock, Thread
from typing import Any

from reid_tracker.errors import UserError
from reid_tracker.live.capture import masked

logger = logging.getLogger(__name__)

KEPT = 1000  # events that a follower who was away may still ask for
WAITING = 1000  # events that wait for one webhook
TRIES = 6
FIRST_WAIT, TIMEOUT = 0.5, 5.0  # s


class EventLog:
    """The last events of a run.

    Attributes
    ----------
    counts : Counter
        Events by kind.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._listeners: list[Callable[[dict[str, Any]], None]] = []
        self._lock = Lock()

    def add(self, event: dict[str, Any]) -> None:
        """Number an event, keep it, tell everyone who listens; its time is given in s since 1970."""
        moment = datetime.fromtimestamp(event["time"], UTC).isoformat(timespec="milliseconds")
        with self._lock:
            event = {"id": self.counts.total() + 1, **event, "time": moment.replace("+00:00", "Z")}
            self.counts[event["event"]] += 1
            self._events.append(event)
        for listener in self._listeners:
            listener(event)

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Call somebody with each event from now on; they must not block."""
        self._listeners.append(listener)

    def after(self, number: int) -> list[dict[str, Any]]:
        """Events later than the one of this number, as far back as they are kept."""
        with self._lock:
            return [event for event in self._events if event["id"] > number]


class Webhook:
    """Posts events to a URL in a thread of its own, in order; a dead server costs nobody else anything.

    Parameters
    ----------
    url : str
        http or https.

    Attributes
    ----------
    delivered, lost : int
        Events that arrived; that found no room, or nobody after `TRIES` attempts.
    """

    def __init__(self, url: str, first_wait: float = FIRST_WAIT) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"webhook {masked(url)}: give a URL that begins with http:// or https://.")
        self.url = url
        self.delivered = self.lost = 0
        self._failed = False
        self._first_wait = first_wait
        self._waiting: Queue[dict[str, Any] | None] = Queue(WAITING)
        self._stopping = Event()
        self._thread = Thread(target=self._run, daemon=True, name="webhook")
        self._thread.start()

    def put(self, event: dict[str, Any]) -> None:
        """Let an event be posted; without room it is lost."""
        try:
            self._waiting.put_nowait(event)
        except Full:
            self.lost += 1

    def close(self, seconds: float = 2.0) -> None:
        """Post what waits, as far as it goes within some seconds."""
        self.put(None)  # type: ignore[arg-type]
        self._thread.join(seconds)
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set() and (event := self._waiting.get()) is not None:
            self._deliver(json.dumps(event).encode())

    def _deliver(self, body: bytes) -> None:
        wait, reason = self._first_wait, ""
        for _ in range(TRIES):
            request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT):
                    self.delivered += 1
                    return
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {error.reason}"
                if error.code < 500 and error.code not in (408, 429):
                    break  # it will not want it the next time either
            except (OSError, ValueError, HTTPException) as error:
                reason = str(getattr(error, "reason", error))
            if self._stopping.wait(wait):
                break
            wait *= 2
        if not self._failed:
            logger.warning("webhook %s: an event could not be delivered (%s).", masked(self.url), reason)
        self._failed = True
        self.lost += 1
