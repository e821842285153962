"""Who may ask, and how much they may send: the outermost layer of the server."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DRAINED_BYTES, DRAINED_S = 64 << 20, 5.0
OPEN_PATHS = ("/auth", "/auth/", "/auth/token", "/auth/token/")


class TooLarge(Exception):
    """A body grew past the limit while it was read."""


@dataclass(frozen=True)
class Access:
    """Refuses foreign hosts and web pages, wrong tokens and large bodies before the application sees them.

    token: what `Authorization: Bearer` must hold; None on loopback, where instead the Host must be a
    loopback name, so that no web page can reach the server under a name of its own. A request that a
    browser sends for another site (Origin) is refused everywhere. largest_bytes bounds a body, whether or
    not its length is declared.
    """

    app: ASGIApp
    token: str | None
    largest_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        if refusal:
            if refusal.status_code == 413 and int(headers["content-length"]) <= DRAINED_BYTES:
                await _drain(receive)
            return await refusal(scope, receive, send)
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.largest_bytes:
                if message.get("more_body"):
                    await _drain(receive)
                raise TooLarge(f"a request may hold {self.largest_bytes} bytes")
            return message

        await self.app(scope, bounded, send)

    def _refusal(self, path: str, headers: Mapping[str, str]) -> JSONResponse | None:
        host = headers.get("host", "")
        if self.token is None and urlsplit(f"//{host}").hostname not in LOOPBACK:
            return _error(403, f"this server is for this machine alone, got the host {host!r}")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _error(403, f"requests from web pages of {origin!r} are refused")
        if self.token is not None and path not in OPEN_PATHS:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not same(given, self.token):
                return _error(401, "needs a token", {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if not length.isdigit():
            return _error(400, f"content-length must be a number, got {length!r}")
        if int(length) > self.largest_bytes:
            return too_large(f"a request may hold {self.largest_bytes} bytes")
        return None


async def _drain(receive: Receive) -> None:
    """Take in some more of a refused body: most clients read the answer only when they have sent it all."""
    taken = 0
    with anyio.move_on_after(DRAINED_S):
        while taken < DRAINED_BYTES:
            message = await receive()
            taken += len(message.get("body", b""))
            if not message.get("more_body"):
                return


def too_large(detail: str) -> JSONResponse:
    """The answer to a body past the limit; the connection is closed, what is still under way is not read."""
    return _error(413, detail, {"Connection": "close"})


def same(given: str, token: str) -> bool:
    """Whether two secrets are equal, in a time that does not say how much of them is."""
    return hmac.compare_digest(given.encode(), token.encode())


def _error(status: int, detail: str, headers: dict[str, Any] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
