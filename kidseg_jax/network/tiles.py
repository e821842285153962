"""A network over more than its patch: overlapping tiles of one shape."""

from collections.abc import Callable

import numpy as np

from kidseg_jax.imaging.volume import Shape

Logits = Callable[[np.ndarray], np.ndarray]


def slide(logits: Logits, ct: np.ndarray, patch: Shape) -> np.ndarray:
    """Mean logits (z, y, x, c) of overlapping patches of one shape over a CT at least one patch large.

    logits: from HU (1, *patch) to float32 (1, *patch, c).
    """
    total, count = np.zeros(0, np.float32), np.zeros((*ct.shape, 1), np.float32)
    starts = [_starts(n, p) for n, p in zip(ct.shape, patch, strict=True)]
    for corner in ((z, y, x) for z in starts[0] for y in starts[1] for x in starts[2]):
        at = tuple(slice(a, a + p) for a, p in zip(corner, patch, strict=True))
        scores = np.asarray(logits(ct[at][None]))[0]
        if not total.size:
            total = np.zeros((*ct.shape, scores.shape[-1]), np.float32)
        total[at] += scores
        count[at] += 1
    return total / count


def _starts(n: int, patch: int) -> list[int]:
    """First voxels of patches that cover n voxels and overlap by a quarter or more."""
    count = 1 if n <= patch else 1 + int(np.ceil((n - patch) / (0.75 * patch)))
    return [round(i * (n - patch) / max(1, count - 1)) for i in range(count)]
