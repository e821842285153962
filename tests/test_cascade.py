"""The cascade end to end on a phantom: labels on the CT's own grid, however the CT lies in memory."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from small_cohort import one_voxel

from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import CohortConfig, NetConfig
from kidseg_jax.imaging.postprocess import DEFAULT, NOTHING
from kidseg_jax.imaging.structures import N_CLASSES, NAMES
from kidseg_jax.imaging.volume import Geometry, Volume, canonical, pasted
from kidseg_jax.network import cascade, checkpoint
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.found_kidney import FoundKidney, disjoint, label_kidney
from kidseg_jax.network.models import N_COARSE, Models, load_models, save_models, told_structures
from kidseg_jax.network.roi import Roi, fine_roi, sample_ct, sample_labels
from kidseg_jax.network.samples import Sample, coarse_sample
from kidseg_jax.network.unet import make_unet
from kidseg_jax.phantom.cohort import make_case

COARSE = NetConfig(features=(4, 8), patch=(40, 48, 56), spacing_mm=8.0)
FINE = NetConfig(features=(4, 8), patch=(40, 32, 36), spacing_mm=4.0, offset_mm=(-10.0, -5.0, 18.0))


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(COARSE, FINE, make_unet(COARSE, N_COARSE, 1)[1], make_unet(FINE, N_CLASSES, 2)[1])


@pytest.fixture(scope="module")
def case():
    return make_case(CohortConfig(patients=4, kidneys=8, rcc_kidneys=2), 0, 0)


@pytest.fixture
def oracle(monkeypatch, models, case):
    """Networks that answer with the truth: what is left is the cascade's own geometry."""
    ct = canonical(case.ct)
    kidneys = kidneys_of(case)
    alone = {kidney.side: kidney.alone(ct.geometry.shape) for kidney in kidneys}
    coarse = coarse_sample(ct, kidneys, COARSE, 0.0)
    known: dict[int, list[Sample]] = {N_COARSE: [coarse], N_CLASSES: []}

    def answers(net, n_classes):
        def logits(params, images):
            found = []
            for image in np.asarray(images):
                distance = [np.abs(s.ct.astype(float) - image).mean() for s in known[n_classes]]
                found.append(
                    10 * np.eye(n_classes, dtype=np.float32)[known[n_classes][np.argmin(distance)].labels]
                )
            return np.stack(found)

        return logits

    monkeypatch.setattr(cascade, "_jitted", answers)
    for candidate in cascade.find_kidneys(models, ct):
        side, roi = candidate.side, candidate.roi
        sampled = sample_ct(ct.array, ct.spacing_mm, roi)
        known[N_CLASSES].append(Sample(sampled, sample_labels(alone[side], ct.spacing_mm, roi)))


