"""Grids and their arithmetic, and the kernels' resampling on them as ITK does it."""

import itertools
from typing import Any

import itk
import numpy as np
import pytest
from grids import body_ct, oblique, on_grid, random_geometry

from kidseg_jax.imaging.preview import HEIGHT, overlay, write_png
from kidseg_jax.imaging.structures import PARENCHYMA, STRUCTURES
from kidseg_jax.imaging.volume import (
    Geometry,
    Volume,
    canonical,
    orientation,
    oriented,
    pasted,
    require_same_grid,
)

ITK: Any = itk
AIR_HU = -1000


def as_itk(volume: Volume) -> Any:
    image = ITK.image_from_array(volume.array)
    image.SetSpacing(volume.spacing_mm[::-1])
    image.SetOrigin(volume.geometry.origin_mm)
    image.SetDirection(ITK.matrix_from_array(np.array(volume.geometry.direction)))
    return image


def itk_resampled(volume: Volume, grid: Geometry, interpolator: str, outside: int) -> np.ndarray:
    image = as_itk(volume)
    kind = type(image)
    chosen = getattr(ITK, interpolator)[kind, ITK.D].New()
    reference = as_itk(Volume(np.zeros(grid.shape, volume.array.dtype), grid))
    resample = ITK.ResampleImageFilter[kind, kind].New(
        Input=image, Interpolator=chosen, DefaultPixelValue=outside
    )
    resample.SetReferenceImage(reference)
    resample.UseReferenceImageOn()
    resample.Update()
    return ITK.array_from_image(resample.GetOutput())


def near(rng, grid: Geometry) -> Geometry:
    """A random grid about the middle of another, so that they overlap."""
    other = random_geometry(rng)
    middle = grid.to_world((np.array(grid.shape) - 1) / 2)
    shift = middle - other.to_world((np.array(other.shape) - 1) / 2)
    moved = tuple((np.array(other.origin_mm) + shift).tolist())
    return Geometry(other.shape, other.spacing_mm, moved, other.direction)


@pytest.mark.parametrize("seed", range(20))
def test_linear_resampling_is_itks(seed):
    rng = np.random.default_rng(seed)
    grid = random_geometry(rng)
    ct = Volume(rng.integers(-1000, 1500, grid.shape).astype(np.int16), grid)
    target = near(rng, grid)
    ours = on_grid(ct, target, fill=AIR_HU)
    theirs = itk_resampled(ct, target, "LinearInterpolateImageFunction", AIR_HU)
    apart = np.abs(ours.array.astype(int) - theirs)
    assert ours.geometry == target and ours.array.dtype == np.int16
    index = grid.to_index(target.to_world(np.argwhere(apart > 1)))
    border = np.minimum(np.abs(index + 0.5), np.abs(index - (np.array(grid.shape) - 0.5))).min(axis=-1)
    assert (border < 1e-6).all()  # a point on the very border may be in or out
    assert (theirs != AIR_HU).any()


@pytest.mark.parametrize("seed", range(20))
def test_label_resampling_is_itks_nearest_neighbour(seed):
    rng = np.random.default_rng(seed)
    grid = random_geometry(rng)
    labels = Volume(rng.choice([0, 1, 5], grid.shape).astype(np.uint8), grid)
    target = near(rng, grid)
    ours = on_grid(labels, target, nearest=True)
    theirs = itk_resampled(labels, target, "NearestNeighborInterpolateImageFunction", 0)
    index = grid.to_index(target.to_world(np.argwhere(ours.array != theirs)))
    assert (
        np.abs(index % 1 - 0.5).min(axis=-1) < 1e-6
    ).all()  # half-way between two voxels either is nearest
    assert set(np.unique(ours.array)) <= {0, 1, 5}


def test_resampling_onto_its_own_grid_changes_nothing():
    ct = body_ct(oblique(17))
    np.testing.assert_array_equal(on_grid(ct, ct.geometry).array, ct.array)
    labels = ct.with_array((ct.array > 0).astype(np.uint8))
    np.testing.assert_array_equal(on_grid(labels, ct.geometry, nearest=True).array, labels.array)


def test_a_linear_image_is_resampled_exactly():
    grid = oblique(30, shape=(10, 10, 10), spacing_mm=(2.0, 2.0, 2.0))
    world = grid.to_world(np.argwhere(np.ones(grid.shape)))
    ct = Volume(
        (3 * world[:, 0] - 2 * world[:, 1] + 5 * world[:, 2]).reshape(grid.shape).round().astype(np.int16),
        grid,
    )
    inner = grid.part((2, 2, 2), (8, 8, 8))
    fine = Geometry((11, 11, 11), (1.0, 1.0, 1.0), inner.origin_mm, inner.direction)
    points = fine.to_world(np.argwhere(np.ones(fine.shape)))
    expected = (3 * points[:, 0] - 2 * points[:, 1] + 5 * points[:, 2]).reshape(fine.shape)
    assert np.abs(on_grid(ct, fine).array - expected).max() <= 1.0


def test_world_and_index_are_inverse():
    grid = random_geometry(np.random.default_rng(5))
    index = np.random.default_rng(6).normal(0, 20, (50, 3))
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-9)


def test_world_points_are_itks():
    grid = random_geometry(np.random.default_rng(7))
    image = as_itk(Volume(np.zeros(grid.shape, np.uint8), grid))
    for z, y, x in ((0, 0, 0), (1, 2, 3), (5, 4, 0)):
        expected = np.array(image.TransformIndexToPhysicalPoint([x, y, z]))
        np.testing.assert_allclose(grid.to_world(np.array([z, y, x])), expected, atol=1e-9)


