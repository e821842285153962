"""Renal arteries, renal veins and ureters of a phantom: tubes along drawn courses, clear of the tumour."""

from dataclasses import dataclass

import numpy as np

from kidseg_jax.config import CohortConfig
from kidseg_jax.phantom.body import Body, Contrast, great_vessels
from kidseg_jax.phantom.kidney import Bean
from kidseg_jax.phantom.shapes import (
    Canvas,
    Draw,
    Field,
    Points,
    Window,
    curve,
    lower_to_tube,
    paint,
    paint_tube,
)

Tube = tuple[Points, Points]

# Where the ureter crosses the psoas: z, x, y of the muscle's middle behind the spine's, its radius; in mm.
_URETER_ON_PSOAS = (
    (-50.0, 39, 8, 16),
    (-85.0, 43, 4, 19),
    (-115.0, 40, -2, 20),
    (-150.0, 44, -12, 20),
    (-240.0, 58, -30, 20),
)


@dataclass(frozen=True)
class Trees:
    """The tubes (points (n, 3), radii (n,)) in mm of one kidney."""

    artery: tuple[Tube, ...]
    vein: tuple[Tube, ...]
    ureter: tuple[Tube, ...]


def draw_trees(draw: Draw, canvas: Canvas, body: Body, bean: Bean, config: CohortConfig) -> Trees:
    """The vessels and the ureter of one kidney; no tube is thinner than the grid can hold in one piece."""
    thin = 0.78 * max(canvas.geometry.spacing_mm)
    return Trees(
        tuple(_arteries(draw, body, bean, config, thin)),
        tuple(_veins(draw, body, bean, thin)),
        tuple(_ureter(draw, body, bean, thin)),
    )


def paint_trees(canvas: Canvas, body: Body, contrast: Contrast, trees: Trees, draw: Draw) -> None:
    """Paint ureter, veins and arteries of one kidney, in this order."""
    urine = contrast.urine
    for tubes, hu, wall in ((trees.ureter, urine, True), (trees.vein, contrast.vein, False)):
        for window, field in tube_fields(canvas, tubes):
            if wall:
                paint(window.hu, field, 0.6 * urine + 0.4 * 45, canvas.soft_mm)
                field = field + np.float32(1.6)
            paint(window.hu, field, hu, canvas.soft_mm)
    for window, field in tube_fields(canvas, trees.artery):
        paint(window.hu, field, contrast.artery * draw(0.9, 1.0), canvas.soft_mm)


def tube_fields(canvas: Canvas, tubes: tuple[Tube, ...]) -> list[tuple[Window, Field]]:
    """The signed distance of each tube in its own window."""
    out = []
    for points, radii in tubes:
        for start in range(0, len(points) - 1, 8):
            p, r = points[start : start + 9], radii[start : start + 9]
            window = canvas.around(p, float(r.max()) + canvas.soft_mm)
            if window.hu.size:
                field = window.far()
                lower_to_tube(field, window, canvas, p, r)
                out.append((window, field))
    return out


def paint_great_vessels(canvas: Canvas, body: Body, contrast: Contrast, draw: Draw) -> None:
    """Paint aorta, cava, the mesenteric and portal vessels, and a gonadal vein on each side."""
    soft, y = canvas.soft_mm, body.spine_y
    window = canvas.window([-75, y - 70, -1e4], [75, y + 5, 1e4])
    if not window.hu.size:
        return
    aorta, cava = great_vessels(window, canvas, body)
    mixed = 0.65 * contrast.vein + 0.35 * contrast.low_cava
    share = 1 / (1 + np.exp(-(window.z + 2) / np.float32(9)))
    paint(window.hu, cava, contrast.low_cava + np.float32(mixed - contrast.low_cava) * share, soft)
    x = float(np.interp(25, body.aorta[::-1, 2], body.aorta[::-1, 0]))
    front = float(np.interp(25, body.aorta[::-1, 2], body.aorta[::-1, 1]) - body.aorta_radii[3])
    mesenteric = np.array(
        [[x, front, 26], [x, front - 12, 16], [x - 1, front - 19, -10], [x - 8, front - 24, -80]]
    )
    portal_y = front - 20
    portal = np.array(
        [[x - 18, portal_y - 4, -80], [x - 13, portal_y, 5], [x - 22, portal_y + 3, 30], [-62, y - 50, 62]]
    )
    paint_tube(canvas, curve(portal), np.full(len(curve(portal)), draw(4.5, 7)), contrast.low_cava + 15)
    paint_tube(canvas, curve(mesenteric), np.full(len(curve(mesenteric)), draw(3, 4.2)), contrast.artery)
    for side in (-1, 1):
        knots = np.array([[side * 30, y - 22, -22], [side * 46, y - 24, -70], [side * 58, y - 34, -170]])
        path = curve(knots + draw.rng.uniform(-4, 4, (3, 3)))
        paint_tube(canvas, path, np.full(len(path), draw(1.0, 2.0)), contrast.low_cava * 0.6)
    paint(window.hu, aorta, contrast.artery, soft)


