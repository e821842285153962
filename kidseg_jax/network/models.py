"""Both trained networks in one file: written, found and read again."""

import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax.config import Config, NetConfig
from kidseg_jax.imaging.structures import N_CLASSES, NAMES, STRUCTURES
from kidseg_jax.network import checkpoint
from kidseg_jax.network.losses import NEVER
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.network.unet import Params, make_unet, n_parameters
from kidseg_jax.rundir import RunDirectory

N_COARSE = 2  # background, kidney
SHIPPED = Path(__file__).parents[1] / "start" / "model.safetensors"


class Models(NamedTuple):
    """Both trained networks, the grids they look at, and what they learned from (None: not known).

    withheld: structures that they learned and do not know well enough to tell; `cascade` says as what else.
    """

    coarse_net: NetConfig
    fine_net: NetConfig
    coarse: Params
    fine: Params
    trained_on: TrainedOn | None = None
    withheld: tuple[str, ...] = ()


def save_models(path: str | os.PathLike[str], models: Models, *, half: bool = False) -> str:
    """Write both networks to one file; returns its hash.

    half: weights as float16, in half the room; they are float32 again when they are read. Raises ValueError
    where one is too large for that.
    """
    about: dict[str, Any] = {"coarse_net": asdict(models.coarse_net), "fine_net": asdict(models.fine_net)}
    if models.trained_on is not None:
        about["trained_on"] = asdict(models.trained_on)
    if models.withheld:
        about["withheld"] = models.withheld
    networks = {"coarse": models.coarse, "fine": models.fine}
    if half:
        if max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(networks)) > 65504:
            raise ValueError(f"{path}: a weight is too large for float16")
        networks = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), networks)
    return checkpoint.save(path, networks, about)


def models_file(path: str | os.PathLike[str] | None = None) -> Path:
    """The file of the last stage of a run directory, a file itself, or the package's start model (None).

    Raises FileNotFoundError for a run without models, and where the package holds no start model.
    """
    if path is None:
        if not SHIPPED.is_file():
            raise FileNotFoundError("this package holds no start model: name a model file or a run directory")
        return SHIPPED
    file = Path(path)
    if not file.is_dir():
        return file
    trained = [stage.models for stage in RunDirectory(file).stages() if stage.models.exists()]
    if not trained:
        wanted = RunDirectory(file).stage(1).models.relative_to(file)
        raise FileNotFoundError(f"{file}: need a run directory with {wanted}, found none")
    return trained[-1]


def load_models(path: str | os.PathLike[str] | None = None) -> Models:
    """The networks of a file, of the last finished stage of a run directory, or (None) of the start model.

    Raises FileNotFoundError where there is none, ValueError where the file is torn or holds something else.
    """
    file = models_file(path)
    saved = checkpoint.read(file)
    coarse_net, fine_net, learned_from = _about(saved)
    withheld = saved.about.get("withheld", [])
    if not isinstance(withheld, list) or not {*map(str, withheld)} <= {*NAMES}:
        raise ValueError(f"{file}: need withheld structures among {NAMES}, got {withheld}")
    for part, net, n_classes in (("coarse", coarse_net, N_COARSE), ("fine", fine_net, N_CLASSES)):
        held = sum(array.size for name, array in saved.arrays.items() if name.startswith(f"['{part}']"))
        if held != (needed := n_parameters(net, n_classes)):  # before any memory is taken for them
            raise ValueError(f"{file}: a {part} network of its settings has {needed} weights, got {held}")
    like = {
        "coarse": make_unet(coarse_net, N_COARSE, seed=0)[1],
        "fine": make_unet(fine_net, N_CLASSES, seed=0)[1],
    }
    whole = {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in saved.arrays.items()}
    trees = checkpoint.tree_of(saved._replace(arrays=whole), like)
    return Models(coarse_net, fine_net, trees["coarse"], trees["fine"], learned_from, tuple(withheld))


def networks_of(file: Path) -> tuple[NetConfig, NetConfig]:
    """The settings of the coarse and the fine network of a file; ValueError as `load_models` has it."""
    return _about(checkpoint.read(file))[:2]


def require_same_networks(file: Path, config: Config) -> str:
    """The hash of a file whose networks a run with this config can go on from.

    Raises ValueError with every setting of the networks that differs, but for the compute type, and as
    `load_models` does.
    """
    saved = checkpoint.read(file)
    differ = [
        f"{role}.{part.name} is {getattr(theirs, part.name)}, got {getattr(ours, part.name)}"
        for role, theirs, ours in zip(
            ("coarse", "fine"), _about(saved)[:2], (config.coarse, config.fine), strict=True
        )
        for part in fields(NetConfig)
        if part.name not in ("dtype", "looks") and getattr(theirs, part.name) != getattr(ours, part.name)
    ]
    if differ:
        raise ValueError(f"{file}: networks of other settings than this run's: {'; '.join(differ)}")
    return saved.sha256


def trained_on(file: Path) -> TrainedOn | None:
    """What the networks of a file learned from; None where the file does not say.

    Raises ValueError as `load_models` does.
    """
    return _about(checkpoint.read(file))[2]


def told_structures(models: Models) -> frozenset[str]:
    """The structures that the fine network was ever shown and does not withhold: all that it ever tells."""
    bias = np.asarray(models.fine["head"]["bias"][...])
    learned = {structure.name for structure in STRUCTURES if bias[structure.label] > NEVER / 2}
    return frozenset(learned.difference(models.withheld))


def _about(saved: checkpoint.Saved) -> tuple[NetConfig, NetConfig, TrainedOn | None]:
    about = saved.about
    try:
        learned_from = TrainedOn(**about["trained_on"]) if "trained_on" in about else None
        return _net(about["coarse_net"]), _net(about["fine_net"]), learned_from
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{saved.path}: need both networks as this version saves them, got a file with {sorted(about)}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{saved.path}: {error}") from error


def _net(fields: dict[str, Any]) -> NetConfig:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    return NetConfig(**values)
