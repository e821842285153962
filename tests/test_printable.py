"""Printable surfaces: nearer to the truth than the stairs, as large as the labels, thick enough, and sound by
checkers that are not ours.
"""

import json
from pathlib import Path
from typing import Any

import lib3mf
import manifold3d
import numpy as np
import pytest
import trimesh
from grids import oblique, two_kidneys
from scipy.ndimage import gaussian_filter

from kidseg_jax.cli.app import main
from kidseg_jax.evaluation.decimation import decimated
from kidseg_jax.evaluation.printable import PrintBounds, printable
from kidseg_jax.evaluation.soundness import crossing_triangles, pieces, soundness
from kidseg_jax.evaluation.surfaces import DistanceTo, Surface, surface_of
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import NAMES, STRUCTURES
from kidseg_jax.imaging.volume import Geometry, Mask


def ball(geometry: Geometry, centre_mm: np.ndarray, radius_mm: float) -> Mask:
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    return (
        np.linalg.norm(geometry.to_world(index.reshape(-1, 3)) - centre_mm, axis=1).reshape(geometry.shape)
        <= radius_mm
    )


def crossed_by_brute_force(surface: Surface) -> np.ndarray:
    """Triangles that an edge without a vertex of theirs goes through, by barycentric places."""
    edges = np.concatenate([surface.triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    a, b, c = np.moveaxis(surface.corners_mm, 1, 0)
    found = []
    for start, end in edges[edges[:, 0] < edges[:, 1]]:
        p, d = surface.vertices_mm[start], surface.vertices_mm[end] - surface.vertices_mm[start]
        with np.errstate(divide="ignore", invalid="ignore"):
            h = np.cross(d, c - a)
            det = np.einsum("ij,ij->i", h, b - a)
            u = np.einsum("ij,ij->i", h, p - a) / det
            q = np.cross(p - a, b - a)
            v, t = q @ d / det, np.einsum("ij,ij->i", q, c - a) / det
        u, v, t = (np.nan_to_num(x, nan=-1.0, posinf=9.0, neginf=-9.0) for x in (u, v, t))
        inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1)
        touching = ((surface.triangles == start) | (surface.triangles == end)).any(1)
        found.append(np.flatnonzero(inside & ~touching))
    return np.unique(np.concatenate(found))


def assert_sound(surface: Surface) -> None:
    """By trimesh, by manifold3d, and no crossing by brute force."""
    mesh = trimesh.Trimesh(surface.vertices_mm, surface.triangles, process=True)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    solid = manifold3d.Manifold(
        manifold3d.Mesh64(surface.vertices_mm, np.asarray(surface.triangles, np.uint64))
    )
    assert solid.status() == manifold3d.Error.NoError
    assert not len(crossed_by_brute_force(surface))


@pytest.mark.parametrize("seed", range(4))
def test_crossings_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-5, 5, (40, 1, 3)) + rng.normal(0, 1.5, (40, 3, 3))
    soup = Surface(places.reshape(-1, 3), np.arange(120).reshape(-1, 3))
    expected = crossed_by_brute_force(soup)
    assert len(expected)
    np.testing.assert_array_equal(crossing_triangles(soup), expected)


def test_what_is_wrong_is_counted():
    box = surface_of(np.ones((2, 3, 4), bool), Geometry((2, 3, 4), (1.0, 1.0, 1.0)))
    assert soundness(box).is_sound
    hole = Surface(box.vertices_mm, box.triangles[1:])
    assert soundness(hole).open_edges == 3
    twice = Surface(box.vertices_mm, np.concatenate([box.triangles, box.triangles[:1]]))
    assert soundness(twice).crowded_edges == 3
    apart = Surface(np.concatenate([box.vertices_mm, box.vertices_mm[:2]]), box.triangles)
    assert soundness(apart).places_shared == 2


@pytest.mark.parametrize("spacing_mm", [(2.0, 0.8, 0.8), (1.5, 2.0, 2.0), (0.7, 0.7, 0.7)])
def test_a_ball_comes_nearer_to_a_ball(spacing_mm):
    """The distance to the true sphere falls, and the volume is that of the voxels."""
    radius_mm = 12.0
    shape = tuple(int(2 * radius_mm / s) + 6 for s in spacing_mm)
    geometry = oblique(17.0, shape, spacing_mm)
    centre = geometry.to_world((np.array(shape) - 1) / 2)
    mask = ball(geometry, centre, radius_mm)
    raw = surface_of(mask, geometry)
    surface, report = printable(mask, geometry)

    def off(one: Surface) -> float:
        return float(np.sqrt(np.mean((np.linalg.norm(one.vertices_mm - centre, axis=1) - radius_mm) ** 2)))

    assert off(surface) < 0.8 * off(raw)
    voxels_ml = mask.sum() * np.prod(spacing_mm) / 1000
    assert surface.volume_ml == pytest.approx(voxels_ml, rel=0.01)
    assert report.within_bounds and report.pieces == 1
    back = np.concatenate(
        [DistanceTo(raw).unsigned(surface.vertices_mm), DistanceTo(surface).unsigned(raw.vertices_mm)]
    )
    assert report.moved_max_mm == pytest.approx(back.max())
    assert soundness(surface).is_sound


