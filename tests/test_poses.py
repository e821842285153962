"""Other poses of a kidney: where a turned and stretched ROI takes its voxels from."""

import numpy as np
import pytest

from kidseg_jax.config import TrainConfig
from kidseg_jax.network.poses import Pose, draw_poses, in_poses
from kidseg_jax.network.roi import AIR_HU, Roi, sample_ct, sample_labels

SPACING = (2.5, 2.0, 1.5)
SHAPE = (40, 44, 48)
STILL = Pose(np.eye(3), np.zeros(3))


def volume(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(-200, 300, SHAPE).astype(np.int16), rng.integers(0, 6, SHAPE).astype(np.uint8)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_pose_at_rest_is_the_roi_itself(mirrored):
    ct, labels = volume()
    roi = Roi((20, 22, 24), 1.0, (50.0, 40.0, 36.0), mirrored)  # finer than the CT: nothing is averaged
    ((image, target),) = in_poses(ct, labels, SPACING, roi, [STILL])
    np.testing.assert_allclose(image, sample_ct(ct, SPACING, roi), atol=1)  # halves may round either way
    np.testing.assert_array_equal(target, sample_labels(labels, SPACING, roi))


def test_beyond_the_ct_lies_air_without_labels():
    ct, labels = volume()
    roi = Roi((4, 4, 4), 2.0, (-40.0, 0.0, 0.0))
    ((image, target),) = in_poses(ct, labels, SPACING, roi, [STILL])
    assert (image == AIR_HU).all() and (target == 0).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_ball_comes_to_where_the_pose_puts_it(mirrored):
    at_mm, centre = np.array([48.0, 50.0, 42.0]), np.array([50.0, 44.0, 36.0])
    grid = np.meshgrid(*(np.arange(n) * s for n, s in zip(SHAPE, SPACING, strict=True)), indexing="ij")
    distance = np.sqrt(sum((g - a) ** 2 for g, a in zip(grid, at_mm, strict=True)))
    labels = (distance < 9).astype(np.uint8)
    ct = np.where(labels, 1000, 0).astype(np.int16)
    roi = Roi((50, 50, 50), 1.0, (50.0, 44.0, 36.0), mirrored)
    settings = TrainConfig(poses=6, pose_turn_deg=25.0, pose_stretch=0.2)
    poses = draw_poses(settings, 1.0, np.random.default_rng(0))
    assert len(poses) == 5
    for pose, (image, target) in zip(poses, in_poses(ct, labels, SPACING, roi, poses, 2), strict=True):
        offset = np.linalg.solve(pose.matrix, at_mm - centre - pose.moved_mm)
        expected = offset * (1, 1, -1 if mirrored else 1) + (50 - 1) / 2
        for seen in (target > 0, image > 500):
            np.testing.assert_allclose(np.argwhere(seen).mean(0), expected, atol=0.6)
        volume_mm3 = 4 / 3 * np.pi * 9**3 / np.linalg.det(pose.matrix)
        assert (target > 0).sum() == pytest.approx(volume_mm3, rel=0.05)


def test_a_finer_ct_is_averaged_as_its_own_roi_is():
    rng = np.random.default_rng(1)
    ct = rng.normal(0, 100, (60, 60, 60)).astype(np.int16)
    roi = Roi((12, 12, 12), 2.0, (29.5, 29.5, 29.5))  # two CT voxels a side, edges in line
    ((image, _),) = in_poses(ct, np.zeros(ct.shape, np.uint8), (1.0, 1.0, 1.0), roi, [STILL])
    np.testing.assert_allclose(image, sample_ct(ct, (1.0, 1.0, 1.0), roi), atol=1)
    assert image.std() == pytest.approx(100 / np.sqrt(8), rel=0.15)


def test_poses_follow_from_the_seed_and_keep_within_their_bounds():
    settings = TrainConfig(poses=40, pose_turn_deg=10.0, pose_stretch=0.1)
    first, again = (draw_poses(settings, 2.0, np.random.default_rng(3)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.matrix, b.matrix)
        assert (np.abs(a.moved_mm) <= 1.0).all()
        lengths = np.linalg.norm(a.matrix, axis=0)
        assert (np.abs(lengths - 1) <= 0.1 + 1e-12).all()
        turn = a.matrix / lengths
        assert np.degrees(np.arccos((np.trace(turn) - 1) / 2)) <= 3 * 10.0
    assert draw_poses(TrainConfig(), 2.0, np.random.default_rng(0)) == []
