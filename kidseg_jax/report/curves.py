"""Charts as SVG text: the learning curve over stages with intervals, and labelling minutes. No script, no
display.
"""

import html
from collections.abc import Sequence

import numpy as np

from kidseg_jax.report import published
from kidseg_jax.report.accuracy import mean_dsc
from kidseg_jax.report.effort import run_efforts
from kidseg_jax.report.records import COLUMNS, HEADINGS, Run

OURS, PAPERS, HAND = "#0b6e8f", "#b3541e", "#8a8f98"
_PANEL = (250, 200)
_PLOT = (38, 26, 236, 160)  # left, top, right, bottom of the axes in a panel


def learning_curve(run: Run) -> str:
    """Six small charts: mean DSC % over kidneys and stages with its 95 % interval, each kidney, and the
    paper's means.
    """
    panels = "".join(
        _panel(heading, _stage_marks(run, column, index))
        for index, (column, heading) in enumerate(zip(COLUMNS, HEADINGS, strict=True))
    )
    return f"<div class='panels'>{panels}</div>"


def minutes_chart(run: Run) -> str:
    """Bars of mean labelling minutes per structure and in total: by hand, CNN-corrected; "" where nothing was
    timed.
    """
    times = {column: (e.manual.mean, e.corrected.mean) for column, e in run_efforts(run).items()}
    ours = {c: (a, b) for c, (a, b) in times.items() if a is not None and b is not None}
    if not ours:
        return ""
    width, height, left, bottom = 750, 240, 62, 200
    top = max(map(max, ours.values())) / 60 * 1.08
    parts = [_axis_y(left, 20, width - 10, bottom, top, "min")]
    step = (width - left - 10) / len(COLUMNS)
    for index, (column, heading) in enumerate(zip(COLUMNS, HEADINGS, strict=True)):
        middle = left + step * (index + 0.5)
        parts.append(_text(middle, bottom + 18, heading))
        for offset, colour, seconds in zip((-26, 2), (HAND, OURS), ours.get(column, ()), strict=False):
            tall = seconds / 60 / top * (bottom - 20)
            parts.append(
                f"<rect x='{middle + offset:.1f}' y='{bottom - tall:.1f}' width='24' height='{tall:.1f}' "
                f"fill='{colour}'/>"
                + _text(middle + offset + 12, bottom - tall - 4, f"{seconds / 60:.0f}", size=11)
            )
    legend = _legend(left + 8, 14, ((HAND, "by hand"), (OURS, "CNN-corrected")))
    return _svg(width, height, "".join(parts) + legend, "Labelling minutes by hand and CNN-corrected")


def _stage_marks(run: Run, column: str, index: int) -> str:
    left, _, right, _ = _PLOT
    stages = [stage.stage for stage in run.stages]
    count = max(*stages, *published.DSC_PERCENT)
    first = min(1, *stages)
    n = count + 1 - first
    place = {s: left + (right - left) * (s + 0.5 - first) / n for s in range(first, count + 1)}
    parts, line = [], []
    papers = [(place[stage], values[index][0]) for stage, values in published.DSC_PERCENT.items()]
    parts += [f"<path d='{_path(papers)}' fill='none' stroke='{PAPERS}' stroke-dasharray='4 3'/>"]
    parts += [
        f"<circle cx='{x:.1f}' cy='{_y(y):.1f}' r='3' fill='#fff' stroke='{PAPERS}'/>" for x, y in papers
    ]
    for stage in run.stages:
        records = [record for record in stage.tested(column) if record.dsc_percent is not None]
        if not records:
            continue
        x = place[stage.stage]
        numbers = np.array([record.dsc_percent for record in records], dtype=float)
        if column != "total":
            spread = np.linspace(-7, 7, len(numbers)) if len(numbers) > 1 else np.zeros(1)
            parts += [
                f"<circle cx='{x + dx:.1f}' cy='{_y(y):.1f}' r='1.6' fill='{OURS}' opacity='.35'/>"
                for dx, y in zip(spread, numbers, strict=True)
            ]
        interval = mean_dsc(stage, column).interval
        if interval:
            low, high = (_y(min(max(end, 0.0), 100.0)) for end in interval)
            parts.append(f"<path d='M{x:.1f} {low:.1f}V{high:.1f}' stroke='{OURS}' stroke-width='2.4'/>")
        line.append((x, float(numbers.mean())))
    parts.append(f"<path d='{_path(line)}' fill='none' stroke='{OURS}' stroke-width='1.6'/>")
    parts += [f"<circle cx='{x:.1f}' cy='{_y(y):.1f}' r='3.6' fill='{OURS}'/>" for x, y in line]
    parts += [_text(x, _PLOT[3] + 14, str(stage), size=11) for stage, x in place.items()]
    return "".join(parts)


def _panel(heading: str, marks: str) -> str:
    left, top, right, bottom = _PLOT
    body = _text(left, 16, heading, size=13, anchor="start", weight="600")
    body += _axis_y(left, top, right, bottom, 100, "%") + marks
    body += _text((left + right) / 2, bottom + 30, "stage", size=11)
    return _svg(*_PANEL, body, f"DSC over stages, {heading}")


def _axis_y(left: float, top: float, right: float, bottom: float, highest: float, unit: str) -> str:
    ticks = _ticks(highest)
    parts = []
    for tick in ticks:
        y = bottom - tick / highest * (bottom - top)
        parts.append(f"<path d='M{left} {y:.1f}H{right}' stroke='#d8dce2'/>")
        parts.append(
            _text(left - 5, y + 4, f"{tick:g}" + (f" {unit}" if tick == ticks[-1] else ""), 11, "end")
        )
    return "".join(parts)


def _ticks(highest: float) -> list[float]:
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50, 100, 250, 500, 1000, 1e9) if highest / s <= 6)
    step = 25 if highest == 100 else step
    return [step * i for i in range(int(highest / step) + 1)]


def _y(percent: float) -> float:
    _, top, _, bottom = _PLOT
    return bottom - percent / 100 * (bottom - top)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if i else 'M'}{x:.1f} {_y(y):.1f}" for i, (x, y) in enumerate(points))


def _legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> str:
    parts = []
    for colour, name in entries:
        parts.append(f"<rect x='{x}' y='{y - 9}' width='10' height='10' fill='{colour}'/>")
        parts.append(_text(x + 15, y, name, anchor="start"))
        x += 110
    return "".join(parts)


def _text(x: float, y: float, text: str, size: int = 12, anchor: str = "middle", weight: str = "400") -> str:
    style = f"font-size='{size}' text-anchor='{anchor}' font-weight='{weight}' fill='#30353d'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {style}>{html.escape(text)}</text>"


def _svg(width: float, height: float, body: str, title: str) -> str:
    return (
        f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{html.escape(title)}' "
        f"xmlns='http://www.w3.org/2000/svg'>{body}</svg>"
    )
