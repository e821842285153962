"""An artery's label as a tree: branches by distance along it, where it enters, and what lies nearest to each.

A voxel's distance along the vessel is the shortest way through the label from its trunk's end; pieces of the
shells of equal distance are places along the tree, and a shell that falls apart is a branching.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from kidseg_jax import kernels
from kidseg_jax.imaging.volume import Mask, Spacing

SHELL = 1.5  # of the coarsest spacing, and at least SHELL_MM
SHELL_MM = 1.5
SPUR_RADII = 1.5  # a tip shorter than so many radii behind its parent's wall is none
SMALLEST_MM3 = 20.0
STEP_MM = 0.5


@dataclass(frozen=True)
class Branch:
    """A stretch of an artery between two branchings: its middle line, (n, 3) in mm (z, y, x) from its start.

    parent: index of the branch that it leaves, None for a trunk; ends: whether no branch leaves it.
    """

    parent: int | None
    line_mm: np.ndarray
    radius_mm: float
    ends: bool

    @property
    def length_mm(self) -> float:
        return float(np.linalg.norm(np.diff(self.line_mm, axis=0), axis=1).sum())


def branches_of(artery: Mask, centre_mm: np.ndarray, spacing_mm: Spacing) -> tuple[Branch, ...]:
    """The branches of every artery of one kidney (z, y, x), a trunk before what leaves it; none without
    artery.

    centre_mm: the kidney's centre; a trunk begins at the end of its piece that lies farthest from it.
    """
    found: list[Branch] = []
    pieces, n = kernels.label_components(artery, dtype=np.int32)
    volumes = np.bincount(pieces.ravel(), minlength=n + 1) * float(np.prod(spacing_mm))
    for number in range(1, n + 1):
        if volumes[number] < SMALLEST_MM3:
            continue
        box = kernels.bounding_box(pieces == number)
        assert box is not None
        offset = np.asarray(box.lo) * spacing_mm
        piece = pieces[box.slices] == number
        for branch in _tree(piece, centre_mm - offset, np.asarray(spacing_mm), len(found)):
            line = branch.line_mm + offset
            found.append(Branch(branch.parent, line, branch.radius_mm, branch.ends))
    return tuple(found)


def entries(artery: Mask, inside: Mask) -> int:
    """How many times arteries pass from outside the kidney's capsule into it (`inside`, bool (z, y, x)).

    Counted are the pieces of artery outside that end in the kidney, once for each piece inside that they
    reach; crumbs of less than a tenth of the largest piece on their side count for none.
    """
    box = kernels.bounding_box(artery)
    if box is None:
        return 0
    sides = artery[box.slices] * (1 + inside[box.slices]).astype(np.uint8)
    pieces, n = kernels.label_components(sides, dtype=np.int32)
    size = np.bincount(pieces.ravel(), minlength=n + 1)
    side = np.zeros(n + 1, int)
    side[pieces[sides > 0]] = sides[sides > 0]
    pairs: set[tuple[int, int]] = set()
    for step in _steps():
        here, there = _pair(pieces, step)
        met = (here > 0) & (there > 0) & (here != there)
        pairs |= {
            (min(a, b), max(a, b)) for a, b in set(zip(here[met].tolist(), there[met].tolist(), strict=True))
        }
    large = {s: size[side == s].max() for s in (1, 2) if (side == s).any()}
    return sum(all(size[p] >= 0.1 * large[side[p]] for p in pair) for pair in pairs)


def nearest_ends(points_mm: np.ndarray, branches: tuple[Branch, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """For each point (n, 3) in mm the place, in the indices that follow, of the nearest end branch's middle
    line.

    Geometry only: what an artery feeds is not seen in a label map. Raises ValueError without an end.
    """
    ends = tuple(i for i, branch in enumerate(branches) if branch.ends)
    if not ends:
        raise ValueError("nearest_ends: need a branch that ends, got none")
    lines = [_dense(branches[i].line_mm) for i in ends]
    owner = np.repeat(np.arange(len(ends)), [len(line) for line in lines])
    return owner[KDTree(np.concatenate(lines)).query(points_mm)[1]], ends


def _tree(piece: Mask, centre_mm: np.ndarray, spacing: np.ndarray, first: int) -> list[Branch]:
    """The branches of one connected piece, numbered from `first`."""
    voxels = np.argwhere(piece)
    places = voxels * spacing
    graph = _graph(piece, voxels, spacing)
    root = int(np.linalg.norm(places - centre_mm, axis=1).argmax())
    along = _from_end(graph, places, root, centre_mm)
    shell_mm = max(SHELL * float(spacing.max()), SHELL_MM)
    shells = np.zeros(piece.shape, np.int32)
    shells[tuple(voxels.T)] = 1 + (along / shell_mm).astype(np.int32)
    numbered, _ = kernels.label_components(shells, dtype=np.int32)
    node = numbered[tuple(voxels.T)] - 1
    node[shells[tuple(voxels.T)] == 1] = node[root]  # the outer end is one place, in however many pieces
    _, node = np.unique(node, return_inverse=True)
    n = int(node.max()) + 1
    counts = np.bincount(node, minlength=n)
    middle = (
        np.stack([np.bincount(node, places[:, a], minlength=n) for a in range(3)], axis=1) / counts[:, None]
    )
    level = np.zeros(n, int)
    level[node] = shells[tuple(voxels.T)]
    parent = _parents(graph, node, level, counts)
    volume = counts * float(spacing.prod())
    radius = np.sqrt(volume / (np.pi * shell_mm))
    children: list[list[int]] = [[] for _ in range(n)]
    for child in range(n):
        if parent[child] >= 0:
            children[parent[child]].append(child)
    tips = places[_last(along, node, n)]
    start = int(node[root])
    _prune(start, parent, children, middle, radius, tips)
    return _stretches(start, children, middle, radius, tips, places[root], first)


def _from_end(graph: csr_array, places: np.ndarray, root: int, centre_mm: np.ndarray) -> np.ndarray:
    """Distance along the piece from the flat of its outer end, so that a wide end is no branching."""
    reach = dijkstra(graph, indices=root)
    away = np.linalg.norm(places - centre_mm, axis=1)
    cap = np.flatnonzero((away >= away[root] - 1.0) & (reach <= 12.0))
    return np.asarray(dijkstra(graph, indices=cap, min_only=True))


def _graph(piece: Mask, voxels: np.ndarray, spacing: np.ndarray) -> csr_array:
    """Voxels as nodes, neighbours of the 26 as edges, as long as they lie apart in mm."""
    index = np.full(np.add(piece.shape, 2), -1, np.int64)
    at = voxels + 1
    index[tuple(at.T)] = np.arange(len(voxels))
    starts, ends, lengths = [], [], []
    for step in _steps():
        there = index[tuple((at + step).T)]
        joined = np.flatnonzero(there >= 0)
        starts.append(joined)
        ends.append(there[joined])
        lengths.append(np.full(len(joined), float(np.linalg.norm(step * spacing))))
    a, b, length = (np.concatenate(parts) for parts in (starts, ends, lengths))
    n = len(voxels)
    return coo_array(
        (np.tile(length, 2), (np.concatenate([a, b]), np.concatenate([b, a]))), shape=(n, n)
    ).tocsr()


def _steps() -> list[np.ndarray]:
    """Half of the 26 neighbours, one of each opposite pair."""
    cube = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return list(cube[14:])


def _pair(array: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every voxel with the one a step away, as two views."""
    here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(step, array.shape, strict=True))
    there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(step, array.shape, strict=True))
    return array[here], array[there]


