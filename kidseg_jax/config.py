"""Every setting of a run, its unit and its default: frozen records, and the presets `demo`, `paper` and `gpu`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CohortConfig:
    """The embedded phantom cohort, made when no data folder is given."""

    patients: int = 36
    """Number of patients."""
    kidneys: int = 50
    """Number of kidneys; patients above kidneys/2 have one."""
    rcc_kidneys: int = 30
    """Number of kidneys with a renal cell carcinoma."""
    hardness: float = 1.0
    """Scale of everything that makes phantoms differ: contrast phase, noise, pose, shape (1 = the demo's)."""


@dataclass(frozen=True)
class AnnotatorConfig:
    """The simulated annotator; every label and minute that comes from it is called simulated."""

    tolerance_mm: float = 1.5
    """Boundary errors up to this distance are not seen and stay, in mm."""
    smallest_ml: float = 0.02
    """Separate errors below this volume are not seen and stay, in ml."""


