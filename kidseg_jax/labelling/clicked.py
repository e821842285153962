"""A case under a person's clicks and scribbles: what was said so far, in its order, and what it makes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kidseg_jax.imaging.volume import Labels, Volume
from kidseg_jax.network.clicks import Mark, Marked, Scores, no_scores

Key = tuple[int, bool, bytes]


@dataclass
class Clicked:
    """The labels of one case for one person, in canonical order.

    base: what the marks begin from, a prediction or nothing; never changed. The same marks in the same order
    make the same labels, so taking one back (not saying it any more) undoes what it did.
    """

    ct: Volume
    base: Labels
    scores: Scores = no_scores
    said: list[Mark] = field(default_factory=list, init=False)
    painted: npt.NDArray[np.bool_] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._begin()

    @property
    def labels(self) -> Labels:
        """As the last answer had them."""
        return self._marked.labels

    def repaint(self, labels: Labels) -> None:
        """Labels as the person has them now: where they differ from the last answer, painted."""
        painted = labels != self.labels
        if painted.any():
            self.painted = painted if self.painted is None else self.painted | painted
            self.base, self.said = labels, []
            self._begin()

    def answer(self, marks: Sequence[Mark]) -> int:
        """Obey all marks that stand now; the number of voxels that changed since the last answer.

        Marks that were said before keep their order, new ones come after them; of two on one voxel the later
        holds. Raises ValueError as `Marked.mark` does, and then nothing has changed.
        """
        now = {_key(mark): mark for mark in marks}
        kept = [mark for mark in self.said if _key(mark) in now]
        known = {_key(mark) for mark in kept}
        new = [mark for key, mark in now.items() if key not in known]
        shape = self.ct.array.shape
        if any((mark.voxels < 0).any() or (mark.voxels >= shape).any() for mark in new):
            raise ValueError(f"Clicked.answer: need voxels inside {shape}, got some outside")
        if len(kept) == len(self.said):
            changed = sum(self._marked.mark(mark) for mark in new)
        else:
            before = self.labels
            self._begin()
            for mark in (*kept, *new):
                self._marked.mark(mark)
            changed = int(np.count_nonzero(before != self.labels))
        self.said = [*kept, *new]
        return changed

    def _begin(self) -> None:
        self._marked = Marked(self.ct, self.base.copy(), self.scores)
        if self.painted is not None:
            self._marked.keep(self.painted)


def _key(mark: Mark) -> Key:
    return mark.label, mark.without, mark.voxels.tobytes()
