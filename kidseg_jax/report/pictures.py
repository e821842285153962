"""Pictures without a display: CT slices with the outlines of label maps, as RGB arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Labels
from kidseg_jax.report.snapshot import KidneySnapshot

WINDOW_HU = (-160.0, 340.0)
PLANES = ("axial", "coronal", "sagittal")


class Outline(NamedTuple):
    """How one label map is drawn: its name, its colour and how many pixels wide."""

    name: str
    rgb: tuple[int, int, int]
    width: int


OUTLINES = (
    Outline("manual", (255, 214, 10), 3),
    Outline("cnn", (233, 30, 99), 1),
    Outline("corrected", (0, 229, 255), 1),
)
"""Drawn in this order, so that a thin line stays visible on a thick one that it follows."""


def kidney_slices(snapshot: KidneySnapshot, *, pixels: int = 360) -> list[np.ndarray]:
    """An axial, a coronal and a sagittal slice of one kidney with its outlines, each uint8 (rows, columns,
    3).

    Each is the slice on which manual and CNN labels differ most (CNN and corrected where there is no manual),
    at square pixels, `pixels` along its longer side. Superior is up and, in the axial slice, anterior; the
    patient's left is on the right.
    """
    maps = [(outline, getattr(snapshot, outline.name)) for outline in OUTLINES]
    drawn = [(outline, labels) for outline, labels in maps if labels is not None]
    differ = _difference([labels for _, labels in drawn], snapshot.ct.shape)
    spacing = np.array(snapshot.geometry.spacing_mm)
    images = []
    for axis in range(3):
        index = _busiest(differ, drawn, axis)
        rest = np.delete(spacing, axis)
        ct = _upright(snapshot.ct.take(index, axis).astype(np.float32), axis)
        scale = pixels / (np.array(ct.shape) * rest).max() * rest
        image = _grey(_enlarged(ct, scale))
        for outline, labels in drawn:
            _draw(image, _upright(labels.take(index, axis), axis), scale, outline)
        images.append(image)
    return images


def _difference(maps: Sequence[Labels], shape: tuple[int, ...]) -> np.ndarray:
    if len(maps) > 1:
        differ = maps[0] != maps[1]
        if differ.any():
            return differ
    return maps[0] > 0 if maps else np.zeros(shape, bool)


def _busiest(differ: np.ndarray, drawn: Sequence[tuple[Outline, Labels]], axis: int) -> int:
    others = tuple(a for a in range(3) if a != axis)
    counts = differ.sum(others)
    if counts.any():
        return int(counts.argmax())
    return differ.shape[axis] // 2


def _upright(plane: np.ndarray, axis: int) -> np.ndarray:
    """Rows from superior to inferior (or anterior to posterior) for a plane across a canonical axis."""
    return plane if axis == 0 else plane[::-1]


def _enlarged(plane: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.zoom(plane, scale, order=1, grid_mode=True, mode="nearest"))


def _grey(hu: np.ndarray) -> np.ndarray:
    low, high = WINDOW_HU
    grey = np.clip((hu - low) / (high - low), 0, 1) * 255
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)


def _draw(image: np.ndarray, labels: np.ndarray, scale: np.ndarray, outline: Outline) -> None:
    """Outline every structure of a label plane on an enlarged image, in place."""
    shape = image.shape[:2]
    border = np.zeros(shape, bool)
    for structure in STRUCTURES:
        inside = labels == structure.label
        if not inside.any():
            continue
        smooth = _enlarged(inside.astype(np.float32), scale) > 0.5
        smooth = smooth[: shape[0], : shape[1]]
        inner = ndimage.binary_erosion(smooth, iterations=outline.width)
        border |= smooth & np.logical_not(inner)
    image[border] = outline.rgb
