"""One kidney with free voxels around, and what is found in it once: capsule, sinus, axes, trees."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, URETER, VEIN
from kidseg_jax.imaging.volume import Labels, Mask, Spacing
from kidseg_jax.surgery.capsule import Capsule, Frame, Sinus, find_sinus, fit_capsule, frame_of
from kidseg_jax.surgery.surface import surface_between

PAD = 4  # free voxels around a kidney
TREES = {"artery": ARTERY, "vein": VEIN, "ureter": URETER}


class KidneyView:
    """One kidney's labels with free voxels around, and what is found in them once."""

    def __init__(
        self,
        labels: Labels,
        spacing: np.ndarray,
        structures: frozenset[str],
        cut_by: tuple[str, ...],
        margin_mm: float,
    ) -> None:
        self.labels, self.spacing, self.structures = labels, spacing, structures
        self.cut_by, self.margin_mm = cut_by, margin_mm
        self.spacing_mm: Spacing = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
        self.parenchyma: Mask = labels == PARENCHYMA
        self.notes: list[str] = []
        self.capsule: Capsule | None = fit_capsule(labels, self.spacing_mm, cut_voxels(labels, cut_by))
        self.sinus: Sinus | None = None
        self.frame: Frame | None = None
        if self.capsule is None:
            self.notes.append("too little of the capsule is seen to tell how it would run without the tumour")
        else:
            self.sinus = find_sinus(labels, self.capsule, self.spacing_mm)
            self.frame = frame_of(self.capsule, self.sinus, self.spacing_mm)
        self.trees = tree_surfaces(labels, self.spacing_mm)
        self.sinus_surface = (
            None if self.sinus is None else surface_between(self.sinus.mask, self.spacing_mm, "solid")
        )

    def ml(self, mask: Mask) -> float:
        """Volume of a mask."""
        return float(np.count_nonzero(mask) * self.spacing.prod()) / 1000

    def along(self, mask: Mask) -> np.ndarray:
        """Where voxels of a mask lie along the kidney's long axis from its centre, in mm."""
        assert self.frame is not None
        return (np.argwhere(mask) * self.spacing - self.frame.centre_mm) @ self.frame.along


def tree_surfaces(labels: Labels, spacing_mm: Spacing) -> dict[str, np.ndarray]:
    """Points (n, 3) in mm on the surface of each tree by name.

    Of what is left of one that another crosses, too: the surface of all trees together belongs to the
    nearest.
    """
    own = {name: surface_between(labels == value, spacing_mm, "tree") for name, value in TREES.items()}
    crossed = (labels > 0) & (labels < PARENCHYMA)
    if sum(len(points) > 0 for points in own.values()) < 2:
        return own
    voxels = np.argwhere(crossed)
    outer = surface_between(crossed, spacing_mm, "tree")
    nearest = KDTree(voxels * np.asarray(spacing_mm)).query(outer)[1]
    values = labels[tuple(voxels.T)][nearest]
    return {name: np.concatenate([own[name], outer[values == value]]) for name, value in TREES.items()}


def cut_voxels(labels: Labels, cut_by: Sequence[str], value: int | None = None) -> Mask:
    """Voxels of the kidney in the outermost layer of the image at the faces that cut it."""
    cut = np.zeros(labels.shape, bool)
    names = (("inferior", "superior"), ("anterior", "posterior"), ("right", "left"))
    held = labels >= PARENCHYMA if value is None else labels == value
    for axis, pair in enumerate(names):
        for end, name in zip((PAD, -PAD - 1), pair, strict=True):
            if name in cut_by:
                place = [slice(None)] * 3
                place[axis] = slice(end, end + 1 or None)
                cut[tuple(place)] |= held[tuple(place)]
    return cut
