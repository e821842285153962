"""The signed distance between two models of a kidney in 3-D: for a page that turns it, and as a still
picture.
"""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from kidseg_jax.evaluation.comparison import PAIRS
from kidseg_jax.evaluation.mesh_files import distance_colours
from kidseg_jax.evaluation.meshes import draw_places
from kidseg_jax.evaluation.surfaces import DistanceTo, Surface, open3d, surface_of
from kidseg_jax.report.snapshot import KidneySnapshot

LIMIT_MM = 5.0
"""Distances of this size and beyond have the full colour."""
MOST_TRIANGLES = 40_000
_SCALE = [[0, "#2166ac"], [0.5, "#f7f7f7"], [1, "#b2182b"]]


@dataclass(frozen=True)
class Scene:
    """A coloured surface: how far each vertex of the first model lies from the second; negative inside."""

    pair: str
    surface: Surface
    distance_mm: np.ndarray

    @property
    def title(self) -> str:
        """Which model is shown, and against which it is measured."""
        first, second = PAIRS[self.pair].split(" vs ")
        return f"{first} surface, distance to {second}"

    @property
    def rms_mm(self) -> float:
        """Root mean square over the vertices shown."""
        return float(np.sqrt(np.mean(self.distance_mm**2)))


def surfaces_of(snapshot: KidneySnapshot, pair: str) -> tuple[Surface, Surface] | None:
    """Surfaces of both maps of a pair of `PAIRS`, all structures as one; None where one is empty."""
    first, second = (getattr(snapshot, name) for name in pair.split("_"))
    if first is None or second is None or not first.any() or not second.any():
        return None
    return surface_of(first > 0, snapshot.geometry), surface_of(second > 0, snapshot.geometry)


def scene_of(pair: str, first: Surface, second: Surface) -> Scene:
    """The first surface, with few enough triangles for a page, coloured by distance to the second."""
    surface = simplified(first, MOST_TRIANGLES)
    return Scene(pair, surface, DistanceTo(second).signed(surface.vertices_mm))


def simplified(surface: Surface, triangles: int) -> Surface:
    """The surface with at most about so many triangles (Open3D's quadric decimation); itself where it has
    fewer.
    """
    if len(surface.triangles) <= triangles:
        return surface
    o3d = open3d()
    centre = surface.vertices_mm.mean(0)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(surface.vertices_mm - centre),
        o3d.utility.Vector3iVector(surface.triangles),
    ).simplify_quadric_decimation(triangles)
    return Surface(np.asarray(mesh.vertices) + centre, np.asarray(mesh.triangles, dtype=np.int64))


def plotly_figure(scene: Scene) -> dict[str, Any]:
    """A plotly figure as plain data: data, layout, config. Axes in mm, LPS; turned so that superior is up."""
    points, corners = scene.surface.vertices_mm, scene.surface.triangles
    mesh = {
        "type": "mesh3d",
        **{name: _packed(points[:, axis], "f4") for axis, name in enumerate("xyz")},
        **{name: _packed(corners[:, axis], "i4") for axis, name in enumerate("ijk")},
        "intensity": _packed(scene.distance_mm, "f4"),
        "colorscale": _SCALE,
        "cmin": -LIMIT_MM,
        "cmax": LIMIT_MM,
        "colorbar": {"title": {"text": "mm"}, "thickness": 12, "len": 0.8},
        "lighting": {"ambient": 0.6, "diffuse": 0.55, "specular": 0.1, "roughness": 0.8},
        "lightposition": {"x": -3000, "y": -8000, "z": 5000},
        "hovertemplate": "%{intensity:.2f} mm<extra></extra>",
    }
    hidden = {"visible": False}
    view = {"eye": {"x": 0.0, "y": -1.9, "z": 0.3}, "up": {"x": 0, "y": 0, "z": 1}}
    layout = {
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "scene": {"xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data", "camera": view},
        "paper_bgcolor": "#ffffff",
    }
    return {"data": [mesh], "layout": layout, "config": {"displayModeBar": False, "responsive": True}}


def still(scene: Scene, *, pixels: int = 360, seed: int = 0) -> np.ndarray:
    """The same view from the front as an image uint8 (pixels, pixels, 3): dots on the surface, the nearest
    one kept.
    """
    places, normals, corner, weights = draw_places(scene.surface, 40 * pixels * pixels // 10, seed)
    distance = (scene.distance_mm[scene.surface.triangles[corner]] * weights).sum(1)
    colour = distance_colours(distance, LIMIT_MM).astype(float)
    light = np.array([-0.35, -0.8, 0.5]) / np.linalg.norm([-0.35, -0.8, 0.5])
    colour *= (0.55 + 0.45 * np.clip(normals @ light, 0, 1))[:, None]
    low, high = places.min(0), places.max(0)
    scale = 0.94 * (pixels - 1) / max(high[0] - low[0], high[2] - low[2])
    middle = (low + high) / 2
    column = np.round((places[:, 0] - middle[0]) * scale + pixels / 2).astype(int).clip(0, pixels - 1)
    row = np.round((middle[2] - places[:, 2]) * scale + pixels / 2).astype(int).clip(0, pixels - 1)
    image = np.full((pixels, pixels, 3), 255, np.uint8)
    back_to_front = np.argsort(
        -places[:, 1], kind="stable"
    )  # y runs to the back; the last one written is in front
    image[row[back_to_front], column[back_to_front]] = colour[back_to_front].astype(np.uint8)
    return image


def _packed(values: np.ndarray, kind: str) -> dict[str, str]:
    """A typed array as plotly.js takes it: base64 of little-endian bytes."""
    data = np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()
    return {"dtype": kind, "bdata": base64.b64encode(data).decode("ascii")}
