"""Label maps of a folder that a person looks over: which ones, what was decided, and the next one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import CaseFiles, find_cases, read_case
from kidseg_jax.cohort.label_maps import LabelMap, label_map, read_json, read_structures
from kidseg_jax.labelling.events import Decision, ReviewEvent, content_hash
from kidseg_jax.labelling.ledger import Line, append, read_ledger

LEDGER = "ledger.jsonl"
LONGEST_NOTE = 2000
AUDIT = Path("audit") / "audit.json"
MOST_FINDINGS = 6


@dataclass(frozen=True)
class Odd:
    """What an audit said of a case: its score, and its worst findings in words."""

    score: float
    findings: tuple[str, ...]


@dataclass
class Review:
    """The labelled cases of a folder, those that an audit finds odd first, and the decisions about them.

    Decisions are lines of `ledger`, chained by hash and synced. One holds until the label file changes.
    """

    folder: Path
    ledger: Path
    names: LabelMap
    cases: dict[str, CaseFiles]
    odd: dict[str, Odd] = field(default_factory=dict)

    def decided(self) -> dict[str, Line]:
        """The last decision about each case whose label file has not changed since."""
        last: dict[str, Line] = {}
        for line in read_ledger(self.ledger).lines:
            if isinstance(line.event, ReviewEvent) and line.event.case in self.cases:
                last[line.event.case] = line
        return {case: line for case, line in last.items() if not self._is_newer(case, line.written)}

    def waiting(self) -> tuple[str, ...]:
        """The cases without a decision, the one to look at first comes first."""
        decided = self.decided()
        return tuple(case for case in self.cases if case not in decided)

    def states(self) -> list[dict[str, Any]]:
        """Every case with what was decided, by whom and when, and what an audit said; in order."""
        decided = self.decided()
        return [self._state(case, decided.get(case)) for case in self.cases]

    def case(self, name: str) -> Case:
        """The CT and the labels of a case; KeyError for a name that is not there."""
        return read_case(self.cases[name], self.names)

    def label_hash(self, name: str) -> str:
        """The hash of a case's label map, as the ledger names it."""
        path = self.cases[name].labels
        assert path is not None
        return content_hash(read_structures(path, self.names).array)

    def decide(
        self, name: str, decision: Decision, reviewer: str, note: str, seen: str | None
    ) -> dict[str, Any]:
        """Write a decision down and sync it; how the case then stands.

        seen: the hash of the label map that the reviewer looked at; None: not known. Raises ValueError where
        the file holds another one by now, for a reviewer without a name and for a note that is too long.
        """
        if not reviewer or reviewer == "unknown":
            raise ValueError("review: a decision needs the name of who reviews (client_id)")
        if len(note) > LONGEST_NOTE or any(not (c.isprintable() or c in "\n\t") for c in note):
            raise ValueError(f"review: a note may have {LONGEST_NOTE} characters that print, got {len(note)}")
        label = self.label_hash(name)
        if seen is not None and seen != label:
            raise ValueError(f"{name}: its label map has changed since it was looked at; look again")
        append(self.ledger, [ReviewEvent(name, label, decision, reviewer, note)])
        return self._state(name, self.decided().get(name))

    def _state(self, case: str, line: Line | None) -> dict[str, Any]:
        odd = self.odd.get(case)
        state: dict[str, Any] = {
            "case": case,
            "decision": None,
            "score": odd and odd.score,
            "findings": list(odd.findings) if odd else [],
        }
        if line is not None and isinstance(event := line.event, ReviewEvent):
            state |= {"decision": event.decision, "reviewer": event.reviewer, "note": event.note}
            state |= {"label": event.label, "written": line.written}
        return state

    def _is_newer(self, case: str, written: str) -> bool:
        path = self.cases[case].labels
        assert path is not None
        try:
            return path.stat().st_mtime > datetime.fromisoformat(written).timestamp()
        except (OSError, ValueError):
            return True


def open_review(folder: Path, ledger: Path | None = None, names: str = "kidseg") -> Review:
    """The cases of a folder that have labels; no image is read.

    ledger: where decisions go, FOLDER/ledger.jsonl when not given. What `audit` wrote into FOLDER/audit says
    their order. Raises FileNotFoundError for no such folder, ValueError for one without a labelled case, a
    broken ledger or a broken audit.
    """
    labelled = {one.name: one for one in find_cases(folder) if one.labels is not None}
    if not labelled:
        raise ValueError(f"{folder}: need cases with label maps to review, found none")
    odd = _audited(folder / AUDIT) if (folder / AUDIT).is_file() else {}
    order = sorted(labelled, key=lambda name: (-odd[name].score if name in odd else 0.0, name))
    review = Review(
        folder,
        ledger or folder / LEDGER,
        label_map(names, folder),
        {name: labelled[name] for name in order},
        odd,
    )
    review.decided()
    return review


def _audited(path: Path) -> dict[str, Odd]:
    said = read_json(path)
    try:
        return {str(one["case"]): Odd(float(one["score"]), _words(one["findings"])) for one in said["cases"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: need what audit writes, got {error!r}") from error


def _words(findings: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(found["text"]) for found in findings[:MOST_FINDINGS])
