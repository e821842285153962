"""The audit as files: one page with pictures that holds all it needs, JSON, and CSV."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax.atomic import write_text
from kidseg_jax.audit.finding import TELLING, Audited, Kind
from kidseg_jax.csv_text import csv_text
from kidseg_jax.imaging.preview import png
from kidseg_jax.imaging.structures import STRUCTURES

COLUMNS = (
    "rank",
    "case",
    "case_score",
    "score",
    "check",
    "structure",
    "side",
    "size",
    "unit",
    "z",
    "y",
    "x",
    "text",
)
FILES = ("audit.html", "audit.json", "audit.csv")


def write_audit(
    out: Path,
    title: str,
    audited: Sequence[Audited],
    kinds: Mapping[str, Kind],
    pictures: Mapping[str, np.ndarray],
    notes: Sequence[str],
    failures: Mapping[str, str],
) -> None:
    """Write `FILES` into `out`, each whole or not at all.

    pictures: RGB uint8 by case, of those that have one. failures: why a case could not be looked at.
    """
    write_text(
        out / FILES[1], json.dumps(as_json(title, audited, notes, failures), indent=1, allow_nan=False) + "\n"
    )
    write_text(out / FILES[2], csv_text([COLUMNS, *_rows(audited, kinds)]))
    write_text(out / FILES[0], page(title, audited, kinds, pictures, notes, failures))


def as_json(
    title: str, audited: Sequence[Audited], notes: Sequence[str], failures: Mapping[str, str]
) -> dict[str, Any]:
    """The audit as plain data; at: the voxel (z, y, x) of the CT in canonical order (x left, z up)."""
    return {
        "audit": title,
        "notes": list(notes),
        "cases": [
            {
                "rank": rank,
                "case": case.name,
                "score": round(case.score, 3),
                "findings": [
                    {
                        "check": found.measure.kind,
                        "structure": found.measure.structure,
                        "side": found.measure.side,
                        "score": round(found.score, 3),
                        "size": round(found.measure.size, 4),
                        "at": list(found.measure.at),
                        "text": found.measure.text,
                    }
                    for found in case.findings
                ],
            }
            for rank, case in enumerate(audited, 1)
        ],
        "failures": dict(failures),
    }


def page(
    title: str,
    audited: Sequence[Audited],
    kinds: Mapping[str, Kind],
    pictures: Mapping[str, np.ndarray],
    notes: Sequence[str],
    failures: Mapping[str, str],
) -> str:
    """The whole page: the ranked list, then each case with its findings and its picture."""
    style = (Path(__file__).parents[1] / "report" / "page.css").read_text(encoding="utf-8")
    telling = sum(case.score >= TELLING for case in audited)
    lead = [
        f"{len(audited)} label maps, the one to look at first comes first.",
        f"{telling} have a score of {TELLING:g} or more.",
        "A score counts steps above what is usual of a check. It says where to look, not what is wrong.",
        *notes,
        *(f"{case} could not be looked at: {reason}" for case, reason in failures.items()),
    ]
    colours = "".join(
        f"<span><i style='border-color:rgb{structure.rgb}'></i>{structure.name}</span>"
        for structure in STRUCTURES
    )
    parts = [
        f"<h1>Label audit: {html.escape(title)}</h1><div class='box lead'>{_list(lead)}</div>",
        f"<section><h2>Ranked</h2>{_table(audited, kinds)}</section>",
        f"<section><h2>Cases</h2><p class='key'>{colours}</p><p class='soft'>Axial, coronal and sagittal "
        "slices through the worst finding, 15 cm wide; patient's left on the right. Dotted: the network's "
        "labels.</p>"
        + "".join(_case(rank, case, kinds, pictures.get(case.name)) for rank, case in enumerate(audited, 1))
        + "</section>",
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>{html.escape(f'Label audit: {title}')}</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'><link rel='icon' href='data:,'>"
        f"<style>{style}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _table(audited: Sequence[Audited], kinds: Mapping[str, Kind]) -> str:
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("case", "rank", "score", "worst finding"))
    rows = "".join(
        f"<tr><th scope='row'><a href='#case-{rank}'>{html.escape(case.name)}</a></th><td>{rank}</td>"
        f"<td>{case.score:.1f}</td><td class='text'>{html.escape(worst_of(case, kinds))}</td></tr>"
        for rank, case in enumerate(audited, 1)
    )
    return f"<div class='table'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def worst_of(case: Audited, kinds: Mapping[str, Kind]) -> str:
    """The worst finding of a case in words."""
    if not case.findings:
        return "nothing"
    worst = case.findings[0].measure
    return f"{kinds[worst.kind].title}: {worst.text}"


def _case(rank: int, case: Audited, kinds: Mapping[str, Kind], picture: np.ndarray | None) -> str:
    image = ""
    if picture is not None:
        data = base64.b64encode(png(picture)).decode("ascii")
        alt = html.escape(f"{case.name}, through its worst finding", quote=True)
        image = f"<img src='data:image/png;base64,{data}' alt='{alt}' style='width:100%'>"
    found = "".join(
        f"<li>{found.score:.1f} {html.escape(kinds[found.measure.kind].title)}"
        f"{html.escape(f' ({found.measure.side})') if found.measure.side else ''}: "
        f"{html.escape(found.measure.text)}</li>"
        for found in case.findings[:6]
    )
    return (
        f"<figure id='case-{rank}'><h3>{rank}. {html.escape(case.name)}: {case.score:.1f}</h3>{image}"
        f"<figcaption><ul>{found or '<li>nothing above what is usual</li>'}</ul></figcaption></figure>"
    )


def _rows(audited: Sequence[Audited], kinds: Mapping[str, Kind]) -> list[list[Any]]:
    return [
        [
            rank,
            case.name,
            f"{case.score:.3f}",
            f"{found.score:.3f}",
            found.measure.kind,
            found.measure.structure,
            found.measure.side,
            f"{found.measure.size:.4g}",
            kinds[found.measure.kind].unit,
            *found.measure.at,
            found.measure.text,
        ]
        for rank, case in enumerate(audited, 1)
        for found in case.findings
    ]


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences) + "</ul>"
