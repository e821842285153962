"""The neighbours of the kidneys: liver, gallbladder, spleen, stomach, pancreas, colon and small bowel."""

from dataclasses import dataclass

import numpy as np

from kidseg_jax.phantom.body import FAT_HU, MUSCLE_HU, Body, Contrast, cavity, ring
from kidseg_jax.phantom.shapes import (
    Canvas,
    Draw,
    Points,
    blob,
    curve,
    paint,
    paint_tube,
    smooth_field,
)

GAS_HU = -880.0
Range = tuple[float, float]


@dataclass(frozen=True)
class Filling:
    """HU of the abdominal organs that `Contrast` does not tell.

    loops, loop_mm: how many of small bowel, and their radius. spleen: its size. front: 1 where gas rises to
    the front, -1 in a prone patient.
    """

    wall: float = MUSCLE_HU
    stomach_wall: float = 75.0
    colon_wall: float = 70.0
    pancreas: Range = (75.0, 115.0)
    adrenal: Range = (55.0, 95.0)
    bile: Range = (4.0, 18.0)
    stomach: Range = (5.0, 70.0)
    bowel: Range = (5.0, 55.0)
    stool: Range = (-20.0, 60.0)
    loops: Range = (15.0, 23.0)
    loop_mm: Range = (9.0, 14.0)
    spleen: Range = (0.8, 1.25)
    front: float = 1.0


def paint_organs(
    canvas: Canvas,
    body: Body,
    contrast: Contrast,
    draw: Draw,
    empty_fossa: int | None,
    filling: Filling = Filling(),
) -> None:
    """Paint the abdominal organs, and fat and bowel in the empty fossa (-1 right, 1 left, None none)."""
    _liver(canvas, body, contrast, draw, filling)
    _spleen(canvas, body, contrast, draw, filling)
    _stomach(canvas, body, draw, filling)
    _pancreas(canvas, body, draw, filling)
    _adrenals(canvas, body, draw, filling)
    _colon(canvas, body, draw, filling)
    _mesentery(canvas, body, contrast, draw)
    _small_bowel(canvas, body, draw, filling)
    if empty_fossa is not None:
        _empty_fossa(canvas, body, draw, empty_fossa, filling)


def _empty_fossa(canvas: Canvas, body: Body, draw: Draw, side: int, filling: Filling) -> None:
    """Fat where the kidney would lie, and a bowel loop in front of it."""
    y = body.spine_y
    centre = draw.point(side * 73, y + 10, -10, 6)
    radii = np.array([draw(24, 34), draw(20, 27), draw(38, 55)])
    window = canvas.window(centre - radii - 4, centre + radii + 4)
    wall = ring(window, body, body.half_width, body.half_depth, body.cavity_y)
    strands = FAT_HU + 5 + 9 * smooth_field(draw.rng, window, canvas.geometry.spacing_mm, 7.0)
    fossa = blob(window, centre, radii) + 5 * smooth_field(draw.rng, window, canvas.geometry.spacing_mm, 20.0)
    paint(window.hu, np.maximum(fossa, wall), strands, canvas.soft_mm)
    top = 25 if side > 0 else min(body.liver_low, 0) - 28
    knots = [
        draw.point(side * x, y - dy, z, 7)
        for x, dy, z in ((74, 8, top), (68, 0, top - 30), (72, 10, top - 75))
    ]
    paint_gut(canvas, curve(knots, 8), draw(9, 15), draw, draw.chance(0.5), filling)


