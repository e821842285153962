"""Surfaces for a printer: smoothed without shrinking, closed, thick enough, light, and measured against the
labels.

The stairs of the voxels are smoothed away (Taubin 1995, whose two steps keep the volume), no vertex farther
than half a voxel along any axis. The surface then moves along its normals until it encloses what the labels
do, thin parts until they are as thick as asked, and triangles are joined (Garland and Heckbert 1997) as long
as the surface stays within a bound. Every step that makes triangles cross is taken back or done with less.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.spatial import KDTree

from kidseg_jax.evaluation.decimation import decimated
from kidseg_jax.evaluation.soundness import crossing_triangles, neighbours, pieces, topology
from kidseg_jax.evaluation.surfaces import DistanceTo, Surface, open3d, surface_of
from kidseg_jax.imaging.volume import Geometry, Mask

PASSES = (20, 10, 5, 2, 0)
"""Double steps of smoothing: the first number that keeps to the bounds is taken."""
SHRINK, GROW = 0.5, -0.53
CLAMP = 0.5  # of a voxel
COARSE_MM = 1.0  # voxels above this get triangles of half the size
FEW_TRIANGLES = 8_000  # where there are no more than these
REPAIRS = 10
THICKENINGS = 6
LOOK_AROUND = 4.0  # walls: what lies farther from a thin place than so many has no part in it
LEAST_SHARE = 0.2  # of the area: what thickening added is taken off where so much is thick
LARGEST_OFFSET_MM = 0.5  # at a time
OPPOSITE = -0.8  # cosine of two normals that face away from each other
SHARE_OF_GAP = 0.3  # a vertex moves at most so far into the gap in front of it
STEP_IN = 1e-3  # mm, where rays start


@dataclass(frozen=True)
class PrintBounds:
    """What a printed model must keep to; all in mm but `volume_percent` and `triangles`.

    wall_mm: thinner parts are thickened. deviation_mm: how far joining triangles may move the surface.
    moved_rms_mm and volume_percent: how far all steps together may, against the labels; smoothing is weaker
    where they need it. triangles: at most so many for a structure, whatever `deviation_mm` says.
    """

    wall_mm: float = 1.0
    deviation_mm: float = 0.1
    moved_rms_mm: float = 0.5
    volume_percent: float = 1.0
    triangles: int | None = None

    def __post_init__(self) -> None:
        for name in ("wall_mm", "deviation_mm"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"PrintBounds.{name}: must be at least 0 mm, got {value}")
        if self.triangles is not None and self.triangles < 100:
            raise ValueError(f"PrintBounds.triangles: must be at least 100, got {self.triangles}")


@dataclass(frozen=True)
class PrintReport:
    """How a printable surface differs from its labels.

    moved: between the surface half-way between voxel centres and this one, by area, both ways.
    volume_ml of this surface; volume_change_percent against the labelled voxels. thinnest_mm: the thinnest
    wall met from any vertex straight inwards, None where none is met. smoothing: double steps taken.
    """

    triangles: int
    pieces: int
    moved_rms_mm: float
    moved_max_mm: float
    volume_ml: float
    volume_change_percent: float
    thinnest_mm: float | None
    smoothing: int
    within_bounds: bool

    def __str__(self) -> str:
        wall = "" if self.thinnest_mm is None else f", thinnest wall {self.thinnest_mm:.2f} mm"
        return (
            f"moved {self.moved_rms_mm:.2f} mm RMS, {self.moved_max_mm:.2f} mm at most, volume "
            f"{self.volume_change_percent:+.2f} %{wall}, {self.triangles} triangles in {self.pieces} "
            f"piece{'s' if self.pieces > 1 else ''}{'' if self.within_bounds else ', beyond the bounds'}"
        )


def printable(
    mask: Mask, geometry: Geometry, bounds: PrintBounds | None = None
) -> tuple[Surface, PrintReport]:
    """A closed surface of a mask that no triangle crosses, and how far it lies from the labels.

    mask: bool (z, y, x) on `geometry`. Vertices are such as float32 holds. The mildest of `PASSES` is taken
    where none keeps to the bounds, and the report says so. Raises ValueError for an empty mask, or one of
    which no sound surface could be made.
    """
    bounds = bounds or PrintBounds()
    raw = surface_of(mask, geometry)
    voxels_ml = int(mask.sum()) * float(np.prod(geometry.spacing_mm)) / 1000
    best: tuple[Surface, PrintReport] | None = None
    for passes in PASSES:
        smooth = _smoothed(raw, geometry, passes)
        if max(geometry.spacing_mm) > COARSE_MM and len(raw.triangles) < FEW_TRIANGLES:
            smooth = _subdivided(smooth)
        made = _sound(smooth, _shaped(smooth, voxels_ml, bounds))
        if made is None:
            continue
        made = decimated(made, bounds.deviation_mm, bounds.triangles)
        report = _report(made, raw, voxels_ml, passes, bounds)
        if best is None or report.within_bounds:
            best = made, report
        if report.within_bounds:
            break
    if best is None:
        raise ValueError("printable: no surface without crossing triangles could be made of these labels")
    return best


def _shaped(surface: Surface, voxels_ml: float, bounds: PrintBounds) -> Surface:
    """The surface with the volume of its voxels, and walls as thick as joining triangles must find them."""
    surface = _with_volume(surface, voxels_ml, np.ones(len(surface.vertices_mm)))
    if bounds.wall_mm > 0:
        surface = _thickened(surface, voxels_ml, bounds.wall_mm + bounds.deviation_mm)
    return surface


def _single(vertices_mm: np.ndarray) -> np.ndarray:
    return vertices_mm.astype(np.float32).astype(np.float64)


def _smoothed(raw: Surface, geometry: Geometry, passes: int) -> Surface:
    """Taubin's smoothing, each vertex inside a voxel's size around where it was."""
    mean = _mean_of_neighbours(raw)
    spacing = np.array(geometry.spacing_mm)
    start = geometry.to_index(raw.vertices_mm) * spacing
    at = start
    for _ in range(passes):
        for step in (SHRINK, GROW):
            at = at + step * (mean @ at - at)
        at = np.clip(at, start - CLAMP * spacing, start + CLAMP * spacing)
    return Surface(geometry.to_world(at / spacing), raw.triangles)


def _mean_of_neighbours(surface: Surface) -> sparse.csr_matrix:
    """A matrix (n, n) that gives each vertex the mean of those it shares an edge with."""
    links = neighbours(surface)
    return sparse.diags(1 / np.asarray(links.sum(1)).ravel()) @ links


def _subdivided(surface: Surface) -> Surface:
    """Four triangles for each, smooth between them (Loop 1987)."""
    mesh = _legacy(surface).subdivide_loop(1)
    return Surface(np.asarray(mesh.vertices), np.asarray(mesh.triangles).astype(np.int64))


def _with_volume(surface: Surface, volume_ml: float, weights: np.ndarray) -> Surface:
    """The surface moved along its normals, each vertex by its weight, until it encloses the volume."""
    gap = None
    for _ in range(4):
        missing_mm3 = 1000 * (volume_ml - surface.volume_ml)
        if abs(missing_mm3) < 1e-3 * 1000 * volume_ml:
            break
        normals, areas = _normals(surface)
        effective = float((areas * weights).sum())
        if effective < LEAST_SHARE * areas.sum():
            break
        offset = weights * np.clip(missing_mm3 / effective, -LARGEST_OFFSET_MM, LARGEST_OFFSET_MM)
        if missing_mm3 > 0:
            gap = _reach(surface, surface.vertices_mm, normals)[0] if gap is None else gap
            offset = np.minimum(offset, SHARE_OF_GAP * gap)
            gap = gap - 2 * offset  # what faces it moves as far
        surface = Surface(surface.vertices_mm + offset[:, None] * normals, surface.triangles)
    return surface


def _thickened(surface: Surface, voxels_ml: float, wall_mm: float) -> Surface:
    """Thin walls pushed apart to `wall_mm`, and what that added taken off where walls are thick."""
    normals, _ = _normals(surface)
    walls, near_mm = _walls(surface, normals), LOOK_AROUND * wall_mm
    thick, watched = walls > 2 * wall_mm, np.arange(len(walls))
    mean = _mean_of_neighbours(surface)
    for _ in range(THICKENINGS):
        short = 1.05 * wall_mm - walls
        now = watched[short > 0.05 * wall_mm]
        if not len(now):
            break
        push = np.zeros(len(thick))
        push[now] = short[short > 0.05 * wall_mm] / 2
        for _ in range(2):
            push = np.maximum(push, mean @ push)
        watched = np.flatnonzero(push)
        thick[watched] = False
        near = _near(surface, surface.vertices_mm[watched], near_mm)
        gap = _reach(near, surface.vertices_mm[watched], normals[watched])[0]
        push[watched] = np.minimum(push[watched], SHARE_OF_GAP * gap)
        surface = Surface(surface.vertices_mm + push[:, None] * normals, surface.triangles)
        normals, _ = _normals(surface)
        walls = _walls(_near(surface, surface.vertices_mm[watched], near_mm), normals, watched)
    return _with_volume(surface, voxels_ml, np.minimum(thick, mean @ thick))


def _near(surface: Surface, places_mm: np.ndarray, within_mm: float) -> Surface:
    """The same vertices, and the triangles that have one within so many mm of a place (n, 3)."""
    apart_mm, _ = KDTree(places_mm).query(surface.vertices_mm, distance_upper_bound=within_mm)
    return Surface(surface.vertices_mm, surface.triangles[np.isfinite(apart_mm)[surface.triangles].any(1)])


def _walls(surface: Surface, normals: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Thickness in mm straight inwards of every vertex, or of those named, (n,), inf where the far side does
    not face away.
    """
    inward = -normals if of is None else -normals[of]
    places = surface.vertices_mm if of is None else surface.vertices_mm[of]
    distance, met = _reach(surface, places, inward)
    return np.where(np.einsum("ij,ij->i", met, inward) > -OPPOSITE, distance, np.inf)


