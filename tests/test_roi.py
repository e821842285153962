"""A network's grid over a CT: where its voxels lie, there and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kidseg_jax.network.roi import AIR_HU, Roi, sample_ct, sample_labels, sample_mask

SPACING = (2.0, 1.5, 0.75)


def rois(mirrored: bool) -> Roi:
    return Roi((7, 6, 5), 2.25, (9.0, 10.0, 8.0), mirrored)


@pytest.mark.parametrize("mirrored", [False, True])
def test_source_places_voxels_about_the_centre(mirrored):
    roi = rois(mirrored)
    for axis, at in enumerate(roi.source(SPACING)):
        mm = at * SPACING[axis]
        assert mm.mean() == pytest.approx(roi.centre_mm[axis])
        step = -2.25 if mirrored and axis == 2 else 2.25
        np.testing.assert_allclose(np.diff(mm), step)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.integers(1, 9)] * 3),
    st.floats(0.5, 6),
    st.tuples(*[st.floats(-5, 40)] * 3),
    st.booleans(),
)
def test_target_is_the_inverse_of_source(shape, spacing_mm, centre, mirrored):
    roi = Roi(shape, spacing_mm, centre, mirrored)
    hi = (30, 31, 32)
    for n, to_roi, to_ct in zip(shape, roi.target((0, 0, 0), hi, SPACING), roi.source(SPACING), strict=True):
        there = np.interp(to_ct, np.arange(len(to_roi)), to_roi, left=np.nan, right=np.nan)
        inside = np.isfinite(there)
        np.testing.assert_allclose(there[inside], np.arange(n)[inside], atol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_part_keeps_the_places_of_its_voxels(mirrored):
    roi, lo, hi = rois(mirrored), (1, 0, 2), (6, 6, 4)
    for whole, part, a, b in zip(roi.source(SPACING), roi.part(lo, hi).source(SPACING), lo, hi, strict=True):
        np.testing.assert_allclose(part, whole[a:b])
    assert roi.part((0, 0, 0), roi.shape) == roi


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.floats(-20, 60)] * 3))
def test_footprint_holds_exactly_the_voxels_inside(centre):
    roi = Roi((7, 6, 5), 2.25, centre)
    shape = (20, 24, 40)
    lo, hi = roi.footprint(shape, SPACING)
    for axis in range(3):
        at = np.arange(shape[axis]) * SPACING[axis]
        inside = np.abs(at - centre[axis]) <= roi.shape[axis] * 2.25 / 2 + 1e-9
        chosen = np.zeros(shape[axis], bool)
        chosen[lo[axis] : hi[axis]] = True
        assert (chosen == inside).all()


def test_mirrored_samples_are_flipped_samples():
    rng = np.random.default_rng(0)
    ct = rng.integers(-100, 300, (14, 16, 26)).astype(np.int16)
    plain, mirrored = (sample_ct(ct, SPACING, rois(m)) for m in (False, True))
    np.testing.assert_array_equal(plain[..., ::-1], mirrored)
    labels = (ct % 6).astype(np.uint8)
    np.testing.assert_array_equal(
        sample_labels(labels, SPACING, rois(False))[..., ::-1], sample_labels(labels, SPACING, rois(True))
    )


def test_linear_ramp_is_sampled_exactly_and_air_lies_outside():
    z, _, _ = np.meshgrid(*[np.arange(n) for n in (20, 16, 26)], indexing="ij")
    ct = (10 * z).astype(np.int16)
    roi = Roi((9, 4, 4), 1.0, (0.0, 10.0, 8.0))
    sampled = sample_ct(ct, SPACING, roi)
    at = roi.source(SPACING)[0]
    for row, place in zip(sampled, at, strict=True):
        expected = AIR_HU if place < -0.5 else round(10 * max(place, 0))
        assert (row == expected).all()


def test_mask_covers_voxels_that_are_half_full():
    mask = np.zeros((8, 8, 8), bool)
    mask[:, :, :3] = True
    coarse = sample_mask(mask, (1.0, 1.0, 1.0), Roi((2, 2, 2), 4.0, (3.5, 3.5, 3.5)))
    np.testing.assert_array_equal(coarse, np.array([[[True, False]] * 2] * 2))
