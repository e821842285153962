"""How much faster is `evaluate --scheme kits` than the KiTS23 recipe, on the same pairs, in the same run?

    python benchmarks/evaluate.py --data DIR [--workers 2] [--cases 4]

Pairs: in DIR/kits23_annotators each kidney's first annotator against its others; in DIR/kits19_labels each
map against itself moved by two voxels. The recipe is the challenge's, told in its own steps: SimpleITK reads
both maps, each region is built as a mask, Dice is counted, and the surface-distance package measures the
surface Dice; a pool of processes shares the pairs. Ours is `evaluate_folders` with as many threads. Needs the
extra `bench`. Both are timed with reading, from files in the page cache; imports and process start are not
counted. Largest difference of any figure is reported.
"""

import argparse
import csv
import os
import platform
import subprocess
import tempfile
import time
import warnings
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from kidseg_jax.evaluation.folders import evaluate_folders
from kidseg_jax.evaluation.kits import REGIONS
from kidseg_jax.evaluation.metrics import KITS_TOLERANCES_MM
from kidseg_jax.imaging.io import read_labels, write_volume

RESULTS = Path(__file__).parent / "results" / "evaluate.csv"
COLUMNS = (
    "pairs",
    "megavoxels",
    "workers",
    "recipe_s",
    "ours_s",
    "ratio",
    "recipe_cpu_s",
    "ours_cpu_s",
    "cpu_ratio",
    "largest_difference",
    "cpu",
    "commit",
)


def recipe(paths: tuple[str, str]) -> tuple[list[tuple[float, float]], float]:
    """(Dice, surface Dice) of the three regions of one pair, as KiTS23 computes them, and its CPU seconds."""
    import SimpleITK  # pyright: ignore[reportMissingImports]
    from surface_distance import compute_surface_dice_at_tolerance, compute_surface_distances  # pyright: ignore[reportMissingImports]

    warnings.simplefilter("ignore")
    began = time.process_time()
    images = [SimpleITK.ReadImage(path) for path in paths]
    predicted, truth = (SimpleITK.GetArrayFromImage(image) for image in images)
    spacing_mm = images[0].GetSpacing()[::-1]
    found = []
    for name, labels in REGIONS.items():
        masks = []
        for segmentation in (truth, predicted):
            mask = np.zeros(segmentation.shape, dtype=bool)
            for label in labels:
                mask[segmentation == label] = True
            masks.append(mask)
        a, b = masks
        if not a.any() or not b.any():
            found.append((float(a.any() == b.any()),) * 2)
            continue
        hits, false, missed = (a & b).sum(), (~a & b).sum(), (a & ~b).sum()
        distances = compute_surface_distances(a, b, spacing_mm)
        surface = compute_surface_dice_at_tolerance(distances, KITS_TOLERANCES_MM[name])
        found.append((2 * hits / (2 * hits + false + missed), surface))
    return found, time.process_time() - began


def lay_out(data: Path, folder: Path, cases: int) -> int:
    """Write the pairs as folder/pred and folder/truth; returns the number of voxels of all truths."""
    kidneys = sorted({path.name.rsplit("_", 1)[0] for path in (data / "kits23_annotators").glob("*.nii.gz")})
    pairs = []
    for kidney in kidneys:
        first, *others = sorted((data / "kits23_annotators").glob(f"{kidney}_*.nii.gz"))
        pairs += [(f"{kidney}_{index}", first, other) for index, other in enumerate(others)]
    (folder / "pred").mkdir()
    (folder / "truth").mkdir()
    for name, first, other in pairs:
        (folder / "truth" / f"{name}.nii.gz").write_bytes(first.read_bytes())
        (folder / "pred" / f"{name}.nii.gz").write_bytes(other.read_bytes())
    maps = sorted((data / "kits19_labels").glob("*.nii.gz"), key=lambda path: path.stat().st_size)[:cases]
    for path in maps:
        (folder / "truth" / path.name).write_bytes(path.read_bytes())
        labels = read_labels(path)
        write_volume(folder / "pred" / path.name, labels.with_array(np.roll(labels.array, 2, axis=1)))
    return sum(read_labels(path).array.size for path in (folder / "truth").iterdir())


def main() -> None:
    """Time both on the same files and add a row to the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with kits23_annotators and kits19_labels"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--cases", type=int, default=4, help="how many of the KiTS19 maps, smallest file first"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        voxels = lay_out(arguments.data, folder, arguments.cases)
        names = sorted(path.name for path in (folder / "pred").iterdir())
        paths = [(str(folder / "pred" / name), str(folder / "truth" / name)) for name in names]
        with get_context("spawn").Pool(arguments.workers) as pool:
            pool.map(recipe, [min(paths, key=lambda pair: Path(pair[0]).stat().st_size)] * arguments.workers)
            began = time.perf_counter()
            theirs = pool.map(recipe, paths, chunksize=1)
            recipe_s = time.perf_counter() - began
        began, began_cpu = time.perf_counter(), time.process_time()
        found = evaluate_folders(folder / "pred", folder / "truth", "kits", threads=arguments.workers)
        ours_s, ours_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    assert not found.failures, found.failures
    ours = np.array([(record["dice"], record["surface_dice"]) for record in found.records]).reshape(-1, 3, 2)
    difference = float(np.abs(ours - np.array([figures for figures, _ in theirs])).max())
    recipe_cpu_s = sum(seconds for _, seconds in theirs)
    row = (len(names), voxels // 10**6, arguments.workers, round(recipe_s, 2), round(ours_s, 2))
    row += (round(recipe_s / ours_s, 1), round(recipe_cpu_s, 2), round(ours_cpu_s, 2))
    row += (round(recipe_cpu_s / ours_cpu_s, 1), f"{difference:.1e}", cpu_name(), commit())
    print(dict(zip(COLUMNS, row, strict=True)))
    RESULTS.parent.mkdir(exist_ok=True)
    new = not RESULTS.exists()
    with open(RESULTS, "a", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([COLUMNS, row] if new else [row])


def cpu_name() -> str:
    """The processor's name, where the system says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def commit() -> str:
    """The short git commit of this checkout, or "" outside one."""
    here = Path(__file__).parent
    said = subprocess.run(["git", "-C", here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return said.stdout.strip()


if __name__ == "__main__":
    main()
