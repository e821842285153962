"""The trunk of a varied phantom from neck to thighs: skin, fat, muscles and cavity, lofted."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from kidseg_jax.phantom.body import Body, draw_body
from kidseg_jax.phantom.phases import Tissues
from kidseg_jax.phantom.shapes import (
    Canvas,
    Draw,
    Field,
    Points,
    Window,
    cloud,
    curve,
    ellipse,
    paint,
    paint_tube,
)

CROTCH_Z = -285.0
# Height in mm; half width, depth to the front and to the back of the cavity; the same of the muscles' outer
# face; the share of the subcutaneous fat. Of a body whose cavity is 127 mm wide and 85 mm deep to each side.
_SECTIONS = np.array(
    [
        [-460, 20, 20, 20, 160, 80, 80, 0.6],
        [-300, 40, 35, 50, 165, 95, 100, 1.0],
        [-250, 52, 60, 62, 170, 98, 106, 1.1],
        [-200, 62, 74, 72, 163, 98, 108, 1.2],
        [-150, 90, 82, 74, 150, 96, 112, 1.2],
        [-100, 116, 85, 76, 138, 95, 116, 1.15],
        [-50, 126, 86, 82, 137, 96, 122, 1.05],
        [0, 127, 85, 85, 138, 96, 126, 1.0],
        [60, 129, 87, 88, 141, 99, 130, 1.0],
        [120, 130, 90, 93, 147, 104, 134, 0.85],
        [200, 124, 90, 97, 152, 110, 136, 0.7],
        [270, 108, 78, 94, 160, 105, 134, 0.6],
        [320, 76, 58, 84, 178, 88, 116, 0.45],
        [360, 46, 36, 62, 186, 72, 100, 0.4],
        [395, 22, 24, 36, 118, 62, 86, 0.35],
        [425, 12, 16, 22, 70, 60, 74, 0.3],
        [470, 10, 14, 20, 62, 62, 70, 0.3],
    ]
)


@dataclass(frozen=True)
class Trunk:
    """A body with its sections by height (rows of _SECTIONS, this patient's mm) and its outline's powers."""

    body: Body
    heights: Points
    sections: Points
    power: float
    fat: tuple[float, float, float]
    harmonics: Points

    def at(self, z: Points | float) -> Points:
        """Sections (n, 7) at heights z (n,)."""
        return PchipInterpolator(self.heights, self.sections)(np.clip(z, -460, 470))

    def skin(self, z: float) -> tuple[float, float, float]:
        """Half width and the y of front and back of the skin at height z."""
        row, (front, side, back) = self.at(z), self.fat
        y = self.body.cavity_y
        return row[3] + side * row[6], y - row[4] - front * row[6], y + row[5] + back * row[6]


def draw_trunk(draw: Draw, thinnest_mm: float, thickest_mm: float) -> Trunk:
    """A patient's trunk whose fat layers lie in this range, fatness at even odds of their logarithm."""
    body = draw_body(draw)
    fatness = draw.rng.random()
    layers = [
        thinnest_mm * (thickest_mm / thinnest_mm) ** np.clip(fatness + draw.near(0.2), 0, 1) for _ in "fsb"
    ]
    front, side, back = layers[0], 0.8 * layers[1], 0.8 * layers[2]
    size = 1 + 0.25 * (fatness - 0.5)
    body = replace(
        body,
        half_width=draw(112, 140) * size,
        half_depth=draw(62, 98) * size,
        fat_front=front,
        fat_side=side,
        fat_back=back,
        waist=0.0,
        curve_x=0.0,
        liver_low=draw(-80, 25),
        wall=draw(6, 16),
    )
    wide, deep = body.half_width / 127, body.half_depth / 85
    sections = _SECTIONS[:, 1:].copy()
    sections[:, :3] *= [wide, deep, deep]
    sections[:, 3] = sections[:, 0] + (_SECTIONS[:, 4] - _SECTIONS[:, 1]) * draw(0.8, 1.25)
    sections[:, 4:6] = sections[:, 1:3] + (_SECTIONS[:, 5:7] - _SECTIONS[:, 2:4]) * draw(0.8, 1.25)
    belly = np.exp(-np.square((_SECTIONS[:, 0] + 40) / 110)) * draw(-0.12, 0.2) * np.sqrt(fatness)
    sections[:, 1] *= 1 + belly
    sections[:, 4] += sections[:, 1] * belly
    sections[:, 6] *= draw.rng.uniform(0.85, 1.15, len(sections))
    harmonics = draw.rng.uniform(-1, 1, (3, 2)) * [[0.02, 0.02], [0.02, 0.015], [0.012, 0.012]]
    return Trunk(body, _SECTIONS[:, 0], sections, draw(2.0, 2.7), (front, side, back), harmonics)


def loft(z: Field, heights: Points, fields: list[Field]) -> Field:
    """A field (z, y, x) that goes from one flat field (y, x) to the next between their rising heights."""
    stack = np.stack(fields)
    at = np.interp(z.ravel(), heights, np.arange(len(heights)))
    low = np.minimum(at.astype(int), len(heights) - 2)
    out = stack[low]
    share = (at - low).astype(np.float32)[:, None, None]
    step = np.diff(stack, axis=0)[low]
    step *= share
    out += step
    return out


def trunk_fields(canvas: Canvas, trunk: Trunk) -> tuple[Window, Field, Field, Field]:
    """The whole canvas, and signed distances in mm from cavity, muscles' outer face and skin."""
    whole = canvas.window([-1e4] * 3, [1e4] * 3)
    x, y = whole.x[0], whole.y[0] - np.float32(trunk.body.cavity_y)
    keys = np.unique(np.concatenate([np.arange(-460.0, 471, 30), [CROTCH_Z - 12, CROTCH_Z + 12]]))
    bottom, top = float(whole.z.min()), float(whole.z.max())
    near = (keys > bottom - 35) & (keys < top + 35)
    keys = keys[near] if near.sum() > 1 else keys[:2]
    angle = np.arctan2(x, y)
    bumps = 1 + sum(
        np.float32(a) * np.cos((k + 2) * angle) + np.float32(b) * np.sin((k + 2) * angle)
        for k, (a, b) in enumerate(trunk.harmonics)
    )
    fields: tuple[list[Field], list[Field], list[Field]] = ([], [], [])
    f, s, b = trunk.fat
    for height, row in zip(keys, trunk.at(keys), strict=True):
        fat = row[6]
        sizes = (row[:3], row[3:6], row[3:6] + np.array([s, f, b]) * fat)
        for out, (wide, front, back) in zip(fields, sizes, strict=True):
            if height < CROTCH_Z and out is not fields[0]:
                leg = (ellipse(np.abs(x) - np.float32(0.52 * wide), y, 0.47 * wide, (front + back) / 2),)
                out.append(leg[0].astype(np.float32))
                continue
            depth = np.where(y < 0, np.float32(front), np.float32(back))
            power = np.float32(trunk.power)
            flat = (np.abs(x / np.float32(wide)) ** power + np.abs(y / depth) ** power) ** (1 / power)
            out.append(((flat * bumps - 1) * np.float32(min(wide, (front + back) / 2))).astype(np.float32))
    cavity, muscle, skin = (loft(whole.z, keys, part) for part in fields)
    np.maximum(cavity, np.float32(-262) - whole.z, out=cavity)
    return whole, cavity, muscle, skin


def paint_inside(whole: Window, canvas: Canvas, tissues: Tissues, draw: Draw) -> None:
    """Fill everything with the fat of the cavity: organs come over it, walls around them."""
    whole.hu[...] = tissues.mesentery + draw(4, 22) * cloud(
        draw.rng, whole, canvas.geometry.spacing_mm, draw(6, 16)
    )


def paint_walls(
    canvas: Canvas, whole: Window, cavity: Field, muscle: Field, skin: Field, tissues: Tissues, draw: Draw
) -> None:
    """Paint what lies outside the cavity: muscles with fat between them, fat, skin, air."""
    soft, spacing = canvas.soft_mm, canvas.geometry.spacing_mm
    planes = cloud(draw.rng, whole, spacing, draw(14, 30))
    np.abs(planes, out=planes)
    planes *= np.float32(-1 / draw(0.05, 0.1))
    planes += 1
    np.clip(planes, 0, 1, out=planes)
    planes *= np.float32(draw(0.05, 0.6) * (tissues.fat - tissues.muscle))
    planes += np.float32(tissues.muscle)
    paint(whole.hu, -cavity, planes, soft)
    stringy = np.float32(tissues.fat) + np.float32(draw(2, 9)) * cloud(draw.rng, whole, spacing, 9.0)
    paint(whole.hu, -muscle, stringy, soft)
    paint(whole.hu, -(skin + np.float32(2)), 10.0, soft)
    paint(whole.hu, -skin, -1000.0, soft)


def paint_ascites(whole: Window, canvas: Canvas, cavity: Field, draw: Draw) -> None:
    """Paint fluid along the wall of the cavity, below the liver's dome."""
    thick = draw(5, 30) * (1 + 0.6 * cloud(draw.rng, whole, canvas.geometry.spacing_mm, 50.0))
    inside = np.maximum(-thick - cavity, whole.z - 110)
    paint(whole.hu, inside, draw(0, 25), canvas.soft_mm)


def paint_arms(canvas: Canvas, trunk: Trunk, tissues: Tissues, draw: Draw) -> None:
    """Paint arms that lie beside the trunk."""
    y = trunk.body.cavity_y + draw(0, 60)
    girth = draw(30, 44) + 0.3 * trunk.fat[1]
    for side in (-1, 1):
        z = np.array([330.0, 200, 60, -60, -200, -280])
        x = np.array([max(trunk.skin(height)[0], 150.0) + girth + 4 for height in z])
        x[0] -= 30
        path = curve(np.stack([side * x, y + draw.rng.uniform(-12, 12, 6), z], axis=1), 25)
        thin = np.interp(path[:, 2], [-280, -60, 330], [0.55, 0.8, 1.1])
        layers = ((1.0, tissues.fat), (0.86, tissues.muscle), (0.26, tissues.bone), (0.15, tissues.marrow))
        for share, hu in layers:
            paint_tube(canvas, path, girth * share * thin, hu)


def paint_table(canvas: Canvas, trunk: Trunk, front: float, draw: Draw) -> None:
    """Paint a table under the back (front 1) or under the belly (-1), and now and then a blanket."""
    edges = [trunk.skin(z) for z in (-150.0, -50, 50, 150)]
    touch = max(b for _, _, b in edges) if front > 0 else -min(f for _, f, _ in edges)
    high, bend = touch + draw(4, 25), draw(40, 140)
    reach = draw(170, 260)
    window = canvas.window([-reach, -1e4, -1e4], [reach, 1e4, 1e4])
    outside = window.hu < -900
    for depth, hu in ((0.0, draw(-700, 200)), (draw(15, 60), draw(-700, 0))):
        away = np.abs(np.float32(front) * window.y + np.square(window.x / np.float32(bend)) - high - depth)
        shell = (away < draw(0.8, 2.0)) & (np.abs(window.x) < reach)
        window.hu[shell & outside] = hu
    if draw.rng.random() < 0.3:
        over = -min(f for _, f, _ in edges) if front > 0 else max(b for _, _, b in edges)
        fold = over + draw(6, 20) - np.square(window.x / np.float32(draw(60, 110)))
        fold = np.abs(-np.float32(front) * window.y - fold + 3 * np.sin(window.x / 17)) < draw(1, 3)
        window.hu[fold & outside] = draw(-900, -500)
