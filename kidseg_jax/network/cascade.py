"""From a CT to labels on its own grid: a coarse net finds the kidneys, a fine net segments each one."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from kidseg_jax import kernels
from kidseg_jax.cohort.case import Side
from kidseg_jax.cohort.split import side_of
from kidseg_jax.config import NetConfig
from kidseg_jax.imaging.postprocess import DEFAULT, NOTHING, Rules
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.imaging.volume import Volume, as_int16, canonical, pasted
from kidseg_jax.network.augment import to_window
from kidseg_jax.network.found_kidney import FoundKidney, after_rules, label_kidney
from kidseg_jax.network.models import N_COARSE, Models
from kidseg_jax.network.roi import MOST_GROWTHS, Roi, coarse_grid, fine_roi, grown, sample_ct
from kidseg_jax.network.runtime import compiler_options, named_memory
from kidseg_jax.network.tiles import slide
from kidseg_jax.network.unet import Params, make_unet

SIDES: tuple[Side, ...] = ("right", "left")
SMALLEST_KIDNEY_ML = 15.0


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
    the networks' sizes go to the device, so that no program is compiled for the size of a CT. A kidney that
    touches a face of its ROI gets a larger one, at most twice. rules: of the post-processing; the largest
    kidney is chosen among the scores, the others rule over labels. Raises ValueError where the CT holds NaN
    or the device's memory is too small.
    Source: Kim et al. 2020, Methods: a first 3-D U-Net finds the kidney's box, a second segments inside it.
    """
    threads = threads or os.cpu_count() or 1
    lap = _stopwatch(laps_s)
    turned = canonical(ct.with_array(as_int16("CT", ct.array)))
    rois = find_kidneys(models, turned, threads, lap)
    lap("boxes")
    found = []
    if rois:
        images = np.stack([sample_ct(turned.array, turned.spacing_mm, roi, threads) for _, roi in rois])
        lap("crop")
        logits = _logits(models.fine_net, N_CLASSES, models.fine)(images)
        whole = [_whole(models, turned, roi, s, threads) for (_, roi), s in zip(rois, logits, strict=True)]
        lap("fine")
        each = partial(label_kidney, turned, threads=threads, largest_only=rules.largest_kidney)
        with ThreadPoolExecutor(min(threads, len(rois))) as pool:
            found = list(pool.map(each, [side for side, _ in rois], *zip(*whole, strict=True)))
        if rules not in (NOTHING, DEFAULT):
            found = after_rules(found, turned, rules)
    labels = pasted([(kidney.lo, kidney.labels) for kidney in found], ct, threads)
    lap("export")
    return Prediction(labels, tuple(found))


def _stopwatch(laps_s: dict[str, float] | None) -> Callable[[str], None]:
    began = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began
        now = time.perf_counter()
        if laps_s is not None:
            laps_s[name] = now - began
        began = now

    return lap


def find_kidneys(
    models: Models, ct: Volume, threads: int = 1, lap: Callable[[str], None] = lambda name: None
) -> list[tuple[Side, Roi]]:
    """The fine net's ROI of each kidney the coarse net sees in a canonical CT, right before left, or none.

    The largest component of each side of the body counts, from SMALLEST_KIDNEY_ML on.
    """
    net = models.coarse_net
    grid = coarse_grid(net, ct.array.shape, ct.spacing_mm)
    sampled = sample_ct(ct.array, ct.spacing_mm, grid, threads)
    lap("upload")
    labels = slide(_logits(net, N_COARSE, models.coarse), sampled, net.patch).argmax(-1).astype(np.uint8)
    lap("coarse")
    stats = kernels.component_stats(labels, threads=threads)
    of_side: dict[Side, Roi] = {}
    for i in np.argsort(-stats.voxels, kind="stable"):
        if stats.voxels[i] * net.spacing_mm**3 < 1000 * SMALLEST_KIDNEY_ML:
            break
        centre = grid.to_mm((stats.lo[i] + stats.hi[i] - 1) / 2)
        extent = [np.round(np.array(grid.to_mm(end)) / ct.spacing_mm) for end in (stats.lo[i], stats.hi[i])]
        lo, hi = (np.clip(e, 0, np.array(ct.array.shape) - 1).astype(int) for e in extent)
        side = side_of(ct, lo, hi + 1, centre[2] / ct.spacing_mm[2])
        of_side.setdefault(side, fine_roi(models.fine_net, centre, side))
    return [(side, of_side[side]) for side in SIDES if side in of_side]


def _whole(models: Models, ct: Volume, roi: Roi, scores: np.ndarray, threads: int) -> tuple[Roi, np.ndarray]:
    """An ROI and its logits, larger where the kidney reached a face behind which the CT goes on."""
    net = models.fine_net
    for _ in range(MOST_GROWTHS):
        larger = grown(roi, scores, ct.array.shape, ct.spacing_mm)
        if larger == roi:
            break
        roi, sampled = larger, sample_ct(ct.array, ct.spacing_mm, larger, threads)
        scores = slide(_logits(net, N_CLASSES, models.fine), sampled, net.patch)
    return roi, scores


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
