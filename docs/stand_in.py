"""Stands in for a person with 3D Slicer: takes every case from a server, corrects it, submits it.

usage: python docs/stand_in.py http://127.0.0.1:8000 TRUTH [TOKEN]

TRUTH holds CASE.nii.gz label maps. The correction is that of the simulated annotator; a blind case is drawn
whole. Everything this sends is labelled `stand-in` in the ledger.
"""

import json
import sys
import tempfile
import uuid
from email.parser import BytesParser
from pathlib import Path
from urllib.parse import quote_plus
from urllib.request import Request, urlopen

import numpy as np

from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.volume import Volume
from kidseg_jax.labelling.simulated_annotator import correct

WHO = {"client_id": "stand-in"}


def main(server: str, truth_folder: Path, token: str = "") -> int:
    """Work until the server has no case left; returns the number of cases."""
    done = 0
    while sample := json.loads(
        ask(server, token, "POST", "/activelearning/effort", json.dumps(WHO).encode())
    ):
        case = sample["id"]
        truth = read_labels(truth_folder / f"{case}.nii.gz")
        fields = {"params": json.dumps({**WHO, "result_extension": ".nrrd"})}
        predicted = prediction_in(
            multipart(server, token, "POST", f"/infer/kidseg?image={quote_plus(case)}", fields)
        )
        labels = truth
        if predicted is not None:
            rng = np.random.default_rng(done)
            seen = correct(truth.array, predicted.array, truth.spacing_mm, AnnotatorConfig(), rng)
            labels = truth.with_array(seen.labels)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "label.nrrd"
            write_volume(file, labels)
            selector = f"/datastore/label?image={quote_plus(case)}&tag=final"
            answer = json.loads(
                multipart(server, token, "PUT", selector, {"params": json.dumps(WHO)}, file)[1]
            )
        how = "drawn from nothing" if predicted is None else "corrected"
        print(f"{case}: {how}, stored as {answer['version']}")
        done += 1
    return done


def prediction_in(answer: tuple[str, bytes]) -> Volume | None:
    """The label map in a multipart answer; None for a blind case, which has plain JSON."""
    kind, body = answer
    if not kind.startswith("multipart"):
        return None
    parts = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    for part in parts.walk():
        if name := part.get_filename():
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / Path(name).name
                file.write_bytes(part.get_payload(decode=True))  # pyright: ignore[reportArgumentType]
                return read_labels(file)
    return None


def multipart(
    server: str, token: str, method: str, selector: str, fields: dict[str, str], label: Path | None = None
) -> tuple[str, bytes]:
    """Content type and body of the answer to a form with one optional file, `label`."""
    boundary = uuid.uuid4().hex
    body = b""
    for name, value in fields.items():
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    if label is not None:
        disposition = f'Content-Disposition: form-data; name="label"; filename="{label.name}"'
        body += f"--{boundary}\r\n{disposition}\r\n\r\n".encode()
        body += label.read_bytes() + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    with urlopen(request(server, token, method, selector, body, kind)) as response:
        return response.headers["content-type"], response.read()


def ask(server: str, token: str, method: str, selector: str, body: bytes) -> bytes:
    """The body of the answer to a JSON request."""
    with urlopen(request(server, token, method, selector, body, "application/json")) as response:
        return response.read()


def request(server: str, token: str, method: str, selector: str, body: bytes, kind: str) -> Request:
    headers = {"Content-Type": kind} | ({"Authorization": f"Bearer {token}"} if token else {})
    return Request(server.rstrip("/") + selector, body, headers, method=method)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    print(f"{main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])} cases")
