"""Two folders of label maps, case by case: who belongs to whom, what each pair measures, and the means."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from kidseg_jax.cohort.label_maps import label_map, read_structures
from kidseg_jax.csv_text import csv_text
from kidseg_jax.evaluation.kits import measure_kits
from kidseg_jax.evaluation.metrics import crop_together, measure, measure_kidney
from kidseg_jax.evaluation.statistics import summarise
from kidseg_jax.evaluation.table import Cell, Row, Table, mean_sd_cell
from kidseg_jax.formats.volumes import ENDINGS, ending_of, read_labels
from kidseg_jax.imaging.volume import Volume, on_grid

Scheme = Literal["kidseg", "kits", "values"]
Record = dict[str, Any]
_MAPS_IN_FOLDERS = ("segmentation", "labels", "label", "seg")
_FIRST = ("case", "name")


@dataclass(frozen=True)
class Evaluation:
    """Records of every pair (case, name and measures each), and what could not be measured, by case."""

    scheme: Scheme
    records: tuple[Record, ...]
    failures: dict[str, str]

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures, in the order of the records."""
        return tuple(key for key in self.records[0] if key not in _FIRST) if self.records else ()


def label_maps(folder: Path) -> dict[str, Path]:
    """Case name to label map of a folder: CASE.ending, or CASE/segmentation.ending as KiTS has it.

    Raises FileNotFoundError when there is no such folder, ValueError when it holds no label map or two of one
    case.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of label maps")
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name, at = _map_in(path) if path.is_dir() else (_stem(path), path)
        if name is None or at is None:
            continue
        if name in paths:
            raise ValueError(
                f"{folder}: need one label map per case, got {paths[name].name} and {at.name} for {name}"
            )
        paths[name] = at
    if not paths:
        raise ValueError(f"{folder}: need label maps ({', '.join(ENDINGS)}), got none")
    return paths


class Pair(NamedTuple):
    """A case that both folders have, and its two label maps."""

    case: str
    predicted: Path
    truth: Path


def pairs_of(predicted: Path, truth: Path) -> tuple[list[Pair], dict[str, str]]:
    """The cases that both folders have, in order of name, and what is wrong with the others.

    Raises ValueError where they share none, and as `label_maps` does.
    """
    ours, theirs = label_maps(predicted), label_maps(truth)
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise ValueError(
            f"evaluate: no case of {predicted} is in {truth}, got {_few(ours)} and {_few(theirs)}"
        )
    failures = {case: "no prediction" for case in theirs.keys() - ours.keys()}
    failures |= {case: "no ground truth" for case in ours.keys() - theirs.keys()}
    return [Pair(case, ours[case], theirs[case]) for case in shared], failures


def evaluate_folders(
    predicted: Path, truth: Path, scheme: Scheme = "kidseg", *, threads: int = 1
) -> Evaluation:
    """Measures of every case both folders have; a case that one lacks, or that cannot be read, is a failure.

    scheme "kidseg": `metrics.measure_kidney` over a whole case; "kits": the challenge's regions and rules;
    "values": `metrics.measure` of every label value that either map has. `threads` cases are worked on at
    once.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"evaluate: scheme must be one of {get_args(Scheme)}, got {scheme!r}")
    pairs, failures = pairs_of(predicted, truth)
    return evaluation_of(scheme, pairs, evaluate_pairs(pairs, scheme, threads), failures)


def evaluate_pairs(pairs: Sequence[Pair], scheme: Scheme, threads: int) -> list[list[Record] | str]:
    """The records of each pair, or why there are none, `threads` pairs at once."""
    if threads < 1:
        raise ValueError(f"evaluate: threads must be at least 1, got {threads}")

    def one(pair: Pair) -> list[Record] | str:
        try:
            return evaluate_pair(pair, scheme)
        except (ValueError, OSError) as error:
            return str(error)

    def endings(pair: Pair) -> tuple[str, str]:
        return ending_of(pair.predicted), ending_of(pair.truth)

    by_size = sorted(pairs, key=lambda pair: pair.predicted.stat().st_size, reverse=True)
    alone = set({endings(pair): pair for pair in by_size}.values())  # first use of a reader: one thread only
    found = {pair: one(pair) for pair in sorted(alone)}
    with ThreadPoolExecutor(threads) as pool:
        rest = [pair for pair in by_size if pair not in alone]
        found |= zip(rest, pool.map(one, rest), strict=True)
    return [found[pair] for pair in pairs]


def evaluate_pair(pair: Pair, scheme: Scheme) -> list[Record]:
    """The records of one case; ValueError or OSError as `evaluate_case`."""
    return [{"case": pair.case, **record} for record in evaluate_case(pair.predicted, pair.truth, scheme)]


def evaluation_of(
    scheme: Scheme,
    pairs: Sequence[Pair],
    found: Sequence[list[Record] | str],
    failures: Mapping[str, str],
) -> Evaluation:
    """What was found of each pair, its records or why there are none, and what else failed, as one."""
    records = [record for one in found if not isinstance(one, str) for record in one]
    failed = {pair.case: one for pair, one in zip(pairs, found, strict=True) if isinstance(one, str)}
    return Evaluation(scheme, tuple(records), dict(sorted({**failures, **failed}.items())))


