"""Questions about label maps, each asked of the kernels and of their peers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.kernels.floors import COPY, LARGEST_K, ONE, READ, STATISTICS, TWO
from benchmarks.kernels.question import Question
from benchmarks.kernels.timing import Task
from benchmarks.kernels.volumes import label_map, speckled
from kidseg_jax import kernels


def questions(data: Path) -> Iterator[Question]:
    import cc3d  # pyright: ignore[reportMissingImports]

    name, labels = label_map(data)
    mask = (labels > 0).astype(np.uint8)
    print(f"label map {name}, {labels.shape}, {labels.size / 1e6:.0f} M voxels")

    def question(what: str, volume: np.ndarray, tasks: dict[str, Task]) -> Question:
        return Question(what, name, volume.size, volume.nbytes, tasks)

    volumes = {
        "label, clean mask": mask,
        "label, clean multilabel": labels,
        "label, 0.5 % speckle": speckled(mask, 0.005),
        "label, 5 % speckle": speckled(mask, 0.05),
    }
    for what, volume in volumes.items():
        tasks: dict[str, Task] = {
            ONE: lambda v=volume: kernels.label_components(v),
            "cc3d": lambda v=volume: cc3d.connected_components(v, connectivity=26),
            TWO: lambda v=volume: kernels.label_components(v, threads=2),
        }
        yield question(what, volume, tasks)
    written, n = kernels.label_components(mask)
    if n != cc3d.connected_components(mask, connectivity=26).max():
        raise SystemExit(f"kernels: {name}: cc3d finds another number of components than {n}")

    def cc3d_largest() -> np.ndarray:
        kept = np.zeros_like(labels)
        for value in np.unique(labels):
            if value:
                part = cc3d.largest_k((labels == value).astype(np.uint8), k=1, connectivity=26)
                kept[part > 0] = value
        return kept

    if (kernels.keep_largest(labels) != cc3d_largest()).any():
        raise SystemExit(f"kernels: {name}: cc3d keeps other voxels")
    keep: dict[str, Task] = {
        ONE: lambda: kernels.keep_largest(labels),
        COPY: labels.copy,
        LARGEST_K: cc3d_largest,
    }
    yield question("largest component per class", labels, keep)
    stats: dict[str, Task] = {
        ONE: lambda: kernels.component_stats(labels),
        STATISTICS: lambda: cc3d.statistics(cc3d.connected_components(labels, connectivity=26)),
        "scipy find_objects of the labels": lambda: ndimage.find_objects(written),
    }
    yield question("boxes, counts and centroids", labels, stats)
    box: dict[str, Task] = {
        ONE: lambda: kernels.bounding_box(labels),
        READ: labels.max,
        "numpy any along axes": lambda: [
            np.flatnonzero(labels.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))
        ],
    }
    yield question("bounding box", labels, box)
