"""How much faster is `evaluate --scheme kits` than the KiTS23 recipe, on the same pairs, in the same run?

    python benchmarks/evaluate.py --data DIR [--workers 2] [--cases 4] [--repeats 3]

Pairs: in DIR/kits23_annotators each kidney's first annotator against its others; in DIR/kits19_labels each
map against itself moved by two voxels. The recipe is the challenge's, told in its own steps: SimpleITK reads
both maps, each region is built as a mask, Dice is counted, and the surface-distance package measures the
surface Dice; a pool of processes shares the pairs. Ours is `evaluate_folders` with as many threads. Needs the
extra `bench`. Both are timed with reading, from files in the page cache; imports and process start are not
counted. They take turns --repeats times; medians are compared. Reading alone is also timed for both, as
processor time. Floors: unpacking every file once with zlib (its checksum with it), and reading every voxel
of every map once at one byte each. The largest difference of any figure is reported. A row goes to
benchmarks/results/evaluate.csv.
"""

import gzip
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rows import about, append_rows

from kidseg_jax.evaluation.folders import evaluate_folders
from kidseg_jax.evaluation.kits import REGIONS
from kidseg_jax.evaluation.metrics import KITS_TOLERANCES_MM
from kidseg_jax.formats.volumes import read_labels, write_volume

BLOCK_BYTES = 1 << 18


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


def lay_out(data: Path, folder: Path, cases: int) -> None:
    """Write the pairs as folder/pred and folder/truth."""
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


def recipe_reads(paths: list[Path]) -> None:
    """Read every map as the recipe does."""
    import SimpleITK  # pyright: ignore[reportMissingImports]

    for path in paths:
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def ours_reads(paths: list[Path]) -> None:
    """Read every map as `evaluate` does."""
    for path in paths:
        read_labels(path)


def unpack(paths: list[Path]) -> None:
    """Unpack every file once into a block that is used again and again."""
    block = bytearray(BLOCK_BYTES)
    for path in paths:
        with gzip.open(path) as stream:
            while stream.readinto(block):  # pyright: ignore[reportAttributeAccessIssue]
                pass


def cpu_seconds(work: Callable[[], Any]) -> float:
    """Processor time of some work in this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def compare(folder: Path, workers: int, repeats: int) -> dict[str, Any]:
    """One row: the recipe and ours in turn over the pairs of a folder, medians."""
    names = sorted(path.name for path in (folder / "pred").iterdir())
    pairs = [(str(folder / "pred" / name), str(folder / "truth" / name)) for name in names]
    times: dict[str, list[float]] = {key: [] for key in ("recipe", "ours", "recipe_cpu", "ours_cpu")}
    worst = 0.0
    with get_context("spawn").Pool(workers) as pool:
        smallest = min(pairs, key=lambda pair: Path(pair[0]).stat().st_size)
        pool.map(recipe, [smallest] * workers * 2, chunksize=1)  # imports and first use
        evaluate_folders(folder / "pred", folder / "truth", "kits", threads=workers)
        for _ in range(repeats):
            began = time.perf_counter()
            theirs = pool.map(recipe, pairs, chunksize=1)
            times["recipe"].append(time.perf_counter() - began)
            times["recipe_cpu"].append(sum(seconds for _, seconds in theirs))
            began, began_cpu = time.perf_counter(), time.process_time()
            found = evaluate_folders(folder / "pred", folder / "truth", "kits", threads=workers)
            times["ours"].append(time.perf_counter() - began)
            times["ours_cpu"].append(time.process_time() - began_cpu)
            assert not found.failures, found.failures
            ours = [(record["dice"], record["surface_dice"]) for record in found.records]
            expected = np.array([figures for figures, _ in theirs])
            worst = max(worst, float(np.abs(np.reshape(ours, (-1, 3, 2)) - expected).max()))
    middle = {key: statistics.median(seconds) for key, seconds in times.items()}
    return {
        "pairs": len(names),
        "recipe_s": middle["recipe"],
        "ours_s": middle["ours"],
        "ratio": middle["recipe"] / middle["ours"],
        "recipe_cpu_s": middle["recipe_cpu"],
        "ours_cpu_s": middle["ours_cpu"],
        "cpu_ratio": middle["recipe_cpu"] / middle["ours_cpu"],
        "largest_difference": worst,
    }


def floors(folder: Path) -> dict[str, float]:
    """Reading of both ways and what no way can do without, processor seconds over all files."""
    paths = [path for name in ("pred", "truth") for path in sorted((folder / name).iterdir())]
    voxels = np.ones(sum(read_labels(path).array.size for path in paths), np.uint8)
    recipe_reads(paths[:1])
    return {
        "megavoxels": len(voxels) / 1e6,
        "recipe_reading_cpu_s": cpu_seconds(lambda: recipe_reads(paths)),
        "ours_reading_cpu_s": cpu_seconds(lambda: ours_reads(paths)),
        "unpack_floor_cpu_s": cpu_seconds(lambda: unpack(paths)),
        "read_voxels_floor_cpu_s": cpu_seconds(lambda: voxels.max()),
    }


def main(data: Path, workers: int = os.cpu_count() or 1, cases: int = 4, repeats: int = 3) -> None:
    """Time both on the same files and add a row to the results. cases: of KiTS19, smallest file first."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lay_out(data, folder, cases)
        row = about() | {"workers": workers, "repeats": repeats}
        row |= compare(folder, workers, repeats) | floors(folder)
    for key, value in row.items():
        print(f"{key:>24}  {f'{value:.4g}' if isinstance(value, float) else value}")
    print(append_rows("evaluate", [row]))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
