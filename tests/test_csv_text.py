"""No cell that we write is a formula to a spreadsheet, and numbers stay numbers."""

import csv
import io

import numpy as np
import pytest

from kidseg_jax.csv_text import csv_text
from kidseg_jax.evaluation.folders import Evaluation, records_csv
from kidseg_jax.evaluation.table import Cell, Row, Table, to_csv, to_terminal
from kidseg_jax.export.datasets import Item, kits
from kidseg_jax.imaging.structures import PARENCHYMA, STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Volume

FORMULAS = ["=HYPERLINK(1)", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-inf", "\uff1d1+1", "="]


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("name", FORMULAS)
def test_a_text_that_would_be_computed_gets_an_apostrophe(name):
    assert cells(csv_text([[name, "a"]])) == [[f"'{name}".replace("\r", "\n"), "a"]]


def test_numbers_and_plain_texts_stay():
    row = [-1.5, np.float64(-0.25), "-1.5", "+3", "-.5e-3", "-", "case_00000", "a=b", None, 7]
    assert cells(csv_text([row]))[0] == [
        *("-1.5", "-0.25", "-1.5", "+3", "-.5e-3"),
        "-",
        "case_00000",
        "a=b",
        "",
        "7",
    ]


def test_every_table_of_names_is_written_so(tmp_path):
    name = "=HYPERLINK(1)"
    table = Table("t", "t", ("a",), (Row(name, (Cell("-1", -1.0),)),))
    assert cells(to_csv([table]))[1][:3] == ["t", f"'{name}", "a"]
    records = ({"case": name, "name": "vein", "dsc": -0.5},)
    assert cells(records_csv(Evaluation("kidseg", records, {})))[1] == [f"'{name}", "vein", "-0.5"]
    regions = [
        {"case": name, "name": region, "dice": 1.0, "surface_dice": 1.0}
        for region in ("kidney_and_mass", "mass", "tumor")
    ]
    assert cells(records_csv(Evaluation("kits", tuple(regions), {})))[1][0] == f"'{name}"
    labels = Volume(np.full((2, 2, 2), PARENCHYMA, np.uint8), Geometry((2, 2, 2), (1.0, 1.0, 1.0)))
    layout = kits(tmp_path, [(name, "a,b")], STRUCTURES)
    layout.write(Item(name, "a,b", labels, None))
    layout.finish()
    assert cells((tmp_path / "cases.csv").read_text())[1] == ["case_00000", f"'{name}", "a,b"]


def test_a_name_in_brackets_is_shown_and_not_taken_for_a_colour():
    table = Table("t", "[red]title", ("[b]",), (Row("[bold]case", (Cell("[i]1"),)),))
    assert all(text in to_terminal([table]) for text in ("[red]title", "[b]", "[bold]case", "[i]1"))
