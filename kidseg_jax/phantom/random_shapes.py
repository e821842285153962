"""Random smooth shapes with random HU, after SynthSeg (Billot et al. 2023, Medical Image Analysis 86:102789).

They stand for all anatomy that is not modelled, so that a network learns what a kidney is and not what the
rest of a phantom looks like.
"""

from collections.abc import Sequence

import numpy as np

from kidseg_jax.phantom.kidney import Bean
from kidseg_jax.phantom.shapes import Canvas, Draw, Field, Window, blob, cloud, ellipsoid, paint

_TISSUE_HU = ((-120, -60, 0.25), (-20, 30, 0.15), (25, 80, 0.3), (60, 220, 0.25), (200, 600, 0.05))


def random_hu(draw: Draw) -> float:
    """HU of a random tissue, mostly soft."""
    low, high, _ = _TISSUE_HU[draw.rng.choice(len(_TISSUE_HU), p=[share for *_, share in _TISSUE_HU])]
    return draw(low, high)


def paint_random_tissue(canvas: Canvas, whole: Window, skin: Field, draw: Draw, cover: float) -> None:
    """Paint a patchwork of smooth shapes over this share of the body: each where its noise is the highest."""
    spacing, scale = canvas.geometry.spacing_mm, draw(14, 55)
    best = cloud(draw.rng, whole, spacing, draw(25, 70))  # the anatomy that stays
    best += np.float32(2.4 * (1 - cover) - 1.2)
    hu = np.zeros_like(best)
    body = skin < 0
    if draw.rng.random() < 0.7:
        body &= whole.hu > -500  # lungs stay
    for _ in range(int(draw(4, 9))):
        rival = cloud(draw.rng, whole, spacing, scale * draw(0.6, 1.5))
        wins = rival > best
        np.copyto(hu, np.float32(random_hu(draw)), where=wins)
        np.maximum(best, rival, out=best)
    changed = hu != 0
    hu += np.float32(draw(0, 12)) * cloud(draw.rng, whole, spacing, draw(4, 12))
    np.copyto(whole.hu, hu, where=changed & body)


def paint_lookalikes(canvas: Canvas, muscle: Field, draw: Draw, beans: Sequence[Bean], n: int) -> None:
    """Paint n solid beans and eggs as bright as kidneys, without sinus, clear of the true ones.

    muscle: signed distance in mm of the whole canvas from the outer face of the muscles; they lie inside.
    """
    origin = np.array(canvas.geometry.origin_mm)
    size = (np.array(canvas.geometry.shape) * canvas.geometry.spacing_mm)[::-1]
    for _ in range(n):
        at = origin + size * draw.rng.uniform(0.2, 0.8, 3)
        if any(np.linalg.norm((at - bean.centre) / [1, 1, 1.5]) < 85 for bean in beans):
            continue
        radii = np.array([draw(12, 40), draw(12, 32), draw(15, 65)])
        reach = float(radii.max()) + 12
        window = canvas.window(at - reach, at + reach)
        if not window.hu.size:
            continue
        frame = np.linalg.qr(draw.rng.standard_normal((3, 3)))[0]
        x, y, z = (axis - np.float32(c) for axis, c in zip((window.x, window.y, window.z), at, strict=True))
        u, v, w = (np.float32(r[0]) * x + np.float32(r[1]) * y + np.float32(r[2]) * z for r in frame)
        u = u - np.float32(draw(0, 14) / radii[2] ** 2) * w * w
        shape: Field = ellipsoid(u, v, w, radii)
        shape += draw(0, 5) * cloud(draw.rng, window, canvas.geometry.spacing_mm, 18.0)
        np.maximum(shape, muscle[window.slices], out=shape)
        if draw.rng.random() < 0.3:
            paint(window.hu, shape - np.float32(draw(1, 8)), random_hu(draw), canvas.soft_mm)
        inner = np.full(window.shape, draw(20, 230), np.float32)
        inner += draw(0, 25) * cloud(draw.rng, window, canvas.geometry.spacing_mm, draw(5, 16))
        if draw.rng.random() < 0.25:
            paint(inner, blob(window, at, radii * draw(0.3, 0.85)), random_hu(draw), canvas.soft_mm)
        paint(window.hu, shape, inner, canvas.soft_mm)
