"""Hips and pelvis of a varied phantom: bones, muscles around them, bladder, rectum, uterus or prostate."""

import numpy as np

from kidseg_jax.phantom.body import Body
from kidseg_jax.phantom.organs import GAS_HU, paint_gut
from kidseg_jax.phantom.phases import Tissues
from kidseg_jax.phantom.shapes import Canvas, Draw, blob, curve, ellipse, paint, paint_tube
from kidseg_jax.phantom.trunk import Trunk, loft

SACRUM_Z = -100.0


def paint_pelvic_organs(canvas: Canvas, body: Body, tissues: Tissues, draw: Draw) -> None:
    """Paint bladder, uterus or prostate, sigmoid colon, rectum and the lowest loops of small bowel."""
    if canvas.z.min() > -120:
        return
    a, b, y, soft = body.half_width, body.half_depth, body.cavity_y, canvas.soft_mm
    filling = tissues.filling
    for _ in range(int(draw(3, 12))):
        knots = np.array([draw(-0.45, 0.45) * a, y + draw(-0.5, 0.3) * b, draw(-185, -125)])
        knots = knots + np.cumsum(draw.rng.uniform(-1, 1, (4, 3)) * [30, 20, 18], axis=0)
        knots[:, 2] = np.clip(knots[:, 2], -205, -110)
        knots[:, 0] = np.clip(knots[:, 0], -60, 60)
        paint_gut(canvas, curve(knots, 8), draw(8, 15), draw, draw.chance(0.2), filling)
    female = draw.rng.random() < 0.5
    size = np.array([draw(22, 52), draw(18, 45), draw(15, 48)])
    at = draw.point(0, y - 28, -222 + 0.8 * size[2], 6)
    if female and draw.rng.random() < 0.8:
        womb = draw.point(0, y + 8, at[2] + 22, 10)
        radii = np.array([draw(18, 34), draw(16, 32), draw(22, 40)])
        window = canvas.window(womb - radii - 4, womb + radii + 4)
        paint(window.hu, blob(window, womb, radii), tissues.genital, soft)
        paint(window.hu, blob(window, womb, radii * draw(0.15, 0.4)), tissues.genital - 30, soft)
    if not female:
        gland = np.array([0.0, y - 18, -232])
        radii = np.array([draw(18, 30), draw(14, 24), draw(14, 26)])
        window = canvas.window(gland - radii - 4, gland + radii + 4)
        paint(window.hu, blob(window, gland, radii), tissues.genital, soft)
    window = canvas.window(at - size - 6, at + size + 6)
    if window.hu.size:
        wall = blob(window, at, size)
        paint(window.hu, wall, tissues.filling.wall + 15, soft)
        urine = np.full(window.shape, draw(-5, 20), np.float32)
        if tissues.bladder > 25:  # contrast medium sinks
            layer = (at[1] + size[1] * draw(-0.9, 0.9) - window.y) * np.float32(filling.front) + 0 * window.z
            paint(urine, layer, tissues.bladder, 6.0)
        paint(window.hu, wall + np.float32(draw(1.5, 5)), urine, soft)
    back = body.spine_y + 40
    knots = [
        [0.8 * a, y + 0.3 * b, -135],
        draw.point(0.45 * a, y, -150, 12),
        draw.point(0.1 * a, y + 5, -135, 18),
        draw.point(0, back - 28, -165, 8),
        [draw.near(6), back - 15, -205],
        [0, y + 45, -250],
        [0, y + 40, -275],
    ]
    path = curve(np.array(knots), 8)
    thick = draw(11, 20)
    paint_tube(canvas, path, np.full(len(path), thick), filling.colon_wall)
    for start in range(0, len(path) - 4, 5):
        hu = draw(*filling.stool) if draw.rng.random() < 0.7 else GAS_HU
        paint_tube(canvas, path[start : start + 6], np.full(len(path[start : start + 6]), thick - 3), hu)


