"""How far two surfaces lie apart, by three named measures that say from where, to what, and how sampled."""

from collections.abc import Iterable
from functools import cached_property

import numpy as np
from scipy.spatial import KDTree

from kidseg_jax.evaluation.comparison import MODES, PAIRS, USABLE_RMS_MM, SurfaceComparison
from kidseg_jax.evaluation.surfaces import DistanceTo, Surface, joined, refined, surface_of
from kidseg_jax.evaluation.table import Row, Table, number_cell
from kidseg_jax.imaging.volume import Geometry, Labels, Spacing

POINTS = 17_650
"""The paper's number of surface points."""
MOST_TRIANGLES = 1_000_000  # a pair of kidneys has 100,000
LONGEST_EDGE_MM = 1.5
"""Coarser triangles are split before sampling, so that the faces of a box are sampled too."""


def compare_surfaces(
    first: Surface, second: Surface, *, points: int = POINTS, seed: int = 0
) -> tuple[SurfaceComparison, ...]:
    """The three measures in the order of `MODES`.

    points: at most so many vertices of the first surface are drawn, without repeats. Where the second surface
    is open the second measure is unsigned, and says so.
    """
    return _compare(Model(first), Model(second), points, seed)


def compare_kidney(
    manual: Labels,
    cnn: Labels,
    corrected: Labels | None,
    spacing_mm: Spacing,
    *,
    points: int = POINTS,
    seed: int = 0,
) -> dict[str, tuple[SurfaceComparison, ...]]:
    """Figure 1 and Table 3 of the paper for one kidney: by pair of `PAIRS`, the measures of `MODES`.

    manual, cnn, corrected: label maps (z, y, x) of one kidney on one grid; the surface is that of all
    structures together. Without `corrected`, the first pair only. A pair with an empty map has None for every
    distance.
    """
    maps = {"manual": manual, "cnn": cnn} | ({} if corrected is None else {"corrected": corrected})
    shapes = {labels.shape for labels in maps.values()}
    if len(shapes) != 1:
        raise ValueError(f"compare_kidney: label maps must share a shape, got {sorted(shapes)}")
    geometry = Geometry(shape=manual.shape, spacing_mm=spacing_mm)
    models = {name: Model(surface_of(labels > 0, geometry)) for name, labels in maps.items() if labels.any()}
    pairs = {pair: pair.split("_") for pair in PAIRS}
    return {
        pair: _pair(models.get(a), models.get(b), points, seed)
        for pair, (a, b) in pairs.items()
        if a in maps and b in maps
    }


class Model:
    """A surface and what distances need of it, each made once: small triangles, a tree, places and areas."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface

    @cached_property
    def fine(self) -> Surface:
        """The surface, split and joined again where its triangles are too large to sample."""
        if self.surface.longest_edges_mm.max() <= 4 * LONGEST_EDGE_MM:
            return self.surface
        return joined(refined(self.surface, LONGEST_EDGE_MM))

    @cached_property
    def tree(self) -> KDTree:
        """The vertices, to find the nearest of."""
        return KDTree(self.fine.vertices_mm)

    @cached_property
    def distance(self) -> DistanceTo:
        """Distances to the triangles."""
        return DistanceTo(self.surface)

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Places (n, 3) in mm and areas (n,) in mm2 that stand for the whole surface."""
        if not self.is_drawn:
            return quadrature(self.fine)
        areas = self.fine.areas_mm2
        places = draw_places(self.fine, MOST_TRIANGLES, seed=0)[0]
        return places, np.full(len(places), areas.sum() / len(places))

    @property
    def is_drawn(self) -> bool:
        """Whether it has too many triangles to look at each of them."""
        return len(self.fine.triangles) > MOST_TRIANGLES


def draw_vertices(surface: Surface, points: int, seed: int) -> np.ndarray:
    """At most `points` of the vertices (n, 3) in mm, drawn without repeats; all where there are fewer."""
    vertices = surface.vertices_mm
    if len(vertices) <= points:
        return vertices
    chosen = np.random.default_rng(seed).choice(len(vertices), points, replace=False)
    return vertices[np.sort(chosen)]


