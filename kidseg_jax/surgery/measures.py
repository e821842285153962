"""What is said of a kidney, its tumours and its arteries: numbers, or why there is none."""

from dataclasses import dataclass

from kidseg_jax.surgery.scores import NOT_DETERMINABLE, Score

MARGIN_MM = 5.0
Answer = float | str
"""A number, or why there is none: a text that begins with NOT_DETERMINABLE."""


@dataclass(frozen=True)
class TumourMeasures:
    """One tumour: volume, diameters, distances in mm from surface to surface, 0 where two touch.

    exophytic_percent: share of its volume outside the capsule as it would run without it; protrudes_mm: how
    far it reaches out. contact_mm2: area on which it meets parenchyma. kept_ml, kept_percent: parenchyma
    that lies more than margin_mm from it.
    """

    number: int
    volume_ml: float
    longest_mm: Answer
    orthogonal_mm: Answer
    third_mm: Answer
    exophytic_percent: Answer
    protrudes_mm: Answer
    to_artery_mm: Answer
    to_vein_mm: Answer
    to_ureter_mm: Answer
    to_sinus_mm: Answer
    contact_mm2: Answer
    margin_mm: float
    kept_ml: Answer
    kept_percent: Answer
    centre_mm: tuple[float, float, float]
    renal: Score
    padua: Score


@dataclass(frozen=True)
class BranchMeasures:
    """A branch of an artery. parent: the number of the branch that it leaves, None for a trunk.

    nearest_percent: share of the parenchyma that lies nearest to its ends, its own or those of what leaves
    it.
    """

    number: int
    parent: int | None
    length_mm: float
    radius_mm: float
    ends: bool
    nearest_percent: float
    nearest_ml: float


@dataclass(frozen=True)
class KidneyMeasures:
    """All numbers of one kidney. cut_by: faces of the image that cut it off: its volumes are lower bounds.

    arteries: pieces of the artery's label, each with a trunk; arteries_entering: how often they pass the
    capsule, more than once for one that divides before it.
    """

    case: str
    side: str
    cut_by: tuple[str, ...]
    volumes_ml: dict[str, Answer]
    length_mm: Answer
    sinus_ml: Answer
    arteries: int | str
    arteries_entering: int | str
    tumours: tuple[TumourMeasures, ...]
    branches: tuple[BranchMeasures, ...]
    notes: tuple[str, ...]


def undetermined(why: str) -> str:
    """What is said where there is no number."""
    return f"{NOT_DETERMINABLE}: {why}"


def answer(value: float | None, why: str | None = None, scale: float = 1) -> Answer:
    """A number to two decimals, or why there is none."""
    return undetermined(why or "the labels do not tell") if value is None else round(scale * value, 2)
