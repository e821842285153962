"""Kidneys that are not as the book has them: place, size, turn, and what grows or is put in them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from kidseg_jax.imaging.structures import PARENCHYMA, URETER
from kidseg_jax.imaging.volume import Labels
from kidseg_jax.phantom.kidney import Bean, KidneyFields
from kidseg_jax.phantom.phases import Tissues
from kidseg_jax.phantom.shapes import Canvas, Draw, Points, blob, curve, lower_to_tube, paint, paint_tube
from kidseg_jax.phantom.vessels import Trees

Place = Literal["normal", "low", "malrotated", "iliac", "horseshoe"]
PLACES: tuple[tuple[Place, float], ...] = (
    ("normal", 0.82),
    ("low", 0.06),
    ("malrotated", 0.05),
    ("iliac", 0.045),
    ("horseshoe", 0.025),
)


class Cyst(NamedTuple):
    """A ball of fluid: centre (x, y, z) and radius in mm, HU."""

    centre: Points
    radius: float
    hu: float


@dataclass(frozen=True)
class Findings:
    """What one kidney has beside its tissue."""

    place: Place
    size: float
    cysts: tuple[Cyst, ...] = ()
    stones: tuple[Cyst, ...] = ()
    dilated: bool = False
    stent_hu: float | None = None
    strands: int = 0


def draw_place(draw: Draw, n_kidneys: int) -> Place:
    """Where a patient's kidneys lie; a horseshoe needs two."""
    names, shares = zip(*PLACES, strict=True)
    place: Place = names[draw.rng.choice(len(names), p=np.array(shares) / sum(shares))]
    return "normal" if place == "horseshoe" and n_kidneys < 2 else place


def placed(bean: Bean, place: Place, size: float, spine_y: float, draw: Draw) -> Bean:
    """A kidney of another size, shape, turn and place; the sinus goes with it."""
    centre = bean.centre + draw.rng.uniform(-1, 1, 3) * [7, 7, 20]
    frame = bean.frame
    turn = draw.rng.uniform(-12, 12, 3)
    if place == "low":
        drop = draw(25, 75)
        centre = centre + np.array([-bean.side * (draw(0, 8) + 0.12 * drop), -0.4 * drop, -drop])
    elif place == "malrotated":
        turn = turn + np.array([0, 0, bean.side * draw(-110, 110)])
    elif place == "iliac":
        centre = np.array([bean.side * draw(48, 82), spine_y - draw(55, 85), -draw(120, 165)])
        turn = turn + np.array([draw(-30, 30), draw(-35, 35), draw(-150, 150)])
    elif place == "horseshoe":
        centre = np.array([bean.side * draw(48, 60), spine_y - draw(15, 28), -draw(20, 50)])
        turn = np.array([-draw(5, 25), bean.side * draw(35, 55), bean.side * draw(20, 60)])
    frame = frame @ _turned(np.deg2rad(turn)).T
    stretch = size * np.array([draw(0.9, 1.12) for _ in range(3)])
    sinus = np.array([draw(0.9, 1.3), draw(0.8, 1.7), draw(0.85, 1.6)])
    return replace(
        bean,
        centre=centre,
        frame=frame,
        half=bean.half * stretch,
        bend=draw(0, 20) * size,
        sinus_centre=bean.sinus_centre * stretch,
        sinus_half=bean.sinus_half * stretch * sinus,
        lobes=draw(0.4, 5.0),
        cortex=bean.cortex * min(size, 1.1),
        pyramids=tuple((apex * stretch, way, slope) for apex, way, slope in bean.pyramids),
        fat=draw(1, 10) + 20 * draw.rng.random() ** 3,
        sinus_rough=draw(2, 7),
        sinus_hu=(-8.0, 45.0) if draw.rng.random() < 0.75 else (30.0, 110.0),
    )


def phased(bean: Bean, tissues: Tissues, draw: Draw) -> Bean:
    """The kidney with its tumour, if it has one, as this phase shows it; an eighth are cysts with a wall."""
    if bean.tumour is None:
        return bean
    hu = draw(*tissues.mass)
    tumour = replace(bean.tumour, hu=hu, mottle_hu=min(bean.tumour.mottle_hu, 0.35 * abs(hu)))
    if draw.rng.random() < 0.12:
        tumour = replace(
            tumour, necrosis=draw(0.75, 0.95), necrosis_at=tumour.centre, necrosis_hu=draw(0, 30)
        )
    return replace(bean, tumour=tumour)


