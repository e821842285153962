"""Case work: what a case teaches, how well it is segmented, and what the simulated annotator makes of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Case, Kidney, Side
from kidseg_jax.cohort.split import kidney_labels, kidneys_of
from kidseg_jax.config import Config
from kidseg_jax.imaging.structures import NAMES, structures_in
from kidseg_jax.imaging.volume import Labels, Volume, canonical, pasted, require_same_grid
from kidseg_jax.network.cascade import Prediction
from kidseg_jax.network.samples import coarse_sample, fine_sample
from kidseg_jax.staging.learning import TrainingSet


@dataclass(frozen=True)
class KidneyPair:
    """One kidney's true and predicted labels inside the box of the canonical volume that holds both."""

    kidney: Kidney
    box: kernels.Box
    truth: Labels
    predicted: Labels

    @property
    def name(self) -> dict[str, Any]:
        k = self.kidney
        return {"case": k.case, "patient": k.patient, "kidney": k.name, "side": k.side}


def labelled(case: Case) -> Volume:
    """The case's label map. Raises ValueError when it has none or it lies on another grid than the CT."""
    if case.labels is None:
        raise ValueError(f"{case.name}: needs a label map, got none")
    require_same_grid(case.name, case.ct, case.labels)
    return case.labels


def teach(case: Case, labels: Volume, config: Config, threads: int) -> TrainingSet:
    """What both networks learn from a case with these labels: one coarse sample, one fine sample a kidney.

    The labels tell the structures that the case's own labels tell, and those that they hold: a person may
    have drawn what was missing.
    """
    told = case.structures | structures_in(labels.array)
    ct = canonical(case.ct)
    alone: dict[Side, Labels] = {
        kidney.side: kidney_labels(labels, kidney)
        for kidney in kidneys_of(Case(case.name, case.patient, case.ct, labels))
    }
    coarse = coarse_sample(ct, alone, config.coarse, config.coarse_train.shift_mm, threads)
    fine = tuple(
        fine_sample(
            ct,
            of_side,
            side,
            config.fine,
            config.fine_train,
            threads,
            told,
            seed=(config.seed, crc32(f"{case.name} {side}".encode())),
        )
        for side, of_side in alone.items()
    )
    return TrainingSet((coarse,), fine)


def pair_kidneys(case: Case, kidneys: Sequence[Kidney], prediction: Prediction) -> Iterator[KidneyPair]:
    """Each labelled kidney with what was predicted on its side, an empty label map where that is nothing.

    Structures that the case's labels do not tell are left out of the prediction: nobody can say if they are
    right.
    """
    labels = labelled(case)
    unlabelled = [i for i, name in enumerate(NAMES, 1) if name not in case.structures]
    found = {kidney.side: kidney for kidney in prediction.kidneys}
    for kidney in kidneys:
        truth = kidney_labels(labels, kidney)
        seen = found.get(kidney.side)
        lo, hi = np.array(kidney.lo), np.array(kidney.hi)
        if seen is not None:
            lo, hi = np.minimum(lo, seen.lo), np.maximum(hi, seen.hi)
        box = kernels.Box(tuple(lo.tolist()), tuple(hi.tolist()))
        predicted = np.zeros(tuple(hi - lo), np.uint8)
        if seen is not None:
            told = np.where(np.isin(seen.labels, unlabelled), 0, seen.labels).astype(np.uint8)
            kernels.paste_roi(predicted, told, _moved(kernels.Box(seen.lo, seen.hi), -lo))
        yield KidneyPair(kidney, box, kernels.crop_roi(truth, box), predicted)


def merged(case: Case, parts: Sequence[tuple[kernels.Box, Labels]]) -> Volume:
    """One label map on the case's grid from its kidneys' labels; the first kidney keeps a shared voxel."""
    return pasted([(box.lo, labels) for box, labels in parts], case.ct)


def _moved(box: kernels.Box, by: Any) -> kernels.Box:
    lo, hi = np.array(box.lo) + by, np.array(box.hi) + by
    return kernels.Box(tuple(lo.tolist()), tuple(hi.tolist()))
