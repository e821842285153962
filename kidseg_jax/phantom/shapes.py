"""Shapes on a CT grid: windows of a canvas, signed distances in mm, tubes, random fields, soft painting."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from kidseg_jax.imaging.volume import Geometry
from kidseg_jax.kernels import resample_linear

Field = npt.NDArray[np.floating]
Points = npt.NDArray[np.float64]
FAR_MM = 1e3


class Draw:
    """Random draws whose spread about the middle of a range is scaled by `hardness`."""

    def __init__(self, rng: np.random.Generator, hardness: float) -> None:
        self.rng = rng
        self.hardness = hardness

    def __call__(self, low: float, high: float) -> float:
        """A number of [low, high] at hardness 1; the middle at 0; at most half a range outside above 1."""
        return self.blend(low, high, self.rng.random())

    def blend(self, low: float, high: float, *fractions: float) -> float:
        """The number this mean of `fractions` (0..1) of the way from low to high, spread by hardness."""
        half = (high - low) / 2
        reach = min(self.hardness * abs(2 * float(np.mean(fractions)) - 1), 2.0)
        value = low + half + half * np.copysign(reach, np.mean(fractions) - 0.5)
        return float(max(value, low / 2) if low > 0 else value)

    def near(self, spread: float) -> float:
        """A number of [-spread, spread], scaled by hardness."""
        return self(-spread, spread)

    def point(self, x: float, y: float, z: float, spread: float) -> Points:
        """A point (x, y, z) moved by up to `spread` mm along each axis."""
        return np.array([x + self.near(spread), y + self.near(spread), z + self.near(spread)])

    def chance(self, probability: float) -> bool:
        """True with this probability, which fades below hardness 1."""
        return bool(self.rng.random() < probability * min(self.hardness, 1.0))


class Window(NamedTuple):
    """A part of a canvas: slices, patient's mm (x, y: (1, ny, nx), z: (nz, 1, 1)) and HU view."""

    slices: tuple[slice, slice, slice]
    x: Field
    y: Field
    z: Field
    hu: Field

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.hu.shape  # pyright: ignore[reportReturnType]

    def far(self) -> Field:
        """A distance field of this window that is far from everything."""
        return np.full(self.shape, FAR_MM, np.float32)


@dataclass(frozen=True)
class Canvas:
    """A CT being painted: HU (z, y, x) float32 on a grid, seen in the frame of a patient rolled about z."""

    geometry: Geometry
    hu: Field
    x: Field
    y: Field
    z: Field
    roll_rad: float

    @property
    def soft_mm(self) -> float:
        """Width of a boundary between two tissues: one voxel."""
        return sum(self.geometry.spacing_mm) / 3

    def boxes(self, low_mm: Points, high_mm: Points) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First and last-plus-one voxels (n, 3) as (z, y, x) of boxes, corners (n, 3) as (x, y, z) in mm."""
        cos, sin = np.cos(self.roll_rad), np.sin(self.roll_rad)
        middle, half = (low_mm + high_mm) / 2, (high_mm - low_mm) / 2
        turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        middle, half = (middle @ turn.T)[:, ::-1], (half @ np.abs(turn).T)[:, ::-1]
        origin, spacing = self.geometry.origin_mm[::-1], self.geometry.spacing_mm
        start = np.floor((middle - half - origin) / spacing)
        stop = np.ceil((middle + half - origin) / spacing) + 1
        start = np.clip(start, 0, self.geometry.shape).astype(np.int64)
        return start, np.clip(stop, start, self.geometry.shape).astype(np.int64)

    def window(self, low_mm: npt.ArrayLike, high_mm: npt.ArrayLike) -> Window:
        """The part that holds a box, both corners (x, y, z) in mm in the patient's frame; may be empty."""
        start, stop = self.boxes(np.asarray(low_mm, float)[None], np.asarray(high_mm, float)[None])
        z, y, x = (slice(a, b) for a, b in zip(start[0].tolist(), stop[0].tolist(), strict=True))
        return Window((z, y, x), self.x[:, y, x], self.y[:, y, x], self.z[z], self.hu[z, y, x])

    def around(self, points: Points, margin_mm: float) -> Window:
        """The part that holds points (n, 3) and a margin."""
        return self.window(points.min(0) - margin_mm, points.max(0) + margin_mm)


def blank_canvas(geometry: Geometry, roll_rad: float) -> Canvas:
    """A canvas of air, -1000 HU."""
    origin, spacing = geometry.origin_mm[::-1], geometry.spacing_mm
    axes = [np.arange(n) * s + o for n, s, o in zip(geometry.shape, spacing, origin, strict=True)]
    cos, sin = np.cos(roll_rad), np.sin(roll_rad)
    grid_y, grid_x = axes[1][None, :, None], axes[2][None, None, :]
    return Canvas(
        geometry,
        np.full(geometry.shape, -1000.0, np.float32),
        (grid_x * cos + grid_y * sin).astype(np.float32),
        (grid_y * cos - grid_x * sin).astype(np.float32),
        axes[0][:, None, None].astype(np.float32),
        roll_rad,
    )


def paint(view: Field, distance_mm: Field, hu: float | Field, soft_mm: float) -> None:
    """Paint `hu` into `view` where distance_mm < 0, with a linear edge soft_mm wide: the partial volume."""
    share = distance_mm * np.float32(-1 / soft_mm)
    share += np.float32(0.5)
    np.clip(share, 0, 1, out=share)
    view += share * (hu - view)


