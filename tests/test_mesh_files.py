"""Mesh files: read back by Open3D, mm and LPS stated, and no STL that a printer would have to guess at."""

import json
import struct

import numpy as np
import pytest
from scipy.spatial import KDTree

from kidseg_jax.evaluation.mesh_files import (
    Node,
    distance_colours,
    write_comparison,
    write_glb,
    write_ply,
    write_stl,
)
from kidseg_jax.evaluation.surfaces import Surface, open3d, read_surface, surface_of
from kidseg_jax.imaging.volume import Geometry

GEOMETRY = Geometry((12, 14, 16), (2.0, 0.9, 0.8), (-30.0, 12.0, 400.0))


def blob(shift: int = 0) -> Surface:
    z, y, x = np.indices(GEOMETRY.shape)
    return surface_of((z - 6) ** 2 + (y - 7) ** 2 + (x - 7 - shift) ** 2 < 20, GEOMETRY)


def ply_header(path) -> str:
    return path.read_bytes().split(b"end_header")[0].decode("ascii")


def test_ply_round_trip_with_colours_and_distances(tmp_path):
    surface = blob()
    distance = surface.vertices_mm[:, 0] - surface.vertices_mm[:, 0].mean()
    path = tmp_path / "a.ply"
    write_ply(path, surface, rgb=distance_colours(distance, 3.0), scalars={"signed_distance_mm": distance})
    header = ply_header(path)
    assert "units mm" in header and "LPS" in header and "property float signed_distance_mm" in header
    mesh = open3d().io.read_triangle_mesh(str(path))
    assert np.asarray(mesh.vertices) == pytest.approx(surface.vertices_mm, abs=1e-4)
    assert np.array_equal(np.asarray(mesh.triangles), surface.triangles)
    assert np.asarray(mesh.vertex_colors) * 255 == pytest.approx(distance_colours(distance, 3.0), abs=0.5)
    rows = np.frombuffer(
        path.read_bytes().split(b"end_header\n", 1)[1],
        dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3), ("d", "<f4")],
        count=len(distance),
    )
    assert rows["d"] == pytest.approx(distance, abs=1e-5)


def test_stl_round_trip_is_watertight_and_keeps_volume(tmp_path):
    surface = blob()
    write_stl(tmp_path / "a.stl", surface)
    raw = (tmp_path / "a.stl").read_bytes()
    assert len(raw) == 84 + 50 * len(surface.triangles) and b"mm" in raw[:80] and b"LPS" in raw[:80]
    assert not raw.startswith(b"solid")  # a reader would take it for text
    back = read_surface(tmp_path / "a.stl")
    assert back.is_watertight and back.volume_ml == pytest.approx(surface.volume_ml, rel=1e-5)


def test_stl_of_an_open_or_inward_surface_is_refused_and_not_written(tmp_path):
    surface = blob()
    for bad in (
        Surface(surface.vertices_mm, surface.triangles[1:]),
        Surface(surface.vertices_mm, surface.triangles[:, ::-1]),
    ):
        with pytest.raises(ValueError, match="watertight"):
            write_stl(tmp_path / "bad.stl", bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".ply", ".stl", ".glb"])
def test_what_is_written_comes_back_in_millimetres_where_it_was(tmp_path, ending):
    surface, path = blob(), tmp_path / f"a{ending}"
    if ending == ".glb":
        write_glb(path, {"a": Node(surface, np.zeros((len(surface.vertices_mm), 3)))})
    else:
        {".ply": write_ply, ".stl": write_stl}[ending](path, surface)
    back = read_surface(path)
    assert KDTree(back.vertices_mm).query(surface.vertices_mm)[0].max() < 1e-3
    assert KDTree(surface.vertices_mm).query(back.vertices_mm)[0].max() < 1e-3
    assert back.is_watertight and back.volume_ml == pytest.approx(surface.volume_ml, rel=1e-4)


def test_glb_is_metres_y_up_with_one_named_coloured_node_per_surface(tmp_path):
    path = tmp_path / "a.glb"
    surfaces = {"artery": blob(), "vein": blob(2)}
    colours = {name: np.full((len(s.vertices_mm), 3), 90, np.uint8) for name, s in surfaces.items()}
    write_glb(path, {name: Node(s, colours[name]) for name, s in surfaces.items()})
    raw = path.read_bytes()
    magic, version, length, json_length, kind = struct.unpack("<IIIII", raw[:20])
    assert (magic, version, length, kind) == (0x46546C67, 2, len(raw), 0x4E4F534A)
    document = json.loads(raw[20 : 20 + json_length])
    assert [node["name"] for node in document["nodes"]] == ["LPS_mm", "artery", "vein"]
    matrix = np.array(document["nodes"][0]["matrix"]).reshape(4, 4).T
    up, front = matrix[:3, :3] @ [0, 0, 1000.0], matrix[:3, :3] @ [0, -1000.0, 0]  # superior, anterior
    assert up == pytest.approx([0, 1, 0]) and front == pytest.approx([0, 0, 1])
    assert np.linalg.det(matrix[:3, :3]) > 0
    mesh = open3d().io.read_triangle_mesh(str(path))
    points = np.asarray(mesh.vertices)
    expected = np.concatenate([s.vertices_mm for s in surfaces.values()]) @ matrix[:3, :3].T
    assert KDTree(points).query(expected)[0].max() < 1e-6  # metres; shared places may have been joined
    assert KDTree(expected).query(points)[0].max() < 1e-6
    with pytest.raises(ValueError, match="at least one"):
        write_glb(path, {})


def test_colours_run_from_blue_over_white_to_red():
    blue, white, red, beyond = distance_colours(np.array([-2.0, 0.0, 2.0, 9.0]), 2.0).astype(int)
    assert blue[2] > blue[0] and red[0] > red[2] and white.min() > 240 and (red == beyond).all()
    with pytest.raises(ValueError, match="limit_mm"):
        distance_colours(np.zeros(1), 0.0)


def test_comparison_files_say_whether_distances_are_signed(tmp_path):
    names = write_comparison(tmp_path, blob(), blob(1), limit_mm=2.0)
    assert names == ["a_to_b.ply", "a_to_b.glb", "a.stl", "b.stl"]
    assert "signed_distance_mm" in ply_header(tmp_path / "a_to_b.ply")
    opened = Surface(blob().vertices_mm, blob().triangles[1:])
    assert write_comparison(tmp_path / "open", blob(), opened, limit_mm=2.0) == [
        "a_to_b.ply",
        "a_to_b.glb",
        "a.stl",
    ]
    assert "float distance_mm" in ply_header(tmp_path / "open" / "a_to_b.ply")
