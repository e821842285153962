"""Centrelines and what is measured along them, on tubes whose length is known."""

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from kidseg_jax.evaluation.centreline import centreline
from kidseg_jax.evaluation.metrics import measure_kidney
from kidseg_jax.evaluation.trees import TreeAgreement, measure_tree
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA

SHAPE = (60, 80, 80)
SPACING = (1.5, 0.8, 0.8)
AT_MM = np.stack(
    np.meshgrid(*[np.arange(n) * s for n, s in zip(SHAPE, SPACING, strict=True)], indexing="ij"), -1
)


def tube(begin, end, radius_mm):
    """A tube with round ends, in mm (z, y, x), and each voxel's place along it."""
    a, b = np.array(begin, float), np.array(end, float)
    long_mm = np.linalg.norm(b - a)
    along = (AT_MM - a) @ (b - a) / long_mm
    nearest = a + np.clip(along, 0, long_mm)[..., None] * (b - a) / long_mm
    return np.linalg.norm(AT_MM - nearest, axis=-1) < radius_mm, along


def components(mask) -> tuple[np.ndarray, int]:
    """SciPy's components of 26 neighbours."""
    found = ndimage.label(mask, np.ones((3, 3, 3)))
    assert isinstance(found, tuple)
    return found


def degrees(line):
    return np.bincount(line.edges.ravel(), minlength=len(line.points))


inside_mm = st.tuples(st.floats(8, 80), st.floats(8, 55), st.floats(8, 55))


@settings(max_examples=25, deadline=None)
@given(inside_mm, inside_mm, st.floats(1.3, 5.0))
def test_a_tube_has_one_line_of_its_length_near_its_axis(begin, end, radius_mm):
    axis = np.subtract(end, begin)
    long_mm = float(np.linalg.norm(axis))
    if long_mm < 4 * radius_mm:
        return
    line = centreline(tube(begin, end, radius_mm)[0], SPACING)
    assert line.lengths_mm.sum() == pytest.approx(long_mm + 2 * radius_mm, abs=max(2.5, 0.05 * long_mm))
    assert sorted(np.unique(degrees(line), return_counts=True)[1])[0] == 2  # two ends
    assert degrees(line).max() == 2
    off_mm = np.linalg.norm(np.cross(line.points * np.array(SPACING) - begin, axis / long_mm), axis=1)
    assert off_mm.mean() < max(SPACING)


@pytest.mark.parametrize("centre", [(30.0, 30.0), (30.4, 30.4), (30.0, 30.4)])
def test_a_straight_tube_keeps_its_length_at_even_and_odd_widths(centre):
    mask, _ = tube((10, *centre), (70, *centre), 2.0)
    assert centreline(mask, SPACING).lengths_mm.sum() == pytest.approx(64, abs=2.5)


def test_a_fork_has_three_ends_and_the_length_of_its_arms():
    arms = [((10, 30, 20), (45, 30, 30)), ((45, 30, 30), (75, 12, 45)), ((45, 30, 30), (75, 52, 30))]
    mask = np.any([tube(*ends, 2.5)[0] for ends in arms], axis=0)
    line = centreline(mask, SPACING)
    expected = sum(np.linalg.norm(np.subtract(*ends)) for ends in arms) + 3 * 2.5
    assert np.count_nonzero(degrees(line) == 1) == 3
    assert np.count_nonzero(degrees(line) == 3) == 1
    assert line.lengths_mm.sum() == pytest.approx(expected, rel=0.04)


def test_a_ring_is_opened_at_one_place():
    middle = np.array([40.0, 30.0, 30.0])
    radius = np.hypot(AT_MM[..., 1] - middle[1], AT_MM[..., 2] - middle[2])
    ring = np.hypot(radius - 18, AT_MM[..., 0] - middle[0]) < 3
    line = centreline(ring, SPACING)
    assert len(line.edges) == len(line.points) - 1
    assert 0.8 < line.lengths_mm.sum() / (2 * np.pi * 18) < 1.05


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)))
def test_every_piece_has_one_tree_inside_the_mask(mask):
    line = centreline(mask, (2.0, 1.0, 0.5))
    pieces, n = components(mask)
    on_line = np.zeros(mask.shape, bool)
    on_line[tuple(line.points.T)] = True
    assert mask[on_line].all()
    assert len(line.points) - len(line.edges) == n
    assert set(pieces[on_line]) == set(range(1, n + 1))
    assert components(on_line)[1] == n
    ends = line.points[line.edges]
    assert np.abs(ends[:, 0] - ends[:, 1]).max(initial=0) <= 1


