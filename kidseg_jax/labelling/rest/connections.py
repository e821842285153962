"""Connections to the server: how many there may be, and how long a client may keep one waiting.

uvicorn bounds the time between two requests alone. Nothing here asks what a client sends: a connection that
says nothing never stands in the way of one that does.
"""

import asyncio
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST, MOST_OF_ADDRESS = 256, 64
HEAD_S = 10.0  # for the head of a request, and for the rest of a body that was refused
STALLED_S = 20.0  # without a byte of a body, or without the client taking one of the answer
SLOW_S = 60.0  # for a body, and a second more for each so many bytes of it:
LEAST_BYTES_A_SECOND = 4000
LOOK_S = 1.0
LEAVE_S, END_S = 1.5, 4.0  # at the end: for clients that keep us waiting, and for everyone
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Connection(H11Protocol):
    """One connection. Where there are too many, the one that has kept us waiting the longest is closed.

    `MOST_OF_ADDRESS` of one address, `MOST` of all; 503 where all of them are being answered.
    """

    address = ""
    received = 0  # bytes since `since`
    since = heard = 0.0  # when what we wait for began, and when the client last gave or took a byte
    _unsent = 0
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._wait_anew()
        self._watch = self.loop.call_later(LOOK_S, self._look)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was = self.conn.their_state
        self.heard = self.loop.time()
        self.received += len(data)
        super().data_received(data)
        if self.conn.their_state is not was:
            self._wait_anew()

    def on_response_complete(self) -> None:
        self._wait_anew()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """The answer to bytes that are no HTTP; amid a body the application hears no more of it."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                return self.transport.abort()
        super().send_400_response(msg)

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(LEAVE_S, lambda: self.transport.abort() if self.keeps_us_waiting else None)

    @property
    def keeps_us_waiting(self) -> bool:
        """Whether the client is to give or take the next byte."""
        if self.flow.write_paused:
            return True
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.flow.read_paused

    def _wait_anew(self) -> None:
        self.since = self.heard = self.loop.time()
        self.received = 0

    def _look(self) -> None:
        """Close the connection where the client has been too slow; else look again."""
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self.heard = unsent, now
        if not self.keeps_us_waiting:
            self._wait_anew()
        elif now - self.heard > STALLED_S or now - self.since > self._allowed_s():
            self.transport.abort()
            return
        self._watch = self.loop.call_later(LOOK_S, self._look)

    def _allowed_s(self) -> float:
        if self.flow.write_paused:
            return float("inf")
        is_refused = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is h11.IDLE or is_refused:
            return HEAD_S
        return SLOW_S + self.received / LEAST_BYTES_A_SECOND

    def _make_room(self) -> None:
        everyone = [c for c in self.connections if isinstance(c, Connection) and not c.transport.is_closing()]
        crowd = [c for c in everyone if c.address == self.address]
        if len(crowd) <= MOST_OF_ADDRESS:
            if len(everyone) <= MOST:
                return
            crowd = everyone
        waiting = [c for c in crowd if c is not self and c.keeps_us_waiting]
        if waiting:
            min(waiting, key=lambda c: c.heard).transport.abort()
        else:
            self.transport.write(BUSY)
            self.transport.close()


def settings(app: ASGIApp, **more: Any) -> uvicorn.Config:
    """How uvicorn serves the application: with these connections, no WebSockets, an end within seconds."""
    usual: dict[str, Any] = {
        "http": Connection,
        "ws": "none",
        "log_config": None,
        "log_level": "error",  # a line for each broken request would be anybody's to write
        "proxy_headers": False,  # an address that a client may choose would be no brake
        "timeout_graceful_shutdown": END_S,
        "server_header": False,
    }
    return uvicorn.Config(app, **usual | more)
