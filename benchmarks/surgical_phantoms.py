"""Kidneys of formulas: an ellipsoid with a sinus, tumours and tubes whose every number is known without
voxels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA, RCC, URETER, VEIN

APART_MM = 1.5
SURFACE_POINTS = 25_000
SAMPLES = 60_000


@dataclass(frozen=True)
class Ellipsoid:
    """centre (z, y, x) in mm, axes: unit rows, half lengths along them."""

    centre: np.ndarray
    axes: np.ndarray
    half: np.ndarray

    def level(self, points: np.ndarray) -> np.ndarray:
        """Below 1 inside."""
        return np.sqrt(np.sum(((points - self.centre) @ self.axes.T / self.half) ** 2, axis=-1))

    @cached_property
    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, 3) all over it and the area in mm2 that each stands for."""
        ways = sphere(SURFACE_POINTS)
        stretch = np.prod(self.half) * np.linalg.norm(ways / self.half, axis=1)
        return self.centre + (ways * self.half) @ self.axes, stretch * 4 * np.pi / SURFACE_POINTS

    def inside(self, rng: np.random.Generator) -> np.ndarray:
        """Points (n, 3) spread evenly in it."""
        ways = rng.standard_normal((SAMPLES, 3))
        ways *= (rng.random(SAMPLES) ** (1 / 3) / np.linalg.norm(ways, axis=1))[:, None]
        return self.centre + (ways * self.half) @ self.axes


@dataclass(frozen=True)
class Tube:
    """A tube round a line (n, 3) in mm; parent: index of the one that it leaves; ends: nothing leaves it."""

    line: np.ndarray
    radius: float
    parent: int | None = None
    ends: bool = True

    @cached_property
    def wall(self) -> np.ndarray:
        """Points (n, 3) all over it."""
        around = (self.line[::3, None] + self.radius * sphere(200)).reshape(-1, 3)
        return around[self.gap(around) > -0.02 * self.radius]

    def gap(self, points: np.ndarray) -> np.ndarray:
        """Distance of points (n, 3) to its wall, negative inside."""
        return KDTree(self.line).query(points)[0] - self.radius


@dataclass(frozen=True)
class Phantom:
    """A kidney and its labels on a grid; the tubes of its artery, vein and ureter."""

    spacing: tuple[float, float, float]
    kidney: Ellipsoid
    sinus: Ellipsoid
    tumours: tuple[Ellipsoid, ...]
    artery: tuple[Tube, ...]
    vein: tuple[Tube, ...]
    ureter: tuple[Tube, ...]
    labels: np.ndarray
    arteries: int

    def gap(self, name: str, points: np.ndarray) -> float:
        """Smallest distance in mm of points (n, 3) to artery, vein or ureter, where the labels show it."""
        order = {"artery": self.artery, "vein": self.vein, "ureter": self.ureter}
        above = [t for other in NAMES[: NAMES.index(name)] for t in order[other]]
        return min(self._seen_gap(tube, above, points) for tube in order[name])

    def _seen_gap(self, tube: Tube, above: list[Tube], points: np.ndarray) -> float:
        """Distance to one tube, to what is seen of its wall where another covers the nearest place."""
        gaps = tube.gap(points)
        at = points[gaps.argmin()]
        middle = tube.line[KDTree(tube.line).query(at)[1]]
        place = middle + (at - middle) * tube.radius / np.linalg.norm(at - middle)
        if all(float(other.gap(place[None])[0]) > 0 for other in above):
            return float(gaps.min())
        seen = np.all([other.gap(tube.wall) > 0 for other in above], axis=0)
        return float(KDTree(tube.wall[seen]).query(points)[0].min())

    @cached_property
    def opening(self) -> np.ndarray:
        """Points of the kidney's surface through which the sinus opens."""
        points = self.kidney.surface[0]
        return points[self.sinus.level(points) < 1]

    @cached_property
    def sinus_wall(self) -> np.ndarray:
        """Points all over the sinus that the kidney encloses."""
        points = self.sinus.surface[0]
        return np.concatenate([points[self.kidney.level(points) < 1], self.opening])

    def in_parenchyma(self, points: np.ndarray) -> np.ndarray:
        """Whether points lie in the kidney, outside its sinus."""
        return (self.kidney.level(points) < 1) & (self.sinus.level(points) > 1)


