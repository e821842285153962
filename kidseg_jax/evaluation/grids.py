"""A table once, then on the terminal, as Markdown, as CSV or as HTML."""

import csv
import html
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from kidseg_jax.evaluation.statistics import Summary


@dataclass(frozen=True)
class Cell:
    """What a reader sees, and the numbers behind it (None where there is none)."""

    text: str
    value: float | None = None
    sd: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Row:
    """A named row; `source` is "run" or "paper"."""

    name: str
    cells: tuple[Cell, ...]
    source: str = "run"
    unit: str = ""


@dataclass(frozen=True)
class Grid:
    """A titled table with notes below it. Its key names it in the CSV."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def only(self, columns: tuple[str, ...]) -> "Grid":
        """The same rows with those of `columns` there are, in their order here."""
        kept = [index for index, column in enumerate(self.columns) if column in columns]
        rows = tuple(
            Row(row.name, tuple(row.cells[i] for i in kept), row.source, row.unit) for row in self.rows
        )
        return Grid(self.key, self.title, tuple(self.columns[i] for i in kept), rows, self.notes)


UNDEFINED = Cell("-")


def mean_sd_cell(summary: Summary, decimals: int = 2) -> Cell:
    """ "12.34 ± 5.67", or "-" where nothing is defined."""
    if summary.mean is None:
        return Cell("-", n=0)
    spread = f" ± {summary.sd:.{decimals}f}" if summary.sd is not None else ""
    return Cell(f"{summary.mean:.{decimals}f}{spread}", summary.mean, summary.sd, summary.n)


def number_cell(value: float | None, form: str, n: int | None = None) -> Cell:
    """A number in a format, or "-"."""
    return Cell("-", n=n) if value is None else Cell(format(round(value, 6) + 0.0, form), value, n=n)


def to_terminal(grids: Iterable[Grid], width: int = 120) -> str:
    """The tables as plain text for a terminal of `width` columns."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for grid in grids:
        table = RichTable(
            title=grid.title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1)
        )
        table.add_column("", no_wrap=True)
        for column in grid.columns:
            table.add_column(column, justify="right", no_wrap=True)
        for row in grid.rows:
            table.add_row(row.name, *(cell.text for cell in row.cells))
        console.print(table)
        for note in grid.notes:
            console.print(f"- {note}", markup=False, highlight=False)
        console.print()
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def to_markdown(grids: Iterable[Grid]) -> str:
    """The tables as GitHub Markdown, notes as lists."""
    parts = []
    for grid in grids:
        lines = [
            f"### {grid.title}",
            "",
            _pipes(("", *grid.columns)),
            _pipes(("---", *["---:"] * len(grid.columns))),
        ]
        lines += [_pipes((row.name, *(cell.text for cell in row.cells))) for row in grid.rows]
        lines += ["", *(f"- {note}" for note in grid.notes)]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts) + "\n"


def to_csv(grids: Iterable[Grid]) -> str:
    """One line per cell: table, row, column, source, n, value, sd, unit, text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("table", "row", "column", "source", "n", "value", "sd", "unit", "text"))
    for grid in grids:
        for row in grid.rows:
            for column, cell in zip(grid.columns, row.cells, strict=True):
                numbers = ("" if number is None else number for number in (cell.n, cell.value, cell.sd))
                writer.writerow((grid.key, row.name, column, row.source, *numbers, row.unit, cell.text))
    return out.getvalue()


def to_html(grid: Grid) -> str:
    """One table as HTML, its notes as a list; the paper's rows carry the class "paper"."""
    head = "".join(f"<th scope='col'>{html.escape(column)}</th>" for column in ("", *grid.columns))
    body = "".join(
        f"<tr class='{row.source}'><th scope='row'>{html.escape(row.name)}</th>"
        + "".join(f"<td>{html.escape(cell.text)}</td>" for cell in row.cells)
        + "</tr>"
        for row in grid.rows
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in grid.notes)
    title = html.escape(grid.title, quote=True)
    table = f"<table aria-label='{title}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<p class='title'>{title}</p><div class='table'>{table}</div>" + (
        f"<ul class='notes'>{notes}</ul>" if notes else ""
    )


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
