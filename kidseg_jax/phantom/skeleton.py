"""The bones of a phantom: lumbar and lower thoracic spine, lower ribs."""

import numpy as np

from kidseg_jax.phantom.body import Body
from kidseg_jax.phantom.shapes import Canvas, Draw, ellipse, paint, paint_tube, smooth_field


def paint_spine(
    canvas: Canvas,
    body: Body,
    draw: Draw,
    floor_z: float = -1e4,
    cortex_hu: float = 430.0,
    marrow_hu: float | None = None,
) -> None:
    """Paint, above floor_z, vertebral bodies, discs, canal, arches, spinous and transverse processes."""
    y0, height, soft = body.spine_y, body.vertebra_mm, canvas.soft_mm
    window = canvas.window([-55, y0 - 26, floor_z], [55, y0 + 75, 1e4])
    if not window.hu.size:
        return
    marrow = draw(130, 230) if marrow_hu is None else marrow_hu
    x = window.x - body.spine_x(window.z)
    y = window.y - y0
    phase = np.abs(np.mod((window.z - body.disc_z) / height, 1.0) - 0.5) * height  # 0 at mid body
    waist = (1.5 * np.cos(np.pi * phase / (0.42 * height))).astype(np.float32)
    bone = np.maximum(ellipse(x, y, 23, 17) + waist, phase - 0.38 * height)
    disc = ellipse(x, y, 22, 16) + 0 * window.z
    paint(window.hu, disc, 85.0, soft)
    paint(window.hu, bone, cortex_hu, soft)
    texture = marrow + 45 * smooth_field(draw.rng, window, canvas.geometry.spacing_mm, 6.0)
    paint(window.hu, bone + 2.5, texture, soft)
    ring_low = phase - 0.40 * height
    arch = np.maximum(ellipse(x, y - 25, 15, 13), ring_low)
    across = np.abs(x)
    wings = np.maximum(
        across - 38, np.maximum(np.abs(y - 19 - 0.16 * across) - 3.2, phase - 6 + 0.08 * across)
    )
    spine = np.maximum(np.abs(x) - 4, np.maximum(np.abs(y - 48) - 20, phase - 0.33 * height + 4))
    for part, hu in ((wings, 260.0), (arch, 420.0), (spine, 380.0)):
        paint(window.hu, part, hu, soft)
        paint(window.hu, part + 3.0, marrow + 40, soft)
    paint(window.hu, ellipse(x, y - 24, 9.5, 7.5) + 0 * window.z, 32.0, soft)


def paint_ribs(canvas: Canvas, body: Body, draw: Draw) -> None:
    """Paint the lower ribs inside the wall, from the spine forwards and down."""
    slope = draw(0.35, 0.6)
    for side in (-1, 1):
        for rib, reach in enumerate((0.75, 1.3, 2.0, 2.4, 2.5, 2.5)):
            angle = np.linspace(0.25, reach, 14)
            z = 25 + 30 * rib - 0.5 * body.half_width * slope * (angle - 0.25)
            scale = 1 + body.waist * np.sin((z - 30) / 60)
            power = 2 / body.roundness
            sin, cos = np.sin(angle), np.cos(angle)
            x = side * (body.half_width + body.wall * 0.55) * scale * np.abs(sin) ** power
            depth = body.half_depth + body.wall * 0.55
            y = body.cavity_y + 5 + depth * scale * np.sign(cos) * np.abs(cos) ** power
            points = np.stack([x, y, z], axis=1)
            paint_tube(canvas, points, np.full(14, 5.0), 420.0)
            paint_tube(canvas, points, np.full(14, 2.0), 200.0)
