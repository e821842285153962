"""Other people's label values: which number means which structure, by the name of a convention or a small
TOML file.
"""

import json
import logging
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kidseg_jax.formats.dicom_regions import read_regions, region_kind
from kidseg_jax.formats.raw import require_plain
from kidseg_jax.formats.seg_nrrd import read_segmentation
from kidseg_jax.formats.volumes import ending_of, read_labels
from kidseg_jax.imaging.structures import (
    ARTERY,
    N_CLASSES,
    NAMES,
    PARENCHYMA,
    RCC,
    STRUCTURES,
    URETER,
    VEIN,
    count_values,
    replace_values,
    structure_named,
)
from kidseg_jax.imaging.volume import Geometry, Labels, Volume

KITS = {1: "parenchyma", 2: "rcc", 3: "parenchyma"}  # 3: cyst, since KiTS21
PAINTED = (PARENCHYMA, RCC, URETER, VEIN, ARTERY)
"""Regions in the order in which they are laid into a label map: many draw a kidney with what is inside it."""
LONGEST_TEXT = 16 << 20
logger = logging.getLogger(__name__)
CONVENTIONS: dict[str, dict[int, str]] = {
    "kidseg": {structure.label: structure.name for structure in STRUCTURES},
    "kits19": {value: KITS[value] for value in (1, 2)},
    "kits21": KITS,
    "kits23": KITS,
    "kipa22": {1: "vein", 2: "parenchyma", 3: "artery", 4: "rcc"},
    "cect": {1: "artery", 2: "vein", 3: "ureter", 4: "parenchyma", 5: "rcc", 6: "parenchyma"},  # 4: cyst
}


class LabelMap(NamedTuple):
    """Structure label of each stored value, and of regions with names of their own; values in none of them
    are an error, not background.
    """

    name: str
    values: Mapping[int, int]
    segments: Mapping[str, int] = {}

    @property
    def structures(self) -> frozenset[str]:
        """The structures that this convention tells from background."""
        return frozenset(
            NAMES[label - 1] for label in (*self.values.values(), *self.segments.values()) if label
        )

    def of_region(self, where: str, name: str) -> int:
        """The label of a region by its name: what this map says, else the structure that has this name.

        Raises ValueError for a name that has no meaning here.
        """
        if name in self.segments:
            return self.segments[name]
        structure = structure_named(name)
        if structure is None:
            raise ValueError(
                f"{where}: need regions named {', '.join(NAMES)}, got {name[:80]!r}: say what it is in a "
                '.toml label map, under [segments], such as "NAME" = "background"'
            )
        return structure.label

    def apply(self, where: str, stored: Labels) -> Labels:
        """Stored values (uint8) in the values of `structures`. Raises ValueError for a value that has no
        meaning here.
        """
        table = np.full(256, 255, np.uint8)
        table[0] = 0
        for value, label in self.values.items():
            table[value] = label
        used = np.flatnonzero(count_values(stored))
        unknown = [int(value) for value in used if table[value] == 255]
        if unknown:
            known = ", ".join(str(value) for value in sorted(self.values))
            raise ValueError(f"{where}: label map {self.name!r} knows the values {known}, got {unknown}")
        if all(table[value] == value for value in used):
            return stored
        return replace_values(stored, table)


def label_map(name: str, place: Path | None = None) -> LabelMap:
    """The label map of a convention by name, of a .toml file, or `auto`: what `place` says itself.

    `auto` takes the names in the dataset.json of a folder of cases, or those of the segments of a .seg.nrrd
    file.

    A TOML file has a table `[labels]` of `VALUE = "structure"`, where "background" means that a value is none
    of the five, and may have a table `[segments]` of `"NAME" = "structure"` for regions of DICOM SEG and
    RTSTRUCT. Raises ValueError for an unknown name or structure, FileNotFoundError for a file that is not
    there.
    """
    if name in CONVENTIONS:
        return _named(name, CONVENTIONS[name])
    if name.endswith(".toml"):
        table = read_toml(Path(name))
        return _named(Path(name).name, table.get("labels", {}), table.get("segments", {}))
    if name == "auto":
        if place is not None and place.name.lower().endswith(".seg.nrrd"):
            return _named("auto", {segment.label: segment.name for segment in read_segmentation(place)[2]})
        if place is None or not (place / "dataset.json").exists():
            raise ValueError("label map 'auto': needs a dataset.json in the folder of cases, there is none")
        return _named("auto", _of_dataset(read_json(place / "dataset.json")))
    raise ValueError(f"label map {name!r}: need auto, {', '.join(CONVENTIONS)} or a .toml file")


