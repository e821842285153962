"""`python -m kidseg_jax.stage --n 3`: learn, predict, correct, learn again."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kidseg_jax.__main__ import run_verb
from kidseg_jax.config import PRESETS, Config


@dataclass(frozen=True)
class Arguments:
    """Train a cascade in stages: each stage predicts the next stage's new cases, and their corrected labels join in."""

    n: int = 3
    """Number of stages."""
    out: Path | None = None
    """Run directory; a second call on it goes on where the first one stopped. Default: runs/PRESET."""
    data: Path | None = None
    """Folder of cases (case_XXXXX/imaging.nii.gz + segmentation.nii.gz); without it the phantom cohort is made."""
    label_map: str = "kidseg"
    """Name of the label convention of `data`, or a TOML file that maps label values to structures."""
    preset: Literal["demo", "paper", "gpu"] = "demo"
    """Settings to start from; every one can be changed below."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads of the C++ kernels and of making phantoms."""
    config: Annotated[Config, tyro.conf.arg(name="")] = PRESETS["demo"]


def run(arguments: Arguments) -> int:
    """The whole loop; returns the exit code."""
    from kidseg_jax.staging.loop import run_loop

    if arguments.threads < 1:
        raise ValueError(f"--threads: need 1 or more, got {arguments.threads}")
    out = arguments.out or Path("runs") / arguments.preset
    return run_loop(out, arguments.config, arguments.n, arguments.data, arguments.label_map, arguments.threads)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, with the preset's values as defaults, and run."""
    given = list(sys.argv[1:] if argv is None else argv)
    default = Arguments()
    for name, preset in PRESETS.items():
        if f"--preset={name}" in given or ("--preset", name) in zip(given, given[1:], strict=False):
            default = replace(default, preset=name, config=preset)  # pyright: ignore[reportArgumentType]
    return run_verb(Arguments, run, given, prog="python -m kidseg_jax.stage", default=default)


if __name__ == "__main__":
    sys.exit(main())
