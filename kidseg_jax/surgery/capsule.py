"""The kidney's capsule as it would run without the tumour, the sinus that it closes, and the kidney's own
axes.

The capsule is an ellipsoid fitted to the outermost parenchyma, and what the parenchyma differs from it,
interpolated over the directions in which a tumour or the hilum lies outermost.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

from kidseg_jax import kernels
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC
from kidseg_jax.imaging.volume import Labels, Mask, Spacing

DIRECTIONS = 1200
SMALLEST_COVER = 0.5  # of all directions: where less of the capsule is seen it is not told
LARGEST_ROUGHNESS = 0.15  # RMS of the seen capsule about the ellipsoid, of its radius
LAYER = 0.04  # of the radius: faces so near to the outermost one belong to the same surface
INNER = 0.12  # points so far inside the ellipsoid are walls of the sinus, not capsule
SINUS_WIDTH_MM = 4.0  # clefts narrower than this are none
WALL_MM = 1.5
SMALLEST_SINUS_ML = 0.3
ROUND = 1.15  # an ellipsoid whose two longest axes differ by less has no long axis
TABLE = (46, 91)  # polar angle, azimuth


@dataclass(frozen=True)
class Capsule:
    """beyond_mm: float32 (z, y, x), how far a voxel lies outside the capsule, along the ray from its centre.

    axes: rows are the unit axes of the ellipsoid in (z, y, x), longest first; half_mm: its half lengths.
    """

    centre_mm: np.ndarray
    axes: np.ndarray
    half_mm: np.ndarray
    beyond_mm: np.ndarray


@dataclass(frozen=True)
class Frame:
    """The kidney's own axes, unit vectors in (z, y, x): along it (up), towards its hilum, towards the front.

    hilum, front: None where there is no hilum to see.
    """

    centre_mm: np.ndarray
    along: np.ndarray
    hilum: np.ndarray | None
    front: np.ndarray | None


@dataclass(frozen=True)
class Sinus:
    """The cavity of the kidney that the capsule closes, with vessels and pelvis in it; mouth: where it
    opens.
    """

    mask: Mask
    mouth: Mask


def fit_capsule(labels: Labels, spacing_mm: Spacing, cut: Mask | None = None) -> Capsule | None:
    """The capsule of one kidney (z, y, x); None where too little of it is seen.

    cut: voxels at which the image cuts the kidney off; their outer faces are no capsule.
    """
    spacing = np.asarray(spacing_mm)
    tissue = labels == PARENCHYMA
    if np.count_nonzero(tissue) < 200:
        return None
    points = _faces(tissue if cut is None else tissue & ~cut, tissue) * spacing
    if len(points) < 200:
        return None
    mass = labels == RCC
    masses = _faces(mass, mass) * spacing
    centre = points.mean(axis=0)
    shape = np.cov((points - centre).T)
    for _ in range(5):
        fitted = _ellipsoid(_outermost(points, masses, centre, shape), centre, shape)
        if fitted is None:
            return None
        centre, shape = fitted
    lengths, axes = np.linalg.eigh(shape)
    axes, half = axes.T[::-1], np.sqrt(lengths[::-1])
    local = (_outermost(points, masses, centre, shape) - centre) @ axes.T / half
    radius = np.linalg.norm(local, axis=1)
    near = np.abs(radius - 1) < 2 * INNER
    ways, rough = local[near] / radius[near, None], radius[near] - 1
    if len(ways) < SMALLEST_COVER * DIRECTIONS or np.sqrt(np.mean(rough**2)) > LARGEST_ROUGHNESS:
        return None
    table = _table(ways, rough)
    return Capsule(centre, axes, half, _beyond(labels.shape, spacing, centre, axes, half, table))


def find_sinus(labels: Labels, capsule: Capsule, spacing_mm: Spacing) -> Sinus | None:
    """The sinus of one kidney; None where its capsule encloses no cavity wide enough."""
    spacing = np.asarray(spacing_mm)
    voxel_ml = float(spacing.prod()) / 1000
    room = (capsule.beyond_mm < 0) & (labels < PARENCHYMA)
    box = kernels.bounding_box(room)
    if box is None:
        return None
    part = np.pad(room[box.slices] & ~_within_wall(labels[box.slices], spacing), 1, mode="edge")
    deep = np.asarray(ndimage.distance_transform_edt(part, spacing)) > SINUS_WIDTH_MM / 2
    if not deep.any():
        return None
    near = (
        np.asarray(ndimage.distance_transform_edt(~deep, spacing)) <= SINUS_WIDTH_MM / 2 + spacing.max() / 2
    )
    opened = np.zeros_like(room)
    opened[box.slices] = (part & near)[1:-1, 1:-1, 1:-1]
    largest = kernels.keep_largest(opened)
    trees = (labels > 0) & (labels < PARENCHYMA)
    if (opened & trees).any() and not (largest & trees).any():
        pieces, _ = kernels.label_components(opened, dtype=np.int32)
        held = np.bincount(pieces[opened & trees])
        largest = pieces == int(held.argmax())
    if np.count_nonzero(largest) * voxel_ml < SMALLEST_SINUS_ML:
        return None
    mouth = largest & (capsule.beyond_mm > -1.25 * spacing.max())
    return Sinus(largest, mouth)


def _within_wall(labels: Labels, spacing: np.ndarray) -> Mask:
    """Voxels of arteries that have left the sinus: most of what is no artery around them is parenchyma."""
    artery = labels == ARTERY
    sigma = WALL_MM / spacing
    wall = ndimage.gaussian_filter((labels >= PARENCHYMA).astype(np.float32), sigma, truncate=2.5)
    around = ndimage.gaussian_filter((~artery).astype(np.float32), sigma, truncate=2.5)
    return artery & (wall > 0.5 * around)


def frame_of(capsule: Capsule, sinus: Sinus | None, spacing_mm: Spacing) -> Frame:
    """The axes of a kidney; that of a round one runs along the patient's."""
    along = capsule.axes[0] if capsule.half_mm[0] >= ROUND * capsule.half_mm[1] else np.array([1.0, 0, 0])
    along = along * (1 if along[0] >= 0 else -1)
    if sinus is None or not sinus.mouth.any():
        return Frame(capsule.centre_mm, along, None, None)
    way = np.argwhere(sinus.mouth).mean(axis=0) * np.asarray(spacing_mm) - capsule.centre_mm
    way = way - along * (way @ along)
    if np.linalg.norm(way) < 0.25 * capsule.half_mm[2]:
        return Frame(capsule.centre_mm, along, None, None)
    hilum = way / np.linalg.norm(way)
    front = np.cross(along, hilum)
    return Frame(capsule.centre_mm, along, hilum, front * (1 if front[1] <= 0 else -1))


