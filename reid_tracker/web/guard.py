"""Who may reach a page that this program serves: addresses, and a guard before every route and socket."""

import errno
import ipaddress
import re
import secrets
import socket
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from reid_tracker.errors import UserError

try:
    import uvicorn  # noqa: F401 - what serves the pages
    from fastapi.responses import Response

    from reid_tracker.web.limits import REQUEST_BYTES
except ImportError as error:
    raise UserError(
        "The page needs a package that is missing; install it with: pip install 'reid-tracker[live]'"
    ) from error

ICON = Path(__file__).parent / "icon.svg"
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


def make_token(given: str | None, is_local: bool) -> str:
    """The token that requests must carry: as given, made up where other machines can reach it, else none."""
    if given and not re.fullmatch(r"[\w.~-]+", given, re.ASCII):
        raise UserError("The token may hold letters, digits and . _ ~ - only, as it becomes part of addresses.")
    return given or ("" if is_local else secrets.token_urlsafe(16))


class Guard:
    """Lets through only who carries the token, and no other site's page: no route and no socket can be forgotten.

    Without a token only this machine may ask, by a name of its own: a foreign name that leads here is a trap.
    """

    def __init__(self, app: Any, token: str, is_local: bool, largest: int = REQUEST_BYTES) -> None:
        self._app, self._token, self._is_local, self._largest = app, token, is_local, largest

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, or let the application do so."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        host = headers.get(b"host", "")
        origin = headers.get(b"origin")
        length = headers.get(b"content-length", "0")
        if not (_is_place(f"//{host}") and _is_place(origin or "") and length.isdecimal()):
            await self._refuse(scope, send, 400, "a header cannot be read")
        elif b"transfer-encoding" in headers or len(length) > 9 or int(length) > self._largest:
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


def _is_place(url: str) -> bool:
    """Whether host and port of an address can be told."""
    try:
        parts = urlsplit(url)
        return parts.port is None or parts.hostname is not None
    except ValueError:
        return False
