"""How much does a click bring? A robot corrects the held-out kidneys of finished runs by clicks.

    python benchmarks/clicks.py RUN... [--stage K] [--clicks 20]

The robot clicks the middle of the largest error, a piece of voxels that are one structure (or background) and
are labelled as another, and looks again: the protocol of interactive segmentation. Each row of
benchmarks/results/clicks.csv: one run, stage and way, on phantoms, all clicks simulated: mean DSC of the five
structures after 0, 1, 3, 5, 10 and 20 clicks a kidney, and how many clicks bring a kidney to 0.85 and to 0.90
(NoC; kidneys that never come there count as all clicks, and `failed` says how many). Ways: from the
prediction, from it by HU alone, from nothing, and `whole piece`: an oracle that mends all of the clicked
piece, and no more.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from held_out import tested
from rows import about, append_rows, say
from scipy import ndimage

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.evaluation.metrics import dice
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Volume, canonical
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.clicks import Mark, Marked, NetworkScores, Scores, no_scores
from kidseg_jax.network.models import Models
from kidseg_jax.staging.case_work import pair_kidneys

SHOWN = (0, 1, 3, 5, 10, 20)
TARGETS = (0.85, 0.90)
WAYS = ("prediction", "prediction, HU alone", "nothing", "prediction, whole piece")


class Kidney(NamedTuple):
    """One kidney in its box with room around it: CT, truth, prediction and the network's scores there."""

    name: str
    ct: Volume
    truth: np.ndarray
    predicted: np.ndarray
    scores: Scores


def kidneys(case: Case, models: Models, threads: int) -> Iterator[Kidney]:
    ct = canonical(case.ct)
    prediction, scores = predict(models, case.ct, threads), NetworkScores(models, ct, threads)
    for pair in pair_kidneys(case, kidneys_of(case), prediction):
        room = np.ceil(25.0 / np.array(ct.spacing_mm)).astype(int)
        lo, hi = np.maximum(pair.box.lo - room, 0), np.minimum(pair.box.hi + room, ct.array.shape)
        inner = tuple(slice(a - f, b - f) for a, b, f in zip(pair.box.lo, pair.box.hi, lo, strict=True))
        truth, predicted = np.zeros(hi - lo, np.uint8), np.zeros(hi - lo, np.uint8)
        truth[inner], predicted[inner] = pair.truth, pair.predicted
        part = Volume(ct.array[tuple(map(slice, lo, hi))], ct.geometry.part(tuple(lo), tuple(hi)))

        def here(a: tuple[int, ...], b: tuple[int, ...], lo: np.ndarray = lo) -> np.ndarray:
            return scores(tuple((lo + a).tolist()), tuple((lo + b).tolist()))

        yield Kidney(pair.kidney.name, part, truth, predicted, here)


def largest_error(truth: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """The largest piece of voxels that are one class and have another label; None where all is right."""
    wrong = truth != labels
    classes = np.where(wrong, truth + 1, 0).astype(np.uint8)  # background is a class of errors too
    if not wrong.any():
        return None
    pieces, _ = kernels.label_components(classes, 6)
    counts = np.bincount(pieces.ravel())
    counts[0] = 0
    return pieces == counts.argmax()


def middle(piece: np.ndarray) -> tuple[int, int, int]:
    """The voxel of a piece that is deepest in it."""
    box = kernels.bounding_box(piece)
    assert box is not None
    inner = np.pad(piece[box.slices], 1)
    depth = ndimage.distance_transform_edt(inner)
    assert isinstance(depth, np.ndarray)
    at = np.array(np.unravel_index(depth.argmax(), inner.shape)) - 1 + box.lo
    return tuple(at.tolist())


def mean_dsc(truth: np.ndarray, labels: np.ndarray) -> float:
    there = [s.label for s in STRUCTURES if (truth == s.label).any()]
    return float(np.mean([dice(truth == label, labels == label) or 0.0 for label in there]))


def played(kidney: Kidney, way: str, clicks: int) -> tuple[list[float], list[float]]:
    """Mean DSC after 0, 1, 2, ... clicks, and the seconds of each click."""
    start = np.zeros_like(kidney.predicted) if way == "nothing" else kidney.predicted.copy()
    scores = no_scores if way == "prediction, HU alone" else kidney.scores
    marked = Marked(kidney.ct, start, scores)
    found, seconds = [mean_dsc(kidney.truth, marked.labels)], []
    for _ in range(clicks):
        piece = largest_error(kidney.truth, marked.labels)
        if piece is not None:
            at = middle(piece)
            label = int(kidney.truth[at])
            began = time.perf_counter()
            if way == "prediction, whole piece":
                marked.labels[piece] = label
            else:
                marked.mark(Mark(np.array([at]), label))
            seconds.append(time.perf_counter() - began)
            assert marked.labels[at] == label
        found.append(mean_dsc(kidney.truth, marked.labels))
    return found, seconds


def row_of(courses: np.ndarray, clicks: int) -> dict[str, float]:
    """Means over kidneys of what `played` found, (kidneys, clicks + 1)."""
    row = {f"dsc_{n}": 100 * float(courses[:, n].mean()) for n in SHOWN if n <= clicks}
    for target in TARGETS:
        reached = courses >= target
        needed = np.where(reached.any(1), reached.argmax(1), clicks)
        row |= {
            f"noc_{100 * target:.0f}": float(needed.mean()),
            f"failed_{100 * target:.0f}": int((~reached.any(1)).sum()),
        }
    return row


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]], stage: int | None = None, clicks: int = 20, threads: int = 2
) -> None:
    """Play, print and keep the rows."""
    rows = []
    for run in runs:
        models, cases = tested(run, stage)
        found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for kidney in (kidney for case in cases for kidney in kidneys(case, models, threads)):
            for way in WAYS:
                course, took = played(kidney, way, clicks)
                found[way].append(course)
                seconds[way] += took
        for way, courses in found.items():
            where = {
                **about(),
                "run": run.name,
                "stage": stage or "last",
                "way": way,
                "kidneys": len(courses),
            }
            median_s = {"seconds_a_click": float(np.median(seconds[way]))}
            rows.append({**where, "kidneys": len(courses), **row_of(np.array(courses), clicks), **median_s})
            say(rows[-1])
    append_rows("clicks", rows)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
