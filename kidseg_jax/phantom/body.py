"""The body around the kidneys: skin, fat, wall, spine, ribs, muscles, lung bases and great vessels."""

from dataclasses import dataclass

import numpy as np

from kidseg_jax.phantom.shapes import (
    Canvas,
    Draw,
    Field,
    Points,
    Window,
    blob,
    curve,
    ellipse,
    lower_to_tube,
    paint,
    paint_tube,
    smooth_field,
)

FAT_HU, MUSCLE_HU = -102.0, 58.0


@dataclass(frozen=True)
class Contrast:
    """HU of what contrast medium reaches, in one patient's renal cortical phase."""

    artery: float
    vein: float
    cortex: float
    medulla: float
    low_cava: float
    liver: float
    spleen: float
    urine: float


@dataclass(frozen=True)
class Body:
    """One patient's frame in mm: x to the left, y to the back, z to the head; z = 0 lies near L2."""

    half_width: float
    half_depth: float
    wall: float
    fat_front: float
    fat_side: float
    fat_back: float
    waist: float
    roundness: float
    outline: tuple[float, float, float]
    spine_y: float
    curve_x: float
    disc_z: float
    liver_low: float
    vertebra_mm: float
    psoas: float
    back: float
    dome_z: float
    aorta: Points
    aorta_radii: Points
    cava: Points
    cava_radii: Points

    @property
    def skin_half_mm(self) -> tuple[float, float]:
        """Half width and half depth of the skin ellipse."""
        front = self.half_depth + self.wall + self.fat_front
        back = self.half_depth + self.wall + 30 * self.back + self.fat_back
        return self.half_width + self.wall + self.fat_side, (front + back) / 2

    @property
    def skin_y(self) -> float:
        """The y of the skin ellipse's centre."""
        return self.cavity_y + (30 * self.back + self.fat_back - self.fat_front) / 2

    @property
    def cavity_y(self) -> float:
        """The y of the abdominal cavity's centre."""
        return self.spine_y + 28 - self.half_depth

    def spine_x(self, z: Field | float) -> Field:
        """The x of the spine's middle at z."""
        return self.curve_x * np.sin((np.asarray(z) + 20) / 70)


def draw_body(draw: Draw) -> Body:
    """A patient's frame; one draw of fatness drives every fat layer and the cavity."""
    fatness = draw.rng.random()
    spine_y = draw(32, 40)
    curve_x = draw.near(5)
    z = np.array([220.0, 120, 60, 20, -20, -60, -95])
    sway = curve_x * np.sin((z + 20) / 70)
    aorta_r, cava_r = draw(8.0, 11.0), draw(9.5, 13.5)
    front = spine_y - 19 - aorta_r + draw.near(2)
    aorta_x, cava_x = draw(4, 13), draw(-24, -15)
    aorta = np.stack(
        [sway + np.linspace(aorta_x + 4, aorta_x - 4, 7), front + np.linspace(6, -2, 7), z], axis=1
    )
    cava_front = spine_y - 18 - cava_r * 0.9 + draw.near(2)
    bulge = np.array([-30.0, -14, -5, 0, 0, 0, 3])
    cava = np.stack([sway + cava_x + np.linspace(-3, 4, 7), cava_front + bulge, z], axis=1)
    return Body(
        half_width=draw.blend(112, 142, fatness, fatness, draw.rng.random()),
        half_depth=draw.blend(72, 98, fatness, fatness, draw.rng.random()),
        wall=draw(8, 15),
        fat_front=draw.blend(8, 38, fatness, draw.rng.random()),
        fat_side=draw.blend(6, 30, fatness, draw.rng.random()),
        fat_back=draw.blend(10, 34, fatness, draw.rng.random()),
        waist=draw(-0.05, 0.06),
        roundness=draw(2.1, 2.6),
        outline=(draw.near(0.02), draw.near(0.015), draw(0.01, 0.035)),
        spine_y=spine_y,
        curve_x=curve_x,
        disc_z=draw.rng.uniform(0, 34),
        liver_low=draw(-45, 5),
        vertebra_mm=draw(31, 38),
        psoas=draw(0.75, 1.25),
        back=draw(0.85, 1.2),
        dome_z=draw(125, 165),
        aorta=aorta,
        aorta_radii=aorta_r * np.array([1.15, 1.1, 1.05, 1.0, 0.95, 0.9, 0.85]),
        cava=cava,
        cava_radii=cava_r * np.array([1.15, 1.1, 1.05, 1.0, 0.95, 0.88, 0.85]),
    )


def ring(window: Window, body: Body, half_width: float, half_depth: float, centre_y: float) -> Field:
    """About the signed distance in mm from an upright superelliptic cylinder with the body's waist."""
    p = body.roundness
    flat = (np.abs(window.x / half_width) ** p + np.abs((window.y - centre_y) / half_depth) ** p) ** (1 / p)
    angle = np.arctan2(window.x, window.y - centre_y)
    tilt, square, groove = body.outline
    flat = flat * (
        1 + tilt * np.cos(3 * angle) + square * np.cos(4 * angle) + groove * np.exp(-((angle / 0.2) ** 2))
    )
    scale = 1 + body.waist * np.sin((window.z - 30) / 60)
    return (flat.astype(np.float32) / scale.astype(np.float32) - 1) * np.float32(min(half_width, half_depth))


