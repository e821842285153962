"""What lies above the diaphragm of a varied phantom: lungs, heart, great vessels; and the ribcage."""

import numpy as np

from kidseg_jax.phantom.phases import Tissues
from kidseg_jax.phantom.shapes import (
    Canvas,
    Draw,
    Field,
    Window,
    blob,
    cloud,
    curve,
    paint,
    paint_tube,
)
from kidseg_jax.phantom.trunk import Trunk


def paint_chest(canvas: Canvas, trunk: Trunk, cavity: Field, tissues: Tissues, draw: Draw) -> None:
    """Paint lungs with their vessels, effusions, heart, aortic arch, airways and gullet."""
    body, soft, spacing = trunk.body, canvas.soft_mm, canvas.geometry.spacing_mm
    y, high = body.cavity_y, body.dome_z
    top = canvas.window([-200, -200, high - 130], [200, 200, 1e4])
    if not top.hu.size:
        return
    inside = cavity[top.slices]
    apart = np.abs(top.x - 6) - np.interp(top.z, [high, high + 60, 260, 380], [34, 42, 36, 22]).astype(
        np.float32
    )
    floor = _floor(top, trunk, draw) - top.z
    chest = np.maximum(inside, floor)
    paint(top.hu, chest, tissues.fat + 25, soft)
    lungs = np.maximum(np.maximum(chest + np.float32(draw(2, 5)), -apart), top.z - 372)
    pattern = tissues.lung + draw(10, 60) * cloud(draw.rng, top, spacing, draw(8, 25))
    paint(top.hu, lungs, pattern, soft)
    blood = (tissues.contrast.artery + tissues.contrast.vein) / 2
    for _ in range(26):
        side = draw.rng.choice((-1, 1))
        start = np.array([side * 32.0, y + draw(-5, 25), draw(190, 250)])
        end = np.array([side * draw(60, 115), y + draw(-60, 75), draw(high - 20, 350)])
        path = curve([start, (start + end) / 2 + draw.rng.uniform(-12, 12, 3), end], 14)
        keep = np.abs(path[:, 0]) < trunk.at(path[:, 2])[:, 0] - 8
        if keep.sum() > 1:
            paint_tube(canvas, path[keep], np.linspace(draw(4, 8), 1.4, len(path))[keep], blood * 0.9)
    for side in (-1, 1):
        if draw.rng.random() < 0.12:
            depth = draw(10, 60) * tissues.filling.front
            level = np.float32(y + trunk.at(150.0)[2] * tissues.filling.front - depth)
            fluid = (level - top.y) * np.float32(np.sign(depth))
            water = np.maximum(np.maximum(chest + 3, fluid), 25 - side * top.x)
            paint(top.hu, water + 0 * top.z, draw(-5, 30), soft)
    _heart(canvas, trunk, tissues, draw)


def paint_ribcage(canvas: Canvas, trunk: Trunk, tissues: Tissues, draw: Draw) -> None:
    """Paint twelve pairs of ribs, the sternum, the shoulder blades and the collar bones."""
    y, drop = trunk.body.cavity_y, draw(0.35, 0.7)
    thick = draw(4.2, 6.2)
    for rib in range(12):
        start = 66.0 + 25 * rib
        end = (0.9, 1.5, 2.1, 2.4)[rib] if rib < 4 else 2.75
        angle = np.linspace(0.22, end, 16)
        z = start - drop * 62 * (angle - 0.22) * np.interp(rib, [0, 5, 11], [0.9, 1.0, 0.5])
        wide, front, back, *_ = trunk.at(z).T
        power = 2 / trunk.power
        cos, sin = np.cos(angle), np.sin(angle)
        across = (wide + 6) * np.abs(sin) ** power
        along = np.where(cos > 0, back + 6, -front - 6) * np.abs(cos) ** power
        for side in (-1, 1):
            points = np.stack([side * across, y + along, z], axis=1)
            gristle = 12 if rib > 4 else 16
            paint_tube(canvas, points[:gristle], np.full(gristle, thick), tissues.bone)
            paint_tube(canvas, points[:gristle], np.full(gristle, thick - 2.4), tissues.marrow)
            if gristle < 16:
                paint_tube(canvas, points[gristle - 1 :], np.full(17 - gristle, thick), draw(80, 160))
    z = np.array([150.0, 230, 320])
    front = y - trunk.at(z)[:, 1] - 8
    for across in (-9, 0, 9):
        paint_tube(
            canvas, np.stack([np.full(3, across), front, z], axis=1), np.full(3, 6.0), tissues.bone * 0.6
        )
    for side in (-1, 1):
        back = y + trunk.at(300.0)[2]
        corner = np.array([side * 95.0, back + 18, 180])
        for x, dy, z1 in ((70, 8, 310), (95, 8, 320), (125, -5, 325), (150, -25, 330)):
            blade = np.stack([corner, [side * x, back + dy, z1]])
            paint_tube(canvas, blade, np.array([4.0, 5.0]), tissues.bone * 0.7)
        joint = np.array([side * 165.0, y + 15, 325])
        paint_tube(
            canvas, np.stack([joint, joint + np.array([side * 2, 2, -2])]), np.array([22.0, 22]), tissues.bone
        )
        paint_tube(
            canvas,
            np.stack([joint, joint + np.array([side * 2, 2, -2])]),
            np.array([19.0, 19]),
            tissues.marrow,
        )
        collar = np.stack(
            [[side * 15.0, y - 50, 335], [side * 80, y - 40, 355], joint + np.array([0, -10, 15])]
        )
        paint_tube(canvas, collar, np.full(3, 6.0), tissues.bone)


