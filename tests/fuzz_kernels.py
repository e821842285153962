"""Many random examples of the kernels' properties, more than a test run has time for; says how many it ran.

python tests/fuzz_kernels.py [--examples 100000] [--seed N]: components, boxes and crops against SciPy.
Every example draws shape, dtype, layout, density, connectivity and threads. Exit code 1 at the first one
that differs; its seed is printed and gives it again with --examples 1.
"""

import argparse
import sys
import time
import traceback

import numpy as np
from kernel_oracles import DTYPES, RANK, box_oracle, label_oracle, layouts, random_labels
from scipy import ndimage

from kidseg_jax import kernels


def example(seed: int) -> None:
    """One random example; raises AssertionError where a kernel and its oracle differ."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (*rng.integers(0, 6, 2), rng.choice([0, 1, 3, 9, 63, 64, 65, 130])))
    labels = random_labels(rng, shape, DTYPES[rng.integers(len(DTYPES))], classes=int(rng.integers(1, 4)))
    views = layouts(labels)
    view = views[sorted(views)[rng.integers(len(views))]]
    connectivity, threads = int(rng.choice(list(RANK))), int(rng.integers(1, 5))
    expected, n = label_oracle(labels, connectivity)
    found, count = kernels.label_components(view, connectivity, threads=threads)
    assert count == n, "count"
    np.testing.assert_array_equal(found, expected)
    sizes = np.bincount(expected.ravel(), minlength=n + 1)
    np.testing.assert_array_equal(
        kernels.component_stats(view, connectivity, threads=threads).voxels, sizes[1:]
    )
    sizes[0] = 0
    small = kernels.remove_small(view, 3, connectivity=connectivity, threads=threads)
    np.testing.assert_array_equal(small, np.where(sizes[expected] >= 3, labels, 0))
    assert kernels.bounding_box(view) == box_oracle(labels), "bounding box"
    if labels.size:
        holes = np.asarray(ndimage.binary_fill_holes(labels != 0))
        np.testing.assert_array_equal(kernels.fill_holes(view) != 0, holes)
    lo = tuple(int(c) for c in rng.integers(-4, 8, 3))
    box = kernels.Box(lo, tuple(c + int(s) for c, s in zip(lo, rng.integers(0, 9, 3), strict=True)))  # pyright: ignore[reportArgumentType]
    padded = np.pad(labels, 20)
    inside = tuple(slice(a + 20, b + 20) for a, b in zip(*box, strict=True))
    np.testing.assert_array_equal(kernels.crop_roi(view, box), padded[inside])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.examples):
        try:
            example(seed)
        except Exception:
            traceback.print_exc()
            print(f"fuzz_kernels: seed {seed} failed")
            return 1
    print(f"{arguments.examples} examples passed in {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