def test_part_keeps_places():
    grid = random_geometry(np.random.default_rng(8))
    part = grid.part((-2, 1, 3), (4, 5, 6))
    assert part.shape == (6, 4, 3)
    np.testing.assert_allclose(part.to_world(np.array([2, 1, 1])), grid.to_world(np.array([0, 2, 4])))


@pytest.mark.parametrize("code", ["LPS", "RAS", "IPL", "SLA", "ARI"])
def test_pieces_are_pasted_where_they_belong_whatever_the_axes_and_threads(code):
    rng = np.random.default_rng(ord(code[0]))
    shape = (70, 6, 7)
    original = oriented(Volume(np.zeros(shape, np.int16), Geometry(shape, (1.0, 1.0, 1.0))), code)
    expected = np.zeros(shape, np.uint8)
    parts = []
    for _ in range(3):
        lo = [int(rng.integers(0, n)) for n in shape]
        hi = [int(rng.integers(a, n + 1)) for a, n in zip(lo, shape, strict=True)]
        labels = rng.choice(np.arange(3, dtype=np.uint8), np.subtract(hi, lo), p=(0.9, 0.05, 0.05))
        here = tuple(map(slice, lo, hi))
        expected[here] = np.where(expected[here] > 0, expected[here], labels)
        parts.append(((lo[0], lo[1], lo[2]), labels))
    for threads in (1, 3):
        whole = pasted(parts, original, threads)
        assert whole.geometry == original.geometry and whole.array.dtype == np.uint8
        np.testing.assert_array_equal(canonical(whole).array, expected)


@pytest.mark.parametrize(
    "code",
    ["".join(p) for letters in itertools.product("LR", "PA", "SI") for p in itertools.permutations(letters)],
)
def test_oriented_says_and_does_what_its_code_says(code):
    volume = Volume(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), oblique(8, shape=(3, 4, 5)))
    turned = oriented(volume, code)
    assert orientation(turned.geometry) == code + "~"
    index = np.argwhere(turned.array >= 0)
    back = np.rint(volume.geometry.to_index(turned.geometry.to_world(index))).astype(int)
    np.testing.assert_array_equal(volume.array[tuple(back.T)], turned.array.ravel())


def test_oriented_refuses_other_codes():
    volume = Volume(np.zeros((3, 4, 5), np.uint8), oblique(0, shape=(3, 4, 5)))
    for code in ("LPL", "LP", "XYZ", "LRS"):
        with pytest.raises(ValueError, match="one letter each"):
            oriented(volume, code)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (0, 1, 1)}, "sizes of at least 1"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "must be positive"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "must be positive"),
        ({"direction": ((1.0, 0.1, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))}, "orthonormal"),
        ({"direction": ((float("nan"),) * 3,) * 3}, "orthonormal"),
    ],
)
def test_impossible_grids_are_refused(change, message):
    fields = {"shape": (2, 2, 2), "spacing_mm": (1.0, 1.0, 1.0), **change}
    with pytest.raises(ValueError, match=message):
        Geometry(**fields)


def test_mixing_grids_raises():
    grid = oblique(0)
    a = Volume(np.zeros(grid.shape, np.uint8), grid)
    for other in (oblique(0.1), oblique(0, spacing_mm=(2.0, 0.75, 0.501)), oblique(0, shape=(12, 14, 17))):
        with pytest.raises(ValueError, match="here: both volumes must lie on one grid"):
            require_same_grid("here", a, Volume(np.zeros(other.shape, np.uint8), other))
    require_same_grid("here", a, Volume(a.array, oblique(1e-7)))
    with pytest.raises(ValueError, match="geometry says"):
        Volume(np.zeros((1, 2, 3)), grid)


def test_the_preview_shows_each_structure_in_its_colour(tmp_path):
    import PIL.Image

    grid = oblique(0, shape=(20, 20, 40), spacing_mm=(2.0, 1.0, 1.0))
    ct = Volume(np.full(grid.shape, 40, np.int16), grid)
    labels = np.zeros(grid.shape, np.uint8)
    labels[5:9, 5:12, 4:12] = PARENCHYMA
    labels[12:15, 5:12, 28:36] = PARENCHYMA
    picture = overlay(ct, Volume(labels, grid))
    assert picture.shape[0] == HEIGHT and picture.dtype == np.uint8
    write_png(tmp_path / "p.png", picture)
    with PIL.Image.open(tmp_path / "p.png") as read:
        np.testing.assert_array_equal(np.asarray(read), picture)
    grey = round((40 + 160) / 400 * 255)
    rgb = next(s.rgb for s in STRUCTURES if s.label == PARENCHYMA)
    expected = {(grey,) * 3, tuple(round((grey + c) / 2) for c in rgb)}
    found = {tuple(int(v) for v in colour) for colour in np.unique(picture.reshape(-1, 3), axis=0)}
    assert all(any(max(abs(a - b) for a, b in zip(f, e, strict=True)) <= 1 for e in expected) for f in found)
    # axial slice of the right kidney first: it lies on the viewer's left
    coloured = (picture != picture[..., :1]).any(axis=2)
    first = coloured[:, : HEIGHT * 40 // 20]
    assert first[:, : first.shape[1] // 2].any() and not first[:, first.shape[1] // 2 :].any()
    empty = overlay(canonical(ct), Volume(np.zeros(grid.shape, np.uint8), grid))
    assert (empty == grey).all()
