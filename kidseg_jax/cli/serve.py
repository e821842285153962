"""`python -m kidseg_jax serve RUN`: a run over the MONAI Label protocol; `--review FOLDER`: a review."""

import contextlib
import importlib.util
import ipaddress
import logging
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from kidseg_jax.network.origin import caution
from kidseg_jax.rundir import RunDirectory

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@dataclass(frozen=True)
class Arguments:
    """Serve the cases of a run that wait for a person, for the MONAI Label extension of 3D Slicer; or label
    maps to look over, in a browser.

    Needs the extra `serve` (pip install "kidseg_jax[serve]").
    """

    run: tyro.conf.Positional[Path | None] = None
    """Run directory, made by python -m kidseg_jax.stage --annotator human."""
    review: Path | None = None
    """Instead of a run: a folder of cases whose label maps people look over, approve or send back, in a
    browser. Nothing is predicted, drawn or trained."""
    ledger: Path | None = None
    """--review: where decisions are written; FOLDER/ledger.jsonl when not given."""
    label_map: str = "kidseg"
    """--review: what the label values mean: kidseg, kits19, kits21, kits23, kipa22, cect, auto or
    a .toml file."""
    host: str = "127.0.0.1"
    """Address to listen on. Any other than this machine's own (127.0.0.1, ::1) needs a token."""
    port: int = 8000
    """Port to listen on; 0 takes a free one."""
    token_file: Path | None = None
    """File with the token, one line. Default: the variable KIDSEG_TOKEN, else a fresh one, printed."""
    largest_mb: int = 1024
    """Largest request, in MB."""
    unpacked_mb: int = 1024
    """Largest CT or label map that an upload may become once it is unpacked, in MB; memory follows it."""
    idle_minutes: float = 30.0
    """Longest gap between two requests of a person that counts as work, in minutes."""
    approver: str | None = None
    """Who approves what the next stage learns from when a client starts its training; goes to the ledger."""


def run(arguments: Arguments) -> int:
    """Serve until interrupted."""
    missing = [
        name for name in ("starlette", "uvicorn", "multipart") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ValueError(f'serve: needs {", ".join(missing)}; install with pip install "kidseg_jax[serve]"')
    if (arguments.run is None) == (arguments.review is None):
        raise ValueError("serve: need either a run directory or --review FOLDER")
    if not 0 <= arguments.port < 65536:
        raise ValueError(f"serve: --port must be 0 to 65535, got {arguments.port}")
    if min(arguments.largest_mb, arguments.unpacked_mb) < 1:
        raise ValueError("serve: --largest-mb and --unpacked-mb must be at least 1")
    if arguments.review is not None:
        return _review(arguments, arguments.review)
    assert arguments.run is not None
    return _serve(arguments, arguments.run)


def _serve(arguments: Arguments, run: Path) -> int:
    from kidseg_jax.labelling.rest.stage import open_stage
    from kidseg_jax.labelling.server import make_app

    token = None if is_loopback(arguments.host) else token_of(arguments.token_file)
    approver = ["--approver", arguments.approver] if arguments.approver else []
    train = [sys.executable, "-m", "kidseg_jax.stage", "--resume", str(run), "--accept-partial"]
    app = make_app(
        run,
        [*train, *approver],
        token=token,
        largest_bytes=arguments.largest_mb * 1_000_000,
        idle_s=60 * arguments.idle_minutes,
        most_bytes=arguments.unpacked_mb * 1_000_000,
    )
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # anybody may write broken bodies
    with RunDirectory(run).served():
        listener = listen(arguments.host, arguments.port)
        _say_origin(open_stage(run).models)
        _answer(app, listener, f"serving {run}")
    return 0


def _review(arguments: Arguments, folder: Path) -> int:
    from kidseg_jax.labelling.review import open_review
    from kidseg_jax.labelling.review_server import make_review_app

    review = open_review(folder, arguments.ledger, arguments.label_map)
    token = None if is_loopback(arguments.host) else token_of(arguments.token_file)
    listener = listen(arguments.host, arguments.port)
    _answer(make_review_app(review, token=token), listener, f"reviewing {folder}")
    return 0


def _answer(app: "ASGIApp", listener: socket.socket, what: str) -> None:
    """Say where, and serve until interrupted."""
    import uvicorn

    from kidseg_jax.labelling.rest.connections import settings

    host, port = listener.getsockname()[:2]
    print(f"{what} on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # raised once more after the server has ended in order
        uvicorn.Server(settings(app)).run(sockets=[listener])


def _say_origin(models: Path) -> None:
    """One line on stderr for models of phantoms or of unknown origin and for a torn file, else none."""
    from kidseg_jax.network.models import trained_on

    if not models.exists():
        return
    try:
        line = caution(models, trained_on(models))
    except ValueError as error:  # people can go on: the next stage trains it again
        line = str(error)
    if line:
        print(f"kidseg_jax: {line}", file=sys.stderr)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; ValueError for a name other than localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ValueError(f"serve: --host must be an IP address or localhost, got {host!r}") from error


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address and port; ValueError where this machine does not give it.

    On `::` it takes IPv4 too where the machine can.
    """
    is_v6 = ":" in host
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    takes_both = is_v6 and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=takes_both)
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]  # Python adds the address, said here already
        raise ValueError(f"serve: cannot listen on {host}, port {port}: {why}") from error


def token_of(file: Path | None) -> str:
    """The token that clients must show: from a file, from KIDSEG_TOKEN, or a fresh one, printed once."""
    given = file.read_text(encoding="utf-8").strip() if file else os.environ.get("KIDSEG_TOKEN", "").strip()
    if not given and file is None:
        given = secrets.token_urlsafe(32)
        print(f"token (any user name, this password): {given}", flush=True)
    if len(given) < 16 or not given.isascii():
        raise ValueError(f"serve: a token needs at least 16 ASCII characters, got {len(given)}")
    return given
