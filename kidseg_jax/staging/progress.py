"""What a person at a terminal sees of a run, and the checkpoints that let it go on after a kill."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import jax
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kidseg_jax.network import checkpoint
from kidseg_jax.network.training import TrainState
from kidseg_jax.staging.learning import Role

T = TypeVar("T")
STEPS_A_CHECKPOINT = 100


class Reporter:
    """Progress bars with the time left on a terminal; elsewhere lines (KIDSEG_PROGRESS=lines) or silence."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        console = Console(file=sys.stderr)
        self.says_lines = os.environ.get("KIDSEG_PROGRESS") == "lines"
        self.bars = Progress(*columns, *times, console=console, disable=not console.is_terminal)

    @contextmanager
    def shown(self) -> Iterator["Reporter"]:
        with self.bars:
            yield self

    def over(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """The items, with a bar that moves as they are taken."""
        self.say(f"{what}: {total}")
        yield from self.bars.track(items, total=total, description=what)

    def say(self, line: str) -> None:
        """One line for whoever reads the output of this process."""
        if self.says_lines:
            print(line, flush=True)


class TrainingWatch:
    """Shows the steps of one stage and keeps the last two checkpoints of each network."""

    def __init__(self, reporter: Reporter, stage: int, checkpoints: Path):
        self.reporter, self.stage, self.folder = reporter, stage, checkpoints
        self.bar = reporter.bars.add_task("", visible=False)
        self.losses: list[tuple[Role, int, float]] = []
        self.total: dict[Role, int] = {}

    def resume(self, role: Role, fresh: TrainState, total: int) -> TrainState:
        """The newest whole checkpoint of this network, or the fresh state."""
        state = fresh
        self.total[role] = total
        for file in reversed(self._files(role)):
            try:
                state = checkpoint.load(file, fresh)
                break
            except ValueError as error:
                print(f"kidseg_jax: {error}; taking the one before it", file=sys.stderr)
        what = f"stage {self.stage}: {role} network"
        self.reporter.bars.reset(
            self.bar, total=total, completed=int(state.step), description=what, visible=True
        )
        return state

    def step(self, role: Role, done: int, state: TrainState, loss: jax.Array, total: int) -> None:
        self.reporter.bars.update(self.bar, completed=done)
        if done % STEPS_A_CHECKPOINT == 0 and done < total:
            checkpoint.save(
                self.folder / f"{role}_{done:07d}.safetensors", state, {"role": role, "step": done}
            )
            for old in self._files(role)[:-2]:
                old.unlink()
        if done % 20 == 0:
            self.losses.append((role, done, float(loss)))
            self.reporter.say(
                f"stage {self.stage}: {role} network, step {done} of {total}, loss {self.losses[-1][2]:.3f}"
            )

    def clear(self) -> None:
        """Drop the checkpoints of a stage whose networks are saved."""
        for role in ("coarse", "fine"):
            for file in self._files(role):
                file.unlink()
        self.reporter.bars.update(self.bar, visible=False)

    def _files(self, role: str) -> list[Path]:
        return sorted(self.folder.glob(f"{role}_*.safetensors"))
