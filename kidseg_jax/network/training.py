"""Training one network: a pure step on a pytree of state, and a loop that can stop and go on anywhere."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec
from optax.contrib import MuonDimensionNumbers, muon

from kidseg_jax.config import NetConfig, TrainConfig
from kidseg_jax.network.augment import random_patch
from kidseg_jax.network.devices import BATCH, by_rows, replicated, replicated_key
from kidseg_jax.network.losses import NEVER, loss_of_sums, loss_sums
from kidseg_jax.network.runtime import compiler_options, keep_freed_memory
from kidseg_jax.network.samples import Sample
from kidseg_jax.network.unet import Apply, Params, make_unet


class TrainState(NamedTuple):
    """All that training needs to go on: parameters, optimizer state and the number of steps done."""

    params: Params
    optimizer: Any
    step: jax.Array


Step = Callable[..., tuple[TrainState, jax.Array]]


def n_steps(config: TrainConfig, stage: int, n_samples: int) -> int:
    """Optimizer steps of a stage (1, 2, ...): fixed, or the stage's epochs over `n_samples`."""
    if config.steps:
        return config.steps
    epochs = config.epochs[min(stage, len(config.epochs)) - 1]
    return max(1, epochs * n_samples // config.batch)


def make_optimizer(config: TrainConfig, total: int) -> optax.GradientTransformation:
    """Adam or Muon with an L2 penalty, at a constant rate or a warm-up and cosine over `total` steps.

    Muon moves each convolution kernel along its orthogonalised momentum, as a matrix with one column for each
    output channel. Source: Jordan et al. 2024, Muon; Kim et al. 2020, Methods (Adam).
    """
    warmup = round(config.warmup * total)

    def rate(peak: float) -> optax.ScalarOrSchedule:
        if config.schedule == "constant":
            return peak
        return optax.warmup_cosine_decay_schedule(peak / 100, peak, warmup, max(total, warmup + 1))

    if config.optimizer == "adam":
        optimizer = optax.adam(rate(config.rate), b1=config.momentum)
    else:
        optimizer = muon(
            rate(config.kernel_rate),
            adam_b1=config.momentum,
            adam_learning_rate=rate(config.rate),
            muon_weight_dimension_numbers=_kernels_as_matrices,
        )
    return (
        optax.chain(optax.add_decayed_weights(config.weight_decay), optimizer)
        if config.weight_decay
        else optimizer
    )


def _kernels_as_matrices(params: Any) -> Any:
    """For every parameter of more than one axis: all axes but the last are inputs, the last is outputs."""
    return jax.tree.map(
        lambda p: MuonDimensionNumbers(tuple(range(p.ndim - 1)), (p.ndim - 1,)) if p.ndim > 1 else None,
        params,
    )


def leaned_back(params: Params, config: TrainConfig) -> Params:
    """The same network without `lean_back` of what the class weights added to its logits.

    Source: Menon et al. 2021, Long-tail learning via logit adjustment, section 4 (post-hoc).
    """
    if not (config.lean_back and config.class_weights):
        return params
    leaned = jax.tree.map(jnp.copy, params)
    bias: Any = leaned["head"]["bias"]
    bias[...] = bias[...] - config.lean_back * jnp.log(jnp.asarray(config.class_weights, jnp.float32))
    return leaned


def never_labelled(samples: Sequence[Sample]) -> frozenset[int]:
    """The classes that no sample's labels tell from background."""
    return frozenset.intersection(*(sample.unlabelled for sample in samples)) if samples else frozenset()


def start(
    net: NetConfig,
    train: TrainConfig,
    n_classes: int,
    total: int,
    seed: int,
    never: frozenset[int] = frozenset(),
    begun: Params | None = None,
    share: float = 1.0,
    mesh: Mesh | None = None,
) -> tuple[TrainState, Step]:
    """A fresh state drawn from `seed`, and the jitted step (state, cts, labels, sizes, key) -> (state, loss).

    begun: weights to go on from instead, copied, at this share of the rates; a class that they were never
    shown begins as a fresh one.
    mesh: the devices that share a batch, each an equal part of it; the loss is that of the whole batch.
    sizes: int32 (batch, 3), how much of each sample is no padding. The step's key is folded with the step
    number, so that any step can be run again on its own; the state is donated. A last argument, bool (batch,
    n_classes), merges the classes that a sample's labels do not tell with its background. The classes in
    `never` begin, and stay, with no probability: nothing would teach the network where they are.
    """
    apply, params = make_unet(net, n_classes, seed)
    bias: Any = params["head"]["bias"]
    if begun is not None:
        fresh, params = bias[...], jax.tree.map(jnp.copy, begun)
        bias = params["head"]["bias"]
        bias[...] = jnp.where(bias[...] > NEVER / 2, bias[...], fresh)
        train = replace(train, rate=share * train.rate, kernel_rate=share * train.kernel_rate)
    if never:
        bias[...] = bias[...].at[jnp.array(sorted(never))].set(NEVER)
    optimizer = make_optimizer(train, total)
    learn = partial(_loss_and_gradient, apply, net, train, mesh)

    def step(
        state: TrainState,
        cts: tuple[jax.Array, ...],
        labels: tuple[jax.Array, ...],
        sizes: jax.Array,
        key: jax.Array,
        unlabelled: jax.Array | None = None,
    ) -> tuple[TrainState, jax.Array]:
        keys = jax.random.split(jax.random.fold_in(key, state.step), len(cts))
        loss, gradient = learn(state.params, cts, labels, sizes, keys, unlabelled)
        with jax.numpy_dtype_promotion("standard"):  # optax.adam mixes dtypes
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, optimizer_state, state.step + 1), loss  # pyright: ignore[reportArgumentType]

    state = TrainState(params, jax.jit(optimizer.init)(params), jnp.zeros((), jnp.int32))
    return state, jax.jit(step, donate_argnums=0, compiler_options=compiler_options())


