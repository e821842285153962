"""The triangles of a mask: their areas, and points spread over them."""

import numpy as np
import pytest
from kernel_oracles import triangle_distances_oracle
from surface_oracles import ball, triangles_of

from kidseg_jax import kernels


@pytest.mark.parametrize("seed", range(5))
def test_triangle_and_surfel_areas_are_one_surface(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 6, 7)) < rng.random()
    spacing = tuple(rng.uniform(0.5, 3, 3))
    empty = np.zeros_like(mask)
    triangles, cells = (
        kernels.surface_distances(mask, empty, spacing, definition).a_weights
        for definition in ("triangle", "surfel")
    )
    assert triangles.sum() == pytest.approx(cells.sum(), rel=1e-12)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (2, 0.5, 3)])
def test_surfel_areas_of_hand_countable_masks(spacing):
    sz, sy, sx = spacing
    voxel = np.ones((1, 1, 1), bool)
    corner = np.linalg.norm([sy * sz, sx * sz, sx * sy]) / 8  # the triangle that cuts one corner of a cell
    weights = kernels.surface_distances(voxel, voxel, spacing, "surfel").a_weights
    np.testing.assert_allclose(weights, np.full(8, corner), rtol=1e-12)
    slab = np.ones((1, 4, 4), bool)
    distances = kernels.surface_distances(slab, slab, spacing, "surfel")
    inner = distances.a_weights[np.isclose(distances.a_weights, sy * sx)]
    assert len(inner) == 2 * 3 * 3  # the flat cells above and below


def test_surface_area_of_a_ball_is_near_its_sphere():
    radius = 20.0
    mask = ball((47, 47, 47), (23, 23, 23), radius)
    area = kernels.surface_distances(mask, mask, (1, 1, 1), "triangle").a_weights.sum()
    assert area == pytest.approx(4 * np.pi * radius**2, rel=0.1)


def test_surface_points_lie_on_the_surface_and_spread_by_area():
    mask = np.zeros((12, 14, 40), bool)
    mask[3:9, 4:11, 5:36] = True
    spacing = (2.0, 1.0, 0.5)
    points = kernels.surface_points(mask, 17_650, 7, spacing)
    assert points.shape == (17_650, 3)
    np.testing.assert_array_equal(points, kernels.surface_points(np.asfortranarray(mask), 17_650, 7, spacing))
    assert (points != kernels.surface_points(mask, 17_650, 8, spacing)).any()
    low, high = (np.array([2.5, 3.5, 4.5]) * spacing, np.array([8.5, 10.5, 35.5]) * spacing)
    assert (points >= low - 1e-9).all()
    assert (points <= high + 1e-9).all()
    # The flat middle of the top face, one voxel in from its rim, holds its share of the area.
    total = kernels.surface_distances(mask, mask, spacing, "triangle").a_weights.sum()
    top = (
        np.isclose(points[:, 0], low[0]) & (np.abs(points[:, 1] - 7) < 2.5) & (np.abs(points[:, 2] - 10) < 7)
    )
    assert top.mean() == pytest.approx(5 * 14 / total, rel=0.1)
    expected = triangle_distances_oracle(points[:50], triangles_of(mask, spacing))
    np.testing.assert_allclose(expected, 0, atol=1e-12)


def test_surface_points_of_nothing():
    assert kernels.surface_points(np.zeros((2, 2, 2), bool), 5, 0).shape == (0, 3)
    assert kernels.surface_points(np.ones((2, 2, 2), bool), 0, 0).shape == (0, 3)
