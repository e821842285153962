"""Cases and kidneys: who was scanned, and which kidneys count."""

from dataclasses import dataclass
from typing import Literal

from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.imaging.volume import Shape, Volume

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Case:
    """One CT of one patient, with its label map on the same grid where there is one.

    structures: the structures that its labels tell from background; others are unknown, not absent.
    """

    name: str
    patient: str
    ct: Volume
    labels: Volume | None = None
    structures: frozenset[str] = frozenset(NAMES)


@dataclass(frozen=True)
class Kidney:
    """The unit that is counted: one kidney of a case.

    lo, hi: tight box in canonical voxels, half open (z, y, x), of all that is labelled as this kidney's.
    """

    case: str
    patient: str
    side: Side
    lo: Shape
    hi: Shape
    has_rcc: bool

    @property
    def name(self) -> str:
        return f"{self.case}_{self.side}"
