"""Surfaces as files: PLY with a distance per vertex, GLB for viewers, STL for printing."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kidseg_jax.atomic import written_whole
from kidseg_jax.evaluation.surfaces import LPS_MM_TO_GLTF, DistanceTo, Surface

COMMENT = "kidseg_jax; units mm; frame LPS (x left, y posterior, z superior)"


@dataclass(frozen=True)
class Node:
    """One named mesh of a GLB file; rgb (n, 3) uint8 colours its vertices."""

    surface: Surface
    rgb: np.ndarray


def distance_colours(distance_mm: np.ndarray, limit_mm: float) -> np.ndarray:
    """Colours (n, 3) uint8: blue for negative distances, white at zero, red outside, full at `limit_mm`."""
    if limit_mm <= 0:
        raise ValueError(f"distance_colours: limit_mm must be positive, got {limit_mm}")
    share = np.clip(distance_mm / limit_mm, -1, 1)[:, None]
    blue, white, red = np.array([33, 102, 172.0]), np.array([247, 247, 247.0]), np.array([178, 24, 43.0])
    return (
        np.where(share < 0, white + (blue - white) * -share, white + (red - white) * share)
        .round()
        .astype(np.uint8)
    )


def write_ply(
    path: Path,
    surface: Surface,
    *,
    rgb: np.ndarray | None = None,
    scalars: Mapping[str, np.ndarray] | None = None,
) -> None:
    """A binary PLY in mm, LPS, as its comment says; each of `scalars` becomes a float property of the
    vertices.
    """
    colours = [] if rgb is None else [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    extra = dict(scalars or {})
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), *colours, *((name, "<f4") for name in extra)]
    rows = np.zeros(len(surface.vertices_mm), dtype=fields)
    for axis, name in enumerate("xyz"):
        rows[name] = surface.vertices_mm[:, axis]
    for channel, (name, _) in enumerate(colours):
        rows[name] = np.asarray(rgb)[:, channel]
    for name, values in extra.items():
        rows[name] = values
    faces = np.zeros(len(surface.triangles), dtype=[("n", "u1"), ("at", "<i4", 3)])
    faces["n"], faces["at"] = 3, surface.triangles
    kinds = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {COMMENT}",
        f"element vertex {len(rows)}",
        *(f"property {kinds[kind]} {name}" for name, kind in fields),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    with written_whole(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + rows.tobytes() + faces.tobytes())


def write_comparison(
    folder: Path, first: Surface, second: Surface, *, limit_mm: float, names: tuple[str, str] = ("a", "b")
) -> list[str]:
    """Write the first surface coloured by its distance to the second (A_to_B.ply, .glb), both as STL; their
    names.

    Distances are signed where the second surface is closed, else unsigned. An open surface gets no STL.
    """
    to_second = DistanceTo(second)
    signed = to_second.closed
    distance = (to_second.signed if signed else to_second.unsigned)(first.vertices_mm)
    rgb = distance_colours(distance, limit_mm)
    measure, stem = "signed_distance_mm" if signed else "distance_mm", "_to_".join(names)
    write_ply(folder / f"{stem}.ply", first, rgb=rgb, scalars={measure: distance})
    write_glb(folder / f"{stem}.glb", {f"{stem}_{measure}": Node(first, rgb)})
    written = [f"{stem}.ply", f"{stem}.glb"]
    for name, surface in zip(names, (first, second), strict=True):
        if surface.is_watertight and surface.volume_ml > 0:
            write_stl(folder / f"{name}.stl", surface)
            written.append(f"{name}.stl")
    return written


def write_stl(path: Path, surface: Surface) -> None:
    """A binary STL in mm, LPS, as its header says, for printing.

    Raises ValueError, writing nothing, when the surface is not watertight or points inward: a slicer would
    guess.
    """
    if not surface.is_watertight or surface.volume_ml <= 0:
        state = "an open or inconsistently turned surface" if not surface.is_watertight else "an inward one"
        raise ValueError(f"write_stl: {path}: needs a watertight surface that points outward, got {state}")
    corners = surface.corners_mm
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    rows = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    rows["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    rows["corners"] = corners
    header = COMMENT.encode("ascii").ljust(80, b" ")
    with written_whole(path) as temporary:
        temporary.write_bytes(header + struct.pack("<I", len(rows)) + rows.tobytes())


def write_glb(path: Path, nodes: Mapping[str, Node]) -> None:
    """A GLB: one named, vertex-coloured node per surface, in mm and LPS below a root that turns to metres, Y
    up.
    """
    if not nodes:
        raise ValueError(f"write_glb: {path}: need at least one surface, got none")
    views: list[dict] = []
    accessors: list[dict] = []
    chunks: list[bytes] = []

    def add(array: np.ndarray, component: int, kind: str, target: int, **options: object) -> int:
        data = array.tobytes()
        offset = sum(map(len, chunks))
        chunks.append(data + b"\0" * (-len(data) % 4))
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(data), "target": target})
        accessors.append(
            {
                "bufferView": len(views) - 1,
                "componentType": component,
                "count": len(array),
                "type": kind,
                **options,
            }
        )
        return len(accessors) - 1

    meshes = []
    for name, node in nodes.items():
        places = np.ascontiguousarray(node.surface.vertices_mm, dtype="<f4")
        bounds = {"min": places.min(0).tolist(), "max": places.max(0).tolist()}
        opaque = np.full((len(places), 1), 255, np.uint8)
        rgba = np.ascontiguousarray(np.concatenate([node.rgb.astype(np.uint8), opaque], axis=1))
        attributes = {
            "POSITION": add(places, 5126, "VEC3", 34962, **bounds),
            "COLOR_0": add(rgba, 5121, "VEC4", 34962, normalized=True),
        }
        indices = add(node.surface.triangles.astype("<u4").reshape(-1), 5125, "SCALAR", 34963)
        meshes.append(
            {"name": name, "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}
        )
    blob = b"".join(chunks)
    root = np.eye(4)
    root[:3, :3] = LPS_MM_TO_GLTF
    document = {
        "asset": {
            "version": "2.0",
            "generator": "kidseg_jax",
            "extras": {"source_units": "mm", "source_frame": "LPS"},
        },
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {
                "name": "LPS_mm",
                "matrix": root.T.ravel().tolist(),
                "children": list(range(1, len(meshes) + 1)),
            },
            *({"name": name, "mesh": index} for index, name in enumerate(nodes)),
        ],
        "meshes": meshes,
        "materials": [
            {"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.9}, "doubleSided": True}
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    parts = (
        struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
    )
    with written_whole(path) as temporary:
        temporary.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(parts)) + parts)
