"""The five structures: label values, names, colours and codes, said once."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BLOCK = 1 << 18  # voxels looked at together


class Structure(NamedTuple):
    """One labelled structure: value in a label map, name, colour (r, g, b) in 0..255, SNOMED CT code and
    meaning.
    """

    label: int
    name: str
    rgb: tuple[int, int, int]
    sct_code: str
    sct_meaning: str


STRUCTURES = (
    Structure(1, "artery", (216, 101, 79), "2841007", "Renal artery"),
    Structure(2, "vein", (0, 151, 206), "56400007", "Renal vein"),
    Structure(3, "ureter", (244, 214, 49), "87953007", "Ureter"),
    Structure(4, "parenchyma", (185, 102, 83), "64033007", "Kidney"),
    Structure(5, "rcc", (144, 238, 144), "4147007", "Mass"),
)
NAMES = tuple(structure.name for structure in STRUCTURES)
N_CLASSES = len(STRUCTURES) + 1  # with background
BACKGROUND, ARTERY, VEIN, URETER, PARENCHYMA, RCC = range(N_CLASSES)

CATEGORIES = {  # SNOMED CT code and meaning of the kind of thing each structure is
    **dict.fromkeys(NAMES[:4], ("123037004", "Anatomical Structure")),
    "rcc": ("49755003", "Morphologically Altered Structure"),
}
SYNONYMS = {
    "artery": ("renal artery", "arteries", "renal arteries", "artery of kidney"),
    "vein": ("renal vein", "veins", "renal veins", "vein of kidney"),
    "ureter": ("ureters",),
    "parenchyma": (
        "kidney",
        "kidneys",
        "renal parenchyma",
        "kidney parenchyma",
        "cyst",
        "renal cyst",
        "cysts",
    ),
    "rcc": (
        "tumor",
        "tumour",
        "mass",
        "masses",
        "renal tumor",
        "renal tumour",
        "kidney tumor",
        "kidney tumour",
        "lesion",
    ),
}
_NAMED = {
    other: structure for structure in STRUCTURES for other in (structure.name, *SYNONYMS[structure.name])
}


def structure_named(name: str) -> Structure | None:
    """The structure that another tool's label name means, or None; case, `_`, `-` and sides do not matter.

    Cysts belong to the parenchyma: the five structures have no class for them, and background they are not.
    """
    words = name.lower().replace("_", " ").replace("-", " ").split()
    return _NAMED.get(" ".join(word for word in words if word not in ("left", "right", "l", "r")))


def structures_in(labels: npt.NDArray[np.uint8]) -> frozenset[str]:
    """Names of the structures that a label map (z, y, x) holds."""
    counts = count_values(labels)
    return frozenset(structure.name for structure in STRUCTURES if counts[structure.label])


def unlabelled_classes(labelled: Collection[str]) -> frozenset[int]:
    """Classes that a label map does not tell from background, of one that tells the structures named."""
    return frozenset(structure.label for structure in STRUCTURES if structure.name not in labelled)


def count_values(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """How many voxels hold each value, (256,), a block at a time: NumPy takes 8 bytes for each it counts."""
    counts = np.zeros(256, np.int64)
    for block in _blocks(labels):
        counts += np.bincount(block, minlength=256)
    return counts


def replace_values(labels: npt.NDArray[np.uint8], table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Labels with each value replaced by what stands at its place in `table` (256,), a block at a time."""
    replaced = np.empty(labels.shape, np.uint8)
    for block, target in zip(_blocks(labels), _blocks(replaced), strict=True):
        target[:] = table[block]
    return replaced


def _blocks(labels: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    flat = labels.reshape(-1)
    return (flat[at : at + BLOCK] for at in range(0, len(flat), BLOCK))
