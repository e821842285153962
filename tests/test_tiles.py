"""Networks over more than their patch."""

import numpy as np
import pytest

from kidseg_jax.network.tiles import slide

PATCH = (4, 6, 8)


@pytest.mark.parametrize("shape", [PATCH, (4, 6, 9), (9, 13, 8), (11, 6, 21)])
def test_what_every_tile_says_alike_stays_and_every_voxel_is_seen(shape):
    hu = np.random.default_rng(0).normal(0, 50, shape).astype(np.float32)
    seen = slide(lambda tile: np.stack([tile, -tile], axis=-1), hu, PATCH)
    assert seen.shape == (*shape, 2)
    np.testing.assert_allclose(seen[..., 0], hu, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(seen[..., 1], -hu, rtol=1e-5, atol=1e-4)


def test_a_voxel_takes_more_from_the_tile_that_has_it_nearer_its_middle():
    """Two tiles of 8 over 12 voxels that say 0 and 1: their seam is a slope without a step."""
    answers = iter([0.0, 1.0])
    row = slide(lambda tile: np.full((*tile.shape, 1), next(answers)), np.zeros((4, 6, 12)), PATCH)[
        2, 3, :, 0
    ]
    bell = np.exp(-0.5 * ((np.arange(8) - 3.5) / 1.0) ** 2)  # an eighth of a tile
    np.testing.assert_allclose(row[:4], 0)
    np.testing.assert_allclose(row[4:8], bell[:4] / (bell[:4] + bell[4:]), rtol=1e-5)
    np.testing.assert_allclose(row[8:], 1)
    assert (np.diff(row) >= 0).all() and abs(row[5] + row[6] - 1) < 1e-6
