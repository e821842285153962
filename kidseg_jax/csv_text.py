"""CSV that no spreadsheet takes for more than it is."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

FORMULA = re.compile("[=+@\t\n\uff1d\uff0b\uff20\uff0d-]")  # full-width ones, too
NUMBER = re.compile(r"-|[+-]?[0-9.]+(e[+-]?[0-9]+)?( ± [0-9.]+)?( %)?")


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV; a text that a spreadsheet would run as a formula gets an apostrophe before it.

    Numbers, and texts that are one, stay as they are; None is an empty cell.
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = value.replace("\r", "\n")  # the csv module quotes this one alone
    is_formula = isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value
