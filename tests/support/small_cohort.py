"""A cohort so small that two stages take seconds: two bright ellipsoids, each with an artery, in a body."""

from pathlib import Path

import numpy as np

from kidseg_jax.cohort.case import LabelledKidney, Side
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.kernels import Box

GRID = Geometry((24, 28, 44), (8.0, 8.0, 8.0), (-176.0, -112.0, 0.0))
SETTINGS = [
    *("--n", "2", "--threads", "1"),
    *("--coarse.features", "4", "8", "--coarse.patch", "24", "32", "48", "--coarse-train.steps", "40"),
    *("--fine.features", "4", "8", "--fine.patch", "16", "16", "16", "--fine.spacing-mm", "8"),
    *("--fine-train.steps", "10", "--fine-train.shift-mm", "8"),
]


def one_voxel(case: str, patient: str, side: Side, has_rcc: bool = False) -> LabelledKidney:
    """A kidney for tests that count kidneys."""
    voxel = np.full((1, 1, 1), RCC if has_rcc else PARENCHYMA, np.uint8)
    return LabelledKidney.of(case, patient, side, Box((0, 0, 0), (1, 1, 1)), voxel)


def body(seed):
    """Two bright ellipsoids with an artery each in a body: CT and labels."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*map(np.arange, GRID.shape), indexing="ij")
    inside = ((y - 14) / 12) ** 2 + ((x - 22) / 20) ** 2 < 1
    ct = np.where(inside, 0.0, -1000.0)
    labels = np.zeros(GRID.shape, np.uint8)
    for centre_x, inwards in ((11, 1), (32, -1)):
        cz, cy = rng.integers(11, 14), rng.integers(13, 16)
        kidney = ((z - cz) / 5) ** 2 + ((y - cy) / 3.2) ** 2 + ((x - centre_x) / 3.2) ** 2 < 1
        artery = (z == cz) & (y == cy) & ((x - centre_x) * inwards >= 3) & ((x - centre_x) * inwards < 7)
        labels[artery], labels[kidney] = ARTERY, PARENCHYMA
    ct += 250.0 * (labels > 0) + rng.normal(0, 10, GRID.shape)
    return Volume(ct.astype(np.int16), GRID), Volume(labels, GRID)


def write_cohort(folder: Path, n: int, n_labelled: int) -> None:
    """n cases as folders, the first n_labelled of them with label maps."""
    for i in range(n):
        ct, labels = body(i)
        write_volume(folder / f"case_{i:05d}" / "imaging.npz", ct)
        if i < n_labelled:
            write_volume(folder / f"case_{i:05d}" / "segmentation.npz", labels)
