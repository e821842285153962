"""Which kidney a piece goes to: all pieces at once as one after another, with a tree query each."""

import numpy as np
import pytest

from kidseg_jax import kernels
from kidseg_jax.cohort import split
from kidseg_jax.cohort.split import split_kidneys
from kidseg_jax.imaging.structures import PARENCHYMA, RCC


def join_one_by_one(owner, tissue, labels, spacing, centres, notes, threads):
    """How every piece was given to a kidney before all were asked for at once."""
    rest = np.where(owner == 0, labels, 0)
    pieces, n = kernels.label_components(rest, threads=threads, dtype=np.int32)
    at = np.nonzero(pieces)
    number = pieces[at]
    touched = split._touched(owner, at, number, n, len(centres))
    trees = [split._tree(owner == i, spacing) for i in range(1, len(centres) + 1)]
    new, left_out = np.zeros(owner.shape, np.uint8), 0
    for piece in range(1, n + 1):
        voxels = np.argwhere(pieces == piece)
        if touched[piece].sum() == 2:
            given = np.where(voxels[:, 2] > centres[:, 2].mean(), 2, 1)
        elif touched[piece].any():
            given = 1 + int(np.argmax(touched[piece]))
        else:
            points = (voxels * spacing)[:: max(1, len(voxels) // 2000)]
            gaps = [tree.query(points)[0].min() for tree in trees]
            given = 1 + int(np.argmin(gaps))
            if rest[tuple(voxels[0])] == PARENCHYMA and min(gaps) > split.PIECE_MM:
                given, left_out = 0, left_out + len(voxels)
        new[tuple(voxels.T)] = given
    owner += new
    if left_out:
        volume_ml = left_out * spacing.prod() / 1000
        notes.append(f"{volume_ml:.3g} ml of parenchyma lies more than 20 mm from a kidney: left out")


def scattered(seed: int) -> tuple[np.ndarray, tuple[float, float, float]]:
    """One or two ellipsoids of parenchyma among random pieces of every structure, some of them large."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(20, 44, 3).tolist())
    labels = np.where(rng.random(shape) < 0.03, rng.integers(1, 6, shape), 0).astype(np.uint8)
    lo = rng.integers(0, np.array(shape) - 12)
    labels[tuple(slice(a, a + n) for a, n in zip(lo, rng.integers(4, 30, 3), strict=True))] = rng.integers(
        1, 4
    )
    z, y, x = np.indices(shape)
    for side in range(1 + seed % 2):
        centre_x = shape[2] * (0.2 + 0.6 * side)
        d = ((z - shape[0] / 2) / 8) ** 2 + ((y - shape[1] / 2) / 5) ** 2 + ((x - centre_x) / 4) ** 2
        labels[(d >= 1) & (d < 2)] = 0
        labels[d < 1] = PARENCHYMA
        labels[d < 0.1] = RCC
    return labels, tuple(rng.uniform(0.7, 4.0, 3).tolist())


@pytest.mark.parametrize("seed", range(12))
def test_pieces_go_where_they_went_one_after_another(seed, monkeypatch):
    labels, spacing_mm = scattered(seed)
    monkeypatch.setattr(split, "POINTS_AT_ONCE", 100)
    now = split_kidneys(labels, spacing_mm, threads=2)
    monkeypatch.setattr(split, "_join", join_one_by_one)
    before = split_kidneys(labels, spacing_mm)
    assert np.array_equal(now.owner, before.owner) and now.notes == before.notes
    assert now.boxes == before.boxes
