"""The same surface with fewer triangles: closed, in as many pieces, and nowhere farther than a bound.

meshoptimizer joins edges by quadric error (Garland and Heckbert 1997) and keeps vertices where they are. It
does not look at what hangs together: where edges of four triangles come out, triangles cross or the surface
lies too far away, the vertices around are locked, and it joins again.
"""

import importlib
import importlib.util

import numpy as np
from scipy import sparse

from kidseg_jax.evaluation.soundness import crossing_triangles, neighbours, pieces
from kidseg_jax.evaluation.surfaces import DistanceTo, Surface

SMALL_PIECE = 200  # triangles: a piece that has fewer stays as it is
ERROR_SHARE = 0.4  # of the bound: quadric error is less than the largest distance
TRIES = 8
FREE = 1e6  # mm


def decimated(surface: Surface, deviation_mm: float, triangles: int | None = None) -> Surface:
    """A closed surface with fewer triangles, vertices taken from it; itself where no try is whole.

    deviation_mm: no vertex of it lies farther from the result. triangles: at most about so many, where that
    takes more than the bound. Raises ValueError without meshoptimizer (extra `print`).
    """
    least = _joined(surface, deviation_mm, 0) if deviation_mm > 0 else surface
    if triangles is None or len(least.triangles) <= triangles:
        return least
    return _joined(surface, np.inf, triangles)


def _joined(surface: Surface, deviation_mm: float, target: int) -> Surface:
    count, piece = pieces(surface)
    locked = np.zeros(len(surface.vertices_mm), bool)
    small = np.bincount(piece, minlength=count)[piece] < SMALL_PIECE
    locked[surface.triangles[small]] = True
    beside = neighbours(surface)
    for around in range(2, 2 + TRIES):
        triangles = _simplified(surface, locked, min(ERROR_SHARE * deviation_mm, FREE), target)
        fewer, used = compacted(Surface(surface.vertices_mm, triangles))
        wrong = np.zeros(len(locked))
        wrong[used[_crowded(fewer)]] = 1
        if not wrong.any() and np.isfinite(deviation_mm):
            wrong[DistanceTo(fewer).unsigned(surface.vertices_mm) > deviation_mm] = 1
        if not wrong.any():
            wrong[used[np.unique(fewer.triangles[crossing_triangles(fewer)])]] = 1
        if not wrong.any() and fewer.is_watertight and pieces(fewer)[0] == count:
            return fewer
        locked |= _within(beside, wrong, around)
    return surface


def _simplified(surface: Surface, locked: np.ndarray, error_mm: float, target: int) -> np.ndarray:
    """Triangles (m, 3) of fewer of the surface's vertices; those at a locked vertex stay."""
    if importlib.util.find_spec("meshoptimizer") is None:
        raise ValueError("decimated: needs the extra `print`: pip install 'kidseg_jax[print]'")
    library = importlib.import_module("meshoptimizer")
    places = (surface.vertices_mm - surface.vertices_mm.mean(0)).astype(np.float32)
    held = locked[surface.triangles].any(1)
    corners = surface.triangles[~held].ravel().astype(np.uint32)
    kept, n = np.zeros_like(corners), 0
    if len(corners):
        options = library.SIMPLIFY_ERROR_ABSOLUTE | library.SIMPLIFY_LOCK_BORDER
        most = 3 * max(0, target - int(held.sum()))
        n = library.simplify(
            kept, corners, places, target_index_count=most, target_error=float(error_mm), options=options
        )
    return np.concatenate([surface.triangles[held], kept[:n].reshape(-1, 3).astype(np.int64)])


def compacted(surface: Surface) -> tuple[Surface, np.ndarray]:
    """The surface without vertices that no triangle has, and the numbers its vertices had."""
    used, triangles = np.unique(surface.triangles, return_inverse=True)
    return Surface(surface.vertices_mm[used], triangles.reshape(-1, 3).astype(np.int64)), used


def _crowded(surface: Surface) -> np.ndarray:
    """Vertices of the edges that more than two triangles have."""
    links = sparse.coo_matrix(neighbours(surface))
    return np.unique(np.concatenate([links.row[links.data > 1], links.col[links.data > 1]]))


def _within(beside: sparse.csr_matrix, chosen: np.ndarray, steps: int) -> np.ndarray:
    """The vertices at most so many edges from one that is chosen."""
    for _ in range(steps):
        chosen = ((beside @ chosen + chosen) > 0).astype(float)
    return chosen > 0
