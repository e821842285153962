"""Cases and kidneys: who was scanned, and which kidneys count."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from kidseg_jax.imaging.structures import NAMES, RCC
from kidseg_jax.imaging.volume import Labels, Shape, Volume, canonical, require_same_grid

if TYPE_CHECKING:
    from kidseg_jax.imaging.cohort_files import Cohort

Side = Literal["left", "right"]
BODY_HU = -300


@dataclass(frozen=True)
class Case:
    """One CT of one patient, with its label map on the same grid where there is one.

    structures: the structures that its labels tell from background; others are unknown, not absent.
    """

    name: str
    patient: str
    ct: Volume
    labels: Volume | None = None
    structures: frozenset[str] = frozenset(NAMES)


@dataclass(frozen=True)
class Kidney:
    """The unit that is counted: one kidney of a case.

    lo, hi: tight box in canonical voxels, half open (z, y, x), of all that is labelled as this kidney's.
    """

    case: str
    patient: str
    side: Side
    lo: Shape
    hi: Shape
    has_rcc: bool

    @property
    def name(self) -> str:
        return f"{self.case}_{self.side}"


def kidneys_of(case: Case, threads: int = 1) -> tuple[Kidney, ...]:
    """The kidneys that a case's label map holds, right before left: none, one or two.

    Two kidneys are told apart by their order across the patient, one by the middle of the body in its slices
    of the CT. `imaging/kidneys.py` says what is done with horseshoe, touching, transplanted and broken
    kidneys. Raises ValueError for a case without labels, or with labels on another grid than its CT.
    """
    from kidseg_jax.imaging.kidneys import split_kidneys

    if case.labels is None:
        raise ValueError(f"{case.name}: needs a label map, got none")
    require_same_grid(case.name, case.ct, case.labels)
    labels = canonical(case.labels)
    split = split_kidneys(labels.array, labels.spacing_mm, threads)
    sides: tuple[Side, ...] = ("right", "left")
    if len(split.lo) == 1:
        sides = (side_of(canonical(case.ct), split.lo[0], split.hi[0], float(split.centre[0, 2])),)
    found = []
    for i, side in enumerate(sides[: len(split.lo)]):
        lo, hi = _triple(split.lo[i]), _triple(split.hi[i])
        box = tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))
        has_rcc = bool((labels.array[box][split.owner[box] == i + 1] == RCC).any())
        found.append(Kidney(case.name, case.patient, side, lo, hi, has_rcc))
    return tuple(found)


def kidney_labels(labels: Volume, kidney: Kidney, threads: int = 1) -> Labels:
    """The label map in canonical order (z, y, x) with nothing but this kidney's structures left.

    The kidney may come from another label map on the same grid: the one whose box overlaps its box most is
    meant, and the result is empty where none does.
    """
    from kidseg_jax.imaging.kidneys import split_kidneys

    turned = canonical(labels)
    split = split_kidneys(turned.array, turned.spacing_mm, threads)
    if len(split.lo) == 0:
        return np.zeros(turned.array.shape, np.uint8)
    common = np.minimum(split.hi, kidney.hi) - np.maximum(split.lo, kidney.lo)
    shared = np.where((common > 0).all(axis=1), np.prod(common, axis=1), 0)
    exact = (split.lo == kidney.lo).all(axis=1) & (split.hi == kidney.hi).all(axis=1)
    best = int(np.argmax(np.where(exact, shared.max() + 1, shared)))
    if shared[best] == 0:
        return np.zeros(turned.array.shape, np.uint8)
    return np.where(split.owner == best + 1, turned.array, 0).astype(np.uint8)


def load_cohort(folder: str | Path, label_map: str = "kidseg") -> "Cohort":
    """The cases of a folder, in order of name, each read when it is asked for.

    Found by `cohort_files.find_cases`; label_map names what their values mean (`cohort_maps.label_map`).
    Raises ValueError for a folder without cases or an unknown label map; a broken case raises when read.
    """
    from kidseg_jax.imaging import cohort_files, cohort_maps

    folder = Path(folder)
    return cohort_files.Cohort(cohort_files.find_cases(folder), cohort_maps.label_map(label_map, folder))


def side_of(ct: Volume, lo: np.ndarray, hi: np.ndarray, centre_x: float) -> Side:
    """The side of a lone kidney of a canonical CT: that of its centre from the middle of the body in up to 9
    slices.
    """
    slices = np.unique(np.linspace(lo[0], hi[0] - 1, 9).astype(int))
    columns = (ct.array[slices] > BODY_HU).sum(axis=(0, 1))
    total = int(columns.sum())
    width = ct.array.shape[2]
    middle = float((columns * np.arange(width)).sum() / total) if total else (width - 1) / 2
    return "left" if centre_x > middle else "right"


def _triple(values: np.ndarray) -> Shape:
    return int(values[0]), int(values[1]), int(values[2])
