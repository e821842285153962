"""How a varied phantom is scanned: field of view, slices, posture, metal, kernel, noise, padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from kidseg_jax.config import CohortConfig
from kidseg_jax.imaging.volume import Geometry, Labels, Volume
from kidseg_jax.phantom.kidney import Bean
from kidseg_jax.phantom.shapes import Canvas, Draw, Points, blank_canvas, cloud, paint_tube
from kidseg_jax.phantom.trunk import Trunk

MARGIN_MM = 22.0  # around the field of view, for what posture moves in
LEAST_MARGIN = 14  # voxels
FINE_MM = 3.4  # of thicker slices, what lies between them is painted too
MOST_SLICES = 220  # of long scans, where their range of spacing lets them
# Lowest and highest end of a scan in mm of an adult, below and above the kidneys, and how often.
CUT = 4  # the first of those that cut the kidneys, from above; the next does from below
_SCANS = (
    ((-140, -70), (110, 190), 0.34),
    ((-310, -230), (110, 200), 0.26),
    ((-140, -70), (330, 420), 0.13),
    ((-420, -250), (330, 430), 0.15),
    ((-320, -220), (-15, 30), 0.06),
    ((-40, 10), (200, 420), 0.06),
)


@dataclass(frozen=True)
class Scanner:
    """The grid that is written, whether half slices are painted too, and the sway of those painted."""

    geometry: Geometry
    halves: bool
    margin: int
    sway_pixels: Points


def draw_scanner(
    draw: Draw, trunk: Trunk, beans: Sequence[Bean], config: CohortConfig
) -> tuple[Scanner, Canvas]:
    """The CT's grid, and the canvas in mm of an adult to paint on, wider than the CT."""
    size = draw.rng.choice([draw(0.86, 1.12), draw(0.5, 0.85)], p=[0.86, 0.14])
    size = np.clip(size * draw.rng.uniform(0.94, 1.06, 3), 0.5, 1.3)
    bottom, top = _scanned(draw, beans)
    length = float(np.clip((top - bottom) * size[2], *config.length_mm))
    middle_z = (top + bottom) / 2
    if length < (top - bottom) * size[2]:
        middle_z = float(np.mean([bean.centre[2] for bean in beans]))
    wide, front, back = np.abs([trunk.skin(z) for z in (-200.0, 0, 150)]).max(0)
    body_mm = max(2 * wide * size[0], (front + back) * size[1])
    crop = draw.rng.random()
    field = body_mm * (draw(1.02, 1.25) if crop < 0.65 else draw(0.72, 1))
    if crop > 0.85:
        field = max(draw(300, 500), 0.75 * body_mm)
    aside = draw.rng.uniform(-0.3, 0.3, 2) * max(body_mm - field, 0) + draw.rng.uniform(-15, 15, 2)
    thin, coarse = config.pixel_mm
    large = float(np.clip((field - 250) / 250 + draw.near(0.3), 0, 1))
    thick = float(np.clip(max(draw(*config.slice_mm), length / MOST_SLICES), *config.slice_mm))
    pixel, thick = (max(round(s * 64), 1) / 64 for s in (thin + (coarse - thin) * large, thick))
    in_plane, slices = int(np.ceil(field / pixel)), max(int(np.ceil(length / thick)), 8)
    middle = np.array([0.0, (back - front) / 2, middle_z]) * size + [*aside, 0]
    start = middle - (np.array([in_plane, in_plane, slices]) - 1) * [pixel, pixel, thick] / 2
    origin = tuple(float(np.round(4 * s) / 4) for s in start)
    geometry = Geometry((slices, in_plane, in_plane), (thick, pixel, pixel), origin)  # pyright: ignore
    halves = thick > FINE_MM
    step_z, first_z = (thick / 2, origin[2] - thick / 2) if halves else (thick, origin[2])
    painted = 2 * slices + 1 if halves else slices
    margin = max(LEAST_MARGIN, int(np.ceil(MARGIN_MM / pixel)))
    sway = _sway(draw, (first_z + np.arange(painted) * step_z) / size[2]) / pixel
    sway = np.clip(sway, 1.01 - margin, margin - 2.01)
    step = np.array([pixel, pixel, step_z]) / size
    first = (np.array([*origin[:2], first_z]) - [margin * pixel, margin * pixel, 0]) / size
    canvas_grid = Geometry(
        (painted, in_plane + 2 * margin, in_plane + 2 * margin),
        tuple(step[::-1].tolist()),
        tuple(first.tolist()),
    )
    roll = draw.near(6) if draw.rng.random() < 0.85 else draw(-35, 35)
    return Scanner(geometry, halves, margin, sway), blank_canvas(canvas_grid, float(np.deg2rad(roll)))