def paint_plaques(canvas: Canvas, body: Body, draw: Draw) -> None:
    """Paint chalk in the wall of the aorta."""
    for _ in range(int(draw(2, 14))):
        z, angle = draw(-95, 150), draw(0, 2 * np.pi)
        at = _at(body.aorta, z)
        radius = float(np.interp(z, body.aorta[::-1, 2], body.aorta_radii[::-1]))
        turn = angle + np.linspace(0, draw(0.2, 1.2), 3)
        ring = np.stack(
            [radius * np.cos(turn), radius * np.sin(turn), np.linspace(0, draw(-8, 8), 3)], axis=1
        )
        paint_tube(canvas, at + ring, np.full(3, draw(0.7, 1.8)), draw(300, 1100))


def _at(points: Points, z: float) -> Points:
    """The point of a centreline, listed from the head down, at height z."""
    return np.array([np.interp(z, points[::-1, 2], points[::-1, k]) for k in range(3)])


def _routed(bean: Bean, knots: list[Points], radii: list[float], thin: float) -> Tube:
    """A tube through knots, clear of the tumour."""
    path = curve(np.column_stack([np.vstack(knots), radii]), 3.5)
    thick = np.maximum(path[:, 3], thin)
    return bean.pushed(path[:, :3], thick + 0.5), thick


def _targets(draw: Draw, bean: Bean, n: int, beyond: float) -> list[Points]:
    """Points (u, v, w) just outside the sinus, spread along the kidney, where branches end in parenchyma."""
    ends = []
    for i, w in enumerate(np.linspace(-0.85, 0.85, n) + draw.near(0.1)):
        v = (0.55 if i % 2 else -0.55) * np.sqrt(1 - min(w * w, 0.9)) + 0.1 * draw.rng.standard_normal()
        u = -np.sqrt(max(1 - w * w - v * v, 0.05))
        way = np.array([u, v, w])
        reach = 1 / np.linalg.norm(way / bean.sinus_half) + beyond
        ends.append(bean.sinus_centre + way * reach)
    return ends


