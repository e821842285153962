"""What a part of a run, or a cluster, made of its cases, kept until the whole run has gathered it."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kidseg_jax import __version__
from kidseg_jax.atomic import write_text


class Kept:
    """A file for every case in OUT/parts, good as long as its inputs and the run's settings are the same.

    Results are what JSON can hold. An input is the same with its size and time of change, of a folder those
    of its files.
    """

    def __init__(self, out: Path, *settings: object) -> None:
        self.folder = out / "parts"
        self.settings = [__version__, *map(str, settings)]

    def of(self, case: str, inputs: Sequence[Path]) -> Any | None:
        """What was kept of a case; None where nothing was, or of another run or other inputs."""
        try:
            held = json.loads(self._file(case).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = isinstance(held, dict) and held.get("of") == self._key(inputs)
        return held.get("result") if same else None

    def keep(self, case: str, inputs: Sequence[Path], result: Any) -> None:
        """Keep what was made of a case, whole or not at all."""
        content = {"case": case, "of": self._key(inputs), "result": result}
        write_text(self._file(case), json.dumps(content) + "\n")

    def clear(self) -> None:
        """Drop all that is kept: the whole run has it."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def _file(self, case: str) -> Path:
        return self.folder / f"{hashlib.sha256(case.encode()).hexdigest()[:24]}.json"

    def _key(self, inputs: Sequence[Path]) -> str:
        seen = []
        for path in inputs:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            seen += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return hashlib.sha256(json.dumps([self.settings, seen]).encode()).hexdigest()
