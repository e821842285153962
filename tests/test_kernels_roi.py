"""Boxes, crops and pastes against NumPy, over dtype, layout and boxes that reach outside."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracles import DTYPES, box_oracle, examples, layouts, random_labels

from kidseg_jax import kernels
from kidseg_jax.kernels import Box

VOLUME_DTYPES = [*DTYPES, np.dtype("f2"), np.dtype("f4"), np.dtype("f8")]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bounding_box_matches_numpy_in_every_layout(dtype):
    rng = np.random.default_rng(1)
    for shape in ((6, 7, 200), (1, 1, 130), (40, 1, 3), (3, 0, 2), (5, 70, 1)):
        for density in (0.0, 0.005, 0.1, 1.0):
            labels = random_labels(rng, shape, dtype, density)
            for name, view in layouts(labels).items():
                assert kernels.bounding_box(view) == box_oracle(labels), (shape, density, name)


def test_bounding_box_margin_is_at_least_the_millimetres_asked():
    mask = np.zeros((9, 9, 9), bool)
    mask[4, 4, 4] = True
    box = kernels.bounding_box(mask, margin_mm=3.0, spacing_mm=(1.5, 2.0, 10.0))
    assert box == ((2, 2, 3), (7, 7, 6))
    assert kernels.bounding_box(mask, margin_mm=0.3, spacing_mm=(0.1, 0.3, 0.15)) == ((1, 3, 2), (8, 6, 7))
    assert kernels.bounding_box(np.zeros((2, 2, 2), bool), 5.0) is None


def crop_oracle(volume: np.ndarray, box: Box, fill) -> np.ndarray:
    reach = max(1, *(abs(c) for corner in box for c in corner), *volume.shape)
    padded = np.pad(volume, reach, constant_values=fill)
    return padded[tuple(slice(lo + reach, hi + reach) for lo, hi in zip(*box, strict=True))]


@st.composite
def boxes(draw, shape, size=None):
    lo = tuple(draw(st.integers(-6, n + 6)) for n in shape)
    size = size or tuple(draw(st.integers(0, 9)) for _ in shape)
    return Box(lo, tuple(c + s for c, s in zip(lo, size, strict=True)))


@examples(200)
@given(data=st.data())
def test_crop_matches_numpy_and_paste_undoes_it(data):
    shape = data.draw(st.tuples(*[st.integers(0, 8)] * 3))
    dtype = data.draw(st.sampled_from(VOLUME_DTYPES))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    volume = rng.integers(0, 100, shape).astype(dtype)
    fill = data.draw(st.sampled_from([0, 1]))
    box = data.draw(boxes(shape))
    views = layouts(volume)
    view = views[data.draw(st.sampled_from(sorted(views)))]
    roi = kernels.crop_roi(view, box, fill)
    assert roi.dtype == dtype
    assert roi.flags.c_contiguous
    np.testing.assert_array_equal(roi, crop_oracle(volume, box, fill))
    blank = view.copy(order="K")
    blank[...] = 0
    kernels.paste_roi(blank, np.asfortranarray(roi), box)
    inside = np.zeros(shape, bool)
    inside[tuple(slice(max(lo, 0), max(hi, 0)) for lo, hi in zip(*box, strict=True))] = True
    np.testing.assert_array_equal(blank, np.where(inside, volume, 0))


@examples(50)
@given(data=st.data())
def test_many_crops_in_one_call_are_the_single_ones(data):
    volume = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    found = data.draw(st.lists(boxes(volume.shape, (3, 4, 2)), min_size=1, max_size=5))
    batch = kernels.crop_rois(volume, found, -1000, threads=data.draw(st.integers(1, 3)))
    assert batch.shape == (len(found), 3, 4, 2)
    np.testing.assert_array_equal(batch, np.stack([kernels.crop_roi(volume, box, -1000) for box in found]))


def test_paste_of_a_view_of_the_same_volume_reads_before_it_writes():
    volume = np.arange(4 * 4 * 4, dtype=np.uint8).reshape(4, 4, 4)
    roi = volume[:2, :2, :3]
    expected = volume.copy()
    expected[1:3, 1:3, 1:4] = roi.copy()
    kernels.paste_roi(volume, roi, Box((1, 1, 1), (3, 3, 4)))
    np.testing.assert_array_equal(volume, expected)


def test_bad_boxes_and_volumes_are_refused():
    volume = np.zeros((3, 3, 3), np.uint8)
    box = Box((0, 0, 0), (2, 2, 2))
    with pytest.raises(ValueError, match="lo <= hi"):
        kernels.crop_roi(volume, Box((0, 2, 0), (2, 1, 2)))
    with pytest.raises(TypeError, match="three whole numbers"):
        kernels.crop_roi(volume, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="fill must be one value that uint8 can hold, got -1"):
        kernels.crop_roi(volume, box, -1)
    with pytest.raises(ValueError, match="fill"):
        kernels.crop_roi(volume, box, float("nan"))
    with pytest.raises(ValueError, match="boxes must be of one size"):
        kernels.crop_rois(volume, [box, Box((0, 0, 0), (1, 2, 2))])
    with pytest.raises(ValueError, match="at least one"):
        kernels.crop_rois(volume, [])
    with pytest.raises(TypeError, match="roi must be uint8 like the volume, got int16"):
        kernels.paste_roi(volume, np.zeros((2, 2, 2), np.int16), box)
    with pytest.raises(ValueError, match=r"box's shape \(2, 2, 2\), got \(2, 2, 3\)"):
        kernels.paste_roi(volume, np.zeros((2, 2, 3), np.uint8), box)
    volume.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        kernels.paste_roi(volume, np.zeros((2, 2, 2), np.uint8), box)
    with pytest.raises(TypeError, match="got complex64"):
        kernels.crop_roi(np.zeros((2, 2, 2), np.complex64), box)
    with pytest.raises(ValueError, match="mask must be 3-D"):
        kernels.bounding_box(np.zeros((2, 2), bool))
    with pytest.raises(TypeError, match="got float32"):
        kernels.bounding_box(np.zeros((2, 2, 2), np.float32))
    with pytest.raises(ValueError, match="margin_mm must be finite and not negative, got nan"):
        kernels.bounding_box(volume, margin_mm=float("nan"))
    with pytest.raises(ValueError, match="spacing_mm must be 3 positive finite numbers"):
        kernels.bounding_box(volume, 1.0, (1.0, float("nan"), 1.0))
