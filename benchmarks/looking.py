"""What does each way of looking do to DSC? Held-out kidneys of finished runs, predicted again.

    python benchmarks/looking.py RUN... [--stage K]

`as it is`: the fine network looks about the kidney that it saw, eight times half a voxel apart where its
settings say so, and in a larger ROI where the kidney touches a face. The others leave out one of these.
Rows, means over the kidneys of all runs, go to benchmarks/results/looking.csv.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from held_out import compared, tested
from rows import about, append_rows, say

from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.network import cascade
from kidseg_jax.network.models import Models

WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "one look": {},
    "where the coarse network saw it": {"about_kidney": lambda net, side, roi, scores: roi},
    "where the coarse network saw it, no larger ROI": {
        "about_kidney": lambda net, side, roi, scores: roi,
        "MOST_GROWTHS": 0,
    },
    "no larger ROI": {"MOST_GROWTHS": 0},
}


@contextmanager
def without(names: dict[str, Any]) -> Iterator[None]:
    """These names of the cascade as given."""
    before = {name: getattr(cascade, name) for name in names}
    for name, value in names.items():
        setattr(cascade, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(cascade, name, value)


def of_way(models: Models, way: str) -> Models:
    return models._replace(fine_net=replace(models.fine_net, looks=1)) if way == "one look" else models


def main(runs: tyro.conf.Positional[tuple[Path, ...]], stage: int | None = None) -> None:
    found: dict[str, dict[str, list[float]]] = {way: {name: [] for name in NAMES} for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for run in runs:
        models, cases = tested(run, stage)
        for case in cases:
            for way, names in WAYS.items():
                with without(names):
                    began = time.perf_counter()
                    prediction = cascade.predict(of_way(models, way), case.ct)
                    seconds[way].append(time.perf_counter() - began)
                for s, dsc, _ in compared(case, prediction):
                    if dsc is not None:
                        found[way][s.name].append(dsc)
    rows = []
    for way, scores in found.items():
        means = {name: float(np.mean(values)) for name, values in scores.items()}
        worst = min(min(values) for name, values in scores.items() if name != "rcc")
        where = {**about(), "runs": " ".join(run.name for run in runs), "stage": stage or "last", "way": way}
        median_s = float(np.median(seconds[way]))
        mean = float(np.mean([*means.values()]))
        kidneys = len(scores["parenchyma"])
        rows.append({**where, **means, "mean": mean, "worst": worst, "kidneys": kidneys, "seconds": median_s})
        say(rows[-1])
    append_rows("looking", rows)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
