"""Are the numbers of `measure` right? Kidneys of formulas, on which every one is known without voxels.

    python benchmarks/surgical.py [--n 50] [--first-seed 1000] [--thick]

Distances from tumours to sinus, artery, vein and ureter, diameters, contact area, volume kept, the
components of both scores where the truth is defined (no measured size within its grain of a threshold, see
`truth_of`), the arteries that enter, and the territories against the nearest true middle line of every
voxel. Prints the worst of each; rows go to benchmarks/results/surgical.csv. --thick takes slices of 2 to 3
mm, beyond what is claimed.
"""

import time
from typing import Any

import numpy as np
import tyro
from rows import about, append_rows, say
from scipy.spatial import KDTree
from surgical_phantoms import Ellipsoid, Phantom, make_phantom

from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.surgery.kidney import Drawn, measure_kidney
from kidseg_jax.surgery.measures import KidneyMeasures, TumourMeasures
from kidseg_jax.surgery.scores import Score
from kidseg_jax.surgery.view import PAD

SHARE_GRAIN = 0.03  # shares so near to a half, and
GAP_GRAIN_MM = 0.5  # gaps so near to 4 or 7 mm, have no defined points
MARGIN_MM = 5.0
TIE_MM = 0.05
COMPONENTS = (
    "R",
    "E",
    "N",
    "A",
    "L",
    "longitudinal location",
    "renal rim",
    "renal sinus",
    "collecting system",
)


def truth_of(phantom: Phantom, tumour: Ellipsoid, rng: np.random.Generator) -> dict[str, Any]:
    """Every number of one tumour; a score's component is None where it is not defined by more than the
    grain.
    """
    surface, area = tumour.surface
    body = tumour.inside(rng)
    kidney = phantom.kidney
    outside = float((kidney.level(body) > 1).mean())
    overlaps = (phantom.sinus.level(surface) < 1) & (kidney.level(surface) < 1)
    to_sinus = 0.0 if overlaps.any() else float(KDTree(phantom.sinus_wall).query(surface)[0].min())
    bare = surface[kidney.level(surface) > 1]
    protrudes = float(KDTree(kidney.surface[0]).query(bare)[0].max()) if len(bare) else 0.0
    half = np.sort(tumour.half)[::-1]
    gaps = {name: phantom.gap(name, surface) for name in ("artery", "vein", "ureter")}
    tissue = kidney.inside(rng)
    tissue = tissue[phantom.in_parenchyma(tissue) & (tumour.level(tissue) > 1)]
    kept = 100 * float((KDTree(surface).query(tissue)[0] > MARGIN_MM).mean())
    grain = max(phantom.spacing)
    edge = max(0.75, 0.5 * grain)
    endophytic = True if protrudes < 0.3 * edge else False if protrudes > 2.0 * edge else None
    size = 2 * half[0]
    nearest = min(to_sinus, gaps["ureter"])
    return {
        "longest_mm": size,
        "orthogonal_mm": 2 * half[1],
        "third_mm": 2 * half[2],
        "exophytic_percent": 100 * outside,
        "to_sinus_mm": to_sinus,
        **{f"to_{name}_mm": gap for name, gap in gaps.items()},
        "contact_mm2": float(area[phantom.in_parenchyma(surface)].sum()),
        "kept_percent": kept,
        "R": None if min(abs(size - 40), abs(size - 70)) < grain else _steps(size, 40, 70),
        "E": None
        if endophytic is None or abs(outside - 0.5) < SHARE_GRAIN
        else _exophytic(outside, endophytic),
        "N": None if min(abs(nearest - 4), abs(nearest - 7)) < GAP_GRAIN_MM else _near(nearest),
        "L": _polar(phantom, body, surface, grain),
        "A": _face(phantom, body),
        "longitudinal location": _pole(phantom, body),
        "renal rim": _rim(phantom, body),
        "renal sinus": 2 if _deep(phantom, surface) > grain else 1 if to_sinus > grain else None,
        "collecting system": 1 if gaps["ureter"] > grain else None,
    }


def _steps(mm: float, small: float, large: float) -> int:
    return 1 if mm <= small else 2 if mm < large else 3


def _near(mm: float) -> int:
    return 1 if mm >= 7 else 2 if mm > 4 else 3


def _exophytic(outside: float, endophytic: bool) -> int:
    return 3 if endophytic else 1 if outside >= 0.5 else 2


def _deep(phantom: Phantom, surface: np.ndarray) -> float:
    """How deep in mm a tumour reaches into the sinus."""
    inner = surface[(phantom.sinus.level(surface) < 1) & (phantom.kidney.level(surface) < 1)]
    return float(KDTree(phantom.sinus_wall).query(inner)[0].max()) if len(inner) else 0.0


