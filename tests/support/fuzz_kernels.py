"""Many random examples of the kernels' properties, more than a test run has time for; says how many it ran.

python tests/support/fuzz_kernels.py [--examples 100000] [--seed N] [--keep]: components, clean-up, boxes,
crops, pastes and surfaces against SciPy and brute force. Every example draws shape, dtype, layout, density,
connectivity and threads. Exit code 1 at the first one that differs; its seed is printed and gives it again
with --examples 1. Parts of a run start at --seed; --keep adds the count to benchmarks/results/fuzz.csv.
"""

import argparse
import sys
import time
import traceback
from pathlib import Path

import numpy as np
from kernel_oracles import (
    DTYPES,
    RANK,
    border_oracle,
    box_oracle,
    distances_oracle,
    label_oracle,
    largest,
    layouts,
    random_labels,
)
from scipy import ndimage

from kidseg_jax import kernels

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import rows  # pyright: ignore[reportMissingImports]

LENGTHS = (0, 1, 3, 9, 63, 64, 65, 130)  # along one axis, around the words of 64 voxels


def example(seed: int) -> None:
    """One random example; raises AssertionError where a kernel and its oracle differ."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.permutation([*rng.integers(0, 6, 2), rng.choice(LENGTHS)]))
    labels = random_labels(rng, shape, DTYPES[rng.integers(len(DTYPES))], classes=int(rng.integers(1, 4)))
    if rng.random() < 0.05:  # checkerboard
        labels = (labels * (np.indices(shape).sum(0) % 2)).astype(labels.dtype)
    views = layouts(labels)
    view = views[sorted(views)[rng.integers(len(views))]]
    components(labels, view, int(rng.choice(list(RANK))), int(rng.integers(1, 5)))
    boxes(labels, view, rng)
    if rng.random() < 0.25:
        surfaces(labels, view, rng)


def components(labels: np.ndarray, view: np.ndarray, connectivity: int, threads: int) -> None:
    expected, n = label_oracle(labels, connectivity)
    found, count = kernels.label_components(view, connectivity, threads=threads)
    assert count == n, "count"
    np.testing.assert_array_equal(found, expected)
    sizes = np.bincount(expected.ravel(), minlength=n + 1)
    stats = kernels.component_stats(view, connectivity, threads=threads)
    np.testing.assert_array_equal(stats.voxels, sizes[1:])
    found_boxes = [[(s.start, s.stop) for s in box] for box in (ndimage.find_objects(expected) if n else [])]
    boxes = np.reshape(found_boxes, (-1, 3, 2))
    np.testing.assert_array_equal(stats.lo, boxes[..., 0])
    np.testing.assert_array_equal(stats.hi, boxes[..., 1])
    np.testing.assert_array_equal(stats.label[expected[expected > 0] - 1], labels[expected > 0])
    kept = np.concatenate([[False], largest(1)(sizes[1:], stats.label)])
    np.testing.assert_array_equal(
        kernels.keep_largest(view, connectivity=connectivity, threads=threads),
        np.where(kept[expected], labels, 0),
    )
    sizes[0] = 0
    small = kernels.remove_small(view, 3, connectivity=connectivity, threads=threads)
    np.testing.assert_array_equal(small, np.where(sizes[expected] >= 3, labels, 0))
    if labels.size:
        holes = np.asarray(ndimage.binary_fill_holes(labels != 0))
        np.testing.assert_array_equal(kernels.fill_holes(view, threads=threads) != 0, holes)


def boxes(labels: np.ndarray, view: np.ndarray, rng: np.random.Generator) -> None:
    assert kernels.bounding_box(view) == box_oracle(labels), "bounding box"
    lo = tuple(int(c) for c in rng.integers(-4, 8, 3))
    box = kernels.Box(lo, tuple(c + int(s) for c, s in zip(lo, rng.integers(0, 9, 3), strict=True)))  # pyright: ignore[reportArgumentType]
    inside = tuple(slice(a + 20, b + 20) for a, b in zip(*box, strict=True))
    padded = np.pad(labels, 20)
    roi = kernels.crop_roi(view, box)
    np.testing.assert_array_equal(roi, padded[inside])
    blank = np.zeros_like(view)
    kernels.paste_roi(blank, roi, box)
    expected = np.zeros_like(padded)
    expected[inside] = padded[inside]
    np.testing.assert_array_equal(blank, expected[tuple(slice(20, 20 + n) for n in labels.shape)])


def surfaces(labels: np.ndarray, view: np.ndarray, rng: np.random.Generator) -> None:
    other, spacing = np.roll(labels, 1, int(rng.integers(3))), tuple(rng.uniform(0.3, 4, 3))
    threads = int(rng.integers(1, 4))
    found = kernels.surface_distances(view, other, spacing, threads=threads)
    a, b = border_oracle(labels) * spacing, border_oracle(other) * spacing
    some = rng.permutation(len(a))[:20]
    np.testing.assert_allclose(found.a_to_b_mm[some], distances_oracle(a[some], b), rtol=1e-12)
    assert len(found.b_to_a_mm) == len(b), "surface elements"
    back = kernels.surface_distances(other, view, spacing, "triangle")
    triangles = kernels.surface_distances(view, other, spacing, "triangle", threads=threads)
    np.testing.assert_array_equal(triangles.a_to_b_mm, back.b_to_a_mm)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    start, cpu = time.perf_counter(), time.process_time()
    failures, seed = 0, arguments.seed
    for seed in range(arguments.seed, arguments.seed + arguments.examples):
        try:
            example(seed)
        except Exception:
            traceback.print_exc()
            print(f"fuzz_kernels: seed {seed} failed")
            failures = 1
            break
    passed = seed - arguments.seed + 1 - failures
    took = {
        "seconds": round(time.perf_counter() - start),
        "cpu_seconds": round(time.process_time() - cpu),
    }
    print(f"{passed} examples passed in {took['seconds']} s, {took['cpu_seconds']} s of processor time")
    if arguments.keep:
        row = (
            rows.about()
            | {"what": "kernels", "first_seed": arguments.seed, "examples": passed}
            | took
            | {"failures": failures}
        )
        print(f"kept in {rows.append_rows('fuzz', [row])}")
    return failures


if __name__ == "__main__":
    sys.exit(main())
