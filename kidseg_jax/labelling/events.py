"""What a ledger line says: labels made, filed, approved or reviewed, times, clocks, files, a torn line."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from kidseg_jax.imaging.structures import NAMES

Origin = Literal["manual", "cnn", "cnn_corrected"]
ORIGINS = ("manual", "cnn", "cnn_corrected")
Decision = Literal["approved", "sent_back"]
DECISIONS = ("approved", "sent_back")


@dataclass(frozen=True)
class LabelEvent:
    """One structure of one case, or of one kidney of it, got a label.

    stage: the stage in whose folder the label lies, 0 for labels from before the first. label, parent,
    image, model: content hashes (`content_hash` of the arrays; of the file for a model). parent is the
    label that was corrected. opened and submitted are wall-clock times (ISO 8601 with offset) and None for
    simulated labels; active_s is working time in s, None where it is not known (time lines may say it
    later).
    """

    kind: ClassVar[str] = "label"
    case: str
    structure: str
    origin: Origin
    stage: int
    label: str
    annotator: str
    tool: str
    simulated: bool
    patient: str | None = None
    kidney: str | None = None  # left or right; None: the whole case
    parent: str | None = None
    model: str | None = None
    image: str | None = None
    opened: str | None = None
    submitted: str | None = None
    active_s: float | None = None
    voxels_added: int = 0
    voxels_removed: int = 0
    approver: str | None = None
    blind: bool = False  # labelled from nothing on purpose, to measure what seeing a prediction does

    def __post_init__(self) -> None:
        _require_structure("LabelEvent", self.structure)
        if self.origin not in ORIGINS:
            raise ValueError(f"LabelEvent.origin: need one of {ORIGINS}, got {self.origin!r}")
        if (self.origin == "cnn_corrected") != (self.parent is not None):
            raise ValueError(
                "LabelEvent.parent: a cnn_corrected label has a parent and no other has, "
                f"got {self.parent!r} for {self.origin}"
            )
        if self.origin == "cnn" and self.model is None:
            raise ValueError("LabelEvent.model: a cnn label needs the hash of its model, got None")
        if self.blind and self.origin != "manual":
            raise ValueError(f"LabelEvent.blind: only a manual label is blind, got {self.origin}")
        _require_interval("LabelEvent", self.opened, self.submitted, self.active_s)


@dataclass(frozen=True)
class TimeEvent:
    """Working time measured apart from a label: by the server, by `label start|stop`, or from a CSV."""

    kind: ClassVar[str] = "time"
    case: str
    origin: Origin
    stage: int
    annotator: str
    source: Literal["server", "clock", "csv"]
    active_s: float
    structure: str | None = None  # None: the whole case, all structures together
    opened: str | None = None
    submitted: str | None = None

    def __post_init__(self) -> None:
        if self.structure is not None:
            _require_structure("TimeEvent", self.structure)
        if self.origin not in ("manual", "cnn_corrected"):
            raise ValueError(f"TimeEvent.origin: need manual or cnn_corrected, got {self.origin!r}")
        _require_interval("TimeEvent", self.opened, self.submitted, self.active_s)


@dataclass(frozen=True)
class ClockEvent:
    """A person started to work on a case; the matching `TimeEvent` stops the clock."""

    kind: ClassVar[str] = "clock"
    case: str
    origin: Origin
    stage: int
    annotator: str
    opened: str
    structure: str | None = None

    def __post_init__(self) -> None:
        if self.structure is not None:
            _require_structure("ClockEvent", self.structure)
        _require_interval("ClockEvent", self.opened, None, None)


@dataclass(frozen=True)
class ApprovalEvent:
    """Someone approved a label that the ledger knows already, for the next stage to learn from."""

    kind: ClassVar[str] = "approval"
    case: str
    stage: int
    label: str
    approver: str


@dataclass(frozen=True)
class ReviewEvent:
    """Someone looked at the label map of a case and approved it, or sent it back to be drawn again."""

    kind: ClassVar[str] = "review"
    case: str
    label: str
    decision: Decision
    reviewer: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.decision not in DECISIONS:
            raise ValueError(f"ReviewEvent.decision: need one of {DECISIONS}, got {self.decision!r}")


@dataclass(frozen=True)
class ClickEvent:
    """A person clicked or scribbled, and got an answer: how much of a structure is said now, what it changed.

    marks: clicks, or pieces of a scribble, that stand; fewer than before are undone. voxels_changed: by the
    whole answer, whatever else was said in it. model: hash of the network that answered, None for none.
    """

    kind: ClassVar[str] = "click"
    case: str
    stage: int
    structure: str
    marks: int
    voxels_changed: int
    annotator: str
    tool: Literal["deepedit", "deepgrow", "scribbles"]
    answered: str
    model: str | None = None

    def __post_init__(self) -> None:
        if self.structure != "background":
            _require_structure("ClickEvent", self.structure)
        _require_interval("ClickEvent", self.answered, None, None)


@dataclass(frozen=True)
class MapEvent:
    """The simulated labels of a case's kidneys were put into one label map, the file that is learned from."""

    kind: ClassVar[str] = "map"
    case: str
    stage: int
    label: str


