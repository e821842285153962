"""Tables 1 to 3 from a run directory: numbers, words, and every form they are written in."""

import csv
import html
import io
import json

import numpy as np
import pytest
from run_directories import make_run

from kidseg_jax.evaluation.statistics import holm
from kidseg_jax.evaluation.table import Cell, Row, Table, to_csv, to_html, to_markdown, to_terminal
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.report import published
from kidseg_jax.report.accuracy import (
    compare_stages,
    compared_stages,
    dsc_table,
    falls,
    stage_sentences,
    statistics_table,
)
from kidseg_jax.report.effort import minutes_table, rms_table
from kidseg_jax.report.records import COLUMNS, HEADINGS, read_run
from kidseg_jax.report.tables import differences_of_setup, run_tables


def cell(table: Table, row: str, column: str) -> Cell:
    (found,) = [r for r in table.rows if r.name == row]
    return found.cells[table.columns.index(column)]


def test_dsc_table_is_mean_and_sd_over_defined_values(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    table = dsc_table(run)
    for stage in run.stages:
        for name, heading in zip(NAMES, HEADINGS, strict=False):
            values = [100 * r.dsc for r in stage.test if r.structure == name and r.dsc is not None]
            found = cell(table, f"stage {stage.stage}, {stage.train_kidneys} kidneys", heading)
            assert found.n == len(values)
            assert found.value == pytest.approx(np.mean(values))
            assert found.sd == pytest.approx(np.std(values, ddof=1))
        everything = [100 * r.dsc for r in stage.test if r.dsc is not None]
        total = cell(table, f"stage {stage.stage}, {stage.train_kidneys} kidneys", "total")
        assert (total.n, total.value) == (len(everything), pytest.approx(np.mean(everything)))
    assert cell(table, "paper 3, 50 kidneys", "total").text == "71.07 ± 21.65"


def test_rcc_of_a_kidney_without_rcc_enters_no_mean_and_is_reported(tmp_path):
    run = read_run(make_run(tmp_path / "run", kidneys=10))
    table = dsc_table(run)
    assert cell(table, "stage 1, 20 kidneys", "RCC").n == 6  # kidneys 0, 3, 6 and 9 of ten have none
    assert any(
        "Of 4 held-out kidneys without RCC" in note and "stage 1 4, mean 0.40 ml" in note
        for note in table.notes
    )


@pytest.mark.parametrize(
    ("stages", "pairs"), [(1, []), (2, [(1, 2)]), (3, [(1, 3), (2, 3)]), (5, [(1, 5), (4, 5)])]
)
def test_any_number_of_stages(tmp_path, stages, pairs):
    run = read_run(make_run(tmp_path / "run", stages=stages))
    assert [(a.stage, b.stage) for a, b in compared_stages(run)] == pairs
    assert len(statistics_table(run).rows) == 8 * len(pairs)
    assert to_markdown(run_tables(run)).count("### Table") == 4


def test_a_fall_and_a_difference_that_is_not_shown_are_said_plainly(tmp_path):
    falling = read_run(make_run(tmp_path / "falling", gain=-8.0))
    assert any(s.startswith("artery falls from stage 2 to 3") for s in falls(falling))
    assert any("worse by" in s for s in stage_sentences(falling))
    flat = read_run(make_run(tmp_path / "flat", gain=0.0))
    assert any("no difference shown (p = 0." in s for s in stage_sentences(flat))
    assert any("no difference shown (p = 0." in note for note in dsc_table(flat).notes)
    rising = read_run(make_run(tmp_path / "rising", gain=15.0))
    assert any("better by" in s and "p < 0.001" in s for s in stage_sentences(rising))


@pytest.mark.parametrize("seed", range(6))
def test_a_difference_that_a_stricter_test_does_not_bear_out_is_not_claimed(tmp_path, seed):
    run = read_run(make_run(tmp_path / "run", gain=0.9, seed=seed))
    sentences = iter(stage_sentences(run))
    for before, after in compared_stages(run):
        tests = [compare_stages(before, after, column) for column in COLUMNS]
        stricter = [*holm([test.p_t for test in tests[:-1]]), tests[-1].p_clustered]
        for test, p in zip(tests, stricter, strict=True):
            assert test.p_t is not None and p is not None
            assert ("no difference shown" in next(sentences)) == (max(test.p_t, p) > 0.05)


def test_minutes_say_simulated_and_saving_is_that_of_the_means(tmp_path):
    table = minutes_table(read_run(make_run(tmp_path / "run")))
    assert "simulated" in table.title
    own = [row for row in table.rows if row.source == "run"]
    assert own and all("simulated" in row.unit for row in own)
    saved = cell(table, "all stages, saved", "total")
    assert saved.value == pytest.approx(50.0)
    assert cell(table, "paper, saved", "total").text == "51 %"
    assert sum(published.SECONDS["manual"][:-1]) == published.SECONDS["manual"][-1]


def test_measured_minutes_are_not_called_simulated(tmp_path):
    path = make_run(tmp_path / "run", stages=2)
    file = path / "stage_2" / "metrics.json"
    data = json.loads(file.read_text())
    for record in data["labelling"]:
        record["simulated"] = False
    file.write_text(json.dumps(data))
    run = read_run(path)
    assert "simulated" not in to_markdown([minutes_table(run)])
    assert not any("simulated" in sentence for sentence in differences_of_setup(run))


def test_rms_table_names_pairs_mode_and_points(tmp_path):
    table = rms_table(read_run(make_run(tmp_path / "run")))
    assert table.columns == ("manual vs CNN", "CNN vs CNN-corrected", "manual vs CNN-corrected")
    assert any("every place of both surfaces" in note and "n = 12" in note for note in table.notes)
    assert cell(table, "area symmetric", "manual vs CNN").n == 12


def test_steps_that_differ_are_said(tmp_path):
    path = make_run(tmp_path / "run", stages=2)
    file = path / "stage_2" / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"steps": 800}))
    assert any(
        "steps differ: 400 (stage 1), 800 (stage 2)" in note for note in dsc_table(read_run(path)).notes
    )


def test_every_form_holds_every_cell(tmp_path):
    tables = run_tables(read_run(make_run(tmp_path / "run")))
    terminal, markdown, rows = (
        to_terminal(tables),
        to_markdown(tables),
        list(csv.reader(io.StringIO(to_csv(tables)))),
    )
    assert len(rows) == 1 + sum(len(g.rows) * len(g.columns) for g in tables)
    for table in tables:
        page = html.unescape(to_html(table))
        for row in table.rows:
            for shown in row.cells:
                assert shown.text in markdown and shown.text in terminal and shown.text in page
    assert max(map(len, terminal.splitlines())) <= 120


def test_html_escapes_what_a_run_says():
    table = Table("x", "<b>", ("a&b",), (Row("<script>", (Cell("1 < 2"),)),), ("<i>",))
    assert (
        "<script>" not in to_html(table)
        and "<i>" not in to_html(table)
        and "&lt;script&gt;" in to_html(table)
    )


def test_a_run_without_metrics_or_with_broken_ones_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="metrics"):
        read_run(tmp_path)
    path = make_run(tmp_path / "run")
    file = path / "stage_1" / "metrics.json"
    for text, message in (
        ("{", "need JSON"),
        ("[]", "JSON object"),
        ('{"test": [{"kidney": "a"}]}', "patient"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_run(path)
