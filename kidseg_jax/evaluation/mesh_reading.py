"""Surfaces from mesh files: in the frame that a file states, with nothing read but the file itself."""

import json
import re
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np

from kidseg_jax.evaluation.surfaces import LPS_MM_TO_GLTF, Surface, joined, open3d

MESH_ENDINGS = (".ply", ".stl", ".obj", ".glb", ".off")
HEAD_BYTES = 1 << 16
FRAMES = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}


def read_surface(path: Path) -> Surface:
    """A mesh file (PLY, STL, OBJ, GLB, OFF) in mm and LPS, vertices at one place merged.

    A header or comment that says SPACE=RAS or SPACE=LPS, as 3D Slicer writes, or `frame LPS`, as we do, is
    believed; without one mm in LPS are taken. A GLB is in metres, Y up, by its standard. Polygons are split
    into triangles. Materials and buffers in other files are not opened. Raises FileNotFoundError when there
    is none, ValueError for another frame, a file shorter than it claims, or one that holds no triangle.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such mesh file")
    kind = path.suffix.lower()
    with open(path, "rb") as stream:
        head = stream.read(HEAD_BYTES)
    _require_whole(path, kind, head)
    vertices, triangles = _read_obj(path) if kind == ".obj" else _read_others(path)
    if not len(triangles) or not np.isfinite(vertices).all():
        raise ValueError(f"{path}: need a mesh of finite triangles, got {len(triangles)} triangles")
    if kind == ".glb":
        vertices = vertices @ np.linalg.inv(LPS_MM_TO_GLTF).T
    else:
        vertices = vertices * _signs(path, kind, head)
    return joined(Surface(vertices, triangles))


def _signs(path: Path, kind: str, head: bytes) -> tuple[float, float, float]:
    """What turns a file's x, y, z into LPS: from its header and comments, in which a frame is stated once."""
    if kind == ".stl":
        text = head[:80] if not head.startswith(b"solid") else head.split(b"\n", 1)[0]
    elif kind == ".ply":
        text = b"\n".join(re.findall(rb"(?m)^(?:comment|obj_info) .*$", head.split(b"end_header")[0]))
    else:
        text = b"\n".join(re.findall(rb"(?m)^\s*#.*$", head))
    said = {m.decode("ascii", "replace") for m in re.findall(rb"(?:SPACE\s*=\s*|frame )(\w+)", text)}
    if len(said) > 1 or not said <= set(FRAMES):
        raise ValueError(f"{path}: need a frame of LPS or RAS, the file says {', '.join(sorted(said))}")
    return FRAMES[said.pop() if said else "LPS"]


def _require_whole(path: Path, kind: str, head: bytes) -> None:
    """ValueError where a header counts more than the file can hold, or names another file."""
    size = path.stat().st_size
    if kind == ".ply":
        counts = re.findall(rb"(?m)^element \S+ (\d+)", head.split(b"end_header")[0])
        claimed = sum(map(int, counts))  # a vertex or face takes a byte at least
    elif kind == ".stl" and not head.startswith(b"solid"):
        claimed = 84 + 50 * struct.unpack_from("<I", head, 80)[0] if len(head) >= 84 else 84
    elif kind == ".off":
        words = re.sub(rb"#.*", b"", head).split()[:4]
        claimed = sum(int(word) for word in words if word.isdigit())
    else:
        claimed = 0
    if claimed > size:
        raise ValueError(f"{path}: triangles are missing: it claims {claimed} bytes or more and has {size}")
    if kind == ".glb":
        _require_own_buffers(path, size)


def _require_own_buffers(path: Path, size: int) -> None:
    with open(path, "rb") as stream:
        magic, _, length, n_json, tag = struct.unpack("<IIIII", stream.read(20).ljust(20, b"\0"))
        if magic != 0x46546C67 or tag != 0x4E4F534A or length > size or n_json > size - 20:
            raise ValueError(f"{path}: not a whole GLB file")
        try:
            document = json.loads(stream.read(n_json))
            places = [part.get("uri") for kind in ("buffers", "images") for part in document.get(kind, ())]
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: its JSON does not describe a glTF scene: {error}") from error
    if any(place is not None for place in places):
        raise ValueError(f"{path}: need a GLB that holds its own data, this one names another place")


def _read_others(path: Path) -> tuple[np.ndarray, np.ndarray]:
    o3d = open3d()
    with o3d.utility.VerbosityContextManager(o3d.utility.VerbosityLevel.Error):
        try:
            mesh = o3d.io.read_triangle_mesh(str(path))
        except RuntimeError as error:
            raise ValueError(f"{path}: cannot be read as a mesh: {error}") from error
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles, dtype=np.int64)
    if len(triangles) and not (triangles.min() >= 0 and triangles.max() < len(vertices)):
        raise ValueError(f"{path}: a triangle names a vertex that is not there")
    return vertices, triangles


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The vertices and faces of an OBJ file, polygons as fans of triangles; Open3D's own reader would open
    the materials that the file names.
    """
    vertices: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    line = ""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                kind, *words = line.split() or [""]
                if kind == "v":
                    vertices.append([float(word) for word in words[:3]])
                elif kind == "f":
                    corners = [int(word.split("/")[0]) for word in words]
                    at = [c - 1 if c > 0 else len(vertices) + c for c in corners]
                    if len(at) < 3 or min(at) < 0 or 0 in corners:
                        raise ValueError("a face needs three vertices that are there")
                    triangles += [(at[0], b, c) for b, c in pairwise(at[1:])]
        places = np.array(vertices, float).reshape(len(vertices), 3)
    except ValueError as error:
        raise ValueError(f"{path}: not an OBJ file, at {line[:60].strip()!r}: {error}") from error
    faces = np.array(triangles, np.int64).reshape(len(triangles), 3)
    if len(faces) and faces.max() >= len(places):
        raise ValueError(f"{path}: a face names vertex {faces.max() + 1} of {len(places)}")
    return places, faces
