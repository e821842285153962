"""What goes over the wire, as MONAI Label's clients write and read it."""

import json
import math
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from kidseg_jax.formats.raw import untrusted
from kidseg_jax.labelling.rest.access import LARGEST_TEXT

LONGEST_NAME = 80


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The parts of a multipart request: at most 8 fields of 4 MiB and 4 files, on disk when large."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ValueError("needs a multipart/form-data request")
    async with request.form(max_files=4, max_fields=8, max_part_size=LARGEST_TEXT) as form:
        yield form


def params_of(text: object) -> dict[str, Any]:
    """The `params` field: a JSON object, empty when absent; ValueError for anything else.

    That is also what JSON has no words for although Python takes it (infinite numbers, halves of characters):
    it could not be said back, or written to the ledger.
    """
    if text in (None, "", b""):
        return {}
    try:
        params = json.loads(text)  # pyright: ignore[reportArgumentType]
        json.dumps(params, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"params: need a JSON object, got {str(text)[:80]!r}") from error
    if params is None:
        return {}
    if not isinstance(params, dict):
        raise ValueError(f"params: need a JSON object, got {str(text)[:80]!r}")
    return params


def client_of(params: Mapping[str, Any]) -> str:
    """Who asks: the client's own name for itself, `unknown` when it gives none.

    It goes to the ledger and to terminals: ValueError for a name with characters that do not print, such as
    those that move a terminal's cursor, and for one of more than `LONGEST_NAME`.
    """
    given = params.get("client_id")
    name = " ".join(given.split()) if isinstance(given, str) else ""
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(f"client_id: need up to {LONGEST_NAME} characters that print, got {name[:80]!r}")
    return name or "unknown"


def names_of(params: Mapping[str, Any]) -> dict[int, str] | None:
    """Label values and their names from `label_info`; None when the client sends none."""
    info = params.get("label_info")
    if not info:
        return None
    try:
        numbers = [float(entry["idx"]) for entry in info]
        if any(not math.isfinite(number) or number != int(number) for number in numbers):
            raise ValueError("idx: need whole numbers")
        return {int(n): str(entry["name"]) for n, entry in zip(numbers, info, strict=True)}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"label_info: need a list of name and idx, got {str(info)[:80]!r}") from error


@contextmanager
def on_disk(upload: UploadFile, ending: str, folder: Path, most_bytes: int) -> Iterator[Path]:
    """An uploaded file as a path with this ending, below `folder`, gone afterwards.

    To be used in a worker thread. What is read within becomes at most `most_bytes` of voxels, and no header
    leads to another file.
    """
    with tempfile.TemporaryDirectory(dir=folder) as own, untrusted(most_bytes):
        yield saved(upload, Path(own) / f"upload{ending}")


def saved(upload: UploadFile, path: Path) -> Path:
    """The path, with what was uploaded in it."""
    with open(path, "wb") as target:
        upload.file.seek(0)
        shutil.copyfileobj(upload.file, target, 1 << 20)
    return path


def multipart(params: Mapping[str, Any], name: str, image: bytes) -> Response:
    """Parameters and a label map in one answer: `params` without a file name, `image` with one.

    The client makes a file of every part that has a file name, under that name, and reads the rest as text.
    """
    boundary = secrets.token_hex(16)
    head = "\r\n".join(
        (
            f"--{boundary}",
            'Content-Disposition: form-data; name="params"',
            "Content-Type: application/json",
            "",
            json.dumps(params),
            f"--{boundary}",
            f'Content-Disposition: form-data; name="image"; filename="{name}"',
            "Content-Type: application/octet-stream",
            "\r\n",
        )
    )
    body = head.encode() + image + f"\r\n--{boundary}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={boundary}")
