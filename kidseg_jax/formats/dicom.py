"""One CT series of a DICOM folder, in order of position; what is cut short, missing, doubled or sheared is
refused and named.

Of a header only geometry, pixel format and the numbers that tell series apart are read. Nothing else leaves
this file.
"""

from collections import defaultdict
from collections.abc import Container
from itertools import chain, count
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from kidseg_jax.formats import dicom_pixels
from kidseg_jax.formats.dicom_slices import Broken, Slice, scan
from kidseg_jax.formats.grid import Grid, grid_of
from kidseg_jax.formats.raw import require_room

GAP_TOLERANCE = 0.05  # of the usual distance between slices
ROUNDED_MM = 0.1  # positions are written to a tenth of a millimetre by some: two of them make a distance
TILT_TOLERANCE_DEG = 0.1
SAME_PLACE_MM = 1e-2
SAME_TURN = 5e-4  # cosines of one series differ by less
SAME_SPACING = 1e-3  # of the spacing


def read_series(folder: Path, series: str | None = None) -> tuple[np.ndarray, Grid]:
    """Voxels (z, y, x) in HU, int16, and the grid of the one CT series of a folder and of those below it, or
    of the one named `series`.

    Names are series numbers as `list_series` gives them. Localisers and objects that are not CT are left out
    and noted; ValueError names a file of the series that is cut short or cannot be read.
    """
    slices, grid = _chosen(folder, series)
    require_room(folder.name, 2 * len(slices) * slices[0].sizes[0] * slices[0].sizes[1])
    array = np.empty(grid.geometry.shape, np.int16)
    for plane, one in zip(array, slices, strict=True):
        plane[:] = dicom_pixels.read_hu(folder.name, one)
    return array, grid


def read_slices(folder: Path, series: str | None = None) -> tuple[list[Slice], Grid]:
    """The images of a series in order of position, and its grid; no pixel is read but of copies."""
    return _chosen(folder, series)


def _chosen(folder: Path, series: str | None) -> tuple[list[Slice], Grid]:
    found, broken, notes = list_series(folder)
    where = folder.name
    listed = ", ".join(f"{name!r} ({_about(slices)})" for name, slices in found.items())
    if series is not None and found and series not in found:
        raise ValueError(f"{where}: no series {series!r}, there is {listed}")
    wanted = found.get(series, []) if series is not None else [one for some in found.values() for one in some]
    uids = {"", *(one.series_uid for one in wanted)}
    bad = [one for one in broken if series is None or one.series_uid in uids]
    told = (
        [f"{bad[0].name}: {bad[0].reason}" + (f" ({len(bad)} such files)" if bad[1:] else "")] if bad else []
    )
    if not found:
        raise ValueError(f"{where}: {'; '.join(['need DICOM images of a CT, got none', *told, *notes])}")
    if bad:
        raise ValueError(f"{where}: {told[0]}")
    if series is None and len(found) > 1:
        raise ValueError(
            f"{where}: {len(found)} series, name one of: {listed} (predict, info and export: --series)"
        )
    name = series if series is not None else next(iter(found))
    if broken:
        notes.append(f"left out: {len(broken)} files of other series that cannot be read")
    slices, grid, more_notes = _in_order(where, name, found[name])
    return slices, Grid(grid.geometry, (*notes, *more_notes, *grid.notes))


