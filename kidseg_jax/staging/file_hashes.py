"""Hashes of a run's files in its ledger, and whether the files are still those.

At its end a stage writes the hashes of run.json, its list, its models and its metrics into the ledger, and
the metrics hold the ledger's last hash: neither can be changed, cut or taken away alone. The ledger of an
older version knows no files; they are taken as they are.
"""

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from kidseg_jax.atomic import write_text
from kidseg_jax.formats.volumes import read_labels
from kidseg_jax.labelling.corrected import read_corrected, versions
from kidseg_jax.labelling.events import FileEvent, LabelEvent, MapEvent, content_hash
from kidseg_jax.labelling.ledger import Chain, append, read_ledger
from kidseg_jax.labelling.returned import by_people
from kidseg_jax.labelling.worklist import LIST, read_list
from kidseg_jax.report.records import StageRecord, stage_json
from kidseg_jax.rundir import RunDirectory, StageDirectory, read_json

HEAD = "ledger"  # the key of metrics.json that holds the ledger's last hash


def write_metrics(run: RunDirectory, stage: StageDirectory, model: str, record: StageRecord) -> None:
    """Write the hashes of a stage's files into the ledger, and its metrics last."""
    there = [path for path in (run.settings, stage.to_correct / LIST) if path.exists()]
    events = [FileEvent(_name(run, path), _sha256(path.read_bytes())) for path in there]
    chain = append(run.ledger, [*events, FileEvent(_name(run, stage.models), model)], once=True)
    write_known(run, stage.metrics, {**stage_json(record), HEAD: chain.head})


def write_known(run: RunDirectory, path: Path, data: Any) -> None:
    """Write JSON once its hash is in the ledger: a kill between the two leaves no file that it lacks."""
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    append(run.ledger, [FileEvent(_name(run, path), _sha256(text.encode()))])
    write_text(path, text)


def require_known_files(run: RunDirectory) -> None:
    """ValueError with the file whose hash is not the one in the ledger, or with a ledger that is gone.

    Models that are torn are left to the stage, which trains them again, and so are simulated labels that are
    lost: they are made again.
    """
    done = [stage.metrics for stage in run.stages() if stage.metrics.exists()]
    if done and not run.ledger.is_file():
        raise ValueError(f"{run.ledger}: is gone, and {_name(run, done[0])} is there; put it back")
    chain = read_ledger(run.ledger)
    known = {event.path: event.sha256 for event in chain.events(FileEvent)}
    for name, sha256 in known.items():
        path = run.path / name
        if path.is_file() and _hash_of(path) not in (sha256, None):
            raise ValueError(f"{path}: changed since the ledger took its hash; put it back")
        if path.name == LIST and not path.is_file() and StageDirectory(path.parents[1]).metrics.is_file():
            raise ValueError(f"{path}: is gone; the ledger knows it; put it back")
    hashes = {line.hash for line in chain.lines}
    for path in done:
        head = read_json(path).get(HEAD)
        if head is not None and (head not in hashes or _name(run, path) not in known):
            raise ValueError(f"{run.ledger}: was cut short or replaced: lines that {path} knows are missing")
    _require_labels(run, chain)


def require_same_hand_labels(chain: Chain, events: list[LabelEvent]) -> None:
    """ValueError when the ledger knows other labels by hand, or another CT, of the case of these events."""
    known = {(e.case, e.kidney, e.structure): e for e in chain.events(LabelEvent) if not e.stage}
    for event in events:
        before = known.get((event.case, event.kidney, event.structure))
        if before is not None and (before.label, before.image) != (event.label, event.image):
            what = "labels" if before.label != event.label else "CT"
            raise ValueError(
                f"{event.case}: its {what} in the data folder changed since the run began; "
                "put them back, or begin another run"
            )


def _require_labels(run: RunDirectory, chain: Chain) -> None:
    """ValueError unless every label of a stage that the ledger knows stands in a file."""
    people: dict[tuple[int, str], set[str]] = defaultdict(set)
    for event in by_people(chain):
        people[event.stage, event.case].add(event.label)
    for (index, case), wanted in sorted(people.items()):
        stage = run.stage(index)
        if not (stage.to_correct / LIST).is_file():
            continue
        grids = {work.case: work.grid for work in read_list(stage.to_correct).cases}
        if not index and case not in grids:  # the labels that it came with
            continue
        there = set()
        for path in versions(stage.corrected, case) if case in grids else ():
            try:
                there.add(content_hash(read_corrected(path, grids[case]).array))
            except (ValueError, TypeError, OSError):
                continue
        if lost := wanted - there:
            raise ValueError(
                f"{stage.corrected}: no file of {case} holds the labels that the ledger knows "
                f"({min(lost)[:19]}...): one was changed or taken away; put it back, and save a new version "
                f"as {case}.{len(wanted) + 1}.seg.nrrd"
            )
    for index, case in sorted({(event.stage, event.case) for event in chain.events(MapEvent)}):
        path = run.stage(index).correction(case)
        known = {e.label for e in chain.events(MapEvent) if (e.stage, e.case) == (index, case)}
        try:
            label = content_hash(read_labels(path).array)
        except (ValueError, TypeError, OSError):
            continue
        if label not in known:
            raise ValueError(
                f"{path}: not the labels that the ledger knows; put them back, or remove the file to have "
                "them made again"
            )


def _hash_of(path: Path) -> str | None:
    """The hash that the ledger holds of such a file; None for models that are torn."""
    if path.suffix != ".safetensors":
        return _sha256(path.read_bytes())
    from kidseg_jax.network import checkpoint

    try:
        return checkpoint.read(path).sha256
    except ValueError:
        return None


def _name(run: RunDirectory, path: Path) -> str:
    return path.relative_to(run.path).as_posix()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
