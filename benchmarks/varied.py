"""Does a model find and segment kidneys of phantoms it never saw? By phase, field of view, slices and body.

    python benchmarks/varied.py [--model RUN_OR_FILE] [--n 200] [--seed 400]

A true kidney is a piece of parenchyma with its RCC of at least 2 ml; it is whole where it touches no face of
the CT, found where half of it is predicted. False kidneys are pieces of at least 5 ml more than 10 mm from
any true one. Rows go to benchmarks/results/varied.csv. Phantoms, not patients: a model of their kind knows
their kind.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from real_ct import far_from, is_found
from rows import about, append_rows, say

from kidseg_jax.cohort.case import Case
from kidseg_jax.config import COHORTS, CohortConfig
from kidseg_jax.imaging.structures import N_CLASSES, NAMES, PARENCHYMA, RCC
from kidseg_jax.imaging.volume import Mask, canonical
from kidseg_jax.kernels import component_stats, label_components
from kidseg_jax.network import checkpoint
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import Models, load_models, models_file
from kidseg_jax.network.runtime import keep_compiled, keep_freed_memory, take_device
from kidseg_jax.phantom.cohort import make_case, plan_cohort
from kidseg_jax.phantom.varied import draw_of, draw_patient

LEAST_ML = 2.0
FALSE_ML = 5.0
COUNTED = ("kidneys", "found", "whole", "whole_found", "false_kidneys")
LOOKS: dict[str, Callable[["Judged"], str]] = {
    "all": lambda j: "all",
    "phase": lambda j: j.phase,
    "fov_mm": lambda j: _between(j.fov_mm, 300, 400),
    "slice_mm": lambda j: _between(j.slice_mm, 2, 3.5),
    "body_mm": lambda j: _between(j.body_mm, 250, 330),
}


class Judged(NamedTuple):
    """One CT: what it is, its kidneys and what was predicted.

    body_mm: diameter of the circle as large as the largest axial section in the image. dsc: of the kidneys
    (parenchyma with RCC) and of each structure that is there. false_rcc_ml: of CTs without RCC.
    """

    phase: str
    fov_mm: float
    slice_mm: float
    body_mm: float
    kidneys: int
    found: int
    whole: int
    whole_found: int
    false_kidneys: int
    false_rcc_ml: float | None
    dsc: dict[str, float]


def cohort_of(n: int) -> CohortConfig:
    """The varied cohort with n patients, in the shares of its default."""
    of, share = COHORTS["varied"], n / COHORTS["varied"].patients
    kidneys, with_rcc = round(share * of.kidneys), round(share * of.rcc_kidneys)
    return replace(of, patients=n, kidneys=kidneys, rcc_kidneys=with_rcc)


def judged(models: Models, case: Case, phase: str) -> Judged:
    """What a model says of a phantom."""
    assert case.labels is not None
    labels, truth = canonical(predict(models, case.ct, threads=1).labels).array, canonical(case.labels)
    hu, spacing_mm = canonical(case.ct).array, truth.spacing_mm
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    predicted, true = labels >= PARENCHYMA, truth.array >= PARENCHYMA
    pieces, _ = label_components(true)
    large = np.flatnonzero(component_stats(true).voxels * voxel_ml >= LEAST_ML) + 1
    kidneys = [pieces == i for i in large]
    whole = [not _touches_a_face(kidney) for kidney in kidneys]
    found = [is_found(kidney, predicted, drawn=True) for kidney in kidneys]
    false_ml = component_stats(far_from(true, predicted, spacing_mm)).voxels * voxel_ml
    section_mm2 = (hu > -300).sum((1, 2)).max() * spacing_mm[1] * spacing_mm[2]
    dsc = {"kidney": _dsc(predicted, true)}
    for label in range(1, N_CLASSES):
        if (there := truth.array == label).any():
            dsc[NAMES[label - 1]] = _dsc(labels == label, there)
    return Judged(
        phase=phase,
        fov_mm=float(min(np.multiply(hu.shape, spacing_mm)[1:])),
        slice_mm=spacing_mm[0],
        body_mm=float(2 * np.sqrt(section_mm2 / np.pi)),
        kidneys=len(kidneys),
        found=sum(found),
        whole=sum(whole),
        whole_found=sum(f for f, w in zip(found, whole, strict=True) if w),
        false_kidneys=int((false_ml >= FALSE_ML).sum()),
        false_rcc_ml=None if (truth.array == RCC).any() else float((labels == RCC).sum()) * voxel_ml,
        dsc=dsc,
    )


def case_of(config: CohortConfig, seed: int, index: int) -> tuple[Case, str]:
    """One phantom of a varied cohort, and its phase."""
    plan = plan_cohort(config, seed)[index]
    patient = draw_patient(draw_of(config, seed, index), config, plan.sides, plan.rcc_side)
    return make_case(config, seed, index), patient.tissues.phase


def rows_of(cts: Iterable[Judged]) -> Iterator[dict[str, object]]:
    """A row for all CTs and for each group of them."""
    cts = list(cts)
    for look, group_of in LOOKS.items():
        for group in sorted({group_of(ct) for ct in cts}):
            here = [ct for ct in cts if group_of(ct) == group]
            free = [ct.false_rcc_ml for ct in here if ct.false_rcc_ml is not None]
            yield {
                "look": look,
                "group": group,
                "cts": len(here),
                **{name: sum(getattr(ct, name) for ct in here) for name in COUNTED},
                "false_rcc": f"{sum(ml > 0.5 for ml in free)} of {len(free)}",
                **{f"dsc_{name}": _mean(ct.dsc.get(name) for ct in here) for name in ("kidney", *NAMES)},
                "least_kidney": min(ct.dsc["kidney"] for ct in here),
            }


def _between(value: float, low: float, high: float) -> str:
    return f"< {low}" if value < low else f"{low} to {high}" if value <= high else f"> {high}"


def _touches_a_face(mask: Mask) -> bool:
    return any(bool(mask.take(end, axis).any()) for axis in range(3) for end in (0, -1))


def _dsc(a: Mask, b: Mask) -> float:
    return 2 * float((a & b).sum()) / float(max(1, a.sum() + b.sum()))


def _mean(values: Iterable[float | None]) -> float:
    there = [v for v in values if v is not None]
    return float(np.mean(there)) if there else float("nan")


def main(model: Path | None = None, n: int = 200, seed: int = 400) -> None:
    """Make phantoms, predict, compare, print and keep.

    Args:
        model: a run directory or a models.safetensors file; default: the model that the package ships.
        n: number of phantoms.
        seed: of the phantoms, one that the model did not learn from.
    """
    take_device()
    keep_compiled()
    keep_freed_memory()
    models, sha256 = load_models(model), checkpoint.read(models_file(model)).sha256
    config = cohort_of(n)
    with ThreadPoolExecutor(2) as pool:
        cts = list(pool.map(lambda index: judged(models, *case_of(config, seed, index)), range(n)))
    rows = [{**about(), "model": sha256[:12], "seed": seed, **row} for row in rows_of(cts)]
    for row in rows:
        say(row)
    append_rows("varied", rows)


if __name__ == "__main__":
    tyro.cli(main)
