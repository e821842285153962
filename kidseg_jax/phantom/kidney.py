"""One kidney of a phantom: curved bean, cortex and pyramids, sinus, and the tumour that pushes them aside."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kidseg_jax.config import CohortConfig
from kidseg_jax.phantom.body import FAT_HU, Body, Contrast
from kidseg_jax.phantom.shapes import (
    Canvas,
    Draw,
    Field,
    Points,
    Window,
    ellipsoid,
    paint,
    smooth_field,
)
from kidseg_jax.phantom.tumour import Tumour, draw_tumour, paint_tumour

DISPLACED = 0.6  # share of a tumour's volume that pushes tissue outwards; the rest replaces it


@dataclass(frozen=True)
class Bean:
    """A kidney: side (-1 right, 1 left), centre (x, y, z) in mm and a frame.

    The frame's rows are the unit vectors towards the hilum (u), the front (v) and the upper pole (w).
    Lengths are mm along (u, v, w).
    """

    side: int
    centre: Points
    frame: Points
    half: Points
    bend: float
    taper: float
    sinus_centre: Points
    sinus_half: Points
    lobes: float
    cortex: float
    pyramids: tuple[tuple[Points, Points, float], ...]
    fat: float
    tumour: Tumour | None
    sinus_rough: float = 2.5
    sinus_hu: tuple[float, float] = (5.0, 40.0)  # above fat

    def to_world(self, local: Points) -> Points:
        """Points (n, 3) as (x, y, z) in the patient's frame of points as (u, v, w)."""
        return np.asarray(local, float) @ self.frame + self.centre

    def pushed(self, points: Points, clearance_mm: Points | float) -> Points:
        """Points (n, 3) moved out of the tumour's way, with a clearance to its surface."""
        if self.tumour is None:
            return points
        offset = points - self.tumour.centre
        distance = np.linalg.norm(offset, axis=1) + 1e-6
        radius = self.tumour.radius
        moved = np.cbrt(distance**3 + DISPLACED * radius**3)
        reach = np.linalg.norm(offset / distance[:, None] / self.tumour.radii, axis=1) ** -1
        moved = np.maximum(moved, reach + np.asarray(clearance_mm))
        return self.tumour.centre + offset * (moved / distance)[:, None]


@dataclass(frozen=True)
class KidneyFields:
    """Signed distances in mm over a window: capsule, sinus, pyramids and tumour."""

    window: Window
    capsule: Field
    sinus: Field
    pyramids: Field
    tumour: Field | None


def draw_bean(
    draw: Draw,
    body: Body,
    side: int,
    has_rcc: bool,
    config: CohortConfig,
    contrast: Contrast,
    changed: Callable[[Bean], Bean] = lambda bean: bean,
) -> Bean:
    """A kidney in the fossa of one side, or where `changed` puts it, with a tumour or without."""
    half = np.array([draw(24, 31), draw(19, 26), draw(46, 61)])
    wide = (body.half_width - 127) * 0.25
    z = draw(-20, 14) if side > 0 else draw(-36, 0)
    centre = np.array([side * (draw(62, 74) + wide), body.spine_y + draw(-6, 8), z])
    turn, tilt, lean = np.deg2rad([draw(12, 58), draw(4, 26), draw(-4, 20)])
    w = np.array([-side * np.sin(tilt), np.sin(lean), 1.0])
    w /= np.linalg.norm(w)
    u = np.array([-side * np.cos(turn), -np.sin(turn), 0.0])
    u -= w * (u @ w)
    u /= np.linalg.norm(u)
    v = side * np.cross(w, u)
    size = draw(0.75, 1.3)
    sinus_half = half * [draw(0.55, 0.72), draw(0.34, 0.46), draw(0.36, 0.52)] * [1, size, size]
    sinus_centre = np.array([half[0] * draw(0.55, 0.75), draw.near(2), draw.near(4)])
    bare = Bean(
        side=side,
        centre=centre,
        frame=np.stack([u, v, w]),
        half=half,
        bend=draw(4, 14),
        taper=draw.near(0.15),
        sinus_centre=sinus_centre,
        sinus_half=sinus_half,
        lobes=draw(0.5, 3.0),
        cortex=draw(4.5, 8.5),
        pyramids=tuple(_pyramids(draw, half, sinus_centre)),
        fat=draw(3, 16),
        tumour=None,
    )
    bare = changed(bare)
    if not has_rcc:
        return bare
    tumour = draw_tumour(draw, body, config, contrast, lambda depth_mm: _place(draw, bare, depth_mm))
    return replace(bare, tumour=tumour)