def evaluate_case(predicted: Path, truth: Path, scheme: Scheme) -> list[Record]:
    """The records of one pair of label maps; ValueError when grids differ or a value has no meaning."""
    read = partial(read_structures, labels=label_map("kidseg")) if scheme == "kidseg" else read_labels
    ours, theirs = read(predicted), read(truth)
    if ours.array.size < theirs.array.size:  # one may cover a part of the other, as Slicer crops
        ours = on_grid(predicted.name, ours, theirs.geometry)
    else:
        theirs = on_grid(truth.name, theirs, ours.geometry)
    return _SCHEMES[scheme](theirs, ours)


def summary_table(evaluation: Evaluation) -> Table:
    """Mean and SD over cases of every measure, one row per structure, region or value."""
    names = list(dict.fromkeys(record["name"] for record in evaluation.records))
    rows = tuple(
        Row(
            name,
            tuple(mean_sd_cell(summarise(_column(evaluation, name, key)), 3) for key in evaluation.measures),
        )
        for name in names
    )
    counts = Row(
        "defined", tuple(Cell(str(_n(evaluation, key)), n=_n(evaluation, key)) for key in evaluation.measures)
    )
    notes = ["Mean ± SD over cases for which a measure is defined; the last row counts the values that are."]
    notes += [_RULES[evaluation.scheme]]
    notes += [f"{case}: {reason}." for case, reason in evaluation.failures.items()]
    cases = len({record["case"] for record in evaluation.records})
    return Table("evaluation", f"{cases} cases", evaluation.measures, (*rows, counts), tuple(notes))


def records_csv(evaluation: Evaluation) -> str:
    """One line per case and structure; for "kits" the challenge's own evaluation.csv, average last."""
    if evaluation.scheme == "kits":
        return csv_text(_kits_rows(evaluation))
    columns = (*_FIRST, *evaluation.measures)
    return csv_text([columns, *([record[key] for key in columns] for record in evaluation.records)])


def _kidseg(truth: Volume, predicted: Volume) -> list[Record]:
    a, b = crop_together(truth.array, predicted.array)
    return [_named(record, "structure") for record in measure_kidney(a, b, truth.spacing_mm)]


def _kits(truth: Volume, predicted: Volume) -> list[Record]:
    return [
        _named(record, "region") for record in measure_kits(truth.array, predicted.array, truth.spacing_mm)
    ]


def _values(truth: Volume, predicted: Volume) -> list[Record]:
    a, b = crop_together(truth.array, predicted.array)
    values = np.union1d(np.unique(a), np.unique(b))
    return [
        {"name": f"value {value}", **asdict(measure(a == value, b == value, truth.spacing_mm))}
        for value in values[values != 0]
    ]


_SCHEMES: dict[str, Callable[[Volume, Volume], list[Record]]] = {
    "kidseg": _kidseg,
    "kits": _kits,
    "values": _values,
}
_RULES = {
    "kidseg": "A structure that the truth lacks has no DSC; what was predicted of it is false_positive_ml.",
    "kits": "KiTS23's rule: a region absent in both maps counts as 1, absent in one as 0.",
    "values": "A value absent in one map has DSC and NSD 0 and no distance.",
}


def _named(record: Record, key: str) -> Record:
    return {"name": record[key], **{name: value for name, value in record.items() if name != key}}


def _kits_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    regions = ("kidney_and_mass", "mass", "tumor")
    cases = list(dict.fromkeys(record["case"] for record in evaluation.records))
    records = {(record["case"], record["name"]): record for record in evaluation.records}
    rows = [
        [
            records[case, region][measure_name]
            for measure_name in ("dice", "surface_dice")
            for region in regions
        ]
        for case in cases
    ]
    header = [f"{kind}_{name}" for kind in ("Dice", "SD") for name in ("kidney", "masses", "tumor")]
    yield ["caseID", *header]
    for case, row in zip([*cases, "average"], [*rows, np.mean(rows, axis=0)], strict=True):
        yield [case, *(f"{value:.8f}" for value in row)]


def _column(evaluation: Evaluation, name: str, key: str) -> list[float | None]:
    return [record[key] for record in evaluation.records if record["name"] == name]


def _n(evaluation: Evaluation, key: str) -> int:
    return sum(record[key] is not None for record in evaluation.records)


def _map_in(folder: Path) -> tuple[str | None, Path | None]:
    maps = [path for path in sorted(folder.iterdir()) if _stem(path) in _MAPS_IN_FOLDERS]
    return (folder.name, maps[0]) if len(maps) == 1 else (None, None)


def _stem(path: Path) -> str | None:
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
    return None if ending is None or path.name.startswith(".") else path.name[: -len(ending)]


def _few(names: Iterable[str], most: int = 3) -> str:
    listed: Sequence[str] = sorted(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
