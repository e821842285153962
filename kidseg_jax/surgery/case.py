"""The kidneys of a label map, one after the other, with all their numbers."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.cohort.split import side_of, split_kidneys
from kidseg_jax.imaging.measure import touched_faces
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.imaging.volume import Shape, Spacing, Volume, canonical, on_grid
from kidseg_jax.surgery.kidney import Drawn, measure_kidney
from kidseg_jax.surgery.measures import MARGIN_MM, KidneyMeasures
from kidseg_jax.surgery.scores import NOT_DETERMINABLE


class MeasuredKidney(NamedTuple):
    """One kidney's numbers, what its pictures show, and the spacing (z, y, x) of both in mm."""

    measures: KidneyMeasures
    drawn: Drawn
    spacing_mm: Spacing


def measure_case(
    name: str,
    labels: Volume,
    ct: Volume | None = None,
    *,
    structures: Collection[str] = NAMES,
    margin_mm: float = MARGIN_MM,
    threads: int = 1,
) -> tuple[MeasuredKidney, ...]:
    """Every kidney of a label map, the patient's right one first.

    labels: uint8 in the values of `structures`, on any grid; ct: on the same grid, or one that holds it. A
    lone kidney's side is that of the body in the CT; without CT it is not determinable. Raises ValueError
    where there is no parenchyma, and for grids that do not fit.
    """
    if ct is not None:
        labels = on_grid(name, labels, ct.geometry)
    turned = canonical(labels)
    split = split_kidneys(turned.array, turned.spacing_mm, threads)
    if not split.boxes:
        raise ValueError(f"{name}: need a label map with parenchyma, got none of it")
    sides = ["right", "left"]
    if len(split.boxes) == 1:
        box, centre_x = split.boxes[0], float(split.centre[0, 2])
        sides = [NOT_DETERMINABLE if ct is None else side_of(canonical(ct), *box, centre_x)]
    found = []
    for number, (side, box) in enumerate(zip(sides, split.boxes, strict=True), 1):
        own = np.where(split.owner[box.slices] == number, turned.array[box.slices], 0).astype(np.uint8)
        measures, drawn = measure_kidney(
            own,
            turned.spacing_mm,
            case=name,
            side=side,
            cut_by=faces_of(own, box, turned.geometry.shape),
            structures=structures,
            margin_mm=margin_mm,
            box=box,
            notes=split.notes,
        )
        found.append(MeasuredKidney(measures, drawn, turned.spacing_mm))
    return tuple(found)


def faces_of(own: np.ndarray, box: kernels.Box, shape: Shape) -> tuple[str, ...]:
    """The faces of a canonical image of this shape that the kidney in a box of it reaches."""
    names = (("inferior", "superior"), ("anterior", "posterior"), ("right", "left"))
    reached = set(touched_faces(own))
    return tuple(
        name
        for pair, lo, hi, size in zip(names, box.lo, box.hi, shape, strict=True)
        for name, at_edge in zip(pair, (lo == 0, hi == size), strict=True)
        if at_edge and name in reached
    )
