"""How many labelled kidneys does a start model save? A learning curve from it and from nothing.

    python benchmarks/learning.py DIR [--sizes 0 1 2 5 10 20] [--seeds 0 1 2] [--start RUN_OR_FILE]

Patients are dealt anew for each seed; the first ones are learned from, in growing and nested sets of whole
patients, and those of no set are the test. Both ways have the same networks, steps and samples; 0 kidneys is
the start model as it is. A structure that was missed counts 0. Rows go to benchmarks/results/learning.csv.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path
from statistics import mean

import numpy as np
import tyro
from rows import about, append_rows, say

from kidseg_jax.cohort.case import Case, LabelledKidney
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import PRESETS
from kidseg_jax.evaluation.metrics import measure_kidney
from kidseg_jax.imaging.structures import NAMES, PARENCHYMA
from kidseg_jax.imaging.volume import canonical
from kidseg_jax.network import checkpoint
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import Models, load_models, models_file
from kidseg_jax.network.runtime import keep_compiled, keep_freed_memory, take_device
from kidseg_jax.staging.case_work import pair_kidneys, teach
from kidseg_jax.staging.learning import StageState, TrainingSet, run_stage

Labelled = tuple[Case, tuple[LabelledKidney, ...]]


def curve(
    cohort: Sequence[Case], sizes: Sequence[int], seeds: Sequence[int], start: Models
) -> Iterator[dict[str, float | str]]:
    """A row for each seed, way and size: kidneys learned from and tested, mean DSC of each structure."""
    labelled = [(case, kidneys_of(case)) for case in cohort if case.labels is not None]
    config = replace(PRESETS["demo"], coarse=start.coarse_net, fine=start.fine_net)
    for seed in seeds:
        names = (
            np.random.default_rng(seed).permutation(sorted({case.patient for case, _ in labelled})).tolist()
        )
        chosen = [patients_for(size, names, labelled) for size in sorted(sizes)]
        test = [pair for pair in labelled if pair[0].patient not in chosen[-1]]
        if not test:
            raise SystemExit(f"learning: {max(sizes)} kidneys to learn from leave no patient to test")
        for patients in chosen:
            of_them = [pair for pair in labelled if pair[0].patient in patients]
            taught = TrainingSet()
            for case, kidneys in of_them:
                taught = taught.and_also(teach(case, kidneys, replace(config, seed=seed), threads=2))
            for way in ("start", "nothing") if of_them else ("start",):
                models = start
                if of_them:
                    begun = StageState(start=start if way == "start" else None)
                    models = run_stage(begun, taught, replace(config, seed=seed)).models
                assert models is not None
                row: dict[str, float | str] = {"seed": seed, "from": way, "train_kidneys": len(taught.fine)}
                yield row | scores(models, test)


def patients_for(size: int, names: Sequence[str], labelled: Sequence[Labelled]) -> frozenset[str]:
    """The first of these patients, as few as have `size` kidneys; ValueError where all have fewer."""
    for n in range(len(names) + 1):
        taken = frozenset(names[:n])
        if sum(len(kidneys) for case, kidneys in labelled if case.patient in taken) >= size:
            return taken
    raise ValueError(f"learning: need {size} labelled kidneys, got fewer")


def scores(models: Models, test: Sequence[Labelled]) -> dict[str, float]:
    """Over all kidneys of the test patients: mean DSC of the kidney, each structure and the five."""
    dsc: dict[str, list[float]] = {name: [] for name in ("kidney", *NAMES)}
    for case, kidneys in test:
        for pair in pair_kidneys(case, kidneys, predict(models, case.ct)):
            for record in measure_kidney(pair.truth, pair.predicted, canonical(case.ct).spacing_mm):
                if record["structure"] in case.structures and record["dsc"] is not None:
                    dsc[record["structure"]].append(record["dsc"])
            a, b = pair.truth >= PARENCHYMA, pair.predicted >= PARENCHYMA
            dsc["kidney"].append(2 * int((a & b).sum()) / int(a.sum() + b.sum()))
    means = {name: mean(values) if values else nan for name, values in dsc.items()}
    found = sum(value >= 0.5 for value in dsc["kidney"]) / len(dsc["kidney"])
    there = [means[name] for name in NAMES if dsc[name]]
    return {"test_kidneys": len(dsc["kidney"]), "found": found, **means, "mean": mean(there)}


def main(
    folder: tyro.conf.Positional[Path],
    sizes: tuple[int, ...] = (0, 1, 2, 5, 10),
    seeds: tuple[int, ...] = (0, 1, 2),
    start: Path | None = None,
    label_map: str = "kidseg",
) -> None:
    """Learn, test, print and keep.

    Args:
        folder: cases with labels, as `stage --data` reads them.
        sizes: kidneys to learn from, at least so many.
        seeds: of the deal of patients and of training.
        start: a run directory or a models.safetensors file; default: the model that the package ships.
        label_map: the label convention of the folder.
    """
    take_device()
    keep_compiled()
    keep_freed_memory()
    measure(folder, sizes, seeds, start, label_map)


def measure(
    folder: Path, sizes: Sequence[int], seeds: Sequence[int], start: Path | None, label_map: str
) -> None:
    """Print the curve of a folder of cases and keep its rows."""
    sha256 = checkpoint.read(models_file(start)).sha256
    rows = []
    for row in curve(load_cohort(folder, label_map), sizes, seeds, load_models(start)):
        rows.append({**about(), "data": folder.name, "model": sha256[:12], **row})
        say(rows[-1])
    append_rows("learning", rows)


if __name__ == "__main__":
    tyro.cli(main)
