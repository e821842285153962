"""A kidney in other poses than its own: turned, stretched and moved a little, resampled once from its CT."""

from typing import NamedTuple

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.config import TrainConfig
from kidseg_jax.imaging.volume import Labels, Spacing
from kidseg_jax.network.roi import AIR_HU, Roi

AXES = ((1, 2), (0, 1), (0, 2))


class Pose(NamedTuple):
    """A place at `offset` mm from an ROI's centre comes from matrix @ offset + moved_mm of it, (z, y, x)."""

    matrix: np.ndarray
    moved_mm: np.ndarray


def draw_poses(settings: TrainConfig, spacing_mm: float, rng: np.random.Generator) -> list[Pose]:
    """All poses of an ROI but its own: `settings.poses` - 1, moved by up to half a voxel of `spacing_mm`."""
    poses = []
    for _ in range(settings.poses - 1):
        matrix = np.eye(3)
        for axes, angle in zip(AXES, np.deg2rad(settings.pose_turn_deg * rng.uniform(-1, 1, 3)), strict=True):
            matrix = matrix @ _turn(axes, angle)
        stretch = 1 + settings.pose_stretch * rng.uniform(-1, 1, 3)
        poses.append(Pose(matrix * stretch, spacing_mm * rng.uniform(-0.5, 0.5, 3)))
    return poses


def in_poses(
    ct: np.ndarray, labels: Labels, spacing_mm: Spacing, roi: Roi, poses: list[Pose], threads: int = 1
) -> list[tuple[np.ndarray, Labels]]:
    """CT (int16 HU, linear, air outside) and labels (uint8, nearest) of the ROI in each pose, (z, y, x).

    ct: int16 HU and labels: uint8, both (z, y, x) with spacing_mm. A CT at least twice as fine as the ROI is
    averaged in blocks first.
    """
    if not poses:
        return []
    blocks = [max(1, int(roi.spacing_mm / s)) for s in spacing_mm]
    spacing = np.array(spacing_mm)
    source, source_spacing = _averaged(ct, blocks), spacing * blocks
    first_mm = (np.array(blocks) - 1) / 2 * spacing
    posed = []
    for pose in poses:
        to_mm = pose.matrix * roi.spacing_mm * (1, 1, -1 if roi.mirrored else 1)
        start_mm = roi.centre_mm + pose.moved_mm - to_mm @ ((np.array(roi.shape) - 1) / 2)
        image = kernels.resample_affine(
            source,
            to_mm / source_spacing[:, None],
            (start_mm - first_mm) / source_spacing,
            roi.shape,
            fill=AIR_HU,
            threads=threads,
        )
        target = kernels.resample_affine(
            labels, to_mm / spacing[:, None], start_mm / spacing, roi.shape, nearest=True, threads=threads
        )
        posed.append((image, target))
    return posed


def _turn(axes: tuple[int, int], angle: float) -> np.ndarray:
    i, j = axes
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def _averaged(ct: np.ndarray, blocks: list[int]) -> np.ndarray:
    """Means of blocks of voxels, int16; voxels that fill no block are left out."""
    if max(blocks) == 1:
        return ct
    axes = [np.arange(max(1, n // b)) * b + (b - 1) / 2 for n, b in zip(ct.shape, blocks, strict=True)]
    return np.rint(kernels.resample_linear(ct, *axes, widths=blocks)).astype(np.int16)
