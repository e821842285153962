"""Losses between logits and label maps."""

from functools import partial

import jax
import jax.numpy as jnp

from kidseg_jax.network import native
from kidseg_jax.network.conv3d import Form, best_form

NEVER = -1e4  # a logit whose probability is 0


def segmentation_loss(
    logits: jax.Array,
    labels: jax.Array,
    class_weights: tuple[float, ...],
    dice_power: int = 1,
    form: Form | None = None,
    unlabelled: jax.Array | None = None,
) -> jax.Array:
    """Mean Dice loss over the foreground classes, plus the weighted cross-entropy where there are weights.

    With cross-entropy the mean is over the classes that are there: one voxel called RCC in a kidney without
    any would else cost as much as a tumour missed whole. (b, z, y, x, c), (b, z, y, x) int -> scalar.
    form: "native" takes both from sums compiled for CPU, any other from plain JAX; None takes `best_form`.
    unlabelled: bool (b, c), classes that a sample's labels do not tell from background: `merge_unlabelled`.
    """
    return loss_of_sums(loss_sums(logits, labels, dice_power, form, unlabelled), class_weights)


def loss_sums(
    logits: jax.Array,
    labels: jax.Array,
    dice_power: int = 1,
    form: Form | None = None,
    unlabelled: jax.Array | None = None,
) -> jax.Array:
    """What the loss needs of a batch, (c, 4), see `region_sums`: the sums of its parts add up to it."""
    if unlabelled is not None:
        logits = merge_unlabelled(logits, unlabelled)
    return region_sums(logits, labels.astype(jnp.int32), dice_power, form)


def loss_of_sums(sums: jax.Array, class_weights: tuple[float, ...]) -> jax.Array:
    """The loss of a batch from its sums."""
    overlap, size, count, nll = sums.T
    dice = 1.0 - (2.0 * overlap + 1.0) / (size + count + 1.0)
    if not class_weights:
        return dice[1:].mean()
    there = (count[1:] > 0).astype(count.dtype)
    weights = jnp.asarray(class_weights, count.dtype)
    entropy = (weights * nll).sum() / (weights * count).sum()
    return (dice[1:] * there).sum() / jnp.maximum(there.sum(), 1.0) + entropy


def region_sums(logits: jax.Array, labels: jax.Array, power: int, form: Form | None = None) -> jax.Array:
    """Sums over voxels: logits (b, z, y, x, c), labels int32 (b, z, y, x) -> (c, 4), power 1 or 2.

    Of each class: its probability on its voxels, its probability to `power` everywhere, its number of voxels,
    and -log of its probability on them. form: "native" is compiled for CPU, any other is plain JAX.
    """
    if (form or best_form()) == "native" and logits.dtype == jnp.float32:
        return native.region_sums(logits, labels, power)
    return _region_sums(logits, labels, power)


@partial(jax.checkpoint, static_argnums=2)
def _region_sums(logits: jax.Array, labels: jax.Array, power: int) -> jax.Array:
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    log_probs = jax.nn.log_softmax(logits)
    probs = jnp.exp(log_probs)
    each = (probs * onehot, probs**power, onehot, -log_probs * onehot)
    return jnp.stack([a.sum((0, 1, 2, 3)) for a in each], axis=-1)


def merge_unlabelled(logits: jax.Array, unlabelled: jax.Array) -> jax.Array:
    """Logits (b, z, y, x, c) in which the background's probability is that of all classes unlabelled with it.

    unlabelled: bool (b, c), False for the background. The probability of unlabelled classes becomes 0 and
    they get no gradient but the background's, in their shares of it. Source: Shi et al. 2021, marginal loss.
    """
    unlabelled = unlabelled[:, None, None, None, :]
    background = unlabelled.at[..., 0].set(True)
    merged = jax.nn.logsumexp(jnp.where(background, logits, NEVER), axis=-1, keepdims=True)
    return jnp.concatenate([merged, jnp.where(unlabelled, NEVER, logits)[..., 1:]], axis=-1)
