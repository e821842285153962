"""From a CT to labels on its own grid: a coarse net finds the kidneys, a fine net segments each one."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax.cohort.case import Side
from kidseg_jax.cohort.split import side_of
from kidseg_jax.config import NetConfig
from kidseg_jax.imaging.postprocess import DEFAULT, NOTHING, Rules
from kidseg_jax.imaging.structures import N_CLASSES, PARENCHYMA, RCC, STRUCTURES
from kidseg_jax.imaging.volume import Volume, as_int16, canonical, pasted
from kidseg_jax.network.augment import to_window
from kidseg_jax.network.candidates import (
    SIDES,
    Candidate,
    Seen,
    agreed,
    candidates_in,
    is_kidney,
    is_uncertain,
    likeliest,
    traits_of,
    unlike,
)
from kidseg_jax.network.found_kidney import FoundKidney, after_rules, label_kidney
from kidseg_jax.network.losses import NEVER
from kidseg_jax.network.models import N_COARSE, Models
from kidseg_jax.network.roi import MOST_GROWTHS, Point, Roi, about_kidney, coarse_grid, grown, sample_ct
from kidseg_jax.network.runtime import compiler_options, named_memory
from kidseg_jax.network.tiles import slide
from kidseg_jax.network.unet import Params, make_unet


@dataclass(frozen=True)
class Prediction:
    """Labels on the CT's own grid (all zero when no kidney was found), and the kidneys they are made of."""

    labels: Volume
    kidneys: tuple[FoundKidney, ...]


def predict(
    models: Models,
    ct: Volume,
    threads: int | None = None,
    laps_s: dict[str, float] | None = None,
    rules: Rules = DEFAULT,
) -> Prediction:
    """Labels of the five structures for a CT in HU (z, y, x), on exactly its grid.

    threads: for the C++ kernels, None takes every core. laps_s, if given, is filled with the seconds of each
    part: upload (the CT in order and on the coarse grid), coarse, boxes, crop, fine and export. Only grids of
    the networks' sizes go to the device, so that no program is compiled for the size of a CT. The fine net
    looks once more where it sees the kidney's middle away from the coarse net's; a kidney that then touches
    a face of its ROI gets a larger one, at most twice. Where what is found is no kidney, the next
    piece that the coarse net saw on that side is looked at, and so it is where two kidneys' HU are too far
    apart for one patient. rules: of the post-processing; the largest kidney is chosen among the scores, the
    others rule over labels. Raises ValueError where the CT holds NaN or the device's memory is too small.
    Source: Kim et al. 2020, Methods: a first 3-D U-Net finds the kidney's box, a second segments inside it.
    """
    threads = threads or os.cpu_count() or 1
    lap = _stopwatch(laps_s)
    turned = canonical(ct.with_array(as_int16("CT", ct.array)))
    waiting = find_kidneys(models, turned, threads, lap)
    lap("boxes")
    seen: dict[Side, Seen] = {}
    while looked_at := likeliest(waiting):
        looks = _look(models, turned, looked_at, threads, lap, rules)
        seen |= {one.kidney.side: one for one in looks if is_kidney(one.traits)}
        if (other := unlike(seen)) is not None:
            del seen[other]
        waiting = [c for c in waiting if c not in looked_at and c.side not in seen]
    kidneys = [
        replace(seen[side].kidney, uncertain=is_uncertain(seen[side])) for side in SIDES if side in seen
    ]
    if rules not in (NOTHING, DEFAULT):
        kidneys = after_rules(kidneys, turned, rules)
    labels = pasted([(kidney.lo, kidney.labels) for kidney in kidneys], ct, threads)
    lap("export")
    return Prediction(labels, tuple(kidneys))


def scores_in(models: Models, ct: Volume, roi: Roi, threads: int = 1) -> tuple[Roi, np.ndarray]:
    """The fine network's logits (z, y, x, c) of an ROI of a canonical CT in int16 HU, and their grid, finer
    where the network looks more than once.
    """
    if models.fine_net.looks > 1:
        return roi.finer(models.fine_net.looks), _looked(models, ct, roi, threads)
    sampled = sample_ct(ct.array, ct.spacing_mm, roi, threads)
    return roi, slide(_fine_logits(models), sampled, models.fine_net.patch)


def _stopwatch(laps_s: dict[str, float] | None) -> Callable[[str], None]:
    began = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began
        now = time.perf_counter()
        if laps_s is not None:
            laps_s[name] = laps_s.get(name, 0.0) + now - began
        began = now

    return lap


def find_kidneys(
    models: Models, ct: Volume, threads: int = 1, lap: Callable[[str], None] = lambda name: None
) -> list[Candidate]:
    """Where the coarse net sees what may be a kidney in a canonical CT, surest and then largest first."""
    net = models.coarse_net
    grid = coarse_grid(net, ct.array.shape, ct.spacing_mm)
    sampled = sample_ct(ct.array, ct.spacing_mm, grid, threads)
    lap("upload")
    scores = slide(_logits(net, N_COARSE, models.coarse), sampled, net.patch)
    margin = scores[..., 1:].max(-1) - scores[..., 0]
    lap("coarse")

    def side_at(lo_mm: Point, hi_mm: Point, centre_mm: Point) -> Side:
        ends = (np.round(np.array(end) / ct.spacing_mm) for end in (lo_mm, hi_mm))
        lo, hi = (np.clip(end, 0, np.array(ct.array.shape) - 1).astype(int) for end in ends)
        return side_of(ct, lo, hi + 1, centre_mm[2] / ct.spacing_mm[2])

    return candidates_in(margin, grid, models.fine_net, side_at)


