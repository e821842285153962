"""What goes over the wire, as MONAI Label's clients write and read it."""

import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

LARGEST_FIELD = 1 << 20


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The parts of a multipart request: at most 8 fields of 1 MiB and 4 files, on disk when large."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ValueError("needs a multipart/form-data request")
    async with request.form(max_files=4, max_fields=8, max_part_size=LARGEST_FIELD) as form:
        yield form


def params_of(text: object) -> dict[str, Any]:
    """The `params` field: a JSON object, empty when absent; ValueError for anything else."""
    if text in (None, "", b""):
        return {}
    try:
        params = json.loads(text)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError) as error:
        raise ValueError(f"params: need a JSON object, got {str(text)[:80]!r}") from error
    if params is None:
        return {}
    if not isinstance(params, dict):
        raise ValueError(f"params: need a JSON object, got {str(text)[:80]!r}")
    return params


def client_of(params: Mapping[str, Any]) -> str:
    """Who asks: the client's own name for itself, `unknown` when it gives none."""
    name = params.get("client_id")
    return " ".join(name.split())[:80] or "unknown" if isinstance(name, str) else "unknown"


def names_of(params: Mapping[str, Any]) -> dict[int, str] | None:
    """Label values and their names from `label_info`; None when the client sends none."""
    info = params.get("label_info")
    if not info:
        return None
    try:
        return {int(entry["idx"]): str(entry["name"]) for entry in info}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"label_info: need a list of name and idx, got {str(info)[:80]!r}") from error


@contextmanager
def on_disk(upload: UploadFile, ending: str) -> Iterator[Path]:
    """An uploaded file as a path with this ending, gone afterwards. To be used in a worker thread."""
    with tempfile.TemporaryDirectory(prefix="kidseg_") as folder:
        path = Path(folder) / f"upload{ending}"
        with open(path, "wb") as target:
            upload.file.seek(0)
            while chunk := upload.file.read(1 << 20):
                target.write(chunk)
        yield path


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
