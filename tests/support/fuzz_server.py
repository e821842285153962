"""Many random requests to a real `serve` process over a real socket; says what it answered and what it took.

python tests/support/fuzz_server.py [--requests 10000] [--seed N] [--keep]: methods, paths, headers, queries,
broken multipart, JSON, label files with broken headers, cut bodies, chunks, half-open connections, on
127.0.0.1 alone. Exit code 1 at a 5xx, an answer that takes longer than `PATIENCE_S`, a server that ends, or
one that grew by more than `MOST_GROWTH_MB`; request i of a seed is the same in every run. --keep adds a row
to benchmarks/results/fuzz_server.csv.
"""

import argparse
import contextlib
import gzip
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from serving import CASES, make_study, prediction

from kidseg_jax.formats.volumes import write_volume

End = Literal["whole", "cut", "held"]
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S, MOST_GROWTH_MB, MOST_HELD = 30.0, 1000.0, 80
# fmt: off
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "X" * 40)
ASKED = (
    "/activelearning/listed", "/activelearning/effort", "/activelearning/none", "/infer/kidseg",
    "/train/none",
)
PATHS = (
    *ASKED, "/info/", "/infer/other", "/datastore/", "/datastore/image", "/datastore/image/info",
    "/datastore/label", "/datastore/label/info", "/datastore/dataset", "/train/", "/batch/infer/",
    "/scoring/", "/session/", "/session/x", "/auth/", "/auth/token", "/auth/token/valid", "/", "//",
    "/../run.json", "/datastore/../../x", "/%00", "/%ff%fe", "/\xe9", "*",
)
NAMES = (
    "image", "label", "tag", "output", "limit_cases", "check_sum", "check_if_running", "all", "session_id",
)
VALUES = (
    *CASES, "", "final", "original", "draft", "stats", "train", "json", "image", "-1", "1e400", "9" * 5000,
    "{}", "../list", "/etc/passwd", "%00", "\ud800", "\u202e", "\x1b[2J", "SHA256:00", "MD5:0", "a" * 3000,
    "NaN", "true",
)
HEADERS = (
    "Host: [", "Host: ", "Host: ]:x", "Host: 127.0.0.2:80", "Origin: http://[", "Origin: null",
    "Accept: \xff", "Range: bytes=0-", "Range: bytes=-0", "Range: bytes=5-1,,x",
    "If-Range: x\r\nRange: bytes=0-1", "\x00: x",
    "Range: bytes=" + ",".join(f"{i}-{i}" for i in range(0, 400, 2)),
    "Upgrade: websocket\r\nConnection: Upgrade", "Authorization: Bearer x", "Expect: 100-continue",
    "Content-Length: -1", "Content-Length: " + "9" * 30, "Transfer-Encoding: gzip",
    "Content-Encoding: gzip", "Cookie: " + "a" * 3000, "X: " + "b" * 70000,
)
JSONS = (
    '{"client_id": "anna"}', '{"client_id": "\\ud800"}', '{"client_id": "\\u001b[2J"}',
    '{"client_id": 1e400}', '{"client_id": "' + "x" * 5000 + '"}', "[" * 200_000, '{"a":' * 200_000, "NaN",
    "[1]", '"x"', "null", "9" * 5000, '{"label_info": [{"name": "artery", "idx": Infinity}]}',
    '{"label_info": [{"name": "artery", "idx": 1e400}]}',
    '{"label_info": [{"name": "artery", "idx": -1}, {"name": 3, "idx": "4"}]}', '{"label_info": {"a": 1}}',
    "{", '{"label_info": [{"name": "rcc", "idx": 1' + "0" * 300 + "}]}", '{"result_extension": ".exe"}',
    "\xff\xfe", '{"result_extension": ".nii.gz", "client_id": "b"}',
    '{"label_info": [{"idx": NaN, "name": "\\udfff"}]}',
)
ENDINGS = (".nrrd", ".nii.gz", ".nii", ".seg.nrrd", ".mha")
WORDS = (
    b"1000000", b"-1", b"/etc/passwd", b"../list.json", b"nan", b"1e400", b"0", b"LIST", b"gzip", b"bzip2",
    b"hex", b"float", b"\xff\xff\xff\xff",
)
LINES = (
    b"data file: /etc/passwd", b"data file: ../list.json", b"ElementDataFile = /etc/passwd",
    b"byte skip: -1", b"CompressedData = True", b"DimSize = 1100 1100 1000", b"sizes: 1100 1100 1000",
    b"sizes: 99999999999999 1 1", b"encoding: gzip", b"space directions: none none none",
    b"kinds: list domain domain domain",
)
SHORTS = (struct.pack("<h", 32767), struct.pack("<f", 1.9e9), struct.pack("<f", float("nan")), b"\xff\xff")
FIELDS = (0, 40, 42, 44, 46, 70, 72, 76, 80, 108, 112, 116, 252, 254, 280, 344)  # of a NIfTI header
# fmt: on


