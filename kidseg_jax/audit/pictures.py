"""Where to look: an axial, a coronal and a sagittal slice through a finding, with the labels' outlines."""

import numpy as np

from kidseg_jax.audit.scene import Scene
from kidseg_jax.imaging.preview import WINDOW_HU
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Labels, Shape

HALF_MM = 75.0
PIXELS = 240
CROSS = (255, 255, 255)


def three_slices(scene: Scene, at: Shape, other: Labels | None = None) -> np.ndarray:
    """RGB uint8 (`PIXELS`, 3 x `PIXELS`, 3): the slices through a voxel of the canonical case, 15 cm wide.

    Superior is up, in the axial slice anterior; the patient's left is on the right. other: a second label
    map, drawn in dots. A small cross marks the voxel.
    """
    return np.concatenate([_slice(scene, at, axis, other) for axis in range(3)], axis=1)


def _slice(scene: Scene, at: Shape, axis: int, other: Labels | None) -> np.ndarray:
    plane_axes = [a for a in range(3) if a != axis]
    rows, columns = (_taken(scene, at, a) for a in plane_axes)
    if axis:
        rows = (rows[0][::-1], rows[1][::-1])
    index = min(max(at[axis], 0), scene.labels.shape[axis] - 1)
    hu = np.take(scene.hu, index, axis)[np.ix_(rows[0], columns[0])].astype(np.float32)
    outside = ~(rows[1][:, None] & columns[1][None, :])
    low, high = WINDOW_HU
    grey = np.clip((hu - low) / (high - low), 0, 1) * 255
    image = np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)
    for labels, dotted in ((other, True), (scene.labels, False)):
        if labels is not None:
            _outline(image, np.take(labels, index, axis)[np.ix_(rows[0], columns[0])], dotted)
    image[outside] = 0
    half = PIXELS // 2
    for step in (*range(-7, -3), *range(4, 8)):
        image[half + step, half] = image[half, half + step] = CROSS
    return image


def _taken(scene: Scene, at: Shape, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel the voxel it shows, and whether that lies in the image."""
    away = (np.arange(PIXELS) + 0.5 - PIXELS / 2) * (2 * HALF_MM / PIXELS) / scene.spacing_mm[axis]
    index = np.rint(at[axis] + away).astype(int)
    held = (index >= 0) & (index < scene.labels.shape[axis])
    return np.clip(index, 0, scene.labels.shape[axis] - 1), held


def _outline(image: np.ndarray, labels: Labels, dotted: bool) -> None:
    padded = np.pad(labels, 1, mode="edge")
    border = np.zeros(labels.shape, bool)
    for rows, columns in ((slice(2, None), slice(1, -1)), (slice(1, -1), slice(2, None))):
        border |= padded[rows, columns] != labels
    for rows, columns in ((slice(None, -2), slice(1, -1)), (slice(1, -1), slice(None, -2))):
        border |= padded[rows, columns] != labels
    if dotted:
        border &= (np.add.outer(np.arange(labels.shape[0]), np.arange(labels.shape[1])) % 4) < 2
    for structure in STRUCTURES:
        image[border & (labels == structure.label)] = structure.rgb