def _faces(mask: Mask, body: Mask) -> np.ndarray:
    """Middles (n, 3) in voxels of the faces of a mask's voxels beyond which the body ends."""
    found = []
    for axis in range(3):
        for way in (1, -1):
            middles = np.argwhere(mask & ~np.roll(body, -way, axis)).astype(float)
            middles[:, axis] += way / 2
            found.append(middles)
    return np.concatenate(found)


def _sphere(n: int) -> np.ndarray:
    """n unit vectors (n, 3) spread evenly (Fibonacci's spiral)."""
    z = 1 - (2 * np.arange(n) + 1) / n
    turn = np.pi * (3 - np.sqrt(5)) * np.arange(n)
    flat = np.sqrt(1 - z * z)
    return np.stack([z, flat * np.cos(turn), flat * np.sin(turn)], axis=1)


def _outermost(points: np.ndarray, masses: np.ndarray, centre: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The outermost place (n, 3) in each direction, but where a mass lies farther out.

    It lies on the ray of the outermost point, as far out as the points within LAYER of it on average.
    """
    white = np.linalg.inv(np.linalg.cholesky(shape)).T
    bins = KDTree(_sphere(DIRECTIONS))
    farthest = np.zeros(DIRECTIONS)
    if len(masses):
        local = (masses - centre) @ white
        length = np.linalg.norm(local, axis=1)
        near = np.asarray(bins.query(local / np.maximum(length, 1e-9)[:, None], k=3)[1])
        np.maximum.at(farthest, near.ravel(), np.repeat(length, 3))
    local = (points - centre) @ white
    length = np.linalg.norm(local, axis=1)
    direction = np.asarray(bins.query(local / np.maximum(length, 1e-9)[:, None])[1])
    order = np.lexsort((length, direction))
    chosen = order[np.flatnonzero(np.diff(direction[order], append=-1))]
    top = np.zeros(DIRECTIONS)
    top[direction[chosen]] = length[chosen]
    layer = length > (1 - LAYER) * top[direction]
    total = np.bincount(direction[layer], length[layer], minlength=DIRECTIONS)
    counts = np.bincount(direction[layer], minlength=DIRECTIONS)
    chosen = chosen[length[chosen] > farthest[direction[chosen]]]
    mean = total[direction[chosen]] / counts[direction[chosen]]
    return centre + (points[chosen] - centre) * (mean / length[chosen])[:, None]


def _ellipsoid(
    points: np.ndarray, centre: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Centre and shape (half lengths squared, turned) of an ellipsoid through most points, from a first
    guess.

    Least squares of a quadric; points inside it, such as walls of the sinus, are dropped one round after the
    other.
    """
    white = np.linalg.inv(np.linalg.cholesky(shape)).T
    scale = float(np.median(np.linalg.norm((points - centre) @ white, axis=1)))
    local = (points - centre) @ white / scale
    x, y, z = local.T
    rows = np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z, x, y, z], axis=1)
    kept = np.linalg.norm(local, axis=1) > 0.7
    middle, form = np.zeros(3), np.eye(3)
    for _ in range(8):
        if np.count_nonzero(kept) < 100:
            return None
        q = np.linalg.lstsq(rows[kept], np.ones(np.count_nonzero(kept)), rcond=None)[0]
        form = np.array([[q[0], q[3], q[4]], [q[3], q[1], q[5]], [q[4], q[5], q[2]]])
        if np.linalg.eigvalsh(form)[0] <= 0.05:
            return None
        middle = -np.linalg.solve(form, q[6:]) / 2
        form = form / (1 + middle @ form @ middle)
        radius = np.sqrt(np.einsum("ni,ij,nj->n", local - middle, form, local - middle))
        inner = max(INNER / 4, min(INNER, 2.5 * float(np.median(np.abs(radius[kept] - 1)))))
        now = radius > 1 - inner
        if (now == kept).all():
            break
        kept = now
    back = np.linalg.inv(white) * scale
    return centre + middle @ back, back.T @ np.linalg.inv(form) @ back


