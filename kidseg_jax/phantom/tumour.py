"""Renal cell carcinomas of the phantoms: where they lie, how large they are, how they look."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kidseg_jax.config import CohortConfig
from kidseg_jax.phantom.body import Body, Contrast
from kidseg_jax.phantom.shapes import Canvas, Draw, Field, Points, Window, blob, paint, smooth_field


@dataclass(frozen=True)
class Tumour:
    """A renal cell carcinoma: centre (x, y, z) and radii in mm, and its look."""

    centre: Points
    radii: Points
    roughness: float
    hu: float
    mottle_hu: float
    mottle_mm: float
    necrosis: float
    necrosis_hu: float
    necrosis_at: Points
    rim_hu: float | None

    @property
    def radius(self) -> float:
        return float(np.cbrt(np.prod(self.radii)))


def draw_tumour(
    draw: Draw, body: Body, config: CohortConfig, contrast: Contrast, place: Callable[[float], Points]
) -> Tumour:
    """A tumour where there is room; small ones may lie deep, large ones grow outwards.

    place: draws a point (x, y, z) that lies so many mm under the capsule.
    """
    low, high = np.log(config.rcc_diameter_mm)
    radius = float(np.exp(np.clip(draw(low, high), low, high))) / 2
    depth = draw(-0.25, 1.0) if radius < 14 else draw(-0.35, 0.5) if radius < 24 else draw(-0.4, 0.2)
    places = [place(depth * radius) for _ in range(24)]
    centre = min(places, key=lambda at: max(_out_of_room(body, at, radius), 0.0))
    radii = radius * np.array([draw(0.86, 1.16) for _ in range(3)])
    pick = draw.rng.random() if draw.chance(1.0) else 0.0
    if pick < 0.62:  # clear cell
        hu, mottle, necrotic = contrast.cortex * draw(0.6, 1.22), draw(12, 48), 0.65
    elif pick < 0.82:  # papillary
        hu, mottle, necrotic = draw(52, 88), draw(3, 10), 0.3
    else:  # chromophobe
        hu, mottle, necrotic = draw(85, 130), draw(4, 12), 0.25
    return Tumour(
        centre=centre,
        radii=radii,
        roughness=radius * draw(0.03, 0.18),
        hu=hu,
        mottle_hu=mottle,
        mottle_mm=draw(5, 10),
        necrosis=draw(0.3, 0.75) if radius > 9 and draw.chance(necrotic) else 0.0,
        necrosis_hu=draw(12, 45),
        necrosis_at=centre + radius * 0.25 * draw.rng.uniform(-1, 1, 3),
        rim_hu=draw(45, 90) if draw.chance(0.45) else None,
    )


def paint_tumour(canvas: Canvas, window: Window, distance_mm: Field, tumour: Tumour, draw: Draw) -> None:
    """Paint a tumour of signed distance distance_mm: its rim, its mottled tissue and its necrosis."""
    spacing, soft = canvas.geometry.spacing_mm, canvas.soft_mm
    mass = np.full(window.shape, tumour.hu, np.float32)
    mass += tumour.mottle_hu * smooth_field(draw.rng, window, spacing, tumour.mottle_mm)
    if tumour.necrosis > 0:
        core = blob(window, tumour.necrosis_at, tumour.radii * tumour.necrosis)
        core += 0.25 * tumour.radius * smooth_field(draw.rng, window, spacing, tumour.radius * 0.5)
        paint(mass, np.maximum(core, distance_mm + 2), tumour.necrosis_hu, soft + 1.5)
    if tumour.rim_hu is not None:
        paint(window.hu, distance_mm - 1.2, tumour.rim_hu, soft)
    paint(window.hu, distance_mm, mass, soft)


def _out_of_room(body: Body, place: Points, radius_mm: float) -> float:
    """How far in mm a ball reaches into the wall, the back muscles or the spine."""
    x, y, _ = place
    p = body.roundness
    wall = abs(x / body.half_width) ** p + abs((y - body.cavity_y) / body.half_depth) ** p
    wall_mm = (wall ** (1 / p) - 1) * min(body.half_width, body.half_depth)
    spine_mm = 24 - np.hypot(x - body.spine_x(place[2]), y - body.spine_y)
    return radius_mm + max(wall_mm - 6, y - body.spine_y - 32, float(spine_mm))
