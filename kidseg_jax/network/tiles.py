"""A network over more than its patch: overlapping tiles of one shape."""

from collections.abc import Callable

import numpy as np

from kidseg_jax.imaging.volume import Shape

Logits = Callable[[np.ndarray], np.ndarray]
SPREAD = 0.125  # of a tile's weights, in tiles: standard deviation


def slide(logits: Logits, ct: np.ndarray, patch: Shape) -> np.ndarray:
    """Logits (z, y, x, c) over a CT at least one patch large, from overlapping patches of one shape.

    A voxel that several see takes their mean, each weighted by a Gaussian about its own middle: a network
    knows least at the rim of what it sees. logits: from HU (1, *patch) to float32 (1, *patch, c).
    Source: Isensee et al. 2021, nnU-Net (weights and their spread).
    """
    if ct.shape == tuple(patch):
        return np.asarray(logits(ct[None]))[0]
    total, weight = np.zeros(0, np.float32), np.zeros((*ct.shape, 1), np.float32)
    starts = [_starts(n, p) for n, p in zip(ct.shape, patch, strict=True)]
    z_weight, y_weight, x_weight = map(_bell, patch)
    bell = (z_weight[:, None, None] * y_weight[:, None] * x_weight)[..., None]
    for corner in ((z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]):
        at = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        scores = np.asarray(logits(ct[at][None]))[0]
        if not total.size:
            total = np.zeros((*ct.shape, scores.shape[-1]), np.float32)
        total[at] += scores * bell
        weight[at] += bell
    return total / weight


def _starts(n: int, patch: int) -> list[int]:
    """First voxels of patches that cover n voxels and overlap by a quarter or more."""
    count = 1 if n <= patch else 1 + int(np.ceil((n - patch) / (0.75 * patch)))
    return [round(i * (n - patch) / max(1, count - 1)) for i in range(count)]


def _bell(n: int) -> np.ndarray:
    """Weights of n voxels in a row, float32, largest in the middle."""
    away = (np.arange(n) - (n - 1) / 2) / (SPREAD * n)
    return np.exp(-0.5 * away**2).astype(np.float32)
