"""One stage as a pure function: a state and new training_set in, the next state out."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from kidseg_jax.config import Config, NetConfig, TrainConfig
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.network.devices import on_this_device
from kidseg_jax.network.models import N_COARSE, Models
from kidseg_jax.network.runtime import named_memory
from kidseg_jax.network.samples import Sample
from kidseg_jax.network.training import TrainState, leaned_back, n_steps, never_labelled, start, train
from kidseg_jax.network.unet import Params

Role = Literal["coarse", "fine"]


class TrainingSet(NamedTuple):
    """What labelled cases teach: a coarse sample for each case, a fine one for each kidney."""

    coarse: tuple[Sample, ...] = ()
    fine: tuple[Sample, ...] = ()

    def and_also(self, other: "TrainingSet") -> "TrainingSet":
        return TrainingSet(self.coarse + other.coarse, self.fine + other.fine)


@dataclass(frozen=True)
class StageState:
    """Where a run stands after `index` stages: all training_set so far, and the networks trained on it.

    start: the networks that every stage goes on from; None: from weights drawn from the seed.
    """

    index: int = 0
    training_set: TrainingSet = field(default_factory=TrainingSet)
    models: Models | None = None
    start: Models | None = None


class Watch(Protocol):
    """Sees training go by: where it goes on from, and every step. It changes nothing that is computed."""

    def resume(self, role: Role, fresh: TrainState, total: int) -> TrainState: ...

    def step(self, role: Role, done: int, state: TrainState, loss: jax.Array, total: int) -> None: ...


class Unwatched:
    """Trains from the start and says nothing."""

    def resume(self, role: Role, fresh: TrainState, total: int) -> TrainState:
        return fresh

    def step(self, role: Role, done: int, state: TrainState, loss: jax.Array, total: int) -> None:
        pass


def run_stage(
    state: StageState,
    new: TrainingSet,
    config: Config,
    watch: Watch | None = None,
    mesh: Mesh | None = None,
) -> StageState:
    """The next state: both networks trained on all training_set so far and the new.

    Every stage takes, with fixed steps, the same number of them. It starts from the same weights, fresh ones
    or those of a start model, so that stages differ by their data alone; or, with a `stage_rate` and no start
    model, from those of the stage before. mesh: the devices that share each batch, of all processes that call
    this with the same arguments. Raises ValueError when there is no training_set at all.
    """
    training_set = state.training_set.and_also(new)
    index = state.index + 1

    def fitted(
        role: Role, net: NetConfig, settings: TrainConfig, n_classes: int, samples: tuple[Sample, ...]
    ) -> Params:
        goes_on = state.models if settings.stage_rate else None
        models, share = (state.start, settings.begun_rate) if state.start else (goes_on, settings.stage_rate)
        begun = models and getattr(models, role)
        sees = watch or Unwatched()
        return _fit(role, net, settings, n_classes, samples, index, config.seed, begun, share, sees, mesh)

    coarse = fitted("coarse", config.coarse, config.coarse_train, N_COARSE, training_set.coarse)
    fine = fitted("fine", config.fine, config.fine_train, N_CLASSES, training_set.fine)
    return StageState(index, training_set, Models(config.coarse, config.fine, coarse, fine), state.start)


def _fit(
    role: Role,
    net: NetConfig,
    settings: TrainConfig,
    n_classes: int,
    samples: tuple[Sample, ...],
    index: int,
    seed: int,
    begun: Params | None,
    share: float,
    watch: Watch,
    mesh: Mesh | None,
) -> Params:
    seeds = np.random.SeedSequence([seed, ("coarse", "fine").index(role)]).generate_state(2).tolist()
    total = n_steps(settings, index, len(samples))
    never = never_labelled(samples)
    fresh, step = start(net, settings, n_classes, total, seeds[0], never, begun, share, mesh)
    state = watch.resume(role, fresh, total)
    with named_memory(f"train the {role} network", net, settings.batch):
        for done, after, loss in train(state, step, samples, total, settings.batch, seeds[1], mesh):
            state = after
            watch.step(role, done, state, loss, total)
        params = jax.block_until_ready(state.params)
    return leaned_back(params if mesh is None else on_this_device(params), settings)