def _look(
    models: Models,
    ct: Volume,
    candidates: Sequence[Candidate],
    threads: int,
    lap: Callable[[str], None],
    rules: Rules,
) -> list[Seen]:
    """What the fine net sees at each candidate."""
    scores = _scores(models, ct, candidates, threads, lap)
    centred = [
        replace(c, roi=about_kidney(models.fine_net, c.side, c.roi, s))
        for c, s in zip(candidates, scores, strict=True)
    ]
    if any(a.roi != b.roi for a, b in zip(candidates, centred, strict=True)):
        candidates, scores = centred, _scores(models, ct, centred, threads, lap)
    whole = [_whole(models, ct, c, s, threads) for c, s in zip(candidates, scores, strict=True)]
    finest = [_finest(models, ct, c, *one, threads) for c, one in zip(candidates, whole, strict=True)]
    lap("fine")

    def labelled(candidate: Candidate, whole: tuple[Roi, np.ndarray], finest: tuple[Roi, np.ndarray]) -> Seen:
        kidney = label_kidney(ct, candidate.side, *finest, threads, rules.largest_kidney)
        return Seen(kidney, traits_of(kidney, candidate, *whole, ct))

    with ThreadPoolExecutor(min(threads, len(candidates))) as pool:
        looks = list(pool.map(labelled, candidates, whole, finest))
    lap("export")
    return looks


def _scores(
    models: Models, ct: Volume, candidates: Sequence[Candidate], threads: int, lap: Callable[[str], None]
) -> list[np.ndarray]:
    """Logits of each candidate's ROI, all in one batch."""
    images = np.stack([sample_ct(ct.array, ct.spacing_mm, c.roi, threads) for c in candidates])
    lap("crop")
    logits = _fine_logits(models)(images)
    lap("fine")
    return [agreed(c, c.roi, scores) for c, scores in zip(candidates, logits, strict=True)]


def _whole(
    models: Models, ct: Volume, candidate: Candidate, scores: np.ndarray, threads: int
) -> tuple[Roi, np.ndarray]:
    """A candidate's ROI and its logits, larger where its kidney reached a face where the CT goes on."""
    net, roi = models.fine_net, candidate.roi
    for _ in range(MOST_GROWTHS):
        larger = grown(roi, scores, ct.array.shape, ct.spacing_mm)
        if larger == roi:
            break
        roi, sampled = larger, sample_ct(ct.array, ct.spacing_mm, larger, threads)
        scores = slide(_fine_logits(models), sampled, net.patch)
        scores = agreed(candidate, roi, scores)
    return roi, scores


def _finest(
    models: Models, ct: Volume, candidate: Candidate, roi: Roi, scores: np.ndarray, threads: int
) -> tuple[Roi, np.ndarray]:
    """The same ROI and logits, finer where the network looks more than once and sees a kidney."""
    looks = models.fine_net.looks
    if looks == 1 or not (scores.argmax(-1) >= PARENCHYMA).any():
        return roi, scores
    finer = roi.finer(looks)
    return finer, agreed(candidate, finer, _looked(models, ct, roi, threads))


def _looked(models: Models, ct: Volume, roi: Roi, threads: int) -> np.ndarray:
    """Logits of an ROI's parts, `looks` along each axis, each from a look at the ROI moved there."""
    net = models.fine_net
    scores = np.zeros((*roi.finer(net.looks).shape, N_CLASSES), np.float32)
    for part in product(range(net.looks), repeat=3):
        moved = roi.moved([(p - (net.looks - 1) / 2) / net.looks for p in part])
        sampled = sample_ct(ct.array, ct.spacing_mm, moved, threads)
        z, y, x = (slice(p, None, net.looks) for p in part)
        scores[z, y, x] = slide(_fine_logits(models), sampled, net.patch)
    return scores


def _fine_logits(models: Models) -> Callable[[np.ndarray], np.ndarray]:
    """The fine network's logits; a withheld RCC is told as parenchyma, another structure as background."""
    of, labels = _logits(models.fine_net, N_CLASSES, models.fine), {s.name: s.label for s in STRUCTURES}

    def told(hu: np.ndarray) -> np.ndarray:
        scores = of(hu)
        if models.withheld:
            scores = scores.copy()
        for label in map(labels.__getitem__, models.withheld):
            other = PARENCHYMA if label == RCC else 0
            scores[..., other] = np.logaddexp(scores[..., other], scores[..., label])
            scores[..., label] = NEVER
        return scores

    return told


def _logits(net: NetConfig, n_classes: int, params: Params) -> Callable[[np.ndarray], np.ndarray]:
    """From HU (b, *patch) to logits (b, *patch, c), both on the host."""

    def of(hu: np.ndarray) -> np.ndarray:
        with named_memory("predict", net, len(hu)):
            return np.asarray(_jitted(net, n_classes)(params, hu))

    return of


@lru_cache
def _jitted(net: NetConfig, n_classes: int) -> Callable[[Params, np.ndarray], jax.Array]:
    apply, _ = make_unet(net, n_classes, seed=0)

    def logits(params: Params, hu: np.ndarray) -> jax.Array:
        return apply(params, to_window(jnp.asarray(hu), net.window_hu)[..., None])

    return jax.jit(logits, compiler_options=compiler_options())
