"""Case work: what a case teaches, and its true and predicted kidneys side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from kidseg_jax.cohort.case import Case, LabelledKidney
from kidseg_jax.config import Config
from kidseg_jax.imaging.structures import structures_in, unlabelled_classes
from kidseg_jax.imaging.volume import Labels, Shape, canonical
from kidseg_jax.kernels import Box
from kidseg_jax.network.cascade import Prediction
from kidseg_jax.network.samples import coarse_sample, fine_sample
from kidseg_jax.staging.learning import TrainingSet


@dataclass(frozen=True)
class KidneyPair:
    """One kidney's true and predicted labels inside the box of the canonical volume that holds both."""

    kidney: LabelledKidney
    box: Box
    truth: Labels
    predicted: Labels

    @property
    def name(self) -> dict[str, Any]:
        k = self.kidney
        return {"case": k.case, "patient": k.patient, "kidney": k.name, "side": k.side}


def teach(case: Case, kidneys: Sequence[LabelledKidney], config: Config, threads: int) -> TrainingSet:
    """What both networks learn from a case with these kidneys: one coarse sample, one fine sample a kidney.

    Their labels tell the structures that the case's own labels tell, and those that they hold: a person may
    have drawn what was missing.
    """
    labelled = case.structures.union(*(structures_in(kidney.labels) for kidney in kidneys))
    unlabelled = unlabelled_classes(labelled)
    ct = canonical(case.ct)
    coarse = coarse_sample(ct, kidneys, config.coarse, config.coarse_train.shift_mm, threads)
    fine = tuple(
        fine_sample(
            ct,
            kidney,
            config.fine,
            config.fine_train,
            threads,
            unlabelled,
            seed=(config.seed, crc32(f"{case.name} {kidney.side}".encode())),
        )
        for kidney in kidneys
    )
    return TrainingSet((coarse,), fine)


def pair_kidneys(
    case: Case, kidneys: Sequence[LabelledKidney], prediction: Prediction
) -> Iterator[KidneyPair]:
    """Each labelled kidney with what was predicted on its side, an empty label map where that is nothing.

    Structures that the case's labels do not tell are left out of the prediction: nobody can say if they are
    right.
    """
    unlabelled = list(unlabelled_classes(case.structures))
    predicted = {kidney.side: kidney for kidney in prediction.kidneys}
    for kidney in kidneys:
        box, other = kidney.box, predicted.get(kidney.side)
        if other is None:
            yield KidneyPair(kidney, box, kidney.labels, np.zeros(box.shape, np.uint8))
            continue
        lo, hi = np.minimum(box.lo, other.lo), np.maximum(box.hi, other.hi)
        both = Box(tuple(lo.tolist()), tuple(hi.tolist()))
        comparable = np.where(np.isin(other.labels, unlabelled), 0, other.labels)
        yield KidneyPair(
            kidney, both, _inside(both, box.lo, kidney.labels), _inside(both, other.lo, comparable)
        )


def _inside(box: Box, lo: Shape, labels: Labels) -> Labels:
    """Labels whose first voxel is `lo`, in a box that holds them, background around them."""
    whole = np.zeros(box.shape, np.uint8)
    first = np.subtract(lo, box.lo)
    whole[tuple(slice(a, a + n) for a, n in zip(first, labels.shape, strict=True))] = labels
    return whole
