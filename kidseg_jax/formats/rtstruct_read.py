"""RTSTRUCT: closed planar contours, filled slice by slice in the grid of the CT."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax.formats.dicom_opened import Refused, Regions, opened
from kidseg_jax.formats.raw import require_room
from kidseg_jax.imaging.outlines import filled
from kidseg_jax.imaging.volume import Geometry, Mask

TAGS = ["StructureSetROISequence", "ROIContourSequence"]
OUT_OF_PLANE = 0.1  # of a slice distance: a contour as a whole, and its points among themselves
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
FEWEST_POINTS = 3


def read_rtstruct(path: Path, grid: Geometry) -> Regions:
    """The ROIs of a structure set that have contours; a voxel is inside where its centre is.

    Contours of a ROI in one slice are taken together: what lies inside an odd number of them is in the ROI,
    so that holes are holes whether they are drawn on their own or through a keyhole. Points and open contours
    are left out and noted.
    """
    names: list[str] = []
    slices: list[dict[int, list[np.ndarray]]] = []
    left_out = 0
    with opened(path, TAGS) as data:
        called = {int(one.ROINumber): str(one.get("ROIName", "")) for one in data.StructureSetROISequence}
        for roi in data.get("ROIContourSequence") or ():
            found, others = _contours(roi, grid)
            left_out += others
            if found:
                names.append(called[int(roi.ReferencedROINumber)])
                slices.append(found)
    notes = (f"left out: {left_out} contours that are points or open",) if left_out else ()

    def mask(number: int) -> Mask:
        require_room(path.name, int(np.prod(grid.shape)))
        drawn = np.zeros(grid.shape, bool)
        for k, polygons in slices[number].items():
            drawn[k] = filled(polygons, grid.shape[1:])
        return drawn

    return Regions(tuple(names), mask, notes)


def _contours(roi: Any, grid: Geometry) -> tuple[dict[int, list[np.ndarray]], int]:
    """The closed contours of a ROI in pixels, by slice, and how many others it has."""
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    others = 0
    for contour in roi.get("ContourSequence") or ():
        kind = str(contour.get("ContourGeometricType", ""))
        points = np.array([float(value) for value in contour.get("ContourData") or ()])
        if len(points) % 3 or not np.isfinite(points).all():
            raise Refused("a contour is not made of points x, y, z")
        if kind not in CLOSED or len(points) < 3 * FEWEST_POINTS:
            others += 1
            continue
        index = grid.to_index(points.reshape(-1, 3))
        k = int(np.rint(index[:, 0].mean()))
        off = np.abs(index[:, 0] - k).max()
        if off > OUT_OF_PLANE:
            raise Refused(
                f"contours must lie in the slices of the CT, one is off by {off:.2f} of a slice distance"
            )
        if not 0 <= k < grid.shape[0] or _beyond(index[:, 1:], grid):
            raise Refused("contours must lie inside the CT, one does not")
        found[k].append(index[:, 1:])
    return dict(found), others


def _beyond(places: np.ndarray, grid: Geometry) -> bool:
    return bool((places < -1).any() or (places > np.array(grid.shape[1:])).any())
