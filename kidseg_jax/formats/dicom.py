"""One CT series of a DICOM folder, in order of position; what is missing, doubled or sheared is refused and
named.

Of a header only geometry, pixel format and the numbers that tell series apart are read. Nothing else leaves
this file.
"""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from kidseg_jax.formats.dicom_slices import Slice, has_all_pixels, scan
from kidseg_jax.formats.grid import Grid, grid_of
from kidseg_jax.formats.itk import itk_reason, quiet_itk
from kidseg_jax.imaging.volume import Geometry

GAP_TOLERANCE = 0.05  # of the usual distance between slices
TILT_TOLERANCE_DEG = 0.1
SAME_PLACE_MM = 1e-2


def read_series(folder: Path, series: str | None = None) -> tuple[np.ndarray, Grid]:
    """Voxels (z, y, x) in HU, int16, and the grid of the one CT series of a folder, or of the one named
    `series`.

    Names are series numbers as `list_series` gives them. Localisers and objects that are not CT are left out
    and noted.
    """
    slices, grid = _chosen(folder, series)
    return _voxels(folder.name, slices), grid


def read_geometry(folder: Path, series: str | None = None) -> tuple[list[Path], Geometry]:
    """The files of a series in order of position, and its grid; no pixel is read."""
    slices, grid = _chosen(folder, series)
    return [one.path for one in slices], grid.geometry


def _chosen(folder: Path, series: str | None) -> tuple[list[Slice], Grid]:
    found, notes = list_series(folder)
    where = folder.name
    if not found:
        raise ValueError(
            f"{where}: need DICOM images of a CT, got none" + ("; " + "; ".join(notes) if notes else "")
        )
    listed = ", ".join(f"{name!r} ({_about(slices)})" for name, slices in found.items())
    if series is None and len(found) > 1:
        raise ValueError(f"{where}: {len(found)} series, name one of: {listed}")
    if series is not None and series not in found:
        raise ValueError(f"{where}: no series {series!r}, there is {listed}")
    name = series if series is not None else next(iter(found))
    slices, grid, more = _in_order(f"{where}, series {name}", found[name])
    return slices, Grid(grid.geometry, (*notes, *more, *grid.notes))


def list_series(folder: Path) -> tuple[dict[str, list[Slice]], list[str]]:
    """The CT series of a folder by name, and one line for each kind of thing left out.

    A name is the series number; `b`, `c`, ... is added where a number comes twice. A series that holds
    several images at one place is split by acquisition number, `NUMBER/ACQUISITION`, where that makes every
    place single.
    """
    slices, left_out = scan(folder)
    groups: dict[tuple, list[Slice]] = defaultdict(list)
    for one in slices:
        groups[one.series_uid, one.sizes, tuple(np.round(one.row + one.column, 3))].append(one)
    found: dict[str, list[Slice]] = {}
    for group in sorted(
        groups.values(), key=lambda g: (g[0].series_number.zfill(9), -len(g), g[0].series_uid)
    ):
        number = group[0].series_number or "unnumbered"
        for part, some in _phases(group).items():
            base = f"{number}/{part}" if part else number
            name = next(n for n in (base, *(base + c for c in "bcdefghijklmnopqrstuvwxyz")) if n not in found)
            found[name] = some
    return found, [f"left out: {n} {what}" for what, n in sorted(left_out.items())]


def _phases(group: list[Slice]) -> dict[str, list[Slice]]:
    places = Counter(np.round(np.array(one.origin_mm) / SAME_PLACE_MM).astype(int).tobytes() for one in group)
    if max(places.values()) == 1:
        return {"": group}
    parts: dict[str, list[Slice]] = defaultdict(list)
    for one in group:
        parts[one.acquisition].append(one)
    alone = all(len({tuple(np.round(o.origin_mm, 2)) for o in part}) == len(part) for part in parts.values())
    return dict(sorted(parts.items())) if len(parts) > 1 and alone and all(parts) else {"": group}


