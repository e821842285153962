"""Surfaces and their distances against closed forms, on anisotropic and turned grids."""

import numpy as np
import pytest

from kidseg_jax import kernels
from kidseg_jax.evaluation.comparison import MODES
from kidseg_jax.evaluation.mesh_reading import read_surface
from kidseg_jax.evaluation.meshes import (
    compare_kidney,
    compare_surfaces,
    draw_vertices,
    quadrature,
    weighted_percentiles,
)
from kidseg_jax.evaluation.metrics import crop_together
from kidseg_jax.evaluation.surfaces import DistanceTo, Surface, joined, open3d, refined, surface_of
from kidseg_jax.imaging.volume import Geometry

ANISOTROPIC = Geometry((30, 40, 50), (2.5, 0.8, 0.7), (-100.0, 40.0, 900.0))
TURNED = Geometry(
    (30, 40, 50), (2.5, 0.8, 0.7), (5.0, 6.0, 7.0), ((0.0, 0.6, 0.8), (1.0, 0.0, 0.0), (0.0, 0.8, -0.6))
)


def box_mesh(lo, hi) -> Surface:
    """A closed box of twelve triangles, corners (x, y, z)."""
    mesh = open3d().geometry.TriangleMesh.create_box(*(np.subtract(hi, lo).tolist()))
    return Surface(np.asarray(mesh.vertices) + lo, np.asarray(mesh.triangles, dtype=np.int64))


def sphere_mesh(radius, resolution=150, centre=(0.0, 0.0, 0.0)) -> Surface:
    mesh = open3d().geometry.TriangleMesh.create_sphere(radius, resolution)
    return Surface(np.asarray(mesh.vertices) + centre, np.asarray(mesh.triangles, dtype=np.int64))


def ball_mesh(radius, centre) -> Surface:
    """An icosahedron split six times, all vertices on the sphere; chords sag by 3e-5 of the radius."""
    o3d = open3d()
    mesh = o3d.geometry.TriangleMesh.create_icosahedron().subdivide_midpoint(6)
    vertices = np.asarray(mesh.vertices)
    on_sphere = radius * vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    return Surface(on_sphere + centre, np.asarray(mesh.triangles, dtype=np.int64))


def to_box(points, lo, hi) -> np.ndarray:
    """Signed distance of points to a solid box: the closed form."""
    outside = np.maximum(np.maximum(np.asarray(lo) - points, points - np.asarray(hi)), 0)
    depth = np.minimum(points - np.asarray(lo), np.asarray(hi) - points).min(1)
    return np.where(depth >= 0, -depth, np.linalg.norm(outside, axis=1))


def box_labels(geometry: Geometry, lo, hi) -> np.ndarray:
    mask = np.zeros(geometry.shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))] = True
    return mask


def by_mode(first, second, **options):
    return {found.mode: found for found in compare_surfaces(first, second, **options)}


@pytest.mark.parametrize("geometry", [ANISOTROPIC, TURNED])
def test_a_label_box_has_its_faces_half_a_voxel_out_in_world_millimetres(geometry):
    lo, hi = (5, 6, 7), (20, 30, 40)
    surface = surface_of(box_labels(geometry, lo, hi), geometry)
    index = geometry.to_index(surface.vertices_mm)
    assert index.min(0) == pytest.approx(np.array(lo) - 0.5, abs=1e-4)
    assert index.max(0) == pytest.approx(np.array(hi) - 0.5, abs=1e-4)
    assert surface.is_watertight
    assert surface.volume_ml == pytest.approx(
        np.prod(np.subtract(hi, lo) * geometry.spacing_mm) / 1000, rel=0.02
    )


def test_a_mask_that_touches_the_border_is_closed():
    geometry = Geometry((4, 5, 6), (1.0, 1.0, 1.0))
    surface = surface_of(np.ones(geometry.shape, bool), geometry)
    assert surface.is_watertight and surface.volume_ml > 0


def test_one_voxel_is_an_octahedron():
    geometry = Geometry((3, 3, 3), (2.0, 1.0, 0.5))
    surface = surface_of(box_labels(geometry, (1, 1, 1), (2, 2, 2)), geometry)
    assert len(surface.triangles) == 8 and surface.is_watertight
    assert surface.volume_ml == pytest.approx(2.0 * 1.0 * 0.5 / 6 / 1000)


def test_an_empty_mask_and_a_wrong_shape_are_refused():
    geometry = Geometry((3, 3, 3), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="empty"):
        surface_of(np.zeros((3, 3, 3), bool), geometry)
    with pytest.raises(ValueError, match="shape"):
        surface_of(np.zeros((3, 3, 4), bool), geometry)