def cavity(window: Window, body: Body) -> Field:
    """Signed distance in mm from the abdominal cavity below the diaphragm."""
    walls = ring(window, body, body.half_width, body.half_depth, body.cavity_y)
    return np.maximum(walls, window.z - _dome(window, body))


def paint_frame(canvas: Canvas, body: Body, rng: np.random.Generator) -> Window:
    """Paint skin, fat, wall and lungs; returns the window of the trunk."""
    width, depth = body.skin_half_mm
    reach = np.array([width * 1.1, depth * 1.1, 0])
    middle = np.array([0, body.skin_y, 0])
    trunk = canvas.window(middle - reach - [0, 0, 1e4], middle + reach + [0, 0, 1e4])
    soft = canvas.soft_mm
    skin = ring(trunk, body, width, depth, body.skin_y)
    paint(trunk.hu, skin, 15.0, soft)
    skin += np.float32(2.0)
    paint(trunk.hu, skin, FAT_HU, soft)
    back = 10.0
    walls = ring(
        trunk,
        body,
        body.half_width + body.wall,
        body.half_depth + body.wall + back / 2,
        body.cavity_y + back / 2,
    )
    paint(trunk.hu, walls, MUSCLE_HU, soft)
    inner = ring(trunk, body, body.half_width, body.half_depth, body.cavity_y)
    mesentery = FAT_HU + 8 + 14 * smooth_field(rng, trunk, canvas.geometry.spacing_mm, 11.0)
    paint(trunk.hu, inner, mesentery, soft)
    top = canvas.window([-200, -200, body.dome_z - 90], [200, 200, 1e4])
    if top.hu.size:
        lung = np.maximum(
            ring(top, body, body.half_width, body.half_depth, body.cavity_y), _dome(top, body) - top.z
        )
        paint(top.hu, lung + 4, MUSCLE_HU, soft)
        paint(top.hu, lung + 7, -860.0, soft)
        heart = blob(top, [25, body.cavity_y - 20, body.dome_z + 30], [60, 45, 50])
        paint(top.hu, heart, 150.0, soft)
    return trunk


def paint_muscles(canvas: Canvas, body: Body, hu: float = MUSCLE_HU, floor_z: float = -1e4) -> None:
    """Paint back muscles and quadratus lumborum above floor_z, and psoas."""
    window = canvas.window([-115, body.spine_y - 25, floor_z], [115, body.spine_y + 95, 1e4])
    soft, y = canvas.soft_mm, body.spine_y
    flat_z = np.float32(0)
    for side in (-1, 1):
        away = side * window.x
        erector = np.maximum(
            ellipse(away - 36, window.y - (y + 46), 33 * body.back, 25 * body.back), -(away - 3) - flat_z
        )
        paint(window.hu, erector + 0 * window.z, hu - 4, soft)
        quadratus = ellipse(away - 66, window.y - (y + 29), 20, 9)
        paint(window.hu, quadratus + 0 * window.z, hu, soft)
        z = np.array([35.0, 10, -20, -60, -110, -240])
        points = np.stack(
            [side * np.array([27.0, 32, 37, 43, 50, 70]), y + np.array([16.0, 10, 8, 6, 2, -30]), z], axis=1
        )
        radii = body.psoas * np.array([4.0, 9, 13, 17, 20, 20])
        paint_tube(canvas, curve(points, 10), np.interp(-curve(points, 10)[:, 2], -z, radii), hu + 4)
        crus = np.array([[side * 14.0, y - 24, 130], [side * 15, y - 22, 60], [side * 13, y - 20, 10]])
        paint_tube(canvas, crus, np.array([5.0, 5.0, 2.5]), MUSCLE_HU)


def great_vessels(window: Window, canvas: Canvas, body: Body) -> tuple[Field, Field]:
    """Signed distances in mm of a window from aorta and inferior vena cava, iliac vessels with them."""
    fields = []
    for points, radii, split in ((body.aorta, body.aorta_radii, 34.0), (body.cava, body.cava_radii, 38.0)):
        field = window.far()
        lower_to_tube(field, window, canvas, points, radii)
        end, r = points[-1], radii[-1] * 0.68
        for side in (-1, 1):
            x, y, z = end
            leg = np.array([end, [x * 0.5 + side * split, y + 4, z - 70], [x + side * 55, y, z - 150]])
            lower_to_tube(field, window, canvas, leg, np.full(3, r))
        fields.append(field)
    return fields[0], fields[1]


def _dome(window: Window, body: Body) -> Field:
    """Height z in mm of the diaphragm over each (x, y)."""
    flat = np.square(window.x / body.half_width) + np.square((window.y - body.cavity_y) / body.half_depth)
    high = (
        body.dome_z
        - 68 * np.minimum(flat, 1.5)
        + 6 * np.sign(-window.x) * np.minimum(np.abs(window.x) / 40, 1)
    )
    return high.astype(np.float32)
