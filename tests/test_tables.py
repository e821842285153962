"""Tables 1 to 3 from a run directory: numbers, words, and every form they are written in."""

import csv
import html
import io
import json

import numpy as np
import pytest
from run_directories import make_run

from kidseg_jax import kernels
from kidseg_jax.evaluation.statistics import format_p, holm
from kidseg_jax.evaluation.table import Cell, Row, Table, to_csv, to_html, to_markdown, to_terminal
from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA, VEIN
from kidseg_jax.imaging.volume import Geometry, Volume
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
from kidseg_jax.report.kidneys import confusion_table, kidney_table, volume_table
from kidseg_jax.report.records import COLUMNS, HEADINGS, read_run
from kidseg_jax.report.snapshot import write_snapshot
from kidseg_jax.report.summary import plain_summary
from kidseg_jax.report.tables import differences_of_setup, run_tables
from kidseg_jax.report.trees import tree_table


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
    assert len(statistics_table(run).rows) == 9 * len(pairs)
    assert to_markdown(run_tables(run)).count("### Table") == 8


def test_a_fall_and_a_difference_that_is_not_shown_are_said_plainly(tmp_path):
    falling = read_run(make_run(tmp_path / "falling", gain=-8.0))
    assert "artery from stage 2 to 3" in [where for _, where in falls(falling)]
    assert any("The mean over kidneys fell: " in note for note in dsc_table(falling).notes)
    assert any(": worse, -" in s for s in stage_sentences(falling))
    flat = read_run(make_run(tmp_path / "flat", gain=0.0))
    assert all("no difference shown" in s and "(95 % CI " in s for s in stage_sentences(flat))
    assert set(stage_sentences(flat)) <= set(statistics_table(flat).notes)
    rising = read_run(make_run(tmp_path / "rising", gain=15.0))
    assert any(": better, +" in s and "p < 0.001" in s for s in stage_sentences(rising))


@pytest.mark.parametrize("seed", range(6))
def test_only_what_holms_correction_over_all_tests_bears_out_is_claimed(tmp_path, seed):
    run = read_run(make_run(tmp_path / "run", gain=0.9, seed=seed))
    tests = [compare_stages(a, b, column) for a, b in compared_stages(run) for column in COLUMNS]
    assert len(tests) == 12
    p = holm([test.change.p for test in tests])
    for sentence, adjusted in zip(stage_sentences(run), p, strict=True):
        assert adjusted is not None
        assert ("no difference shown" in sentence) == (adjusted > 0.05)
        assert format_p(adjusted) in sentence


def test_the_published_test_never_stands_alone_or_in_a_sentence(tmp_path):
    """Where kidneys of a patient and structures of a kidney move alike it is too small by far."""
    path = make_run(tmp_path / "run", gain=0.0)
    rng = np.random.default_rng(2)
    moved = dict.fromkeys((f"case_{i:05d}" for i in range(5)), 0.0)
    for stage in (1, 2, 3):
        file = path / f"stage_{stage}" / "metrics.json"
        data = json.loads(file.read_text())
        moved = {case: rng.normal(0, 0.05) for case in moved}
        for record in data["test"]:
            if record["dsc"] is not None:
                record["dsc"] = 0.5 + moved[record["case"]] + rng.normal(0, 0.005)
        file.write_text(json.dumps(data))
    run = read_run(path)
    table = dsc_table(run)
    names = [row.name for row in table.rows]
    for name in ("1 vs 3", "2 vs 3"):
        assert names.index(f"[published t-test, {name}]") == names.index(f"p, {name}") + 1
    published_p = cell(table, "[published t-test, 1 vs 3]", "total").value
    right_p = cell(table, "p, 1 vs 3", "total").value
    assert published_p is not None and right_p is not None and published_p < 0.001 < 0.05 < right_p
    assert any("not to be believed" in note for note in table.notes)
    sentences = [*stage_sentences(run), *plain_summary(run), *table.notes]
    assert not any("p < 0.001" in sentence for sentence in sentences)


