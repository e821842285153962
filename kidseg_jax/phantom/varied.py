"""One varied phantom: any body, phase, field of view and scanner, with kidneys as hospitals see them.

Its only purpose is that a network trained on it finds and segments kidneys in CTs of patients.
"""

from dataclasses import dataclass

import numpy as np

from kidseg_jax.cohort.case import Case
from kidseg_jax.config import CohortConfig
from kidseg_jax.phantom.acquisition import draw_scanner, paint_metal, scan_varied
from kidseg_jax.phantom.anomalies import (
    Findings,
    Place,
    draw_findings,
    draw_place,
    join_horseshoe,
    label_findings,
    paint_findings,
    paint_strands,
    phased,
    placed,
)
from kidseg_jax.phantom.body import paint_muscles
from kidseg_jax.phantom.chest import paint_chest, paint_ribcage
from kidseg_jax.phantom.kidney import Bean, draw_bean, kidney_fields, paint_kidney, paint_perirenal_fat
from kidseg_jax.phantom.labels import label_kidney
from kidseg_jax.phantom.organs import paint_organs
from kidseg_jax.phantom.pelvis import SACRUM_Z, paint_pelvic_organs, paint_pelvis
from kidseg_jax.phantom.phases import Tissues, draw_tissues
from kidseg_jax.phantom.random_shapes import paint_lookalikes, paint_random_tissue
from kidseg_jax.phantom.shapes import Draw, cloud
from kidseg_jax.phantom.skeleton import paint_spine
from kidseg_jax.phantom.trunk import (
    Trunk,
    draw_trunk,
    paint_arms,
    paint_ascites,
    paint_inside,
    paint_table,
    paint_walls,
    trunk_fields,
)
from kidseg_jax.phantom.vessels import draw_trees, paint_great_vessels, paint_plaques, paint_trees

SHARES = {"scattered": 0.3, "ascites": 0.07, "arms": 0.12, "metal": 0.08, "plaques": 0.2}


@dataclass(frozen=True)
class Patient:
    """What is drawn of a patient before anything is painted.

    beans: the kidneys, right one first, and findings beside their tissue. extras: keys of SHARES; scattered:
    random shapes in place of anatomy.
    """

    tissues: Tissues
    trunk: Trunk
    place: Place
    beans: tuple[Bean, ...]
    findings: tuple[Findings, ...]
    extras: frozenset[str]


def draw_patient(draw: Draw, config: CohortConfig, sides: tuple[int, ...], rcc_side: int | None) -> Patient:
    """A patient with kidneys on these sides (-1 right, 1 left), one of them with a tumour or none."""
    rng = draw.rng
    tissues = draw_tissues(draw, 1.0 if rng.random() < 0.93 else -1.0)
    trunk = draw_trunk(draw, 2.0, 90.0)
    place = draw_place(draw, len(sides))
    beans, findings = [], []
    for side in sides:
        here = "normal" if place == "iliac" and beans else place
        size = float(rng.choice([draw(0.86, 1.08), draw(0.55, 0.85), draw(1.08, 1.25)], p=[0.84, 0.11, 0.05]))

        def changed(bean: Bean, here: Place = here, size: float = size) -> Bean:
            return placed(bean, here, size, trunk.body.spine_y, draw)

        has_rcc = side == rcc_side
        bean = draw_bean(draw, trunk.body, side, has_rcc, config, tissues.contrast, changed)
        beans.append(phased(bean, tissues, draw))
        findings.append(draw_findings(draw, bean, here, size))
    extras = frozenset(name for name, share in SHARES.items() if rng.random() < share)
    return Patient(tissues, trunk, place, tuple(beans), tuple(findings), extras)


def draw_of(config: CohortConfig, seed: int, index: int) -> Draw:
    """The draws of one patient of a cohort, apart from those of the demo."""
    return Draw(np.random.default_rng(np.random.SeedSequence([seed, 1 + index, 2])), config.hardness)


def make_varied_case(
    config: CohortConfig, seed: int, index: int, sides: tuple[int, ...], rcc_side: int | None
) -> Case:
    """The phantom of one patient, as `draw_patient` has it, in a scanner of its own."""
    draw = draw_of(config, seed, index)
    patient = draw_patient(draw, config, sides, rcc_side)
    tissues, trunk, beans, extras = patient.tissues, patient.trunk, patient.beans, patient.extras
    body, contrast = trunk.body, tissues.contrast
    scanner, canvas = draw_scanner(draw, trunk, beans, config)
    trees = [draw_trees(draw, canvas, body, bean, config) for bean in beans]
    empty = next(iter({-1, 1} - set(sides)), None)

    whole, cavity, muscle, skin = trunk_fields(canvas, trunk)
    paint_inside(whole, canvas, tissues, draw)
    paint_organs(canvas, body, contrast, draw, empty, tissues.filling)
    paint_pelvic_organs(canvas, body, tissues, draw)
    paint_chest(canvas, trunk, cavity, tissues, draw)
    if "ascites" in extras:
        paint_ascites(whole, canvas, cavity, draw)
    fields = [kidney_fields(canvas, bean, draw) for bean in beans]
    if "scattered" in extras:
        paint_random_tissue(canvas, whole, skin, draw, draw(0.3, 1.0))
    for bean, field, finding in zip(beans, fields, patient.findings, strict=True):
        paint_perirenal_fat(canvas, field, bean, cavity[field.window.slices], draw)
        paint_strands(canvas, bean, finding, draw)
    paint_muscles(canvas, body, tissues.muscle - 4, SACRUM_Z - 20)
    paint_walls(canvas, whole, cavity, muscle, skin, tissues, draw)
    paint_ribcage(canvas, trunk, tissues, draw)
    paint_spine(canvas, body, draw, SACRUM_Z, tissues.bone, tissues.marrow)
    paint_pelvis(canvas, trunk, tissues, draw)
    if "arms" in extras:
        paint_arms(canvas, trunk, tissues, draw)
    if "scattered" in extras and draw.rng.random() < 0.4:
        paint_random_tissue(canvas, whole, skin, draw, draw(0.1, 0.4))
    n_lookalikes = draw(0, 9) if "scattered" in extras else draw(-1.5, 2.5)
    paint_lookalikes(canvas, muscle, draw, beans, int(n_lookalikes))
    paint_table(canvas, trunk, tissues.filling.front, draw)
    metal = paint_metal(canvas, trunk, draw) if "metal" in extras else []
    texture = np.float32(draw(0, 9)) * cloud(draw.rng, whole, canvas.geometry.spacing_mm, draw(4, 9))
    np.add(whole.hu, texture, out=whole.hu, where=whole.hu > -300)
    paint_great_vessels(canvas, body, contrast, draw)
    if "plaques" in extras:
        paint_plaques(canvas, body, draw)
    kidneys = list(zip(beans, fields, trees, patient.findings, strict=True))
    for bean, field, tree, finding in kidneys:
        paint_kidney(canvas, field, bean, contrast, draw)
        paint_trees(canvas, body, contrast, tree, draw)
        paint_findings(canvas, field, bean, tree, finding, tissues, draw)
    labels = np.zeros(canvas.geometry.shape, np.uint8)
    for _, field, tree, finding in kidneys:
        label_kidney(labels, canvas, body, field, tree, config)
        label_findings(labels, canvas, field, finding)
    if patient.place == "horseshoe":
        join_horseshoe(canvas, labels, beans, body.spine_y, tissues, draw)
    ct, drawn = scan_varied(canvas, labels, scanner, metal, draw, config)
    name = f"case_{index:05d}"
    return Case(name, name, ct, drawn)
