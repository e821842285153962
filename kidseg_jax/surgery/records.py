"""A kidney's numbers as JSON and as rows of CSV, each with its unit and the rule that it follows."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from kidseg_jax.csv_text import csv_text
from kidseg_jax.surgery.measures import KidneyMeasures, TumourMeasures
from kidseg_jax.surgery.scores import Score

CAUTION = "Not a medical device. Geometry of labels, for research; no basis of a decision about a patient."
COLUMNS = ("case", "side", "of", "name", "value", "unit", "rule")
APART = "surface to surface, 0 where they touch"
KEPT = "farther than the margin from the tumour's surface"
SINUS = "the cavity wider than 4 mm between parenchyma and the capsule, with what runs in it"
TUMOUR = {
    "volume_ml": ("volume", "ml", "voxels"),
    "longest_mm": ("longest diameter", "mm", "largest distance on its smooth surface, in any direction"),
    "orthogonal_mm": ("orthogonal diameter", "mm", "largest extent across the longest diameter"),
    "third_mm": ("third diameter", "mm", "extent across both"),
    "exophytic_percent": (
        "exophytic share",
        "%",
        "volume outside the capsule as it would run without the tumour: an ellipsoid fitted to the tissue "
        "seen outermost, and what that differs from it, interpolated",
    ),
    "protrudes_mm": ("protrusion", "mm", "farthest beyond that capsule, along a ray from its centre"),
    "to_artery_mm": ("distance to artery", "mm", APART),
    "to_vein_mm": ("distance to vein", "mm", APART),
    "to_ureter_mm": ("distance to ureter and pelvis", "mm", APART),
    "to_sinus_mm": ("distance to sinus", "mm", f"{APART}; sinus: {SINUS}"),
    "contact_mm2": (
        "contact surface area",
        "mm2",
        "of tumour and parenchyma (the notion of Leslie et al. 2014), by the faces that their voxels share",
    ),
    "kept_ml": ("parenchyma kept", "ml", KEPT),
    "kept_percent": ("parenchyma kept", "%", KEPT),
}
"""Field, what it is called, its unit and its rule."""


def to_json(kidneys: Iterable[KidneyMeasures]) -> str:
    """All kidneys of a case as JSON text."""
    data = {"caution": CAUTION, "kidneys": [asdict(kidney) for kidney in kidneys]}
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def to_csv(kidneys: Iterable[KidneyMeasures]) -> str:
    """One line a number: case, side, of what, name, value, unit, rule; the caution last."""
    rows = [row for kidney in kidneys for row in kidney_rows(kidney)]
    return csv_text([COLUMNS, *rows, (*rows[0][:2], "", "caution", CAUTION, "", "")] if rows else [COLUMNS])


def kidney_rows(kidney: KidneyMeasures) -> Iterator[tuple[Any, ...]]:
    """The rows of one kidney."""
    of = (kidney.case, kidney.side)
    for name, ml in kidney.volumes_ml.items():
        yield *of, "kidney", f"volume of {name}", ml, "ml", "voxels"
    yield *of, "kidney", "length", kidney.length_mm, "mm", "extent along the kidney's long axis"
    yield *of, "kidney", "volume of sinus", kidney.sinus_ml, "ml", SINUS
    yield *of, "kidney", "arteries", kidney.arteries, "", "pieces of the artery's label, each with a trunk"
    rule = "pieces of artery that pass the capsule from outside, more than one where one divides before it"
    yield *of, "kidney", "arteries that enter", kidney.arteries_entering, "", rule
    faces = ", ".join(kidney.cut_by) or "no"
    yield *of, "kidney", "cut off by the image", faces, "", "parenchyma or RCC at a face"
    for tumour in kidney.tumours:
        name = f"tumour {tumour.number}"
        for what, value, unit, rule in tumour_numbers(tumour):
            yield *of, name, what, value, unit, rule
        for score in (tumour.renal, tumour.padua):
            for part in score.components:
                value = part.value if part.points is None else f"{part.points} ({part.value})"
                yield *of, name, f"{score.name} {part.name}", value, "points", part.rule
            total = said_total(score)
            yield *of, name, f"{score.name} total", total, "points", "sum of its components' points"
    rule = "geometric: parenchyma nearest to the middle line of its ends, not what it feeds"
    for branch in kidney.branches:
        name, parent = f"arterial branch {branch.number}", branch.parent
        yield *of, name, "leaves", "trunk" if parent is None else f"branch {parent}", "", ""
        yield *of, name, "length", branch.length_mm, "mm", "along its middle line"
        yield *of, name, "radius", branch.radius_mm, "mm", "of a tube of its volume, median"
        yield *of, name, "nearest parenchyma", branch.nearest_percent, "%", rule
        yield *of, name, "nearest parenchyma", branch.nearest_ml, "ml", rule
    for note in kidney.notes:
        yield *of, "kidney", "note", note, "", ""


def tumour_numbers(tumour: TumourMeasures) -> Iterator[tuple[str, Any, str, str]]:
    """What each number of a tumour is called, the number, its unit and its rule."""
    for field, (what, unit, rule) in TUMOUR.items():
        margin = f" at a margin of {tumour.margin_mm:g} mm" if field.startswith("kept") else ""
        yield what + margin, getattr(tumour, field), unit, rule


def said_total(score: Score) -> str:
    """A total with its level; the range it lies in where a component is not determinable."""
    if isinstance(score.total, int):
        return f"{score.total} ({score.level})"
    return f"{score.total}: between {score.lowest} and {score.highest}"
