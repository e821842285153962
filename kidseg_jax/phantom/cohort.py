"""The embedded cohort: seeded contrast-phase abdominal CT phantoms in HU with the five structures labelled.

A phantom is not a patient. Its anatomy is drawn from ranges, not from scans. A patient of whom one kidney
counts has no other kidney: that fossa holds fat and bowel. Aorta and cava are background; the ureter label
holds the renal pelvis and ends `ureter_below_mm` below the kidney.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import NamedTuple

import numpy as np

from kidseg_jax.cohort.case import Case
from kidseg_jax.config import CohortConfig
from kidseg_jax.imaging.volume import Volume
from kidseg_jax.phantom.body import (
    Contrast,
    draw_body,
    paint_frame,
    paint_muscles,
    ring,
)
from kidseg_jax.phantom.kidney import draw_bean, kidney_fields, paint_kidney, paint_perirenal_fat
from kidseg_jax.phantom.labels import label_kidney
from kidseg_jax.phantom.organs import paint_organs
from kidseg_jax.phantom.scanner import draw_canvas, paint_table, scan
from kidseg_jax.phantom.shapes import Draw
from kidseg_jax.phantom.skeleton import paint_ribs, paint_spine
from kidseg_jax.phantom.varied import make_varied_case
from kidseg_jax.phantom.vessels import draw_trees, paint_great_vessels, paint_trees

RIGHT, LEFT = -1, 1


class Plan(NamedTuple):
    """Which kidneys a patient has (RIGHT, LEFT), and which of them has a tumour."""

    sides: tuple[int, ...]
    rcc_side: int | None


def make_cohort(
    config: CohortConfig, seed: int, threads: int = 2, progress: Callable[[int], None] | None = None
) -> tuple[Case, ...]:
    """All phantoms of a cohort, one case a patient, in order.

    The same config and seed give the same bits for any number of threads. progress, if given, is called with
    the number of cases made so far. Raises ValueError for a negative seed or less than one thread.
    """
    if threads < 1:
        raise ValueError(f"make_cohort: threads must be at least 1, got {threads}")
    plan_cohort(config, seed)
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(make_case, config, seed, index) for index in range(config.patients)]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            if progress is not None:
                progress(done)
    return tuple(job.result() for job in jobs)


def plan_cohort(config: CohortConfig, seed: int) -> tuple[Plan, ...]:
    """What each patient of a cohort has, a function of config and seed.

    Patients without a tumour are the first to get two kidneys; each tumour lies in one kidney of its patient.
    """
    if seed < 0:
        raise ValueError(f"make_cohort: seed must be at least 0, got {seed}")
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    n_two = config.kidneys - config.patients
    n_normal = config.patients - config.rcc_kidneys
    plans = []
    for patient in range(config.patients):
        sides = (RIGHT, LEFT) if patient < n_two else (int(rng.choice((RIGHT, LEFT))),)
        rcc_side = int(rng.choice(sides)) if patient >= n_normal else None
        plans.append(Plan(sides, rcc_side))
    return tuple(plans[i] for i in rng.permutation(config.patients))


def make_case(config: CohortConfig, seed: int, index: int) -> Case:
    """The phantom of one patient, alone: the same as in `make_cohort`.

    CT int16 HU and labels uint8 (z, y, x), identity direction, spacing in 1/64 mm, origin in 1/4 mm.
    Raises ValueError when index is not a patient of the cohort.
    """
    if not 0 <= index < config.patients:
        raise ValueError(f"make_case: index must be 0 to {config.patients - 1}, got {index}")
    plan = plan_cohort(config, seed)[index]
    if config.kind == "varied":
        return make_varied_case(config, seed, index, plan.sides, plan.rcc_side)
    draw = Draw(np.random.default_rng(np.random.SeedSequence([seed, 1 + index])), config.hardness)
    body = draw_body(draw)
    contrast = _contrast(draw, config)
    beans = [draw_bean(draw, body, side, side == plan.rcc_side, config, contrast) for side in plan.sides]
    canvas = draw_canvas(draw, body, config)
    trees = [draw_trees(draw, canvas, body, bean, config) for bean in beans]
    empty = {RIGHT, LEFT} - set(plan.sides)

    paint_table(canvas, body)
    paint_frame(canvas, body, draw.rng)
    paint_organs(canvas, body, contrast, draw, next(iter(empty), None))
    fields = [kidney_fields(canvas, bean, draw) for bean in beans]
    for bean, field in zip(beans, fields, strict=True):
        wall = ring(field.window, body, body.half_width, body.half_depth, body.cavity_y)
        paint_perirenal_fat(canvas, field, bean, wall, draw)
    paint_muscles(canvas, body)
    paint_ribs(canvas, body, draw)
    paint_spine(canvas, body, draw)
    paint_great_vessels(canvas, body, contrast, draw)
    for bean, field, tree in zip(beans, fields, trees, strict=True):
        paint_kidney(canvas, field, bean, contrast, draw)
        paint_trees(canvas, body, contrast, tree, draw)
    labels = np.zeros(canvas.geometry.shape, np.uint8)
    for field, tree in zip(fields, trees, strict=True):
        label_kidney(labels, canvas, body, field, tree, config)
    name = f"case_{index:05d}"
    ct = Volume(scan(canvas, draw, config), canvas.geometry)
    return Case(name, name, ct, Volume(labels, canvas.geometry))


def _contrast(draw: Draw, config: CohortConfig) -> Contrast:
    """One patient's timing: early, arteries are bright and veins dark; late, the other way round."""
    late, strength = draw.rng.random(2)
    vein = draw.blend(*config.vein_hu, late, late, draw.rng.random())
    low_cava = min(draw(55, 105), vein)
    return Contrast(
        artery=draw.blend(*config.artery_hu, 1 - late, strength),
        vein=vein,
        cortex=draw.blend(*config.cortex_hu, strength, draw.rng.random()),
        medulla=draw.blend(*config.medulla_hu, late, draw.rng.random()),
        low_cava=low_cava,
        liver=draw.blend(58, 95, late, draw.rng.random()),
        spleen=draw.blend(85, 150, strength, draw.rng.random()),
        urine=draw(6, 34),
    )
