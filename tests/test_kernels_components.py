"""Components against SciPy, over dtype, layout, connectivity, density, threads and degenerate shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_oracles import (
    DTYPES,
    SANITIZED,
    examples,
    keep_oracle,
    label_oracle,
    largest,
    layouts,
    random_labels,
)
from scipy import ndimage

from kidseg_jax import kernels

SHAPES = [
    (0, 3, 4),
    (3, 0, 4),
    (3, 4, 0),
    (1, 1, 1),
    (1, 1, 130),
    (1, 70, 1),
    (70, 1, 1),
    (2, 1, 64),
    (5, 6, 65),
]


def assert_components(labels: np.ndarray, connectivity: int, threads: int = 1) -> None:
    expected, n = label_oracle(labels, connectivity)
    found, count = kernels.label_components(labels, connectivity, threads=threads)
    assert count == n
    assert found.dtype == np.min_scalar_type(n)
    np.testing.assert_array_equal(found, expected)
    stats = kernels.component_stats(labels, connectivity, threads=threads)
    assert len(stats.label) == n
    assert stats.label.dtype == labels.dtype
    slices = ndimage.find_objects(expected) if n else []
    np.testing.assert_array_equal(stats.voxels, np.bincount(expected.ravel(), minlength=n + 1)[1:])
    np.testing.assert_array_equal(stats.lo, np.reshape([[s.start for s in box] for box in slices], (-1, 3)))
    np.testing.assert_array_equal(stats.hi, np.reshape([[s.stop for s in box] for box in slices], (-1, 3)))
    where = np.argwhere(expected > 0)
    number = expected[expected > 0] - 1
    for axis in range(3):
        total = np.bincount(number, weights=where[:, axis], minlength=n)
        np.testing.assert_allclose(stats.centroid[:, axis], total / np.maximum(stats.voxels, 1), rtol=1e-14)
    if n:
        np.testing.assert_array_equal(stats.label[number], labels[expected > 0])


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_components_match_scipy_in_every_layout(dtype, connectivity):
    rng = np.random.default_rng(connectivity)
    for shape in ((4, 5, 70), (9, 3, 64), (3, 8, 1)):
        for name, labels in layouts(random_labels(rng, shape, dtype)).items():
            assert labels.shape == shape, name
            assert_components(labels, connectivity, threads=2)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_components_of_degenerate_shapes(shape, connectivity):
    rng = np.random.default_rng(0)
    for density in (0.0, 0.3, 0.7, 1.0):
        assert_components(random_labels(rng, shape, density=density), connectivity)
        assert_components(random_labels(rng, shape, density=density, classes=1), connectivity, threads=3)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_components_of_a_checkerboard(connectivity):
    board = (np.indices((6, 7, 67)).sum(0) % 2 == 0).astype(np.uint8)
    assert_components(board, connectivity)
    _, n = kernels.label_components(board, connectivity)
    assert n == (board.sum() if connectivity == 6 else 1)


def test_components_of_solid_volumes_and_long_spirals():
    assert_components(np.ones((5, 5, 130), np.uint8), 26)
    snake = np.zeros((9, 9, 129), np.uint8)
    snake[::2] = 1
    snake[1::4, 0, 0] = 1
    snake[3::4, -1, -1] = 1
    assert_components(snake, 6, threads=2)
    assert kernels.label_components(snake, 6)[1] == 1


@examples(200)
@given(data=st.data())
def test_components_property(data):
    shape = data.draw(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 140)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    labels = random_labels(
        rng,
        shape,
        data.draw(st.sampled_from(DTYPES)),
        data.draw(st.floats(0, 1)),
        data.draw(st.integers(1, 3)),
    )
    views = layouts(labels)
    view = views[data.draw(st.sampled_from(sorted(views)))]
    assert_components(view, data.draw(st.sampled_from([6, 18, 26])), data.draw(st.integers(1, 4)))


@pytest.mark.parametrize("threads", [2, 3, 8, 64])
def test_threads_change_nothing(threads):
    rng = np.random.default_rng(5)
    labels = random_labels(rng, (40, 30, 90), density=0.35)
    for function in (
        lambda t: kernels.label_components(labels, 26, threads=t)[0],
        lambda t: kernels.keep_largest(labels, 2, threads=t),
        lambda t: kernels.remove_small(labels, 4, threads=t),
        lambda t: kernels.fill_holes(labels, threads=t),
        lambda t: kernels.component_stats(labels, threads=t).centroid,
    ):
        np.testing.assert_array_equal(function(threads), function(1))


@pytest.mark.parametrize("threads", [1, 3])
def test_many_components_are_numbered_in_scan_order_of_any_layout(threads):
    """Enough of them for several tasks of the renumbering."""
    labels = random_labels(np.random.default_rng(6), (50, 60, 90), density=0.08, classes=1)
    expected, n = kernels.label_components(labels, 6)
    assert n > 16_384
    for name, view in layouts(labels).items():
        found, m = kernels.label_components(view, 6, threads=threads)
        assert m == n, name
        np.testing.assert_array_equal(found, expected, name)


def test_output_lies_in_memory_like_the_input():
    labels = np.asfortranarray(random_labels(np.random.default_rng(0), (5, 6, 7)))
    assert kernels.label_components(labels)[0].flags.f_contiguous
    assert kernels.keep_largest(labels).flags.f_contiguous
    assert kernels.label_components(np.ascontiguousarray(labels))[0].flags.c_contiguous


def test_chosen_dtype_holds_the_count_or_is_refused():
    labels = np.zeros((1, 1, 600), np.uint8)
    labels[..., ::2] = 1
    found, n = kernels.label_components(labels, dtype=np.int16)
    assert found.dtype == np.int16
    assert n == 300 == found.max()
    assert kernels.label_components(labels)[0].dtype == np.uint16
    with pytest.raises(ValueError, match="300 components do not fit dtype int8"):
        kernels.label_components(labels, dtype=np.int8)
    with pytest.raises(TypeError, match="float32"):
        kernels.label_components(labels, dtype=np.float32)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("seed", range(10))
def test_keep_and_remove_match_the_oracle(seed, connectivity):
    rng = np.random.default_rng(seed)
    labels = random_labels(rng, rng.integers(1, 9, 3), DTYPES[rng.integers(len(DTYPES))])
    for name, view in layouts(labels).items():
        for k in (1, 2):
            kept = kernels.keep_largest(view, k, connectivity=connectivity, threads=2)
            np.testing.assert_array_equal(kept, keep_oracle(labels, connectivity, largest(k)), err_msg=name)
            whole = kernels.keep_largest(view, k, per_class=False, connectivity=connectivity)
            mask = keep_oracle(labels != 0, connectivity, largest(k))
            np.testing.assert_array_equal(whole, np.where(mask, labels, 0), err_msg=name)
        removed = kernels.remove_small(view, 3, connectivity=connectivity)
        np.testing.assert_array_equal(removed, keep_oracle(labels, connectivity, lambda sizes, _: sizes >= 3))


def test_remove_small_by_volume_keeps_exactly_the_limit():
    labels = np.zeros((1, 1, 20), np.uint8)
    labels[0, 0, [0, 1, 5, 6, 7, 10]] = 1
    spacing_mm = (0.1, 0.2, 0.3)
    kept = kernels.remove_small(labels, min_volume_mm3=2 * 0.1 * 0.2 * 0.3, spacing_mm=spacing_mm)
    np.testing.assert_array_equal(np.flatnonzero(kept), [0, 1, 5, 6, 7])


@pytest.mark.parametrize("seed", range(20))
def test_fill_holes_matches_scipy(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 12, 3)) < rng.uniform(0.5, 0.95)
    for view in layouts(mask).values():
        np.testing.assert_array_equal(kernels.fill_holes(view), ndimage.binary_fill_holes(mask))
    flat = mask[0]
    np.testing.assert_array_equal(kernels.fill_holes(flat), ndimage.binary_fill_holes(flat))


def test_a_hole_takes_the_label_most_of_its_faces_touch():
    labels = np.full((3, 3, 5), 7, np.uint8)
    labels[:, :, 0] = 2
    labels[1, 1, 1:3] = 0
    filled = kernels.fill_holes(labels)
    assert (filled[1, 1, 1:3] == 7).all()  # 9 faces of label 7, 1 of label 2
    tie = np.zeros((1, 3, 3), np.int16)
    tie[0] = [[9, 9, 9], [5, 0, 9], [9, 5, 9]]
    np.testing.assert_array_equal(kernels.fill_holes(tie[0])[1], [5, 5, 9])


def test_two_dimensional_labels():
    rng = np.random.default_rng(1)
    for seed in range(10):
        labels = random_labels(rng, (9, 40 + seed))
        for connectivity, same in ((4, 6), (8, 26)):
            expected, n = label_oracle(labels[None], same)
            found, count = kernels.label_components(labels, connectivity)
            assert count == n
            np.testing.assert_array_equal(found, expected[0])
            np.testing.assert_array_equal(kernels.label_components(labels.T, same)[0] > 0, labels.T > 0)
        stats = kernels.component_stats(labels)
        assert stats.lo.shape[1] == stats.centroid.shape[1] == 2
        np.testing.assert_array_equal(kernels.keep_largest(labels), kernels.keep_largest(labels[None])[0])


@pytest.mark.skipif(SANITIZED, reason="4 billion voxels take minutes in a sanitized build")
def test_more_than_two_to_the_31_voxels():
    solid = np.broadcast_to(np.ones((1, 1024, 1024), bool), (2100, 1024, 1024))
    stats = kernels.component_stats(solid, threads=2)
    assert stats.voxels.tolist() == [2100 * 1024 * 1024]
    assert stats.centroid.tolist() == [[2099 / 2, 1023 / 2, 1023 / 2]]
    sparse = np.zeros((2100, 1024, 1024), np.uint8)  # pages appear only where it is written
    sparse[-1, -1, -3:] = 3
    assert kernels.bounding_box(sparse) == ((2099, 1023, 1021), (2100, 1024, 1024))
    roi = kernels.crop_roi(sparse, kernels.Box((2099, 1022, 1020), (2101, 1024, 1024)))
    assert roi.sum() == 9
    kernels.paste_roi(sparse, roi, kernels.Box((2097, 1022, 1020), (2099, 1024, 1024)))
    found, n = kernels.label_components(sparse)
    assert n == 2
    assert found[2097, 1023, 1023] == 1
    assert found[2099, 1023, 1023] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1]],), TypeError, "must be a numpy.ndarray, got list"),
        ((np.zeros((2, 2, 2)),), TypeError, "must be bool or integers, got float64"),
        ((np.zeros((2, 2, 2), ">i2"),), TypeError, "native byte order, got >i2"),
        ((np.zeros((2, 2), "u1")[0],), ValueError, "must be 2-D or 3-D, got shape"),
        ((np.zeros((2, 2, 2), bool), 7), ValueError, "connectivity must be 6, 18 or 26 .* got 7"),
        ((np.zeros((2, 2, 2), bool), 8), ValueError, "got 8"),
    ],
)
@pytest.mark.parametrize(
    "function", [kernels.label_components, kernels.component_stats], ids=lambda f: f.__name__
)
def test_bad_labels_are_refused_in_one_line(function, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


def test_bad_numbers_are_refused():
    labels = np.zeros((2, 2, 2), bool)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        kernels.label_components(labels, threads=0)
    with pytest.raises(TypeError, match=r"k must be a whole number, got 1\.5"):
        kernels.keep_largest(labels, 1.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        kernels.keep_largest(labels, 0)
    with pytest.raises(ValueError, match="either min_voxels or min_volume_mm3"):
        kernels.remove_small(labels)
    with pytest.raises(ValueError, match="min_volume_mm3 needs spacing_mm, got None"):
        kernels.remove_small(labels, min_volume_mm3=1)
    with pytest.raises(ValueError, match="spacing_mm must be 3 positive finite numbers"):
        kernels.remove_small(labels, min_volume_mm3=1, spacing_mm=(1, 0, 1))
    unaligned = np.frombuffer(bytes(17), np.uint8)[1:].view(np.uint16).reshape(2, 2, 2)
    if not unaligned.flags.aligned:
        with pytest.raises(TypeError, match="aligned"):
            kernels.label_components(unaligned)
