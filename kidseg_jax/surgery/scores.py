"""R.E.N.A.L. and PADUA of one tumour: each component's points, what was measured, and the rule that it
follows.

Sources: Kutikov, Uzzo 2009, J Urol 182:844 (R.E.N.A.L.); Ficarra et al. 2009, Eur Urol 56:786 (PADUA). Where
the papers leave to the eye what a label map must be told, the rule says how it was decided here.
"""

from dataclasses import dataclass

NOT_DETERMINABLE = "not determinable"


@dataclass(frozen=True)
class Component:
    """One component of a score. points: None where the labels do not tell, or where it has none.

    value: what was seen, or why nothing was; it begins with NOT_DETERMINABLE then.
    """

    name: str
    points: int | None
    value: str
    rule: str


@dataclass(frozen=True)
class Score:
    """A score's components and total; total and level are NOT_DETERMINABLE where a component is.

    lowest, highest: what the total can be, whatever the components that are not determinable would be.
    """

    name: str
    components: tuple[Component, ...]
    total: int | str
    level: str
    lowest: int
    highest: int


@dataclass(frozen=True)
class Anatomy:
    """What the scores look at, of one tumour; None where the labels do not tell, `missing` says why.

    above, below: share of the tumour beyond the upper and lower line; crosses_middle: it reaches both sides
    of the kidney's middle. polar_*: R.E.N.A.L.'s lines, at the mouth of the sinus; sinus_*: PADUA's, at its
    ends.
    """

    longest_mm: float | None
    exophytic: float | None
    endophytic: bool | None
    to_sinus_mm: float | None
    to_collecting_mm: float | None
    touches_sinus: bool | None
    touches_collecting: bool | None
    touches_hilar_vessel: bool | None
    front_share: float | None
    hilar_share: float | None
    polar_above: float | None
    polar_below: float | None
    polar_crossed: bool | None
    crosses_middle: bool | None
    sinus_above: float | None
    sinus_below: float | None
    missing: dict[str, str]


RENAL_RULES = {
    "R": "largest diameter in any direction: up to 4 cm 1, between 2, from 7 cm 3",
    "E": "share of the volume outside the capsule as it would run without the tumour: at least 50 % 1, "
    "less 2, none (it protrudes by less than the labels' grain) 3",
    "N": "smallest distance to the sinus, or to the collecting system where it is labelled in it: "
    "from 7 mm 1, between 2, up to 4 mm 3",
    "A": "a or p where two thirds of the volume lie before or behind the plane of the kidney's long axis "
    "and its hilum, else x; no points",
    "L": "polar lines: planes across the long axis where the sinus begins to open; entirely beyond one 1, "
    "crosses one 2, more than half between them or across the kidney's middle 3",
    "h": "touches artery or vein outside the capsule; a suffix, no points",
}
PADUA_RULES = {
    "longitudinal location": "sinus lines: planes across the long axis at the sinus' ends; half or more "
    "of the volume beyond them 1 (polar), more than half between them 2 (middle)",
    "exophytic rate": "as E of R.E.N.A.L.: at least 50 % 1, less 2, endophytic 3",
    "renal rim": "more than half of the volume on the hilum's side of the kidney's long axis is medial 2, "
    "else lateral 1",
    "renal sinus": "touches the sinus 2, else 1",
    "collecting system": "touches the pelvis or calyces where the ureter's label reaches into the sinus 2, "
    "else 1; displacement without touch is not seen",
    "size": "largest diameter: up to 4 cm 1, up to 7 cm 2, more 3",
    "face": "the side of the plane through long axis and hilum with most of the volume; no points",
}
RENAL_LEVELS = ((6, "low"), (9, "moderate"), (12, "high"))
PADUA_LEVELS = ((7, "low"), (9, "intermediate"), (14, "high"))
MOST = {"longitudinal location": 2, "renal rim": 2, "renal sinus": 2, "collecting system": 2}  # others: 3