def ellipsoid(x: Field, y: Field, z: Field, radii_mm: npt.ArrayLike) -> Field:
    """About the signed distance in mm from an ellipsoid at the origin, exact in sign."""
    rx, ry, rz = (np.float32(r) for r in np.asarray(radii_mm, float))
    a, b, c = np.square(x / rx), np.square(y / ry), np.square(z / rz)
    inside = np.sqrt(a + b + c)
    slope = np.sqrt(a / rx**2 + b / ry**2 + c / rz**2)
    return inside * (inside - 1) / (slope + np.float32(1e-6))


def ellipse(x: Field, y: Field, half_x: float, half_y: float) -> Field:
    """About the signed distance in mm from an upright elliptic cylinder."""
    return (np.hypot(x / np.float32(half_x), y / np.float32(half_y)) - 1) * np.float32(min(half_x, half_y))


def blob(window: Window, centre: npt.ArrayLike, radii_mm: npt.ArrayLike) -> Field:
    """`ellipsoid` with axes along the patient's, at a centre (x, y, z)."""
    cx, cy, cz = (np.float32(c) for c in np.asarray(centre, float))
    return ellipsoid(window.x - cx, window.y - cy, window.z - cz, radii_mm)


def lower_to_tube(
    distance_mm: Field, window: Window, canvas: Canvas, points: Points, radii_mm: Points
) -> None:
    """Lower a distance field of a window, in place, to that of a tube through points (n, 3), radii (n,)."""
    margin = np.maximum(radii_mm[:-1], radii_mm[1:])[:, None] + canvas.soft_mm + 2.0
    starts, stops = canvas.boxes(
        np.minimum(points[:-1], points[1:]) - margin, np.maximum(points[:-1], points[1:]) + margin
    )
    corner = np.array([s.start for s in window.slices])
    starts = np.clip(starts - corner, 0, window.shape)
    stops = np.clip(stops - corner, starts, window.shape)
    steps = np.diff(points, axis=0)
    for k in np.flatnonzero((stops > starts).all(axis=1)).tolist():
        (z0, y0, x0), (z1, y1, x1) = starts[k].tolist(), stops[k].tolist()
        (px, py, pz), (dx, dy, dz) = points[k].tolist(), steps[k].tolist()
        x, y = window.x[:, y0:y1, x0:x1] - px, window.y[:, y0:y1, x0:x1] - py
        z = window.z[z0:z1] - pz
        length2 = dx * dx + dy * dy + dz * dz + 1e-6
        product = (x * dx + y * dy) + z * dz
        along = np.minimum(np.maximum(product * (1 / length2), 0), 1)
        away2 = (x * x + y * y) + z * z - along * (2 * product - along * length2)
        near, far = float(radii_mm[k]), float(radii_mm[k + 1])
        surface = np.sqrt(np.maximum(away2, 0)) - (near + along * (far - near))
        target = distance_mm[z0:z1, y0:y1, x0:x1]
        np.minimum(target, surface, out=target)


def paint_tube(canvas: Canvas, points: Points, radii_mm: Points, hu: float) -> None:
    """Paint a tube a few segments at a time, so that long tubes need no large window."""
    for start in range(0, len(points) - 1, 6):
        part, radii = points[start : start + 7], radii_mm[start : start + 7]
        window = canvas.around(part, float(radii.max()) + canvas.soft_mm)
        if window.hu.size:
            distance = window.far()
            lower_to_tube(distance, window, canvas, part, radii)
            paint(window.hu, distance, hu, canvas.soft_mm)


def curve(knots: npt.ArrayLike, step_mm: float = 4.0) -> Points:
    """Points about step_mm apart on a Catmull-Rom curve through knots (n, d), both ends included."""
    k = np.asarray(knots, float)
    padded = np.vstack([2 * k[0] - k[1], k, 2 * k[-1] - k[-2]])
    pieces = []
    for a, b, c, d in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True):
        n = max(int(np.ceil(np.linalg.norm((c - b)[:3]) / step_mm)), 1)
        t = (np.arange(n) / n)[:, None]
        pieces.append(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))
    return np.vstack([*pieces, k[-1:]])


def smooth_field(
    rng: np.random.Generator, window: Window, spacing_mm: npt.ArrayLike, scale_mm: float
) -> Field:
    """Random numbers of about [-1, 1] over a window that change over scale_mm."""
    steps = [scale_mm / s for s in np.asarray(spacing_mm, float)]
    coarse = [int(np.ceil(n / s)) + 2 for n, s in zip(window.shape, steps, strict=True)]
    field = rng.uniform(-1, 1, coarse).astype(np.float32)
    for axis, (n, step) in enumerate(zip(window.shape, steps, strict=True)):
        at = np.arange(n) / step
        low = at.astype(int)
        weight = (at - low).astype(np.float32)
        weight = (weight * weight * (3 - 2 * weight)).reshape([-1 if a == axis else 1 for a in range(3)])
        first = field.take(low, axis)
        field = first + weight * (field.take(low + 1, axis) - first)
    return field


def cloud(
    rng: np.random.Generator, window: Window, spacing_mm: npt.ArrayLike, scale_mm: float
) -> npt.NDArray[np.float32]:
    """As `smooth_field`, but rounder, as its level sets do not show the lattice, and quicker."""
    steps = [max(0.5 * scale_mm / s, 1.0) for s in np.asarray(spacing_mm, float)]
    coarse = [int(np.ceil(n / s)) + 2 for n, s in zip(window.shape, steps, strict=True)]
    field = rng.standard_normal(coarse, dtype=np.float32)
    for axis in range(3):
        ndimage.gaussian_filter1d(field, 1.0, axis=axis, output=field, truncate=2.5)
    at = [np.arange(n) / step + 0.5 for n, step in zip(window.shape, steps, strict=True)]
    return resample_linear(field * np.float32(2.2), *at, widths=(1, 1, 1))
