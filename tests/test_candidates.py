"""What passes for a kidney: pieces on the coarse grid, what both networks say, traits of what is found."""

from dataclasses import replace

import numpy as np
import pytest
from test_cascade import FINE, ellipsoid_ct

from kidseg_jax.imaging.structures import N_CLASSES, PARENCHYMA, RCC
from kidseg_jax.network import cascade
from kidseg_jax.network.candidates import (
    FAINT,
    LEAST,
    MOST_LOOKS,
    SMALLEST_SEEN_ML,
    SURE,
    Candidate,
    Seen,
    Traits,
    agreed,
    candidates_in,
    is_kidney,
    is_uncertain,
    likeliest,
    traits_of,
    unlike,
)
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.found_kidney import FoundKidney, label_kidney
from kidseg_jax.network.models import N_COARSE, Models
from kidseg_jax.network.roi import Roi
from kidseg_jax.network.unet import make_unet

GRID = Roi((40, 40, 60), 6.0, (117.0, 117.0, 177.0))  # its voxel i lies at 6 i mm
PASSES = Traits(ml=150.0, mean_hu=120.0, certainty=0.9, covered=0.9)


def side_at(lo_mm, hi_mm, centre_mm):
    return "right" if centre_mm[2] < 177 else "left"


def seen_at(*boxes, faint=()) -> np.ndarray:
    """What the coarse network sees on GRID: boxes (first corner, sides) in voxels, and others faintly."""
    margin = np.full(GRID.shape, 2 * FAINT, np.float32)
    for value, there in ((FAINT / 2, faint), (1.0, boxes)):
        for corner, sides in there:
            margin[tuple(slice(a, a + n) for a, n in zip(corner, sides, strict=True))] = value
    return margin


def test_pieces_come_largest_first_few_a_side_and_specks_not_at_all():
    assert (2 * 3 * 3) * 6**3 < 1000 * SMALLEST_SEEN_ML < (3 * 3 * 3) * 6**3
    right = [((i * 10, 5, 5), (5, 5 + i, 5)) for i in range(4)]
    left = [((20, 20, 40), (8, 8, 8)), ((2, 2, 50), (2, 3, 3))]
    candidates = candidates_in(seen_at(*right, *left), GRID, FINE, side_at)
    assert [(c.side, int(c.piece.sum())) for c in candidates] == [
        ("left", 512),
        ("right", 200),
        ("right", 175),
        ("right", 150),
    ]
    assert len([c for c in candidates if c.side == "right"]) == MOST_LOOKS
    middle = np.array((20, 20, 40)) + 3.5
    offset = np.multiply(FINE.offset_mm, (1, 1, -1))  # of a left kidney, mirrored
    np.testing.assert_allclose(candidates[0].roi.centre_mm, middle * 6.0 + offset)
    assert candidates[0].roi.mirrored and not candidates[1].roi.mirrored
    assert [int(c.piece.sum()) for c in likeliest(candidates)] == [200, 512]
    assert candidates_in(seen_at(), GRID, FINE, side_at) == [] == likeliest([])


def test_what_is_seen_faintly_comes_after_what_is_seen_and_never_twice():
    right, core, left = ((10, 10, 10), (4, 4, 4)), ((12, 12, 42), (4, 4, 4)), ((10, 10, 40), (8, 8, 8))
    candidates = candidates_in(
        seen_at(right, core, faint=(left, ((30, 30, 5), (9, 9, 9)))), GRID, FINE, side_at
    )
    assert [(c.side, int(c.piece.sum())) for c in candidates] == [("right", 64), ("left", 64), ("right", 729)]
    candidates = candidates_in(seen_at(right, faint=(left,)), GRID, FINE, side_at)
    assert [(c.side, int(c.piece.sum())) for c in likeliest(candidates)] == [("right", 64), ("left", 512)]


@pytest.fixture
def candidate() -> Candidate:
    return candidates_in(seen_at(((10, 10, 10), (6, 5, 5))), GRID, FINE, side_at)[0]


def scores_of(roi: Roi, *boxes) -> np.ndarray:
    """Logits of an ROI, 5 for a class in a box (lo and hi in mm, class), else 5 for the background."""
    at = [
        np.array([roi.to_mm((i, j, k))[axis] for i, j, k in indices])
        for axis, indices in enumerate(axes(roi))
    ]
    winners = np.zeros(roi.shape, np.int64)
    for lo, hi, label in boxes:
        ranges = [(lo[axis] <= at[axis]) & (at[axis] < hi[axis]) for axis in range(3)]
        winners[np.ix_(*ranges)] = label
    return 5 * np.eye(N_CLASSES, dtype=np.float32)[winners]


def axes(roi: Roi):
    for axis, n in enumerate(roi.shape):
        yield [tuple(i if a == axis else 0 for a in range(3)) for i in range(n)]


SEEN_MM = ((57.0, 57.0, 57.0), (93.0, 87.0, 87.0))  # what the coarse network saw


