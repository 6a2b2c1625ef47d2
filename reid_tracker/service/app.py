"""What the service answers: routes, and what goes in and comes out, from which its OpenAPI description is made."""

import asyncio
import base64
import binascii
from typing import Annotated, Any

from reid_tracker.web.guard import Guard  # isort: skip - first: it says which package is missing
import numpy as np
from fastapi import FastAPI, Path, Request, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException

import reid_tracker
from reid_tracker.config import TrackerSettings
from reid_tracker.errors import UserError
from reid_tracker.service.sessions import Sessions, TooManySessionsError, Tracked, UnknownSessionError

MOST_BOXES, LONGEST_VECTOR = 2000, 4096
FRAME_BYTES = 1 << 23  # of a request or a message
FURTHEST = 1e6  # px; of a box's corner
Number = Annotated[float, Field(allow_inf_nan=False)]
Pixel = Annotated[float, Field(allow_inf_nan=False, ge=-FURTHEST, le=FURTHEST)]
Key = Annotated[str, Path(min_length=1, max_length=64, description="Of the session.")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _read_whole(cls, given: Any) -> Any:
        """Take 3.0 for 3, as JSON knows one kind of number."""
        if not isinstance(given, dict):
            return given
        whole = {name: int(each) for name, each in given.items() if isinstance(each, float) and each.is_integer()}
        return given | whole


class _Tracker(_Strict, TrackerSettings):
    """The tracker's settings, as in configs/track.yaml."""


class NewSession(_Strict):
    """A camera."""

    frame_rate: Annotated[
        float, Field(gt=0, le=1000, allow_inf_nan=False, description="Frames a second, where frames bear no time.")
    ] = 30.0
    tracker: _Tracker = Field(default_factory=_Tracker, description="As in configs/track.yaml.")
    crops: bool = Field(False, description="true = frames bring crops, which the bundled network describes.")


class SessionInfo(BaseModel):
    """A session."""

    session: str = Field(description="Its key, which is all that is needed to use it.")
    frames: int = Field(description="Tracked so far.")
    people: int = Field(description="Told apart so far.")
    idle_seconds: float = Field(description="Unused for so long, it ends.")


class Box(_Strict):
    """A detection, px from the upper left corner of the picture."""

    xyxy: Annotated[list[Pixel], Field(min_length=4, max_length=4, description="Left, top, right, bottom.")]
    confidence: Annotated[float, Field(ge=0, le=1)] = 1.0
    class_id: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    vector: Annotated[list[Number], Field(min_length=1, max_length=LONGEST_VECTOR)] | None = Field(
        None, description="Appearance, of the same length in all frames of a session; compared by cosine."
    )
    crop: str | None = Field(
        None, description="The picture in the box, JPEG or PNG, base64.", json_schema_extra={"format": "byte"}
    )


class NewFrame(_Strict):
    """Detections of one frame."""

    time: Number | None = Field(None, description="s; later than the last frame's. null = 1 / frame_rate after it.")
    boxes: Annotated[list[Box], Field(max_length=MOST_BOXES)] = []


class Track(BaseModel):
    """Who a box is."""

    box: int = Field(description="Position in `boxes`, from 0.")
    id: int = Field(description="Number of the person in this session.")
    tracklet: int = Field(description="Of the unbroken piece of motion.")
    xyxy: list[float] = Field(description="The box without the detector's jitter, px.")


class TrackedFrame(BaseModel):
    """Confirmed people of a frame."""

    time: float = Field(description="s")
    tracks: list[Track]
    renumbered: dict[int, int] = Field(
        description="Numbers that turned out to be older ones: all that was said of the first is of the second."
    )


class Mistake(BaseModel):
    """What is wrong, and how to fix it."""

    error: str


MISTAKES: dict[int | str, dict[str, Any]] = {
    400: {"model": Mistake, "description": "It cannot be read."},
    401: {"description": "The token is missing.", "content": {"text/plain": {}}},
    403: {"description": "It comes from another site.", "content": {"text/plain": {}}},
    413: {"description": "More than is taken at once.", "content": {"text/plain": {}}},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Mistake, "description": "There is no such session."}}
REFUSED: dict[int | str, dict[str, Any]] = {
    409: {"model": Mistake, "description": "It does not fit what came before; the session is as it was."}
}


