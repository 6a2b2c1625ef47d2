"""What a stranger may take of the server before the token is looked at: connections, bytes and time."""

import asyncio
from collections import OrderedDict
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 128  # at a time; the one that has waited longest with its request makes room for another
REQUEST_SECONDS = 10.0  # from the first byte (or the connection) to the end of a request
SILENT_SECONDS = 20.0  # for which a client may read nothing of its answer
REQUEST_BYTES = 1 << 16  # of a body; h11 itself bounds the headers


class LimitedProtocol(H11Protocol):
    """Uvicorn's own protocol, whose connections end when a request takes too long or others need the place."""

    waiting: ClassVar["OrderedDict[LimitedProtocol, None]"] = OrderedDict()
    """Connections whose request is not whole yet, the oldest first; of all servers in this process."""

    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever: its connection would stay for minutes."""
        super().pause_writing()
        self._reading = self.loop.call_later(SILENT_SECONDS, self.end)

    def resume_writing(self) -> None:
        """Go on."""
        if self._reading is not None:
            self._reading.cancel()
        super().resume_writing()

    def connection_made(self, transport: Any) -> None:
        """Accept a connection."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            oldest = next(iter(self.waiting), self)
            oldest.end()
        if not self.transport.is_closing():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        if self._reading is not None:
            self._reading.cancel()
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        is_whole = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if is_whole or self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._go_on()
        elif self._deadline is None:
            self._wait()

    def end(self) -> None:
        """Close at once."""
        self._go_on()
        self.transport.abort()

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.end)
        self.waiting[self] = None

    def _go_on(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        self.waiting.pop(self, None)