@pytest.mark.parametrize("shift_mm", [(3.0, 0.0, 0.0), (0.0, -2.0, 0.0), (1.0, 2.0, 2.0)])
def test_distances_between_shifted_boxes_are_the_closed_form(shift_mm):
    lo, hi = np.array([0.0, 0.0, 0.0]), np.array([40.0, 30.0, 50.0])
    first, second = box_mesh(lo, hi), box_mesh(lo + shift_mm, hi + shift_mm)
    found = by_mode(first, second)
    drawn = draw_vertices(joined(refined(first, 1.5)), 17_650, 0)
    expected = to_box(drawn, lo + shift_mm, hi + shift_mm)
    signed = found["points_to_triangles"]
    assert signed.rms_mm == pytest.approx(np.sqrt(np.mean(expected**2)), abs=1e-3)
    assert signed.mean_mm == pytest.approx(expected.mean(), abs=1e-3)
    assert (signed.min_mm, signed.max_mm) == pytest.approx((expected.min(), expected.max()), abs=1e-3)


def test_a_box_in_a_box_has_the_closed_form_over_area():
    # Every place of an inner face lies 2 mm from the outer box; an outer face adds its margins, where the
    # squared distance is 4 plus x^2 beyond each inner edge.
    inner, outer = box_mesh((2, 2, 2), (22, 12, 32)), box_mesh((0, 0, 0), (24, 14, 34))
    sides = np.array([20.0, 10.0, 30.0])
    total, area = 0.0, 0.0
    for a, b in ((0, 1), (1, 2), (0, 2)):
        p, q = sides[a], sides[b]
        face = (p + 4) * (q + 4)
        strips = 2 * (q + 4 + p + 4) * 2**3 / 3  # the integral of x^2 over the four strips of width 2
        total += 2 * (4 * face + strips)
        area += 2 * face
        total += 2 * 4 * p * q
        area += 2 * p * q
    found = by_mode(inner, outer)
    assert found["area_symmetric"].rms_mm == pytest.approx(np.sqrt(total / area), abs=1e-3)
    assert found["points_to_triangles"].rms_mm == pytest.approx(2.0, abs=1e-3)
    assert found["points_to_triangles"].max_mm == pytest.approx(-2.0, abs=1e-3)  # all inside


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (-250.0, 180.0, 1200.0)])
def test_concentric_spheres_lie_their_radii_apart(centre):
    found = by_mode(ball_mesh(20, centre), ball_mesh(23, centre))
    assert found["points_to_triangles"].rms_mm == pytest.approx(3.0, abs=1e-3)
    assert found["points_to_triangles"].mean_mm == pytest.approx(-3.0, abs=1e-3)
    assert found["area_symmetric"].rms_mm == pytest.approx(3.0, abs=1e-3)
    assert found["area_symmetric"].within_2mm == 0.0


@pytest.mark.parametrize("geometry", [ANISOTROPIC, TURNED])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_label_boxes_shifted_along_an_axis(geometry, axis):
    lo, hi, step = np.array([5, 6, 7]), np.array([20, 30, 40]), np.eye(3, dtype=int)[axis] * 3
    moved = 3 * geometry.spacing_mm[axis]
    first = surface_of(box_labels(geometry, lo, hi), geometry)
    second = surface_of(box_labels(geometry, lo + step, hi + step), geometry)
    signed = by_mode(first, second)["points_to_triangles"]
    assert signed.max_mm == pytest.approx(moved, abs=1e-3)  # the face that was left behind
    assert signed.min_mm == pytest.approx(-moved, abs=1e-3)  # the face that is now inside


def test_the_same_surface_has_distance_zero_and_measures_are_symmetric_where_they_say_so():
    geometry = ANISOTROPIC
    first = surface_of(box_labels(geometry, (5, 6, 7), (20, 30, 40)), geometry)
    second = surface_of(box_labels(geometry, (6, 6, 9), (20, 33, 40)), geometry)
    for found in compare_surfaces(first, first):
        assert found.rms_mm == pytest.approx(0.0, abs=1e-4) and found.within_2mm == 1.0
    there, back = by_mode(first, second), by_mode(second, first)
    assert there["area_symmetric"].rms_mm == pytest.approx(back["area_symmetric"].rms_mm, abs=1e-6)
    assert there["points_to_triangles"].mean_mm != pytest.approx(
        back["points_to_triangles"].mean_mm, abs=1e-2
    )