def renal(a: Anatomy) -> Score:
    """The R.E.N.A.L. nephrometry score: R, E, N, A, L and the suffix h."""
    near = [gap for gap in (a.to_sinus_mm, a.to_collecting_mm) if gap is not None]
    nearness = min(near, default=0.0)
    size = a.longest_mm or 0.0

    def part(name: str, field: str, points: int | None, seen: str) -> Component:
        return _part(a, name, field, points, seen, RENAL_RULES[name])

    parts = (
        part("R", "longest_mm", 1 if size <= 40 else 2 if size < 70 else 3, f"{size / 10:.2f} cm"),
        part("E", "exophytic", _exophytic(a), _outside(a)),
        part("N", "to_sinus_mm", 1 if nearness >= 7 else 2 if nearness > 4 else 3, f"{nearness:.1f} mm"),
        part("A", "front_share", None, _face(a.front_share, 2 / 3)),
        part("L", "polar_above", _polar(a), _polar_text(a)),
        part("h", "touches_hilar_vessel", None, "h" if a.touches_hilar_vessel else "none"),
    )
    return _total("R.E.N.A.L.", parts, ("R", "E", "N", "L"), RENAL_LEVELS)


def padua(a: Anatomy) -> Score:
    """The PADUA score: location, exophytic rate, rim, sinus, collecting system, size, and the face."""
    between = 1 - (a.sinus_above or 0.0) - (a.sinus_below or 0.0)
    medial = (a.hilar_share or 0.0) > 0.5
    size = a.longest_mm or 0.0
    involved = {False: "not involved", True: "involved"}
    sinus, collecting = bool(a.touches_sinus), bool(a.touches_collecting)

    def part(name: str, field: str, points: int | None, seen: str) -> Component:
        return _part(a, name, field, points, seen, PADUA_RULES[name])

    parts = (
        part("longitudinal location", "sinus_above", 2 if between > 0.5 else 1, _pole(a, between)),
        part("exophytic rate", "exophytic", _exophytic(a), _outside(a)),
        part("renal rim", "hilar_share", 1 + medial, "medial" if medial else "lateral"),
        part("renal sinus", "touches_sinus", 1 + sinus, involved[sinus]),
        part("collecting system", "touches_collecting", 1 + collecting, involved[collecting]),
        part("size", "longest_mm", 1 if size <= 40 else 2 if size <= 70 else 3, f"{size / 10:.2f} cm"),
        part("face", "front_share", None, _face(a.front_share, 0.5)),
    )
    return _total("PADUA", parts, tuple(part.name for part in parts[:-1]), PADUA_LEVELS)


def _total(
    name: str, parts: tuple[Component, ...], counted: tuple[str, ...], levels: tuple[tuple[int, str], ...]
) -> Score:
    """The score of its components; those in `counted` have points."""
    points = {part.name: part.points for part in parts if part.name in counted}
    lowest = sum(1 if p is None else p for p in points.values())
    highest = sum(MOST.get(n, 3) if p is None else p for n, p in points.items())
    if lowest != highest:
        return Score(name, parts, NOT_DETERMINABLE, NOT_DETERMINABLE, lowest, highest)
    level = next(word for end, word in levels if lowest <= end)
    return Score(name, parts, lowest, level, lowest, highest)


def _part(a: Anatomy, name: str, field: str, points: int | None, seen: str, rule: str) -> Component:
    if getattr(a, field) is None:
        why = a.missing.get(field, "the labels do not tell")
        return Component(name, None, f"{NOT_DETERMINABLE}: {why}", rule)
    return Component(name, points, seen, rule)


def _exophytic(a: Anatomy) -> int | None:
    if a.exophytic is None or a.endophytic is None:
        return None
    return 3 if a.endophytic else 1 if a.exophytic >= 0.5 else 2


def _outside(a: Anatomy) -> str:
    return "entirely endophytic" if a.endophytic else f"{100 * (a.exophytic or 0):.0f} % exophytic"


def _face(front: float | None, share: float) -> str:
    front = 0.5 if front is None else front
    return "anterior" if front >= max(share, 0.5 + 1e-9) else "posterior" if 1 - front >= share else "neither"


def _polar(a: Anatomy) -> int | None:
    if a.polar_above is None or a.polar_below is None:
        return None
    between = 1 - a.polar_above - a.polar_below
    if between > 0.5 or a.crosses_middle:
        return 3
    return 2 if a.polar_crossed else 1


def _polar_text(a: Anatomy) -> str:
    points = _polar(a)
    if points == 1:
        return "entirely polar"
    between = 100 * (1 - (a.polar_above or 0) - (a.polar_below or 0))
    return f"{between:.0f} % between the polar lines" + (", crosses the middle" if a.crosses_middle else "")


def _pole(a: Anatomy, between: float) -> str:
    if between > 0.5:
        return "middle"
    return "superior" if (a.sinus_above or 0.0) >= (a.sinus_below or 0.0) else "inferior"
