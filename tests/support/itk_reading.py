"""Voxels and grids as ITK itself reads them from NRRD and MetaImage: what our readers are held against."""

from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax.formats.grid import Grid, grid_of
from kidseg_jax.formats.itk import quiet_itk


def read_nrrd(path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (z, y, x) and the grid of a .nrrd or .nhdr file with one scalar volume, in any encoding."""
    itk = quiet_itk()
    voxels, image_io = _voxels(itk, path.name, path, itk.NrrdImageIO.New())
    return voxels, _grid(path.name, image_io)


def read_meta(path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (z, y, x) and the grid of a .mha or .mhd file."""
    itk = quiet_itk()
    voxels, image_io = _voxels(itk, path.name, path, itk.MetaImageIO.New())
    return voxels, _grid(path.name, image_io)


def _voxels(itk: Any, where: str, path: Path, image_io: Any) -> tuple[np.ndarray, Any]:
    """A view of ITK's own buffer as (z, y, x), and the image IO that knows the header."""
    image_io.SetFileName(str(path))
    try:
        image_io.ReadImageInformation()
        n_dims = image_io.GetNumberOfDimensions()
        sizes = [image_io.GetDimensions(i) for i in range(n_dims)]
        if image_io.GetNumberOfComponents() != 1:
            raise ValueError(f"{where}: need one value a voxel, got {image_io.GetNumberOfComponents()}")
        if n_dims < 3 or max(sizes[3:], default=1) > 1 or min(sizes) < 1:
            raise ValueError(f"{where}: need one 3-D volume, got sizes {tuple(sizes)}")
        kind = image_io.GetComponentTypeAsString(image_io.GetComponentType())
        pixel = _pixel_types(itk).get(kind)
        if pixel is None:
            raise ValueError(f"{where}: voxels of type {kind} are not read")
        reader = itk.ImageFileReader[itk.Image[pixel, 3]].New()
        reader.SetFileName(str(path))
        reader.SetImageIO(image_io)
        reader.Update()
    except RuntimeError as error:
        raise ValueError(f"{where}: cannot be read: {itk_reason(error)}") from error
    array = np.asarray(_Held(itk, reader.GetOutput()))
    return array.astype(np.int64) if kind in ("long", "long_long") else array, image_io


class _Held:
    """ITK's buffer as an array interface that keeps its image alive: a plain view of ITK's own array would
    not.
    """

    def __init__(self, itk: Any, image: Any) -> None:
        self.image = image
        self.__array_interface__ = itk.array_view_from_image(image).__array_interface__


def _pixel_types(itk: Any) -> dict[str, Any]:
    """The pixel that holds every value of each component type and is wrapped for 3-D images."""
    return {
        "unsigned_char": itk.UC,
        "char": itk.SS,
        "unsigned_short": itk.US,
        "short": itk.SS,
        "unsigned_int": itk.UI,
        "int": itk.SI,
        "unsigned_long": itk.ULL,
        "long": itk.D,
        "unsigned_long_long": itk.ULL,
        "long_long": itk.D,
        "float": itk.F,
        "double": itk.D,
    }


def _grid(where: str, image_io: Any) -> Grid:
    """The grid that ITK's reader found, in LPS."""
    directions = np.array([list(image_io.GetDirection(i))[:3] for i in range(3)], float).T
    spacing = np.array([image_io.GetSpacing(i) for i in range(3)], float)
    sizes = tuple(image_io.GetDimensions(i) for i in range(3))
    return grid_of(where, sizes, directions * spacing, [image_io.GetOrigin(i) for i in range(3)])


def itk_reason(error: BaseException) -> str:
    """The last plain line of an ITK exception, without source files, addresses and folders."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    text = text.split("): ")[-1].removeprefix("ITK ERROR: ")
    return " ".join(word.rsplit("/", 1)[-1] if "/" in word else word for word in text.split())
