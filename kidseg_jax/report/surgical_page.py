"""One printable page of a measured kidney: its numbers, scores with their rules, and pictures, all in one
file.
"""

import base64
import html
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from kidseg_jax.evaluation.table import Cell, Row, Table, to_html
from kidseg_jax.imaging.preview import png
from kidseg_jax.imaging.structures import PARENCHYMA, STRUCTURES
from kidseg_jax.imaging.volume import Volume
from kidseg_jax.report.pictures import PLANES
from kidseg_jax.report.snapshot import KidneySnapshot
from kidseg_jax.report.surgical_pictures import SINUS_RGB, branch_rgb, kidney_pictures
from kidseg_jax.surgery.case import MeasuredKidney
from kidseg_jax.surgery.kidney import measure_kidney
from kidseg_jax.surgery.measures import Answer, KidneyMeasures
from kidseg_jax.surgery.records import CAUTION, said_total, tumour_numbers
from kidseg_jax.surgery.scores import Score

WRAPPED = "td { white-space: normal; text-align: left; }"
SOURCES = (
    "R.E.N.A.L.: Kutikov, Uzzo, J Urol 2009;182:844-853.",
    "PADUA: Ficarra et al., Eur Urol 2009;56:786-793.",
    "Contact surface area: Leslie et al., J Urol 2014 (the notion; here measured on the labels).",
)


def surgical_page(kidney: MeasuredKidney, ct: Volume | None = None) -> str:
    """The page as HTML that needs nothing else; ct: the case's CT, to draw behind the labels."""
    measures = kidney.measures
    title = measures.case + (f": {measures.side} kidney" if measures.side in ("left", "right") else "")
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    parts = (
        f"<h1>{html.escape(title)}</h1>",
        f"<div class='box limits'><strong>{html.escape(CAUTION)}</strong></div>",
        *_kidney(measures),
        *_pictures(kidney, ct),
        *(part for tumour in measures.tumours for part in _tumour(measures, tumour.number)),
        *_arteries(measures),
        f"<section><h2>Sources</h2>{_list(SOURCES)}</section>",
    )
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'><link rel='icon' href='data:,'>"
        f"<style>{style}{WRAPPED}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def surgical_numbers(snapshot: KidneySnapshot) -> str:
    """What the true labels of a held-out kidney and the predicted ones say to a surgeon, as HTML to unfold.

    Empty where one of the two is missing or holds no kidney.
    """
    maps = (snapshot.manual, snapshot.cnn)
    if any(labels is None or not (labels >= PARENCHYMA).any() for labels in maps):
        return ""
    spacing_mm = snapshot.geometry.spacing_mm
    true, predicted = (measure_kidney(labels, spacing_mm)[0] for labels in maps if labels is not None)
    table = to_html(comparison_table(true, predicted))
    return f"<details><summary>What a surgeon asks, true and predicted</summary>{table}</details>"


def comparison_table(true: KidneyMeasures, predicted: KidneyMeasures) -> Table:
    """The numbers and scores of the largest tumour in two label maps of one kidney, side by side."""
    told = [_largest(kidney) for kidney in (true, predicted)]
    rows = [
        Row(name, tuple(Cell(own.get(name, "no tumour")) for own in told))
        for name in dict.fromkeys([*told[0], *told[1]])
    ]
    title = "Largest tumour, and arteries"
    return Table("surgical", title, ("true", "predicted"), tuple(rows), (CAUTION, "Rules: docs/measure.md."))


def _largest(kidney: KidneyMeasures) -> dict[str, str]:
    told = {"arteries that enter": str(kidney.arteries_entering)}
    for tumour in kidney.tumours[:1]:
        told |= {name: _said(value, unit) for name, value, unit, _ in tumour_numbers(tumour)}
        told |= {score.name: said_total(score) for score in (tumour.renal, tumour.padua)}
    return told


def _kidney(measures: KidneyMeasures) -> Iterator[str]:
    rows = [Row(f"volume of {name}", (Cell(_said(ml, "ml")),)) for name, ml in measures.volumes_ml.items()]
    rows += [
        Row("volume of sinus", (Cell(_said(measures.sinus_ml, "ml")),)),
        Row("length", (Cell(_said(measures.length_mm, "mm")),)),
        Row("arteries", (Cell(str(measures.arteries)),)),
        Row("arteries that enter", (Cell(str(measures.arteries_entering)),)),
        Row("tumours", (Cell(str(len(measures.tumours))),)),
    ]
    notes = measures.notes
    if measures.cut_by:
        notes = (f"Cut off by the image ({', '.join(measures.cut_by)}): volumes are lower bounds.", *notes)
    table = Table("kidney", "Kidney", ("",), tuple(rows), notes)
    yield f"<section><h2>Kidney</h2>{to_html(table)}</section>"


