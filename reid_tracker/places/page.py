"""The page on which places are drawn over a still of the video, for this machine's user alone."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np

from reid_tracker.web.guard import ICON, Guard, listen, parse_address  # isort: skip - first: it says what is missing
import uvicorn
from fastapi import Body, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from reid_tracker.errors import UserError
from reid_tracker.places.files import Places, parse
from reid_tracker.video.annotate import PLACE_COLORS
from reid_tracker.web.limits import LimitedProtocol

STATIC = Path(__file__).parent / "static"
ADDRESS = "127.0.0.1:8001"


def serve(
    image: np.ndarray,
    places: Places,
    save: Callable[[Places], None],
    title: str,
    address: str | None = None,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page until its user is done, or Ctrl-C.

    Parameters
    ----------
    image : ndarray uint8 [H, W, 3], BGR
        The still.
    places : Places
        What is there to begin with.
    save : callable
        Keeps the places; called at each saving.
    title : str
        What the page is about.
    address : str, optional
        ``HOST:PORT``; by default `ADDRESS`, or another port if that one is in use.
    started : callable
        Told the page's address, token included.

    Raises
    ------
    UserError
        If the address cannot be used.
    """
    height, width = image.shape[:2]
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    kept = places
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=STATIC))

    @app.exception_handler(UserError)
    async def _refuse(_: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 409)

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/icon.svg")
    async def icon() -> FileResponse:
        return FileResponse(ICON)

    @app.get("/still.jpg")
    async def still() -> Response:
        return Response(jpeg, media_type="image/jpeg")

    @app.get("/places")
    async def read() -> dict[str, Any]:
        shapes = {name: points.round(1).tolist() for name, points in kept.shapes.items()}
        return {"title": title, "size": [width, height], "colors": PLACE_COLORS, "places": shapes}

    @app.post("/places")
    def write(content: Annotated[Any, Body()]) -> Response:
        nonlocal kept
        given = parse(content, "the page")
        kept = Places(given.shapes, (width, height)).within(width, height, "the page")
        save(kept)
        return Response(status_code=204)

    @app.post("/done")
    async def done() -> Response:
        server.should_exit = True
        return Response(status_code=204)

    token = secrets.token_urlsafe(16)
    with listen(*parse_address(address or ADDRESS), or_any=address is None) as listener:
        host, port = listener.getsockname()[:2]
        config = uvicorn.Config(
            Guard(app, token, True),
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
            lifespan="off",
            http=LimitedProtocol,
        )
        server = uvicorn.Server(config)
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}")
        asyncio.run(server.serve(sockets=[listener]))
