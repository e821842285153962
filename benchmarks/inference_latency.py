"""How long does one case take, from an int16 CT in memory to labels on its own grid?

    python benchmarks/inference_latency.py [--model RUN] [--slices 100 300 600] [--presets demo gpu]

The CT is a phantom with two kidneys on a grid of 512 x 512 x SLICES. Without --model the networks have the
random weights they start from: the coarse one runs, and the boxes are then those of the phantom's kidneys; no
box grows. The first call, which compiles, stands apart; medians of --repeats calls after it. Peak memory is
the process's, the CT and sizes before included. Rows go to benchmarks/results/inference_latency.csv.
"""

import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rows import about, append_rows, say

from kidseg_jax.cohort.case import Side
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import PRESETS, CohortConfig
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.kernels import Box
from kidseg_jax.network import cascade
from kidseg_jax.network.candidates import Candidate
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import N_COARSE, Models, load_models
from kidseg_jax.network.roi import box_centre_mm, fine_roi
from kidseg_jax.network.runtime import describe_device, keep_freed_memory, take_device
from kidseg_jax.network.unet import make_unet
from kidseg_jax.phantom.cohort import make_case, plan_cohort

IN_PLANE = 512


PARTS = ("upload", "coarse", "boxes", "crop", "fine", "export")


def phantom_ct(slices: int) -> tuple[Volume, dict[Side, Box]]:
    """A phantom with two kidneys, its voxels repeated onto a grid of slices x 512 x 512, and their boxes."""
    config = CohortConfig()
    index = next(i for i, plan in enumerate(plan_cohort(config, 0)) if len(plan.sides) == 2)
    case = make_case(config, 0, index)
    ct, shape = case.ct, (slices, IN_PLANE, IN_PLANE)
    chosen = [np.arange(n) * have // n for n, have in zip(shape, ct.array.shape, strict=True)]
    spacing = tuple(s * have / n for s, have, n in zip(ct.spacing_mm, ct.array.shape, shape, strict=True))
    scale = np.array(shape) / ct.array.shape
    boxes: dict[Side, Box] = {
        k.side: Box(*(tuple((end * scale).astype(int)) for end in k.box)) for k in kidneys_of(case)
    }
    array = ct.array[np.ix_(*chosen)]
    return Volume(array, Geometry(shape, spacing, ct.geometry.origin_mm)), boxes  # pyright: ignore[reportArgumentType]


def random_models(preset: str) -> Models:
    """The preset's networks with the weights they start from."""
    config = PRESETS[preset]
    coarse, fine = make_unet(config.coarse, N_COARSE, 0)[1], make_unet(config.fine, N_CLASSES, 0)[1]
    return Models(config.coarse, config.fine, coarse, fine)


@contextmanager
def known_boxes(boxes: dict[Side, Box]) -> Iterator[None]:
    """The coarse network does its work, but the boxes are these; none grows."""
    find, growths = cascade.find_kidneys, cascade.MOST_GROWTHS

    def found(models: Models, ct: Volume, *rest: Any) -> list[Candidate]:
        find(models, ct, *rest)
        rois = (
            fine_roi(models.fine_net, box_centre_mm(box, ct.spacing_mm), side) for side, box in boxes.items()
        )
        return [
            Candidate("left" if r.mirrored else "right", r, r, np.ones(r.shape, bool), np.ones(r.shape, bool))
            for r in rois
        ]

    cascade.find_kidneys, cascade.MOST_GROWTHS = found, 0
    try:
        yield
    finally:
        cascade.find_kidneys, cascade.MOST_GROWTHS = find, growths


def measure(models: Models, name: str, slices: int, repeats: int, knows_boxes: bool) -> dict[str, Any]:
    """The row of one CT: medians of the whole and of its parts, in s."""
    ct, boxes = phantom_ct(slices)
    totals, laps = [], []
    with known_boxes(boxes) if knows_boxes else nullcontext():
        began = time.perf_counter()
        kidneys = len(predict(models, ct).kidneys)
        first_s = time.perf_counter() - began
        for _ in range(repeats):
            lap: dict[str, float] = {}
            began = time.perf_counter()
            predict(models, ct, laps_s=lap)
            totals.append(time.perf_counter() - began)
            laps.append(lap)
    total = statistics.median(totals)
    parts = {f"{part}_s": statistics.median(lap.get(part, 0.0) for lap in laps) for part in PARTS}
    return {
        **about(),
        "device": describe_device(),
        "networks": name,
        "size": f"512x512x{slices}",
        "kidneys": kidneys,
        "n": repeats,
        "total_s": total,
        "spread_s": max(totals) - min(totals),
        **parts,
        "export_share": parts["export_s"] / total,
        "first_call_s": first_s,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def print_floors(row: dict[str, Any], preset: str, slices: int) -> None:
    """Whether what was asked of this row held."""
    said = [("export at most 20 % of the total", row["export_share"] <= 0.2)]
    if slices >= 600:
        said.append(("peak host memory under 4 GB", row["peak_gb"] < 4))
    is_cpu = row["device"].startswith("cpu")
    if slices == 300 and preset == "demo":
        most = 3.0 if is_cpu else 0.15
        said.append((f"at most {most:g} s", row["total_s"] <= most))
    if slices == 300 and preset == "gpu" and not is_cpu:
        said.append(("under 1 s", row["total_s"] < 1))
    for floor, held in said:
        print(f"  {floor}: {'holds' if held else 'does not hold'}", flush=True)


def main(
    model: Path | None = None,
    presets: tuple[Literal["demo", "paper", "gpu", "start"], ...] = ("demo", "gpu"),
    slices: tuple[int, ...] = (100, 300, 600),
    repeats: int = 5,
) -> None:
    """Measure, print and keep; presets: the networks where there is no run as a model."""
    take_device()  # as the commands do
    keep_freed_memory()
    rows = []
    for preset in ["run"] if model else presets:
        models = load_models(model) if model else random_models(preset)
        name = model.name if model else f"{preset}, random weights, true boxes"
        for n in sorted(slices):
            row = measure(models, name, n, repeats, knows_boxes=not model)
            rows.append(row)
            say(row)
            print_floors(row, "demo" if preset == "run" else preset, n)
    append_rows("inference_latency", rows)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
