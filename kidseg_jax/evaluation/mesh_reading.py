"""Surfaces from mesh files: in the frame that a file states, with nothing read but the file itself."""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from kidseg_jax.evaluation.surfaces import LPS_MM_TO_GLTF, Surface, joined
from kidseg_jax.formats.raw import require_plain, require_room

MESH_ENDINGS = (".ply", ".stl", ".obj", ".glb", ".off")
HEAD_BYTES = 1 << 16
FRAMES = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}
PLY_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
PLY_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float32": "f4", "double": "f8", "float64": "f8"},
}
GLTF_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WRONG = (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError, AttributeError)
ROWS = 4096  # looked at together
TEXT_GROWTH, BINARY_GROWTH = 64, 16  # a mesh takes at most so much more memory than its file
MOST_CORNERS = 255  # of a face
Mesh = tuple[np.ndarray, np.ndarray]


def read_surface(path: Path) -> Surface:
    """A mesh file (PLY, STL, OBJ, GLB, OFF) in mm and LPS, vertices at one place merged.

    A header or comment that says SPACE=RAS or SPACE=LPS, as 3D Slicer writes, or `frame LPS`, as we do, is
    believed; without one mm in LPS are taken. A GLB is in metres, Y up, by its standard. Polygons are split
    into triangles. Materials and buffers in other files are not opened. Raises FileNotFoundError when there
    is none, ValueError for another frame, a file shorter than it claims, or one that holds no triangle.
    """
    require_plain(path)
    kind = path.suffix.lower()
    require_room(
        str(path), path.stat().st_size * (BINARY_GROWTH if kind in (".stl", ".glb") else TEXT_GROWTH)
    )
    content = path.read_bytes()
    read: dict[str, Callable[[bytes], Mesh]] = {
        **{".ply": _read_ply, ".stl": _read_stl, ".obj": _read_obj, ".glb": _read_glb, ".off": _read_off}
    }
    if kind not in read:
        raise ValueError(f"{path}: need a mesh file ending in {', '.join(MESH_ENDINGS)}")
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            vertices, triangles = read[kind](content)
    except WRONG as error:
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        kind = f"{'an' if kind in ('.stl', '.obj', '.off') else 'a'} {kind[1:].upper()} file"
        raise ValueError(f"{path}: not {kind} of triangles: {' '.join(reason.split())[:200]}") from error
    if not len(triangles) or not (np.abs(vertices) < 1e9).all():
        raise ValueError(f"{path}: need a mesh of finite triangles, got {len(triangles)} triangles")
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise ValueError(f"{path}: a face names vertex {triangles.max() + 1} of {len(vertices)}")
    if kind == ".glb":
        vertices = vertices @ np.linalg.inv(LPS_MM_TO_GLTF).T
    else:
        vertices = vertices * _signs(path, kind, content[:HEAD_BYTES])
    return joined(Surface(np.ascontiguousarray(vertices), np.ascontiguousarray(triangles)))


def _signs(path: Path, kind: str, head: bytes) -> tuple[float, float, float]:
    """What turns a file's x, y, z into LPS: from its header and comments, in which a frame is stated once."""
    if kind == ".stl":
        text = head[:80] if not head.startswith(b"solid") else head.split(b"\n", 1)[0]
    elif kind == ".ply":
        text = b"\n".join(re.findall(rb"(?m)^(?:comment|obj_info) .*$", head.split(b"end_header")[0]))
    else:
        text = b"\n".join(re.findall(rb"(?m)^\s*#.*$", head))
    frames = {m.decode("ascii", "replace") for m in re.findall(rb"(?:SPACE\s*=\s*|frame )(\w+)", text)}
    if len(frames) > 1 or not frames <= set(FRAMES):
        words = ", ".join(sorted(frames))[:80]
        raise ValueError(f"{path}: need a frame of LPS or RAS, the file says {words!r}")
    return FRAMES[frames.pop() if frames else "LPS"]


def _read_ply(content: bytes) -> Mesh:
    """The elements `vertex` and `face` of a PLY file, text or binary."""
    head, found, data = content.partition(b"end_header")
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    order = PLY_ORDERS[next((line[1] for line in lines if line[:1] == ["format"]), "format is missing")]
    data = data[data.find(b"\n") + 1 :] if found else b""
    words = data.split() if not order else []
    elements = [i for i, line in enumerate(lines) if line[:1] == ["element"]]
    vertices, triangles = np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    for at, following in pairwise([*elements, len(lines)]):
        name, count = lines[at][1], int(lines[at][2])
        fields = [line[1:] for line in lines[at:following] if line[:1] == ["property"]]
        if not 0 <= count <= len(data):
            raise ValueError(
                f"triangles are missing: it claims {count} of {name}, there are {len(data)} bytes"
            )
        if order:
            columns, used = _binary_rows(data, count, fields, order)
            data = data[used:]
        else:
            columns, used = _text_rows(words, count, fields)
            words = words[used:]
        if name == "vertex":
            vertices = np.stack([np.concatenate(columns[axis]).astype(float) for axis in "xyz"], axis=1)
        elif name == "face":
            triangles = _fans(columns.get("vertex_indices") or columns["vertex_index"])
    return vertices, triangles