def test_a_surface_of_very_many_triangles_is_drawn_evenly_and_says_so(monkeypatch):
    first, second = ball_mesh(20, (0.0, 0.0, 0.0)), ball_mesh(23, (1.0, 0.0, 0.0))
    whole = by_mode(first, second)["area_symmetric"]
    monkeypatch.setattr("kidseg_jax.evaluation.meshes.MOST_TRIANGLES", 20_000)
    drawn = by_mode(first, second)["area_symmetric"]
    assert drawn.how.endswith("(drawn: 20,000 places)") and drawn.points == 40_000 < whole.points
    assert "drawn:" not in whole.how
    assert drawn.rms_mm == pytest.approx(whole.rms_mm, abs=2e-3)
    assert drawn.p95_mm == pytest.approx(whole.p95_mm, abs=5e-3)


@pytest.mark.parametrize("block", [1, 7, 300])
def test_what_is_summed_by_blocks_of_triangles_is_the_whole(monkeypatch, block):
    monkeypatch.setattr("kidseg_jax.evaluation.surfaces.BLOCK", block)
    box = refined(box_mesh((1, 2, 3), (11, 12, 13)), 4.0)
    assert box.areas_mm2.sum() == pytest.approx(600) and box.volume_ml == pytest.approx(1.0)
    assert len(box.areas_mm2) == len(box.longest_edges_mm) == len(box.triangles)