def _arteries(draw: Draw, body: Body, bean: Bean, config: CohortConfig, thin: float) -> list[Tube]:
    side, y, half = bean.side, body.spine_y, bean.half
    radius = draw(2.1, 3.4)
    ostium_z = bean.centre[2] * 0.4 + draw(0, 22)
    aorta = _at(body.aorta, ostium_z)
    split_u = half[0] * (draw(1.7, 2.3) if draw.chance(0.2) else draw(1.15, 1.7))
    split = bean.to_world(np.array([split_u, draw.near(2), draw.near(8)]))
    knots = [aorta]
    if side < 0:  # behind the cava
        knots += [
            np.array([-6.0, y - 21, ostium_z - 2]),
            draw.point(-24, y - 14.5, ostium_z * 0.7 + split[2] * 0.3, 2),
        ]
    else:
        knots += [draw.point(aorta[0] + 17, aorta[1] + 5, ostium_z * 0.8 + split[2] * 0.2, 3)]
    middle = (knots[-1] + split) / 2
    knots += [middle + draw.point(0, 0, 0, 5), split]
    sizes = [radius * 1.1, *[radius] * (len(knots) - 1)]
    tubes = [_routed(bean, knots, sizes, thin)]
    n = int(np.clip(round(draw(2.6, 6.4)), 2, 8))
    ends = _targets(draw, bean, n, 4.0)
    groups = [ends[: (n + 1) // 2], ends[(n + 1) // 2 :]]
    for sign, group in zip((-1, 1), groups, strict=True):
        gate_local = np.array([half[0] * 0.95, 1.0 + draw.near(2.5), sign * draw(3, 11)])
        gate = bean.to_world(gate_local)
        path = [split, (split + gate) / 2 + draw.point(0, 0, 0, 1.5), gate]
        tubes.append(_routed(bean, path, [radius * 0.85] * 3, thin))
        for end in group:
            halfway = (gate_local + end) / 2 + [2.0, 1.0, 0]
            path = [gate, bean.to_world(halfway), bean.to_world(end)]
            tubes.append(_routed(bean, path, [radius * 0.75, radius * 0.65, radius * 0.5], thin))
    if draw.rng.random() < config.accessory_artery:
        pole = 1 if draw.rng.random() < 0.4 else -1
        pole_z = bean.centre[2] + 0.5 * pole * half[2]
        origin = _at(body.aorta, ostium_z + np.clip(0.6 * (pole_z - ostium_z), -40, 30))
        w = pole * half[2] * draw(0.45, 0.62)
        u = half[0] * np.sqrt(1 - (w / half[2]) ** 2) + bean.bend * (w / half[2]) ** 2
        entry = bean.to_world(np.array([u - 5, 0.0, w]))
        near = bean.to_world(np.array([u + 12, 2.0, w * 0.95]))
        first = np.array([side * 26.0, y - (15 if side < 0 else 26), origin[2]])
        tubes.append(_routed(bean, [origin, first, near, entry], [draw(1.6, 2.2)] * 4, thin))
    return tubes


def _veins(draw: Draw, body: Body, bean: Bean, thin: float) -> list[Tube]:
    side, half = bean.side, bean.half
    radius = draw(4.2, 6.6)
    z = bean.centre[2] * 0.6 + draw(-4, 10)
    cava = _at(body.cava, z)
    gate_local = np.array([half[0] * draw(0.95, 1.1), draw(4, 8), draw.near(7)])
    gate = bean.to_world(gate_local)
    if side > 0:  # in front of the aorta, below the superior mesenteric artery
        aorta = _at(body.aorta, z)
        front = aorta[1] - float(np.interp(z, body.aorta[::-1, 2], body.aorta_radii[::-1]))
        over = np.array([aorta[0], front - radius * 0.75 - 0.8, z - 1])
        beside = draw.point(aorta[0] + 22, front + 6, z * 0.7 + gate[2] * 0.3, 3)
        knots = [cava, over - np.array([9, -2, 0]), over, beside, gate]
        sizes = [radius * 0.8, radius * 0.72, radius * 0.72, radius, radius * 0.9]
    else:
        middle = (cava + gate) / 2
        knots, sizes = [cava, middle + draw.point(0, 0, 0, 3), gate], [radius, radius, radius * 0.9]
    tubes = [_routed(bean, knots, sizes, thin)]
    n = int(np.clip(round(draw(1.6, 4.4)), 2, 5))
    for end in _targets(draw, bean, n, 2.5):
        local = end + np.array([0, 3.0, 0])
        path = [gate, bean.to_world((gate_local + local) / 2 + [1.5, 2.0, 0]), bean.to_world(local)]
        tubes.append(_routed(bean, path, [radius * 0.7, radius * 0.58, radius * 0.42], thin))
    return tubes


def _ureter(draw: Draw, body: Body, bean: Bean, thin: float) -> list[Tube]:
    side, half, y = bean.side, bean.half, body.spine_y
    size = draw(0.7, 1.35) * (1.5 if draw.chance(0.12) else 1.0)
    inner = np.array([bean.sinus_centre[0] * 0.85, -3.5, draw.near(4)])
    pelvis = np.array([half[0] * draw(0.9, 1.05), -5.0, inner[2] - 4])
    junction = np.array([half[0] * draw(1.15, 1.4), -4.0, pelvis[2] - draw(10, 20)])
    radius = draw(2.2, 3.0)
    top = bean.to_world(junction)
    knots = [bean.to_world(inner), bean.to_world(pelvis), top]
    sizes = [3.2 * size, 5.4 * size, radius * 1.15]
    wander = draw.near(5)
    for z, x, behind, psoas in _URETER_ON_PSOAS:
        if z < top[2] - 14:
            across = side * (x + wander + draw.near(3))
            knots.append(np.array([across, y + behind - psoas * body.psoas - 3, z]))
            sizes.append(radius * draw(0.88, 1.1))
    tubes = [_routed(bean, knots, sizes, thin)]
    for w in (-0.62, 0.62, *([0.0] if draw.chance(0.4) else [])):
        way = np.array([-0.6, -0.15, 1.4 * w])
        end = bean.sinus_centre + way * (1 / np.linalg.norm(way / bean.sinus_half) + draw(0, 3))
        calyx = [bean.to_world(inner), bean.to_world(end)]
        tubes.append(_routed(bean, calyx, [3.0 * size, 2.0 * size], thin))
    return tubes
