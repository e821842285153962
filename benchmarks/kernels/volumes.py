"""Volumes that the kernels' benchmark runs on: real ones where they lie beside the project, else made."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kidseg_jax import kernels


def label_map(data: Path) -> tuple[str, np.ndarray]:
    """The KiTS19 map of 134 million voxels, or an ellipsoid pair with a tumour of the same size."""
    path = data / "kits19_labels" / "case_00101.nii.gz"
    if path.is_file():
        return "KiTS19 case_00101", np.ascontiguousarray(read_nifti(path)[0])
    labels = np.zeros((512, 512, 512), np.uint8)
    organs = (
        ((256, 300, 150), (110, 60, 60), 1),
        ((250, 300, 370), (105, 58, 62), 1),
        ((300, 310, 150), (40, 35, 35), 2),
    )
    for centre, radii, value in organs:
        paint_ellipsoid(labels, centre, radii, value)
    return "generated", labels


def mask_pairs(data: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Two people's masks of one kidney, cropped to both plus 3 voxels; or two shifted ellipsoids."""
    folder = data / "kits23_annotators"
    kidneys = sorted({path.name.rsplit("_", 1)[0] for path in folder.glob("*_annotator-*.nii.gz")})
    for kidney in kidneys:
        a, spacing = read_nifti(folder / f"{kidney}_annotator-1.nii.gz")
        b, _ = read_nifti(folder / f"{kidney}_annotator-2.nii.gz")
        yield kidney, *cropped(a > 0, b > 0), spacing
    if not kidneys:
        a, b = np.zeros((2, 130, 130, 130), bool)
        paint_ellipsoid(a, (65, 65, 65), (50, 38, 40), True)
        paint_ellipsoid(b, (66, 64, 66), (49, 39, 41), True)
        yield "generated", *cropped(a, b), (1.0, 0.8, 0.8)


def cropped(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    box = kernels.bounding_box(a | b, margin_mm=3)
    assert box is not None
    return kernels.crop_roi(a, box), kernels.crop_roi(b, box)


def paint_ellipsoid(volume: np.ndarray, centre, radii, value) -> None:
    axes = [((np.arange(n) - c) / r) ** 2 for n, c, r in zip(volume.shape, centre, radii, strict=True)]
    volume[axes[0][:, None, None] + axes[1][:, None] + axes[2] <= 1] = value


def speckled(mask: np.ndarray, share: float) -> np.ndarray:
    """The mask with that share of the voxels of an elliptic body flipped."""
    rng = np.random.default_rng(0)
    y, x = (np.linspace(-1, 1, n) for n in mask.shape[1:])
    body = (y[:, None] / 0.75) ** 2 + (x / 0.94) ** 2 < 1
    noisy = mask.copy()
    for plane in noisy:
        plane ^= ((rng.random(body.shape) < share) & body).astype(np.uint8)
    return noisy


def read_nifti(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array with the file's axes in order and spacing in mm; for the plain files of the benchmark only."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, "<i2", 3, 42)
    kind = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 512: "<u2"}[
        int(np.frombuffer(raw, "<i2", 1, 70)[0])
    ]
    offset = int(np.frombuffer(raw, "<f4", 1, 108)[0])
    array = np.frombuffer(raw, kind, int(np.prod(shape, dtype=np.int64)), offset).reshape(shape, order="F")
    return array, tuple(float(s) for s in np.frombuffer(raw, "<f4", 3, 80))
