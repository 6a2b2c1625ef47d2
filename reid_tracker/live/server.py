"""The page: pictures over a socket; people, names, merges, events, metrics over HTTP; with a token where needed."""

import asyncio
import errno
import ipaddress
import json
import logging
import secrets
import socket
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.gallery.store import LONGEST_NAME
from reid_tracker.live.events import EventLog
from reid_tracker.live.people import People

try:
    import uvicorn
    from fastapi import Body, FastAPI, Request, WebSocket, WebSocketDisconnect
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import (
        FileResponse,
        JSONResponse,
        PlainTextResponse,
        Response,
        StreamingResponse,
    )
    from fastapi.staticfiles import StaticFiles

    from reid_tracker.live.limits import REQUEST_BYTES, LimitedProtocol
except ImportError as error:
    raise UserError(
        "The page needs a package that is missing; install it with: pip install 'reid-tracker[live]'"
    ) from error

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
CLIENTS = 32  # sockets and event streams at a time
IN_FLIGHT = 2  # pictures of a camera that a client has not confirmed yet: a slow one gets fewer, never old ones
STATE_SECONDS = 0.5  # between two states
SILENT_SECONDS = 20.0  # after which a client that confirms nothing is let go
LONGEST_MESSAGE = 64  # bytes of what a client confirms
LONGEST_ID = 18  # digits of the last event that a client had
STATE = -1  # stands for the state where cameras have their place
HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"cache-control": b"no-store",
}
LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>reid-tracker</title><link rel="icon" href="data:,"><form><label>Token <input name="token" type="password"
autofocus required autocomplete="current-password"></label> <button>Open</button></form></html>"""


def parse_address(text: str) -> tuple[str, int]:
    """Read HOST:PORT; ``:PORT`` or ``PORT`` is this machine only.

    Raises
    ------
    UserError
        If it is not that.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise UserError(f"--serve {text}: write HOST:PORT, such as 127.0.0.1:8000.")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_local(host: str) -> bool:
    """Whether only this machine can reach a host's address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int, or_any: bool = False) -> socket.socket:
    """Take a port, or any other where it is in use and that is allowed; raises UserError if that is not possible."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if or_any and error.errno == errno.EADDRINUSE:
            return listen(host, 0)
        reasons = {
            errno.EADDRINUSE: "the port is in use by another program; choose another",
            errno.EACCES: "this port needs rights that this user lacks; choose one above 1023",
        }
        reason = reasons.get(
            error.errno or 0, f"cannot listen there ({error.strerror}); choose an address of this machine"
        )
        raise UserError(f"--serve {host}:{port}: {reason}.") from error


