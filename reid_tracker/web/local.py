"""A page for this machine's user alone, served until they are done."""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from reid_tracker.web.guard import ICON, Guard, listen, parse_address  # isort: skip - first: it says what is missing
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from reid_tracker.errors import UserError
from reid_tracker.web.limits import LimitedProtocol

ADDRESS = "127.0.0.1:8001"


class LocalPage:
    """What such pages have in common: their files, the token, messages for a user's mistake, and an end.

    Parameters
    ----------
    static : Path
        Folder of ``index.html`` and all that it loads.

    Attributes
    ----------
    app : FastAPI
        For the page's own routes.
    """

    def __init__(self, static: Path) -> None:
        self.app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        self.app.mount("/static", StaticFiles(directory=static))
        self._server: uvicorn.Server | None = None

        @self.app.exception_handler(UserError)
        async def _refuse(_: Request, error: UserError) -> JSONResponse:
            return JSONResponse({"error": str(error)}, 409)

        @self.app.get("/")
        async def page() -> FileResponse:
            return FileResponse(static / "index.html")

        @self.app.get("/icon.svg")
        async def icon() -> FileResponse:
            return FileResponse(ICON)

        @self.app.post("/done")
        async def done() -> Response:
            if self._server is not None:
                self._server.should_exit = True
            return Response(status_code=204)

    def serve(self, address: str | None, started: Callable[[str], None]) -> None:
        """Serve until the page's user is done, or Ctrl-C.

        Parameters
        ----------
        address : str, optional
            ``HOST:PORT``; by default `ADDRESS`, or another port if that one is in use.
        started : callable
            Told the page's address, token included.

        Raises
        ------
        UserError
            If the address cannot be used.
        """
        token = secrets.token_urlsafe(16)
        with listen(*parse_address(address or ADDRESS), or_any=address is None) as listener:
            host, port = listener.getsockname()[:2]
            config = uvicorn.Config(
                Guard(self.app, token, True),
                log_level="error",
                access_log=False,
                timeout_graceful_shutdown=1,
                lifespan="off",
                http=LimitedProtocol,
            )
            self._server = uvicorn.Server(config)
            started(f"http://{f'[{host}]' if ':' in host else host}:{port}/?token={token}")
            asyncio.run(self._server.serve(sockets=[listener]))