def _scanned(draw: Draw, beans: Sequence[Bean]) -> tuple[float, float]:
    """Lowest and highest end of a scan; every kidney is in it, at least a quarter of its length."""
    low, high, shares = zip(*_SCANS, strict=True)
    which = draw.rng.choice(len(_SCANS), p=shares)
    bottom, top = draw(*low[which]), draw(*high[which])
    if which < CUT and draw.rng.random() < 0.85:  # whole kidneys, and some room
        bottom = min(bottom, *(bean.centre[2] - 1.2 * bean.half[2] - draw(0, 30) for bean in beans))
        top = max(top, *(bean.centre[2] + 1.2 * bean.half[2] + draw(0, 30) for bean in beans))
    share = 0.5 if which > CUT else -0.5
    bottom = min(bottom, *(bean.centre[2] + share * bean.half[2] for bean in beans))
    return bottom, max(top, *(bean.centre[2] - 0.5 * bean.half[2] for bean in beans))


def paint_metal(canvas: Canvas, trunk: Trunk, draw: Draw) -> list[Points]:
    """Paint screws in the spine or a hip joint of metal; returns where it lies."""
    body, places = trunk.body, []
    if draw.rng.random() < 0.5:
        first = body.disc_z - body.vertebra_mm * (draw.rng.integers(1, 4) - 0.5)
        for level in range(int(draw.rng.integers(2, 4))):
            z = first + level * body.vertebra_mm
            for side in (-1, 1):
                screw = np.array([[side * 17.0, body.spine_y + 42, z], [side * 9, body.spine_y - 6, z]])
                paint_tube(canvas, screw, np.array([5.0, 3.0]), 3000.0)
                places.append(screw.mean(0))
    else:
        side, wide = draw.rng.choice((-1, 1)), body.half_width / 127
        ball = np.array([side * 88 * wide, body.cavity_y + 8, -208.0])
        paint_tube(
            canvas, np.stack([ball, ball + np.array([side * 24, 8, -22])]), np.array([22.0, 8]), 3000.0
        )
        stem = np.stack(
            [
                ball + np.array([side * 24, 8, -22]),
                ball + np.array([side * 32, 8, -60]),
                ball + np.array([side * 24, 0, -160]),
            ]
        )
        paint_tube(canvas, stem, np.array([9.0, 7, 5]), 3000.0)
        places.append(ball)
    return places


def scan_varied(
    canvas: Canvas, labels: Labels, scanner: Scanner, metal: list[Points], draw: Draw, config: CohortConfig
) -> tuple[Volume, Volume]:
    """CT (int16 HU) and labels (uint8) on the scanner's grid."""
    _streaks(canvas, metal, draw)
    hu = _swayed(canvas.hu, scanner)
    drawn = _swayed(labels, scanner)
    if scanner.halves:
        hu = 0.5 * hu[1::2] + 0.25 * (hu[:-1:2] + hu[2::2])
        drawn = np.ascontiguousarray(drawn[1::2])
    hu = _noisy(hu, scanner.geometry, draw, config)
    hu += np.float32(draw(0, 8)) * _bias(hu.shape, scanner.geometry, draw)
    hu *= np.float32(draw(0.96, 1.04))
    hu += np.float32(draw.near(6))
    ct = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    _pad(ct, draw)
    return Volume(ct, scanner.geometry), Volume(drawn, scanner.geometry)


def _sway(draw: Draw, z: Points) -> Points:
    """Shift (n, 2) as (y, x) in mm of each painted slice: tilt, kyphosis and scoliosis."""
    bend = draw(0, 22) if draw.rng.random() < 0.8 else draw(15, 30)
    tilt_y, tilt_x = np.tan(np.deg2rad([draw.near(5), draw.near(4)]))
    back = (
        bend * (0.5 - 0.5 * np.cos((z + 20) / 75)) * np.where(z > -20, 0.7, 1.0) * np.exp(-np.square(z / 420))
    )
    side = (draw(0, 3) if draw.rng.random() < 0.85 else draw(6, 22)) * np.sin(z / draw(60, 130) + draw(0, 6))
    shift = np.stack([back + tilt_y * z, side + tilt_x * z], axis=1)
    middle = np.interp(0, z, np.arange(len(z)))
    return shift - shift[round(float(middle))]