def _binary_rows(data: bytes, n: int, fields: list[list[str]], order: str) -> tuple[dict[str, list], int]:
    """Each property of n rows as arrays, one for each stretch of rows whose lists are of one length."""
    columns: dict[str, list] = {words[-1]: [] for words in fields}
    at = done = 0
    while done < n:
        kind = _row_type(data, at, fields, order)
        if not kind.itemsize:
            raise ValueError("a row without properties")
        rows: Any = np.frombuffer(data, kind, min(n - done, ROWS, (len(data) - at) // kind.itemsize), at)
        same = np.ones(len(rows), bool)
        for name in columns:
            if f"{name} count" in (kind.names or ()):
                same &= rows[f"{name} count"] == rows[f"{name} count"][0]
        stretch = len(rows) if same.all() else int(np.argmin(same))
        if not stretch:
            raise ValueError(f"triangles are missing: {n - done} rows of {n} are not there")
        for name in columns:
            columns[name].append(rows[name][:stretch])
        at, done = at + stretch * kind.itemsize, done + stretch
    return columns, at


def _row_type(data: bytes, at: int, fields: list[list[str]], order: str) -> np.dtype:
    """The layout of the row at this place, whose lists say how long they are."""
    held: list[tuple] = []
    for words in fields:
        if words[0] != "list":
            held.append((words[-1], order + PLY_TYPES[words[0]]))
            continue
        counter = np.dtype(order + PLY_TYPES[words[1]])
        place = at + np.dtype(held).itemsize if held else at
        length = int(np.frombuffer(data, counter, 1, place)[0])
        if not 0 < length <= len(data):
            raise ValueError(f"a list of {length} values")
        held += [(f"{words[-1]} count", counter), (words[-1], order + PLY_TYPES[words[2]], (length,))]
    return np.dtype(held)


def _text_rows(words: list[bytes], n: int, fields: list[list[str]]) -> tuple[dict[str, list], int]:
    columns: dict[str, list] = {field[-1]: [] for field in fields}
    at = 0
    for _ in range(n):
        for field in fields:
            if field[0] == "list":
                length = int(words[at])
                values = np.array([[float(word) for word in words[at + 1 : at + 1 + length]]])
                if not 0 <= length == values.shape[1]:
                    raise ValueError("triangles are missing")
                at += 1 + length
            else:
                values = np.array([float(words[at])])
                at += 1
            columns[field[-1]].append(values)
    return columns, at


def _fans(polygons: list[np.ndarray]) -> np.ndarray:
    """Triangles (n, 3) of polygons, given as arrays (m, corners)."""
    parts = [np.zeros((0, 3), np.int64)]
    for some in polygons:
        corners = some.astype(np.int64)
        if not 3 <= corners.shape[1] <= MOST_CORNERS:
            raise ValueError(f"a face needs 3 to {MOST_CORNERS} vertices that are there")
        parts += [corners[:, [0, i, i + 1]] for i in range(1, corners.shape[1] - 1)]
    return np.concatenate(parts)


def _read_stl(content: bytes) -> Mesh:
    n = int.from_bytes(content[80:84], "little")
    if content.startswith(b"solid") and len(content) != 84 + 50 * n:
        numbers = re.findall(rb"(?m)^\s*vertex\s+(\S+)\s+(\S+)\s+(\S+)", content)
        if not numbers or len(numbers) != 3 * len(re.findall(rb"(?m)^\s*endfacet", content)):
            raise ValueError("triangles are missing: need three vertices in every facet")
        places = np.array(numbers).astype(float)
    else:
        if len(content) < 84 + 50 * n:
            raise ValueError(f"triangles are missing: it claims {n}, {len(content)} bytes cannot hold them")
        rows = np.frombuffer(content, [("normal", "<f4", 3), ("at", "<f4", (3, 3)), ("unused", "<u2")], n, 84)
        places = rows["at"].reshape(-1, 3).astype(float)
    return places, np.arange(len(places)).reshape(-1, 3)


def _read_off(content: bytes) -> Mesh:
    """OFF, and COFF, NOFF and CNOFF, whose vertices have colours and normals behind their places."""
    lines = [line.split() for line in re.sub(rb"#.*", b"", content).splitlines()]
    lines = [words for words in lines if words]
    head = lines.pop(0)
    if not re.fullmatch(rb"C?N?OFF", head[0]):
        raise ValueError("it does not start with OFF")
    counts = [int(word) for word in (head[1:] or lines.pop(0))]
    n, m = counts[:2]
    if min(n, m) < 0 or n + m > len(lines):
        raise ValueError(f"triangles are missing: it claims {n} vertices and {m} faces in {len(lines)} lines")
    places = np.array([[float(word) for word in words[:3]] for words in lines[:n]]).reshape(n, 3)
    faces = [[int(word) for word in words[1 : 1 + int(words[0])]] for words in lines[n : n + m]]
    if any(len(face) != int(words[0]) for face, words in zip(faces, lines[n : n + m], strict=True)):
        raise ValueError("triangles are missing")
    by_length = [[face for face in faces if len(face) == n] for n in sorted({len(face) for face in faces})]
    return places, _fans([np.array(some) for some in by_length])


def _read_glb(content: bytes) -> Mesh:
    """The triangles of the scene of a binary glTF file, in its metres; it must hold its own data."""
    if content[:4] != b"glTF" or int.from_bytes(content[8:12], "little") > len(content):
        raise ValueError("not a whole GLB file")
    end = 20 + int.from_bytes(content[12:16], "little")
    document = json.loads(content[20:end].decode("utf-8"))
    places = [part.get("uri") for kind in ("buffers", "images") for part in document.get(kind, ())]
    if any(place is not None for place in places):
        raise ValueError("need a GLB that holds its own data, this one names another place")
    if document.get("extensionsRequired"):
        raise ValueError(f"extensions are not read: {str(document['extensionsRequired'])[:80]}")
    binary = content[end + 8 : end + 8 + int.from_bytes(content[end : end + 4], "little")]
    nodes, scenes = document.get("nodes", []), document.get("scenes", [])
    roots = scenes[document.get("scene", 0)]["nodes"] if scenes else range(len(nodes))
    vertices, triangles, seen = [np.zeros((0, 3))], [np.zeros((0, 3), np.int64)], set[int]()
    waiting = [(node, np.eye(4)) for node in roots]
    total = n_corners = 0
    while waiting:
        number, above = waiting.pop()
        if number in seen:
            raise ValueError("a node is there twice")
        seen.add(number)
        node = nodes[number]
        matrix = above @ _node_matrix(node)
        waiting += [(child, matrix) for child in node.get("children", ())]
        for part in document["meshes"][node["mesh"]]["primitives"] if "mesh" in node else ():
            if part.get("mode", 4) != 4:
                raise ValueError("need triangles, got points, lines or strips")
            own = _accessor(document, binary, part["attributes"]["POSITION"]).astype(float)
            corners = (
                _accessor(document, binary, part["indices"]) if "indices" in part else np.arange(len(own))
            ).astype(np.int64)
            if len(corners) and corners.max() >= len(own):
                raise ValueError("a triangle names a vertex that is not there")
            n_corners += len(corners)
            require_room("a mesh that is there many times", 64 * (total + len(own) + n_corners))
            vertices.append(own.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3])
            triangles.append(corners.reshape(-1, 3) + total)
            total += len(own)
    return np.concatenate(vertices), np.concatenate(triangles)


def _node_matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    x, y, z, w = (float(v) for v in node.get("rotation", (0, 0, 0, 1)))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), float).reshape(3)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), float)
    return matrix


