"""A picture of labels over a CT, made without a display: one axial slice a kidney, and one coronal slice."""

import struct
import zlib
from pathlib import Path

import numpy as np

from kidseg_jax.atomic import written_whole
from kidseg_jax.imaging.structures import PARENCHYMA, STRUCTURES
from kidseg_jax.imaging.volume import Volume, canonical, require_same_grid

WINDOW_HU = (-160.0, 240.0)
OPACITY = 0.5
HEIGHT = 384
WIDEST = 3 * HEIGHT


def write_preview(path: Path, ct: Volume, labels: Volume) -> None:
    """Write the overlay of a label map on its CT as a PNG, whole or not at all."""
    write_png(path, overlay(ct, labels))


def overlay(ct: Volume, labels: Volume) -> np.ndarray:
    """An RGB picture (y, x, 3) uint8: panels side by side, square pixels, the patient's right on the viewer's
    left.

    Axial panels lie where the parenchyma and RCC of the right and the left half are largest, the coronal
    panel where all of it is; the middle of the image where there is none.
    """
    require_same_grid("overlay", ct, labels)
    image, drawn = canonical(ct), canonical(labels)
    nz, ny, nx = image.array.shape
    dz, dy, dx = image.spacing_mm
    kidney = drawn.array >= PARENCHYMA
    halves = _fullest(kidney[:, :, : nx // 2], 0), _fullest(kidney[:, :, nx // 2 :], 0)
    axial = {z for z in halves if z is not None} or {nz // 2}
    pictures = [_panel(image.array[z], drawn.array[z], dy, dx) for z in sorted(axial)]
    fullest = _fullest(kidney, 1)
    y = ny // 2 if fullest is None else fullest
    pictures.append(_panel(image.array[::-1, y], drawn.array[::-1, y], dz, dx))
    return np.concatenate(pictures, axis=1)


def _fullest(mask: np.ndarray, axis: int) -> int | None:
    area = mask.sum(axis=tuple(a for a in range(3) if a != axis))
    return int(np.argmax(area)) if area.any() else None


def _panel(hu: np.ndarray, labels: np.ndarray, height_mm: float, width_mm: float) -> np.ndarray:
    """One slice in HEIGHT rows of square pixels, nearest neighbour; at most WIDEST columns."""
    pixel_mm = max(hu.shape[0] * height_mm / HEIGHT, hu.shape[1] * width_mm / WIDEST)
    rows, across = (_taken(n, mm, pixel_mm) for n, mm in zip(hu.shape, (height_mm, width_mm), strict=True))
    picture = _painted(hu, labels, rows, across)
    above = (HEIGHT - len(picture)) // 2
    return np.pad(picture, ((above, HEIGHT - len(picture) - above), (0, 0), (0, 0)))


def _taken(n: int, side_mm: float, pixel_mm: float) -> np.ndarray:
    """For each pixel along an axis of n voxels, the voxel it shows."""
    pixels = max(1, round(n * side_mm / pixel_mm))
    return np.minimum((np.arange(pixels) + 0.5) * n / pixels, n - 1).astype(int)


def _painted(hu: np.ndarray, labels: np.ndarray, rows: np.ndarray, across: np.ndarray) -> np.ndarray:
    grey, drawn = hu[np.ix_(rows, across)].astype(float), labels[np.ix_(rows, across)]
    low, high = WINDOW_HU
    grey = np.clip((grey - low) / (high - low), 0, 1) * 255
    colours = np.zeros((256, 3))
    for structure in STRUCTURES:
        colours[structure.label] = structure.rgb
    weight = np.where(drawn > 0, OPACITY, 0.0)[..., None]
    return np.rint(grey[..., None] * (1 - weight) + colours[drawn] * weight).astype(np.uint8)


def write_png(path: Path, rgb: np.ndarray) -> None:
    """Write an RGB picture (y, x, 3) uint8 as PNG, whole or not at all."""
    content = png(rgb)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def png(rgb: np.ndarray) -> bytes:
    """A PNG file of a picture uint8 (rows, columns, 3). Raises ValueError for another shape or kind.

    Source: PNG specification, third edition.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
        raise ValueError(f"png: need uint8 (rows, columns, 3), got {rgb.dtype} {rgb.shape}")
    height, width = rgb.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    rows[:, 1:] = rgb.reshape(height, -1)
    rows[1:, 1:] -= rgb[:-1].reshape(height - 1, -1)  # filter "up", which packs a smooth CT well
    rows[1:, 0] = 2

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
