"""Clicks and scribbles on a label map: each spreads as far as the fine network was in doubt itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from kidseg_jax import kernels
from kidseg_jax.cohort.split import side_of
from kidseg_jax.imaging.structures import BACKGROUND, N_CLASSES, PARENCHYMA
from kidseg_jax.imaging.volume import Labels, Shape, Volume
from kidseg_jax.network.cascade import predict, scores_in
from kidseg_jax.network.models import Models
from kidseg_jax.network.roi import Roi, box_centre_mm, fine_roi

TREE_MM, MASS_MM = 10.0, 22.0  # how far a mark reaches, by what it changes
HU_APART = 50.0
LEAST_DOUBT = 1.0
ALWAYS_VOXELS = 1.5  # around the mark, of what was there


@dataclass(frozen=True)
class Mark:
    """A click or a scribble: voxels int (n, 3), canonical (z, y, x), that are of this label, or (`without`)
    are of any other.
    """

    voxels: npt.NDArray[np.intp]
    label: int
    without: bool = False

    def __post_init__(self) -> None:
        if self.voxels.ndim != 2 or self.voxels.shape[1] != 3 or not len(self.voxels):
            raise ValueError(f"Mark.voxels: need (n, 3) of at least one voxel, got {self.voxels.shape}")
        if not 0 <= self.label < N_CLASSES or (self.without and self.label == BACKGROUND):
            raise ValueError(f"Mark.label: need a structure, 1 to {N_CLASSES - 1}, got {self.label}")


Scores = Callable[[Shape, Shape], npt.NDArray[np.float32] | None]


def no_scores(lo: Shape, hi: Shape) -> None:
    """Of no network: marks then spread by HU alone."""


class NetworkScores:
    """The fine network's log-probabilities in any box of a canonical CT, (z, y, x, c).

    It looks at each kidney that it finds itself, once, and elsewhere about the box that is asked for.
    """

    def __init__(self, models: Models, ct: Volume, threads: int):
        self.models, self.ct, self.threads = models, ct, threads
        net = models.fine_net
        self.looked: list[tuple[Roi, np.ndarray]] = []
        for kidney in predict(models, ct, threads).kidneys:
            if (box := kernels.bounding_box(kidney.labels >= PARENCHYMA)) is not None:
                lo, hi = (tuple((np.array(end) + kidney.lo).tolist()) for end in (box.lo, box.hi))
                centre = box_centre_mm(kernels.Box(lo, hi), ct.spacing_mm)
                self._look(fine_roi(net, centre, kidney.side))

    def __call__(self, lo: Shape, hi: Shape) -> npt.NDArray[np.float32]:
        centre = box_centre_mm(kernels.Box(lo, hi), self.ct.spacing_mm)
        covering = [looked for looked in self.looked if self._covers(looked[0], lo, hi)]
        if covering:
            away = [np.linalg.norm(np.subtract(roi.centre_mm, centre)) for roi, _ in covering]
            roi, scores = covering[int(np.argmin(away))]
        else:
            net = self.models.fine_net
            side = side_of(self.ct, lo, hi, centre[2] / self.ct.spacing_mm[2])
            roi, scores = self._look(Roi(net.patch, net.spacing_mm, centre, mirrored=side == "left"))
        at = roi.target(lo, hi, self.ct.spacing_mm)
        channels = [
            kernels.resample_linear(np.ascontiguousarray(scores[..., c]), *at, widths=(1, 1, 1))
            for c in range(scores.shape[-1])
        ]
        return np.stack(channels, -1)

    def _covers(self, roi: Roi, lo: Shape, hi: Shape) -> bool:
        first, last = roi.footprint(self.ct.geometry.shape, self.ct.spacing_mm)
        return all(f <= a and b <= z for f, a, b, z in zip(first, lo, hi, last, strict=True))

    def _look(self, roi: Roi) -> tuple[Roi, np.ndarray]:
        finest, scores = scores_in(self.models, self.ct, roi, self.threads)
        scores = scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)
        self.looked.append((finest, scores))
        return finest, scores


@dataclass
class Marked:
    """A canonical label map under marks. What was marked keeps its label, until it is marked again.

    labels: uint8, changed in place. kept: bool, voxels that no mark's spreading changes.
    """

    ct: Volume
    labels: Labels
    scores: Scores = no_scores
    kept: npt.NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        shape = self.ct.array.shape
        if self.labels.shape != shape or self.labels.dtype != np.uint8:
            raise ValueError(
                f"Marked.labels: need uint8 {shape}, got {self.labels.dtype} {self.labels.shape}"
            )
        self.kept = np.zeros(shape, bool)

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        """Voxels that a person painted: only a mark on them changes them."""
        self.kept |= mask

    def mark(self, mark: Mark) -> int:
        """Obey a mark and let it spread; the number of voxels whose label changed.

        It takes along what has the label that it found, touches it, has its HU, and was as doubtful to the
        network. Raises ValueError for voxels outside the CT.
        """
        shape: Any = self.labels.shape
        if (mark.voxels < 0).any() or (mark.voxels >= shape).any():
            raise ValueError(f"Marked.mark: need voxels inside {shape}, got some outside")
        found = self.labels[tuple(mark.voxels.T)]
        is_mass = mark.label >= PARENCHYMA or bool((found >= PARENCHYMA).any())
        reach_mm = MASS_MM if is_mass else TREE_MM
        reach = np.ceil(reach_mm / np.array(self.ct.spacing_mm)).astype(int)
        lo = np.maximum(mark.voxels.min(0) - reach, 0)
        hi = np.minimum(mark.voxels.max(0) + reach + 1, shape)
        box = tuple(map(slice, lo, hi))
        seeds = np.zeros(hi - lo, bool)
        seeds[tuple((mark.voxels - lo).T)] = True
        labels, kept = self.labels[box], self.kept[box]
        before = labels.copy()
        scores = self.scores(tuple(lo.tolist()), tuple(hi.tolist()))
        label = mark.label if not mark.without else _second(scores, seeds, mark.label)
        wrong = seeds & ((labels == mark.label) if mark.without else (labels != label))
        if wrong.any():
            spread = self._spread(box, wrong, labels, scores, label, reach_mm) & ~kept
            labels[spread | wrong] = label
        kept |= seeds
        return int(np.count_nonzero(labels != before))

    def _spread(
        self,
        box: tuple[slice, ...],
        wrong: npt.NDArray[np.bool_],
        labels: Labels,
        scores: npt.NDArray[np.float32] | None,
        label: int,
        reach_mm: float,
    ) -> npt.NDArray[np.bool_]:
        """What belongs to wrong voxels: bool, of the box."""
        spacing = self.ct.spacing_mm
        hu = self.ct.array[box].astype(np.float32)
        away_mm = ndimage.distance_transform_edt(~wrong, sampling=spacing)
        assert isinstance(away_mm, np.ndarray)
        alike = np.isin(labels, np.unique(labels[wrong]))
        like = (away_mm < reach_mm) & (np.abs(hu - np.median(hu[wrong])) < HU_APART)
        if scores is not None:
            said = np.take_along_axis(scores, labels[..., None].astype(np.intp), -1)[..., 0]
            doubt = said - scores[..., label]
            most = max(float(doubt[wrong].max()), LEAST_DOUBT)
            near = away_mm <= ALWAYS_VOXELS * max(spacing)
            like &= near | (doubt <= most * (1 - (away_mm / reach_mm) ** 2))
        pieces, _ = kernels.label_components((alike & like) | wrong)
        return np.isin(pieces, np.unique(pieces[wrong]))


def _second(scores: npt.NDArray[np.float32] | None, seeds: npt.NDArray[np.bool_], label: int) -> int:
    """What the network holds for likeliest at the seeds beside a label; background without a network."""
    if scores is None:
        return BACKGROUND
    means = scores[seeds].mean(0)
    means[label] = -np.inf
    return int(means.argmax())
