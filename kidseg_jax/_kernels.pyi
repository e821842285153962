from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Int64 = npt.NDArray[np.int64]
_Float64 = npt.NDArray[np.float64]
_Index3 = tuple[int, int, int]

class Definition(Enum):
    border = ...
    surfel = ...
    triangle = ...

class Components:
    def __len__(self) -> int: ...
    def write(self, out: _Array) -> None: ...
    def labels(self) -> _Array: ...
    def stats(self) -> tuple[_Int64, _Int64, _Int64, _Int64]: ...

def find_components(labels: _Array, connectivity: int, foreground: bool, threads: int) -> Components: ...
def keep(
    labels: _Array, out: _Array, k: int, min_voxels: int, connectivity: int, foreground: bool, threads: int
) -> None: ...
def fill_holes(labels: _Array, out: _Array, flat: bool, threads: int) -> None: ...
def bounding_box(mask: _Array) -> tuple[list[int], list[int]] | None: ...
def crop(
    volume: _Array, corners: Sequence[_Index3], rois: Sequence[_Array], fill: _Array, threads: int
) -> None: ...
def paste(volume: _Array, corner: _Index3, roi: _Array) -> None: ...
def surface_distances(
    a: _Array, b: _Array, spacing_mm: Sequence[float], definition: Definition, threads: int
) -> tuple[_Float64, _Float64, _Float64, _Float64]: ...
def surface_points(mask: _Array, n: int, seed: int, spacing_mm: Sequence[float]) -> _Float64: ...

class _Resample(Protocol):
    def __call__(
        self, volume: _Array, coordinates: Sequence[_Float64], widths: Sequence[float], threads: int
    ) -> npt.NDArray[np.float32]: ...

class _ResampleAffine(Protocol):
    def __call__(
        self,
        volume: _Array,
        matrix: Sequence[Sequence[float]],
        offset: Sequence[float],
        nearest: bool,
        fill: float,
        to: _Array,
        threads: int,
    ) -> None: ...

resample_int16: _Resample
resample_float32: _Resample
resample_affine_uint8: _ResampleAffine
resample_affine_int16: _ResampleAffine
resample_affine_float32: _ResampleAffine

def argmax_resample(
    scores: _Array, coordinates: Sequence[_Float64], threads: int
) -> npt.NDArray[np.uint8]: ...