def two_lumps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two ellipsoids a few millimetres apart on the anisotropic grid, the first with a ball on top."""
    z, y, x = np.indices(ANISOTROPIC.shape) * np.reshape(ANISOTROPIC.spacing_mm, (3, 1, 1, 1))
    rng = np.random.default_rng(seed)
    centre = [
        np.array(ANISOTROPIC.shape) * ANISOTROPIC.spacing_mm / 2 + rng.uniform(-2, 2, 3) for _ in range(2)
    ]
    first, second = (((z - c) / 1.4) ** 2 + (y - b) ** 2 + (x - a) ** 2 < 9.0**2 for c, b, a in centre)
    c, b, a = centre[0]
    return first | ((z - c - 14) ** 2 + (y - b) ** 2 + (x - a) ** 2 < 16), second


def middles_rms(first: Surface, second: Surface) -> float:
    """What the kernel calls "triangle": the middle of every triangle of both surfaces, by area."""
    there = DistanceTo(second).unsigned(first.corners_mm.mean(1))
    back = DistanceTo(first).unsigned(second.corners_mm.mean(1))
    areas = np.concatenate([first.areas_mm2, second.areas_mm2])
    return float(np.sqrt(np.average(np.concatenate([there, back]) ** 2, weights=areas)))


@pytest.mark.parametrize("seed", range(3))
def test_the_kernels_definition_gives_the_kernels_number(seed):
    masks = two_lumps(seed)
    kernel = kernels.surface_distances(masks[0], masks[1], ANISOTROPIC.spacing_mm, "triangle")
    first, second = (surface_of(mask, ANISOTROPIC) for mask in masks)
    assert first.areas_mm2.sum() == pytest.approx(kernel.a_weights.sum(), rel=1e-6)
    assert middles_rms(first, second) == pytest.approx(kernel.rms_mm(), abs=1e-3)
    there = DistanceTo(second).unsigned(first.corners_mm.mean(1))
    back = DistanceTo(first).unsigned(second.corners_mm.mean(1))
    assert there.max() == pytest.approx(kernel.a_to_b_mm.max(), abs=1e-3)
    assert back.max() == pytest.approx(kernel.b_to_a_mm.max(), abs=1e-3)


@pytest.mark.parametrize("seed", range(2))
def test_over_the_area_is_what_ever_smaller_triangles_of_the_kernels_definition_tend_to(seed):
    first, second = (surface_of(mask, ANISOTROPIC) for mask in two_lumps(seed))
    coarse, fine = middles_rms(first, second), middles_rms(refined(first, 0.3), refined(second, 0.3))
    found = by_mode(first, second)["area_symmetric"].rms_mm
    assert found is not None and found == pytest.approx(fine, abs=1e-3)
    assert abs(found - fine) < abs(coarse - fine)


@pytest.mark.parametrize("kidney", ["case_00018_kidney-1", "case_00061_kidney-2"])
def test_two_annotators_surfaces_agree_with_the_kernels(shared_data, kidney):
    from kidseg_jax.formats.volumes import read_labels

    maps = [read_labels(shared_data / f"kits23_annotators/{kidney}_annotator-{i}.nii.gz") for i in (1, 2)]
    masks = [np.pad(part, 1) for part in crop_together(*(one.array > 0 for one in maps))]
    spacing_mm = maps[0].spacing_mm
    kernel = kernels.surface_distances(masks[0], masks[1], spacing_mm, "triangle").rms_mm()
    first, second = (surface_of(mask, Geometry(mask.shape, spacing_mm)) for mask in masks)
    assert middles_rms(first, second) == pytest.approx(kernel, abs=1e-3)


@pytest.mark.parametrize("step", [(2, 0, 0), (0, 3, 0), (0, 0, 4), (1, 2, 3)])
def test_shifted_label_boxes_have_the_kernels_distances(step):
    lo, hi = np.array([5, 6, 7]), np.array([20, 30, 40])
    masks = [box_labels(ANISOTROPIC, lo, hi), box_labels(ANISOTROPIC, lo + step, hi + np.array(step))]
    kernel = kernels.surface_distances(masks[0], masks[1], ANISOTROPIC.spacing_mm, "triangle").rms_mm()
    first, second = (surface_of(mask, ANISOTROPIC) for mask in masks)
    assert middles_rms(first, second) == pytest.approx(kernel, abs=1e-3)


def test_sampled_points_equal_brute_force_and_follow_the_seed():
    first, second = sphere_mesh(10, 20), sphere_mesh(12, 20)
    drawn = draw_vertices(first, 200, 3)
    brute = np.linalg.norm(drawn[:, None] - second.vertices_mm[None], axis=2).min(1)
    found = by_mode(first, second, points=200, seed=3)["sampled_points"]
    assert found.points == 200
    assert found.rms_mm == pytest.approx(np.sqrt(np.mean(brute**2)), rel=1e-9)
    assert found == by_mode(first, second, points=200, seed=3)["sampled_points"]
    assert not np.array_equal(drawn, draw_vertices(first, 200, 4))


def test_weighted_percentiles_are_the_smallest_values_that_cover_the_share():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    assert weighted_percentiles(values, weights, (0, 50, 51, 75, 76, 100)) == [1, 1, 2, 2, 3, 3]


def test_splitting_keeps_area_and_quadrature_integrates_squares_exactly():
    triangle = Surface(np.array([[0.0, 0, 0], [5, 0, 0], [0, 3, 0]]), np.array([[0, 1, 2]]))
    fine = refined(triangle, 0.7)
    assert fine.areas_mm2.sum() == pytest.approx(7.5)
    assert np.linalg.norm(fine.corners_mm - np.roll(fine.corners_mm, 1, axis=1), axis=2).max() <= 0.7 + 1e-9
    places, areas = quadrature(triangle)
    assert (places[:, 0] ** 2 * areas).sum() == pytest.approx(
        5**3 * 3 / 12
    )  # the integral of x^2 over the triangle


def test_an_open_surface_is_told_apart_and_its_distance_is_unsigned():
    closed = box_mesh((0, 0, 0), (10, 10, 10))
    opened = Surface(closed.vertices_mm, closed.triangles[2:])
    flipped = Surface(closed.vertices_mm, np.concatenate([closed.triangles[:1, ::-1], closed.triangles[1:]]))
    assert closed.is_watertight and not opened.is_watertight and not flipped.is_watertight
    with pytest.raises(ValueError, match="open"):
        DistanceTo(opened).signed(np.zeros((1, 3)))
    found = by_mode(box_mesh((2, 2, 2), (8, 8, 8)), opened)["points_to_triangles"]
    assert "unsigned" in found.how and (found.min_mm or 0) > 0


def test_watertight_agrees_with_open3d():
    o3d = open3d()
    for surface in (
        sphere_mesh(5, 10),
        box_mesh((0, 0, 0), (1, 1, 1)),
        Surface(np.eye(3), np.array([[0, 1, 2]])),
    ):
        mesh = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(surface.vertices_mm), o3d.utility.Vector3iVector(surface.triangles)
        )
        assert surface.is_watertight == mesh.is_watertight()


def test_compare_kidney_gives_three_pairs_by_three_measures():
    manual = np.zeros((20, 20, 20), np.uint8)
    manual[4:16, 4:16, 4:16] = 4
    manual[6:9, 6:9, 6:9] = 5
    cnn = np.roll(manual, 1, axis=2)
    records = compare_kidney(manual, cnn, manual, (2.0, 1.0, 1.0))
    assert list(records) == ["manual_cnn", "cnn_corrected", "manual_corrected"]
    assert all([one.mode for one in measures] == list(MODES) for measures in records.values())
    assert all(one.rms_mm == pytest.approx(0, abs=1e-4) for one in records["manual_corrected"])
    assert all(one.max_mm == pytest.approx(1.0, abs=1e-3) for one in records["manual_cnn"])
    missed = compare_kidney(manual, np.zeros_like(manual), None, (2.0, 1.0, 1.0))
    assert list(missed) == ["manual_cnn"] and [one.rms_mm for one in missed["manual_cnn"]] == [None] * 3


def test_what_is_no_mesh_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such"):
        read_surface(tmp_path / "missing.ply")
    (tmp_path / "text.ply").write_text("no mesh")
    with pytest.raises(ValueError, match="triangles"):
        read_surface(tmp_path / "text.ply")