def _loss_and_gradient(
    apply: Apply,
    net: NetConfig,
    train: TrainConfig,
    mesh: Mesh | None,
    params: Params,
    cts: Sequence[jax.Array] | jax.Array,
    labels: Sequence[jax.Array] | jax.Array,
    sizes: jax.Array,
    keys: jax.Array,
    unlabelled: jax.Array | None,
) -> tuple[jax.Array, Params]:
    """The loss of a batch and its gradient; on a mesh from sums and pulled-back parts of all devices."""

    def sums_of(params: Params, cts: Any, labels: Any, sizes: Any, keys: Any, unlabelled: Any) -> jax.Array:
        pairs = [random_patch(*one, net, train) for one in zip(keys, cts, labels, sizes, strict=True)]
        images, targets = jnp.stack([p[0] for p in pairs])[..., None], jnp.stack([p[1] for p in pairs])
        return loss_sums(apply(params, images), targets, train.dice_power, unlabelled=unlabelled)

    def of_part(params: Params, *part: Any) -> tuple[jax.Array, Params]:
        sums, pull = jax.vjp(lambda params: sums_of(params, *part), params)
        loss, by_sums = jax.value_and_grad(loss_of_sums)(jax.lax.psum(sums, BATCH), train.class_weights)
        return loss, jax.lax.psum(pull(by_sums)[0], BATCH)

    given = (cts, labels, sizes, keys, unlabelled)
    if mesh is None:
        return jax.value_and_grad(lambda params: loss_of_sums(sums_of(params, *given), train.class_weights))(
            params
        )
    whole, dealt = PartitionSpec(), PartitionSpec(BATCH)
    specs = (whole, *(dealt for _ in given))
    parts = jax.shard_map(of_part, mesh=mesh, in_specs=specs, out_specs=(whole, whole), check_vma=False)
    return parts(params, *given)


