"""The report as one HTML page: sections of text, tables, charts and pictures, with everything it needs
inside.
"""

import base64
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kidseg_jax.evaluation.table import Table, to_html
from kidseg_jax.imaging.preview import png
from kidseg_jax.report import examples
from kidseg_jax.report.curves import learning_curve, minutes_chart
from kidseg_jax.report.pictures import OUTLINES, PLANES, kidney_slices
from kidseg_jax.report.records import Run
from kidseg_jax.report.summary import limits, plain_summary
from kidseg_jax.report.surgical_page import surgical_numbers


class Drawing(NamedTuple):
    """A surface to turn: what it is, whose it is, a plotly figure as plain data, its picture for print."""

    title: str
    caption: str
    figure: dict[str, Any]
    still: np.ndarray


LEGEND = {"manual": "manual (ground truth)", "cnn": "CNN", "corrected": "CNN-corrected"}


def page(
    run: Run, tables: Sequence[Table], setup: Sequence[str], drawings: dict[str, Drawing], ledger: str
) -> str:
    """The whole page. drawings: one per pair, {} where there is none; ledger: the HTML of its section."""
    dsc, tests, kidneys, minutes, surfaces, volumes, confusion, trees = tables
    anchors = {kidney: f"#kidney-{i}" for i, kidney in enumerate(run.stages[-1].test_kidneys)}
    parts = [
        _summary(run),
        _section(
            "Learning curve",
            f"<figure>{learning_curve(run)}<figcaption>DSC % on the held-out kidneys. Filled: this run's "
            "mean over kidneys with its 95 % interval (t with CR2 over patients); dots: kidneys. Open, "
            "dashed: the paper's means, each stage on other kidneys.</figcaption></figure>",
        ),
        _section("Accuracy", to_html(dsc), "<h3>What stands behind the p-values</h3>", to_html(tests)),
        _section(
            "Every held-out kidney", *(to_html(t, anchors) for t in (kidneys, volumes)), to_html(confusion)
        ),
        _section("Trees", to_html(trees)),
        _section("Labelling time", _minutes(run), to_html(minutes)),
        _section("Surfaces", to_html(surfaces), *_drawn(drawings)),
        _section("Cases", *_cases(run, anchors)),
        _section("How this run differs from the paper's", _list(setup)),
        _section("Ledger", ledger),
        _section("Configuration, versions, device", *_info(run)),
    ]
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    script = _script(drawings) if drawings else ""
    title = f"kidseg_jax: {run.path.resolve().name}"
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'><link rel='icon' href='data:,'>"
        f"<style>{style}</style></head><body>{''.join(parts)}{script}</body></html>\n"
    )


def _summary(run: Run) -> str:
    return (
        f"<h1>Kidney segmentation by staged learning: {html.escape(run.path.resolve().name)}</h1>"
        f"<div class='box lead'><strong>In short</strong>{_list(plain_summary(run))}</div>"
        f"<div class='box limits'><strong>What this cannot show</strong>{_list(limits(run))}</div>"
    )


def _minutes(run: Run) -> str:
    chart = minutes_chart(run)
    caption = f"{'Simulated minutes' if run.simulated else 'Minutes'} per kidney, mean."
    return (
        f"<figure><div class='table wide'>{chart}</div><figcaption>{caption}</figcaption></figure>"
        if chart
        else ""
    )


def _drawn(drawings: dict[str, Drawing]) -> Iterable[str]:
    yield "<h3>The worst kidney of each comparison</h3>"
    if not drawings:
        yield "<p class='soft'>Not drawn: no snapshot of a newly labelled kidney, or no Open3D here.</p>"
        return
    figures = [
        f"<figure><div class='scene' id='scene-{pair}' role='img' "
        f"aria-label='{html.escape(drawing.title)}'></div>"
        f"{_image(drawing.still, drawing.title, 'still')}"
        f"<figcaption><strong>{html.escape(drawing.title)}</strong>"
        f"<br>{html.escape(drawing.caption)}</figcaption></figure>"
        for pair, drawing in drawings.items()
    ]
    yield f"<div class='scenes'>{''.join(figures)}</div>"
    yield (
        "<p class='soft'>Drag to turn. Blue lies inside the other surface, red outside. "
        "Seen from the front, superior up; mm, LPS. The whole surfaces are files beside this page: meshes/ "
        "(PLY and GLB with these colours, STL for printing).</p>"
    )