def _swayed(array: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Slices moved as the patient sways and cut to the field of view; labels by whole pixels."""
    margin = scanner.margin
    ny, nx = (n - 2 * margin for n in array.shape[1:])
    out = np.empty((len(array), ny, nx), array.dtype)
    for k, (dy, dx) in enumerate(scanner.sway_pixels):
        if array.dtype == np.uint8:
            y, x = margin - round(dy), margin - round(dx)
            out[k] = array[k, y : y + ny, x : x + nx]
            continue
        y, x = margin - dy, margin - dx
        y0, x0 = int(y), int(x)
        part = array[k, y0 : y0 + ny + 1, x0 : x0 + nx + 1]
        rows = part[:-1] + np.float32(y - y0) * (part[1:] - part[:-1])
        out[k] = rows[:, :-1] + np.float32(x - x0) * (rows[:, 1:] - rows[:, :-1])
    return out


def _streaks(canvas: Canvas, metal: list[Points], draw: Draw) -> None:
    """Add bright and dark rays around metal."""
    for place in metal:
        window = canvas.window(place - np.array([1e4, 1e4, 7]), place + np.array([1e4, 1e4, 7]))
        if not window.hu.size:
            continue
        x, y = window.x - np.float32(place[0]), window.y - np.float32(place[1])
        angle, away = np.arctan2(y, x), np.hypot(x, y)
        rays = sum(np.cos(n * angle + draw(0, 7)) * draw(-1, 1) for n in (2, 4, 7, 11, 16, 23))
        window.hu[...] += (draw(40, 220) * rays * np.exp(-away / draw(30, 90))).astype(np.float32)


def _noisy(hu: np.ndarray, geometry: Geometry, draw: Draw, config: CohortConfig) -> np.ndarray:
    """Blur or sharpen, and add noise of the kernel's grain, more of it across wide and dense slices."""
    spacing = np.array(geometry.spacing_mm)
    low, high = np.log(np.maximum(config.noise_hu, 0.1))
    level = float(np.exp(draw(low, high)))
    noise = draw.rng.standard_normal(hu.shape, dtype=np.float32)
    grain = np.array([draw(0.3, 1.0), *[draw(0.3, 1.6)] * 2]) / spacing
    blur = np.array([draw(0.2, 0.7), *[draw(0.2, 1.3)] * 2]) / spacing
    for axis in range(3):
        if grain[axis] > 0.2:
            ndimage.gaussian_filter1d(noise, grain[axis], axis=axis, output=noise, mode="nearest", truncate=3)
        if blur[axis] > 0.2:
            ndimage.gaussian_filter1d(hu, blur[axis], axis=axis, output=hu, mode="nearest", truncate=3)
    if draw.rng.random() < 0.25:  # a sharp kernel overshoots at edges
        soft = hu.copy()
        for axis in (1, 2):
            ndimage.gaussian_filter1d(
                soft, 1.6 / spacing[axis], axis=axis, output=soft, mode="nearest", truncate=3
            )
        hu += np.float32(draw(0.2, 0.9)) * (hu - soft)
    body = (hu > -500).mean(axis=(1, 2))
    by_slice = level * (0.7 + 0.6 * body / max(float(body.max()), 1e-3)) / max(float(noise.std()), 1e-6)
    noise *= by_slice.astype(np.float32)[:, None, None]
    hu += noise
    if draw.rng.random() < 0.2:  # too few photons across shoulders and hips
        rows = ndimage.gaussian_filter1d(draw.rng.standard_normal(hu.shape[:2]), 0.7, axis=1)
        hu += (rows * level * draw(0.2, 1.0))[:, :, None].astype(np.float32)
    return hu


def _bias(shape: tuple[int, ...], geometry: Geometry, draw: Draw) -> np.ndarray:
    """A slow random field over the CT: hardened beam and scatter."""
    grid = blank_canvas(geometry, 0.0)
    return cloud(draw.rng, grid.window([-1e5] * 3, [1e5] * 3), geometry.spacing_mm, draw(60, 150))


def _pad(ct: np.ndarray, draw: Draw) -> None:
    """Outside the scanner's circle: the value that scanners write there."""
    if draw.rng.random() < 0.5:
        ny, nx = ct.shape[1:]
        y, x = np.ogrid[:ny, :nx]
        circle = np.hypot(y - (ny - 1) / 2, x - (nx - 1) / 2) > nx / 2
        ct[:, circle] = draw.rng.choice((-1000, -1024, -2000, -3024))
