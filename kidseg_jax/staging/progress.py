"""What a person at a terminal sees of a run, and the checkpoints that let it go on after a kill."""

import os
import sys
import time
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
from kidseg_jax.network.devices import any_process
from kidseg_jax.network.training import TrainState
from kidseg_jax.staging.learning import Role
from kidseg_jax.stops import Terminated, is_asked

T = TypeVar("T")
STEPS_A_CHECKPOINT = 100
LOG_S = 60.0


class Reporter:
    """Progress bars with the time left on a terminal; elsewhere lines (KIDSEG_PROGRESS=lines) or silence."""

    def __init__(self, is_silent: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        console = Console(file=getattr(sys.stderr, "bare", sys.stderr))  # its bars do move the cursor
        self.is_silent = is_silent
        self.says_lines = not is_silent and os.environ.get("KIDSEG_PROGRESS") == "lines"
        self.on_terminal = console.is_terminal
        self.said_at = time.monotonic()
        self.bars = Progress(*columns, *times, console=console, disable=is_silent or not console.is_terminal)

    @contextmanager
    def shown(self) -> Iterator["Reporter"]:
        with self.bars:
            yield self

    def log(self, what: str, done: int, total: int, began: float) -> None:
        """For a log, where no bar is seen: one line every LOG_S, and where a part of a run ends."""
        now = time.monotonic()
        is_seen = self.is_silent or self.on_terminal or self.says_lines
        if is_seen or (done < total and now - self.said_at < LOG_S):
            return
        self.said_at = now
        left_s = (now - began) * (total - done) / max(done, 1)
        print(f"{what}: {done} of {total}, about {left_s / 60:.1f} min left", file=sys.stderr, flush=True)

    def over(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """The items, with a bar that moves as they are taken."""
        self.say(f"{what}: {total}")
        began = time.monotonic()
        for done, item in enumerate(self.bars.track(items, total=total, description=what), 1):
            yield item
            self.log(what, done, total, began)

    def say(self, line: str) -> None:
        """One line for whoever reads the output of this process."""
        if self.says_lines:
            print(line, flush=True)


class TrainingWatch:
    """Shows the steps of one stage and keeps the last two checkpoints of each network.

    writes: False in a process that trains along with the one that does. All stop at the same step.
    """

    def __init__(self, reporter: Reporter, stage: int, checkpoints: Path, writes: bool = True):
        self.reporter, self.stage, self.folder, self.writes = reporter, stage, checkpoints, writes
        self.bar = reporter.bars.add_task("", visible=False)
        self.losses: list[tuple[Role, int, float]] = []
        self.total: dict[Role, int] = {}
        self.began, self.first = time.monotonic(), 0

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
        self.began, self.first = time.monotonic(), int(state.step)
        self.reporter.bars.reset(
            self.bar, total=total, completed=int(state.step), description=what, visible=True
        )
        return state

    def step(self, role: Role, done: int, state: TrainState, loss: jax.Array, total: int) -> None:
        self.reporter.bars.update(self.bar, completed=done)
        what = f"stage {self.stage}: {role} network, steps from {self.first}"
        self.reporter.log(what, done - self.first, total - self.first, self.began)
        stops = any_process(is_asked())
        if self.writes and (stops or (done % STEPS_A_CHECKPOINT == 0 and done < total)):
            checkpoint.save(
                self.folder / f"{role}_{done:07d}.safetensors", state, {"role": role, "step": done}
            )
            for old in self._files(role)[:-2]:
                old.unlink()
        if stops:
            raise Terminated(
                f"stage {self.stage}: step {done} of {total} of the {role} network is saved, "
                "the same command goes on from it"
            )
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
