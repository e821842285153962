"""Who may ask, and how much they may send: the outermost layer of the server."""

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kidseg_jax.labelling.rest.brake import Brake

DRAINED_BYTES, DRAINED_S = 64 << 20, 5.0
LARGEST_TEXT = 4 << 20
FILES_AT = ("/infer/", "/datastore/")  # what may hold files; every other body is text
OPEN_PATHS = ("/auth", "/auth/", "/auth/token", "/auth/token/")
TOO_MANY = "too many wrong tokens came from this address; wait and try again"


class TooLarge(Exception):
    """A body grew past the limit while it was read."""


@dataclass(frozen=True)
class Access:
    """Refuses foreign hosts and web pages, wrong tokens and large bodies before the application sees them.

    brake: compares what `Authorization: Bearer` holds; None on loopback, where instead the Host must be a
    loopback name or address, so that no web page can reach the server under a name of its own. A request that
    a browser sends for another site (Origin) is refused everywhere. largest_bytes bounds a body with files,
    `LARGEST_TEXT` any other, whether or not its length is declared. open_paths: answered without a token.
    """

    app: ASGIApp
    brake: Brake | None
    largest_bytes: int
    open_paths: tuple[str, ...] = OPEN_PATHS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        largest = self.largest_bytes if path.startswith(FILES_AT) else min(LARGEST_TEXT, self.largest_bytes)
        refusal = _refused_page(headers, needs_loopback=self.brake is None)
        if refusal is None and self.brake is not None and path not in self.open_paths:
            refusal = await _refused_token(headers, self.brake, address_of(scope))
        refusal = refusal or _refused_length(headers, largest)
        if refusal:
            if refusal.status_code == 413 and int(headers["content-length"]) <= DRAINED_BYTES:
                await _drain(receive)
            return await refusal(scope, receive, send)
        taken, is_answered = 0, False

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > largest:
                if message.get("more_body"):
                    await _drain(receive)
                raise TooLarge(f"a request may hold {largest} bytes")
            return message

        async def noted(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self.app(scope, bounded, noted)
        except asyncio.CancelledError:  # the server ends: whoever still waits is told so
            if is_answered:
                raise
            await _error(503, "the server ends", {"Connection": "close"})(scope, receive, send)


def _refused_page(headers: Mapping[str, str], needs_loopback: bool) -> JSONResponse | None:
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        named = urlsplit(f"//{host}")
        name = named.hostname if named.port != 0 else None  # asked for to be checked
        site = host if origin is None else urlsplit(origin).netloc
    except ValueError as error:
        return _error(400, f"host or origin cannot be read: {error}")
    if needs_loopback and not is_own(name or ""):
        return _error(403, f"this server is for this machine alone, got the host {host!r}")
    if site != host:
        return _error(403, f"requests from web pages of {origin!r} are refused")
    return None


async def _refused_token(headers: Mapping[str, str], brake: Brake, address: str) -> JSONResponse | None:
    kind, _, given = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and given:
        opens = await brake.opens(given, address)
        if opens:
            return None
        if opens is None:
            return _error(429, TOO_MANY, {"Retry-After": "5"})
    return _error(401, "needs a token", {"WWW-Authenticate": "Bearer"})


def _refused_length(headers: Mapping[str, str], largest: int) -> JSONResponse | None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) <= 20):
        return _error(400, f"content-length must be a number, got {length[:40]!r}")
    return too_large(f"a request may hold {largest} bytes") if int(length) > largest else None


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


def is_own(host: str) -> bool:
    """Whether a host is this machine itself: localhost, or an address such as 127.0.0.2 or ::1."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_of(scope: Scope) -> str:
    """The address of who asks, empty where it is not known."""
    client = scope.get("client")
    return client[0] if client else ""


def _error(status: int, detail: str, headers: dict[str, Any] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)
