"""`evaluate`: metrics of a folder of predicted label maps against a folder of true ones."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro

from kidseg_jax.atomic import write_text
from kidseg_jax.cli.cluster import Cluster, Part, Problem, each, in_order, parted
from kidseg_jax.cli.kept import Kept

HEADLINES = ("dsc", "nsd_1mm", "nsd_2mm", "hd95_mm", "assd_mm", "volume_error_ml", "dice", "surface_dice")


@dataclass(frozen=True)
class Arguments:
    """Measure every case that both folders have: CASE.nii.gz, CASE.seg.nrrd, or CASE/segmentation.nii.gz.

    Writes evaluation.csv, evaluation.json and evaluation.md. Exit code 1 when a case has no partner or cannot
    be read.
    """

    pred: tyro.conf.Positional[Path]
    """Folder of predicted label maps."""
    truth: tyro.conf.Positional[Path]
    """Folder of true label maps."""
    scheme: Literal["kidseg", "kits", "values"] = "kidseg"
    """What the labels mean: our five structures, KiTS23's regions and rules, or every value by itself."""
    out: Path | None = None
    """Folder for the results; PRED where it is not given."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Cases worked on at once in this process."""
    part: Part = None
    cluster: Cluster = None


def run(arguments: Arguments) -> int:
    """Measure, write three files, print the means of the usual measures."""
    from kidseg_jax.evaluation.folders import evaluation_of, pairs_of, records_csv, summary_table
    from kidseg_jax.evaluation.table import to_markdown, to_terminal

    out = arguments.out or arguments.pred
    kept = Kept(out, "evaluate", arguments.scheme)
    shared, failures = pairs_of(arguments.pred, arguments.truth)
    pairs = parted(shared, arguments.part)
    found: dict[str, Any] = {pair.case: kept.of(pair.case, pair[1:]) for pair in pairs}
    todo = [pair for pair in pairs if found[pair.case] is None]
    for pair, one in zip(todo, _measured(arguments, todo), strict=True):
        found[pair.case] = one
        if arguments.part is not None or arguments.cluster is not None:
            kept.keep(pair.case, pair[1:], one)
    if arguments.part is not None:
        failures = {case: one for case, one in found.items() if isinstance(one, str)}
        _say(failures)
        print(f"{len(pairs)} cases measured, the same command without --part gathers them")
        return 1 if failures else 0
    evaluation = evaluation_of(arguments.scheme, pairs, [found[pair.case] for pair in pairs], failures)
    if evaluation.records:
        grid = summary_table(evaluation)
        data = {"scheme": evaluation.scheme, "records": evaluation.records, "failures": evaluation.failures}
        write_text(out / "evaluation.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
        write_text(out / "evaluation.csv", records_csv(evaluation))
        write_text(out / "evaluation.md", to_markdown([grid]))
        print(to_terminal([grid.only(HEADLINES)]))
        print(f"{out}: evaluation.csv, evaluation.json, evaluation.md")
    _say(evaluation.failures)
    if not evaluation.records:
        raise ValueError(f"evaluate: no case of {arguments.pred} could be measured")
    kept.clear()
    return 1 if evaluation.failures else 0


def _say(failures: Mapping[str, str]) -> None:
    for case, reason in failures.items():
        print(f"kidseg_jax: {case}: {' '.join(reason.split())}", file=sys.stderr)


def _measured(arguments: Arguments, pairs: Sequence[Any]) -> Iterator[Any]:
    """The records of each pair, or why there are none, in order, by threads or by a cluster."""
    from kidseg_jax.evaluation.folders import evaluate_pair, evaluate_pairs

    if arguments.cluster is None:
        yield from evaluate_pairs(pairs, arguments.scheme, arguments.threads)
        return
    work = partial(evaluate_pair, scheme=arguments.scheme)
    for one in in_order(each(work, pairs, arguments.cluster)):
        yield one.line if isinstance(one, Problem) else one
