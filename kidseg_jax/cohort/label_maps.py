"""Other people's label values: which number means which structure, by the name of a convention or a small
TOML file.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kidseg_jax.formats.raw import require_plain
from kidseg_jax.formats.seg_nrrd import read_segmentation
from kidseg_jax.formats.volumes import read_labels
from kidseg_jax.imaging.structures import (
    N_CLASSES,
    NAMES,
    STRUCTURES,
    count_values,
    replace_values,
    structure_named,
)
from kidseg_jax.imaging.volume import Labels, Volume

KITS = {1: "parenchyma", 2: "rcc", 3: "parenchyma"}  # 3: cyst, since KiTS21
LONGEST_TEXT = 16 << 20
CONVENTIONS: dict[str, dict[int, str]] = {
    "kidseg": {structure.label: structure.name for structure in STRUCTURES},
    "kits19": {value: KITS[value] for value in (1, 2)},
    "kits21": KITS,
    "kits23": KITS,
    "kipa22": {1: "vein", 2: "parenchyma", 3: "artery", 4: "rcc"},
    "cect": {1: "artery", 2: "vein", 3: "ureter", 4: "parenchyma", 5: "rcc", 6: "parenchyma"},  # 4: cyst
}


class LabelMap(NamedTuple):
    """Structure label of each stored value; values in none of them are an error, not background."""

    name: str
    values: Mapping[int, int]

    @property
    def structures(self) -> frozenset[str]:
        """The structures that this convention tells from background."""
        return frozenset(NAMES[label - 1] for label in self.values.values() if label)

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
    of the five. Raises ValueError for an unknown name or structure, FileNotFoundError for a file that is not
    there.
    """
    if name in CONVENTIONS:
        return _named(name, CONVENTIONS[name])
    if name.endswith(".toml"):
        return _named(Path(name).name, read_toml(Path(name)).get("labels", {}))
    if name == "auto":
        if place is not None and place.name.lower().endswith(".seg.nrrd"):
            return _named("auto", {segment.label: segment.name for segment in read_segmentation(place)[2]})
        if place is None or not (place / "dataset.json").exists():
            raise ValueError("label map 'auto': needs a dataset.json in the folder of cases, there is none")
        return _named("auto", _of_dataset(read_json(place / "dataset.json")))
    raise ValueError(f"label map {name!r}: need auto, {', '.join(CONVENTIONS)} or a .toml file")


def read_structures(path: Path, labels: LabelMap) -> Volume:
    """A label map in the values of `structures`, uint8 (z, y, x).

    Under the convention `kidseg` a .seg.nrrd that names its segments is read by those names, whatever their
    values; every other file is read by value. Raises ValueError for a value that has no meaning here.
    """
    if labels.name == "kidseg" and path.name.lower().endswith(".seg.nrrd"):
        array, grid, segments = read_segmentation(path)
        if names := {segment.label: segment.name for segment in segments if segment.name}:
            return Volume(renamed(path.name, array, names), grid.geometry)
    stored = read_labels(path)
    return stored.with_array(labels.apply(path.name, stored.array))


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


def _named(where: str, meanings: Any) -> LabelMap:
    values = {}
    if not isinstance(meanings, Mapping):
        raise ValueError(f"label map {where!r}: need a table of values and names, got {str(meanings)[:80]!r}")
    for key, meaning in meanings.items():
        if not str(key).isdecimal() or len(str(key)) > 3 or not 0 <= int(key) <= 255:
            raise ValueError(
                f"label map {where!r}: values must be whole numbers of 0 to 255, got {str(key)[:80]!r}"
            )
        structure = structure_named(str(meaning))
        if structure is None and meaning != "background":
            raise ValueError(
                f"label map {where!r}: {str(meaning)[:80]!r} is none of {', '.join(NAMES)}, background: "
                "use a TOML"
            )
        values[int(key)] = structure.label if structure else 0
    if values.pop(0, 0) != 0:
        raise ValueError(f"label map {where!r}: 0 must be background")
    if "parenchyma" not in LabelMap(where, values).structures:
        raise ValueError(f"label map {where!r}: no value means parenchyma, so no kidney can be told")
    return LabelMap(where, values)