def turned(volume: Volume) -> Volume:
    """The same patient on a grid with its axes in another order and one of them flipped."""
    g = volume.geometry
    array = np.ascontiguousarray(volume.array.transpose(2, 0, 1)[::-1])
    z, y, x = g.spacing_mm
    corner = g.to_world([[0, 0, volume.array.shape[2] - 1]])[0]
    direction = ((0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    return Volume(array, Geometry(array.shape, (x, z, y), tuple(corner.tolist()), direction))


def test_true_answers_come_back_as_true_labels(oracle, models, case):
    prediction = predict(models, case.ct)
    assert [k.side for k in prediction.kidneys] == ["right", "left"]
    truth, labels = case.labels.array >= 4, prediction.labels.array >= 4
    assert prediction.labels.geometry == case.ct.geometry
    assert 2 * (truth & labels).sum() / (truth.sum() + labels.sum()) > 0.93  # 4 mm voxels of a kidney


def test_labels_do_not_depend_on_the_order_of_the_axes(oracle, models, case):
    straight, other = predict(models, case.ct), predict(models, turned(case.ct))
    assert other.labels.geometry == turned(case.ct).geometry
    assert np.array_equal(canonical(other.labels).array, canonical(straight.labels).array)


def test_a_kidney_at_the_rim_of_the_ct_is_incomplete(oracle, models, case):
    prediction = predict(models, case.ct)
    assert not any(k.incomplete for k in prediction.kidneys)
    scores = np.zeros((*FINE.patch, N_CLASSES), np.float32)
    scores[..., 4] = 1
    roi = fine_roi(FINE, (0.0, 150.0, 150.0), "right")
    assert label_kidney(canonical(case.ct), "right", roi, scores, 1).incomplete


def test_the_largest_kidney_alone_is_kept_unless_all_is_asked_for(case):
    scores = np.zeros((*FINE.patch, N_CLASSES), np.float32)
    z, y, x = (n // 4 for n in FINE.patch)
    scores[..., 0] = 0.5
    scores[z : 3 * z, y : 3 * y, x : 2 * x, 4] = 1
    scores[z : 3 * z, y : 3 * y, 3 * x : -2, 5] = 1  # a mass, away from the kidney
    roi = fine_roi(FINE, (75.0, 150.0, 150.0), "right")
    tidy, raw = (label_kidney(canonical(case.ct), "right", roi, scores, 1, only) for only in (True, False))
    assert not (tidy.labels == 5).any() and (raw.labels == 5).any()
    assert np.count_nonzero(tidy.labels == 4) == np.count_nonzero(raw.labels == 4) > 0


@pytest.mark.parametrize("seed", range(8))
def test_a_voxel_that_two_kidneys_claim_is_the_firsts_in_the_map_and_in_its_volumes(seed):
    rng = np.random.default_rng(seed)
    ct = Volume(np.zeros((9, 10, 11), np.int16), Geometry((9, 10, 11), (1.0, 1.0, 1.0)))
    claimed = []
    for side in ("right", "left", "left"):
        lo = rng.integers(0, 5, 3)
        hi = lo + rng.integers(1, 5, 3)
        labels = rng.integers(0, 6, hi - lo).astype(np.uint8)
        claimed.append(FoundKidney(side, tuple(lo.tolist()), tuple(hi.tolist()), labels, False))
    whole = pasted([(k.lo, k.labels) for k in claimed], ct).array
    expected = np.zeros(whole.shape, np.uint8)
    for kidney in claimed:
        for at in np.ndindex(kidney.labels.shape):
            place = tuple(np.add(kidney.lo, at))
            expected[place] = expected[place] or kidney.labels[at]
    np.testing.assert_array_equal(whole, expected)
    counts = np.sum([np.bincount(k.labels.ravel(), minlength=6) for k in disjoint(claimed)], axis=0)
    np.testing.assert_array_equal(counts[1:], np.bincount(whole.ravel(), minlength=6)[1:])


def test_no_kidney_is_an_empty_prediction(models):
    air = Volume(np.full((20, 30, 30), -1000, np.int16), Geometry((20, 30, 30), (4.0, 4.0, 4.0)))
    biased = models._replace(coarse=make_unet(COARSE, N_COARSE, 1)[1])
    prediction = predict(_says_background(biased), air)
    assert prediction.kidneys == ()
    assert not prediction.labels.array.any()


def _says_background(models: Models) -> Models:
    coarse = models.coarse
    bias: Any = coarse["head"]["bias"]
    bias.set_value(bias.get_value().at[0].set(1e6))
    return models._replace(coarse=coarse)


def test_nan_voxels_are_refused(models):
    array = np.zeros((8, 8, 8), np.float32)
    array[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="got 1 that are not"):
        predict(models, Volume(array, Geometry((8, 8, 8), (4.0, 4.0, 4.0))))


def test_models_come_back_from_a_file(tmp_path, models, case, monkeypatch):
    monkeypatch.setattr(cascade, "MOST_GROWTHS", 0)
    save_models(tmp_path / "stage_2" / "models.safetensors", models)
    again = load_models(tmp_path)
    assert (again.coarse_net, again.fine_net, again.trained_on) == (COARSE, FINE, None)
    assert np.array_equal(predict(again, case.ct).labels.array, predict(models, case.ct).labels.array)
    with pytest.raises(FileNotFoundError, match="found none"):
        load_models(tmp_path / "stage_2")


@pytest.mark.parametrize("withheld, other", [("rcc", 4), ("artery", 0)])
def test_a_withheld_structure_is_told_as_another_and_stays_withheld_in_its_file(
    tmp_path, models, monkeypatch, withheld, other
):
    save_models(tmp_path / "m.safetensors", models._replace(withheld=(withheld,)))
    kept = load_models(tmp_path / "m.safetensors")
    assert kept.withheld == (withheld,) and told_structures(kept) == {*NAMES} - {withheld}
    label = NAMES.index(withheld) + 1
    odds = np.log(np.array([0.3, 0.1, 0.1, 0.1, 0.1, 0.1], np.float32))
    odds[label] = np.log(0.4)
    monkeypatch.setattr(cascade, "_jitted", lambda net, n: lambda params, hu: np.tile(odds, (*hu.shape, 1)))
    hu = np.zeros((1, 2, 2, 2), np.int16)
    scores = cascade._fine_logits(kept)(hu)
    assert (cascade._fine_logits(models)(hu).argmax(-1) == label).all()
    assert (scores[..., label] < -1000).all()
    together = np.exp(odds[[label, other]]).sum()
    np.testing.assert_allclose(np.exp(scores[..., other]), together, rtol=1e-5)


def test_structures_withheld_that_are_none_are_refused(tmp_path, models):
    save_models(tmp_path / "m.safetensors", models._replace(withheld=("liver",)))
    with pytest.raises(ValueError, match="need withheld structures among"):
        load_models(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        {"coarse_net": None, "step": 100},  # a checkpoint of training
        {"coarse_net": {**asdict(COARSE), "strides": 2}},  # a later version's
        {"trained_on": {"cases": "phantoms"}},
    ],
)
def test_a_checkpoint_that_does_not_say_what_models_do_is_refused(tmp_path, models, change):
    said = {"coarse_net": asdict(COARSE), "fine_net": asdict(FINE), **change}
    about = {name: value for name, value in said.items() if value is not None}
    checkpoint.save(tmp_path / "file.safetensors", {"coarse": models.coarse, "fine": models.fine}, about)
    with pytest.raises(ValueError, match=r"file.safetensors: need both networks as this version saves them"):
        load_models(tmp_path / "file.safetensors")


@pytest.mark.parametrize(
    "change, said",
    [
        ({"features": [2**20, 2**20]}, "at most 10 levels of 4096 channels"),
        ({"features": [4096, 4096]}, "a fine network of its settings has"),
        ({"features": [2, 4] * 100_000}, "at most 10 levels"),
        ({"features": ["8", "16"]}, "need both networks"),
        ({"patch": [2**40, 4, 4]}, "at most"),
        ({"window_hu": [float("nan"), 1.0]}, "both finite"),
        ({"spacing_mm": float("inf")}, "must be positive"),
    ],
)
def test_sizes_that_a_file_claims_are_checked_before_memory_is_taken(
    tmp_path, models, change, said, monkeypatch
):
    about = {"coarse_net": asdict(COARSE), "fine_net": {**asdict(FINE), **change}}
    checkpoint.save(tmp_path / "file.safetensors", {"coarse": models.coarse, "fine": models.fine}, about)
    monkeypatch.setattr("kidseg_jax.network.models.make_unet", None)  # never asked
    with pytest.raises(ValueError, match=f"file.safetensors: .*{said}"):
        load_models(tmp_path / "file.safetensors")


def test_kidneys_are_named_by_case_and_side():
    assert one_voxel("case_00001", "p", "left").name == "case_00001_left"


def ellipsoid_ct(centre_mm: tuple[float, float, float], half_mm: tuple[float, float, float]) -> Volume:
    """A body of 40 HU with one kidney of 300 HU, to the right of its middle, at 3 mm."""
    shape = (90, 60, 80)
    at = np.meshgrid(*[np.arange(n) * 3.0 for n in shape], indexing="ij")
    inside = sum(((a - c) / h) ** 2 for a, c, h in zip(at, centre_mm, half_mm, strict=True)) <= 1
    return Volume(np.where(inside, 300, 40).astype(np.int16), Geometry(shape, (3.0, 3.0, 3.0)))


@pytest.fixture
def bright_is_kidney(monkeypatch):
    """Networks that call every voxel over 170 HU kidney: what they see of it is what the ROI holds."""

    def answers(net, n_classes):
        return lambda params, hu: (
            10 * np.eye(n_classes, dtype=np.float32)[np.where(np.asarray(hu) > 170, n_classes * 2 // 3, 0)]
        )

    monkeypatch.setattr(cascade, "_jitted", answers)


@pytest.mark.parametrize("middle_z", [135.0, 120.0])
def test_a_kidney_larger_than_its_roi_is_whole_after_growing(bright_is_kidney, models, monkeypatch, middle_z):
    ct = ellipsoid_ct((middle_z, 90.0, 60.0), (105.0, 30.0, 30.0))  # 210 mm tall, the patch is 160
    truth = ct.array == 300

    def dsc(prediction) -> float:
        labels = prediction.labels.array > 0
        return 2 * (truth & labels).sum() / (truth.sum() + labels.sum())

    whole = predict(models, ct)
    assert dsc(whole) > 0.95
    assert [k.incomplete for k in whole.kidneys] == [False]
    monkeypatch.setattr(cascade, "MOST_GROWTHS", 0)
    clipped = predict(models, ct)
    assert dsc(clipped) < 0.95
    assert [k.incomplete for k in clipped.kidneys] == [True]


def test_a_kidney_cut_by_the_field_of_view_is_incomplete(bright_is_kidney, models):
    whole = predict(models, ellipsoid_ct((90.0, 90.0, 60.0), (50.0, 30.0, 30.0)))
    cut = predict(models, ellipsoid_ct((30.0, 90.0, 60.0), (50.0, 30.0, 30.0)))
    assert [k.incomplete for k in whole.kidneys + cut.kidneys] == [False, True]
    assert cut.labels.array[0].any()


def test_left_kidneys_grow_to_their_own_side(bright_is_kidney, models):
    ct = ellipsoid_ct((135.0, 90.0, 160.0), (40.0, 30.0, 75.0))  # 150 mm wide, the patch is 144
    prediction = predict(models, ct)
    truth, labels = ct.array == 300, prediction.labels.array > 0
    assert [k.side for k in prediction.kidneys] == ["left"]
    assert 2 * (truth & labels).sum() / (truth.sum() + labels.sum()) > 0.95


@pytest.mark.parametrize("mirrored", [False, True])
def test_eight_looks_lie_where_the_parts_of_voxels_do(monkeypatch, models, mirrored):
    """A network that tells the HU it sees, and a CT whose HU are a slope along every axis."""
    z, y, x = np.meshgrid(*[np.arange(n) for n in (120, 130, 140)], indexing="ij")
    ct = Volume((3 * z + 2 * y + x).astype(np.int16), Geometry(z.shape, (2.0, 2.0, 2.0)))
    monkeypatch.setattr(
        cascade, "_jitted", lambda net, n: lambda _, hu: hu[..., None] * np.arange(n, dtype=np.float32)
    )
    net = replace(FINE, looks=2, patch=(12, 16, 8))
    roi = Roi((12, 24, 8), 4.0, (120.0, 130.0, 140.0), mirrored)
    scores = cascade._looked(models._replace(fine_net=net), ct, roi, 1)
    expected = sample_ct(ct.array, ct.spacing_mm, roi.finer(2))
    assert scores.shape == (*expected.shape, N_CLASSES)
    np.testing.assert_allclose(scores[..., 1], expected, atol=1.01)  # HU are whole numbers
    np.testing.assert_allclose(scores[..., 3], 3 * scores[..., 1], rtol=1e-5)


def test_labels_of_eight_looks_are_those_of_the_kidney(bright_is_kidney, models):
    ct = ellipsoid_ct((135.0, 90.0, 160.0), (40.0, 30.0, 75.0))  # grows on its way
    prediction = predict(models._replace(fine_net=replace(FINE, looks=2)), ct)
    truth, labels = ct.array == 300, prediction.labels.array > 0
    assert [(k.side, k.incomplete) for k in prediction.kidneys] == [("left", False)]
    assert 2 * (truth & labels).sum() / (truth.sum() + labels.sum()) > 0.97


def test_predict_applies_the_rules_that_it_is_given(bright_is_kidney, models):
    ct = ellipsoid_ct((135.0, 90.0, 60.0), (50.0, 30.0, 30.0))
    fleck = (slice(60, 64), slice(40, 44), slice(20, 24))
    ct.array[fleck] = 300
    for rules, stays in ((NOTHING, True), (DEFAULT, False), (replace(NOTHING, one_parenchyma=True), False)):
        prediction = predict(models, ct, rules=rules)
        assert prediction.labels.array[fleck].any() == stays
        assert prediction.labels.array[45, 30, 20]
        assert (
            sum(int((k.labels > 0).sum()) for k in prediction.kidneys) == (prediction.labels.array > 0).sum()
        )


def test_too_little_memory_names_the_patch_and_what_to_lower():
    """The patch's first activations alone are 128 GiB."""
    net = NetConfig(features=(512, 2), patch=(256, 256, 512))
    params = make_unet(net, N_CLASSES, 0)[1]
    logits = cascade._logits(net, N_CLASSES, params)
    with pytest.raises(ValueError, match=r"out of memory .* patch of 256x256x512 voxels, batch 2.*lower"):
        logits(np.zeros((2, *net.patch), np.int16))
