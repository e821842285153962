"""A run directory, read: what each stage measured. The schema is in `report.py`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kidseg_jax.imaging.structures import NAMES

Record = dict[str, Any]
COLUMNS = (*NAMES, "total")
HEADINGS = tuple("RCC" if name == "rcc" else name for name in COLUMNS)


@dataclass(frozen=True, eq=False)
class StageRecord:
    """One stage's metrics.json: how it was trained, a record per kidney and structure; equal to itself."""

    stage: int
    train_kidneys: int | None
    steps: int | None
    seconds: float | None
    test: tuple[Record, ...]
    labelling: tuple[Record, ...] = ()
    surfaces: tuple[Record, ...] = ()

    def values(self, key: str, structure: str) -> dict[str, float | None]:
        """By "KIDNEY/STRUCTURE": one number per test kidney of a structure, or of all ("total")."""
        chosen = (r for r in self.test if structure in (r["structure"], "total"))
        return {f"{r['kidney']}/{r['structure']}": r.get(key) for r in chosen}

    @property
    def patients(self) -> dict[str, str]:
        """The patient of each test kidney and structure, by the keys of `values`."""
        return {f"{r['kidney']}/{r['structure']}": r["patient"] for r in self.test}

    @property
    def test_kidneys(self) -> tuple[str, ...]:
        """Names of the held-out kidneys, sorted."""
        return tuple(sorted({r["kidney"] for r in self.test}))


@dataclass(frozen=True)
class Run:
    """A run directory's record: run.json and its stages in order."""

    path: Path
    info: Record
    stages: tuple[StageRecord, ...]

    @property
    def simulated(self) -> bool:
        """True when any labelling record is, or does not say that it is not."""
        return any(r.get("simulated", True) for stage in self.stages for r in stage.labelling)

    @property
    def phantoms(self) -> bool:
        """True unless run.json's configuration names a data folder."""
        return not any(found for found in _find(self.info, "data") if found)


def read_run(path: Path) -> Run:
    """Everything the tables and the report need from a run directory.

    Raises FileNotFoundError when there is no stage_*/metrics.json, ValueError when one cannot be read as
    described.
    """
    found = sorted(path.glob("stage_*/metrics.json"), key=_stage_number)
    if not found:
        raise FileNotFoundError(
            f"read_run: need {path}/stage_1/metrics.json, got a folder without any stage's metrics"
        )
    info = path / "run.json"
    return Run(
        path=path,
        info=_read_json(info) if info.is_file() else {},
        stages=tuple(read_stage(file) for file in found),
    )


def read_stage(path: Path) -> StageRecord:
    """One metrics.json. Raises ValueError naming the file and what it lacks."""
    data = _read_json(path)
    for key, needed in (
        ("test", ("patient", "kidney", "structure", "dsc")),
        ("labelling", ("kidney", "structure")),
    ):
        for record in data.get(key, ()):
            if missing := [name for name in needed if name not in record]:
                raise ValueError(f"{path}: every {key!r} record needs {missing}, got {sorted(record)}")
            if record["structure"] not in NAMES:
                raise ValueError(f"{path}: structure must be one of {NAMES}, got {record['structure']!r}")
    return StageRecord(
        stage=int(data.get("stage", _stage_number(path))),
        train_kidneys=data.get("train_kidneys"),
        steps=data.get("steps"),
        seconds=data.get("seconds"),
        test=tuple(data.get("test", ())),
        labelling=tuple(data.get("labelling", ())),
        surfaces=tuple(data.get("surfaces", ())),
    )


def _stage_number(path: Path) -> int:
    number = path.parent.name.removeprefix("stage_")
    if not number.isdigit():
        raise ValueError(f"{path}: need a folder stage_K with a number K, got {path.parent.name!r}")
    return int(number)


def _read_json(path: Path) -> Record:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: need JSON, got {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: need a JSON object, got {type(data).__name__}")
    return data


def _find(data: Any, key: str) -> Iterator[Any]:
    if isinstance(data, dict):
        for name, value in data.items():
            if name == key:
                yield value
            yield from _find(value, key)
