"""Serving until Ctrl-C."""

import asyncio
from collections.abc import Callable

from reid_tracker.service.app import FRAME_BYTES, make_app  # isort: skip - first: it says which package is missing
import uvicorn

from reid_tracker.service.sessions import Sessions
from reid_tracker.web.guard import is_local, listen, make_token, parse_address
from reid_tracker.web.limits import LimitedProtocol

ADDRESS = "127.0.0.1:8002"


def serve(
    address: str, token: str | None, idle_seconds: float, most_sessions: int, started: Callable[[str, str], None]
) -> None:
    """Serve the tracker to other programs until Ctrl-C.

    Parameters
    ----------
    address : str
        ``HOST:PORT``.
    token : str, optional
        What every request must carry; made up where other machines can reach the address, else none.
    idle_seconds : float
        Sessions end when they are unused for so long.
    most_sessions : int
        At a time.
    started : callable
        Told the address and the token once requests are answered.

    Raises
    ------
    UserError
        If the address or the token cannot be used.
    """
    sessions = Sessions(idle_seconds, most_sessions)
    with listen(*parse_address(address)) as listener:
        host, port = listener.getsockname()[:2]
        wanted = make_token(token, is_local(host))
        config = uvicorn.Config(
            make_app(sessions, wanted, is_local(host)),
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=1,
            lifespan="off",
            http=LimitedProtocol,
            ws_max_size=FRAME_BYTES,
        )
        started(f"http://{f'[{host}]' if ':' in host else host}:{port}", wanted)
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