def test_kidney_far_from_all_that_the_coarse_network_saw_is_background_and_its_vessels_are_not(candidate):
    far = ((135.0, 57.0, 57.0), (150.0, 70.0, 70.0))
    near = ((93.0, 57.0, 57.0), (100.0, 70.0, 70.0))  # six coarse voxels are 36 mm
    scores = scores_of(candidate.roi, (*SEEN_MM, PARENCHYMA), (*near, RCC), (*far, PARENCHYMA))
    kept = agreed(candidate, candidate.roi, scores)
    expected = scores_of(candidate.roi, (*SEEN_MM, PARENCHYMA), (*near, RCC)).argmax(-1)
    assert (scores.argmax(-1) != expected).any()
    np.testing.assert_array_equal(kept.argmax(-1), expected)
    vessel = scores_of(candidate.roi, (*SEEN_MM, PARENCHYMA), (*far, 1))
    assert agreed(candidate, candidate.roi, vessel) is vessel


def test_traits_are_those_of_the_largest_kidney(candidate):
    half = (SEEN_MM[0], (75.0, 87.0, 87.0))
    fleck = ((100.0, 57.0, 57.0), (106.0, 63.0, 63.0))
    scores = scores_of(candidate.roi, (*half, PARENCHYMA), (*fleck, PARENCHYMA))
    ct = ellipsoid_ct((72.0, 72.0, 72.0), (400.0, 400.0, 400.0))  # 300 HU everywhere
    kidney = label_kidney(ct, "right", candidate.roi, scores, threads=1)
    traits = traits_of(kidney, candidate, candidate.roi, scores, ct)
    assert traits is not None
    winners = scores_of(candidate.roi, (*half, PARENCHYMA)).argmax(-1)
    assert traits.ml == pytest.approx((winners > 0).sum() * FINE.spacing_mm**3 / 1000)
    assert traits.mean_hu == 300
    assert traits.certainty == pytest.approx(np.exp(5) / (np.exp(5) + N_CLASSES - 1), rel=1e-5)
    assert traits.covered == pytest.approx(traits.ml / (6 * 5 * 5 * 6**3 / 1000), rel=1e-6)
    nothing = scores_of(candidate.roi)
    kidney = label_kidney(ct, "right", candidate.roi, nothing, threads=1)
    assert traits_of(kidney, candidate, candidate.roi, nothing, ct) is None


def test_every_trait_can_refuse_a_kidney():
    assert is_kidney(PASSES) and not is_kidney(None)
    for name, least in LEAST.items():
        assert is_kidney(PASSES._replace(**{name: least}))
        assert not is_kidney(PASSES._replace(**{name: np.nextafter(least, -np.inf)}))


def test_a_kidney_is_uncertain_below_the_certainty_of_most():
    kidney = FoundKidney("right", (0, 0, 0), (1, 1, 1), np.zeros((1, 1, 1), np.uint8), False)
    assert not is_uncertain(Seen(kidney, PASSES._replace(certainty=SURE)))
    assert is_uncertain(Seen(kidney, PASSES._replace(certainty=np.nextafter(SURE, 0))))


@pytest.mark.parametrize(
    "right, left, side",
    [
        (PASSES._replace(mean_hu=200), PASSES._replace(mean_hu=75, ml=60), "left"),
        (PASSES._replace(mean_hu=200), PASSES._replace(mean_hu=75, ml=400, certainty=0.89), "left"),
        (PASSES._replace(mean_hu=200, ml=20), PASSES._replace(mean_hu=75), "right"),
        (PASSES._replace(mean_hu=200, certainty=0.6), PASSES._replace(mean_hu=75), "right"),
        (PASSES._replace(mean_hu=200), PASSES._replace(mean_hu=85), None),  # more than 0.4 of the other
        (PASSES._replace(mean_hu=100), PASSES._replace(mean_hu=25), None),  # less than 80 HU apart
        (PASSES, None, None),
    ],
)
def test_of_two_kidneys_too_unlike_for_one_patient_the_less_likely_goes(right, left, side):
    kidney = FoundKidney("right", (0, 0, 0), (1, 1, 1), np.zeros((1, 1, 1), np.uint8), False)
    one, other = Seen(kidney, right), Seen(replace(kidney, side="left"), left)
    assert unlike({"right": one, "left": other}) == unlike({"left": other, "right": one}) == side


def test_where_the_largest_piece_is_no_kidney_the_next_is_looked_at(monkeypatch):
    """A large thing that the coarse network alone takes for a kidney, and a smaller one that both do."""
    models = Models(FINE, FINE, make_unet(FINE, N_COARSE, 1)[1], make_unet(FINE, N_CLASSES, 2)[1])
    ct = ellipsoid_ct((60.0, 90.0, 60.0), (40.0, 30.0, 30.0))
    liver = (slice(55, 85), slice(15, 45), slice(5, 35))
    ct.array[liver] = 100

    def answers(net, n_classes):
        least = 70 if n_classes == N_COARSE else 170
        return lambda params, hu: (
            10 * np.eye(n_classes, dtype=np.float32)[np.where(np.asarray(hu) > least, n_classes * 2 // 3, 0)]
        )

    monkeypatch.setattr(cascade, "_jitted", answers)
    found = predict(models, ct)
    truth, labels = ct.array == 300, found.labels.array > 0
    assert [k.side for k in found.kidneys] == ["right"]
    assert 2 * (truth & labels).sum() / (truth.sum() + labels.sum()) > 0.9
    monkeypatch.setattr("kidseg_jax.network.candidates.MOST_LOOKS", 1)
    assert predict(models, ct).kidneys == ()