def _reach(surface: Surface, places_mm: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From each place straight on: mm to the next triangle (inf where there is none), and its normal."""
    if not len(places_mm):
        return np.zeros(0), np.zeros((0, 3))
    o3d = open3d()
    centre = surface.vertices_mm.mean(0)
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        o3d.core.Tensor((surface.vertices_mm - centre).astype(np.float32)),
        o3d.core.Tensor(surface.triangles.astype(np.uint32)),
    )
    starts = places_mm - centre + STEP_IN * directions
    rays = np.concatenate([starts, directions], axis=1).astype(np.float32)
    met = scene.cast_rays(o3d.core.Tensor(rays))
    return met["t_hit"].numpy().astype(float) + STEP_IN, met["primitive_normals"].numpy().astype(float)


def _normals(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (n, 3) of the vertices, outward, and what area of the surface each stands for (n,)."""
    a, b, c = np.moveaxis(surface.corners_mm, 1, 0)
    doubled = np.cross(b - a, c - a)
    corner, n = surface.triangles.ravel(), len(surface.vertices_mm)
    summed = np.stack(
        [np.bincount(corner, np.repeat(doubled[:, axis], 3), minlength=n) for axis in range(3)], 1
    )
    normals = summed / np.maximum(np.linalg.norm(summed, axis=1), 1e-12)[:, None]
    return normals, np.bincount(corner, np.repeat(np.linalg.norm(doubled, axis=1) / 6, 3), minlength=n)


def _sound(start: Surface, goal: Surface) -> Surface | None:
    """The vertices of `start` moved to those of `goal`, less far where triangles would cross; None where they
    cross in `start` already, or more than its edges are wrong.
    """
    rings, share = neighbours(start), np.ones(len(start.vertices_mm))
    for _ in range(REPAIRS):
        places = start.vertices_mm + share[:, None] * (goal.vertices_mm - start.vertices_mm)
        surface = Surface(_single(places), start.triangles)
        crossing = crossing_triangles(surface)
        if not len(crossing):
            return surface if topology(surface).is_sound else None
        if not share.any():
            return None
        near = np.zeros(len(share))
        near[np.unique(surface.triangles[crossing])] = 1
        near = rings @ (rings @ near + near) + near > 0
        share = np.where(near, np.where(share > 0.1, share / 2, 0), share)
    return None


def _report(
    surface: Surface, raw: Surface, voxels_ml: float, passes: int, bounds: PrintBounds
) -> PrintReport:
    distances = DistanceTo(raw).unsigned(surface.vertices_mm), DistanceTo(surface).unsigned(raw.vertices_mm)
    moved = np.concatenate(distances)
    areas = np.concatenate([_normals(surface)[1], _normals(raw)[1]])
    rms = float(np.sqrt(np.average(moved**2, weights=areas)))
    volume = surface.volume_ml
    change = 100 * (volume / voxels_ml - 1)
    walls = _walls(surface, _normals(surface)[0])
    thinnest = float(walls.min())
    return PrintReport(
        triangles=len(surface.triangles),
        pieces=pieces(surface)[0],
        moved_rms_mm=rms,
        moved_max_mm=float(moved.max()),
        volume_ml=volume,
        volume_change_percent=change,
        thinnest_mm=thinnest if np.isfinite(thinnest) else None,
        smoothing=passes,
        within_bounds=rms <= bounds.moved_rms_mm and abs(change) <= bounds.volume_percent,
    )


def _legacy(surface: Surface) -> Any:
    """Open3D's older mesh, which alone it subdivides."""
    geometry, utility = open3d().geometry, open3d().utility
    return geometry.TriangleMesh(
        utility.Vector3dVector(surface.vertices_mm),
        utility.Vector3iVector(surface.triangles.astype(np.int32)),
    )
