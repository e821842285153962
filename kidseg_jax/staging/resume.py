"""A run's settings, read back from its run.json."""

import dataclasses
import typing
from pathlib import Path
from typing import Any

from kidseg_jax.config import PHANTOM_RECORD, Config
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.rundir import RunDirectory, path_of, read_json


def settings_of(run: Path) -> dict[str, Any]:
    """The keys n, data, label_map, annotator, blind, start and config (a `Config`) of a run.

    Raises FileNotFoundError for a folder without run.json, ValueError for one that another version wrote.
    """
    file = RunDirectory(run).settings
    about = read_json(file)
    try:
        return {
            "n": int(about["n"]),
            "data": path_of(about["data"]) if about["data"] else None,
            "label_map": about["label_map"],
            "annotator": about["annotator"],
            "blind": float(about["blind"]),
            "start": str(RunDirectory(run).stage(0).models) if about.get("start") else "none",
            "config": from_json(Config, about["config"]),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: this version cannot go on with such settings: {error!r}") from error


def trained_on(run: Path, stage: int) -> TrainedOn:
    """What the models of a stage of a run learn from; a folder that `phantom` wrote is one of phantoms."""
    about = read_json(RunDirectory(run).settings)
    phantoms = about["data"] is None or (path_of(about["data"]) / PHANTOM_RECORD).exists()
    by_hand = stage == 1 and not about.get("start")
    return TrainedOn("phantoms" if phantoms else "given cases", "none" if by_hand else about["annotator"])


def from_json(kind: Any, value: Any) -> Any:
    """A value of JSON as the type that a record declares: nested records and tuples are built again."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = value.keys() - hints.keys()
        if unknown:
            raise KeyError(*sorted(unknown))
        return kind(**{name: from_json(hints[name], part) for name, part in value.items()})  # pyright: ignore
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else inner
        return tuple(from_json(k, v) for k, v in zip(kinds, value, strict=True))
    return value