def order_of_samples(n_samples: int, n_draws: int, seed: int) -> np.ndarray:
    """Indices of the samples in the order they are seen, int64 (n_draws,): shuffled pass after pass."""
    rng = np.random.default_rng(seed)
    passes = -(-n_draws // n_samples)
    return np.concatenate([rng.permutation(n_samples) for _ in range(passes)])[:n_draws]


class _OnOneDevice:
    """What a step takes beside the state, from samples padded to one shape."""

    def __init__(self, samples: Sequence[Sample], n_classes: int, seed: int):
        self.samples, self.key = samples, jax.random.key(seed)
        self.sizes = np.array([s.ct.shape for s in samples], np.int32)
        self.unlabelled = _unlabelled(samples, n_classes)

    def __call__(self, drawn: np.ndarray, pose: np.ndarray) -> tuple[Any, ...]:
        """cts, labels, sizes, key and, where samples differ in them, unlabelled classes."""
        shape = self.sizes.max(0)
        poses = [_pose(self.samples[j], at, shape) for j, at in zip(drawn, pose, strict=True)]
        cts, labels = zip(*poses, strict=True)
        merged = () if self.unlabelled is None else (jnp.asarray(self.unlabelled[drawn]),)
        return cts, labels, jnp.asarray(self.sizes[drawn]), self.key, *merged


class _OnMesh:
    """The same for a mesh, from samples in memory or in files: a process reads those of its own devices."""

    def __init__(self, mesh: Mesh, samples: Sequence[Sample], n_classes: int, seed: int):
        self.mesh, self.samples = mesh, samples
        self.key = replicated_key(mesh, seed)
        self.sizes = np.array([s.ct.shape for s in samples], np.int32)
        self.unlabelled = _unlabelled(samples, n_classes)

    def __call__(self, drawn: np.ndarray, pose: np.ndarray) -> tuple[Any, ...]:
        shape = self.sizes.max(0)

        def part(which: int, i: int) -> np.ndarray:
            array = _pose(self.samples[drawn[i]], pose[i], shape)[which]
            return array.astype((np.int16, np.uint8)[which])

        whole = (len(drawn), *shape.tolist())
        cts, labels = (by_rows(self.mesh, whole, partial(part, which)) for which in (0, 1))
        tables = [self.sizes] if self.unlabelled is None else [self.sizes, self.unlabelled]
        sizes, *merged = (by_rows(self.mesh, t[drawn].shape, t[drawn].__getitem__) for t in tables)
        return cts, labels, sizes, self.key, *merged


def _pose(sample: Sample, at: float, shape: np.ndarray) -> tuple[np.ndarray, ...]:
    """CT and labels of the pose at a share, 0 to below 1, of all: their edges repeated up to `shape`."""
    poses = ((sample.ct, sample.labels), *sample.posed)
    pose = poses[int(at * len(poses))]
    padding = [(0, n) for n in shape - sample.ct.shape]
    return tuple(np.pad(a, padding, "edge") for a in pose) if np.any(padding) else pose


def _unlabelled(samples: Sequence[Sample], n_classes: int) -> np.ndarray | None:
    """Bool (samples, classes): what their labels do not tell; None where that is the same for all."""
    never = never_labelled(samples)
    if all(s.unlabelled == never for s in samples):
        return None
    return np.array([[c in s.unlabelled for c in range(n_classes)] for s in samples])


def train(
    state: TrainState,
    step: Step,
    samples: Sequence[Sample],
    total: int,
    batch: int,
    seed: int,
    mesh: Mesh | None = None,
) -> Iterator[tuple[int, TrainState, jax.Array]]:
    """(steps done, state, loss) after every step up to `total`; a state half-way continues bit for bit.

    State and loss may still be on their way: the loop waits for the step before, so that the device has
    always one more to do, and only who reads them waits for this one. Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("train: need at least one labelled kidney, got none")
    keep_freed_memory()
    order = order_of_samples(len(samples), total * batch, seed)
    pose = np.random.default_rng((seed, 1)).random(len(order))
    n_classes = len(state.params["head"]["bias"][...])
    if mesh is not None:
        state = replicated(mesh, state)
    batch_of = (_OnOneDevice if mesh is None else partial(_OnMesh, mesh))(samples, n_classes, seed)
    before = jnp.zeros(())
    for i in range(int(state.step), total):
        here = slice(i * batch, (i + 1) * batch)
        state, loss = step(state, *batch_of(order[here], pose[here]))
        before.block_until_ready()
        before = loss
        yield i + 1, state, loss
