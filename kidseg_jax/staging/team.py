"""Processes that train as one: the first runs the loop and writes, the others learn along with it."""

import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax.sharding import Mesh

from kidseg_jax.atomic import written_whole
from kidseg_jax.config import Config
from kidseg_jax.network.devices import hear, is_alone, leave, leave_before_the_first, see_others_off, tell
from kidseg_jax.network.models import load_models
from kidseg_jax.network.samples import Sample
from kidseg_jax.rundir import StageDirectory, path_of, path_text, read_json, write_json
from kidseg_jax.staging.learning import StageState, TrainingSet, run_stage
from kidseg_jax.staging.progress import Reporter, TrainingWatch
from kidseg_jax.stops import GO_ON, at_a_step

WORD = "kidseg_jax word"
GONE = "kidseg_jax: another process of this run is gone; the same command goes on from the last checkpoint"


@dataclass
class Team:
    """The devices that share each batch (None: one does all); told: words to the other processes so far."""

    mesh: Mesh | None = None
    told: int = 0

    def require_equal_parts(self, config: Config) -> None:
        """ValueError where a batch cannot be dealt to the devices in equal parts."""
        n = 1 if self.mesh is None else self.mesh.size
        for name in ("coarse_train", "fine_train"):
            if (batch := getattr(config, name).batch) % n:
                raise ValueError(f"{name}.batch: need a multiple of the {n} devices, got {batch}")

    def begin(self, stage: StageDirectory, training_set: TrainingSet) -> None:
        """The others begin to train a stage, from samples that lie beside it until it has ended."""
        if not is_alone():
            write_samples(stage.samples, training_set)
            self._tell({"stage": path_text(stage.path.resolve())})

    def cease(self, stage: StageDirectory) -> None:
        """The samples are not needed any more."""
        shutil.rmtree(stage.samples, ignore_errors=True)

    def end(self, code: int) -> None:
        """The others end with this exit code, before this process does."""
        if not is_alone():
            self._tell({"code": code})
            see_others_off()

    def _tell(self, word: dict[str, Any]) -> None:
        tell(f"{WORD} {self.told}", json.dumps(word))
        self.told += 1

    def follow(self, config: Config, start: Path | None) -> NoReturn:
        """Train whatever the first process begins, writing nothing, and end with its exit code."""
        models = None if start is None else load_models(start)
        for word in self._heard():
            if "code" in word:
                leave_before_the_first(int(word["code"]))
            stage = StageDirectory(path_of(word["stage"]))
            watch = TrainingWatch(Reporter(is_silent=True), stage.index, stage.checkpoints, writes=False)
            before = stage.run.stage(stage.index - 1).models
            trained = load_models(before) if stage.index > 1 else None
            state = StageState(stage.index - 1, models=trained, start=models)
            with at_a_step():
                run_stage(state, read_samples(stage.samples), config, watch, self.mesh)
        raise AssertionError("the first process never ends without a word")

    def _heard(self) -> Iterator[dict[str, Any]]:
        for n in count():
            yield json.loads(hear(f"{WORD} {n}") or "")


@contextmanager
def none_gone() -> Iterator[None]:
    """In the block a process that is gone ends the others too, with one line and the code to go on."""
    try:
        yield
    except jax.errors.JaxRuntimeError:
        if is_alone():
            raise
        print(GONE, file=sys.stderr)
        leave(GO_ON)


def write_samples(folder: Path, training_set: TrainingSet) -> None:
    """One .npy a sample, int16 (poses, 2, z, y, x) of CT and labels, and samples.json beside them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for role, samples in training_set._asdict().items():
        for i, sample in enumerate(samples):
            poses = ((sample.ct, sample.labels), *sample.posed)
            with written_whole(_file(folder, role, i)) as temporary, open(temporary, "wb") as stream:
                np.save(stream, np.array([(ct, labels.astype(np.int16)) for ct, labels in poses]))
    unlabelled = {
        role: [sorted(sample.unlabelled) for sample in samples]
        for role, samples in training_set._asdict().items()
    }
    write_json(folder / "samples.json", unlabelled)


def read_samples(folder: Path) -> TrainingSet:
    """What `write_samples` wrote; voxels stay on disk until they are looked at."""
    unlabelled = read_json(folder / "samples.json")

    def of(role: str) -> Iterable[Sample]:
        for i, classes in enumerate(unlabelled[role]):
            poses = np.load(_file(folder, role, i), mmap_mode="r")
            (ct, labels), *posed = poses
            yield Sample(ct, labels, frozenset(classes), tuple((ct, labels) for ct, labels in posed))

    return TrainingSet(tuple(of("coarse")), tuple(of("fine")))


def _file(folder: Path, role: str, i: int) -> Path:
    return folder / f"{role}_{i:05d}.npy"