def _cases(run: Run, anchors: dict[str, str]) -> Iterable[str]:
    colours = "".join(
        f"<span><i style='border-color:rgb{outline.rgb}'></i>{LEGEND[outline.name]}</span>"
        for outline in OUTLINES
    )
    yield (
        f"<p class='key'>{colours}</p><p class='soft'>Each slice is the one on which manual and CNN labels "
        f"differ most: "
        "the pictures show errors, not averages. Patient's left on the right of axial and coronal slices.</p>"
    )
    last = run.stages[-1]
    ranked = examples.ranked_tests(last)
    words = {"first": "Worst", "median": "Median", "last": "Best"}
    places = {kidney: words[place] for place, _, kidney in examples.spread(ranked)}
    shown = [
        _case(
            run,
            last.stage,
            kidney,
            f"{places.get(kidney, 'A')} held-out kidney of stage {last.stage}: {kidney}",
            _scores(run, kidney),
            anchor=anchors[kidney].removeprefix("#"),
            pixels=360 if kidney in places else 220,
            measured=kidney in places,
        )
        for kidney in [*reversed(places), *sorted(set(anchors) - set(places))]
    ]
    stages = [stage for stage in run.stages if examples.ranked_surfaces(stage, "manual_cnn")]
    if stages:
        words = {"first": "Best", "median": "Median", "last": "Worst"}
        for place, rms_mm, kidney in examples.spread(examples.ranked_surfaces(stages[-1], "manual_cnn")):
            title = f"{words[place]} newly labelled kidney of stage {stages[-1].stage}: {kidney}"
            shown.append(
                _case(run, stages[-1].stage, kidney, title, f"surface RMS manual vs CNN {rms_mm:.2f} mm")
            )
    drawn = [part for part in shown if part]
    yield from drawn or ["<p class='soft'>Not drawn: this run has no snapshot files.</p>"]


def _case(
    run: Run,
    stage: int,
    kidney: str,
    title: str,
    scores: str,
    anchor: str = "",
    pixels: int = 360,
    measured: bool = False,
) -> str:
    snapshot = examples.snapshot_of(run, stage, kidney)
    if snapshot is None:
        return ""
    name = f" id='{anchor}'" if anchor else ""
    images = "".join(
        _image(picture, f"{title}, {plane}")
        for plane, picture in zip(PLANES, kidney_slices(snapshot, pixels=pixels), strict=True)
    )
    return (
        f"<figure{name}><h3>{html.escape(title)}</h3><div class='slices'>{images}</div>"
        f"<figcaption>{', '.join(PLANES)}; {html.escape(scores)}.</figcaption>"
        f"{surgical_numbers(snapshot) if measured else ''}</figure>"
    )


def _scores(run: Run, kidney: str) -> str:
    records = examples.dsc_of(run.stages[-1], kidney)
    return "DSC " + ", ".join(
        f"{r.structure} " + ("absent" if r.dsc is None else f"{100 * r.dsc:.0f} %") for r in records
    )


def _info(run: Run) -> Iterable[str]:
    trained = "".join(
        f"<tr><th "
        f"scope='row'>{stage.stage}</th><td>{_said(stage.train_kidneys)}</td><td>{_said(stage.steps)}</td>"
        f"<td>{_said(stage.seconds)}</td></tr>"
        for stage in run.stages
    )
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("stage", "kidneys", "steps", "training, s"))
    yield f"<div class='table'><table><thead><tr>{head}</tr></thead><tbody>{trained}</tbody></table></div>"
    if not run.info:
        yield "<p class='soft'>run.json is missing.</p>"
    yield _fields({key: value for key, value in run.info.items() if not isinstance(value, dict)})
    for key, value in run.info.items():
        if isinstance(value, dict):
            state = "" if key == "config" else " open"
            yield f"<details{state}><summary>{html.escape(key)}</summary>{_fields(value)}</details>"


def _fields(value: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th><td class='text'>{html.escape(text)}</td></tr>"
        for name, text in _flat(value)
    )
    return f"<div class='table'><table><tbody>{rows}</tbody></table></div>" if value else ""


def _said(number: float | None) -> str:
    return "-" if number is None else f"{number:g}"


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}".lstrip("."))
    else:
        yield name, json.dumps(value) if not isinstance(value, str) else value


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def _list(sentences: Iterable[str]) -> str:
    items = (
        html.escape(sentence).replace(" %", "&nbsp;%").replace(" mm", "&nbsp;mm") for sentence in sentences
    )
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _image(rgb: np.ndarray, alt: str, kind: str = "") -> str:
    data = base64.b64encode(png(rgb)).decode("ascii")
    return f"<img src='data:image/png;base64,{data}' alt='{html.escape(alt, quote=True)}' class='{kind}'>"


def _script(drawings: dict[str, Drawing]) -> str:
    from plotly.offline import get_plotlyjs

    figures = {f"scene-{pair}": drawing.figure for pair, drawing in drawings.items()}
    data = json.dumps(figures, separators=(",", ":")).replace("</", "<\\/")
    draw = (
        "if(document.createElement('canvas').getContext('webgl'))"
        "for(const[id,f]of Object.entries(FIGURES))Plotly.newPlot(id,f.data,f.layout,f.config);"
        "else document.body.classList.add('flat');"
    )
    return (
        "<noscript><style>.scene{display:none}.still{display:block}</style></noscript>"
        f"<script>{get_plotlyjs()}</script><script>const FIGURES={data};{draw}</script>"
    )
