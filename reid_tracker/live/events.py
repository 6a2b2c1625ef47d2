"""What happens, as JSON: a log that can be followed, and webhooks.

An event is an object::

    {"id": 17, "event": "reidentified", "time": "2026-03-01T09:30:12.250Z", "person": 4, "name": "Ada",
     "camera": "hall", "away": 42.5, "from": "door"}

========== ==========================================================================================================
key        meaning
========== ==========================================================================================================
id         grows by one with each event, from the milliseconds since 1970 at the start: it never repeats, in no run
event      "appeared": someone new; "reidentified": someone known is back, or before another camera; "left": out of a
           camera's sight for some seconds; "corrected": a person announced under another number turned out to be known
time       when it happened (UTC), which is a little before it is told: newcomers may yet turn out to be known
person     number; name is "" where none was given
camera     name of the source
seconds    of "left" only: how long the visit lasted
was        of "corrected" only: the number before, which no one else has had or will have
away, from of "reidentified" only, and only if seen before in this run: seconds since, and the camera then
========== ==========================================================================================================
"""

import json
import logging
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from http.client import HTTPException
from queue import Full, Queue
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from reid_tracker.errors import UserError
from reid_tracker.urls import masked

logger = logging.getLogger(__name__)

KEPT = 1000  # events that a follower who was away may still ask for
WAITING = 1000  # events that wait for one webhook
TRIES = 6
FIRST_WAIT, TIMEOUT = 0.5, 5.0  # s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent on arrives as a GET without the event: that is not delivered."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class EventLog:
    """The last events of a run.

    Parameters
    ----------
    last : int, optional
        Number of the last event before; by default large enough that clients of an earlier run miss none.

    Attributes
    ----------
    counts : Counter
        Events by kind.
    last : int
        Number of the last one.
    """

    def __init__(self, last: int | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.last = round(1000 * time.time()) if last is None else last
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._listeners: list[Callable[[dict[str, Any]], None]] = []
        self._lock = Lock()

    def add(self, event: dict[str, Any]) -> None:
        """Number an event, keep it, tell everyone who listens; its time is given in s since 1970."""
        moment = datetime.fromtimestamp(event["time"], UTC).isoformat(timespec="milliseconds")
        with self._lock:
            self.last += 1
            event = {"id": self.last, **event, "time": moment.replace("+00:00", "Z")}
            self.counts[event["event"]] += 1
            self._events.append(event)
        for listener in self._listeners:
            listener(event)

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Call a function with each event from now on; it must not block."""
        self._listeners.append(listener)

    def after(self, number: int) -> list[dict[str, Any]]:
        """Events later than the one of this number, as far back as they are kept."""
        with self._lock:
            return [event for event in self._events if event["id"] > number]


class Webhook:
    """Posts events to a URL in a thread of its own, in order; a dead server delays nothing else.

    Parameters
    ----------
    url : str
        http or https.

    Attributes
    ----------
    delivered, lost : int
        Events that arrived; that found no room, or no server after `TRIES` attempts.
    """

    def __init__(self, url: str, first_wait: float = FIRST_WAIT) -> None:
        try:
            parts = urlsplit(url)
            is_known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_known = False
        if not is_known:
            raise UserError(f"webhook {masked(url)}: give a URL such as http://HOST/PATH, https too.")
        self.url = url
        self._headers = {"Content-Type": "application/json"}
        who, _, place = parts.netloc.rpartition("@")
        if who:
            self._headers["Authorization"] = f"Basic {b64encode(unquote(who).encode()).decode()}"
        self._address = parts._replace(netloc=place).geturl()
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
            request = urllib.request.Request(self._address, body, self._headers)
            try:
                with _OPENER.open(request, timeout=TIMEOUT):
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
