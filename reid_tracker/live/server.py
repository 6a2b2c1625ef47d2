"""The page: pictures over a socket; people, names, merges, events, metrics over HTTP; with a token where needed."""

import asyncio
import json
import logging
import socket
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any

import cv2
import numpy as np

from reid_tracker.web.guard import ICON, Guard, is_local  # isort: skip - first: it says which package is missing
import uvicorn
from fastapi import Body, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles

from reid_tracker.errors import UserError
from reid_tracker.gallery.store import LONGEST_NAME
from reid_tracker.live.events import EventLog
from reid_tracker.live.people import People
from reid_tracker.web.limits import LimitedProtocol

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
CLIENTS = 32  # sockets and event streams at a time
IN_FLIGHT = 2  # pictures of a camera that a client has not confirmed yet: a slow one gets fewer, never old ones
STATE_SECONDS = 0.5  # between two states
SILENT_SECONDS = 20.0  # after which a client that confirms nothing is disconnected
LONGEST_MESSAGE = 64  # bytes of what a client confirms
LONGEST_ID = 18  # digits of the last event that a client had
STATE = -1  # stands for the state where cameras have their place


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
        ``received``, ``dropped``, ``reconnects``, and what is counted: ``counts`` and, in words, ``counted``.
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
        app = Guard(self._routes(), token, is_local(listener.getsockname()[0]))
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
            "undo": self._people.last_merge(),
            "screen_delay": round(self.screen_delay, 3),
        }

    def _routes(self) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.mount("/static", StaticFiles(directory=STATIC))

        @app.get("/icon.svg")
        async def icon() -> FileResponse:
            return FileResponse(ICON)

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

        @app.post("/people/undo")
        def undo() -> Response:
            self._people.undo()
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
        marks = [_mark(camera=each["name"]) for each in cameras]
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
        for name, kind, rows in _passages(cameras):
            add(name, kind, rows)
        kinds = ("appeared", "corrected", "left", "passed", "reidentified")
        counts = [(f'{{event="{kind}"}}', float(self._events.counts[kind])) for kind in kinds]
        add("reid_tracker_events_total", "counter", counts)
        add("reid_tracker_page_clients", "gauge", [("", self._watching)])
        for name, value in self._metrics().items():
            add(name, "counter" if name.endswith("_total") else "gauge", [("", value)])
        return "\n".join(lines) + "\n"


def _mark(**labels: str) -> str:
    """Labels as Prometheus writes them."""
    quoted = (f'{key}="' + value.replace("\\", r"\\").replace('"', r"\"") + '"' for key, value in labels.items())
    return "{" + ",".join(quoted) + "}"


def _passages(cameras: list[dict[str, Any]]) -> list[tuple[str, str, list[tuple[str, float]]]]:
    """Metrics of what cameras counted: name, kind, and value by labels."""
    passed, inside = [], []
    for camera in cameras:
        counts = camera.get("counts", {})
        for place, each in [*counts.get("lines", {}).items(), *counts.get("zones", {}).items()]:
            mark = {"camera": camera["name"], "place": place}
            passed += [(_mark(**mark, way=way), float(each[way])) for way in ("in", "out")]
            if "inside" in each:
                inside.append((_mark(**mark), float(each["inside"])))
    found = (("passages_total", "counter", passed), ("people_inside", "gauge", inside))
    return [(f"reid_tracker_{name}", kind, rows) for name, kind, rows in found if rows]


class _Client:
    """What a client has been sent and has not confirmed: the arrivals of those frames, by camera."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.flying: defaultdict[int, deque[float]] = defaultdict(deque)
        self.heard = time.monotonic()

    def may_get(self, key: int, most: int) -> bool:
        return len(self.flying[key]) < most


class _EventStream(StreamingResponse):
    """Server-sent events; a client that reads nothing for so long is disconnected, and its place is free again."""

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
