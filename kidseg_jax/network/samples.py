"""What both networks learn from: a labelled case on the coarse grid and on one ROI for each kidney."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.cohort.case import LabelledKidney
from kidseg_jax.config import NetConfig, TrainConfig
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Volume
from kidseg_jax.network.poses import draw_poses, in_poses
from kidseg_jax.network.roi import (
    box_centre_mm,
    coarse_grid,
    fine_roi,
    sample_ct,
    sample_labels,
    sample_mask,
)


class Sample(NamedTuple):
    """One ROI of one kidney on the network's grid: ct int16 HU and labels uint8, both (z, y, x).

    unlabelled: classes that these labels do not tell from background. posed: ct and labels of the same
    kidney in other poses; each time it is drawn, one of all its poses is learned from.
    """

    ct: np.ndarray
    labels: np.ndarray
    unlabelled: frozenset[int] = frozenset()
    posed: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


def margin_voxels(net: NetConfig, shift_mm: float) -> int:
    """Voxels a sample reaches beyond the patch on every face, so that the patch can shift by `shift_mm`."""
    return int(np.ceil(shift_mm / net.spacing_mm))


def coarse_sample(
    ct: Volume, kidneys: Iterable[LabelledKidney], net: NetConfig, shift_mm: float, threads: int = 1
) -> Sample:
    """A canonical CT on the coarse grid, and where it is kidney (parenchyma or RCC, 1) or not (0)."""
    grid = coarse_grid(net, ct.array.shape, ct.spacing_mm, margin_voxels(net, shift_mm))
    mask = np.zeros(ct.array.shape, bool)
    for kidney in kidneys:
        mask[kidney.box.slices] |= kidney.labels >= PARENCHYMA
    covered = sample_mask(mask, ct.spacing_mm, grid, threads)
    return Sample(sample_ct(ct.array, ct.spacing_mm, grid, threads), covered.astype(np.uint8))


def fine_sample(
    ct: Volume,
    kidney: LabelledKidney,
    net: NetConfig,
    settings: TrainConfig,
    threads: int = 1,
    unlabelled: frozenset[int] = frozenset(),
    seed: int | Sequence[int] = 0,
) -> Sample:
    """One kidney's ROI of a canonical CT with its labels, left kidneys mirrored onto right ones.

    unlabelled: classes that its labels do not tell from background; seed: of the other poses that the
    settings ask for. Raises ValueError without parenchyma or RCC.
    """
    labels, side = kidney.alone(ct.geometry.shape), kidney.side
    box = kernels.bounding_box(labels >= PARENCHYMA)
    if box is None:
        raise ValueError(f"fine_sample: need parenchyma or RCC of the {side} kidney, got none")
    roi = fine_roi(net, box_centre_mm(box, ct.spacing_mm), side, margin_voxels(net, settings.shift_mm))
    image = sample_ct(ct.array, ct.spacing_mm, roi, threads)
    poses = draw_poses(settings, net.spacing_mm, np.random.default_rng(seed))
    posed = in_poses(ct.array, labels, ct.spacing_mm, roi, poses, threads)
    return Sample(image, sample_labels(labels, ct.spacing_mm, roi), unlabelled, tuple(posed))
