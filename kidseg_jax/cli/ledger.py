"""`python -m kidseg_jax ledger RUN`: who labelled what, in how many minutes, and does the chain hold?"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

from kidseg_jax.cli.output import shown_name
from kidseg_jax.evaluation.table import to_terminal
from kidseg_jax.labelling.events import ApprovalEvent, LabelEvent, ReviewEvent
from kidseg_jax.labelling.ledger import Chain, read_ledger
from kidseg_jax.report.effort import ledger_tables
from kidseg_jax.rundir import RunDirectory
from kidseg_jax.staging.file_hashes import require_known_files


@dataclass(frozen=True)
class Arguments:
    """Verify a ledger and print Table 2 from it; exit code 1 for a torn last line, 2 for a broken chain or a
    file of the run whose hash is not the one in the ledger.
    """

    run: tyro.conf.Positional[Path]
    """Run directory, or a ledger file."""
    expect: str | None = None
    """Hash of a line that must be there: the head printed earlier. Shows that nothing was cut off since."""
    lines: bool = False
    """Print every line too."""


def run(arguments: Arguments) -> int:
    """Print what the ledger says; returns the exit code."""
    path = ledger_of(arguments.run)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such ledger")
    chain = read_ledger(path)
    if arguments.expect is not None and all(line.hash != arguments.expect for line in chain.lines):
        raise ValueError(f"{path}: no line has the hash {arguments.expect}: lines were cut off, or replaced")
    if arguments.run.is_dir():
        require_known_files(RunDirectory(arguments.run))
    if arguments.lines:
        for line in chain.lines:
            print(line.number, line.written, shown_name(str(line.event)))
    print(_who(chain))
    print(to_terminal(ledger_tables(chain)) or "No labelling time is recorded.")
    print(f"{len(chain.lines)} lines, every hash holds; head {chain.head}")
    if chain.torn:
        print(f"kidseg_jax: {chain.torn}", file=sys.stderr)
    return 1 if chain.torn else 0


def ledger_of(run: Path) -> Path:
    """The ledger file of a run directory, or the file itself."""
    return RunDirectory(run).ledger if run.is_dir() else run


def _who(chain: Chain) -> str:
    """One line for each stage, origin and annotator with the number of labels, for each approver and
    reviewer."""
    counts = Counter(
        (event.stage, event.origin, event.annotator, event.tool, event.simulated)
        for event in chain.events(LabelEvent)
    )
    lines = [
        f"stage {stage}: {n} structures {origin} by {shown_name(annotator)} with {shown_name(tool)}"
        + " (simulated)" * simulated
        for (stage, origin, annotator, tool, simulated), n in sorted(counts.items())
    ]
    approved = {(e.stage, e.approver, e.case) for e in chain.events(ApprovalEvent)}
    approved |= {(e.stage, e.approver, e.case) for e in chain.events(LabelEvent) if e.approver}
    cases = Counter((stage, approver) for stage, approver, _ in approved)
    lines += [
        f"stage {stage}: {n} cases approved by {shown_name(who)}" for (stage, who), n in sorted(cases.items())
    ]
    reviewed = Counter((event.reviewer, event.decision) for event in chain.events(ReviewEvent))
    lines += [
        f"review: {n} times {decision.replace('_', ' ')} by {shown_name(who)}"
        for (who, decision), n in sorted(reviewed.items())
    ]
    return "\n".join(lines)