def _floor(top: Window, trunk: Trunk, draw: Draw) -> Field:
    """Height of the diaphragm: two domes, and a gutter that reaches down behind liver and spleen."""
    body = trunk.body
    x, y = top.x / np.float32(body.half_width), (top.y - body.cavity_y) / np.float32(body.half_depth)
    flat = np.minimum(x * x + y * y, 1.5)
    middle = draw(5, 22) * np.exp(-np.square(x / 0.22))
    right = draw(2, 14) * np.tanh(-2 * x)
    gutter = draw(0, 32) * np.clip(y, 0, 1) * flat
    return (body.dome_z - draw(58, 78) * flat - middle + right - gutter).astype(np.float32)


def _heart(canvas: Canvas, trunk: Trunk, tissues: Tissues, draw: Draw) -> None:
    body, soft = trunk.body, canvas.soft_mm
    y, high, contrast = body.cavity_y, body.dome_z, tissues.contrast
    muscle = tissues.genital
    centre = draw.point(22, y - 28, high + 38, 8)
    radii = np.array([draw(48, 62), draw(36, 48), draw(40, 55)])
    window = canvas.window(centre - radii - 12, centre + radii + 12)
    if window.hu.size:
        paint(window.hu, blob(window, centre, radii + 6), tissues.fat, soft)
        paint(window.hu, blob(window, centre, radii), muscle, soft)
        for (dx, dy, dz), size, hu in (
            ((18, 6, -6), 0.55, contrast.artery),
            ((-16, -8, -6), 0.55, contrast.vein),
            ((-24, 6, 14), 0.45, contrast.vein),
            ((4, 20, 20), 0.45, contrast.artery),
        ):
            paint(
                window.hu,
                blob(window, centre + np.array([dx, dy, dz]), radii * size * draw(0.85, 1.1)),
                hu,
                soft,
            )
    r = float(body.aorta_radii[0])
    down = body.aorta[0]
    arch = [down, [down[0] + 4, down[1] + 2, 262], [8, y + 5, 292], [-8, y - 18, 275], [0, y - 25, high + 55]]
    path = curve(np.array(arch), 9)
    paint_tube(canvas, path, np.linspace(r, r * 1.35, len(path)), contrast.artery)
    cava = curve(np.array([[-24, y - 12, high + 40], [-26, y - 14, 230], [-22, y - 16, 330]]), 12)
    paint_tube(canvas, cava, np.full(len(cava), draw(7, 10)), contrast.vein)
    trunk_a = curve(np.array([[12, y - 32, high + 60], [16, y - 20, 240], [45, y, 235]]), 9)
    paint_tube(canvas, trunk_a, np.full(len(trunk_a), draw(10, 14)), contrast.vein)
    paint_tube(canvas, trunk_a * [-1, 1, 1] + [0, 12, 0], np.full(len(trunk_a), 8.0), contrast.vein)
    for side in (-1, 1):
        airway = curve(np.array([[2, y + 8, 420], [2, y + 12, 262], [side * 34, y + 18, 225]]), 14)
        paint_tube(canvas, airway, np.linspace(9.5, 6, len(airway)), 40.0)
        paint_tube(canvas, airway, np.linspace(8, 4.5, len(airway)), -980.0)
    gullet = curve(
        np.array([[0, y + 26, 420], [2, y + 32, 240], [10, y + 20, high + 10], [28, y, high - 20]]), 14
    )
    paint_tube(canvas, gullet, np.full(len(gullet), draw(7, 10)), tissues.filling.stomach_wall)
    if draw.rng.random() < 0.4:
        paint_tube(canvas, gullet, np.full(len(gullet), 3.0), -700.0)