def sphere(n: int) -> np.ndarray:
    """n unit vectors (n, 3) spread evenly."""
    z = 1 - (2 * np.arange(n) + 1) / n
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    flat = np.sqrt(1 - z * z)
    return np.stack([z, flat * np.cos(turn), flat * np.sin(turn)], axis=1)


def make_phantom(seed: int, spacing: tuple[float, float, float], n_tumours: int = 1) -> Phantom:
    """A kidney of the patient's left side or right, tilted up to 25 degrees, on a grid of this spacing."""
    rng = np.random.default_rng(seed)
    side = 1 if seed % 2 else -1
    tilt = Rotation.from_rotvec(np.deg2rad(25) * rng.uniform(-1, 1, 3) / np.sqrt(3)).as_matrix()
    along, front, hilum = tilt[0], -tilt[1], -side * tilt[2]
    axes = np.stack([along, front, hilum])
    kidney = Ellipsoid(np.zeros(3), axes, np.array([rng.uniform(46, 60), *rng.uniform(22, 30, 2)]))
    size = kidney.half * [rng.uniform(0.38, 0.5), rng.uniform(0.32, 0.42), rng.uniform(0.5, 0.65)]
    sinus = Ellipsoid(hilum * kidney.half[2] * rng.uniform(0.6, 0.75), axes, size)
    artery, arteries = _artery(rng, kidney, sinus)
    drop = rng.uniform(-0.3, -0.1) * size[0] * along
    deep = sinus.centre - hilum * size[2] * 0.3
    vein = (_bent(rng, deep + 6 * along, sinus.centre + 6 * along + 45 * hilum, rng.uniform(3, 5)),)
    ureter = (
        _bent(rng, deep + drop, sinus.centre + drop + 22 * hilum, rng.uniform(3, 5)),
        _bent(rng, sinus.centre + drop + 22 * hilum, sinus.centre + 20 * hilum - 60 * along, 2.0),
    )
    tubes = (*artery, *vein, *ureter)
    tumours: list[Ellipsoid] = []
    while len(tumours) < n_tumours:
        made = _tumour(rng, kidney, hilum)
        surface = made.surface[0]
        clear = min(float(tube.gap(surface).min()) for tube in tubes)
        near = min(
            (np.linalg.norm(made.centre - t.centre) - made.half.max() - t.half.max() for t in tumours),
            default=9,
        )
        if clear > 0.3 and all(made.level(tube.line).min() > 1 for tube in tubes) and near > 3:
            tumours.append(made)
    return _labelled(spacing, kidney, sinus, tuple(tumours), artery, vein, ureter, arteries, rng)


def _tumour(rng: np.random.Generator, kidney: Ellipsoid, hilum: np.ndarray) -> Ellipsoid:
    """A tumour from buried to outside, of 16 to 76 mm."""
    radius = float(np.exp(rng.uniform(np.log(8), np.log(34))))
    half = np.sort(radius * rng.uniform(0.88, 1.12, 3))[::-1] if rng.random() < 0.6 else np.full(3, radius)
    way = rng.standard_normal(3)
    way /= np.linalg.norm(way)
    if way @ hilum > 0.2:
        way -= 2 * (way @ hilum) * hilum
    wall = 1 / np.linalg.norm(kidney.axes @ way / kidney.half)
    deepest = min(radius + 3, 18.0) if radius < 13 else 0.5 * radius
    depth = rng.uniform(-0.45 * radius, deepest)
    return Ellipsoid(way * (wall - depth), Rotation.random(rng=rng).as_matrix(), half)


def _artery(rng: np.random.Generator, kidney: Ellipsoid, sinus: Ellipsoid) -> tuple[tuple[Tube, ...], int]:
    """One artery, or two that nowhere touch, that pass the opening and branch behind it."""
    while True:
        tubes, first, n = _drawn_artery(rng, kidney, sinus)
        rest = tubes[first:]
        if all(float(a.gap(b.line).min()) > b.radius + APART_MM for a in tubes[:first] for b in rest):
            return tubes, n