class Page:
    """The server, in a thread of its own.

    Parameters
    ----------
    listener : socket
        From `listen`.
    token : str
        What every request must carry; empty = none.
    people, events
        What is shown.
    describe : callable
        Gives the cameras' figures: dicts with ``name``, ``status``, ``error``, ``fps``, ``delay``, ``frames``,
        ``received``, ``dropped``, ``reconnects``.
    jpeg_quality : int
        1..100.
    metrics : callable, optional
        Further metrics: names to values.
    """

    def __init__(
        self,
        listener: socket.socket,
        token: str,
        people: People,
        events: EventLog,
        describe: Callable[[], list[dict[str, Any]]],
        jpeg_quality: int = 80,
        metrics: Callable[[], dict[str, float]] = dict,
    ) -> None:
        self._people, self._events, self._describe, self._metrics = people, events, describe, metrics
        self._quality = jpeg_quality
        self._pictures: dict[int, tuple[int, bytes, float]] = {}  # camera: number, JPEG, arrival of the frame
        self._number = 0
        self._clients: set[asyncio.Event] = set()
        self._watching = 0
        self.screen_delay = 0.0  # s from a frame's arrival until a client confirmed its picture, smoothed
        events.listen(lambda event: self._wake())
        app = _Guard(self._routes(), token, is_local(listener.getsockname()[0]))
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
            lifespan="off",
            http=LimitedProtocol,
            ws_max_size=LONGEST_MESSAGE,
        )
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        ready = Event()
        self._thread = Thread(target=self._run, args=(listener, ready), daemon=True, name="page")
        self._thread.start()
        ready.wait(10)

    def show(self, camera: int, image: np.ndarray, arrived: float) -> None:
        """Give the clients a camera's new picture; without clients nothing is done."""
        if not self._watching:
            return
        jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, self._quality])[1].tobytes()
        self._number += 1
        self._pictures[camera] = (self._number, bytes([camera]) + jpeg, arrived)
        self._wake()

    def is_alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the server."""
        self._server.should_exit = True
        self._wake()
        self._thread.join(5)

    def _run(self, listener: socket.socket, ready: Event) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            ready.set()
            await self._server.serve(sockets=[listener])

        asyncio.run(serve())

    def _wake(self) -> None:
        """Tell all clients, from any thread, that there is something new."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_clients)

    def _wake_clients(self) -> None:
        for changed in self._clients:
            changed.set()

    def _state(self) -> dict[str, Any]:
        return {
            "cameras": self._describe(),
            "people": self._people.describe(self._people.in_view()),
            "seen": self._people.total,
            "screen_delay": round(self.screen_delay, 3),
        }

    def _routes(self) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.mount("/static", StaticFiles(directory=STATIC))

        @app.exception_handler(UserError)
        async def _refuse(_: Request, error: UserError) -> JSONResponse:
            return JSONResponse({"error": str(error)}, 409)

        @app.exception_handler(RequestValidationError)
        async def _refuse_form(_: Request, error: RequestValidationError) -> JSONResponse:
            where = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors()}))
            return JSONResponse({"error": f"This cannot be read ({where})."}, 400)

        @app.get("/")
        async def index() -> FileResponse:
            return FileResponse(STATIC / "index.html")

        @app.get("/state")
        async def state() -> JSONResponse:
            return JSONResponse(self._state())

        @app.get("/people")
        async def everyone() -> JSONResponse:
            return JSONResponse(self._people.describe())

        @app.get("/people/{number}/crop")
        async def crop(number: int) -> Response:
            picture = self._people.crop(number)
            return Response(picture, 200 if picture else 404, media_type="image/jpeg")

        # Not async: the gallery behind these two may take its time.
        @app.post("/people/{number}/name")
        def rename(number: int, name: Annotated[str, Body(embed=True, max_length=4 * LONGEST_NAME)]) -> Response:
            self._people.rename(number, name)
            return Response(status_code=204)

        @app.post("/people/{number}/merge")
        def merge(number: int, other: Annotated[int, Body(embed=True)]) -> Response:
            self._people.merge(number, other)
            return Response(status_code=204)

        @app.get("/events")
        async def events(request: Request, after: int | None = None) -> Response:
            if len(self._clients) >= CLIENTS:
                return PlainTextResponse("too many clients\n", 503)
            last = request.headers.get("last-event-id", "")
            if last.isdecimal() and len(last) <= LONGEST_ID:
                after = int(last)
            changed = asyncio.Event()
            self._clients.add(changed)
            start = self._events.last if after is None else after
            return _EventStream(self._follow(start, changed), lambda: self._clients.discard(changed))

        @app.get("/metrics")
        async def metrics() -> PlainTextResponse:
            return PlainTextResponse(self._measure(), media_type="text/plain; version=0.0.4")

        app.add_api_websocket_route("/socket", self._serve_client)
        return app

    async def _follow(self, last: int, changed: asyncio.Event) -> AsyncIterator[str]:
        """Events as server-sent events: those after a number that are kept, then each as it happens."""
        while not self._server.should_exit:
            changed.clear()  # first: what comes while these are sent must not be missed
            for event in self._events.after(last):
                last = event["id"]
                yield f"id: {last}\nevent: {event['event']}\ndata: {json.dumps(event)}\n\n"
            try:
                await asyncio.wait_for(changed.wait(), 15)
            except TimeoutError:
                yield ": still here\n\n"

    async def _serve_client(self, socket: WebSocket) -> None:
        """Send states and pictures as fast as the client confirms them."""
        await socket.accept()
        if len(self._clients) >= CLIENTS:
            await socket.close(1013, "too many clients")
            return
        client = _Client()
        self._clients.add(client.changed)
        self._watching += 1
        receiving = asyncio.create_task(self._receive(socket, client))
        try:
            await self._send(socket, client, receiving)
        except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError):
            pass  # gone, or so slow that it is given up
        finally:
            receiving.cancel()
            self._watching -= 1
            self._clients.discard(client.changed)

    async def _send(self, socket: WebSocket, client: "_Client", receiving: "asyncio.Task[None]") -> None:
        sent: dict[int, int] = {}
        next_state = 0.0
        while not self._server.should_exit and not receiving.done():
            client.changed.clear()
            now = time.monotonic()
            if now - client.heard > SILENT_SECONDS:
                await socket.close(1008, "nothing confirmed")
                return
            if now >= next_state and client.may_get(STATE, 1):
                client.flying[STATE].append(now)
                await asyncio.wait_for(socket.send_text(json.dumps(self._state())), SILENT_SECONDS)
                next_state = now + STATE_SECONDS
            for camera, (number, picture, arrived) in list(self._pictures.items()):
                if number > sent.get(camera, 0) and client.may_get(camera, IN_FLIGHT):
                    sent[camera] = number
                    client.flying[camera].append(arrived)
                    await asyncio.wait_for(socket.send_bytes(picture), SILENT_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(client.changed.wait(), STATE_SECONDS)

    async def _receive(self, socket: WebSocket, client: "_Client") -> None:
        """Note what the client confirms: the camera's place of a picture that is on its screen, or STATE."""
        try:
            while True:
                key = int(await socket.receive_text())
                client.heard = time.monotonic()
                if client.flying.get(key):
                    arrived = client.flying[key].popleft()
                    if key != STATE:
                        self.screen_delay += 0.1 * (client.heard - arrived - self.screen_delay)
                    client.changed.set()
        except ValueError:
            await socket.close(1003, "not the number of a camera")
        finally:
            client.changed.set()

    def _measure(self) -> str:
        """Everything in the text format of Prometheus."""
        lines: list[str] = []

        def add(name: str, kind: str, rows: Sequence[tuple[str, float]]) -> None:
            lines.append(f"# TYPE {name} {kind}")
            lines.extend(f"{name}{labels} {value:g}" for labels, value in rows)

        cameras = self._describe()
        marks = ['{camera="' + each["name"].replace("\\", r"\\").replace('"', r"\"") + '"}' for each in cameras]
        for name, kind, key in (
            ("frames_received_total", "counter", "received"),
            ("frames_dropped_total", "counter", "dropped"),
            ("frames_tracked_total", "counter", "frames"),
            ("reconnects_total", "counter", "reconnects"),
            ("frames_per_second", "gauge", "fps"),
            ("delay_seconds", "gauge", "delay"),
        ):
            add(f"reid_tracker_{name}", kind, [(mark, each[key]) for mark, each in zip(marks, cameras, strict=True)])
        up = [(mark, float(each["status"] == "live")) for mark, each in zip(marks, cameras, strict=True)]
        add("reid_tracker_camera_up", "gauge", up)
        add("reid_tracker_people_in_view", "gauge", [("", len(self._people.in_view()))])
        add("reid_tracker_people_total", "counter", [("", self._people.total)])
        kinds = ("appeared", "corrected", "left", "reidentified")
        counts = [(f'{{event="{kind}"}}', float(self._events.counts[kind])) for kind in kinds]
        add("reid_tracker_events_total", "counter", counts)
        add("reid_tracker_page_clients", "gauge", [("", self._watching)])
        for name, value in self._metrics().items():
            add(name, "counter" if name.endswith("_total") else "gauge", [("", value)])
        return "\n".join(lines) + "\n"


def _is_place(url: str) -> bool:
    """Whether host and port of an address can be told."""
    try:
        parts = urlsplit(url)
        return parts.port is None or parts.hostname is not None
    except ValueError:
        return False


class _Client:
    """What a client has been sent and has not confirmed: the arrivals of those frames, by camera."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.flying: defaultdict[int, deque[float]] = defaultdict(deque)
        self.heard = time.monotonic()

    def may_get(self, key: int, most: int) -> bool:
        return len(self.flying[key]) < most


class _EventStream(StreamingResponse):
    """Server-sent events; a client that reads nothing for so long is let go, and its place is free again."""

    def __init__(self, events: AsyncIterator[str], free: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._free = free

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_in_time(message: Any) -> None:
            await asyncio.wait_for(send(message), SILENT_SECONDS)

        try:
            with suppress(TimeoutError):
                await super().__call__(scope, receive, send_in_time)
        finally:
            self._free()


class _Guard:
    """Lets through only who carries the token, and no other site's page: no route and no socket can be forgotten.

    Without a token only this machine may ask, by a name of its own: a foreign name that leads here is a trap.
    """

    def __init__(self, app: Any, token: str, is_local: bool) -> None:
        self._app, self._token, self._is_local = app, token, is_local

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        host = headers.get(b"host", "")
        origin = headers.get(b"origin")
        length = headers.get(b"content-length", "0")
        if not (_is_place(f"//{host}") and _is_place(origin or "") and length.isdecimal()):
            await self._refuse(scope, send, 400, "a header cannot be read")
        elif b"transfer-encoding" in headers or len(length) > 9 or int(length) > REQUEST_BYTES:
            await self._refuse(scope, send, 413, "too much at once")
        elif origin is not None and urlsplit(origin).netloc != host:
            await self._read(scope, receive)
            await self._refuse(scope, send, 403, "this request comes from another site")
        elif self._token and not self._knows_token(headers, query):
            await self._read(scope, receive)
            await self._refuse(scope, send, 401, LOGIN if scope.get("path") == "/" else "a token is needed")
        elif not self._token and self._is_local and not is_local(urlsplit(f"//{host}").hostname or ""):
            await self._read(scope, receive)
            await self._refuse(scope, send, 403, "ask for localhost or 127.0.0.1")
        elif self._token and "token" in query and scope["type"] == "http" and scope["path"] == "/":
            cookie = f"{self._cookie(host)}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            response = Response(
                status_code=303, headers={"location": ".", "set-cookie": cookie, "cache-control": "no-store"}
            )
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, self._with_headers(send))

    def _knows_token(self, headers: dict[bytes, str], query: dict[str, list[str]]) -> bool:
        cookies = dict(part.strip().partition("=")[::2] for part in headers.get(b"cookie", "").split(";"))
        given = [
            *query.get("token", []),
            headers.get(b"authorization", "").removeprefix("Bearer "),
            cookies.get(self._cookie(headers.get(b"host", "")), ""),
        ]
        return any(secrets.compare_digest(each.encode(), self._token.encode()) for each in given)

    @staticmethod
    def _cookie(host: str) -> str:
        """Cookies know no ports: two trackers on one machine need two names."""
        return f"reid_tracker_{urlsplit(f'//{host}').port or 0}"

    @staticmethod
    async def _read(scope: Any, receive: Any) -> None:
        """Take the body, which is bounded: a connection closed before it came would be reset, and the answer lost."""
        while scope["type"] == "http" and (await receive()).get("more_body"):
            pass

    @staticmethod
    async def _refuse(scope: Any, send: Any, status: int, text: str) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": text[:100]})
            return
        kind = b"text/html; charset=utf-8" if text is LOGIN else b"text/plain; charset=utf-8"
        headers = [(b"content-type", kind), (b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": f"{text}\n".encode()})

    @staticmethod
    def _with_headers(send: Any) -> Any:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        return with_headers