@pytest.mark.parametrize("seed", range(3))
def test_ragged_labels_give_sound_surfaces(seed):
    """Noise with holes, islands and voxels that touch at an edge or a corner."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(size=(6, 7, 8)), 0.8)
    mask = noise > np.quantile(noise, 0.75)
    geometry = oblique(30.0, mask.shape, (2.5, 0.9, 0.7))
    surface, report = printable(mask, geometry)
    assert_sound(surface)
    assert report.pieces == pieces(surface_of(mask, geometry))[0]


@pytest.mark.parametrize("wall_mm", [1.0, 1.6])
def test_a_thin_vessel_gets_the_wall_that_is_asked_for(wall_mm):
    mask = np.zeros((40, 9, 12), bool)
    mask[2:38, 4, 4:6] = True
    mask[10:30, 4, 4:10] = True  # a sheet one voxel thick
    geometry = Geometry(mask.shape, (0.8, 0.6, 0.6))
    thin, _ = printable(mask, geometry, PrintBounds(wall_mm=0))
    thick, report = printable(mask, geometry, PrintBounds(wall_mm=wall_mm))
    assert report.thinnest_mm is not None and report.thinnest_mm >= 0.98 * wall_mm
    assert thick.volume_ml > thin.volume_ml

    def through(surface: Surface) -> float:
        """Twice the way from the sheet's middle plane to the surface, where it is thinnest."""
        places = geometry.to_world([(z, 4.0, x) for z in range(14, 27) for x in (6.0, 7.0)])
        return 2 * float(DistanceTo(surface).unsigned(places).min())

    assert through(thick) >= 0.98 * wall_mm > through(thin)


def test_decimation_keeps_to_its_bound_and_to_every_piece():
    geometry = Geometry((40, 60, 60), (0.8, 0.6, 0.6))
    mask = ball(geometry, geometry.to_world((20.0, 30.0, 30.0)), 13.0)
    mask[1, 1, 1] = mask[1, 1, 5] = True  # two islands of one voxel
    surface = surface_of(mask, geometry)
    for deviation_mm in (0.05, 0.3):
        fewer = decimated(surface, deviation_mm)
        assert len(fewer.triangles) < len(surface.triangles)
        assert fewer.is_watertight and pieces(fewer)[0] == 3
        assert DistanceTo(fewer).unsigned(surface.vertices_mm).max() <= deviation_mm
    assert len(decimated(surface, 0.05, triangles=900).triangles) <= 910
    assert decimated(surface, 0) is surface


@pytest.fixture
def source(tmp_path) -> Path:
    grid = oblique(20, shape=(24, 28, 64), spacing_mm=(2.0, 1.5, 1.0))
    write_volume(tmp_path / "case.nrrd", two_kidneys(grid))
    return tmp_path / "case.nrrd"


@pytest.mark.parametrize("to", ["stl", "ply", "glb", "3mf"])
def test_export_smooth(source, tmp_path, to, capsys):
    out = tmp_path / "out"
    assert main(["export", str(source), "--to", to, "--smooth", "--out", str(out)]) == 0
    assert "parenchyma: moved 0." in capsys.readouterr().err
    about = json.loads((out / f"case_{to}.json").read_text())
    assert about["bounds"]["wall_mm"] == 1.0
    assert set(about["structures"]) == set(NAMES)
    for name in NAMES:
        told = about["structures"][name]["printable"]
        if to == "3mf":
            mesh = parts_of(out / "case.3mf")[name]
        elif to == "glb":
            mesh = trimesh.load_scene(out / "case.glb").geometry[name]
        else:
            mesh = trimesh.load_mesh(out / f"case_{name}.{to}")
        assert mesh.is_watertight and len(mesh.faces) == told["triangles"]
        assert mesh.volume / 1000 == pytest.approx(told["volume_ml"], rel=1e-3)


def parts_of(path: Path) -> dict[str, Any]:
    """The parts of a 3MF file as lib3mf reads them, in strict mode, each where the whole puts it."""
    model: Any = lib3mf.get_wrapper().CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromFile(str(path))
    assert reader.GetWarningCount() == 0
    assert model.GetUnit() == lib3mf.ModelUnit.MilliMeter
    items = model.GetBuildItems()
    assert items.Count() == 1
    found, meshes = {}, model.GetMeshObjects()
    while meshes.MoveNext():
        one = meshes.GetCurrentMeshObject()
        assert one.IsManifoldAndOriented()
        places = np.array([list(v.Coordinates) for v in one.GetVertices()])
        triangles = np.array([list(t.Indices) for t in one.GetTriangleIndices()])
        found[one.GetName()] = trimesh.Trimesh(places, triangles, process=False)
    colours, groups = {}, model.GetBaseMaterialGroups()
    assert groups.MoveNext()
    group = groups.GetCurrentBaseMaterialGroup()
    for number in group.GetAllPropertyIDs():
        shade = group.GetDisplayColor(number)
        colours[group.GetName(number)] = (shade.Red, shade.Green, shade.Blue)
    assert colours == {s.name: s.rgb for s in STRUCTURES}
    return found


def test_a_3mf_file_has_the_same_bits_twice(source, tmp_path):
    for out in ("a", "b"):
        assert main(["export", str(source), "--to", "3mf", "--smooth", "--out", str(tmp_path / out)]) == 0
    assert (tmp_path / "a" / "case.3mf").read_bytes() == (tmp_path / "b" / "case.3mf").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "nifti", "--smooth"), "--smooth belongs to stl, ply, glb, 3mf, got --to nifti"),
        (("--to", "stl", "--smooth", "--wall-mm", "-1"), "wall_mm: must be at least 0 mm, got -1.0"),
        (("--to", "stl", "--smooth", "--deviation-mm", "nan"), "deviation_mm: must be at least 0 mm"),
        (("--to", "stl", "--smooth", "--triangles", "5"), "triangles: must be at least 100, got 5"),
    ],
)
def test_what_cannot_be_is_refused(source, tmp_path, capsys, options, message):
    assert main(["export", str(source), *options, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