def kidney_fields(canvas: Canvas, bean: Bean, draw: Draw) -> KidneyFields:
    """Evaluate a kidney in the window that holds it and its perirenal fat."""
    reach = np.abs(bean.frame.T) @ (bean.half + np.array([bean.bend, 0, 0])) + bean.fat + 8
    low, high = bean.centre - reach, bean.centre + reach
    tumour = bean.tumour
    if tumour is not None:
        low = np.minimum(low - 6, tumour.centre - tumour.radii - bean.fat - 8)
        high = np.maximum(high + 6, tumour.centre + tumour.radii + bean.fat + 8)
    window = canvas.window(low, high)
    spacing = canvas.geometry.spacing_mm
    x, y, z = window.x, window.y, window.z
    growth = None
    if tumour is not None:
        dx, dy, dz = (a - np.float32(c) for a, c in zip((x, y, z), tumour.centre, strict=True))
        growth = ellipsoid(dx, dy, dz, tumour.radii)
        growth += np.float32(tumour.roughness) * smooth_field(draw.rng, window, spacing, tumour.radius * 0.6)
        cubed = np.power(dx * dx + dy * dy + dz * dz, np.float32(1.5)) + np.float32(1e-3)
        shrink = np.cbrt(np.maximum(1 - np.float32(DISPLACED * tumour.radius**3) / cubed, np.float32(1e-3)))
        x, y, z = (np.float32(c) + d * shrink for c, d in zip(tumour.centre, (dx, dy, dz), strict=True))
    x, y, z = (a - np.float32(c) for a, c in zip((x, y, z), bean.centre, strict=True))
    u, v, w = (np.float32(r[0]) * x + np.float32(r[1]) * y + np.float32(r[2]) * z for r in bean.frame)
    a, b, c = (float(h) for h in bean.half)
    slim = (1 + np.float32(bean.taper / c) * w).clip(0.5, 1.5)
    bent = u - np.float32(bean.bend / c**2) * w * w
    capsule = ellipsoid(bent * slim, v * slim, w, (a, b, c))
    capsule += np.float32(bean.lobes) * smooth_field(draw.rng, window, spacing, 24.0)
    su, sv, sw = (np.float32(s) for s in bean.sinus_centre)
    sinus = ellipsoid(u - su, v - sv, w - sw, bean.sinus_half)
    sinus += bean.sinus_rough * smooth_field(draw.rng, window, spacing, 8.0)
    pyramids = window.far()
    square = u * u + v * v + w * w
    for apex, way, slope in bean.pyramids:
        au, av, aw = (np.float32(q) for q in apex)
        du, dv, dw = (np.float32(q) for q in way)
        along = du * u + dv * v + dw * w - np.float32(apex @ way)
        length2 = square - 2 * (au * u + av * v + aw * w) + np.float32(apex @ apex)
        away = np.sqrt(np.maximum(length2 - along * along, 0))
        np.minimum(pyramids, away - np.float32(slope) * along, out=pyramids)
    deep = capsule + np.float32(bean.cortex)
    pyramids = np.maximum(pyramids, np.maximum(deep, np.float32(1.0) - sinus))
    return KidneyFields(window, capsule, sinus, pyramids, growth)


def paint_perirenal_fat(canvas: Canvas, fields: KidneyFields, bean: Bean, wall: Field, draw: Draw) -> None:
    """Paint the fat around a kidney and its tumour inside the abdominal wall."""
    capsule = fields.capsule if fields.tumour is None else np.minimum(fields.capsule, fields.tumour)
    strands = FAT_HU + 5 + 7 * smooth_field(draw.rng, fields.window, canvas.geometry.spacing_mm, 6.0)
    thin_above = np.clip(1 - (fields.window.z - bean.centre[2]) / np.float32(1.1 * bean.half[2]), 0.2, 1)
    thick = np.float32(bean.fat) * thin_above.astype(np.float32)
    paint(fields.window.hu, np.maximum(capsule - thick, wall), strands, canvas.soft_mm)


def paint_kidney(canvas: Canvas, fields: KidneyFields, bean: Bean, contrast: Contrast, draw: Draw) -> None:
    """Paint cortex, medulla, sinus fat and tumour."""
    soft, spacing = canvas.soft_mm, canvas.geometry.spacing_mm
    tissue = np.full(fields.window.shape, contrast.cortex, np.float32)
    tissue += 5 * smooth_field(draw.rng, fields.window, spacing, 7.0)
    paint(tissue, fields.pyramids, contrast.medulla, soft + 1.0)
    paint(tissue, fields.sinus, FAT_HU + draw(*bean.sinus_hu), soft)
    paint(fields.window.hu, fields.capsule, tissue, soft)
    if bean.tumour is not None and fields.tumour is not None:
        paint_tumour(canvas, fields.window, fields.tumour, bean.tumour, draw)


def _pyramids(draw: Draw, half: Points, sinus_centre: Points) -> list[tuple[Points, Points, float]]:
    """Medullary pyramids as cones (apex, unit direction, slope) in (u, v, w), in rows along the kidney."""
    cones = []
    rows = int(np.clip(round(draw(4.6, 7.4)), 4, 9))
    for row in np.linspace(-0.92, 0.92, rows) + 0.08 * draw.rng.standard_normal(rows):
        angles = (-85, -28, 28, 85) if abs(row) < 0.5 else (-52, 52) if abs(row) < 0.8 else (0,)
        for angle in np.deg2rad(np.asarray(angles, float) + 12 * draw.rng.standard_normal(len(angles))):
            apex = np.array([sinus_centre[0] * 0.75, 0.0, half[2] * 0.48 * row])
            way = np.array([-np.cos(angle), np.sin(angle), 1.3 * row])
            cones.append((apex, way / np.linalg.norm(way), draw(0.24, 0.44)))
    return cones


def _place(draw: Draw, bean: Bean, depth_mm: float) -> Points:
    """A point (x, y, z) so deep under the capsule, not at the hilum."""
    way = draw.rng.standard_normal(3)
    way /= np.linalg.norm(way)
    way[0] = -abs(way[0]) if way[0] > 0.1 else way[0]
    local = way * (1 / np.linalg.norm(way / bean.half) - depth_mm)
    local[0] += bean.bend * (local[2] / bean.half[2]) ** 2
    return bean.to_world(local)
