"""The scanner of the phantoms: grid and field of view, point spread, noise, HU as int16."""

import numpy as np
from scipy import ndimage

from kidseg_jax.config import CohortConfig
from kidseg_jax.imaging.volume import Geometry
from kidseg_jax.phantom.body import Body
from kidseg_jax.phantom.shapes import Canvas, Draw, blank_canvas, smooth_field


def draw_canvas(draw: Draw, body: Body, config: CohortConfig) -> Canvas:
    """An empty CT that holds the trunk.

    Spacing is in 1/64 mm and origin in 1/4 mm: float32 holds both exactly.
    """
    half_x, half_y = body.skin_half_mm
    field_mm = 2 * max(half_x, half_y) * draw(1.03, 1.2)
    large = float(np.clip((field_mm - 320) / 120, 0, 1))
    pixel = _clipped(draw.blend(*config.pixel_mm, large, large, draw.rng.random()), config.pixel_mm)
    thick = _clipped(draw(*config.slice_mm), config.slice_mm)
    pixel, thick = (max(round(s * 64), 1) / 64 for s in (pixel, thick))
    in_plane = int(np.ceil(field_mm / pixel))
    slices = int(np.ceil(draw(232, 272) / thick))
    shape = (slices, in_plane, in_plane)
    spacing = (thick, pixel, pixel)
    middle = np.array([draw.near(8), body.skin_y + draw.near(8), draw(-8, 8)])
    start = middle - (np.array(shape[::-1]) - 1) * spacing[::-1] / 2
    origin = tuple(float(np.round(4 * s) / 4) for s in start)
    geometry = Geometry(shape, spacing, origin)  # pyright: ignore[reportArgumentType]
    return blank_canvas(geometry, float(np.deg2rad(draw.near(5))))


def paint_table(canvas: Canvas, body: Body) -> None:
    """Paint the shell of the table under the back."""
    back = body.skin_y + body.skin_half_mm[1]
    window = canvas.window([-220, back - 5, -1e4], [220, back + 60, 1e4])
    if window.hu.size:
        sag = back + 12 - np.square(window.x / np.float32(62))
        shell = np.abs(window.y - sag) < 1.6
        window.hu[np.broadcast_to(shell & (np.abs(window.x) < 190), window.shape)] = -420.0


def scan(canvas: Canvas, draw: Draw, config: CohortConfig) -> np.ndarray:
    """The CT (z, y, x) int16: shading, correlated noise and blur over what was painted."""
    hu = canvas.hu
    spacing = np.array(canvas.geometry.spacing_mm)
    sigma = np.array([draw(0.5, 0.9), *[draw(0.45, 1.0)] * 2]) / spacing
    kernels = [_gaussian(s) for s in sigma]
    level = max(draw(*config.noise_hu), 0.0)
    gain = float(np.prod([np.sqrt(np.square(k).sum()) for k in kernels]))
    noise = draw.rng.standard_normal(hu.shape, dtype=np.float32)
    noise *= np.float32(level / gain)
    hu += noise
    for axis, kernel in enumerate(kernels):
        hu = ndimage.correlate1d(hu, kernel, axis=axis, mode="nearest", output=np.float32)
    whole = canvas.window([-1e4] * 3, [1e4] * 3)
    hu += np.float32(draw(0, 6)) * smooth_field(draw.rng, whole, spacing, 90.0)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def _clipped(value: float, limits: tuple[float, float]) -> float:
    return float(np.clip(value, *limits))


def _gaussian(sigma: float) -> np.ndarray:
    """A three-tap kernel of this standard deviation in voxels, at most 0.7."""
    side = min(sigma**2, 0.49) / 2
    return np.array([side, 1 - 2 * side, side])
