"""The grid that a file's header describes: unit axes, positive spacing, and what had to be repaired."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kidseg_jax.imaging.volume import Geometry

KEEP_COSINE = 1e-5  # float32 headers are this far from a right angle
LARGEST_ANGLE_DEG = 0.5
LARGEST_MOVE_VOXELS = 0.25
LARGEST_SIZE = 2**31 - 1


class Grid(NamedTuple):
    """A geometry read from a header, and one line for each thing in that header that was repaired."""

    geometry: Geometry
    notes: tuple[str, ...] = ()


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused
def grid_of(
    where: str, sizes_xyz: tuple[int, ...], steps_mm: npt.ArrayLike, origin_mm: npt.ArrayLike
) -> Grid:
    """The grid of `sizes_xyz` voxels whose index axes x, y, z step along the columns of `steps_mm` (LPS, mm).

    Axes that are a little off a right angle are turned to the nearest orthonormal axes and noted: by at most
    half a degree, with no corner moved by more than a quarter of a voxel. Raises ValueError with the numbers
    beyond that, for a spacing that is zero or not finite, and for an origin that is not finite.
    """
    if max(sizes_xyz) > LARGEST_SIZE:
        raise ValueError(f"{where}: sizes must be at most {LARGEST_SIZE}, got {sizes_xyz!s:.80}")
    steps = np.asarray(steps_mm, float)
    origin = np.asarray(origin_mm, float)
    spacing = np.linalg.norm(steps, axis=0)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(f"{where}: spacing must be positive and finite, got {_text(spacing)} mm (x, y, z)")
    if not np.isfinite(origin).all():
        raise ValueError(f"{where}: the origin must be finite, got {_text(origin)}")
    axes = steps / spacing
    axes, note = _orthonormal(where, axes, spacing, sizes_xyz)
    geometry = Geometry(
        shape=(int(sizes_xyz[2]), int(sizes_xyz[1]), int(sizes_xyz[0])),
        spacing_mm=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(tuple(row) for row in axes.tolist()),
    )
    return Grid(geometry, (note,) if note else ())


def _orthonormal(
    where: str, axes: np.ndarray, spacing: np.ndarray, sizes_xyz: tuple[int, ...]
) -> tuple[np.ndarray, str]:
    off = np.abs(axes.T @ axes - np.eye(3)).max()
    if off <= KEEP_COSINE:
        return axes + 0.0, ""  # no negative zeros
    left, _, right = np.linalg.svd(axes)
    repaired = left @ right
    angle_deg = float(np.degrees(np.arcsin(min(1.0, off))))
    extent = (np.asarray(sizes_xyz[:3]) - 1) * spacing
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * extent
    move = float(np.linalg.norm(corners @ (repaired - axes).T, axis=1).max() / spacing.min())
    numbers = (
        f"axes are {angle_deg:.3g} degrees off a right angle, repair moves a corner by {move:.3g} voxels"
    )
    if angle_deg > LARGEST_ANGLE_DEG or move > LARGEST_MOVE_VOXELS:
        raise ValueError(
            f"{where}: {numbers}; repaired are at most {LARGEST_ANGLE_DEG:g} degrees "
            f"and {LARGEST_MOVE_VOXELS:g} voxels"
        )
    return repaired, f"{numbers}: repaired"


def _text(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