def _pictures(kidney: MeasuredKidney, ct: Volume | None) -> Iterator[str]:
    drawn = kidney.drawn
    at = (
        drawn.tumour_centres[0]
        if drawn.tumour_centres
        else tuple(int(v) for v in np.argwhere(drawn.labels > 0).mean(axis=0))
    )
    labels, territories = kidney_pictures(kidney, at, ct)  # pyright: ignore[reportArgumentType]
    where = "largest tumour" if drawn.tumour_centres else "kidney"
    key = _key([*((s.name, s.rgb) for s in STRUCTURES), ("sinus", SINUS_RGB)])
    yield (
        f"<section><h2>Pictures</h2>{key}<figure><div class='slices'>{_images(labels, 'labels')}</div>"
        f"<figcaption>{', '.join(PLANES)} through the middle of the {where}; superior and anterior up, the "
        "patient's left on the right.</figcaption></figure>"
    )
    if drawn.territory_numbers:
        ends = [(f"branch {n}", branch_rgb(i)) for i, n in enumerate(drawn.territory_numbers)]
        yield (
            f"{_key(ends)}<figure><div class='slices'>{_images(territories, 'territories')}</div>"
            "<figcaption>Parenchyma by its nearest arterial end branch: geometry, not measured perfusion."
            "</figcaption></figure>"
        )
    yield "</section>"


def _tumour(measures: KidneyMeasures, number: int) -> Iterator[str]:
    tumour = measures.tumours[number - 1]
    rows = tuple(
        Row(what, (Cell(_said(value, unit)), Cell(rule)))
        for what, value, unit, rule in tumour_numbers(tumour)
    )
    table = Table("tumour", f"Tumour {number}", ("", "how"), rows)
    yield f"<section><h2>Tumour {number}</h2>{to_html(table)}"
    for score in (tumour.renal, tumour.padua):
        yield to_html(_score(score))
    yield "</section>"


def _score(score: Score) -> Table:
    rows = [
        Row(p.name, (Cell("-" if p.points is None else str(p.points)), Cell(p.value), Cell(p.rule)))
        for p in score.components
    ]
    rows.append(Row("total", (Cell(str(score.total)), Cell(said_total(score)), Cell("sum of the points"))))
    return Table("score", score.name, ("points", "seen", "rule"), tuple(rows))


def _arteries(measures: KidneyMeasures) -> Iterator[str]:
    if not measures.branches:
        return
    rows = tuple(
        Row(
            f"branch {b.number}",
            (
                Cell("trunk" if b.parent is None else f"branch {b.parent}"),
                Cell(f"{b.length_mm:.1f}"),
                Cell(f"{b.radius_mm:.1f}"),
                Cell(f"{b.nearest_percent:.1f}"),
                Cell(f"{b.nearest_ml:.1f}"),
            ),
        )
        for b in measures.branches
    )
    note = "Geometric: by distance to the middle line of a branch's ends. It is not measured perfusion."
    columns = ("leaves", "length, mm", "radius, mm", "nearest parenchyma, %", "ml")
    table = Table("arteries", "Arterial branches", columns, rows, (note,))
    yield f"<section><h2>Arteries</h2>{to_html(table)}</section>"


def _said(value: Answer, unit: str) -> str:
    return value if isinstance(value, str) else f"{value:.1f} {unit}"


def _key(names: Iterable[tuple[str, tuple[int, int, int]]]) -> str:
    spans = "".join(f"<span><i style='border-color:rgb{rgb}'></i>{html.escape(n)}</span>" for n, rgb in names)
    return f"<p class='key'>{spans}</p>"


def _images(pictures: Iterable[np.ndarray], what: str) -> str:
    return "".join(
        f"<img src='data:image/png;base64,{base64.b64encode(png(picture)).decode('ascii')}' "
        f"alt='{plane}, {what}'>"
        for plane, picture in zip(PLANES, pictures, strict=True)
    )


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"
