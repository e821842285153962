"""One varied phantom: any body, phase, field of view and scanner, with kidneys as hospitals see them.

Its only purpose is that a network trained on it finds and segments kidneys in CTs of patients.
"""

import numpy as np

from kidseg_jax.cohort.case import Case
from kidseg_jax.config import CohortConfig
from kidseg_jax.phantom.acquisition import draw_scanner, paint_metal, scan_varied
from kidseg_jax.phantom.anomalies import (
    draw_findings,
    draw_place,
    join_horseshoe,
    label_findings,
    paint_findings,
    paint_strands,
    placed,
)
from kidseg_jax.phantom.body import paint_muscles
from kidseg_jax.phantom.chest import paint_chest, paint_ribcage
from kidseg_jax.phantom.kidney import Bean, draw_bean, kidney_fields, paint_kidney, paint_perirenal_fat
from kidseg_jax.phantom.labels import label_kidney
from kidseg_jax.phantom.organs import paint_organs
from kidseg_jax.phantom.pelvis import SACRUM_Z, paint_pelvic_organs, paint_pelvis
from kidseg_jax.phantom.phases import draw_tissues
from kidseg_jax.phantom.random_shapes import paint_lookalikes, paint_random_tissue
from kidseg_jax.phantom.shapes import Draw, cloud
from kidseg_jax.phantom.skeleton import paint_spine
from kidseg_jax.phantom.trunk import (
    draw_trunk,
    paint_arms,
    paint_inside,
    paint_table,
    paint_walls,
    trunk_fields,
)
from kidseg_jax.phantom.vessels import draw_trees, paint_great_vessels, paint_trees

RANDOM_SHARE = 0.3  # of the cases have random shapes in place of anatomy


def make_varied_case(
    config: CohortConfig, seed: int, index: int, sides: tuple[int, ...], rcc_side: int | None
) -> Case:
    """The phantom of one patient with kidneys on these sides (-1 right, 1 left), a tumour in one or none."""
    draw = Draw(np.random.default_rng(np.random.SeedSequence([seed, 1 + index, 2])), config.hardness)
    rng = draw.rng
    front = 1.0 if rng.random() < 0.93 else -1.0
    tissues = draw_tissues(draw, front)
    contrast = tissues.contrast
    trunk = draw_trunk(draw, 2.0, 90.0)
    body = trunk.body
    place = draw_place(draw, len(sides))
    beans: list[Bean] = []
    findings = []
    for side in sides:
        here = "normal" if place == "iliac" and beans else place
        size = float(rng.choice([draw(0.86, 1.08), draw(0.55, 0.85), draw(1.08, 1.25)], p=[0.84, 0.11, 0.05]))
        bean = draw_bean(
            draw,
            body,
            side,
            side == rcc_side,
            config,
            contrast,
            lambda bean, here=here, size=size: placed(bean, here, size, body.spine_y, draw),
        )
        beans.append(bean)
        findings.append(draw_findings(draw, bean, here, size))
    scanner, canvas = draw_scanner(draw, trunk, beans, config)
    trees = [draw_trees(draw, canvas, body, bean, config) for bean in beans]
    labels = np.zeros(canvas.geometry.shape, np.uint8)
    scatter = rng.random() < RANDOM_SHARE
    empty = {-1, 1} - set(sides)

    whole, cavity, muscle, skin = trunk_fields(canvas, trunk)
    paint_inside(whole, canvas, tissues, draw)
    paint_organs(canvas, body, contrast, draw, next(iter(empty), None), tissues.filling)
    paint_pelvic_organs(canvas, body, tissues, draw)
    paint_chest(canvas, trunk, cavity, tissues, draw)
    fields = [kidney_fields(canvas, bean, draw) for bean in beans]
    if scatter:
        paint_random_tissue(canvas, whole, draw, draw(0.3, 1.0))
    for bean, field, finding in zip(beans, fields, findings, strict=True):
        paint_perirenal_fat(canvas, field, bean, cavity[field.window.slices], draw)
        paint_strands(canvas, bean, finding, draw)
    paint_walls(canvas, whole, cavity, muscle, skin, tissues, draw)
    paint_ribcage(canvas, trunk, tissues, draw)
    paint_muscles(canvas, body, tissues.muscle - 4, SACRUM_Z - 20)
    paint_spine(canvas, body, draw, SACRUM_Z, tissues.bone, tissues.marrow)
    paint_pelvis(canvas, trunk, tissues, draw)
    if rng.random() < 0.12:
        paint_arms(canvas, trunk, tissues, draw)
    if scatter and rng.random() < 0.4:
        paint_random_tissue(canvas, whole, draw, draw(0.1, 0.4))
    paint_lookalikes(canvas, muscle, draw, beans, int(draw(0, 9)) if scatter else int(draw(-1.5, 2.5)))
    paint_table(canvas, trunk, front, draw)
    metal = paint_metal(canvas, trunk, draw) if rng.random() < 0.08 else []
    texture = np.float32(draw(0, 9)) * cloud(rng, whole, canvas.geometry.spacing_mm, draw(4, 9))
    np.add(whole.hu, texture, out=whole.hu, where=whole.hu > -300)
    paint_great_vessels(canvas, body, contrast, draw)
    for bean, field, tree, finding in zip(beans, fields, trees, findings, strict=True):
        paint_kidney(canvas, field, bean, contrast, draw)
        paint_trees(canvas, body, contrast, tree, draw)
        paint_findings(canvas, field, bean, tree, finding, tissues, draw)
    for field, tree, finding in zip(fields, trees, findings, strict=True):
        label_kidney(labels, canvas, body, field, tree, config)
        label_findings(labels, canvas, field, finding)
    if place == "horseshoe":
        join_horseshoe(canvas, labels, beans, body.spine_y, tissues, draw)
    ct, drawn = scan_varied(canvas, labels, scanner, metal, draw, config)
    name = f"case_{index:05d}"
    return Case(name, name, ct, drawn)