def label_files() -> dict[str, bytes]:
    """A good label map in each format that is taken."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for ending in ENDINGS:
            path = Path(folder) / f"label{ending}"
            write_volume(path, prediction(1))
            found[ending] = path.read_bytes()
    return found


def request(rng: random.Random, files: dict[str, bytes]) -> tuple[bytes, End]:
    """The bytes of one request, and whether it is whole, is ended by closing our side, or left half-open."""
    kind = rng.choices(("noise", "any", "json", "label", "infer"), (1, 4, 3, 6, 2))[0]
    if kind == "noise":
        return rng.randbytes(rng.randrange(1, 2000)), rng.choice(("cut", "held"))
    method, path = rng.choice(METHODS), rng.choice(PATHS)
    query = [(rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.randrange(4))]
    head, body = [rng.choice(HEADERS)] if rng.random() < 0.3 else [], b""
    if kind == "json":
        method, path = "POST", rng.choice((*ASKED, "/auth/token"))
        body = rng.choice(JSONS).encode("latin-1")
    if kind in ("label", "infer"):
        method = (
            rng.choice(("PUT", "POST")) if rng.random() < 0.1 else {"label": "PUT", "infer": "POST"}[kind]
        )
        path = "/datastore/label" if kind == "label" else "/infer/kidseg"
        query = [("image", rng.choice(CASES)), ("tag", rng.choice(("final", "final", "draft", "../x")))]
        name = "label" if kind == "label" or rng.random() < 0.97 else "file"
        kind_of, body = multipart(rng, name, files)
        head.append(kind_of)
    elif rng.random() < 0.5:
        words = (
            "application/json",
            "text/plain",
            "multipart/form-data",
            "application/x-www-form-urlencoded",
            "\xff",
        )
        head.append(f"Content-Type: {rng.choice(words)}")
    target = quote(path, safe="/%*.", errors="replace")
    if query:
        target += "?" + "&".join(f"{n}={quote(v, safe='%', errors='surrogatepass')}" for n, v in query)
    lines = [f"{method} {target} HTTP/{rng.choice(('1.1', '1.1', '1.1', '1.0', '2.0'))}"]
    if not any(line.startswith("Host:") for line in head):
        lines.append("Host: 127.0.0.1")
    end: End = "held" if rng.random() < 0.05 else "whole"
    if body and rng.random() < 0.3:
        head.append("Transfer-Encoding: chunked")
        good = b"%x" % len(body)
        size = rng.choice((good, good, b"-1", b"ffffffffffffffff", b"g"))
        end = end if size is good else "cut"
        body = size + b"\r\n" + body + b"\r\n0\r\n\r\n"
    elif body or method in ("PUT", "POST"):
        head.append(f"Content-Length: {len(body) + (rng.choice((1, 10**6)) if end == 'held' else 0)}")
    text = "\r\n".join([*lines, *head, "Connection: close", "", ""]).encode("latin-1", "replace") + body
    return (text[: rng.randrange(1, len(text))], "cut") if rng.random() < 0.03 else (text, end)


def multipart(rng: random.Random, name: str, files: dict[str, bytes]) -> tuple[str, bytes]:
    """A content type and a body with parameters and a file, one of them often broken."""
    ending = rng.choice(ENDINGS)
    data = broken(rng, files[ending], ending) if rng.random() < 0.85 else files[ending]
    if rng.random() < 0.1:
        ending = rng.choice((*ENDINGS, ".exe", ".npz", ".nhdr", "", "\x00.nrrd"))
    disposition = rng.choice(("form-data", "form-data", "form-data", "attachment", "\xff"))
    parts = [
        b'Content-Disposition: form-data; name="params"\r\n\r\n' + rng.choice(JSONS).encode("latin-1")
        if rng.random() < 0.5
        else b'Content-Disposition: form-data; name="params"\r\n\r\n{"client_id": "anna"}',
        f'Content-Disposition: {disposition}; name="{name}"; filename="../x{ending}"\r\n\r\n'.encode(
            "latin-1"
        )
        + data,
    ]
    if rng.random() < 0.1:
        parts *= rng.choice((2, 20))
    if rng.random() < 0.05:
        parts.insert(0, b"X: " + b"y" * rng.choice((10, 10_000)) + b"\r\n\r\n")
    boundary = rng.choice(("B", "B", "B", "----$x", "b" * 60))
    said = rng.choice((boundary, boundary, boundary, boundary, boundary, "other", "", "b" * 400))
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    body += b"--" + boundary.encode() + rng.choice((b"--\r\n", b"--\r\n", b"--\r\n", b"\r\n", b""))
    return f"Content-Type: multipart/form-data; boundary={said}", body


def broken(rng: random.Random, data: bytes, ending: str) -> bytes:
    """A label file with a changed header, a changed byte, or cut; packed ones are often packed again."""
    repack = ending == ".nii.gz" and rng.random() < 0.8
    data = gzip.decompress(data) if repack else data
    how = rng.randrange(5)
    if how == 0:
        data = data[: rng.randrange(len(data))]
    elif how == 1:
        at = rng.randrange(min(len(data), 400))
        data = data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at + 1 :]
    elif how == 2 and ending in (".nii", ".nii.gz"):
        at, word = rng.choice(FIELDS), rng.choice(SHORTS)
        data = data[:at] + word + data[at + len(word) :]
    elif how == 2:
        lines = data.split(b"\n", 12)
        lines.insert(rng.randrange(1, len(lines)), rng.choice(LINES))
        data = b"\n".join(lines)
    elif how == 3:
        lines = data.split(b"\n", 12)
        at = rng.randrange(len(lines))
        lines[at] = lines[at].partition(b" ")[0] + b" " + rng.choice(WORDS)
        data = b"\n".join(lines)
    else:
        data = rng.randbytes(rng.randrange(600)) + data
    return gzip.compress(data, 1) if repack else data


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """A `serve` process over a small run, and its port; its stderr goes to `folder`/said."""
    run = make_study(folder / "run").parent
    command = [sys.executable, "-m", "kidseg_jax", "serve", str(run), "--port", "0", *options]
    with open(folder / "said", "wb") as said:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
    assert server.stdout is not None
    try:
        line = ""
        while "serving" not in line:
            line = server.stdout.readline()
            assert line, (folder / "said").read_text()
        yield server, int(line.rsplit(":", 1)[1])
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        finally:
            server.kill()
            server.stdout.close()


def memory_mb(process: int, field: str) -> float:
    """VmRSS or VmHWM (the peak) of a process, in MB of 10^6 bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1.024e-3
    raise ValueError(f"no {field} of process {process}")


