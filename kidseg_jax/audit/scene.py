"""What the checks look at: a CT and its label map in canonical order, and what is around each kidney."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Case, Side
from kidseg_jax.cohort.split import side_of, split_kidneys
from kidseg_jax.imaging.volume import Labels, Shape, Spacing, canonical, require_same_grid

MARGIN_MM = 24.0
COARSE_MM = 1.5


@dataclass(frozen=True)
class Kidney:
    """One kidney's neighbourhood, (z, y, x): hu, its own labels, and where its first voxel lies in the case.

    others: voxels that are labelled as another kidney's.
    """

    side: Side
    lo: Shape
    hu: np.ndarray
    labels: Labels
    others: np.ndarray
    spacing_mm: Spacing

    @cached_property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000

    @cached_property
    def coarse(self) -> "Kidney":
        """The same in steps of whole voxels, as large as fits into `COARSE_MM`."""
        step = np.maximum(1, np.floor(COARSE_MM / np.asarray(self.spacing_mm) + 0.35)).astype(int)
        part = tuple(slice(None, None, s) for s in step.tolist())
        z, y, x = (np.asarray(self.spacing_mm) * step).tolist()
        return Kidney(self.side, self.lo, self.hu[part], self.labels[part], self.others[part], (z, y, x))

    def place(self, index: np.ndarray, within: "Kidney | None" = None) -> Shape:
        """The voxel of the case of a voxel of this neighbourhood, or of its coarse one."""
        scale = np.divide((within or self).spacing_mm, self.spacing_mm)
        z, y, x = (np.asarray(self.lo) + np.rint(np.asarray(index) * scale).astype(int)).tolist()
        return z, y, x


@dataclass(frozen=True)
class Scene:
    """A case to be checked, canonical: hu int16 and labels uint8 (z, y, x), and what its labels can tell.

    has_ct: False for a label map alone, whose hu say nothing.
    """

    name: str
    hu: np.ndarray
    labels: Labels
    spacing_mm: Spacing
    told: frozenset[str]
    kidneys: tuple[Kidney, ...]
    has_ct: bool = True

    @cached_property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / 1000

    @cached_property
    def box(self) -> kernels.Box | None:
        """Tight box of all labels; None where there are none."""
        return kernels.bounding_box(self.labels)


def scene_of(case: Case, threads: int = 1, has_ct: bool = True) -> Scene:
    """What the checks look at of a case. ValueError where it has no labels, or has them on another grid."""
    if case.labels is None:
        raise ValueError(f"{case.name}: needs a label map, got none")
    require_same_grid(case.name, case.ct, case.labels)
    ct, labels = canonical(case.ct), canonical(case.labels).array
    spacing = ct.spacing_mm
    split = split_kidneys(labels, spacing, threads)
    sides: tuple[Side, ...] = ("right", "left")
    if len(split.boxes) == 1:
        sides = (side_of(ct, *split.boxes[0], float(split.centre[0, 2])),)
    margin = np.ceil(MARGIN_MM / np.asarray(spacing)).astype(int)
    kidneys = []
    for number, (side, box) in enumerate(zip(sides, split.boxes, strict=False), 1):
        lo = np.maximum(np.subtract(box.lo, margin), 0).tolist()
        hi = np.minimum(np.add(box.hi, margin), labels.shape).tolist()
        part = tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))
        owner, near = split.owner[part], labels[part]
        own = np.where(owner == number, near, 0).astype(np.uint8)
        others = (owner != number) & (near > 0)
        kidneys.append(Kidney(side, (lo[0], lo[1], lo[2]), ct.array[part], own, others, spacing))
    return Scene(case.name, ct.array, labels, spacing, case.structures, tuple(kidneys), has_ct)
