"""How long does one case take, from an int16 CT in memory to labels on its own grid?

    python benchmarks/inference_latency.py [--model RUN] [--slices 100 300 600] [--preset demo]

The CT is a phantom with two kidneys on a grid of 512 x 512 x SLICES. Without --model the networks have random
weights, and what they call a kidney is chance: time a trained model. The first call, which compiles, stands
apart; medians of --repeats calls after it. Rows go to benchmarks/results/.
"""

import argparse
import resource
import statistics
import time
from pathlib import Path

import numpy as np
from rows import about, append_rows

from kidseg_jax.config import PRESETS, CohortConfig
from kidseg_jax.imaging.phantom import make_case, plan_cohort
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.network.cascade import N_COARSE, Models, load_models, predict
from kidseg_jax.network.runtime import describe_device, keep_compiled
from kidseg_jax.network.unet import make_unet

IN_PLANE = 512


def phantom_ct(slices: int) -> Volume:
    """A phantom with two kidneys, its voxels repeated onto a grid of slices x 512 x 512."""
    config = CohortConfig()
    index = next(i for i, plan in enumerate(plan_cohort(config, 0)) if len(plan.sides) == 2)
    ct = make_case(config, 0, index).ct
    shape = (slices, IN_PLANE, IN_PLANE)
    chosen = [np.arange(n) * have // n for n, have in zip(shape, ct.array.shape, strict=True)]
    spacing = tuple(s * have / n for s, have, n in zip(ct.spacing_mm, ct.array.shape, shape, strict=True))
    array = ct.array[np.ix_(*chosen)]
    return Volume(array, Geometry(shape, spacing, ct.geometry.origin_mm))  # pyright: ignore[reportArgumentType]


def random_models(preset: str) -> Models:
    """The preset's networks with the weights they start from."""
    config = PRESETS[preset]
    coarse, fine = make_unet(config.coarse, N_COARSE, 0)[1], make_unet(config.fine, N_CLASSES, 0)[1]
    return Models(config.coarse, config.fine, coarse, fine)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="run directory; random weights without it")
    parser.add_argument(
        "--preset", choices=list(PRESETS), default="demo", help="networks when there is no --model"
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 300, 600])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    keep_compiled()
    models = load_models(arguments.model) if arguments.model else random_models(arguments.preset)
    rows = []
    for slices in arguments.slices:
        ct = phantom_ct(slices)
        began = time.perf_counter()
        kidneys = len(predict(models, ct).kidneys)
        first_s = time.perf_counter() - began
        totals, laps = [], []
        for _ in range(arguments.repeats):
            lap: dict[str, float] = {}
            began = time.perf_counter()
            predict(models, ct, laps_s=lap)
            totals.append(time.perf_counter() - began)
            laps.append(lap)
        parts = {f"{name}_s": statistics.median(lap[name] for lap in laps) for name in laps[0]}
        row = {
            **about(),
            "device": describe_device(),
            "networks": str(arguments.model.name)
            if arguments.model
            else f"{arguments.preset}, random weights",
            "size": f"512x512x{slices}",
            "kidneys": kidneys,
            "n": arguments.repeats,
            "total_s": statistics.median(totals),
            "spread_s": max(totals) - min(totals),
            **{f"{name}_s": parts.get(f"{name}_s", 0.0) for name in ("coarse", "crop", "fine", "paste")},
            "first_call_s": first_s,
            "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }
        rows.append(row)
        print(
            " ".join(f"{k}={v:.3f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()),
            flush=True,
        )
    append_rows("inference_latency", rows)


if __name__ == "__main__":
    main()
