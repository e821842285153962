"""Surface distances against brute force and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracles import (
    border_oracle,
    distances_oracle,
    examples,
    layouts,
    random_labels,
    triangle_distances_oracle,
)
from scipy import ndimage
from scipy.spatial import KDTree
from surface_oracles import ball, cells_of, triangles_of

from kidseg_jax import kernels

DEFINITIONS: tuple[kernels.Definition, ...] = ("border", "surfel", "triangle")
POINTS: tuple[kernels.Definition, ...] = DEFINITIONS[:2]


@examples(150)
@given(data=st.data())
def test_border_and_surfel_distances_match_brute_force(data):
    shape = data.draw(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 70)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    spacing = tuple(rng.uniform(0.3, 4, 3))
    a, b = (random_labels(rng, shape, density=rng.random() ** 2) for _ in "ab")
    views = layouts(a)
    view = views[data.draw(st.sampled_from(sorted(views)))]
    threads = data.draw(st.integers(1, 3))
    for definition in POINTS:
        points = border_oracle if definition == "border" else lambda mask: cells_of(mask)[0]
        found = kernels.surface_distances(view, b, spacing, definition, threads=threads)
        pa, pb = points(a) * spacing, points(b) * spacing
        np.testing.assert_allclose(found.a_to_b_mm, distances_oracle(pa, pb), rtol=1e-12)
        np.testing.assert_allclose(found.b_to_a_mm, distances_oracle(pb, pa), rtol=1e-12)
        if definition == "border":
            assert (found.a_weights == 1).all()


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_masks_far_apart_take_the_tree_and_stay_exact(definition):
    a = ball((60, 50, 90), (10, 10, 12), 6)
    b = ball((60, 50, 90), (48, 35, 75), 8)
    spacing = (1.0, 0.8, 0.7)
    found = kernels.surface_distances(a, b, spacing, definition, threads=2)
    if definition == "triangle":
        other = kernels.surface_points(b, 20_000, 0, spacing)
        near = KDTree(other).query(kernels.surface_points(a, 5_000, 1, spacing))[0]
        assert found.a_to_b_mm.mean() == pytest.approx(near.mean(), rel=2e-3)
        return
    points = border_oracle if definition == "border" else lambda mask: cells_of(mask)[0]
    expected = KDTree(points(b) * spacing).query(points(a) * spacing)[0]
    np.testing.assert_allclose(found.a_to_b_mm, expected, rtol=1e-12)


def test_border_matches_the_distance_transform():
    rng = np.random.default_rng(3)
    a, b = (ndimage.gaussian_filter(rng.random((30, 40, 50)), 3) > 0.5 for _ in "ab")
    spacing = (2.5, 0.86, 0.9)
    found = kernels.surface_distances(a, b, spacing)
    border = np.zeros(b.shape, bool)
    border[tuple(border_oracle(b).T)] = True
    field = np.asarray(ndimage.distance_transform_edt(~border, sampling=spacing))
    np.testing.assert_allclose(found.a_to_b_mm, field[tuple(border_oracle(a).T)], rtol=1e-12)
    pooled = np.concatenate([found.a_to_b_mm, found.b_to_a_mm])
    assert found.rms_mm() == pytest.approx(np.sqrt((pooled**2).mean()), rel=1e-12)
    assert found.assd_mm() == pytest.approx(pooled.mean(), rel=1e-12)
    assert found.hausdorff_mm() == pooled.max()
    assert found.pooled_percentile_mm(95) == pytest.approx(np.percentile(pooled, 95), rel=1e-12)
    assert found.nsd(1.0) == pytest.approx((pooled <= 1).mean(), rel=1e-12)
    assert found.mean_mm() == pytest.approx((found.a_to_b_mm.mean(), found.b_to_a_mm.mean()), rel=1e-12)
    assert kernels.surface_rms(a, b, spacing) == found.rms_mm()


@pytest.mark.parametrize("seed", range(4))
def test_triangle_distances_match_brute_force(seed):
    rng = np.random.default_rng(seed)
    spacing = tuple(rng.uniform(0.5, 2, 3))
    a, b = (ndimage.gaussian_filter(rng.random((7, 8, 9)), 1) > 0.5 for _ in "ab")
    found = kernels.surface_distances(a, b, spacing, "triangle")
    ta, tb = (triangles_of(mask, spacing) for mask in (a, b))
    assert len(found.a_to_b_mm) == len(ta)
    expected = np.sort(triangle_distances_oracle(ta.mean(1), tb))
    np.testing.assert_allclose(np.sort(found.a_to_b_mm), expected, atol=1e-12)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_empty_masks_have_defined_measures(definition):
    empty, full = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    one = kernels.surface_distances(empty, full, (1, 1, 1), definition)
    assert len(one.a_to_b_mm) == 0
    assert np.isinf(one.b_to_a_mm).all()
    assert [one.rms_mm(), one.assd_mm(), one.hausdorff_mm(95), one.pooled_percentile_mm(95)] == [np.inf] * 4
    assert one.mean_mm() == (np.inf, np.inf)
    assert one.nsd(1) == 0
    none = kernels.surface_distances(empty, empty, (1, 1, 1), definition)
    assert np.isnan([none.rms_mm(), none.assd_mm(), none.hausdorff_mm(), none.nsd(1), *none.mean_mm()]).all()


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_distances_are_symmetric_and_ignore_shifts_layout_and_threads(definition):
    rng = np.random.default_rng(0)
    a, b = (ndimage.gaussian_filter(rng.random((12, 13, 70)), 2) > 0.5 for _ in "ab")
    spacing = (1.5, 0.7, 0.9)
    found = kernels.surface_distances(a, b, spacing, definition)
    back = kernels.surface_distances(b, a, spacing, definition, threads=3)
    np.testing.assert_array_equal(found.a_to_b_mm, back.b_to_a_mm)
    np.testing.assert_array_equal(found.a_weights, back.b_weights)
    wide_a, wide_b = (np.pad(mask, ((3, 1), (0, 9), (61, 2))) for mask in (a, b))
    moved = kernels.surface_distances(wide_a, wide_b, spacing, definition)
    np.testing.assert_allclose(moved.a_to_b_mm, found.a_to_b_mm, atol=1e-12)
    for view in layouts(a).values():
        np.testing.assert_array_equal(
            kernels.surface_distances(view, b, spacing, definition).a_to_b_mm, found.a_to_b_mm
        )
    same = kernels.surface_distances(a, a, spacing, definition)
    assert same.hausdorff_mm() == pytest.approx(0, abs=1e-12)
    assert same.nsd(0 if definition != "triangle" else 1e-9) == 1


def test_weighted_percentile_counts_area():
    a, weights, b, one = (np.array(v, float) for v in ([0, 1, 9], [90, 6, 4], [0], [1]))
    found = kernels.SurfaceDistances("surfel", a, weights, b, one)
    assert found.hausdorff_mm(90) == 0
    assert found.hausdorff_mm(95) == 1
    assert found.hausdorff_mm(100) == 9
    assert found.nsd(1) == pytest.approx(97 / 101)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"spacing_mm": (1, 0, 1)},
            ValueError,
            r"spacing_mm must be 3 positive finite numbers, got \(1, 0, 1\)",
        ),
        ({"spacing_mm": (1, float("nan"), 1)}, ValueError, "nan"),
        ({"spacing_mm": (1, 1)}, ValueError, r"got \(1, 1\)"),
        ({"spacing_mm": 1.0}, TypeError, "got 1.0"),
        ({"b": np.zeros((2, 2, 3), bool)}, ValueError, r"one shape, got \(2, 2, 2\) and \(2, 2, 3\)"),
        ({"a": np.zeros((2, 2, 2))}, TypeError, "a must be bool or integers, got float64"),
        ({"definition": "voxel"}, ValueError, "got 'voxel'"),
        ({"threads": -1}, ValueError, "threads must be at least 1, got -1"),
    ],
)
def test_bad_surfaces_are_refused_in_one_line(change, error, message):
    arguments = {"a": np.zeros((2, 2, 2), bool), "b": np.zeros((2, 2, 2), bool), "spacing_mm": (1, 1, 1)}
    with pytest.raises(error, match=message) as caught:
        kernels.surface_distances(**(arguments | change))
    assert "\n" not in str(caught.value)


def test_bad_percentiles_tolerances_and_seeds_are_refused():
    found = kernels.surface_distances(np.ones((1, 1, 1), bool), np.ones((1, 1, 1), bool), (1, 1, 1))
    with pytest.raises(ValueError, match=r"percent must be in 0\.\.100, got 101"):
        found.hausdorff_mm(101)
    with pytest.raises(ValueError, match=r"percent must be in 0\.\.100, got -1"):
        found.pooled_percentile_mm(-1)
    with pytest.raises(ValueError, match="tolerance_mm must not be negative, got nan"):
        found.nsd(float("nan"))
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        kernels.surface_points(np.ones((1, 1, 1), bool), 1, -1)