@dataclass(frozen=True)
class FileEvent:
    """A file of the run was finished, or is just about to be: its path in the run, and its hash.

    sha256: of its bytes; of models the one that their file holds.
    """

    kind: ClassVar[str] = "file"
    path: str
    sha256: str


@dataclass(frozen=True)
class RepairEvent:
    """The last line was torn by a kill or a full disk: what it held, and where it stood."""

    kind: ClassVar[str] = "repair"
    line: int
    dropped: str


Event = (
    LabelEvent
    | TimeEvent
    | ClockEvent
    | ApprovalEvent
    | ReviewEvent
    | ClickEvent
    | MapEvent
    | FileEvent
    | RepairEvent
)
KINDS: dict[str, type[Event]] = {event.kind: event for event in get_args(Event)}


def content_hash(array: np.ndarray) -> str:
    """`sha256:` and 64 hex digits over shape and voxels of an integer array, whatever file it came from.

    The voxels are hashed as int32 in C order, so uint8 and int16 copies of one label map agree. Geometry is
    left out: containers round it differently. Raises TypeError for arrays that are not integers or reach
    beyond int32.
    """
    if array.dtype.kind not in "uib":
        raise TypeError(f"content_hash: need an array of integers, got {array.dtype}")
    if array.size and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
        raise TypeError(f"content_hash: need values of at most 32 bits, got {array.min()} to {array.max()}")
    digest = hashlib.sha256(f"voxels {tuple(array.shape)}\n".encode())
    digest.update(np.ascontiguousarray(array, dtype="<i4").data)
    return f"sha256:{digest.hexdigest()}"


def now() -> str:
    """The time, ISO 8601 in UTC to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def seconds_between(opened: str, submitted: str) -> float:
    """Seconds from one ISO 8601 time to a later one."""
    return (datetime.fromisoformat(submitted) - datetime.fromisoformat(opened)).total_seconds()


def _require_structure(where: str, structure: Any) -> None:
    if structure not in NAMES:
        raise ValueError(f"{where}.structure: need one of {', '.join(NAMES)}, got {structure!r}")


def _require_interval(where: str, opened: str | None, submitted: str | None, active_s: float | None) -> None:
    for name, value in (("opened", opened), ("submitted", submitted)):
        if value is None:
            continue
        try:
            aware = datetime.fromisoformat(value).tzinfo is not None
        except (TypeError, ValueError):
            aware = False
        if not aware:
            raise ValueError(f"{where}.{name}: need ISO 8601 with an offset from UTC, got {value!r}")
    if opened and submitted and seconds_between(opened, submitted) < 0:
        raise ValueError(f"{where}: submitted must not come before opened, got {submitted} and {opened}")
    if active_s is not None and not 0 <= active_s < float("inf"):
        raise ValueError(f"{where}.active_s: must be finite and not negative, got {active_s}")