def _liver(canvas: Canvas, body: Body, contrast: Contrast, draw: Draw, filling: Filling) -> None:
    a, b, yc = body.half_width, body.half_depth, body.cavity_y
    low, top = body.liver_low, body.dome_z - 4
    window = canvas.window([-a - 5, yc - b, low - 10], [a * 0.5, yc + b, top + 15])
    if not window.hu.size:
        return
    middle = (low + top) / 2
    right = blob(window, [-0.52 * a, yc + 0.12 * b, middle], [0.58 * a, 0.98 * b, (top - low) / 2 + 12])
    left = blob(window, [-0.05 * a, yc - 0.42 * b, top - 30], [0.55 * a, 0.42 * b, 48])
    liver = np.minimum(right, left)
    liver += draw(2, 6) * smooth_field(draw.rng, window, canvas.geometry.spacing_mm, 35.0)
    liver = np.maximum(liver, cavity(window, body) + 2)
    texture = contrast.liver + 6 * smooth_field(draw.rng, window, canvas.geometry.spacing_mm, 9.0)
    paint(window.hu, liver, texture, canvas.soft_mm)
    hilum = np.array([-0.25 * a, yc - 0.05 * b, low + 55])
    for _ in range(5):
        end = hilum + np.array([draw(-0.5 * a, 0), draw(-0.4 * b, 0.4 * b), draw(10, 60)])
        knots = curve([hilum, (hilum + end) / 2 + draw.point(0, 0, 0, 8), end], 9)
        paint_tube(canvas, knots, np.linspace(4.5, 2.0, len(knots)), contrast.liver + draw(5, 40))
    if draw.chance(0.7):
        bladder = canvas.window([-90, yc - b, low - 30], [0, yc + b, low + 60])
        centre = draw.point(-0.36 * a, yc - 0.5 * b, low + 14, 6)
        wall = blob(bladder, centre, [draw(11, 17), draw(14, 22), draw(18, 30)])
        paint(bladder.hu, wall, 55.0, canvas.soft_mm)
        paint(bladder.hu, wall + 2.0, draw(*filling.bile), canvas.soft_mm)


def _spleen(canvas: Canvas, body: Body, contrast: Contrast, draw: Draw, filling: Filling) -> None:
    a, b, yc = body.half_width, body.half_depth, body.cavity_y
    size = draw(*filling.spleen)
    centre = draw.point(0.74 * a, yc + 0.38 * b, 66, 8)
    window = canvas.window(centre - 75 * size, centre + 75 * size)
    if not window.hu.size:
        return
    outer = blob(window, centre, np.array([33, 42, 50]) * size)
    dent = blob(window, centre - np.array([34 * size, 6, 0]), np.array([26, 40, 60]) * size)
    spleen = np.maximum(np.maximum(outer, -dent), cavity(window, body) + 2)
    bands = draw(0, 30) * smooth_field(draw.rng, window, canvas.geometry.spacing_mm, 10.0)
    paint(window.hu, spleen, contrast.spleen + bands, canvas.soft_mm)


def _stomach(canvas: Canvas, body: Body, draw: Draw, filling: Filling) -> None:
    b, yc = body.half_depth, body.cavity_y
    knots = [
        draw.point(45, yc + 0.15 * b, 105, 6),
        draw.point(58, yc - 0.25 * b, 75, 8),
        draw.point(40, yc - 0.55 * b, 42, 8),
        draw.point(-8, yc - 0.45 * b, 28, 8),
    ]
    path = curve(knots, 8)
    shape = np.interp(np.linspace(0, 1, len(path)), [0, 0.35, 0.7, 1], [24, 32, 22, 12]) * draw(0.65, 1.05)
    paint_tube(canvas, path, shape, filling.stomach_wall)
    paint_tube(canvas, path, shape - 4, draw(*filling.stomach))
    if draw.chance(0.75):
        paint_tube(canvas, path - [0, 0.35 * shape.mean() * filling.front, 0], shape * 0.5, GAS_HU)


def _pancreas(canvas: Canvas, body: Body, draw: Draw, filling: Filling) -> None:
    y = body.spine_y
    knots = [
        draw.point(-26, y - 48, 2, 4),
        draw.point(-22, y - 56, 16, 4),
        draw.point(12, y - 62, 26, 4),
        draw.point(45, y - 44, 38, 5),
        draw.point(75, y - 18, 52, 6),
    ]
    path = curve(knots, 5)
    radii = np.interp(np.linspace(0, 1, len(path)), [0, 0.2, 0.5, 1], [13, 11, 8, 7.5])
    radii = radii * (1 + 0.15 * draw.rng.standard_normal(len(path)))
    paint_tube(canvas, path, radii, draw(*filling.pancreas))
    loop = [(-42, 34, 18), (-52, 30, 4), (-50, 28, -28), (-30, 34, -46), (5, 38, -44), (28, 46, -22)]
    duodenum = [draw.point(x, y - dy, z, 5) for x, dy, z in loop]
    paint_gut(canvas, curve(duodenum, 6), draw(9, 13), draw, draw.chance(0.1), filling)


def _adrenals(canvas: Canvas, body: Body, draw: Draw, filling: Filling) -> None:
    y = body.spine_y
    for side in (-1, 1):
        body_at = draw.point(side * 33, y - 16, 52, 4)
        for limb in (draw.point(side * 10, 14, -12, 3), draw.point(side * 2, 17, -12, 3)):
            paint_tube(
                canvas, np.stack([body_at, body_at + limb]), np.array([2.8, 1.8]), draw(*filling.adrenal)
            )