def draw_places(
    surface: Surface, points: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places spread evenly over the area: (n, 3) mm, their normals (n, 3), triangles (n,) and corner weights
    (n, 3).
    """
    rng = np.random.default_rng(seed)
    ends = np.cumsum(surface.areas_mm2)
    triangle = np.searchsorted(ends, (np.arange(points) + rng.random(points)) * ends[-1] / points)
    triangle = triangle.clip(0, len(ends) - 1)
    u, v = np.sort(rng.random((2, points)), axis=0)
    weights = np.stack([u, v - u, 1 - v], axis=1)
    corners = surface.vertices_mm[surface.triangles[triangle]]
    a, b, c = np.moveaxis(corners, 1, 0)
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return np.einsum("nc,ncx->nx", weights, corners), normals, triangle, weights


def quadrature(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 3) in mm and areas (n,) in mm2: the middles of edges, which integrate squares exactly.

    `kernels.surface_distances` with "triangle" takes the middle of each triangle instead: up to 1.5 % less.
    """
    n = len(surface.vertices_mm)
    edges = np.sort(np.concatenate([surface.triangles[:, [i, (i + 1) % 3]] for i in range(3)]), axis=1)
    keys, inverse = np.unique(edges[:, 0] * n + edges[:, 1], return_inverse=True)
    middles = (surface.vertices_mm[keys // n] + surface.vertices_mm[keys % n]) / 2
    return middles, np.bincount(inverse, np.tile(surface.areas_mm2 / 3, 3))


def weighted_percentiles(values: np.ndarray, weights: np.ndarray, percents: Iterable[float]) -> list[float]:
    """For each percent: the smallest value at or below which so much of the weight lies."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    at = np.searchsorted(cumulative, np.array(list(percents)) / 100 * cumulative[-1])
    return values[order[at.clip(max=len(order) - 1)]].tolist()


def comparison_table(measures: Iterable[SurfaceComparison], title: str) -> Table:
    """The measures of one pair as a table, how each was taken in its notes."""
    measures = tuple(measures)
    columns = ("rms", "mean", "mean |d|", "min", "5 %", "median", "95 %", "max", "within 2 mm")
    rows = []
    for one in measures:
        numbers = (one.rms_mm, one.mean_mm, one.mean_absolute_mm, one.min_mm)
        numbers += (one.p05_mm, one.median_mm, one.p95_mm, one.max_mm)
        share = None if one.within_2mm is None else 100 * one.within_2mm
        cells = (*(number_cell(number, ".3f") for number in numbers), number_cell(share, ".1f"))
        rows.append(Row(one.mode.replace("_", " "), cells, unit="mm"))
    notes = (
        *(f"{one.mode.replace('_', ' ')}: {one.how}." for one in measures),
        "mm, LPS; within 2 mm in percent.",
    )
    return Table("comparison", title, columns, tuple(rows), notes)


def _pair(first: Model | None, second: Model | None, points: int, seed: int) -> tuple[SurfaceComparison, ...]:
    if first is None or second is None:
        return tuple(SurfaceComparison(mode, how.format(points="no"), 0, seed) for mode, how in MODES.items())
    return _compare(first, second, points, seed)


def _compare(first: Model, second: Model, points: int, seed: int) -> tuple[SurfaceComparison, ...]:
    if points < 1:
        raise ValueError(f"compare_surfaces: points must be at least 1, got {points}")
    drawn = draw_vertices(first.fine, points, seed)
    closed = second.distance.closed
    drawn_note = f" (drawn: {MOST_TRIANGLES:,} places)" if first.is_drawn or second.is_drawn else ""
    (places_a, areas_a), (places_b, areas_b) = first.places, second.places
    both = np.concatenate([second.distance.unsigned(places_a), first.distance.unsigned(places_b)])
    return (
        _comparison("sampled_points", seed, second.tree.query(drawn)[0]),
        _comparison(
            "points_to_triangles",
            seed,
            second.distance.signed(drawn) if closed else second.distance.unsigned(drawn),
            note="" if closed else " (unsigned: the second surface is open)",
        ),
        _comparison("area_symmetric", seed, both, np.concatenate([areas_a, areas_b]), note=drawn_note),
    )


def _comparison(
    mode: str, seed: int, distance: np.ndarray, area: np.ndarray | None = None, note: str = ""
) -> SurfaceComparison:
    weights = np.ones(len(distance)) if area is None else area
    low, median, high = weighted_percentiles(distance, weights, (5, 50, 95))
    return SurfaceComparison(
        mode=mode,
        how=MODES[mode].format(points=f"{len(distance):,}") + note,
        points=len(distance),
        seed=seed,
        rms_mm=float(np.sqrt(np.average(distance**2, weights=weights))),
        mean_mm=float(np.average(distance, weights=weights)),
        mean_absolute_mm=float(np.average(np.abs(distance), weights=weights)),
        min_mm=float(distance.min()),
        max_mm=float(distance.max()),
        p05_mm=low,
        median_mm=median,
        p95_mm=high,
        within_2mm=float(np.average(np.abs(distance) <= USABLE_RMS_MM, weights=weights)),
    )
