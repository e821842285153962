"""One picture of a run: the best, the median and the worst held-out kidney of its last stage."""

import numpy as np

from kidseg_jax.imaging.preview import png
from kidseg_jax.report.examples import ranked_tests, snapshot_of, spread
from kidseg_jax.report.pictures import kidney_slices
from kidseg_jax.report.records import Run

TILE = 300


def overview(run: Run) -> bytes | None:
    """A PNG with a row for each of the three kidneys; None without snapshot of them.

    Slices: axial, coronal, sagittal. Outlines: manual yellow, CNN magenta. The best kidney stands on top.
    """
    stage = run.stages[-1]
    rows = []
    for _, _, kidney in reversed(spread(ranked_tests(stage))):
        snapshot = snapshot_of(run, stage.stage, kidney)
        if snapshot is not None:
            slices = kidney_slices(snapshot, pixels=TILE)
            rows.append(np.concatenate([_on_tile(image) for image in slices], axis=1))
    return png(np.concatenate(rows)) if rows else None


def _on_tile(image: np.ndarray) -> np.ndarray:
    """The image in the middle of a black square."""
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    image = image[:TILE, :TILE]
    top, left = (TILE - image.shape[0]) // 2, (TILE - image.shape[1]) // 2
    tile[top : top + image.shape[0], left : left + image.shape[1]] = image
    return tile
