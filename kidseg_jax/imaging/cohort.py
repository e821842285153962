"""Cases and kidneys: who was scanned, and which kidneys count."""

from dataclasses import dataclass
from typing import Literal

from kidseg_jax.imaging.volume import Shape, Volume

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Case:
    """One CT of one patient, with its label map on the same grid where there is one."""

    name: str
    patient: str
    ct: Volume
    labels: Volume | None = None


@dataclass(frozen=True)
class Kidney:
    """The unit that is counted: one kidney of a case, with its tight box in canonical voxels, half open (z, y, x)."""

    case: str
    patient: str
    side: Side
    lo: Shape
    hi: Shape
    has_rcc: bool

    @property
    def name(self) -> str:
        return f"{self.case}_{self.side}"