def test_a_tree_agrees_with_itself():
    mask = tube((10, 20, 20), (70, 40, 50), 2.5)[0] | tube((10, 50, 20), (30, 50, 20), 2.0)[0]
    found = measure_tree(mask, mask, SPACING)
    assert found.cldice == 1
    assert found.truth_pieces == found.predicted_pieces == 2
    assert found.found_mm == found.truth_mm
    assert found.false_mm == found.gaps == found.largest_gap_mm == 0


@pytest.mark.parametrize("gap_mm", [6.0, 12.0, 20.0])
def test_a_cut_is_a_gap_of_its_length(gap_mm):
    truth, along = tube((10, 20, 20), (70, 40, 50), 2.5)
    missed = np.abs(along - 35) < gap_mm / 2
    found = measure_tree(truth, truth & ~missed, SPACING)
    assert found.predicted_pieces == 2
    assert found.gaps == 1
    assert found.largest_gap_mm == pytest.approx(gap_mm, abs=1.5)
    assert found.truth_mm is not None
    assert found.found_mm == pytest.approx(found.truth_mm - gap_mm, abs=1.5)
    assert found.false_mm == 0


def test_a_missed_end_is_no_gap_and_an_added_one_is_false():
    truth, along = tube((10, 20, 20), (70, 40, 50), 2.5)
    part = truth & (along < 40)
    missed, added = measure_tree(truth, part, SPACING), measure_tree(part, truth, SPACING)
    assert missed.gaps == 0
    assert missed.false_mm == 0
    assert missed.found_mm == pytest.approx(42.5, abs=2)
    assert added.false_mm == pytest.approx(73.2 - 42.5, abs=3)
    assert added.found_mm == added.truth_mm
    assert missed.cldice == pytest.approx(2 * (42.5 / 73.2) / (1 + 42.5 / 73.2), abs=0.03)


def test_three_stretches_missed_around_a_found_fork_are_three_ends():
    arms = [((40, 30, 30), (10, 30, 30)), ((40, 30, 30), (70, 10, 45)), ((40, 30, 30), (70, 50, 30))]
    truth = np.any([tube(*ends, 2.5)[0] for ends in arms], axis=0)
    near = np.linalg.norm(AT_MM - [40, 30, 30], axis=-1)
    assert measure_tree(truth, truth & (near < 10), SPACING).gaps == 0
    cut = measure_tree(truth, truth & ((near < 8) | (near > 16)), SPACING)
    assert cut.gaps == 3
    assert measure_tree(truth, truth & (near > 10), SPACING).gaps == 1  # one gap that three ends touch


def test_empty_trees_are_defined():
    mask, none = tube((10, 20, 20), (70, 40, 50), 2.5)[0], np.zeros(SHAPE, bool)
    assert measure_tree(none, mask, SPACING) == TreeAgreement()
    missed = measure_tree(mask, none, SPACING)
    assert (missed.cldice, missed.predicted_pieces, missed.found_mm, missed.false_mm, missed.gaps) == (
        0,
        0,
        0,
        0,
        0,
    )


def test_records_of_a_kidney_have_trees_where_there_are_any():
    labels = np.zeros(SHAPE, np.uint8)
    labels[20:40, 20:40, 50:70] = PARENCHYMA
    labels[tube((10, 20, 10), (60, 20, 30), 2.5)[0]] = ARTERY
    records = {record["structure"]: record for record in measure_kidney(labels, labels, SPACING)}
    assert records["artery"]["cldice"] == 1
    for name in ("parenchyma", "vein"):
        assert all(records[name][key] is None for key in asdict(TreeAgreement()))