def answer(port: int, text: bytes, held: list[socket.socket], end: End) -> str:
    """The status of the answer; `closed` where there is none, `held` for a connection that is left open."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    with contextlib.suppress(ConnectionError):
        connection.sendall(text)
    if end == "held":
        held.append(connection)
        if len(held) > MOST_HELD:
            held.pop(0).close()
        return "held"
    received = b""
    with connection, contextlib.suppress(ConnectionError):
        if end == "cut":
            with contextlib.suppress(OSError):  # the server has closed it
                connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(1 << 16):
            received = (received + chunk)[:4096]
    return received.split(b" ", 2)[1].decode("latin-1") if received.startswith(b"HTTP/") else "closed"


def fuzz(n: int, first_seed: int, folder: Path) -> dict[str, float | str]:
    """Counts by status and memory after n requests; AssertionError at the first that went wrong."""
    files, counts, held, slowest_s = label_files(), Counter(), [], 0.0
    with served(folder, "--largest-mb", "64", "--unpacked-mb", "64") as (server, port):
        answer(port, b"GET /info/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", held, "whole")
        before_mb, began = memory_mb(server.pid, "VmRSS"), time.monotonic()
        for seed in range(first_seed, first_seed + n):
            text, end = request(random.Random(seed), files)
            asked = time.monotonic()
            try:
                status = answer(port, text, held, end)
            except TimeoutError as error:
                raise AssertionError(
                    f"request {seed}: no answer in {PATIENCE_S} s: {text[:200]!r}"
                ) from error
            slowest_s = max(slowest_s, time.monotonic() - asked)
            counts[status] += 1
            assert (status, end) != ("closed", "whole"), f"request {seed}: no answer: {text[:300]!r}"
            assert server.poll() is None, f"request {seed}: the server ended: {text[:200]!r}"
            assert not status.startswith("5"), f"request {seed}: {status}: {text[:300]!r}"
        peak_mb = memory_mb(server.pid, "VmHWM")
        grown_mb = peak_mb - before_mb
        assert grown_mb < MOST_GROWTH_MB, f"the server grew by {grown_mb:.0f} MB"
    for connection in held:
        connection.close()
    said = (folder / "said").read_text(errors="replace")
    assert "Traceback" not in said, said[-3000:]
    statuses = " ".join(f"{status}:{count}" for status, count in sorted(counts.items()))
    seconds = round(time.monotonic() - began)
    return {"first_seed": first_seed, "requests": n, "seconds": seconds, "slowest_s": round(slowest_s, 2),
            "before_mb": round(before_mb), "peak_mb": round(peak_mb), "statuses": statuses}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(arguments.requests, arguments.seed, Path(folder))
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import rows  # pyright: ignore[reportMissingImports]

    row = {**rows.about(), **found}
    rows.say(row)
    if arguments.keep:
        rows.append_rows("fuzz_server", [row])


if __name__ == "__main__":
    main()