def _mesentery(canvas: Canvas, body: Body, contrast: Contrast, draw: Draw) -> None:
    """Thin vessels that fan out from the mesenteric root."""
    root = np.array([2.0, body.spine_y - 52, -5])
    for _ in range(int(draw(8, 14))):
        x, y = draw(-0.5, 0.6) * body.half_width, body.cavity_y + draw(-0.7, -0.2) * body.half_depth
        end = np.array([x, y, draw(-120, 10)])
        middle = (root + end) / 2 + draw.point(0, 0, -8, 10)
        path = curve(np.stack([root, middle, end]), 9)
        hu = contrast.artery * 0.6 if draw.chance(0.5) else contrast.low_cava + 10
        paint_tube(canvas, path, np.linspace(2.0, 1.0, len(path)), hu)


def _colon(canvas: Canvas, body: Body, draw: Draw, filling: Filling) -> None:
    a, b, yc = body.half_width, body.half_depth, body.cavity_y
    drop = draw(0, 45)
    low = min(body.liver_low, -10)
    rise = [
        (-0.78, 0.25, low - 140),
        (-0.8, 0.2, low - 80),
        (-0.72, 0.0, low - 42),
        (-0.45, -0.6, low - 36 - drop / 2),
    ]
    across = [(0.0, -0.72, -30 - drop), (0.42, -0.62, -10 - drop / 2), (0.78, 0.0, 25)]
    fall = [(0.84, 0.2, 0), (0.82, 0.32, -50), (0.8, 0.3, -135)]
    knots = [draw.point(fx * a, yc + fy * b, z, 6) for fx, fy, z in (*rise, *across, *fall)]
    path = curve(knots, 8)
    path += draw.rng.uniform(-2.5, 2.5, path.shape)
    radii = draw(13, 20) * (1 + 0.2 * np.sin(np.arange(len(path)) * 1.9) * draw.rng.random(len(path)))
    radii *= np.interp(np.linspace(0, 1, len(path)), [0, 0.4, 0.7, 1], [1.15, 1.0, 0.85, 0.75])
    paint_tube(canvas, path, radii, filling.colon_wall)
    full = draw(0, 1)
    for start in range(0, len(path) - 4, 5):
        part, thick = path[start : start + 6], radii[start : start + 6] - 3
        if draw.rng.random() < 0.3 + 0.5 * full:
            paint_tube(canvas, part, thick, draw(*filling.stool))
            paint_tube(canvas, part - [0, 0.4 * thick.mean() * filling.front, 0], thick * 0.45, GAS_HU)
        else:
            paint_tube(canvas, part, thick, GAS_HU)


def _small_bowel(canvas: Canvas, body: Body, draw: Draw, filling: Filling) -> None:
    a, b, yc = body.half_width, body.half_depth, body.cavity_y
    for loop in range(int(draw(*filling.loops))):
        jejunum = loop % 3 == 0
        at = np.array([draw(-0.6, 0.6) * a, yc + draw(-0.75, 0.0) * b, draw(-130, -30)])
        if jejunum:
            at = np.array([draw(0.1, 0.6) * a, yc + draw(-0.7, -0.1) * b, draw(-45, 30)])
        knots = [at]
        for _ in range(4):
            at = at + draw.rng.uniform(-1, 1, 3) * [32, 18, 26]
            low, high = [-0.6 * a, yc - 0.78 * b, -150], [0.62 * a, yc + 0.02 * b, 35 if jejunum else -20]
            knots.append(np.clip(at, low, high))
        paint_gut(canvas, curve(knots, 8), draw(*filling.loop_mm), draw, draw.chance(0.15), filling)


def paint_gut(
    canvas: Canvas, path: Points, radius_mm: float, draw: Draw, gas: bool, filling: Filling
) -> None:
    """A loop: wall, content and, where asked, gas in front."""
    radii = np.full(len(path), radius_mm)
    paint_tube(canvas, path, radii, filling.wall + draw(0, 40))
    paint_tube(canvas, path, radii - 2.5, draw(*filling.bowel))
    if gas:
        paint_tube(canvas, path - [0, 0.35 * radius_mm * filling.front, 0], radii * 0.45, GAS_HU)
