"""A case whose labels lack a structure teaches what it has, and never that the rest is background."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from small_cohort import body, write_cohort

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import Config, NetConfig, TrainConfig
from kidseg_jax.imaging.structures import ARTERY, N_CLASSES, NAMES, PARENCHYMA
from kidseg_jax.imaging.volume import Volume, canonical
from kidseg_jax.network.augment import to_window
from kidseg_jax.network.cascade import Prediction
from kidseg_jax.network.found_kidney import FoundKidney
from kidseg_jax.network.models import Models, told_structures
from kidseg_jax.network.samples import Sample
from kidseg_jax.network.training import never_labelled, start, train
from kidseg_jax.network.unet import make_unet
from kidseg_jax.staging.case_work import pair_kidneys, teach

NET = NetConfig(features=(4, 8), patch=(8, 8, 12), spacing_mm=4.0)
WEIGHTS = (1.0, 1.0, 1.0)
WITHOUT_ARTERY = frozenset(NAMES) - {"artery"}


def two_blocks(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """CTs and labels with a block of class 1 at 100 HU and one of class 2 at 250 HU."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        labels = np.zeros((12, 12, 16), np.uint8)
        labels[3:9, 3:9, 3:7], labels[3:9, 3:9, 8:12] = 1, 2
        ct = rng.normal(0, 10, labels.shape) + np.array([0, 100, 250])[labels]
        found.append((ct.astype(np.int16), labels))
    return found


def fitted(samples, steps=120):
    settings = TrainConfig(steps=steps, batch=2, class_weights=WEIGHTS, shift_mm=8.0, optimizer="muon")
    state, step = start(NET, settings, 3, steps, 0, never_labelled(samples))
    for _, after, _ in train(state, step, samples, steps, settings.batch, 1):
        state = after
    return state.params


def voxels_of_2(params, ct) -> float:
    """The share of the block of class 2 that is found."""
    apply, _ = make_unet(NET, 3, 0)
    inner = jnp.asarray(ct[2:10, 2:10, 2:14])
    found = np.asarray(apply(params, to_window(inner, NET.window_hu)[None, ..., None]).argmax(-1)[0])
    return float((found[1:7, 1:7, 6:10] == 2).mean())


def test_a_lacking_sample_does_not_teach_that_a_structure_is_background():
    """One sample tells class 2, five do not: they outvote it unless their background may be class 2."""
    blocks = two_blocks(7)
    (ct, whole), *others, (unseen, _) = blocks
    lacking = [(c, np.where(y == 2, 0, y).astype(np.uint8)) for c, y in others]
    wrongly = [Sample(ct, whole), *(Sample(c, y) for c, y in lacking)]
    rightly = [Sample(ct, whole), *(Sample(c, y, frozenset({2})) for c, y in lacking)]
    assert never_labelled(rightly) == frozenset()
    assert voxels_of_2(fitted(rightly), unseen) > 0.75
    assert voxels_of_2(fitted(wrongly), unseen) < 0.5


def test_what_no_sample_tells_is_never_predicted():
    samples = [Sample(c, np.where(y == 2, 0, y).astype(np.uint8), frozenset({2})) for c, y in two_blocks(2)]
    assert never_labelled(samples) == {2}
    params = fitted(samples, 20)
    apply, _ = make_unet(NET, 3, 0)
    logits = apply(params, jnp.zeros((1, *NET.patch, 1)))
    assert float(logits[..., 2].max()) < -5000 < float(logits[..., :2].min())


def test_the_networks_of_a_cohort_without_arteries_say_so():
    fine = start(NET, TrainConfig(steps=1), N_CLASSES, 1, 0, frozenset({ARTERY}))[0].params
    models = Models(NET, NET, fine, fine)
    assert told_structures(models) == WITHOUT_ARTERY
    whole = models._replace(fine=make_unet(NET, N_CLASSES, 0)[1])
    assert told_structures(whole) == frozenset(NAMES)


def small_config() -> Config:
    base = Config()
    return replace(base, fine=replace(base.fine, features=(4, 8), patch=(16, 16, 16), spacing_mm=8.0))


def test_samples_carry_what_their_labels_do_not_tell():
    ct, labels = body(0)
    case = Case("a", "a", ct, labels, WITHOUT_ARTERY)
    bare = labels.with_array(np.where(labels.array == ARTERY, 0, labels.array).astype(np.uint8))

    def unlabelled(drawn: Volume) -> set[frozenset[int]]:
        taught = teach(case, kidneys_of(replace(case, labels=drawn)), small_config(), 1)
        return {sample.unlabelled for sample in taught.fine}

    assert unlabelled(bare) == {frozenset({ARTERY})}
    assert unlabelled(labels) == {frozenset()}  # a person who corrected this case drew the arteries


def test_unlabelled_structures_are_no_error_of_a_prediction():
    ct, labels = body(0)
    kidneys = kidneys_of(Case("a", "a", ct, labels))
    drawn = canonical(labels).array
    seen = tuple(FoundKidney(k.side, *k.box, drawn[k.box.slices].copy(), False) for k in kidneys)
    bare = labels.with_array(np.where(labels.array == ARTERY, 0, labels.array).astype(np.uint8))
    case = Case("a", "a", ct, bare, WITHOUT_ARTERY)
    for pair in pair_kidneys(case, kidneys_of(case), Prediction(labels, tuple(seen))):
        assert set(np.unique(pair.predicted)) == {0, PARENCHYMA}
        np.testing.assert_array_equal(pair.predicted, pair.truth)


def test_the_table_of_patients_says_what_a_label_map_lacks(tmp_path):
    write_cohort(tmp_path, 2, 2)
    table = tmp_path / "patients.csv"
    table.write_text("case,patient,lacks\ncase_00000,a,vein ureter\ncase_00001,b,\n")
    cohort = load_cohort(tmp_path)
    assert cohort[0].structures == {"artery", "parenchyma", "rcc"}
    assert cohort[1].structures == frozenset(NAMES)
    assert cohort.structures == cohort[0].structures
    table.unlink()
    toml = tmp_path / "patients.toml"
    toml.write_text('[patients]\ncase_00000 = "a"\ncase_00001 = "b"\n[lacks]\ncase_00001 = ["rcc"]\n')
    assert load_cohort(tmp_path)[1].structures == frozenset(NAMES) - {"rcc"}
    for words, reason in (
        ('["artery"]', "holds artery"),
        ('["parenchyma"]', "lacks must be"),
        ('"rcc"', "lacks"),
    ):
        toml.write_text(f'[patients]\ncase_00000 = "a"\ncase_00001 = "b"\n[lacks]\ncase_00001 = {words}\n')
        with pytest.raises(ValueError, match=reason):
            _ = load_cohort(tmp_path)[1]
