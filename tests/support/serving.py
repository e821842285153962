"""A stage on disk, a server on a real socket, and a client with the wire format of MONAI Label's own."""

import http.client
import json
import mimetypes
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import numpy as np

from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling.query import Score
from kidseg_jax.labelling.worklist import write_list, write_to_correct

GRID = Geometry((12, 14, 16), (2.0, 1.0, 1.0), (-10.0, 20.0, 30.0))
CASES = ("case_00001", "case_00002", "case_00003")
BOUNDARY = "----------lImIt_of_THE_fIle_eW_$"


def prediction(seed: int = 0) -> Volume:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3:9, 4:10, 4:11] = PARENCHYMA
    labels[5:7, 6:8, 11 : 13 + seed] = ARTERY
    return Volume(labels, GRID)


def make_study(run: Path, cases: tuple[str, ...] = CASES, blind: tuple[str, ...] = CASES[-1:]) -> Path:
    """A run directory whose stage 1 waits for people; returns the stage's folder."""
    folder = run / "stage_1" / "to_correct"
    rng = np.random.default_rng(0)
    waiting = []
    for i, case in enumerate(cases):
        ct = Volume(rng.integers(-200, 200, GRID.shape).astype(np.int16), GRID)
        score = Score(effort_s=float(600 - i))
        waiting.append(
            write_to_correct(folder, case, case, ct, prediction(i % 3), blind=case in blind, score=score)
        )
    write_list(folder, 1, "sha256:model", waiting)
    return folder.parent


@contextmanager
def serving(app) -> Iterator["Client"]:
    """The application on a free port of this machine, as `serve` sets it up; a client for it."""
    import uvicorn

    from kidseg_jax.labelling.rest.connections import settings

    config = settings(app, host="127.0.0.1", port=0, log_level="critical")
    listener = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Client(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(180)
        listener.close()


class Client:
    """The calls of MONAI Label's client, in its own wire format."""

    def __init__(self, port: int, client_id: str = "anna", headers: dict[str, str] | None = None):
        self.port, self.client_id, self.headers = port, client_id, headers or {}

    def ask(self, method: str, selector: str, body: bytes | str | None = None, **headers: str):
        """Status, headers and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        try:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, selector, body=body, headers={**self.headers, **named})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def json(self, method: str, selector: str, body: dict | None = None):
        """Status and parsed JSON."""
        text = None if body is None else json.dumps(body)
        status, _, data = self.ask(method, selector, text, content_type="application/json")
        return status, json.loads(data)

    def multipart(self, method: str, selector: str, fields: dict[str, str], files: dict[str, Path]):
        """As that client encodes it: full paths as file names, and a boundary with a dollar."""
        lines: list[bytes | str] = []
        for key, value in fields.items():
            lines += [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="{key}"', "", value]
        for key, path in files.items():
            kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
            disposition = f'Content-Disposition: form-data; name="{key}"; filename="{path}"'
            lines += [f"--{BOUNDARY}", disposition, f"Content-Type: {kind}", "", path.read_bytes()]
        lines += [f"--{BOUNDARY}--", ""]
        body = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines)
        return self.ask(method, selector, body, content_type=f"multipart/form-data; boundary={BOUNDARY}")

    def next_sample(self, strategy: str = "effort"):
        return self.json("POST", f"/activelearning/{quote_plus(strategy)}", {"client_id": self.client_id})

    def infer(self, case: str, **params):
        """Status, the params part, and the file part with its name (None when there is none)."""
        fields = {"params": json.dumps({**params, "client_id": self.client_id})}
        status, headers, body = self.multipart("POST", f"/infer/kidseg?image={quote_plus(case)}", fields, {})
        kind = headers["content-type"]
        if "multipart" not in kind:
            return status, json.loads(body), None
        parts = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        form, files = {}, {}
        for part in parts.walk():
            if part.is_multipart():
                continue
            data = part.get_payload(decode=True)
            name = part.get_filename()
            (files if name else form)[name or part.get_param("name", header="content-disposition")] = data
        ((name, data),) = files.items()
        return status, json.loads(form["params"]), (name, data)

    def save_label(self, case: str, label: Path, tag: str = "final", params: dict | None = None):
        selector = "/datastore/label?" + urlencode({"image": case, "tag": tag})
        fields = {"params": json.dumps({**(params or {}), "client_id": self.client_id})}
        status, _, body = self.multipart("PUT", selector, fields, {"label": label})
        return status, json.loads(body)


def raw_request(port: int, text: bytes) -> bytes:
    """The answer to bytes that no client library would send; they ask for the connection to close."""
    with socket.create_connection(("127.0.0.1", port), timeout=180) as connection:
        connection.sendall(text)
        received = b""
        while chunk := connection.recv(1 << 16):
            received += chunk
        return received
