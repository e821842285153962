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
from kidseg_jax.evaluation.mesh_reading import read_surface
from kidseg_jax.evaluation.surfaces import Surface, open3d, surface_of
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


CUBE = [(x, y, z) for x in (10, 20) for y in (5, 15) for z in (0, 10)]
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
TRIANGLES = [t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))]


def stl(frame: str, signs) -> bytes:
    corners = np.array(CUBE, float) * signs
    rows = b"".join(struct.pack("<12fH", 0, 0, 0, *corners[list(t)].ravel(), 0) for t in TRIANGLES)
    return f"by a test SPACE={frame}".encode().ljust(80) + struct.pack("<I", len(TRIANGLES)) + rows


def ply(frame: str, signs) -> bytes:
    lines = ["ply", "format ascii 1.0", f"comment SPACE={frame}", "element vertex 8"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += ["element face 6", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(map(str, row)) for row in np.array(CUBE) * signs]
    lines += [" ".join(map(str, (4, *quad))) for quad in QUADS]
    return "\n".join(lines).encode() + b"\n"


def obj(frame: str, signs) -> bytes:
    lines = [f"# SPACE={frame}", "mtllib ../elsewhere.mtl"]
    lines += [f"v {x} {y} {z}" for x, y, z in (np.array(CUBE) * signs).tolist()]
    lines += ["f " + " ".join(f"{i + 1}//1" for i in quad) for quad in QUADS[:3]]
    lines += ["f " + " ".join(str(i - 8) for i in quad) for quad in QUADS[3:]]
    return "\n".join(lines).encode() + b"\n"


@pytest.mark.parametrize("write", [stl, ply, obj])
def test_the_frame_that_a_mesh_states_is_believed_and_quads_are_split(tmp_path, write):
    name = f"a.{write.__name__}"
    for frame, signs in (("LPS", (1, 1, 1)), ("RAS", (-1, -1, 1))):
        (tmp_path / name).write_bytes(write(frame, signs))
        surface = read_surface(tmp_path / name)
        assert {tuple(row) for row in surface.vertices_mm.tolist()} == set(CUBE)
        assert len(surface.triangles) == 12 and surface.is_watertight and abs(surface.volume_ml) == 1.0
    (tmp_path / name).write_bytes(write("SCANNER", (1, 1, 1)))
    with pytest.raises(ValueError, match="frame of LPS or RAS"):
        read_surface(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.ply", ply("LPS", (1, 1, 1)).replace(b"vertex 8", b"vertex 2000000000"), "triangles are missing"),
        ("a.stl", stl("LPS", (1, 1, 1))[:-40], "triangles are missing"),
        ("a.off", b"OFF 2000000000 6 0\n", "triangles are missing"),
        ("a.obj", b"v 0 0 0\nf 1 2 3\n", "names vertex 3 of 1"),
        ("a.obj", b"v 0 0\n", "not an OBJ file"),
    ],
)
def test_a_mesh_that_claims_more_than_it_holds_is_refused(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        read_surface(tmp_path / name)


def test_a_glb_that_keeps_its_data_elsewhere_is_refused(tmp_path):
    document = json.dumps({"buffers": [{"byteLength": 9, "uri": "../secret.bin"}]}).encode()
    document += b" " * (-len(document) % 4)
    head = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(document), len(document), 0x4E4F534A)
    (tmp_path / "a.glb").write_bytes(head + document)
    with pytest.raises(ValueError, match="holds its own data"):
        read_surface(tmp_path / "a.glb")


def test_every_kind_of_mesh_file_is_what_open3d_reads(tmp_path):
    """Open3D writes them, text and binary; turned nodes in a GLB are applied."""
    o3d = open3d()
    mesh = o3d.geometry.TriangleMesh.create_torus(20.0, 5.0, 12, 8)
    mesh.compute_vertex_normals()
    mesh.paint_uniform_color((1.0, 0.0, 0.0))
    places = np.unique(np.asarray(mesh.vertices, np.float32).round(3), axis=0)
    written = [("b.ply", False), ("t.ply", True), ("b.stl", False), ("x.obj", True), ("x.off", True)]
    for name, text in written:
        o3d.io.write_triangle_mesh(str(tmp_path / name), mesh, write_ascii=text)
        surface = read_surface(tmp_path / name)
        np.testing.assert_allclose(np.unique(surface.vertices_mm.round(3), axis=0), places, atol=2e-3)
        assert len(surface.triangles) == len(mesh.triangles) and surface.is_watertight


def test_the_rows_of_a_binary_ply_may_differ_in_length_and_order(tmp_path):
    """A cube of quads and triangles, big endian, with properties and elements that are none of ours."""
    lines = [
        "ply",
        "format binary_big_endian 1.0",
        "element vertex 8",
        "property double x",
        "property uchar red",
    ]
    lines += [
        "property double y",
        "property double z",
        "element face 7",
        "property list ushort short vertex_index",
    ]
    lines += ["property float quality", "element edge 1", "property int a", "end_header"]
    data = b"".join(struct.pack(">dBdd", x, 7, y, z) for x, y, z in CUBE)
    faces = [*QUADS[:3], *TRIANGLES[6:8], *QUADS[4:]]
    data += b"".join(struct.pack(f">H{len(face)}hf", len(face), *face, 0.5) for face in faces)
    (tmp_path / "a.ply").write_bytes("\n".join(lines).encode() + b"\n" + data + bytes(4))
    surface = read_surface(tmp_path / "a.ply")
    assert {tuple(row) for row in surface.vertices_mm.tolist()} == set(CUBE)
    assert len(surface.triangles) == 12 and surface.is_watertight and abs(surface.volume_ml) == 1.0


def test_an_stl_in_text(tmp_path):
    corners = np.array(CUBE, float)
    facets = [
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex {} {} {}\n".format(*corners[i]) for i in triangle)
        + "endloop\nendfacet\n"
        for triangle in TRIANGLES
    ]
    (tmp_path / "a.stl").write_text("solid a\n" + "".join(facets) + "endsolid a\n")
    assert read_surface(tmp_path / "a.stl").is_watertight
    (tmp_path / "a.stl").write_text("solid a\n" + "".join(facets)[:-40])
    with pytest.raises(ValueError, match="triangles are missing"):
        read_surface(tmp_path / "a.stl")


def test_the_nodes_of_a_glb_are_applied(tmp_path):
    """Turned a quarter about glTF's Y (superior), twice as large, moved: as the standard composes them."""
    places, triangles = np.array(CUBE, "<f4") / 1000, np.array(TRIANGLES, "<u2")
    blob = places.tobytes() + triangles.tobytes()
    document = {
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"children": [1], "translation": [0.0, 0.0, 1.0]},
            {"mesh": 0, "rotation": [0.0, 0.5**0.5, 0.0, 0.5**0.5], "scale": [2.0, 2.0, 2.0]},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 8, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 36, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": 96},
            {"buffer": 0, "byteOffset": 96, "byteLength": len(blob) - 96},
        ],
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    parts = (
        struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
    )
    (tmp_path / "a.glb").write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(parts)) + parts)
    x, y, z = np.array(CUBE, float).T
    metres = np.column_stack([2 * z, 2 * y, 1000 - 2 * x])
    expected = np.column_stack([metres[:, 0], -metres[:, 2], metres[:, 1]])  # glTF: Y up, LPS: z up
    found = read_surface(tmp_path / "a.glb").vertices_mm
    np.testing.assert_allclose(
        np.unique(found.round(2), axis=0), np.unique(expected.round(2), axis=0), atol=0.02
    )
