"""Slow, plain answers to what the kernels compute, from SciPy and NumPy."""

import os

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from scipy import ndimage

DTYPES = [np.dtype(t) for t in ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")]
RANK = {6: 1, 18: 2, 26: 3}
SANITIZED = "KIDSEG_SANITIZED" in os.environ  # by tests/sanitize_kernels.py: everything is slow


def examples(n: int) -> settings:
    """n random examples of a property, a tenth of them in a sanitized build."""
    return settings(max_examples=max(n // 10, 10) if SANITIZED else n, deadline=None)


def layouts(array: np.ndarray) -> dict[str, np.ndarray]:
    """The same values under every kind of strides that a caller may hand in, none of them writable."""
    padded = np.zeros([2 * n + 1 for n in array.shape], array.dtype)
    every_second = padded[tuple(slice(1, 2 * n + 1, 2) for n in array.shape)]
    every_second[...] = array
    turned = np.ascontiguousarray(np.moveaxis(array, 0, -1))
    found = {
        "C": np.ascontiguousarray(array),
        "Fortran": np.asfortranarray(array),
        "sliced": every_second,
        "reversed": np.ascontiguousarray(array[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
        "turned": np.moveaxis(turned, -1, 0),
        "half reversed": np.asfortranarray(array[:, ::-1])[:, ::-1],
    }
    for view in found.values():
        view.setflags(write=False)
    return found


def random_labels(
    rng: np.random.Generator, shape, dtype: npt.DTypeLike = np.uint8, density=None, classes=3
) -> np.ndarray:
    """Labels 0..classes with the given share of foreground, negative ones where the dtype has them."""
    density = rng.random() if density is None else density
    values = rng.integers(1, classes + 1, shape)
    dtype = np.dtype(dtype)
    if dtype.kind == "i":
        values = np.where(values == 2, -2, values)
    return np.where(rng.random(shape) < density, values, 0).astype(dtype)


def label_oracle(labels: np.ndarray, connectivity: int) -> tuple[np.ndarray, int]:
    """SciPy's components of each label, renumbered by their first voxel in C order."""
    structure = ndimage.generate_binary_structure(3, RANK[connectivity])
    found = np.zeros(labels.shape, np.int64)
    n = 0
    for value in np.unique(labels[labels != 0]):
        part, count = ndimage.label(labels == value, structure)  # pyright: ignore[reportGeneralTypeIssues]
        found[part > 0] = part[part > 0] + n
        n += count
    numbers, first = np.unique(found.ravel(), return_index=True)
    keep = numbers > 0
    renumber = np.zeros(n + 1, np.int64)
    renumber[numbers[keep][np.argsort(first[keep])]] = np.arange(1, n + 1)
    return renumber[found], n


def keep_oracle(labels: np.ndarray, connectivity: int, chosen) -> np.ndarray:
    """Labels of the components whose number `chosen(sizes, classes)` marks True."""
    components, n = label_oracle(labels, connectivity)
    sizes = np.bincount(components.ravel(), minlength=n + 1)[1:]
    classes = np.array([labels[components == i + 1][0] for i in range(n)])
    kept = np.concatenate([[False], chosen(sizes, classes)])
    return np.where(kept[components], labels, 0)


def largest(k: int):
    def chosen(sizes, classes):
        kept = np.zeros(len(sizes), bool)
        for value in np.unique(classes):
            (members,) = np.nonzero(classes == value)
            kept[members[np.argsort(-sizes[members], kind="stable")[:k]]] = True
        return kept

    return chosen


def box_oracle(mask: np.ndarray):
    where = np.argwhere(mask)
    return None if len(where) == 0 else (tuple(where.min(0)), tuple(where.max(0) + 1))


def border_oracle(mask: np.ndarray) -> np.ndarray:
    """Voxels (n, 3) with a face neighbour outside; beyond the array is outside."""
    mask = mask != 0
    return np.argwhere(mask & np.logical_not(ndimage.binary_erosion(mask)))


def distances_oracle(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point (n, 3) to the nearest of the others (m, 3), by brute force."""
    if len(others) == 0:
        return np.full(len(points), np.inf)
    return np.array([np.sqrt(((others - p) ** 2).sum(1).min()) for p in points])


def triangle_distances_oracle(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Distance of each point (n, 3) to the nearest triangle (m, 3, 3): three edges and the face."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    nearest = []
    for p in points:
        best = np.inf
        height = ((p - a) * normal).sum(1)
        foot = p - height[:, None] * normal
        inside = np.ones(len(a), bool)
        for u, v in ((a, b), (b, c), (c, a)):
            along = np.clip(((p - u) * (v - u)).sum(1) / ((v - u) ** 2).sum(1), 0, 1)
            best = min(best, np.linalg.norm(p - (u + along[:, None] * (v - u)), axis=1).min())
            inside &= (np.cross(v - u, foot - u) * normal).sum(1) >= 0
        nearest.append(min(best, np.abs(height[inside]).min(initial=np.inf)))
    return np.array(nearest)


def taps_oracle(coordinates, n: int, width: float) -> np.ndarray:
    """Weights (len(coordinates), n): overlap of [c - w/2, c + w/2] with [i - 1/2, i + 1/2], ends repeated."""
    weights = np.zeros((len(coordinates), n))
    for k, c in enumerate(coordinates):
        reach = int(abs(c) + width) + n + 2
        for i in range(-reach, reach):
            overlap = min(c + width / 2, i + 0.5) - max(c - width / 2, i - 0.5)
            weights[k, min(max(i, 0), n - 1)] += max(0.0, overlap) / width
    return weights
