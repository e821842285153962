"""What networks see in a case that they did not learn from: a model's, or folds trained for it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from kidseg_jax.audit.sources import Look, Source
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import PRESETS, Config
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.labelling.events import LabelEvent, content_hash
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import Models, load_models, models_file, told_structures
from kidseg_jax.network.origin import caution
from kidseg_jax.network.runtime import keep_compiled, keep_freed_memory, take_device
from kidseg_jax.rundir import RunDirectory
from kidseg_jax.staging.case_work import teach
from kidseg_jax.staging.learning import StageState, TrainingSet, run_stage

Predictor = Callable[[Look], Look]


def ready() -> None:
    """Take the device once, before the first network."""
    take_device()
    keep_compiled()
    keep_freed_memory()


def of_model(path: Path | None, threads: int) -> tuple[Predictor, list[str]]:
    """What a model says of a case, and notes about it; None: the start model of this package.

    A case whose CT is in the ledger of the model's run as one that was labelled is not asked about: it may
    have been learned from. A file outside of a run does not say what it learned from; the notes then say so.
    """
    models, file = load_models(path), models_file(path)
    who = "the start model" if path is None else file.name
    learned = _learned_from(file)
    notes = []
    if path is not None and learned is None:
        notes.append(f"{who} lies in no run: nobody can tell here which of these cases it learned from.")
    if line := caution(who, models.trained_on):
        notes.append(f"{line}.")
    known = told_structures(models)
    if untold := [name for name in NAMES if name not in known]:
        notes.append(f"{who} tells nothing of {', '.join(untold)}.")

    def ask(look: Look) -> Look:
        if learned and content_hash(look.case.ct.array) in learned:
            return look
        return _asked(models, look, who, threads)

    return ask, notes


def cross_validated(
    source: Source, folds: int, steps: int, threads: int, say: Callable[[str], None]
) -> tuple[Predictor, list[str]]:
    """What small networks say that learned from the other parts of the patients, and notes about them.

    Patients are dealt to `folds` parts; the networks of a part learn from the labels of all others, wrong
    ones among them. Raises ValueError for fewer patients than parts.
    """
    patients = sorted(set(source.patients[name] for name in source.names))
    if not 2 <= folds <= len(patients):
        raise ValueError(
            f"--cross-validate: need 2 to {len(patients)} parts of {len(patients)} patients, got {folds}"
        )
    order = np.random.default_rng(0).permutation(len(patients)).tolist()
    part = {patients[patient]: i % folds for i, patient in enumerate(order)}
    fold_of = {name: part[source.patients[name]] for name in source.names}
    config = small(steps)
    taught: dict[int, TrainingSet] = {fold: TrainingSet() for fold in range(folds)}
    for name in source.names:
        try:
            case = source.look(name).case
            taught[fold_of[name]] = taught[fold_of[name]].and_also(
                teach(case, kidneys_of(case, threads), config, threads)
            )
        except (ValueError, OSError):  # said where it is looked at
            continue
    trained: list[Models] = []
    for fold in range(folds):
        others = TrainingSet()
        for other, taught_there in taught.items():
            if other != fold:
                others = others.and_also(taught_there)
        say(f"training {fold + 1} of {folds} on {len(others.fine)} kidneys")
        models = run_stage(StageState(), others, config).models
        assert models is not None
        trained.append(models)

    def ask(look: Look) -> Look:
        return _asked(trained[fold_of[look.case.name]], look, "networks of the other folds", threads)

    return ask, [
        f"{folds} pairs of networks of {steps} steps, each trained on the other parts of the patients."
    ]


def small(steps: int) -> Config:
    """The settings of the demo with so many steps and few poses."""
    config = PRESETS["demo"]
    coarse = replace(config.coarse_train, steps=max(1, min(steps, config.coarse_train.steps)))
    return replace(config, coarse_train=coarse, fine_train=replace(config.fine_train, steps=steps, poses=2))


def _asked(models: Models, look: Look, who: str, threads: int) -> Look:
    predicted = predict(models, look.case.ct, threads).labels
    return look._replace(predicted=predicted, who=who, known=told_structures(models))


def _learned_from(file: Path) -> frozenset[str] | None:
    """Hashes of the CTs that the ledger of a model's run has labels of; None for a file outside of a run."""
    if file.parent.name.startswith("stage_") and (file.parent.parent / "run.json").is_file():
        chain = read_ledger(RunDirectory(file.parent.parent).ledger)
        return frozenset(event.image for event in chain.events(LabelEvent) if event.image is not None)
    return None
