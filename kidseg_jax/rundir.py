"""A run directory: what stands where, and what must agree before a run goes on."""

import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kidseg_jax.atomic import sweep_leftovers, write_text
from kidseg_jax.config import Config

PACKAGES = ("kidseg_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "itk", "open3d-cpu", "open3d")


@dataclass(frozen=True)
class RunDirectory:
    """Paths of a run; nothing is read or written until it is asked for."""

    path: Path

    @property
    def settings(self) -> Path:
        return self.path / "run.json"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def overview(self) -> Path:
        return self.path / "overview.png"

    def tables(self, ending: str) -> Path:
        return self.path / f"tables.{ending}"

    def meshes(self, pair: str) -> Path:
        """Folder of the worst kidney of a comparison."""
        return self.path / "meshes" / pair

    @property
    def uploads(self) -> Path:
        """What clients of the server send, while it is read: nothing in it outlives the server."""
        return self.path / "uploads"

    def stage(self, index: int) -> "StageDirectory":
        return StageDirectory(self.path / f"stage_{index}")

    def stages(self) -> tuple["StageDirectory", ...]:
        """The stages that have a folder, in order; folders with other names are not theirs."""
        folders = map(StageDirectory, self.path.glob("stage_*"))
        numbered = (stage for stage in folders if stage.path.name.removeprefix("stage_").isdigit())
        return tuple(sorted(numbered, key=lambda stage: stage.index))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes out until the block or this process ends; ValueError while another is in.

        A folder that was made for it goes again where nothing was written into it.
        """
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        with _locked(self.path, f"{self.path}: another process works on this run; wait for it"):
            try:
                yield
            finally:
                if is_new:
                    with suppress(OSError):  # it is not empty
                        self.path.rmdir()

    @contextmanager
    def served(self) -> Iterator[None]:
        """Keeps other servers out, and lets the next stage train meanwhile; ValueError while one is in.

        What an earlier server left that was killed is swept away.
        """
        first = next((stage.path for stage in self.stages()), self.stage(1).path)
        with _locked(first, f"{self.path}: another server serves this run; stop it first"):
            shutil.rmtree(self.uploads, ignore_errors=True)
            sweep_leftovers(self.path)
            yield

    def go_on(self, asked: dict[str, Any]) -> None:
        """Check that a run that is there already was asked for as this one, see `asked_for`.

        What writers that were killed left in it is swept away. Raises ValueError with the name of the first
        field that differs.
        """
        if not self.settings.exists():
            return
        for name, (was, now) in _differences(read_json(self.settings), asked):
            raise ValueError(f"{self.path}: {name} is {was!r} in this run, got {now!r}; choose another --out")
        sweep_leftovers(self.path)

    def begin(self, asked: dict[str, Any], device: str) -> None:
        """Write run.json where there is none."""
        if self.settings.exists():
            return
        about = {
            "versions": _versions(),
            "commit": _commit(),
            "device": device,
            "machine": platform.machine(),
        }
        write_json(self.settings, {**asked, **about})


@dataclass(frozen=True)
class StageDirectory:
    """Paths of one stage; what people are given lies in to_correct, what they give back in corrected."""

    path: Path

    @property
    def index(self) -> int:
        """The stage's number; ValueError for a folder that is not called stage_K."""
        number = self.path.name.removeprefix("stage_")
        if not number.isdigit():
            raise ValueError(f"{self.path}: need a folder stage_K with a number K, got {self.path.name!r}")
        return int(number)

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.path.parent)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """What the processes that train together learn from, while they do."""
        return self.path / "samples"

    @property
    def models(self) -> Path:
        return self.path / "models.safetensors"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def accepted(self) -> Path:
        """Hashes of the corrected labels that the next stage learns from, by case."""
        return self.path / "accepted.json"

    @property
    def to_correct(self) -> Path:
        return self.path / "to_correct"

    @property
    def corrected(self) -> Path:
        return self.path / "corrected"

    def saved(self, tag: str) -> Path:
        """Folder of labels that the server keeps under a tag other than final."""
        return self.path / f"saved_{tag}"

    def prediction(self, case: str) -> Path:
        return self.path / "predictions" / f"{case}.seg.nrrd"

    def correction(self, case: str) -> Path:
        return self.corrected / f"{case}.seg.nrrd"

    def snapshot(self, kidney: str) -> Path:
        return self.path / "evidence" / f"{kidney}.npz"


def asked_for(config: Config, n_stages: int, data: Path | None, **how: Any) -> dict[str, Any]:
    """What is asked of a run, as run.json keeps it."""
    return json.loads(
        json.dumps({"n": n_stages, "data": data and path_text(data), **how, "config": asdict(config)})
    )


def path_text(path: Path) -> str:
    """A path as text that means the same bytes whatever the locale; `path_of` is its inverse."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def path_of(text: str) -> Path:
    """The path whose bytes `path_text` wrote."""
    return Path(os.fsdecode(text.encode("utf-8", "surrogateescape")))


@contextmanager
def _locked(folder: Path, otherwise: str) -> Iterator[None]:
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(otherwise) from error
        yield
    finally:
        os.close(opened)


def write_json(path: Path, data: Any) -> None:
    """Write JSON whole; NaN is refused, not written."""
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; ValueError names the file when it is not."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: need JSON, got {error}") from error


def _differences(before: Any, asked: Any, name: str = "") -> list[tuple[str, tuple[Any, Any]]]:
    if isinstance(asked, dict) and isinstance(before, dict):
        return [
            d for key in asked for d in _differences(before.get(key), asked[key], f"{name}.{key}".lstrip("."))
        ]
    return [] if before == asked else [(name, (before, asked))]


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": platform.python_version(), **versions}


def _commit() -> str | None:
    """The git commit of the source, None outside a checkout."""
    source = Path(__file__).resolve().parent
    try:
        answer = subprocess.run(
            ["git", "-C", source, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