def _accessor(document: dict[str, Any], binary: bytes, number: int) -> np.ndarray:
    """The values of an accessor: (n,) of scalars, (n, 3) of vectors."""
    one = document["accessors"][number]
    view = document["bufferViews"][one["bufferView"]]
    if "sparse" in one or view.get("buffer", 0) != 0:
        raise ValueError("sparse accessors and several buffers are not read")
    kind = np.dtype(GLTF_TYPES[one["componentType"]])
    width, n = {"SCALAR": 1, "VEC3": 3}[one["type"]], int(one["count"])
    start, offset = int(view.get("byteOffset", 0)), int(one.get("byteOffset", 0))
    step = int(view.get("byteStride", width * kind.itemsize))
    held = binary[start : start + int(view["byteLength"])] if min(start, offset, n - 1) >= 0 else b""
    if step < width * kind.itemsize or offset + step * (n - 1) + width * kind.itemsize > len(held):
        raise ValueError(f"triangles are missing: an accessor claims {n} values that are not there")
    rows = np.ndarray((n, width), kind, held, offset, (step, kind.itemsize))
    return rows[:, 0] if width == 1 else rows


def _read_obj(content: bytes) -> Mesh:
    """The vertices and faces of an OBJ file, polygons as fans of triangles; materials are not opened."""
    vertices: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    for line in content.decode("utf-8", "replace").splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            vertices.append([float(word) for word in words[:3]])
        elif kind == "f":
            corners = [int(word.split("/")[0]) for word in words]
            at = [c - 1 if c > 0 else len(vertices) + c for c in corners]
            if not 3 <= len(at) <= MOST_CORNERS or min(at) < 0 or 0 in corners:
                raise ValueError(
                    f"a face needs 3 to {MOST_CORNERS} vertices that are there, at {line[:60].strip()!r}"
                )
            triangles += [(at[0], b, c) for b, c in pairwise(at[1:])]
    places = np.array(vertices, float).reshape(len(vertices), 3)
    return places, np.array(triangles, np.int64).reshape(len(triangles), 3)
