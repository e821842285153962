"""A table once, then on the terminal, as Markdown, as CSV or as HTML."""

import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from kidseg_jax.csv_text import csv_text
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
class Table:
    """A titled table with notes below it. Its key names it in the CSV."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def only(self, columns: tuple[str, ...]) -> "Table":
        """The same rows with those of `columns` there are, in their order here."""
        kept = [index for index, column in enumerate(self.columns) if column in columns]
        rows = tuple(
            Row(row.name, tuple(row.cells[i] for i in kept), row.source, row.unit) for row in self.rows
        )
        return Table(self.key, self.title, tuple(self.columns[i] for i in kept), rows, self.notes)


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


def range_cell(ends: tuple[float, float] | None, form: str) -> Cell:
    """ "1.2 to 3.4", or "-"."""
    return UNDEFINED if ends is None else Cell(f"{ends[0]:{form}} to {ends[1]:{form}}")


def to_terminal(tables: Iterable[Table], width: int = 120) -> str:
    """The tables as plain text for a terminal of `width` columns."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in tables:
        drawn = RichTable(
            title=escape(table.title),
            title_justify="left",
            title_style="",
            box=box.SIMPLE_HEAD,
            padding=(0, 0, 0, 1),
        )
        drawn.add_column("", no_wrap=True)
        for column in table.columns:
            drawn.add_column(escape(column), justify="right", no_wrap=True)
        for row in table.rows:
            drawn.add_row(escape(row.name), *(escape(cell.text) for cell in row.cells))
        console.print(drawn)
        for note in table.notes:
            console.print(f"- {note}", markup=False, highlight=False)
        console.print()
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def to_markdown(tables: Iterable[Table]) -> str:
    """The tables as GitHub Markdown, notes as lists."""
    parts = []
    for table in tables:
        lines = [
            f"### {table.title}",
            "",
            _pipes(("", *table.columns)),
            _pipes(("---", *["---:"] * len(table.columns))),
        ]
        lines += [_pipes((row.name, *(cell.text for cell in row.cells))) for row in table.rows]
        lines += ["", *(f"- {note}" for note in table.notes)]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts) + "\n"


def to_csv(tables: Iterable[Table]) -> str:
    """One line per cell: table, row, column, source, n, value, sd, unit, text."""
    rows: list[tuple] = [("table", "row", "column", "source", "n", "value", "sd", "unit", "text")]
    for table in tables:
        for row in table.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                numbers = (cell.n, cell.value, cell.sd)
                rows.append((table.key, row.name, column, row.source, *numbers, row.unit, cell.text))
    return csv_text(rows)


def to_html(table: Table, links: Mapping[str, str] = MappingProxyType({})) -> str:
    """One table as HTML, its notes as a list; the paper's rows carry the class "paper".

    links: the addresses of rows that lead somewhere, by their names.
    """
    head = "".join(f"<th scope='col'>{html.escape(column)}</th>" for column in ("", *table.columns))
    body = "".join(
        f"<tr class='{row.source}'><th scope='row'>{_linked(row.name, links.get(row.name))}</th>"
        + "".join(f"<td>{html.escape(cell.text)}</td>" for cell in row.cells)
        + "</tr>"
        for row in table.rows
    )
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in table.notes)
    title = html.escape(table.title, quote=True)
    body_html = f"<table aria-label='{title}'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<p class='title'>{title}</p><div class='table'>{body_html}</div>" + (
        f"<ul class='notes'>{notes}</ul>" if notes else ""
    )


def _linked(name: str, address: str | None) -> str:
    text = html.escape(name)
    return text if address is None else f"<a href='{html.escape(address, quote=True)}'>{text}</a>"


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
