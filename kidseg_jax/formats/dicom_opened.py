"""Some elements of a DICOM file at a time, and the regions that are made of them; needs the extra `dicom`."""

import importlib.util
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kidseg_jax.imaging.volume import Mask


class Refused(Exception):
    """What is wrong with a file, in words that may be shown."""


class Regions(NamedTuple):
    """The named regions of a file, and how each lies in a grid: `mask(number)` is bool (z, y, x), new each
    time. notes: one line for each thing that was left out or taken in another way.
    """

    names: tuple[str, ...]
    mask: Callable[[int], Mask]
    notes: tuple[str, ...] = ()


@contextmanager
def opened(path: Path, tags: list[str]) -> Iterator[Any]:
    """Some elements of a DICOM file; what breaks while they are read becomes one line that repeats none."""
    if importlib.util.find_spec("pydicom") is None:
        need = "DICOM SEG and RTSTRUCT need the extra `dicom`: pip install 'kidseg_jax[dicom]'"
        raise ValueError(f"{path.name}: {need}")
    import pydicom
    from pydicom.config import disable_value_validation

    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pydicom.dcmread(path, specific_tags=tags, force=True)
    except Refused as problem:
        raise ValueError(f"{path.name}: {problem}") from None
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    ) as problem:
        raise ValueError(
            f"{path.name}: not a whole DICOM SEG or RTSTRUCT: {type(problem).__name__}"
        ) from None
