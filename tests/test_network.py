"""The U-Net's parts against values derived by hand, its losses, its optimizers, and its state in files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kidseg_jax.config import PRESETS, NetConfig, TrainConfig
from kidseg_jax.network import checkpoint
from kidseg_jax.network.augment import random_patch, to_window
from kidseg_jax.network.conv3d import best_form
from kidseg_jax.network.layers import max_pool, upsample
from kidseg_jax.network.losses import merge_unlabelled, region_sums, segmentation_loss
from kidseg_jax.network.samples import Sample
from kidseg_jax.network.training import leaned_back, n_steps, order_of_samples, start, train
from kidseg_jax.network.unet import make_unet

SMALL = NetConfig(features=(4, 8), patch=(8, 8, 12), spacing_mm=4.0)


@pytest.mark.parametrize("n", [2, 3])
def test_max_pool_takes_the_largest_of_each_block(n):
    x = np.random.default_rng(n).normal(size=(2, 2 * n, n, 3 * n, 5)).astype(np.float32)
    pooled = np.asarray(max_pool(jnp.asarray(x), n))
    for z, y, x_ in np.ndindex(2, 1, 3):
        block = x[:, z * n : z * n + n, y * n : y * n + n, x_ * n : x_ * n + n]
        assert np.array_equal(pooled[:, z, y, x_], block.max((1, 2, 3)))


@pytest.mark.parametrize("n", [2, 3])
def test_max_pool_undoes_upsample(n):
    x = jax.random.normal(jax.random.key(n), (1, 2, 3, 4, 5))
    assert jnp.array_equal(max_pool(upsample(x, n), n), x)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_logits_for_its_patch(preset):
    net = PRESETS[preset].fine
    side = net.pool ** (len(net.features) - 1)
    apply, params = make_unet(
        NetConfig(net.features, net.pool, patch=(side, side, side), dtype=net.dtype), 6, 0
    )
    logits = apply(params, jnp.ones((1, side, side, 2 * side, 1)))
    assert logits.shape == (1, side, side, 2 * side, 6)
    assert logits.dtype == jnp.float32
    assert bool(jnp.isfinite(logits).all())


FORMS = pytest.mark.parametrize("form", ["lax", best_form()])


@FORMS
def test_region_sums_of_known_overlaps(form):
    labels = jnp.zeros((1, 4, 4, 4), jnp.int32).at[:, :2].set(1)
    seen = 100.0 * jax.nn.one_hot(jnp.roll(labels, 1, axis=1), 3)
    whole = [[16, 32, 32, 1600], [16, 32, 32, 1600], [0, 0, 0, 0]]
    np.testing.assert_allclose(region_sums(seen, labels, 1, form), whole, rtol=1e-5, atol=1e-6)


@FORMS
def test_dice_loss_of_known_overlaps(form):
    labels = jnp.zeros((1, 4, 4, 4), jnp.int32).at[:, :2].set(1)
    truth, half = (100.0 * jax.nn.one_hot(y, 2) for y in (labels, jnp.roll(labels, 1, axis=1)))
    assert segmentation_loss(truth, labels, (), 1, form) == pytest.approx(0.0, abs=1e-6)
    assert segmentation_loss(half, labels, (), 1, form) == pytest.approx(1 - (2 * 16 + 1) / (64 + 1))


@FORMS
def test_cross_entropy_of_even_odds_is_log_of_the_number_of_classes(form):
    labels = jnp.array([[[[0, 1], [2, 1]]]])
    loss = segmentation_loss(jnp.zeros((1, 1, 2, 2, 3)), labels, (1.0, 5.0, 9.0), 1, form)
    dice = [1 - (2 * n / 3 + 1) / (4 / 3 + n + 1) for n in (2, 1)]
    assert loss == pytest.approx(np.mean(dice) + np.log(3))


def test_weights_change_what_an_error_costs():
    labels = jnp.array([[[[0, 1]]]])
    wrong_on_1 = jnp.array([[[[[5.0, 0.0], [5.0, 0.0]]]]])
    light, heavy = (segmentation_loss(wrong_on_1, labels, (1.0, w)) for w in (1.0, 10.0))
    assert heavy > light


def merged_by_hand(logits, labels, unlabelled, weights, power):
    """The loss over merged classes, sample by sample: probabilities summed, then Dice and cross-entropy."""
    n_classes = logits.shape[-1]
    probs = jax.nn.softmax(logits)
    overlap, size, count = ([0.0] * n_classes for _ in range(3))
    nll = total = 0.0
    for p, y, lacks in zip(probs, labels, unlabelled, strict=True):
        told = [c for c in range(n_classes) if c not in lacks]
        merged = {c: p[..., c] for c in told}
        merged[0] = p[..., 0] + sum(p[..., c] for c in lacks)
        for c in told:
            here = (y == c).astype(logits.dtype)
            overlap[c] += (merged[c] * here).sum()
            size[c] += (merged[c] ** power).sum()
            count[c] += here.sum()
            nll -= weights[c] * (here * jnp.log(merged[c])).sum()
            total += weights[c] * here.sum()
    dice = [1 - (2 * o + 1) / (s + n + 1) for o, s, n in zip(overlap, size, count, strict=True)]
    there = [d for d, n in zip(dice[1:], count[1:], strict=True) if n > 0]
    return sum(there) / len(there) + nll / total


@pytest.mark.parametrize("power", [1, 2])
def test_unlabelled_classes_are_merged_with_the_background(power):
    rng = np.random.default_rng(power)
    lacking = [(), (1, 2), (4,)]
    logits = rng.normal(0, 3, (3, 4, 5, 6, 5))
    labels = rng.integers(0, 5, (3, 4, 5, 6))
    for y, lacks in zip(labels, lacking, strict=True):
        y[np.isin(y, lacks)] = 0
    unlabelled = np.array([[c in lacks for c in range(5)] for lacks in lacking])
    weights = (1.0, 20.0, 15.0, 2.0, 8.0)

    def loss(x, form):
        return segmentation_loss(x, jnp.asarray(labels), weights, power, form, jnp.asarray(unlabelled))

    with jax.enable_x64(True):
        wide = jnp.asarray(logits)
        expected = jax.value_and_grad(merged_by_hand)(wide, jnp.asarray(labels), lacking, weights, power)
        found = jax.value_and_grad(loss)(wide, "lax")
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-15)
    for form in ("lax", best_form()):
        narrow = jax.value_and_grad(loss)(jnp.asarray(logits, jnp.float32), form)
        np.testing.assert_allclose(narrow[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(narrow[1], expected[1], rtol=1e-4, atol=1e-7)


def test_a_sample_that_tells_all_classes_is_not_changed_by_merging():
    logits = jax.random.normal(jax.random.key(0), (2, 2, 3, 4, 5))
    unlabelled = jnp.zeros((2, 5), bool).at[1, 2].set(True)
    merged = merge_unlabelled(logits, unlabelled)
    assert jnp.array_equal(merged[0], logits[0])
    probs, summed = jax.nn.softmax(logits[1]), jax.nn.softmax(merged[1])
    np.testing.assert_allclose(summed[..., 0], probs[..., 0] + probs[..., 2], rtol=1e-5)
    assert not summed[..., 2].any()


def test_window_maps_its_ends_to_minus_one_and_one_and_clips_beyond():
    hu = jnp.array([-1000, -100, 100, 300, 3000], jnp.int16)
    np.testing.assert_allclose(to_window(hu, (-100.0, 300.0)), [-1.5, -1, 0, 1, 1.5])


def test_patches_move_image_and_labels_together():
    ct = jnp.arange(12 * 12 * 16, dtype=jnp.int16).reshape(12, 12, 16) % 199
    labels = (ct % 6).astype(jnp.uint8)
    size = jnp.array(ct.shape)
    for turned in (0.0, 10.0):
        settings = TrainConfig(steps=1, noise_sd=0.0, shift_mm=8.0, turn_deg=turned)
        starts = set()
        for seed in range(8):
            image, target = random_patch(jax.random.key(seed), ct, labels, size, SMALL, settings)
            assert image.shape == target.shape == SMALL.patch
            starts.add(float(image[0, 0, 0]))
            if not turned:
                hu = jnp.round((image + 1) * 200 - 100).astype(jnp.int32)
                assert jnp.array_equal(hu % 6, target)
        assert len(starts) > 2


@pytest.mark.parametrize("turn_deg", [0.0, 20.0])
def test_samples_of_every_size_share_one_program_and_train_as_they_are(turn_deg):
    rng, settings = np.random.default_rng(1), TrainConfig(steps=6, shift_mm=8.0, turn_deg=turn_deg, zoom=0.1)
    sizes = [(12, 12, 16), (14, 9, 20), (10, 16, 12)]
    every = [Sample(rng.normal(0, 90, n).astype(np.int16), rng.integers(0, 2, n, np.uint8)) for n in sizes]
    state, step = start(SMALL, settings, 2, 6, 0)
    together = [float(loss) for *_, loss in train(state, step, every, 6, 1, seed=3)]
    assert step._cache_size() == 1  # pyright: ignore[reportFunctionMemberAccess]
    state, step = start(SMALL, settings, 2, 6, 0)
    for drawn, seen in zip(order_of_samples(3, 6, 3), together, strict=True):
        ct, labels, size = every[drawn].ct, every[drawn].labels, np.array([sizes[drawn]], np.int32)
        state, loss = step(state, (jnp.asarray(ct),), (jnp.asarray(labels),), size, jax.random.key(3))
        assert float(loss) == pytest.approx(seen, rel=1e-6)


def samples(n: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        labels = np.zeros((12, 12, 16), np.uint8)
        labels[3:9, 4:9, 5:11] = 1
        found.append(Sample((rng.normal(0, 20, labels.shape) + 200 * labels).astype(np.int16), labels))
    return found


def run(settings: TrainConfig, total: int, stop: int | None = None, resume: str | None = None):
    state, step = start(SMALL, settings, 2, total, seed=3)
    if resume is not None:
        state = checkpoint.load(resume, state)
    losses = []
    for done, after, loss in train(state, step, samples(3), total, settings.batch, seed=4):
        state = after
        losses.append(float(loss))
        assert done == int(state.step)
        if done == stop:
            break
    return state, losses


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_the_loss_falls(optimizer):
    settings = TrainConfig(steps=30, batch=2, optimizer=optimizer, class_weights=(1.0, 2.0))
    _, losses = run(settings, 30)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_leaning_back_wholly_leaves_the_frequencies_that_weighted_cross_entropy_bends():
    net, frequency, weights = NetConfig(features=(4, 8), patch=(4, 4, 4)), (0.9, 0.02, 0.08), (1.0, 20.0, 5.0)
    apply, params = make_unet(net, 3, seed=0)
    head = params["head"]
    head["kernel"][...] = jnp.zeros(head["kernel"].shape)
    head["bias"][...] = jnp.log(jnp.array(frequency) * jnp.array(weights))  # where weighted entropy is least
    image = jnp.zeros((1, 4, 4, 4, 1))

    def told(share):
        settings = TrainConfig(class_weights=weights, lean_back=share)
        return np.asarray(jax.nn.softmax(apply(leaned_back(params, settings), image))[0, 0, 0, 0])

    np.testing.assert_allclose(told(1.0), frequency, rtol=1e-5)
    np.testing.assert_allclose(told(0.0), np.multiply(frequency, weights) / 1.7, rtol=1e-5)
    assert told(0.0)[1] > told(0.3)[1] > told(1.0)[1]


def test_training_goes_on_from_a_file_bit_for_bit(tmp_path):
    settings = TrainConfig(steps=12, optimizer="muon", gain_sd=0.1)
    whole, _ = run(settings, 12)
    half, _ = run(settings, 12, stop=5)
    checkpoint.save(tmp_path / "half.safetensors", half, {})
    resumed, losses = run(settings, 12, resume=str(tmp_path / "half.safetensors"))
    assert len(losses) == 7
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        assert np.array_equal(a, b)


def test_torn_and_foreign_checkpoints_are_refused(tmp_path):
    state, _ = run(TrainConfig(steps=1), 1)
    file = tmp_path / "state.safetensors"
    digest = checkpoint.save(file, state, {"step": 1})
    assert checkpoint.about(file) == {"step": 1, "sha256": digest}
    data = file.read_bytes()
    other, _ = start(NetConfig(features=(4, 12), patch=(8, 8, 12)), TrainConfig(steps=1), 2, 1, 0)
    with pytest.raises(ValueError, match="shape"):
        checkpoint.load(file, other)
    for cut in (0, 7, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:cut])
        with pytest.raises(ValueError, match="not a whole checkpoint"):
            checkpoint.load(file, state)
    flipped = bytearray(data)
    flipped[-1] ^= 1
    file.write_bytes(flipped)
    with pytest.raises(ValueError, match="checksum"):
        checkpoint.load(file, state)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "none", state)


def test_no_bit_of_a_header_can_change_unseen(tmp_path):
    """Every bit of the part of the file that is not weights, and settings, names, shapes by hand."""
    file = tmp_path / "state.safetensors"
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones((), np.float32)}
    said = {"window_hu": [-100.0, 300.0], "trained_on": {"cases": "phantoms"}}
    checkpoint.save(file, tree, said)
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    for bit in range(8 * end):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        try:
            same = checkpoint.read(file)
        except ValueError as error:
            assert str(file) in str(error) or "FORMAT" in str(error)
            continue
        assert same.about == said and same.arrays.keys() == {"['a']", "['b']"}  # white space, or the like
        assert np.array_equal(same.arrays["['a']"], tree["a"])
    for before, after in ((b"-100.0", b"-900.0"), (b"phantoms", b"patients"), (b"[2,3]", b"[3,2]")):
        assert before in data
        file.write_bytes(data.replace(before, after))
        with pytest.raises(ValueError, match="do not match their checksum"):
            checkpoint.read(file)


def test_a_file_of_the_version_before_is_taken_with_a_word(tmp_path, capsys):
    tree = {"a": np.arange(6, dtype=np.float32)}
    arrays = {"['a']": tree["a"]}
    header = {"format": checkpoint.BEFORE, "sha256": checkpoint._digest(arrays, ""), "about": '{"step": 1}'}
    file = tmp_path / "old.safetensors"
    file.write_bytes(checkpoint.packed(arrays, {checkpoint.HEADER: json.dumps(header)}))
    assert np.array_equal(checkpoint.load(file, tree)["a"], tree["a"])
    said = capsys.readouterr().err
    assert said.startswith(f"kidseg_jax: {file}: of an older version") and said.count("\n") == 1


def test_every_pass_sees_every_sample_once():
    order = order_of_samples(5, 23, seed=1)
    for i in range(4):
        assert sorted(order[5 * i : 5 * i + 5]) == list(range(5))
    assert len(order) == 23


def test_epochs_become_steps():
    paper = PRESETS["paper"].fine_train
    assert [n_steps(paper, stage, n) for stage, n in ((1, 16), (2, 32), (3, 40), (4, 40))] == [
        150 * 16,
        300 * 32,
        300 * 40,
        300 * 40,
    ]
    assert n_steps(PRESETS["demo"].fine_train, 1, 16) == n_steps(PRESETS["demo"].fine_train, 3, 40)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"features": (8,)}, "at least 2 levels"),
        ({"pool": 1}, "need 2 or more, got 1"),
        ({"patch": (10, 8, 8)}, "divisible by"),
        ({"spacing_mm": 0.0}, "must be positive, got 0.0"),
        ({"window_hu": (100.0, 100.0)}, "low < high"),
        ({"dtype": "int8"}, "'int8'"),
    ],
)
def test_impossible_networks_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        NetConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"steps": -1},
        {"batch": 0},
        {"rate": 0.0},
        {"rate": float("inf")},
        {"begun_rate": 0.0},
        {"noise_sd": -1.0},
        {"warmup": 1.0},
        {"poses": 0},
        {"pose_turn_deg": float("inf")},
        {"pose_stretch": float("nan")},
    ],
)
def test_impossible_training_is_refused(settings):
    with pytest.raises(ValueError, match="TrainConfig"):
        TrainConfig(**settings)