def _along(phantom: Phantom, points: np.ndarray) -> np.ndarray:
    way = phantom.kidney.axes[0]
    return (points - phantom.kidney.centre) @ (way * np.sign(way[0]))


def _polar(phantom: Phantom, body: np.ndarray, surface: np.ndarray, grain: float) -> int | None:
    """L of R.E.N.A.L., None where an end of the tumour lies within a grain of a line."""
    opening = _along(phantom, phantom.opening)
    lines = float(opening.min()), float(opening.max())
    low, high = float(_along(phantom, surface).min()), float(_along(phantom, surface).max())
    if min(abs(end - line) for end in (low, high) for line in (*lines, 0.0)) < 2 * grain:
        return None
    at = _along(phantom, body)
    between = float(((at > lines[0]) & (at < lines[1])).mean())
    if abs(between - 0.5) < 2 * SHARE_GRAIN and not low < 0 < high:
        return None
    if between > 0.5 or low < 0 < high:
        return 3
    return 2 if any(low < line < high for line in lines) else 1


def _pole(phantom: Phantom, body: np.ndarray) -> int | None:
    ends = _along(phantom, phantom.sinus_wall)
    at = _along(phantom, body)
    between = float(((at > ends.min()) & (at < ends.max())).mean())
    return None if abs(between - 0.5) < 2 * SHARE_GRAIN else 2 if between > 0.5 else 1


def _rim(phantom: Phantom, body: np.ndarray) -> int | None:
    share = float(((body - phantom.kidney.centre) @ phantom.kidney.axes[2] > 0).mean())
    return None if abs(share - 0.5) < 2 * SHARE_GRAIN else 2 if share > 0.5 else 1


def _face(phantom: Phantom, body: np.ndarray) -> str | None:
    front = float(((body - phantom.kidney.centre) @ phantom.kidney.axes[1] > 0).mean())
    if min(abs(front - 2 / 3), abs(front - 1 / 3)) < 2 * SHARE_GRAIN:
        return None
    return "anterior" if front > 2 / 3 else "posterior" if front < 1 / 3 else "neither"


def points_of(score: Score) -> dict[str, Any]:
    """What each component says, the face by its word."""
    return {c.name: c.value if c.name == "A" else c.points for c in score.components}


def territories_dsc(phantom: Phantom, measured: KidneyMeasures, drawn: Drawn) -> list[float]:
    """DSC of every true end branch's territory, by brute force, with the found one that overlaps it most.

    Voxels that lie as near to two branches, because both leave the place that is nearest, belong to
    neither. Two true branches that are found as one have a DSC of 0.
    """
    step = np.asarray(phantom.spacing)
    inside = tuple(slice(PAD, -PAD) for _ in range(3))
    voxels = np.argwhere(phantom.labels == PARENCHYMA)
    own = drawn.territories[inside][tuple(voxels.T)].astype(int) - 1
    ends = [t for t in phantom.artery if t.ends]
    gaps = np.stack([KDTree(t.line).query(voxels * step)[0] for t in ends])
    true = gaps.argmin(axis=0)
    near = np.sort(gaps, axis=0)[:2]
    told = near[-1] - near[0] > TIE_MM if len(ends) > 1 else np.ones(len(voxels), bool)
    true, own = true[told], own[told]
    both = np.zeros((len(ends), max(int(own.max()) + 1, 1)))
    np.add.at(both, (true, own.clip(0)), 1)
    sums = both.sum(1)[:, None] + both.sum(0)[None]
    dsc = 2 * both / np.maximum(sums, 1)
    return [float(row.max()) if list(dsc.argmax(1)).count(row.argmax()) == 1 else 0.0 for row in dsc]