def list_series(folder: Path) -> tuple[dict[str, list[Slice]], list[Broken], list[str]]:
    """The CT series of a folder by name, the files that cannot be read, and one line for each kind of thing
    left out.

    A name is the series number; `b`, `c`, ... is added where a number comes twice. A series that holds
    several images at one place is split by acquisition number, `NUMBER/ACQUISITION`, where that makes every
    place single.
    """
    there = scan(folder)
    by_uid: dict[str, list[list[Slice]]] = defaultdict(list)
    for one in there.slices:
        groups = by_uid[one.series_uid]
        group = next((some for some in groups if _alike(some[0], one)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    series: dict[str, list[Slice]] = {}
    for group in sorted(
        (group for groups in by_uid.values() for group in groups),
        key=lambda g: (g[0].series_number.zfill(9), -len(g), g[0].series_uid),
    ):
        number = group[0].series_number or "unnumbered"
        for part, some in _phases(group).items():
            series[_free(f"{number}/{part}" if part else number, series)] = some
    return series, there.broken, [f"left out: {n} {what}" for what, n in sorted(there.left_out.items())]


def _alike(a: Slice, b: Slice) -> bool:
    """Whether two images of one series stack: the same size, and axes that differ by rounding."""
    return a.sizes == b.sizes and bool(
        np.allclose(a.row + a.column, b.row + b.column, rtol=0, atol=SAME_TURN)
    )


def _free(name: str, taken: Container[str]) -> str:
    """A name, or that name with the first letter or number that makes it a new one."""
    ends = chain(("",), ascii_lowercase[1:], (f"-{n}" for n in count(27)))
    return next(name + end for end in ends if name + end not in taken)


def _phases(group: list[Slice]) -> dict[str, list[Slice]]:
    if _single(group):
        return {"": group}
    parts: dict[str, list[Slice]] = defaultdict(list)
    for one in group:
        parts[one.acquisition].append(one)
    alone = len(parts) > 1 and all(parts) and all(_single(part) for part in parts.values())
    return dict(sorted(parts.items())) if alone else {"": group}


def _along(slices: list[Slice]) -> np.ndarray:
    """Where each image lies along the normal of the first, mm."""
    normal = np.cross(slices[0].row, slices[0].column)
    return np.array([one.origin_mm for one in slices]) @ (normal / np.linalg.norm(normal))


def _single(slices: list[Slice]) -> bool:
    """Whether no two images lie at one place."""
    return bool(np.diff(np.sort(_along(slices))).min(initial=np.inf) >= SAME_PLACE_MM)


def _in_order(where: str, name: str, group: list[Slice]) -> tuple[list[Slice], Grid, list[str]]:
    """The slices along the normal, bottom of the index first, and their grid; ValueError with the place of
    what is wrong.
    """
    slices, notes = _without_copies(where, group)
    notes += _checked_rescale(where, slices)
    where = f"{where}, series {name}"
    if len(slices) < 2:
        raise ValueError(f"{where}: need at least 2 slices, got {len(slices)}")
    spacings = np.array([one.spacing_mm for one in slices])
    if (np.ptp(spacings, axis=0) > SAME_SPACING * spacings.min(axis=0)).any():
        raise ValueError(
            f"{where}: pixel spacing must be the same in all slices, got {_several(slices, 'spacing_mm')}"
        )
    along = _along(slices)
    order = np.argsort(along, kind="stable")
    slices, along = [slices[i] for i in order], along[order]
    step = _step(where, along, np.array([one.origin_mm for one in slices]), slices[0])
    row, column = np.array(slices[0].row), np.array(slices[0].column)
    spacing = slices[0].spacing_mm
    steps = np.column_stack([row * spacing[1], column * spacing[0], step])
    sizes = (slices[0].sizes[1], slices[0].sizes[0], len(slices))
    return slices, grid_of(where, sizes, steps, slices[0].origin_mm), notes


def _without_copies(where: str, group: list[Slice]) -> tuple[list[Slice], list[str]]:
    """The images once each: a copy has the same UID, place and voxels; one UID for two images is refused."""
    by_uid: dict[str, list[Slice]] = defaultdict(list)
    for one in group:
        by_uid[one.uid or one.name].append(one)
    for first, *others in by_uid.values():
        for other in others:
            same = np.allclose(first.origin_mm, other.origin_mm, rtol=0, atol=SAME_PLACE_MM)
            if not same or not np.array_equal(
                dicom_pixels.read_hu(where, first), dicom_pixels.read_hu(where, other)
            ):
                raise ValueError(
                    f"{where}: {first.name} and {other.name} are different images with one SOPInstanceUID"
                )
    n = len(group) - len(by_uid)
    return [some[0] for some in by_uid.values()], [f"{n} files are copies of others: left out"] if n else []


def _checked_rescale(where: str, slices: list[Slice]) -> list[str]:
    """A note where no slice says how its values become HU; ValueError where only some do."""
    silent = [one.name for one in slices if one.rescale is None]
    if silent and len(silent) < len(slices):
        raise ValueError(
            f"{where}: {silent[0]}: no rescale slope and intercept, which {len(slices) - len(silent)} other "
            f"slices have ({len(silent)} without)"
        )
    return ["no slice has a rescale slope and intercept: values are taken as HU"] if silent else []


def _step(where: str, along: np.ndarray, origins: np.ndarray, first: Slice) -> np.ndarray:
    """From one slice to the next, mm in LPS; ValueError with the place of a gap, double, shear or bend."""
    gaps = np.diff(along)
    double = np.flatnonzero(gaps < SAME_PLACE_MM)
    if len(double):
        raise ValueError(
            f"{where}: {len(double)} places have more than one image, first at "
            f"{along[double[0]]:.2f} mm along the normal: two phases or a repeated scan in one series"
        )
    steps_over = np.rint(gaps / gaps.min())  # half the slices may be missing, none is there twice
    usual = float(gaps.sum() / steps_over.sum())
    tolerance = SAME_PLACE_MM + max(GAP_TOLERANCE * usual, min(ROUNDED_MM, usual / 4))
    odd = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if len(odd):
        at = f"between {along[odd[0]]:.2f} and {along[odd[0] + 1]:.2f} mm along the normal"
        if np.abs(gaps - steps_over * usual).max() <= tolerance:
            raise ValueError(f"{where}: {int((steps_over - 1).sum())} slices are missing, the first {at}")
        raise ValueError(
            f"{where}: slice distance varies, {gaps.min():.3g} to {gaps.max():.3g} mm, first {at}"
        )
    normal = np.cross(first.row, first.column)
    normal /= np.linalg.norm(normal)
    step = (origins[-1] - origins[0]) / len(gaps)
    straight = float(step @ normal) * normal
    tilt = float(np.degrees(np.arccos(min(1.0, float(np.linalg.norm(straight) / np.linalg.norm(step))))))
    if tilt > TILT_TOLERANCE_DEG:
        if np.linalg.norm(step - straight) * len(gaps) > ROUNDED_MM + SAME_PLACE_MM:
            raise ValueError(
                f"{where}: gantry tilt: slices are sheared by {tilt:.2f} degrees; resample the series first"
            )
        step = straight
    apart = float(np.abs(origins - (origins[0] + np.arange(len(origins))[:, None] * step)).max())
    if apart > tolerance:
        raise ValueError(f"{where}: slices do not lie on one line, off by {apart:.3g} mm")
    return step


def _about(slices: list[Slice]) -> str:
    rows, columns = slices[0].sizes
    return f"{len(slices)} slices of {rows}x{columns}"


def _several(slices: list[Slice], field: str) -> str:
    return ", ".join(str(value) for value in sorted({getattr(one, field) for one in slices})[:3])
