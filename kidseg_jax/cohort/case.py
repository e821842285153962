"""Cases and kidneys: who was scanned, and which kidneys count."""

import zlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from kidseg_jax.imaging.structures import NAMES, RCC
from kidseg_jax.imaging.volume import Labels, Shape, Volume
from kidseg_jax.kernels import Box

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Case:
    """One CT of one patient, with its label map on the same grid where there is one.

    structures: the structures that its labels tell from background; others are unknown, not absent.
    """

    name: str
    patient: str
    ct: Volume
    labels: Volume | None = None
    structures: frozenset[str] = frozenset(NAMES)


@dataclass(frozen=True)
class LabelledKidney:
    """One kidney of a case, the unit that is counted: found once in a label map, and carried from there.

    box: tight, in canonical voxels (z, y, x), around all that is labelled as this kidney's. packed: these
    labels, compressed to a few percent, so that all kidneys of a large cohort fit in memory; see `of`.
    """

    case: str
    patient: str
    side: Side
    box: Box
    packed: bytes = field(repr=False)

    @classmethod
    def of(cls, case: str, patient: str, side: Side, box: Box, labels: Labels) -> "LabelledKidney":
        """A kidney with its labels, uint8 in the shape of the box, 0 where a voxel is not this kidney's."""
        return cls(case, patient, side, box, zlib.compress(labels.astype(np.uint8).tobytes(), 1))

    @property
    def name(self) -> str:
        return f"{self.case}_{self.side}"

    @property
    def labels(self) -> Labels:
        """This kidney's labels in its box, uint8 (z, y, x), read-only."""
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(self.box.shape)

    @property
    def has_rcc(self) -> bool:
        return bool((self.labels == RCC).any())

    def alone(self, shape: Shape) -> Labels:
        """This kidney's labels in a canonical volume (z, y, x) of this shape, background everywhere else."""
        whole = np.zeros(shape, np.uint8)
        whole[self.box.slices] = self.labels
        return whole
