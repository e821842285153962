"""What a surgeon asks of a label map: sizes, distances and areas of known shapes, scores, arteries."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from grids import oblique
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from surgical import check
from surgical_phantoms import make_phantom

from kidseg_jax.cli.app import main
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import ARTERY, NAMES, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import Geometry, Volume, on_grid_of, oriented
from kidseg_jax.report.surgical_page import surgical_page
from kidseg_jax.surgery.arteries import branches_of, entries, nearest_ends
from kidseg_jax.surgery.capsule import fit_capsule
from kidseg_jax.surgery.case import measure_case
from kidseg_jax.surgery.contact import contact_area_mm2, kept_ml
from kidseg_jax.surgery.kidney import measure_kidney
from kidseg_jax.surgery.records import CAUTION, to_csv, to_json
from kidseg_jax.surgery.scores import NOT_DETERMINABLE, Anatomy, padua, renal
from kidseg_jax.surgery.surface import extents_mm, gap_mm, surface_between, touches

SPACINGS = [(1.0, 1.0, 1.0), (1.3, 0.8, 0.8), (0.7, 0.9, 1.1)]
COARSE = (1.5, 1.4, 1.4)


def grid(shape_mm, spacing):
    """World points (z, y, x, 3) in mm of a grid from 0."""
    axes = [np.arange(round(n / s)) * s for n, s in zip(shape_mm, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def ball(points, centre, radius):
    return np.linalg.norm(points - np.asarray(centre), axis=-1) < radius


def tube(points, start, end, radius):
    start, way = np.asarray(start, float), np.subtract(end, start).astype(float)
    t = ((points - start) @ way / (way @ way)).clip(0, 1)
    return np.linalg.norm(points - start - t[..., None] * way, axis=-1) < radius


@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_and_diameters_of_balls_are_better_than_a_voxel(spacing):
    points = grid((70, 50, 90), spacing)
    a, b = ball(points, (30.3, 24.8, 20.1), 14.2), ball(points, (41.2, 26.1, 62.4), 9.7)
    true = float(np.linalg.norm(np.subtract((30.3, 24.8, 20.1), (41.2, 26.1, 62.4)))) - 14.2 - 9.7
    first, second = surface_between(a, spacing), surface_between(b, spacing)
    gap = gap_mm(first, second)
    assert gap is not None and abs(gap - true) < 0.35
    extents = extents_mm(first)
    assert extents is not None and np.abs(np.subtract(extents, 28.4)).max() < max(spacing)
    assert not touches(a, b) and touches(a, np.roll(a, 1, 0))


def test_extents_are_the_axes_of_an_ellipsoid():
    points = grid((60, 60, 60), (1, 1, 1)) - 30.2
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    mask = np.sum((points @ turn / [22, 15, 9]) ** 2, axis=-1) < 1
    found = extents_mm(surface_between(mask, (1, 1, 1)))
    assert found is not None and np.abs(np.subtract(found, (44, 30, 18))).max() < 1
    assert extents_mm(np.zeros((0, 3))) is None and extents_mm(np.ones((9, 3))) is None


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("height", [-6.0, 0.0, 5.0])
def test_contact_area_of_a_ball_in_a_flat_kidney_is_that_of_its_cap(spacing, height):
    points = grid((50, 50, 50), spacing)
    tumour = ball(points, (24.6, 25.3, 25.2), 12.0)
    parenchyma = (points[..., 1] < 25.3 + height) & ~tumour
    assert contact_area_mm2(tumour, parenchyma, spacing) == pytest.approx(
        2 * np.pi * 12 * (12 + height), rel=0.05
    )


def test_contact_is_none_without_parenchyma_and_all_where_it_is_buried():
    points = grid((40, 40, 40), (1, 1, 1))
    tumour = ball(points, (20.2, 19.7, 20), 10)
    assert contact_area_mm2(tumour, np.zeros_like(tumour), (1, 1, 1)) == 0
    assert contact_area_mm2(tumour, ~tumour, (1, 1, 1)) == pytest.approx(400 * np.pi, rel=0.03)


def test_kept_volume_is_what_lies_beyond_the_margin():
    points = grid((60, 60, 60), (1, 1, 1))
    tumour, kidney = ball(points, (30, 30, 30), 10), ball(points, (30, 30, 30), 25)
    surface = surface_between(tumour, (1, 1, 1))
    for margin in (0.0, 5.0, 10.0):
        true = 4 / 3 * np.pi * (25**3 - (10 + margin) ** 3) / 1000
        assert kept_ml(kidney & ~tumour, surface, margin, (1, 1, 1)) == pytest.approx(true, rel=0.015)
    assert kept_ml(kidney, np.zeros((0, 3)), 5.0, (1, 1, 1)) == pytest.approx(kidney.sum() / 1000)


def test_the_capsule_runs_on_where_a_tumour_hides_it():
    points = grid((110, 70, 70), COARSE)
    kidney = np.sum(((points - [55, 35, 35]) / [48, 26, 24]) ** 2, axis=-1) < 1
    tumour = ball(points, (60, 52, 40), 15)
    labels = np.where(tumour, RCC, np.where(kidney, PARENCHYMA, 0)).astype(np.uint8)
    capsule = fit_capsule(labels, COARSE)
    assert capsule is not None
    share = float((capsule.beyond_mm[tumour] > 0).mean())
    assert share == pytest.approx(float((tumour & ~kidney).sum() / tumour.sum()), abs=0.01)
    assert np.abs(capsule.half_mm - [48, 26, 24]).max() < 0.5
    assert fit_capsule(np.where(labels == RCC, RCC, 0).astype(np.uint8), COARSE) is None


@pytest.mark.parametrize("seed", [2, 7])
def test_numbers_of_a_kidney_of_formulas(seed):
    spacing = (1.2, 0.95, 0.95)
    tumours, kidney = check(make_phantom(seed, spacing), seed)
    for row in tumours:
        assert max(abs(row[n]) for n in ("longest_mm", "orthogonal_mm", "third_mm")) < max(spacing)
        assert abs(row["to_sinus_mm"]) < 0.5
        assert max(abs(row[f"to_{n}_mm"]) for n in ("artery", "vein", "ureter")) < 1
        assert abs(row["contact_mm2"]) < 5
        assert abs(row["exophytic_percent"]) < 3 and abs(row["kept_percent"]) < 1
        assert {v for v in row.values() if isinstance(v, str)} <= {"", "ok"}
    assert kidney["arteries"] == kidney["entering"] and kidney["ends"] == kidney["ends_found"]
    assert kidney["worst_dsc"] >= 0.8


def anatomy(**changed) -> Anatomy:
    told = {
        "longest_mm": 30.0,
        "exophytic": 0.6,
        "endophytic": False,
        "to_sinus_mm": 9.0,
        "to_collecting_mm": None,
        "touches_sinus": False,
        "touches_collecting": False,
        "touches_hilar_vessel": False,
        "front_share": 0.9,
        "hilar_share": 0.1,
        "polar_above": 1.0,
        "polar_below": 0.0,
        "polar_crossed": False,
        "crosses_middle": False,
        "sinus_above": 1.0,
        "sinus_below": 0.0,
        "missing": {},
    }
    return Anatomy(**{**told, **changed})


@pytest.mark.parametrize(
    ("changed", "points"),
    [
        ({}, (1, 1, 1, 1)),
        ({"longest_mm": 40.0}, (1, 1, 1, 1)),
        ({"longest_mm": 40.1}, (2, 1, 1, 1)),
        ({"longest_mm": 70.0}, (3, 1, 1, 1)),
        ({"exophytic": 0.5}, (1, 1, 1, 1)),
        ({"exophytic": 0.49}, (1, 2, 1, 1)),
        ({"exophytic": 0.0, "endophytic": True}, (1, 3, 1, 1)),
        ({"to_sinus_mm": 7.0}, (1, 1, 1, 1)),
        ({"to_sinus_mm": 6.9}, (1, 1, 2, 1)),
        ({"to_sinus_mm": 4.0}, (1, 1, 3, 1)),
        ({"to_collecting_mm": 4.1}, (1, 1, 2, 1)),
        ({"polar_above": 0.6, "polar_crossed": True}, (1, 1, 1, 2)),
        ({"polar_above": 0.4, "polar_crossed": True}, (1, 1, 1, 3)),
        ({"polar_above": 0.6, "polar_crossed": True, "crosses_middle": True}, (1, 1, 1, 3)),
        ({"polar_above": 0.0}, (1, 1, 1, 3)),
    ],
)
def test_renal_follows_its_table(changed, points):
    score = renal(anatomy(**changed))
    assert tuple(c.points for c in score.components if c.name in ("R", "E", "N", "L")) == points
    assert score.total == score.lowest == score.highest == sum(points)


@pytest.mark.parametrize(
    ("changed", "total", "level"),
    [
        ({}, 6, "low"),
        ({"longest_mm": 70.0}, 7, "low"),
        ({"longest_mm": 70.1, "sinus_above": 0.4}, 9, "intermediate"),
        ({"hilar_share": 0.6, "touches_sinus": True, "touches_collecting": True}, 9, "intermediate"),
        ({"exophytic": 0.0, "endophytic": True, "touches_sinus": True, "longest_mm": 71.0}, 11, "high"),
    ],
)
def test_padua_follows_its_table(changed, total, level):
    score = padua(anatomy(**changed))
    assert (score.total, score.level) == (total, level)


def test_a_score_with_a_part_that_is_not_told_is_a_range():
    score = renal(anatomy(to_sinus_mm=None, missing={"to_sinus_mm": "no sinus"}))
    assert (score.total, score.lowest, score.highest) == (NOT_DETERMINABLE, 4, 6)
    assert next(c.value for c in score.components if c.name == "N") == f"{NOT_DETERMINABLE}: no sinus"
    score = padua(anatomy(touches_collecting=None))
    assert (score.total, score.lowest, score.highest) == (NOT_DETERMINABLE, 6, 7)


FORK, TIPS = (30.0, 30.0, 36.0), ((50.0, 30.0, 16.0), (30.0, 46.0, 14.0), (12.0, 28.0, 18.0))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_tree_has_its_branches_lengths_and_territories(spacing):
    points = grid((64, 60, 76), spacing)
    artery = tube(points, (30, 30, 72), FORK, 2.6)
    for tip in TIPS:
        artery |= tube(points, FORK, tip, 1.7)
    branches = branches_of(artery, np.array([30.0, 30.0, 10.0]), spacing)
    assert [b.parent for b in branches] == [None, 0, 0, 0] and [b.ends for b in branches] == [
        False,
        True,
        True,
        True,
    ]
    assert branches[0].length_mm == pytest.approx(
        36 + 2.6 + 2.6, abs=2
    )  # its round end, and to the fork's far wall
    found = {tuple(np.round(b.line_mm[-1], 0)): b for b in branches[1:]}
    for tip in TIPS:
        place, branch = min(
            found.items(), key=lambda item, t=tip: float(np.linalg.norm(np.subtract(item[0], t)))
        )
        assert np.linalg.norm(np.subtract(place, tip)) < 3
        assert branch.length_mm == pytest.approx(float(np.linalg.norm(np.subtract(tip, FORK))), abs=4)
        assert branch.radius_mm == pytest.approx(1.7, abs=0.4)
    asked = np.random.default_rng(0).uniform(0, 60, (4000, 3))
    true = np.argmin([_to_segment(asked, FORK, tip) for tip in TIPS], axis=0)
    own, _ = nearest_ends(asked, branches)
    table = np.zeros((3, 3))
    np.add.at(table, (true, own), 1)
    dsc = 2 * table / (table.sum(1)[:, None] + table.sum(0)[None])
    assert dsc.max(axis=1).min() > 0.85 and len(set(dsc.argmax(axis=1))) == 3


def _to_segment(points, start, end):
    way = np.subtract(end, start)
    t = ((points - start) @ way / (way @ way)).clip(0, 1)
    return np.linalg.norm(points - start - t[:, None] * way, axis=1)


def test_a_straight_artery_is_one_branch_and_small_pieces_are_none():
    points = grid((30, 30, 60), (1, 1, 1))
    artery = tube(points, (15, 15, 5), (15, 15, 55), 3.2)
    (only,) = branches_of(artery, np.array([15.0, 15.0, 0.0]), (1, 1, 1))
    assert only.ends and only.parent is None and only.length_mm == pytest.approx(56, abs=5)
    crumb = np.zeros((9, 9, 9), bool)
    crumb[4, 4, 4:6] = True
    assert branches_of(crumb, np.zeros(3), (1, 1, 1)) == ()
    with pytest.raises(ValueError, match="need a branch that ends"):
        nearest_ends(np.zeros((1, 3)), ())


def test_arteries_that_enter_are_counted_where_they_pass():
    points = grid((50, 40, 60), (1, 1, 1))
    inside = ball(points, (25, 20, 20), 18)
    one = tube(points, (25, 20, 58), (25, 20, 20), 2)
    assert entries(one, inside) == 1
    assert entries(one | tube(points, (38, 20, 55), (32, 20, 25), 2), inside) == 2
    assert entries(tube(points, (25, 20, 58), (25, 20, 44), 2), inside) == 0
    assert entries(np.zeros_like(one), inside) == 0


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(5, COARSE, 2)


def test_two_tumours_are_told_apart_and_largest_first(phantom):
    kidney, drawn = measure_kidney(phantom.labels, COARSE)
    assert len(kidney.tumours) == len(drawn.tumour_centres) == 2
    assert kidney.tumours[0].volume_ml >= kidney.tumours[1].volume_ml
    shares = [b.nearest_percent for b in kidney.branches if b.ends]
    assert sum(shares) == pytest.approx(100, abs=0.1)


def test_what_is_not_labelled_is_not_determinable(phantom):
    labels = np.where(phantom.labels < PARENCHYMA, 0, phantom.labels).astype(np.uint8)
    kidney, _ = measure_kidney(labels, COARSE, structures={"parenchyma", "rcc"})
    assert str(kidney.volumes_ml["artery"]).startswith(NOT_DETERMINABLE)
    assert str(kidney.arteries_entering).startswith(NOT_DETERMINABLE) and kidney.branches == ()
    for tumour in kidney.tumours:
        assert all(
            str(getattr(tumour, f"to_{n}_mm")).startswith(NOT_DETERMINABLE)
            for n in ("artery", "vein", "ureter")
        )
        assert isinstance(tumour.to_sinus_mm, float) and isinstance(tumour.renal.total, int)
        assert tumour.padua.total == NOT_DETERMINABLE
    unlabelled, _ = measure_kidney(labels, COARSE, structures={"parenchyma"})
    assert unlabelled.tumours == () and any("RCC is not labelled" in note for note in unlabelled.notes)


def test_a_kidney_that_the_image_cuts_has_no_polar_location(phantom):
    half = phantom.labels.shape[0] // 2
    kidney, _ = measure_kidney(phantom.labels[half:], COARSE, cut_by=("inferior",))
    assert kidney.cut_by == ("inferior",) and str(kidney.length_mm).startswith(NOT_DETERMINABLE)
    for tumour in kidney.tumours:
        assert next(c.points for c in tumour.renal.components if c.name == "L") is None
        assert str(tumour.kept_ml).startswith(NOT_DETERMINABLE)


def test_a_cut_tumour_has_no_diameter():
    points = grid((60, 60, 60), (1, 1, 1))
    labels = np.where(ball(points, (20, 30, 30), 18), PARENCHYMA, 0).astype(np.uint8)
    labels[ball(points, (2, 30, 30), 9)] = RCC
    (kidney,) = measure_case("x", Volume(labels, Geometry(labels.shape, (1, 1, 1))))
    (tumour,) = kidney.measures.tumours
    assert "inferior" in kidney.measures.cut_by
    assert {str(getattr(tumour, n))[:16] for n in ("longest_mm", "contact_mm2", "kept_ml")} == {
        NOT_DETERMINABLE
    }


def test_a_tumour_larger_than_its_kidney_and_one_voxel_of_kidney_are_measured():
    points = grid((80, 80, 80), (2, 2, 2))
    labels = np.where(ball(points, (40, 40, 30), 10), PARENCHYMA, 0).astype(np.uint8)
    labels[ball(points, (40, 40, 48), 25)] = RCC
    kidney, _ = measure_kidney(labels, (2, 2, 2))
    assert kidney.tumours[0].longest_mm == pytest.approx(50, abs=2)
    one = np.zeros((3, 3, 3), np.uint8)
    one[1, 1, 1] = PARENCHYMA
    kidney, _ = measure_kidney(one, (1, 1, 1))
    assert kidney.tumours == () and str(kidney.sinus_ml).startswith(NOT_DETERMINABLE)


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.sampled_from((0.5, 1.0, 3.0))] * 3))
@settings(max_examples=25, deadline=None)
def test_any_labels_are_measured_or_refused_in_one_line(seed, spacing):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 26, 3)
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    blobs = ndimage.gaussian_filter(rng.standard_normal((6, *size)), (0, 2, 2, 2)).argmax(0).astype(np.uint8)
    volume = Volume(blobs, Geometry(size, spacing))
    try:
        kidneys = measure_case("x", volume)
    except ValueError as error:
        assert "need a label map with parenchyma" in str(error)
        return
    text = to_json(k.measures for k in kidneys)
    assert json.loads(text)["caution"] == CAUTION and "NaN" not in text
    assert all(CAUTION in surgical_page(kidney) for kidney in kidneys)


def test_a_margin_must_be_a_length(phantom):
    for margin in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="margin must be a number of mm"):
            measure_kidney(phantom.labels, COARSE, margin_mm=margin)
    with pytest.raises(ValueError, match="need a kidney"):
        measure_kidney(np.ones((3, 3, 3), np.uint8), COARSE)


def pair(phantom) -> Volume:
    """A phantom and its mirror image in one canonical label map on an oblique grid."""
    mirrored = phantom.labels[:, :, ::-1]
    labels = np.concatenate([mirrored, phantom.labels], axis=2)
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    tilt = np.deg2rad(12)
    turned = ((1, 0, 0), (0, np.cos(tilt), -np.sin(tilt)), (0, np.sin(tilt), np.cos(tilt)))
    return Volume(np.ascontiguousarray(labels), Geometry(shape, COARSE, (3.0, -20.0, 5.0), turned))


def test_numbers_do_not_depend_on_how_the_file_stores_its_axes(phantom):
    whole = pair(phantom)
    plain = [k.measures for k in measure_case("x", whole)]
    stored = oriented(whole, "IRA")
    turned = measure_case("x", Volume(np.ascontiguousarray(stored.array), stored.geometry))
    assert [k.measures for k in turned] == plain
    assert [k.side for k in plain] == ["right", "left"]
    assert plain[0].volumes_ml == plain[1].volumes_ml


class Balance(HTMLParser):
    """Every tag that opens closes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_verb_writes_json_csv_and_a_page_a_kidney(tmp_path, phantom, capsys):
    whole = pair(phantom)
    write_volume(tmp_path / "x.nii.gz", whole)
    ct = whole.with_array(np.where(whole.array > 0, 120, -50).astype(np.int16))
    write_volume(tmp_path / "ct.nii.gz", ct)
    asked = ["measure", str(tmp_path / "x.nii.gz"), "--ct", str(tmp_path / "ct.nii.gz")]
    assert main([*asked, "--out", str(tmp_path / "out"), "--margin-mm", "3"]) == 0
    assert CAUTION in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"x_measures.json", "x_measures.csv", "x_right.html", "x_left.html"}
    data = json.loads((tmp_path / "out" / "x_measures.json").read_text())
    assert [k["side"] for k in data["kidneys"]] == ["right", "left"] and data["caution"] == CAUTION
    with open(tmp_path / "out" / "x_measures.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    volumes = {
        r["name"]: float(r["value"])
        for r in rows
        if r["side"] == "left" and r["name"].startswith("volume of ")
    }
    voxel_ml = float(np.prod(COARSE)) / 1000
    for value, name in zip((ARTERY, VEIN, URETER, PARENCHYMA, RCC), NAMES, strict=True):
        true = float((phantom.labels == value).sum()) * voxel_ml
        assert volumes[f"volume of {name}"] == pytest.approx(true, abs=1e-3)
    assert all(r["rule"] for r in rows if "PADUA" in r["name"] or "R.E.N.A.L." in r["name"])
    page = (tmp_path / "out" / "x_left.html").read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    assert parser.open == [] and CAUTION in page and page.count("data:image/png") == 6
    assert not re.findall(r"(?:src|href)=['\"](?!data:)", page)
    assert "parenchyma kept at a margin of 3 mm" in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--margin-mm", "-2"], "--margin-mm must be a number from 0, got -2.0"),
        ([], "need a label map with parenchyma, got none of it"),
        (["--label-map", "kits"], "label map 'kits': need auto"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(tmp_path, capsys, more, said):
    write_volume(tmp_path / "x.nii.gz", Volume(np.ones((4, 5, 6), np.uint8), oblique(3, shape=(4, 5, 6))))
    assert main(["measure", str(tmp_path / "x.nii.gz"), "--out", str(tmp_path / "out"), *more]) == 2
    text = capsys.readouterr().err
    assert said in text and text.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_lone_kidney_has_a_side_where_a_ct_shows_the_body(tmp_path, phantom):
    labels = np.pad(phantom.labels, ((0, 0), (20, 20), (10, 120)))
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    whole = Volume(labels, Geometry(shape, COARSE))
    ct = whole.with_array(np.full(shape, 30, np.int16))
    assert [k.measures.side for k in measure_case("x", whole)] == [NOT_DETERMINABLE]
    assert [k.measures.side for k in measure_case("x", whole, ct)] == ["right"]
    assert to_csv(k.measures for k in measure_case("x", on_same_grid(whole), ct)).count(NOT_DETERMINABLE) == 0


def on_same_grid(volume: Volume) -> Volume:
    return Volume(on_grid_of(volume.array, volume).array, volume.geometry)