def check(phantom: Phantom, seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row a tumour, errors of every number; and one of the kidney."""
    begin = time.perf_counter()
    measured, drawn = measure_kidney(phantom.labels, phantom.spacing, margin_mm=MARGIN_MM)
    seconds = time.perf_counter() - begin
    rng = np.random.default_rng(seed)
    rows = []
    for true_body in phantom.tumours:
        found = min(
            measured.tumours,
            key=lambda t, b=true_body: float(np.linalg.norm(np.subtract(t.centre_mm, b.centre))),
        )
        rows.append({"seed": seed, **_errors(truth_of(phantom, true_body, rng), found)})
    dsc = territories_dsc(phantom, measured, drawn)
    kidney = {
        "seed": seed,
        "seconds": seconds,
        "arteries": phantom.arteries,
        "entering": measured.arteries_entering,
        "ends": sum(t.ends for t in phantom.artery),
        "ends_found": sum(b.ends for b in measured.branches),
        "worst_dsc": min(dsc),
    }
    return rows, kidney


def _errors(truth: dict[str, Any], found: TumourMeasures) -> dict[str, Any]:
    """Found minus true (contact in percent of it); for components "ok", "wrong" or nothing."""
    row: dict[str, Any] = {}
    said = {**points_of(found.renal), **points_of(found.padua)}
    for name, true in truth.items():
        if name.endswith(("_mm", "_mm2", "_percent")):
            value = getattr(found, name)
            error = float(value) - true if isinstance(value, float | int) else float("nan")
            row[name] = 100 * error / true if name == "contact_mm2" and true > 20 else error
            row[f"true_{name}"] = true
        else:
            row[name] = (
                ""
                if true is None
                else "ok"
                if said.get(name) == true
                else f"wrong: {said.get(name)} for {true}"
            )
    return row


def main(n: int = 50, first_seed: int = 1000, thick: bool = False) -> None:
    tumours, kidneys = [], []
    for seed in range(first_seed, first_seed + n):
        rng = np.random.default_rng(seed + 7)
        plane = float(rng.uniform(0.65, 0.95))
        slices = float(rng.uniform(2.0, 3.0)) if thick else float(rng.uniform(0.7, 1.25))
        phantom = make_phantom(seed, (slices, plane, plane), 2 if seed % 5 == 0 else 1)
        rows, kidney = check(phantom, seed)
        for row in (*rows, kidney):
            row |= {"slices_mm": slices, "plane_mm": plane}
        tumours += rows
        kidneys.append(kidney)
        say({k: v for k, v in kidney.items() if k != "slices_mm"})
        for row in rows:
            say({k: v for k, v in row.items() if not k.startswith("true_") and v not in ("", "ok")})
    report(tumours, kidneys, thick, first_seed)


def report(
    tumours: list[dict[str, Any]], kidneys: list[dict[str, Any]], thick: bool, first_seed: int
) -> None:
    """Print the worst of each number and keep a row of it."""
    rows: list[dict[str, Any]] = []
    common = {**about(), "first_seed": first_seed, "slices": "2 to 3 mm" if thick else "0.7 to 1.25 mm"}

    def keep(what: str, count: int, typical: float, worst: float, unit: str, bound: str) -> None:
        rows.append(
            {
                **common,
                "what": what,
                "n": count,
                "median": typical,
                "worst": worst,
                "unit": unit,
                "bound": bound,
            }
        )
        say({k: v for k, v in rows[-1].items() if k not in common})

    for name in ("longest_mm", "orthogonal_mm", "third_mm"):
        voxels = np.abs([r[name] / max(r["slices_mm"], r["plane_mm"]) for r in tumours])
        keep(name, len(voxels), float(np.median(voxels)), float(voxels.max()), "voxels", "1")
    for name, bound in (
        ("to_sinus_mm", "0.5"),
        ("to_artery_mm", "1"),
        ("to_vein_mm", "1"),
        ("to_ureter_mm", "1"),
    ):
        errors = np.abs([r[name] for r in tumours])
        keep(name, len(errors), float(np.median(errors)), float(errors.max()), "mm", bound)
    area = np.abs([r["contact_mm2"] for r in tumours if r["true_contact_mm2"] > 20])
    keep("contact area", len(area), float(np.median(area)), float(area.max()), "%", "5")
    for name in ("exophytic_percent", "kept_percent"):
        errors = np.abs([r[name] for r in tumours])
        keep(name, len(errors), float(np.median(errors)), float(errors.max()), "points", "")
    for name in COMPONENTS:
        judged = [r[name] for r in tumours if r[name]]
        wrong = sum(word != "ok" for word in judged)
        keep(name, len(judged), 0.0, float(wrong), "wrong where defined", "0")
    dsc = np.array([k["worst_dsc"] for k in kidneys])
    keep(
        "territories, worst DSC of a kidney", len(dsc), float(np.median(dsc)), float(dsc.min()), "DSC", "0.8"
    )
    wrong = sum(k["arteries"] != k["entering"] for k in kidneys)
    keep("arteries that enter", len(kidneys), 0.0, float(wrong), "wrong", "0")
    seconds = [k["seconds"] for k in kidneys]
    keep("seconds a kidney", len(seconds), float(np.median(seconds)), max(seconds), "s, shared machine", "")
    append_rows("surgical", rows)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
