"""`python -m kidseg_jax audit RUN|FOLDER`: which label maps should a person look at first?"""

import os
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

from kidseg_jax.audit import checks, disagreement
from kidseg_jax.audit.finding import TELLING, Audited, Measure, ranked
from kidseg_jax.audit.page import FILES, worst_of, write_audit
from kidseg_jax.audit.pictures import three_slices
from kidseg_jax.audit.scene import scene_of
from kidseg_jax.audit.sources import Look, Source
from kidseg_jax.cli.output import shown_name
from kidseg_jax.imaging.volume import canonical

if TYPE_CHECKING:
    from kidseg_jax.audit.networks import Predictor

KINDS = checks.KINDS | disagreement.KINDS


@dataclass(frozen=True)
class Arguments:
    """Check every label map against its CT, and against networks that did not see it; rank what is odd.

    Label maps without CTs are checked for their shapes. A RUN's own predictions are used, each made before
    the case was learned from. For a FOLDER of cases a model is asked: --model, the start model of this
    package without it, or networks that --cross-validate trains. Writes audit.html, audit.json and audit.csv.
    Exit code 1 when a case cannot be looked at.
    """

    input: tyro.conf.Positional[Path]
    """A run directory, or a folder of cases."""
    out: Path | None = None
    """Folder for the results; INPUT/audit when not given."""
    model: Path | None = None
    """FOLDER: a run directory or a models.safetensors file. Cases that it learned from are not
    compared with it."""
    network: bool = True
    """--no-network asks no network: the checks against the CT alone, without JAX."""
    cross_validate: int = 0
    """FOLDER: train this many small networks (2 or more), each on the other parts of the patients."""
    steps: int = 400
    """Steps of each network that --cross-validate trains."""
    label_map: str | None = None
    """What the label values mean: kidseg (default), kits19, kits21, kits23, kipa22, cect, auto or
    a .toml file."""
    pictures: int = 60
    """How many cases get a picture, the first ones of the list."""
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Threads of the kernels."""


def run(arguments: Arguments) -> int:
    """Audit, write three files, print the head of the list."""
    source = Source(arguments.input, arguments.label_map)
    names = source.names
    if not names:
        raise ValueError(f"{arguments.input}: found no label map to audit")
    ask, notes = _networks(arguments, source)
    measured: dict[str, list[Measure]] = {}
    failures: dict[str, str] = {}
    seen: dict[str, bytes] = {}
    for number, name in enumerate(names, 1):
        try:
            look = source.look(name)
            if ask is not None and look.has_ct:
                look = ask(look)
            measured[name] = measures_of(look, arguments.threads)
        except (ValueError, OSError) as error:
            failures[name] = " ".join(str(error).split())
            print(f"kidseg_jax: {shown_name(name)}: {failures[name]}", file=sys.stderr)
            continue
        if look.predicted is not None:
            seen[name] = zlib.compress(canonical(look.predicted).array.astype(np.uint8).tobytes(), 1)
        print(f"[{number}/{len(names)}] {shown_name(name)}", flush=True)
    if not measured:
        raise ValueError(f"{arguments.input}: none of its {len(failures)} cases could be looked at")
    audited = ranked(measured, KINDS)
    notes.append(
        f"{len(seen)} of {len(measured)} label maps were compared with networks that did not learn from them."
    )
    first = audited[: max(arguments.pictures, 0)]
    pictures = {case.name: _picture(source, case, seen.get(case.name)) for case in first}
    out = arguments.out or arguments.input / "audit"
    write_audit(out, arguments.input.resolve().name, audited, KINDS, pictures, notes, failures)
    for rank, case in enumerate(audited[:10], 1):
        print(f"{rank:3} {case.score:5.1f} {shown_name(case.name)}: {worst_of(case, KINDS)}")
    telling = sum(case.score >= TELLING for case in audited)
    print(f"{telling} of {len(audited)} label maps have a score of {TELLING:g} or more")
    print(f"{out}: {', '.join(FILES)}")
    return 1 if failures else 0


def measures_of(look: Look, threads: int) -> list[Measure]:
    """What every check measures of a case, the network's among them where one was asked."""
    scene = scene_of(look.case, threads, look.has_ct)
    measures = list(checks.measures_of(scene))
    if look.predicted is not None:
        predicted = canonical(look.predicted).array
        told = scene.told & look.known
        measures += disagreement.disagreements(scene.labels, predicted, scene.spacing_mm, told, look.who)
    return measures


def _networks(arguments: Arguments, source: Source) -> tuple["Predictor | None", list[str]]:
    """Who is asked, and notes about it; nobody is for a run, which kept what its networks said."""
    if arguments.cross_validate and arguments.model:
        raise ValueError("audit: --model and --cross-validate exclude each other")
    if source.run is not None:
        if arguments.cross_validate or arguments.model:
            raise ValueError(
                "audit: a run has networks of its own; --model and --cross-validate are for folders"
            )
        return None, []
    if source.maps:
        return None, ["These label maps lie here without CTs: their shapes alone were looked at."]
    if not arguments.network:
        if arguments.cross_validate or arguments.model:
            raise ValueError("audit: --no-network asks nobody, got --model or --cross-validate too")
        return None, []
    from kidseg_jax.audit import networks

    networks.ready()
    if arguments.cross_validate:
        n, steps = arguments.cross_validate, arguments.steps
        return networks.cross_validated(
            source, n, steps, arguments.threads, lambda line: print(line, flush=True)
        )
    return networks.of_model(arguments.model, arguments.threads)


def _picture(source: Source, case: Audited, seen: bytes | None) -> np.ndarray:
    """The slices through the worst finding of a case; its middle where nothing was found."""
    scene = scene_of(source.look(case.name).case)
    z, y, x = scene.labels.shape
    at = case.findings[0].measure.at if case.findings else (z // 2, y // 2, x // 2)
    other = None if seen is None else np.frombuffer(zlib.decompress(seen), np.uint8).reshape(z, y, x)
    return three_slices(scene, at, other)
