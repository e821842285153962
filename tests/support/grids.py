"""Random grids and small volumes for the tests."""

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.imaging.volume import Geometry, Volume


def random_geometry(rng: np.random.Generator, largest: int = 16) -> Geometry:
    """Any rotation or reflection, spacing 0.4 to 5 mm, 6 to `largest` voxels a side, in float32."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if rng.random() < 0.3:  # along the patient's axes, in any order
        axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
    shape = rng.integers(6, largest, 3)
    spacing = rng.uniform(0.4, 5.0, 3).astype(np.float32).astype(float)
    origin = rng.uniform(-400, 400, 3).astype(np.float32).astype(float)
    return Geometry(
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(map(tuple, axes.tolist())),
    )


def oblique(angle_deg: float, shape=(12, 14, 16), spacing_mm=(2.0, 0.75, 0.5)) -> Geometry:
    """A grid turned about z."""
    c, s = float(np.cos(np.radians(angle_deg))), float(np.sin(np.radians(angle_deg)))
    return Geometry(shape, spacing_mm, (10.0, -20.5, 30.25), ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))


def body_ct(geometry: Geometry, seed: int = 0) -> Volume:
    """An int16 CT that passes for a body: air around, fat and soft tissue inside, noise."""
    rng = np.random.default_rng(seed)
    array = np.full(geometry.shape, -1000.0)
    inside = tuple(slice(n // 8, n - n // 8) for n in geometry.shape)
    array[inside] = 40
    array[inside][::3] = -90
    return Volume(np.rint(array + rng.normal(0, 5, geometry.shape)).astype(np.int16), geometry)


def on_grid(volume: Volume, grid: Geometry, nearest: bool = False, fill: float = 0) -> Volume:
    """The volume by `kernels.resample_affine` on a grid that may lie at any angle in it."""
    start = volume.geometry.to_index(grid.to_world(np.zeros(3)))
    matrix = np.column_stack([volume.geometry.to_index(grid.to_world(unit)) - start for unit in np.eye(3)])
    return Volume(
        kernels.resample_affine(volume.array, matrix, start, grid.shape, nearest=nearest, fill=fill), grid
    )


def two_kidneys(geometry: Geometry) -> Volume:
    """A label map with a kidney on each side of a canonical or turned grid, artery, vein and ureter, RCC in
    the right one.
    """
    from kidseg_jax.imaging.volume import canonical, on_grid_of

    blank = Volume(np.zeros(geometry.shape, np.uint8), geometry)
    array = np.zeros(canonical(blank).array.shape, np.uint8)
    nz, ny, nx = (int(n) for n in array.shape)
    z, y = slice(nz // 4, 3 * nz // 4), slice(ny // 3, 2 * ny // 3)
    right, left = slice(nx // 8, 3 * nx // 8), slice(5 * nx // 8, 7 * nx // 8)
    array[z, y, right] = array[z, y, left] = 4
    array[nz // 2, ny // 3 : 2 * ny // 3, right.start : right.start + 2] = 5
    array[nz // 2, ny // 2, right.stop : right.stop + 1] = 1
    array[nz // 2, ny // 2, left.start - 1 : left.start] = 2
    array[nz // 8 : nz // 4, ny // 2, left.start] = 3
    return on_grid_of(array, blank)