def _table(ways: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """What the capsule differs from the ellipsoid, by polar angle and azimuth, of its radius."""
    fine = RBFInterpolator(ways, rough, kernel="thin_plate_spline", smoothing=1e-3)
    polar = np.linspace(0, np.pi, TABLE[0])
    around = np.linspace(-np.pi, np.pi, TABLE[1])
    p, a = (grid.ravel() for grid in np.meshgrid(polar, around, indexing="ij"))
    at = np.stack([np.cos(p), np.sin(p) * np.cos(a), np.sin(p) * np.sin(a)], axis=1)
    low, high = min(float(rough.min()), 0.0), max(float(rough.max()), 0.0)
    return fine(at).clip(low, high).reshape(TABLE)


def _beyond(
    shape: tuple[int, ...],
    spacing: np.ndarray,
    centre: np.ndarray,
    axes: np.ndarray,
    half: np.ndarray,
    table: np.ndarray,
) -> np.ndarray:
    """How far outside the capsule every voxel of a grid lies, in mm along its ray."""
    turn = (axes / half[:, None]).astype(np.float32)
    grids = [
        (np.arange(n) * s - c).astype(np.float32) for n, s, c in zip(shape, spacing, centre, strict=True)
    ]
    z, y, x = grids[0][:, None, None], grids[1][:, None], grids[2]
    u, v, w = (row[0] * z + row[1] * y + row[2] * x for row in turn)
    radius = np.sqrt(u * u + v * v + w * w)
    np.maximum(radius, np.float32(1e-6), out=radius)
    polar = np.arccos((u / radius).clip(-1, 1)) * ((TABLE[0] - 1) / np.pi)
    around = (np.arctan2(w, v) + np.pi) * ((TABLE[1] - 1) / (2 * np.pi))
    wall = 1 + np.asarray(
        ndimage.map_coordinates(table.astype(np.float32), [polar, around], order=1, mode="nearest")
    )
    length = np.sqrt(z * z + y * y + x * x)
    return (length * (1 - wall / radius)).astype(np.float32)