def test_the_opening_has_six_sentences_at_most_and_its_numbers_intervals(tmp_path):
    for gain in (-8.0, 0.0, 6.0):
        run = read_run(make_run(tmp_path / f"run{gain}", gain=gain))
        sentences = plain_summary(run)
        assert len(sentences) <= 6 and sentences[0].startswith("After 3 stages and 50 labelled kidneys")
        assert all("95 % CI" in sentence for sentence in sentences)
        assert all("mean" in sentence.lower() for sentence in sentences)  # over what, each says


def test_every_held_out_kidney_has_its_scores_and_volumes(tmp_path):
    run = read_run(make_run(tmp_path / "run"))
    last = run.stages[-1]
    scores, volumes = kidney_table(run), volume_table(run)
    assert [row.name for row in scores.rows] == list(last.test_kidneys)
    for record in last.test:
        shown = cell(scores, record.kidney, dict(zip(COLUMNS, HEADINGS, strict=True))[record.structure])
        assert shown.value == record.dsc_percent
    assert cell(volumes, "case_00000_left", "parenchyma + RCC").text == "40.0 / 42.0"
    assert cell(volumes, "case_00000_right", "RCC").text == "0.0 / 0.4"
    errors = [0.4, 1, 1] * 3 + [0.4]
    low, high = np.mean(errors) + 1.96 * np.std(errors, ddof=1) * np.array([-1, 1])
    assert cell(volumes, "limits of agreement", "RCC").text == f"{low:+.1f} to {high:+.1f}"
    assert cell(volumes, "bias", "RCC").value == pytest.approx(np.mean(errors))


def test_confusion_of_artery_and_vein_is_counted_from_the_label_maps(tmp_path):
    path = make_run(tmp_path / "run", stages=1)
    run = read_run(path)
    assert "was not measured" in confusion_table(run).notes[0]
    manual, cnn = np.zeros((2, 10, 10, 10), np.uint8)
    manual[2:4], manual[6:8] = ARTERY, VEIN
    cnn[2], cnn[3, :5], cnn[7] = ARTERY, VEIN, PARENCHYMA
    ct = Volume(np.zeros((10, 10, 10), np.int16), Geometry((10, 10, 10), (1.0, 1.0, 1.0)))
    box = kernels.Box((0, 0, 0), (10, 10, 10))
    write_snapshot(path / "stage_1", "case_00000_left", "test", ct, box, manual, cnn)
    table = confusion_table(run)
    assert [c.text for c in table.rows[0].cells] == ["0.1 (50 %)", "0.1 (25 %)", "0.0 (0 %)", "0.1 (25 %)"]
    assert [c.value for c in table.rows[1].cells] == pytest.approx([0.0, 0.0, 0.1, 0.1])
    assert "1 held-out kidneys" in table.notes[0]


def test_trees_are_shown_by_stage_and_structure(tmp_path):
    path = make_run(tmp_path / "run", stages=2)
    assert "not measured" in tree_table(read_run(path)).notes[0]
    measured = {"cldice": 0.8, "predicted_pieces": 3, "truth_mm": 200.0, "found_mm": 150.0}
    metrics = path / "stage_2" / "metrics.json"
    stage = json.loads(metrics.read_text())
    stage["test"] = [record | (measured if record["structure"] == "vein" else {}) for record in stage["test"]]
    metrics.write_text(json.dumps(stage))
    table = tree_table(read_run(path))
    assert cell(table, "stage 2, vein", "clDice %").text == "80.0 ± 0.0"
    assert cell(table, "stage 2, vein", "found %").value == 75
    assert cell(table, "stage 2, vein", "pieces").value == 3
    assert cell(table, "stage 2, artery", "clDice %").text == "-"
    assert cell(table, "stage 1, vein", "pieces").text == "-"


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
