"""What a model was trained on, kept in its file, and what must be said of it before its labels are used."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainedOn:
    """Where the CTs of a model came from, and who corrected labels for it."""

    cases: Literal["phantoms", "given cases"]
    corrections: Literal["none", "simulated", "human"]


def caution(model: object, trained_on: TrainedOn | None) -> str | None:
    """One line about a model of phantoms, or of an origin that its file does not say; None for others."""
    if trained_on is None:
        return f"{model}: does not say what it was trained on"
    if trained_on.cases == "phantoms":
        return f"{model}: was trained on phantoms only and is not for patients"
    return None
