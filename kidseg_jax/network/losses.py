"""Losses between logits and label maps."""

import jax
import jax.numpy as jnp

from kidseg_jax.network import native
from kidseg_jax.network.conv3d import Form, best_form

NEVER = -1e4  # a logit whose probability is 0


def dice_loss(probs: jax.Array, onehot: jax.Array, power: int = 1) -> jax.Array:
    """1 - Dice of each class over the batch: (b, z, y, x, c) twice -> (c,), 0 perfect, near 1 disjoint.

    A class absent from both has loss 0: one voxel is added to overlap and sizes. power: of the probabilities
    in the size, 1 as published, or 2, which rewards being sure. Source: Kim et al. 2020, eq. 1 and 2;
    Milletari et al. 2016, eq. 5.
    """
    axes = (0, 1, 2, 3)
    overlap = (probs * onehot).sum(axes)
    size = (probs**power).sum(axes) + onehot.sum(axes)
    return 1.0 - (2.0 * overlap + 1.0) / (size + 1.0)


def cross_entropy(logits: jax.Array, labels: jax.Array, class_weights: tuple[float, ...]) -> jax.Array:
    """Weighted mean of -log p(label): (b, z, y, x, c), (b, z, y, x) int -> scalar."""
    log_probs = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
    weights = jnp.asarray(class_weights, logits.dtype)[labels]
    return -(weights * picked).sum() / weights.sum()


def segmentation_loss(
    logits: jax.Array,
    labels: jax.Array,
    class_weights: tuple[float, ...],
    dice_power: int = 1,
    form: Form | None = None,
    untold: jax.Array | None = None,
) -> jax.Array:
    """Mean Dice loss over the foreground classes, plus the weighted cross-entropy where there are weights.

    With cross-entropy the mean is over the classes that are there: one voxel called RCC in a kidney without
    any would else cost as much as a tumour missed whole. (b, z, y, x, c), (b, z, y, x) int -> scalar.
    form: "native" takes both from sums compiled for CPU, any other from plain JAX; None takes `best_form`.
    untold: bool (b, c), classes that a sample's labels do not tell from background, see `merge_untold`.
    """
    if untold is not None:
        logits = merge_untold(logits, untold)
    if (form or best_form()) == "native" and logits.dtype == jnp.float32 and dice_power in (1, 2):
        overlap, size, count, nll = native.region_sums(logits, labels.astype(jnp.int32), dice_power).T
        dice = 1.0 - (2.0 * overlap + 1.0) / (size + count + 1.0)
        entropy = _weighted_mean(nll, count, class_weights)
    else:
        onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        dice = dice_loss(jax.nn.softmax(logits), onehot, dice_power)
        count = onehot.sum((0, 1, 2, 3))
        entropy = cross_entropy(logits, labels, class_weights) if class_weights else 0.0
    if not class_weights:
        return dice[1:].mean()
    there = (count[1:] > 0).astype(count.dtype)
    return (dice[1:] * there).sum() / jnp.maximum(there.sum(), 1.0) + entropy


def merge_untold(logits: jax.Array, untold: jax.Array) -> jax.Array:
    """Logits (b, z, y, x, c) in which the background's probability is that of all classes untold with it.

    untold: bool (b, c), False for the background. The probability of untold classes becomes 0 and they get
    no gradient but the background's, in their shares of it. Source: Shi et al. 2021, marginal loss.
    """
    untold = untold[:, None, None, None, :]
    background = untold.at[..., 0].set(True)
    merged = jax.nn.logsumexp(jnp.where(background, logits, NEVER), axis=-1, keepdims=True)
    return jnp.concatenate([merged, jnp.where(untold, NEVER, logits)[..., 1:]], axis=-1)


def _weighted_mean(nll: jax.Array, count: jax.Array, class_weights: tuple[float, ...]) -> jax.Array | float:
    """Cross-entropy from the sums of -log p and the voxels of each class; 0 without weights."""
    if not class_weights:
        return 0.0
    weights = jnp.asarray(class_weights, jnp.float32)
    return (weights * nll).sum() / (weights * count).sum()
