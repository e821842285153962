"""The same region seen from several places: where a network is unsure, its answer changes with the view."""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax.config import NetConfig
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.network.augment import to_window
from kidseg_jax.network.runtime import compiler_options
from kidseg_jax.network.unet import Params, make_unet

MOVES = (0, 2, -2)
MARGIN = 2


def views_of(net: NetConfig, params: Params, hu: np.ndarray) -> list[np.ndarray]:
    """Class probabilities of one region from the middle and from views moved along all axes by MOVES voxels.

    hu: int16 (z, y, x), the network's patch and MARGIN voxels on every face. Returns float32 (z, y, x, c)
    for each view, on the voxels that all of them see: the patch without MARGIN voxels on every face. Views
    are moved and not flipped because ROIs are: every kidney is turned into a right one, and a network that
    never saw a flipped one has nothing to say about it. Raises ValueError for another shape.
    """
    wanted = tuple(n + 2 * MARGIN for n in net.patch)
    if hu.shape != wanted:
        raise ValueError(f"views_of: need a region of {wanted} voxels, got {hu.shape}")
    moved = np.stack([hu[tuple(slice(MARGIN + m, MARGIN + m + n) for n in net.patch)] for m in MOVES])
    probs = np.asarray(_jitted(net)(params, moved))
    return [
        view[tuple(slice(MARGIN - m, n - MARGIN - m) for n in net.patch)]
        for m, view in zip(MOVES, probs, strict=True)
    ]


@lru_cache
def _jitted(net: NetConfig) -> Callable[[Params, np.ndarray], jax.Array]:
    apply, _ = make_unet(net, N_CLASSES, seed=0)

    def probabilities(params: Params, hu: np.ndarray) -> jax.Array:
        logits = apply(params, to_window(jnp.asarray(hu), net.window_hu)[..., None])
        return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    return jax.jit(probabilities, compiler_options=compiler_options())