def paint_pelvis(canvas: Canvas, trunk: Trunk, tissues: Tissues, draw: Draw) -> None:
    """Paint gluteal planes, iliac and hip muscles, sacrum, iliac wings, hip joints, thigh bones."""
    body, soft = trunk.body, canvas.soft_mm
    y, spine = body.cavity_y, body.spine_y
    if canvas.z.min() > -40:
        return
    wide = body.half_width / 127
    bone, marrow = tissues.bone, tissues.marrow
    for side in (-1, 1):

        def path(*knots: tuple[float, float, float], side: int = side) -> np.ndarray:
            return np.array([[side * x * wide, y + dy, z] for x, dy, z in knots])

        iliacus = curve(path((92, 10, -80), (88, 5, -130), (80, -25, -195), (85, -25, -260)), 12)
        paint_tube(
            canvas,
            iliacus,
            np.interp(np.arange(len(iliacus)), [0, 4, len(iliacus)], [8, 17, 18]),
            tissues.muscle,
        )
        crest = path(
            (118, -58, -122), (126, -30, -88), (124, 5, -68), (108, 35, -66), (80, 62, -80), (52, 80, -112)
        )
        low = path(
            (84, -12, -185), (80, 0, -180), (76, 10, -178), (68, 22, -172), (58, 42, -160), (48, 62, -145)
        )
        crest, low = curve(crest, 11), curve(low, 4.2)
        low = low[np.linspace(0, len(low) - 1, len(crest)).astype(int)]
        for top, bottom in zip(crest, low, strict=True):
            plate = np.stack([top, (top + bottom) / 2 + [side * 2, 4, 0], bottom])
            paint_tube(canvas, plate, np.array([7.5, 5.5, 7.0]), bone)
        for top, bottom in zip(crest, low, strict=True):
            plate = np.stack([top, (top + bottom) / 2 + [side * 2, 4, 0], bottom])
            paint_tube(canvas, plate, np.array([5.0, 2.8, 4.5]), marrow)
        ball = path((88, 8, -208))[0]
        for radius, hu in ((36, bone), (32, marrow), (27, 60.0), (24, bone), (21, marrow + 60)):
            paint_tube(
                canvas, np.stack([ball, ball + np.array([side * 2.0, 0, -1])]), np.full(2, float(radius)), hu
            )
        for thick, hu in ((9.0, bone), (6.5, marrow)):
            rami = path((76, -10, -205), (40, -45, -212), (6, -55, -228))
            paint_tube(canvas, rami, np.full(3, thick), hu)
            seat = path((70, 30, -220), (60, 42, -268), (30, -15, -265), (8, -48, -245))
            paint_tube(canvas, seat, np.array([thick * 1.6, thick * 1.8, thick * 0.8, thick]), hu)
        shaft = curve(
            path((92, 8, -210), (118, 14, -232), (128, 16, -255), (122, 10, -330), (112, 5, -470)), 15
        )
        width = np.interp(np.arange(len(shaft)), [0, 3, 6, len(shaft)], [17, 17, 19, 13])
        paint_tube(canvas, shaft, width, min(bone * 1.5, 1400.0))
        paint_tube(canvas, shaft, width * 0.62, draw(-60, 80))
    window = canvas.window([-65, spine - 40, -230], [65, spine + 90, SACRUM_Z])
    if window.hu.size > 0 and window.hu.shape[0] > 1:
        x, yy = window.x[0], window.y[0] - np.float32(spine)
        keys = np.array([-226.0, -200, -165, -130, SACRUM_Z])
        shape = ((9, 7, 44), (20, 8, 50), (36, 13, 44), (50, 20, 24), (50, 22, 8))
        flat = [ellipse(x, yy - dy, w * wide, d).astype(np.float32) for w, d, dy in shape]
        sacrum = loft(window.z, keys, flat)
        paint(window.hu, sacrum, bone, soft)
        paint(window.hu, sacrum + 3, marrow, soft)
