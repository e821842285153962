"""Labels of a CT that came with a request, made in a process of its own: its memory goes with it."""

import sys
import tempfile
from pathlib import Path

import anyio
import anyio.to_thread
from starlette.datastructures import UploadFile

from kidseg_jax.formats.raw import untrusted
from kidseg_jax.formats.volumes import read_ct, write_volume
from kidseg_jax.labelling.rest import wire
from kidseg_jax.labelling.rest.stage import ending_of
from kidseg_jax.labelling.rest.state import Server

SAID = "kidseg_jax: "


async def segmented(server: Server, upload: UploadFile, ending: str) -> bytes:
    """The label map, by the model of the stage, as a file with this ending; one is made at a time.

    Raises ValueError with what the process said where it made none, also where memory ran out.
    """
    suffix = ending_of(upload.filename or "")
    async with server.segmenting:
        with tempfile.TemporaryDirectory(dir=server.uploads) as folder:
            ct, labels = Path(folder) / f"upload{suffix}", Path(folder) / f"labels{ending}"
            await anyio.to_thread.run_sync(wire.saved, upload, ct)
            asked = (server.stage.models, ct, labels, str(server.most_bytes))
            done = await anyio.run_process([sys.executable, "-m", __name__, *asked], check=False)
            if done.returncode == 0:
                return await anyio.to_thread.run_sync(labels.read_bytes)
    reason = done.stderr.decode(errors="replace").strip().rpartition(SAID)
    raise ValueError(reason[2] if reason[1] else "no label map: out of memory, or the process was ended")


def main(models: Path, ct_path: Path, labels: Path, most_bytes: int) -> None:
    """Read the CT within bounds, segment it and write its label map."""
    with untrusted(most_bytes):
        ct = read_ct(ct_path)
    from kidseg_jax.network.cascade import predict
    from kidseg_jax.network.models import load_models
    from kidseg_jax.network.runtime import keep_compiled, take_device

    take_device()
    keep_compiled()
    write_volume(labels, predict(load_models(models), ct).labels)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(SAID + (" ".join(str(error).split()) or "out of memory"))