def read_structures(path: Path, labels: LabelMap, grid: Geometry | None = None) -> Volume:
    """A label map in the values of `structures`, uint8 (z, y, x).

    Under the convention `kidseg` a .seg.nrrd that names its segments is read by those names, whatever their
    values; DICOM SEG and RTSTRUCT always are, on `grid`, that of the CT that they were drawn on. Every other
    file is read by value. Raises ValueError for a value or name that has no meaning here.
    """
    if not ending_of(path) and region_kind(path):
        if grid is None:
            raise ValueError(f"{path.name}: a DICOM SEG or RTSTRUCT needs the CT that it was drawn on")
        return _painted(path, labels, grid)
    if labels.name == "kidseg" and path.name.lower().endswith(".seg.nrrd"):
        array, stored_grid, segments = read_segmentation(path)
        if names := {segment.label: segment.name for segment in segments if segment.name}:
            return Volume(renamed(path.name, array, names), stored_grid.geometry)
    stored = read_labels(path)
    return stored.with_array(labels.apply(path.name, stored.array))


def _painted(path: Path, labels: LabelMap, grid: Geometry) -> Volume:
    """The regions of a DICOM SEG or RTSTRUCT as one label map; where two overlap, the later of `PAINTED`."""
    regions = read_regions(path, grid)
    for note in regions.notes:
        logger.warning("%s: %s", path.name, note)
    meant = [labels.of_region(path.name, name) for name in regions.names]
    array = np.zeros(grid.shape, np.uint8)
    for label in PAINTED:
        for number in (i for i, other in enumerate(meant) if other == label):
            mask = regions.mask(number)
            covered = int(np.count_nonzero(mask & (array != 0) & (array != label)))
            if covered:
                over = f"{NAMES[label - 1]} is laid over {covered} voxels of other regions"
                logger.warning("%s: %s", path.name, over)
            array[mask] = label
    return Volume(array, grid)


def renamed(where: str, labels: Labels, names: Mapping[int, str] | None) -> Labels:
    """Labels with every value replaced by that of the structure it is named after; ValueError for others."""
    present = np.flatnonzero(count_values(labels))
    table = np.zeros(256, np.uint8)
    for value in present[present > 0].tolist():
        if names is None:
            label = value if value < N_CLASSES else None
        else:
            structure = structure_named(names.get(value, ""))
            label = structure.label if structure else None
        if label is None:
            name = f"named {names.get(value)!r}" if names and value in names else "without a name"
            raise ValueError(f"{where}: need {', '.join(NAMES)}, got label {value} {name}")
        table[value] = label
    return replace_values(labels, table)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested dicts; ValueError with its name where it is not TOML, or too long."""
    return _read(path, "TOML", tomllib.loads)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; ValueError with its name where it does not, or is too long."""
    return _read(path, "JSON", json.loads)


def _read(path: Path, kind: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    require_plain(path)
    with open(path, "rb") as stream:
        content = stream.read(LONGEST_TEXT + 1)
    try:
        if len(content) > LONGEST_TEXT:
            raise ValueError(f"need at most {LONGEST_TEXT} bytes")
        held = parse(content.decode("utf-8"))
        if not isinstance(held, dict):
            raise ValueError(f"need an object, got {type(held).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: not a {kind} file: {error}") from error
    return held


def _of_dataset(dataset: dict) -> dict:
    """Value to name of a dataset.json: nnU-Net writes name to value, the Medical Segmentation Decathlon value
    to name.
    """
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise ValueError("dataset.json: need an object of labels")
    if all(str(key).isdigit() for key in labels):
        return labels
    if any(isinstance(value, list) for value in labels.values()):
        raise ValueError("dataset.json: labels are regions of several values; name a .toml label map")
    return {value: name for name, value in labels.items()}


def _named(where: str, meanings: Any, regions: Any = None) -> LabelMap:
    values = {}
    if not isinstance(regions or {}, Mapping):
        raise ValueError(f"label map {where!r}: [segments] must be a table, got {str(regions)[:80]!r}")
    segments = {name: _meaning(where, meaning) for name, meaning in (regions or {}).items()}
    if not isinstance(meanings, Mapping):
        raise ValueError(f"label map {where!r}: need a table of values and names, got {str(meanings)[:80]!r}")
    for key, meaning in meanings.items():
        if not str(key).isdecimal() or len(str(key)) > 3 or not 0 <= int(key) <= 255:
            raise ValueError(
                f"label map {where!r}: values must be whole numbers of 0 to 255, got {str(key)[:80]!r}"
            )
        values[int(key)] = _meaning(where, meaning)
    if values.pop(0, 0) != 0:
        raise ValueError(f"label map {where!r}: 0 must be background")
    found = LabelMap(where, values, segments)
    if "parenchyma" not in found.structures:
        raise ValueError(f"label map {where!r}: no value means parenchyma, so no kidney can be told")
    return found


def _meaning(where: str, meaning: Any) -> int:
    structure = structure_named(str(meaning))
    if structure is None and meaning != "background":
        raise ValueError(
            f"label map {where!r}: {str(meaning)[:80]!r} is none of {', '.join(NAMES)}, background: "
            "use a TOML"
        )
    return structure.label if structure else 0