def make_app(sessions: Sessions, token: str, is_local: bool) -> Guard:
    """The application, behind its guard."""
    app = FastAPI(
        title="reid-tracker",
        version=reid_tracker.__version__,
        description="Send each frame's detections of a camera, get back who is who. A session is a camera. "
        "The WebSocket /sessions/{session}/stream takes and gives the same JSON, a message a frame.",
        docs_url=None,
        redoc_url=None,
        responses=MISTAKES,
    )

    @app.exception_handler(UserError)
    async def _refuse(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, _status(error))

    @app.exception_handler(RequestValidationError)
    async def _refuse_form(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _places(error.errors())}, 400)

    @app.exception_handler(HTTPException)
    async def _refuse_request(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # a path has several routes, and FastAPI names one of them
            able = (each for each in app.routes if isinstance(each, APIRoute) and each.matches(request.scope)[0].value)
            headers["allow"] = ", ".join(sorted(method for each in able for method in each.methods or ()))
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers)

    # Not async: a tracker takes its time, and each of these runs in a thread of its own.
    @app.post("/sessions", status_code=201, responses={429: {"model": Mistake, "description": "Too many sessions."}})
    def begin(wanted: NewSession) -> SessionInfo:
        """Begin a session."""
        return _info(sessions, sessions.begin(wanted.frame_rate, wanted.tracker, wanted.crops))

    @app.get("/sessions/{session}", responses=UNKNOWN)
    def show(session: Key) -> SessionInfo:
        """Tell of a session."""
        return _info(sessions, session)

    @app.delete("/sessions/{session}", status_code=204, responses=UNKNOWN)
    def end(session: Key) -> Response:
        """End a session."""
        sessions.end(session)
        return Response(status_code=204)

    @app.post("/sessions/{session}/frames", responses=UNKNOWN | REFUSED)
    def track(session: Key, frame: NewFrame) -> TrackedFrame:
        """Track a frame."""
        return _track(sessions, session, frame)

    @app.websocket("/sessions/{session}/stream")
    async def stream(socket: WebSocket, session: str) -> None:
        await socket.accept()
        try:
            while True:
                answer = await asyncio.to_thread(_answer, sessions, session, await socket.receive_text())
                await socket.send_text(answer)
        except UnknownSessionError as error:
            await socket.close(1008, str(error))
        except (WebSocketDisconnect, KeyError):  # gone, or no text
            pass

    _tidy(app)
    return Guard(app, token, is_local, FRAME_BYTES)


def _tidy(app: FastAPI) -> None:
    """Leave out of the description what this service never answers: FastAPI's own 422."""
    made = app.openapi()
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(name, None)


def _answer(sessions: Sessions, session: str, text: str) -> str:
    """A message's answer."""
    try:
        return _track(sessions, session, NewFrame.model_validate_json(text)).model_dump_json()
    except ValidationError as error:
        return Mistake(error=_places(error.errors())).model_dump_json()
    except UnknownSessionError:
        raise
    except UserError as error:
        return Mistake(error=str(error)).model_dump_json()


def _track(sessions: Sessions, session: str, frame: NewFrame) -> TrackedFrame:
    boxes = np.array([[*each.xyxy, each.confidence, each.class_id] for each in frame.boxes], float).reshape(-1, 6)
    vectors = crops = None
    lengths = {len(each.vector) for each in frame.boxes if each.vector is not None}
    if len(lengths) > 1:
        raise UserError("The vectors of a frame must be of one length.")
    length = max(lengths, default=0)
    if any(each.crop is not None for each in frame.boxes):
        if length:
            raise UserError("A frame brings vectors or crops, not both.")
        crops = [None if each.crop is None else _bytes(row, each.crop) for row, each in enumerate(frame.boxes)]
    elif length:
        vectors = np.full((len(boxes), length), np.nan, dtype=np.float32)
        for row, each in enumerate(frame.boxes):
            if each.vector is not None:
                vectors[row] = np.clip(each.vector, -1e30, 1e30)
    return _told(sessions.track(session, boxes, frame.time, vectors, crops))


def _bytes(row: int, crop: str) -> bytes:
    try:
        return base64.b64decode(crop, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"crop {row}: not base64.") from error


def _told(tracked: Tracked) -> TrackedFrame:
    tracks = tracked.tracks
    rows = zip(
        tracks.data["row"].tolist(),
        tracks.tracker_id.tolist(),
        tracks.data["tracklet"].tolist(),
        tracks.data["smooth_xyxy"].tolist(),
        strict=True,
    )
    found = [
        Track(box=box, id=identity, tracklet=tracklet, xyxy=[round(each, 2) for each in xyxy])
        for box, identity, tracklet, xyxy in rows
    ]
    return TrackedFrame(time=tracked.time, tracks=found, renumbered=tracked.renumbered)


def _info(sessions: Sessions, key: str) -> SessionInfo:
    session = sessions.get(key)
    return SessionInfo(
        session=key,
        frames=session.frames,
        people=session.tracker.identities,
        idle_seconds=sessions.idle_seconds,
    )


def _status(error: UserError) -> int:
    return {UnknownSessionError: 404, TooManySessionsError: 429}.get(type(error), 409)


def _places(errors: Any) -> str:
    """Where something cannot be read, and why: one sentence, and nothing of what was sent."""
    told = dict.fromkeys(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in errors)
    return "This cannot be read: " + "; ".join(list(told)[:5])