def draw_findings(draw: Draw, bean: Bean, place: Place, size: float) -> Findings:
    """Cysts, stones, a dilated pelvis, a stent, stranding of the perirenal fat."""
    cysts, stones = [], []
    if draw.rng.random() < 0.22:
        many, largest_mm = (1.3, 32) if draw.rng.random() < 0.9 else (20, 12)  # polycystic
        for _ in range(1 + int(draw.rng.exponential(many))):
            way = draw.rng.standard_normal(3)
            way[:2] = -abs(way[0]), abs(way[1]) - 0.3  # away from the hilum, seldom into the back
            way /= np.linalg.norm(way)
            radius = float(np.exp(draw(np.log(4), np.log(largest_mm)))) * min(size, 1)
            edge = way / np.linalg.norm(way / bean.half)
            cysts.append(Cyst(bean.to_world(edge * draw(0.4, 1.2 - 0.2 * radius / 32)), radius, draw(-4, 22)))
    if draw.rng.random() < 0.12:
        for _ in range(1 + int(draw.rng.exponential(1.0))):
            at = bean.sinus_centre + bean.sinus_half * draw.rng.uniform(-0.9, 0.9, 3)
            stones.append(Cyst(bean.to_world(at), draw(1.2, 7), draw(250, 1500)))
    return Findings(
        place=place,
        size=size,
        cysts=tuple(cysts),
        stones=tuple(stones),
        dilated=bool(draw.rng.random() < 0.1),
        stent_hu=draw(500, 2000) if draw.rng.random() < 0.04 else None,
        strands=int(draw(5, 30)) if draw.rng.random() < 0.25 else 0,
    )


def paint_strands(canvas: Canvas, bean: Bean, findings: Findings, draw: Draw) -> None:
    """Paint strands of fluid and vessels in the perirenal fat."""
    for _ in range(findings.strands):
        way = draw.rng.standard_normal(3)
        start = bean.to_world(way / np.linalg.norm(way / bean.half))
        out = bean.to_world(way / np.linalg.norm(way / (bean.half + draw(6, 25))))
        path = np.stack(
            [start, (start + out) / 2 + draw.rng.uniform(-6, 6, 3), out + draw.rng.uniform(-9, 9, 3)]
        )
        paint_tube(canvas, path, np.full(3, draw(0.5, 1.4)), draw(-50, 30))


def paint_findings(
    canvas: Canvas,
    fields: KidneyFields,
    bean: Bean,
    trees: Trees,
    findings: Findings,
    tissues: Tissues,
    draw: Draw,
) -> None:
    """Paint over a painted kidney: dilated pelvis, cysts, stones and stent."""
    soft = canvas.soft_mm
    if findings.dilated:
        pool = np.full(fields.window.shape, draw(0, 18), np.float32)
        if tissues.contrast.urine > 60:
            level = (fields.window.y - np.float32(bean.centre[1] + draw(-12, 8))) * tissues.filling.front
            paint(pool, -level + 0 * fields.window.z, tissues.contrast.urine * draw(0.2, 1), 4.0)
        paint(fields.window.hu, fields.sinus, pool, soft)
    for centre, radius, hu in (*findings.cysts, *findings.stones):
        window = canvas.window(centre - radius - 4, centre + radius + 4)
        if window.hu.size:
            paint(window.hu, blob(window, centre, np.full(3, radius)), hu, soft)
    if findings.stent_hu is not None:
        points, _ = trees.ureter[0]
        paint_tube(canvas, points, np.full(len(points), 1.3), findings.stent_hu)


def label_findings(labels: Labels, canvas: Canvas, fields: KidneyFields, findings: Findings) -> None:
    """Label cysts as parenchyma (none of the five structures is theirs) and a dilated pelvis as ureter."""
    if findings.dilated:
        part = labels[fields.window.slices]
        part[(fields.sinus < 0) & (fields.capsule < 0) & (part == 0)] = URETER
    for centre, radius, _ in findings.cysts:
        window = canvas.window(centre - radius, centre + radius)
        part = labels[window.slices]
        part[(blob(window, centre, np.full(3, radius)) < 0) & (part == 0)] = PARENCHYMA


def join_horseshoe(
    canvas: Canvas, labels: Labels, beans: Sequence[Bean], spine_y: float, tissues: Tissues, draw: Draw
) -> None:
    """Paint and label the bridge between the lower poles, in front of aorta and cava."""
    ends = [bean.to_world(np.array([0.0, 0.0, -0.8 * bean.half[2]])) for bean in beans]
    middle = np.array([0.0, spine_y - draw(44, 56), (ends[0] + ends[1])[2] / 2 - draw(0, 8)])
    beside = [np.array([end[0] * 0.55, middle[1] + 8, end[2] - 2]) for end in ends]
    path = curve(np.stack([ends[0], beside[0], middle, beside[1], ends[1]]), 6)
    radii = np.interp(np.linspace(-1, 1, len(path)), [-1, 0, 1], [15, draw(6, 12), 15])
    window = canvas.around(path, 20)
    if window.hu.size:
        bridge = window.far()
        lower_to_tube(bridge, window, canvas, path, radii)
        paint(
            window.hu, bridge, 0.7 * tissues.contrast.cortex + 0.3 * tissues.contrast.medulla, canvas.soft_mm
        )
        part = labels[window.slices]
        part[(bridge < 0) & (part == 0)] = PARENCHYMA


def _turned(angles_rad: Points) -> Points:
    """A rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(angles_rad):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out