def _parents(graph: csr_array, node: np.ndarray, level: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The place nearer to the trunk that each place hangs on by most neighbours, -1 for the first."""
    edges = graph.tocoo()
    a, b = node[edges.row], node[edges.col]
    down = level[a] > level[b]
    n = len(counts)
    keys, times = np.unique(a[down].astype(np.int64) * n + b[down], return_counts=True)
    parent = np.full(n, -1)
    order = np.argsort(times, kind="stable")
    parent[keys[order] // n] = keys[order] % n
    return parent


def _last(along: np.ndarray, node: np.ndarray, n: int) -> np.ndarray:
    """The voxel of each place that lies farthest along."""
    order = np.lexsort((along, node))
    ends = np.searchsorted(node[order], np.arange(n), side="right") - 1
    return order[ends]


def _prune(
    start: int,
    parent: np.ndarray,
    children: list[list[int]],
    middle: np.ndarray,
    radius: np.ndarray,
    tips: np.ndarray,
) -> None:
    """Take off tips that do not leave the wall of what they hang on, shortest first, in place."""
    while True:
        spurs = []
        for leaf in range(len(children)):
            if children[leaf] or leaf == start or parent[leaf] < 0:
                continue
            chain = [leaf]
            while len(children[parent[chain[-1]]]) == 1 and parent[chain[-1]] != start:
                chain.append(int(parent[chain[-1]]))
            fork = int(parent[chain[-1]])
            if len(children[fork]) < 2:
                continue
            length = float(np.linalg.norm(tips[leaf] - middle[fork]))
            if length < radius[fork] * (1 + SPUR_RADII):
                spurs.append((length, chain[-1], fork))
        if not spurs:
            return
        _, twig, fork = min(spurs)
        children[fork].remove(twig)
        parent[twig] = -1
        stack = [twig]
        while stack:
            gone = stack.pop()
            stack += children[gone]
            parent[gone] = -1
            children[gone] = []


def _stretches(
    start: int,
    children: list[list[int]],
    middle: np.ndarray,
    radius: np.ndarray,
    tips: np.ndarray,
    outer_end: np.ndarray,
    first: int,
) -> list[Branch]:
    """The branches from a tree of places, a parent before its children."""
    found: list[Branch] = []
    waiting: list[tuple[int, int | None, np.ndarray]] = [(start, None, outer_end)]
    while waiting:
        place, parent, before = waiting.pop(0)
        chain = [place]
        while len(children[chain[-1]]) == 1:
            chain.append(children[chain[-1]][0])
        line = np.vstack([before[None], middle[chain]])
        ends = not children[chain[-1]]
        if ends:
            line = np.vstack([line[:-1], tips[chain[-1]][None]])
        number = first + len(found)
        found.append(Branch(parent, line, float(np.median(radius[chain])), ends))
        waiting += [(child, number, middle[chain[-1]]) for child in children[chain[-1]]]
    return found


def _dense(line_mm: np.ndarray) -> np.ndarray:
    """Points about STEP_MM apart on a line."""
    parts = [line_mm[:1]]
    for a, b in pairwise(line_mm):
        n = max(1, int(np.ceil(np.linalg.norm(b - a) / STEP_MM)))
        parts.append(a + (b - a) * (np.arange(1, n + 1) / n)[:, None])
    return np.concatenate(parts)