def _drawn_artery(
    rng: np.random.Generator, kidney: Ellipsoid, sinus: Ellipsoid
) -> tuple[tuple[Tube, ...], int, int]:
    """The tubes, how many of them are the first artery's, and the number of arteries."""
    along, front, hilum = kidney.axes
    first = 0
    tubes: list[Tube] = []
    n = 2 if rng.random() < 0.3 else 1
    for i in range(n):
        up = 0.0 if n == 1 else (0.4, -0.4)[i] * sinus.half[0]
        fork = sinus.centre - 0.15 * sinus.half[2] * hilum + up * along + 2 * front
        outer = sinus.centre + (kidney.half[2] + 20) * hilum + (up * 1.8) * along + 10 * front
        first, trunk = len(tubes), len(tubes)
        tubes.append(_bent(rng, outer, fork, rng.uniform(2.0, 2.8), ends=False))
        k = int(rng.integers(2, 5)) if n == 1 else 2
        span = np.linspace(-1, 1, k) * (1.0 if n == 1 else 0.5)
        for place in span:
            tip = 0.62 * kidney.half[0] * place * along + up * 1.2 * along - rng.uniform(0, 6) * hilum
            tip = tip + rng.uniform(3, 8) * (1 if rng.random() < 0.5 else -1) * front
            radius = rng.uniform(1.2, 1.7)
            twig = len(tubes)
            split = n == 1 and k < 4 and rng.random() < 0.3
            tubes.append(_bent(rng, fork, tip, radius, trunk, not split, 1.5))
            if split:
                for way in (front, -front):
                    end = tip + 13 * way + 5 * (along * place) - 4 * hilum
                    tubes.append(_bent(rng, tip, end, max(1.1, 0.8 * radius), twig, True, 1.0))
    return tuple(tubes), first if n == 2 else len(tubes), n


def _bent(
    rng: np.random.Generator,
    start: np.ndarray,
    end: np.ndarray,
    radius: float,
    parent: int | None = None,
    ends: bool = True,
    bend: float = 3.0,
) -> Tube:
    """A tube along a curve of the second degree."""
    knee = (start + end) / 2 + rng.uniform(-bend, bend, 3)
    t = np.linspace(0, 1, int(np.linalg.norm(end - start) / 0.1) + 2)[:, None]
    return Tube((1 - t) ** 2 * start + 2 * t * (1 - t) * knee + t * t * end, radius, parent, ends)


def _labelled(
    spacing: tuple[float, float, float],
    kidney: Ellipsoid,
    sinus: Ellipsoid,
    tumours: tuple[Ellipsoid, ...],
    artery: tuple[Tube, ...],
    vein: tuple[Tube, ...],
    ureter: tuple[Tube, ...],
    arteries: int,
    rng: np.random.Generator,
) -> Phantom:
    """The labels on a grid that holds all of it, its origin anywhere within a voxel."""
    step = np.asarray(spacing)
    tubes = (*artery, *vein, *ureter)
    reach = (
        [b.centre - b.half.max() for b in (kidney, *tumours)],
        [b.centre + b.half.max() for b in (kidney, *tumours)],
    )
    low = np.min([*reach[0], *(t.line.min(0) - t.radius for t in tubes)], axis=0) - 4 - rng.random(3) * step
    high = np.max([*reach[1], *(t.line.max(0) + t.radius for t in tubes)], axis=0) + 4
    shape = np.ceil((high - low) / step).astype(int)

    def moved(body: Ellipsoid) -> Ellipsoid:
        return Ellipsoid(body.centre - low, body.axes, body.half)

    def shifted(part: tuple[Tube, ...]) -> tuple[Tube, ...]:
        return tuple(Tube(t.line - low, t.radius, t.parent, t.ends) for t in part)

    kidney, sinus, tumours = moved(kidney), moved(sinus), tuple(map(moved, tumours))
    artery, vein, ureter = shifted(artery), shifted(vein), shifted(ureter)
    grid = np.stack(
        np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, step, strict=True)), indexing="ij"), -1
    )
    labels = np.zeros(shape, np.uint8)
    labels[(kidney.level(grid) < 1) & (sinus.level(grid) > 1)] = PARENCHYMA
    for tumour in tumours:
        labels[tumour.level(grid) < 1] = RCC
    for part, value in ((ureter, URETER), (vein, VEIN), (artery, ARTERY)):
        for tube in part:
            lo = np.floor((tube.line.min(0) - tube.radius) / step).astype(int).clip(0)
            hi = np.ceil((tube.line.max(0) + tube.radius) / step).astype(int) + 1
            window = tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))
            near = KDTree(tube.line).query(grid[window], distance_upper_bound=tube.radius)[0]
            labels[window][np.isfinite(near)] = value
    return Phantom(spacing, kidney, sinus, tumours, artery, vein, ureter, labels, arteries)