def _in_order(where: str, group: list[Slice]) -> tuple[list[Slice], Grid, list[str]]:
    """The slices along the normal, bottom of the index first, and their grid; ValueError with the place of
    what is wrong.
    """
    notes = []
    once = {one.uid or one.path: one for one in group}
    if len(once) < len(group):
        notes.append(f"{len(group) - len(once)} files are copies of others: left out")
    slices = list(once.values())
    if len(slices) < 2:
        raise ValueError(f"{where}: need at least 2 slices, got {len(slices)}")
    if len({tuple(np.round(one.spacing_mm, 4)) for one in slices}) > 1:
        raise ValueError(
            f"{where}: pixel spacing must be the same in all slices, got {_several(slices, 'spacing_mm')}"
        )
    row, column = np.array(slices[0].row), np.array(slices[0].column)
    normal = np.cross(row, column)
    slices.sort(key=lambda one: float(np.dot(one.origin_mm, normal)))
    origins = np.array([one.origin_mm for one in slices])
    along = origins @ normal
    gaps = np.diff(along)
    double = np.flatnonzero(gaps < SAME_PLACE_MM)
    if len(double):
        raise ValueError(
            f"{where}: {len(double)} places have more than one image, first at "
            f"{along[double[0]]:.2f} mm along the normal: two phases or a repeated scan in one series"
        )
    usual = float(gaps.min())  # half the slices may be missing, none is there twice
    odd = np.flatnonzero(np.abs(gaps - usual) > max(GAP_TOLERANCE * usual, SAME_PLACE_MM))
    if len(odd):
        ratios = gaps[odd] / usual
        at = f"between {along[odd[0]]:.2f} and {along[odd[0] + 1]:.2f} mm along the normal"
        if np.abs(ratios - np.round(ratios)).max() < 2 * GAP_TOLERANCE and ratios.min() > 1.5:
            missing = int(np.round(ratios - 1).sum())
            raise ValueError(f"{where}: {missing} slices are missing, the first {at}")
        raise ValueError(
            f"{where}: slice distance varies, {gaps.min():.3g} to {gaps.max():.3g} mm, first {at}"
        )
    step = (origins[-1] - origins[0]) / (len(slices) - 1)
    tilt = float(np.degrees(np.arccos(min(1.0, abs(float(step @ normal)) / float(np.linalg.norm(step))))))
    if tilt > TILT_TOLERANCE_DEG:
        raise ValueError(
            f"{where}: gantry tilt: slices are sheared by {tilt:.2f} degrees; resample the series first"
        )
    apart = float(np.abs(origins - (origins[0] + np.arange(len(slices))[:, None] * step)).max())
    if apart > GAP_TOLERANCE * usual + SAME_PLACE_MM:
        raise ValueError(f"{where}: slices do not lie on one line, off by {apart:.3g} mm")
    spacing = slices[0].spacing_mm
    steps = np.column_stack([row * spacing[1], column * spacing[0], step])
    sizes = (slices[0].sizes[1], slices[0].sizes[0], len(slices))
    return slices, grid_of(where, sizes, steps, origins[0]), notes


def _voxels(where: str, slices: list[Slice]) -> np.ndarray:
    itk = quiet_itk()
    rows, columns = slices[0].sizes
    array = np.empty((len(slices), rows, columns), np.int16)
    readers = {kind: itk.ImageFileReader[itk.Image[kind, 2]] for kind in (itk.SS, itk.F)}
    for plane, one in zip(array, slices, strict=True):
        image_io = itk.GDCMImageIO.New()
        image_io.SetFileName(str(one.path))
        if not has_all_pixels(one):
            raise ValueError(f"{where}: {one.path.name}: its pixel data is cut short")
        try:
            image_io.ReadImageInformation()
            kind = image_io.GetComponentTypeAsString(image_io.GetComponentType())
            reader = readers[itk.SS if kind in ("short", "char", "unsigned_char") else itk.F].New()
            reader.SetFileName(str(one.path))
            reader.SetImageIO(image_io)
            reader.Update()
        except RuntimeError as error:
            raise ValueError(f"{where}: {one.path.name} cannot be decoded: {itk_reason(error)}") from error
        pixels = itk.array_view_from_image(reader.GetOutput())
        if pixels.dtype != np.int16:
            low, high = float(pixels.min()), float(pixels.max())
            if not (low >= -32768 and high <= 32767):
                raise ValueError(f"{where}: {one.path.name}: HU must fit int16, got {low:g} to {high:g}")
            pixels = np.rint(np.asarray(pixels))  # the reader, still in hand, owns the buffer
        plane[:] = pixels
    return array


def _about(slices: list[Slice]) -> str:
    rows, columns = slices[0].sizes
    return f"{len(slices)} slices of {rows}x{columns}"


def _several(slices: list[Slice], field: str) -> str:
    return ", ".join(str(value) for value in sorted({getattr(one, field) for one in slices})[:3])
