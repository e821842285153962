"""A run directory, read and written: what each stage measured, a record per kidney and structure.

stage_K/metrics.json (K from 1) holds the fields of `StageRecord`; its lists hold those of `TestRecord`,
`LabellingRecord` and `SurfaceRecord`. What is undefined is null, never NaN. A field that an older version did
not write has its default, one that a newer version writes is left out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from kidseg_jax.evaluation.comparison import SurfaceComparison
from kidseg_jax.evaluation.metrics import Agreement
from kidseg_jax.evaluation.trees import TreeAgreement
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.rundir import RunDirectory, StageDirectory, read_json

COLUMNS = (*NAMES, "total")
HEADINGS = tuple("RCC" if name == "rcc" else name for name in COLUMNS)


@dataclass(frozen=True, kw_only=True)
class KidneyRecord:
    """Whose kidney a record is about; kidney is CASE_SIDE."""

    case: str
    patient: str
    kidney: str
    side: str | None = None


@dataclass(frozen=True, kw_only=True)
class StructureRecord(KidneyRecord):
    """A record of one structure of a kidney."""

    structure: str


@dataclass(frozen=True, kw_only=True)
class TestRecord(TreeAgreement, Agreement, StructureRecord):
    """How well a stage segmented one structure of a held-out kidney, see `metrics.measure_kidney`."""

    false_positive_ml: float | None = None

    @property
    def dsc_percent(self) -> float | None:
        """DSC in percent; None where the truth lacks the structure."""
        return None if self.dsc is None else 100 * self.dsc


@dataclass(frozen=True, kw_only=True)
class LabellingRecord(StructureRecord):
    """What one structure of a newly labelled kidney cost; manual_seconds is None where the truth lacks it."""

    manual_seconds: float | None = None
    corrected_seconds: float | None = None
    simulated: bool = True
    voxels_added: int | None = None
    voxels_removed: int | None = None


@dataclass(frozen=True, kw_only=True)
class SurfaceRecord(SurfaceComparison, KidneyRecord):
    """One measure of one pair of `comparison.PAIRS` of a newly labelled kidney's surfaces."""

    pair: str


R = TypeVar("R", bound=KidneyRecord)


@dataclass(frozen=True, eq=False, kw_only=True)
class StageRecord:
    """One stage's metrics.json: how it was trained, and what was measured; equal to itself.

    steps and losses are the fine network's, coarse_steps those of the network that finds the kidneys.
    """

    stage: int
    train_kidneys: int | None = None
    steps: int | None = None
    coarse_steps: int | None = None
    seconds: float | None = None
    losses: Any = field(default_factory=dict)
    test: tuple[TestRecord, ...] = ()
    labelling: tuple[LabellingRecord, ...] = ()
    surfaces: tuple[SurfaceRecord, ...] = ()

    def tested(self, structure: str) -> list[TestRecord]:
        """The records of one structure, or of all of them ("total")."""
        return [record for record in self.test if structure in (record.structure, "total")]

    @property
    def test_kidneys(self) -> tuple[str, ...]:
        """Names of the held-out kidneys, sorted."""
        return tuple(sorted({record.kidney for record in self.test}))

    @property
    def test_patients(self) -> tuple[str, ...]:
        """The patients of the held-out kidneys, sorted."""
        return tuple(sorted({record.patient for record in self.test}))


@dataclass(frozen=True)
class Run:
    """A run directory's record: run.json and its stages in order."""

    path: Path
    info: dict[str, Any]
    stages: tuple[StageRecord, ...]

    @property
    def simulated(self) -> bool:
        """True when any labelling record is, or does not say that it is not."""
        return any(record.simulated for stage in self.stages for record in stage.labelling)

    @property
    def phantoms(self) -> bool:
        """True unless run.json's configuration names a data folder."""
        return not any(_find(self.info, "data"))


def read_run(path: Path) -> Run:
    """Everything the tables and the report need from a run directory.

    Raises FileNotFoundError when there is no stage_*/metrics.json, ValueError when one cannot be read as
    described.
    """
    run = RunDirectory(path)
    measured = [stage.metrics for stage in run.stages() if stage.metrics.exists()]
    if not measured:
        raise FileNotFoundError(
            f"read_run: need {run.stage(1).metrics}, got a folder without any stage's metrics"
        )
    return Run(
        path=path,
        info=_read_object(run.settings) if run.settings.is_file() else {},
        stages=tuple(read_stage(file) for file in measured),
    )


def read_stage(path: Path) -> StageRecord:
    """One metrics.json. Raises ValueError naming the file and what it lacks."""
    data = {"stage": StageDirectory(path.parent).index, **_read_object(path)}
    lists = {
        "test": _records(path, "test", TestRecord, data.get("test", ()), ("dsc",)),
        "labelling": _records(path, "labelling", LabellingRecord, data.get("labelling", ())),
        "surfaces": _records(path, "surfaces", SurfaceRecord, data.get("surfaces", ())),
    }
    known = {part.name for part in fields(StageRecord)}
    return StageRecord(**{name: value for name, value in data.items() if name in known} | lists)


def stage_json(stage: StageRecord) -> dict[str, Any]:
    """What a metrics.json holds, for `read_stage` to read."""
    data = asdict(stage)
    for record in data["surfaces"]:
        record["from"], record["to"] = record["pair"].split("_")
    return data


def _records(
    path: Path, name: str, kind: type[R], rows: Iterable[dict[str, Any]], needed: tuple[str, ...] = ()
) -> tuple[R, ...]:
    names = [part.name for part in fields(kind)]
    needed += tuple(part.name for part in fields(kind) if part.default is MISSING)
    kept = []
    for row in rows:
        if missing := [each for each in needed if each not in row]:
            raise ValueError(f"{path}: every {name!r} record needs {missing}, got {sorted(row)}")
        if row.get("structure", NAMES[0]) not in NAMES:
            raise ValueError(f"{path}: structure must be one of {NAMES}, got {row['structure']!r}")
        kept.append(kind(**{each: row[each] for each in names if each in row}))
    return tuple(kept)


def _read_object(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path}: need a JSON object, got {type(data).__name__}")
    return data


def _find(data: Any, key: str) -> Iterator[Any]:
    if isinstance(data, dict):
        for name, value in data.items():
            if name == key:
                yield value
            yield from _find(value, key)
