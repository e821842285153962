"""`evaluate`: metrics of a folder of predicted label maps against a folder of true ones."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from kidseg_jax.atomic import write_text

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
    """Cases worked on at once."""


def run(arguments: Arguments) -> int:
    """Measure, write three files, print the means of the usual measures."""
    from kidseg_jax.evaluation.folders import evaluate_folders, records_csv, summary_table
    from kidseg_jax.evaluation.table import to_markdown, to_terminal

    evaluation = evaluate_folders(
        arguments.pred, arguments.truth, arguments.scheme, threads=arguments.threads
    )
    out = arguments.out or arguments.pred
    if evaluation.records:
        grid = summary_table(evaluation)
        data = {"scheme": evaluation.scheme, "records": evaluation.records, "failures": evaluation.failures}
        write_text(out / "evaluation.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
        write_text(out / "evaluation.csv", records_csv(evaluation))
        write_text(out / "evaluation.md", to_markdown([grid]))
        print(to_terminal([grid.only(HEADLINES)]))
        print(f"{out}: evaluation.csv, evaluation.json, evaluation.md")
    for case, reason in evaluation.failures.items():
        print(f"kidseg_jax: {case}: {' '.join(reason.split())}", file=sys.stderr)
    if not evaluation.records:
        raise ValueError(f"evaluate: no case of {arguments.pred} could be measured")
    return 1 if evaluation.failures else 0
