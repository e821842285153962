"""A network over more than its patch: overlapping tiles of one shape."""

from collections.abc import Callable
from itertools import product

import numpy as np

from kidseg_jax.imaging.volume import Shape

Logits = Callable[[np.ndarray], np.ndarray]
SPREAD = 0.125  # of a tile's weights, in tiles: standard deviation


def slide(logits: Logits, ct: np.ndarray, patch: Shape) -> np.ndarray:
    """Logits (z, y, x, c) over a CT at least one patch large, from overlapping patches of one shape.

    A voxel that several see takes their mean, each weighted by a Gaussian about its own middle: a network
    knows least at the rim of what it sees. logits: from HU (1, *patch) to float32 (1, *patch, c), or so many
    times finer along each axis, as the result then is.
    Source: Isensee et al. 2021, nnU-Net (weights and their spread).
    """
    if ct.shape == tuple(patch):
        return np.asarray(logits(ct[None]))[0]
    total = weight = bell = np.zeros(0, np.float32)
    starts = [_starts(n, p) for n, p in zip(ct.shape, patch, strict=True)]
    for corner in product(*starts):
        at = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        scores = np.asarray(logits(ct[at][None]))[0]
        finer = scores.shape[0] // patch[0]
        if not total.size:
            whole = [finer * n for n in ct.shape]
            total, weight = (
                np.zeros((*whole, scores.shape[-1]), np.float32),
                np.zeros((*whole, 1), np.float32),
            )
            z_weight, y_weight, x_weight = (_bell(finer * n) for n in patch)
            bell = (z_weight[:, None, None] * y_weight[:, None] * x_weight)[..., None]
        told = tuple(slice(finer * one.start, finer * one.stop) for one in at)
        total[told] += scores * bell
        weight[told] += bell
    return total / weight


def _starts(n: int, patch: int) -> list[int]:
    """First voxels of patches that cover n voxels and overlap by a quarter or more."""
    count = 1 if n <= patch else 1 + int(np.ceil((n - patch) / (0.75 * patch)))
    return [round(i * (n - patch) / max(1, count - 1)) for i in range(count)]


def _bell(n: int) -> np.ndarray:
    """Weights of n voxels in a row, float32, largest in the middle."""
    away = (np.arange(n) - (n - 1) / 2) / (SPREAD * n)
    return np.exp(-0.5 * away**2).astype(np.float32)
