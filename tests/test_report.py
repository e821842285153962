"""The report of a run: whole, self-contained, readable without a script, and true to the run's numbers."""

import base64
import html
import json
import re
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from run_directories import add_evidence, make_run

from kidseg_jax import kernels
from kidseg_jax.evaluation.mesh_reading import read_surface
from kidseg_jax.evaluation.surfaces import surface_of
from kidseg_jax.imaging.preview import png
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.report import examples
from kidseg_jax.report.curves import learning_curve, minutes_chart
from kidseg_jax.report.pictures import OUTLINES, kidney_slices
from kidseg_jax.report.records import read_run
from kidseg_jax.report.report import write_report
from kidseg_jax.report.snapshot import read_snapshot, write_snapshot
from kidseg_jax.report.summary import limits, plain_summary

VOID = {"meta", "link", "img", "br"}


class Balance(HTMLParser):
    """Every tag that opens closes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run_path(tmp_path_factory):
    path = make_run(tmp_path_factory.mktemp("runs") / "run")
    add_evidence(path, n=24)
    return path


@pytest.fixture(scope="module")
def page(run_path):
    text = write_report(run_path)
    assert "Table 1" in text and "Table 3" in text
    return (run_path / "report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_nothing_of_a_network(page, run_path):
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    parser = Balance()
    parser.feed(markup)
    assert parser.open == []
    assert not re.findall(r"(?:src|href)=['\"](?!data:|#kidney-)", markup)
    assert len(page) < 15_000_000
    assert {"tables.md", "tables.csv", "report.html"} <= {path.name for path in run_path.iterdir()}


def test_summary_and_limits_come_before_tables_and_pictures(page):
    order = [
        "In short",
        "What this cannot show",
        "Learning curve",
        "Table 1.",
        "Table 2.",
        "Table 3.",
        "Cases",
        "Ledger",
    ]
    assert [page.index(word) for word in order] == sorted(page.index(word) for word in order)
    assert "71.07 ± 21.65" in page and "simulated" in page and "phantoms, not patients" in page
    assert "60 lines, every hash holds" in page
    assert '"data": null' not in page and "network.widths" in page  # the configuration, one line a field


def test_every_picture_decodes(page):
    pictures = re.findall(r"<img src='data:image/png;base64,([^']+)'", page)
    sizes = []
    for picture in pictures:
        data = base64.b64decode(picture)
        assert data.startswith(b"\x89PNG")
        sizes.append(max(struct.unpack(">II", data[16:24])))
    # three stills; best, median and worst of two rankings, and smaller the other seven held-out kidneys
    assert sum(size >= 350 for size in sizes) == 3 + 6 * 3
    assert sum(215 <= size < 350 for size in sizes) == 7 * 3 and len(sizes) == 3 + 13 * 3


def test_every_held_out_kidney_leads_to_its_pictures(page, run_path):
    links = re.findall(r"<a href='#(kidney-\d+)'>([^<]+)</a>", page)
    assert [name for _, name in links] == 2 * list(read_run(run_path).stages[-1].test_kidneys)
    for anchor, name in links:
        assert len(re.findall(f"<figure id='{anchor}'><h3>[^<]*: {name}</h3>", page)) == 1


def test_the_figures_hold_the_surface_and_its_distances(page):
    figures = json.loads(re.findall(r"const FIGURES=(.*?);if", page, flags=re.S)[0])
    assert set(figures) == {"scene-manual_cnn", "scene-cnn_corrected", "scene-manual_corrected"}
    for figure in figures.values():
        mesh = figure["data"][0]
        size = {name: len(base64.b64decode(mesh[name]["bdata"])) for name in ("x", "intensity", "i")}
        assert size["x"] == size["intensity"] and size["i"] > 0


def test_the_worst_kidney_of_each_comparison_is_left_as_meshes(page, run_path):
    for pair in ("manual_cnn", "cnn_corrected", "manual_corrected"):
        first, second = pair.split("_")
        folder = run_path / "meshes" / pair
        said = json.loads((folder / "kidney.json").read_text())
        assert (said["units"], said["frame"], said["pair"]) == ("mm", "LPS", pair)
        assert said["kidney"] in page
        stem = f"{first}_to_{second}"
        assert said["files"] == [f"{stem}.ply", f"{stem}.glb", f"{first}.stl", f"{second}.stl"]
        snapshot = read_snapshot(run_path / f"stage_{said['stage']}/evidence/{said['kidney']}.npz")
        printed = read_surface(folder / f"{first}.stl")
        expected = surface_of(getattr(snapshot, first) > 0, snapshot.geometry)
        assert printed.is_watertight
        assert printed.volume_ml == pytest.approx(expected.volume_ml, rel=1e-4)
        np.testing.assert_allclose(printed.vertices_mm.mean(0), expected.vertices_mm.mean(0), atol=1e-3)


def test_a_run_without_evidence_or_ledger_is_still_reported(tmp_path):
    path = make_run(tmp_path / "bare", stages=1)
    (path / "ledger.jsonl").unlink(missing_ok=True)
    (path / "run.json").unlink()
    write_report(path)
    page = (path / "report.html").read_text()
    assert "Not drawn" in page and "no ledger" in page and "run.json is missing" in page
    assert "Plotly" not in page


def test_a_broken_ledger_is_said(tmp_path):
    path = make_run(tmp_path / "run", stages=2)
    ledger = path / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace("60.0", "30.0", 1))
    write_report(path)
    assert "The ledger does not hold" in (path / "report.html").read_text()


def test_nothing_is_written_when_a_run_cannot_be_read(tmp_path):
    path = make_run(tmp_path / "run", stages=1)
    (path / "stage_1" / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match="JSON"):
        write_report(path)
    assert not list(path.glob("tables.*")) and not (path / "report.html").exists()


def test_names_from_a_run_are_escaped(tmp_path):
    path = make_run(tmp_path / "run", stages=1)
    (path / "run.json").write_text(json.dumps({"config": {"note": "<script>alert(1)</script>"}}))
    write_report(path)
    page = (path / "report.html").read_text()
    assert "<script>alert" not in page and html.escape("<script>alert(1)</script>") in page


def test_words_of_the_summary_follow_the_run(tmp_path):
    rising = " ".join(plain_summary(read_run(make_run(tmp_path / "rising", gain=12.0))))
    assert "better, +" in rising and "50 % saved" in rising and "simulated minutes" in rising
    falling = " ".join(plain_summary(read_run(make_run(tmp_path / "falling", gain=-8.0))))
    assert "worse, -" in falling and "The largest fall of a mean over kidneys: " in falling
    flat = read_run(make_run(tmp_path / "flat", gain=0.0))
    assert "no difference shown" in " ".join(plain_summary(flat))
    assert re.search(r"would likely be missed below \d+\.\d to \d+\.\d points", " ".join(limits(flat)))


def test_correcting_that_took_longer_is_said_to(tmp_path):
    run = read_run(make_run(tmp_path / "slow"))
    stages = []
    for stage in run.stages:
        slow = tuple(replace(r, corrected_seconds=3 * (r.manual_seconds or 0)) for r in stage.labelling)
        stages.append(replace(stage, labelling=slow))
    text = " ".join(plain_summary(replace(run, stages=tuple(stages))))
    assert re.search(r": 200 % more \(95 % CI \d+ to \d+\)\.", text) and "saved" not in text


def test_charts_mark_every_stage_and_structure(run_path):
    run = read_run(run_path)
    chart = learning_curve(run)
    for word in ("artery", "parenchyma", "RCC", "total"):
        assert f">{word}<" in chart
    minutes = minutes_chart(run)
    assert minutes.count("<rect") == 2 * 6 + 2  # two bars a column and the legend
    single = make_run(run_path.parent / "single", stages=1)
    assert minutes_chart(read_run(single)) == ""


def test_ranking_is_by_mean_dsc_and_by_rms(run_path):
    run = read_run(run_path)
    last = run.stages[-1]
    ranked = examples.ranked_tests(last)
    means = {
        kidney: np.mean([r.dsc for r in last.test if r.kidney == kidney and r.dsc is not None])
        for kidney in last.test_kidneys
    }
    assert ranked[0][1] == min(means, key=lambda k: means[k]) and ranked[-1][1] == max(
        means, key=lambda k: means[k]
    )
    assert [place for place, _, _ in examples.spread(ranked)] == ["first", "median", "last"]
    assert [place for place, _, _ in examples.spread(ranked[:2])] == ["first", "last"]
    assert examples.spread([]) == []
    stage, kidney, rms_mm = examples.worst_surfaces(run)["manual_cnn"]
    assert stage == 3 and rms_mm == max(r.rms_mm or 0 for r in last.surfaces if r.pair == "manual_cnn")
    assert kidney in {r.kidney for r in last.surfaces}


def test_png_round_trip():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    data = png(image)
    start = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0]
    rows = np.frombuffer(zlib.decompress(data[start : start + size]), np.uint8).reshape(5, 22)
    assert rows[:, 0].tolist() == [0, 2, 2, 2, 2]
    assert np.array_equal(np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).reshape(5, 7, 3), image)
    with pytest.raises(ValueError, match="png"):
        png(image[..., 0])


def test_evidence_round_trip_keeps_labels_and_place(tmp_path):
    geometry = Geometry((20, 22, 24), (2.0, 1.0, 1.0), (10.0, 20.0, 30.0))
    ct = Volume(np.arange(20 * 22 * 24, dtype=np.int16).reshape(20, 22, 24), geometry)
    box = kernels.Box((4, 5, 6), (9, 12, 15))
    manual = np.ones((5, 7, 9), np.uint8)
    path = write_snapshot(tmp_path / "stage_1", "case_left", "new", ct, box, manual, manual * 2, None)
    found = read_snapshot(path)
    assert (found.kidney, found.role, found.corrected) == ("case_left", "new", None)
    assert found.manual is not None and found.cnn is not None
    first = np.argwhere(found.manual)[0]
    assert found.geometry.to_world(first) == pytest.approx(geometry.to_world(box.lo))
    assert found.ct[tuple(first)] == ct.array[box.lo] and found.manual.sum() == manual.sum()
    with pytest.raises(ValueError, match="cnn must have the box's shape"):
        write_snapshot(tmp_path / "stage_1", "case_left", "new", ct, box, manual, manual[1:])
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"text\.npz"):
        read_snapshot(tmp_path / "text.npz")


def test_slices_show_the_slice_that_differs_with_its_outlines(tmp_path):
    geometry = Geometry((20, 30, 40), (2.0, 1.0, 1.0))
    ct = Volume(np.full((20, 30, 40), 100, np.int16), geometry)
    manual, cnn = np.zeros((2, 20, 30, 40), np.uint8)
    manual[5:15, 10:20, 10:30] = 4
    cnn[5:15, 10:20, 10:30] = 4
    cnn[7, 12:18, 30:36] = 4  # the only difference
    box = kernels.Box((0, 0, 0), (20, 30, 40))
    snapshot = read_snapshot(write_snapshot(tmp_path, "k", "test", ct, box, manual, cnn))
    axial, coronal, sagittal = kidney_slices(snapshot, pixels=260)
    for image in (axial, coronal, sagittal):
        assert image.dtype == np.uint8 and 258 <= max(image.shape[:2]) <= 262
    colours = {outline.name: outline.rgb for outline in OUTLINES}
    seen = (axial == colours["cnn"]).all(2)
    assert (axial == colours["manual"]).all(2).any() and seen.any()
    right_end = np.flatnonzero(seen.any(0)).max() / seen.shape[1]
    assert right_end == pytest.approx((36 + 6) / (40 + 12), abs=0.02)  # 6 mm of margin on either side
