"""Stage 0: a start model's predictions of the first cases are corrected, and its weights gone on from."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_cohort import SETTINGS, body, write_cohort
from test_kill import run as run_process

from kidseg_jax import stage
from kidseg_jax.config import Config, NetConfig, TrainConfig
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.labelling.events import LabelEvent
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.labelling.rest.stage import open_stage
from kidseg_jax.labelling.worklist import read_list
from kidseg_jax.network import checkpoint
from kidseg_jax.network import models as model_files
from kidseg_jax.network.losses import NEVER
from kidseg_jax.network.models import load_models, save_models
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.network.training import start
from kidseg_jax.network.unet import make_unet
from kidseg_jax.rundir import RunDirectory


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("start")


@pytest.fixture(scope="module")
def model(folder) -> Path:
    """A model that has learned to find the kidneys of such cases."""
    write_cohort(folder / "known", 6, 6)
    train = [*SETTINGS[2:], "--n", "1", "--fine-train.steps", "40", "--data", str(folder / "known")]
    assert stage.main([*train, "--out", str(folder / "model")]) == 0
    return folder / "model" / "stage_1" / "models.safetensors"


@pytest.fixture(scope="module")
def cohort(folder) -> Path:
    write_cohort(folder / "cohort", 7, 7)
    return folder / "cohort"


@pytest.fixture(scope="module")
def finished(folder, model, cohort) -> Path:
    """Two stages that began from the model."""
    out = folder / "finished"
    assert stage.main([*SETTINGS, "--data", str(cohort), "--start", str(model), "--out", str(out)]) == 0
    return out


def metrics(run: Path, index: int) -> dict:
    return json.loads((run / f"stage_{index}" / "metrics.json").read_text())


def labels_in(run: Path) -> list[LabelEvent]:
    return read_ledger(run / "ledger.jsonl").events(LabelEvent)


def test_the_first_kidneys_are_corrected_and_not_drawn(finished, model):
    events, sha256 = labels_in(finished), checkpoint.about(model)["sha256"]
    corrected = [e for e in events if e.origin == "cnn_corrected" and e.stage == 0]
    assert corrected and not [e for e in events if e.origin == "manual"]
    assert {e.model for e in events if e.stage == 0} == {sha256}
    assert {e.parent for e in corrected} <= {e.label for e in events if e.origin == "cnn"}
    zero, one = metrics(finished, 0), metrics(finished, 1)
    timed = {r["kidney"] for r in zero["labelling"]}
    assert len(timed) == one["train_kidneys"] and zero["train_kidneys"] is None
    assert {r["kidney"] for r in zero["test"]} == {r["kidney"] for r in one["test"]}
    seconds = [sum(r[of] for r in zero["labelling"]) for of in ("corrected_seconds", "manual_seconds")]
    assert seconds[0] < seconds[1]
    assert load_models(finished / "stage_1" / "models.safetensors").trained_on == TrainedOn(
        "given cases", "simulated"
    )
    tables = (finished / "tables.md").read_text()
    assert "stage 0, start model" in tables and "All stages trained 10 steps." in tables
    assert (finished / "stage_0" / "models.safetensors").read_bytes() == model.read_bytes()


def test_the_same_command_goes_on_and_another_start_is_refused(finished, model, cohort, tmp_path, capsys):
    before = {p: p.read_bytes() for p in finished.rglob("stage_*/*") if p.is_file()}
    same = [*SETTINGS, "--data", str(cohort), "--out", str(finished)]
    other = tmp_path / "other.safetensors"
    save_models(other, load_models(model), half=True)
    for given, code in ((str(model), 0), ("none", 2), (str(other), 2)):
        assert stage.main([*same, "--start", given]) == code
    assert stage.main(["--resume", str(finished)]) == 0
    assert stage.main(same) == 2  # from nothing is another run
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all(f"start is '{checkpoint.about(model)['sha256']}'" in line for line in said)
    assert {p: p.read_bytes() for p in finished.rglob("stage_*/*") if p.is_file()} == before


def test_networks_of_other_settings_are_refused_by_name(model, cohort, tmp_path, capsys):
    arguments = ["--data", str(cohort), "--start", str(model), "--out", str(tmp_path / "run")]
    assert stage.main([*SETTINGS, "--fine.features", "4", "16", "--coarse.spacing-mm", "9", *arguments]) == 2
    said = capsys.readouterr().err
    assert "coarse.spacing_mm is 8.0, got 9.0; fine.features is (4, 8), got (4, 16)" in said
    assert said.count("\n") == 1 and not (tmp_path / "run").exists()


def test_settings_of_the_networks_are_those_of_the_start_model(model, monkeypatch):
    asked = []
    monkeypatch.setattr("kidseg_jax.staging.run.run_loop", lambda *given: asked.append(given) or 0)
    assert stage.main(["--start", str(model.parents[1])]) == 0
    monkeypatch.setattr(model_files, "SHIPPED", model)
    assert stage.main(["--start=shipped", "--fine.dtype", "bfloat16"]) == 0
    for (_, config, *_, file, _devices), dtype in zip(asked, ("float32", "bfloat16"), strict=True):
        assert file == model and config.fine.features == (4, 8) and config.fine.dtype == dtype
        assert config.fine_train == Config().fine_train


@pytest.mark.parametrize("given", ["shipped", "nowhere.safetensors"])
def test_a_start_model_that_is_not_there_is_one_line(given, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model_files, "SHIPPED", tmp_path / "none.safetensors")
    assert stage.main(["--start", given, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert ("holds no start model" if given == "shipped" else "nowhere") in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_kidneys_that_the_start_model_did_not_find_are_drawn_by_hand(model, cohort, tmp_path):
    blind = load_models(model)
    bias: Any = blind.coarse["head"]["bias"]
    bias[...] = bias[...] + jnp.array([1e3, 0.0])
    save_models(tmp_path / "blind.safetensors", blind)
    out = tmp_path / "run"
    one = ["--n", "1", *SETTINGS[2:], "--data", str(cohort), "--out", str(out)]
    assert stage.main([*one, "--start", str(tmp_path / "blind.safetensors")]) == 0
    events = labels_in(out)
    assert {(e.origin, e.stage, e.parent, e.model) for e in events} == {("manual", 0, None, None)}
    zero = metrics(out, 0)
    assert all(r["corrected_seconds"] == r["manual_seconds"] for r in zero["labelling"])
    for path in (out / "stage_0" / "corrected").iterdir():
        truth = body(int(path.name[5:10]))[1].array
        np.testing.assert_array_equal(read_labels(path).array, truth)


def test_a_run_that_is_killed_in_stage_0_goes_on_without_the_file_it_started_from(
    finished, model, cohort, tmp_path
):
    mine, out = Path(shutil.copy(model, tmp_path / "mine.safetensors")), tmp_path / "run"
    died = run_process([*SETTINGS, "--data", str(cohort), "--start", str(mine), "--out", str(out)], 45)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert (out / "stage_0" / "corrected").exists() and not (out / "stage_1").exists()
    mine.unlink()
    assert stage.main(["--resume", str(out)]) == 0
    for path in sorted(p for p in finished.rglob("*") if p.suffix in (".safetensors", ".nrrd")):
        assert (out / path.relative_to(finished)).read_bytes() == path.read_bytes()
    assert labels_in(out) == labels_in(finished)
    assert not list(out.rglob(".*"))


def test_people_correct_before_anything_is_trained(model, tmp_path, capsys):
    write_cohort(tmp_path / "cohort", 5, 1)
    out = tmp_path / "run"
    given = [*SETTINGS, "--annotator", "human", "--data", str(tmp_path / "cohort"), "--out", str(out)]
    assert stage.main(given) == 2
    assert "need labelled cases of 2 patients or more, got 1" in capsys.readouterr().err
    assert stage.main([*given, "--start", str(model)]) == 3
    assert not (out / "stage_1").exists() and metrics(out, 0)["test"]
    works = read_list(out / "stage_0" / "to_correct").cases
    assert len(works) == 2 and all(work.prediction for work in works)
    assert open_stage(out).work_list.stage == 0
    with RunDirectory(out).served():
        pass
    for work in works:
        corrected = body(int(work.case[-5:]))[1]
        write_volume(out / "stage_0" / "corrected" / f"{work.case}.seg.nrrd", corrected)
    assert stage.main(["--resume", str(out)]) == 3
    one = metrics(out, 1)
    assert one["train_kidneys"] == 4 and len(read_list(out / "stage_1" / "to_correct").cases) == 2
    by_people = [e for e in labels_in(out) if e.origin == "cnn_corrected"]
    assert {(e.stage, e.model) for e in by_people} == {(0, checkpoint.about(model)["sha256"])}
    assert stage.main(["--resume", str(out)]) == 3  # what was told of stage 0 still holds
    (out / "stage_0" / "corrected" / f"{works[0].case}.seg.nrrd").unlink()
    capsys.readouterr()
    assert stage.main(["--resume", str(out)]) == 2
    assert f"no file of {works[0].case} holds the labels that the ledger knows" in capsys.readouterr().err


def test_hand_labels_and_corrected_predictions_teach_the_first_stage_together(model, tmp_path):
    write_cohort(tmp_path / "cohort", 6, 4)
    out = tmp_path / "run"
    given = ["--n", "1", *SETTINGS[2:], "--annotator", "human", "--data", str(tmp_path / "cohort")]
    given += ["--start", str(model), "--out", str(out)]
    assert stage.main(given) == 3
    works = read_list(out / "stage_0" / "to_correct").cases
    assert [work.case for work in sorted(works, key=lambda w: w.case)] == ["case_00004", "case_00005"]
    for work in works:
        corrected = body(int(work.case[-5:]))[1]
        write_volume(out / "stage_0" / "corrected" / f"{work.case}.seg.nrrd", corrected)
    assert stage.main(given) == 0
    tested = {r["case"] for r in metrics(out, 1)["test"]}
    assert metrics(out, 1)["train_kidneys"] == 2 * (6 - len(tested))
    by_hand = {e.case for e in labels_in(out) if e.origin == "manual"}
    assert by_hand == {f"case_{i:05d}" for i in range(4)} - tested


def test_training_goes_on_from_a_copy_and_a_class_never_shown_begins_afresh():
    net, settings = NetConfig(features=(2, 4), patch=(4, 4, 4)), TrainConfig(steps=1)
    begun = make_unet(net, N_CLASSES, 5)[1]
    bias = begun["head"]["bias"]
    bias[...] = jnp.arange(N_CLASSES, dtype=jnp.float32).at[3].set(NEVER)
    state, step = start(net, settings, N_CLASSES, 1, 0, frozenset({5}), begun)
    found = np.asarray(state.params["head"]["bias"][...])
    fresh = np.asarray(start(net, settings, N_CLASSES, 1, 0)[0].params["head"]["bias"][...])
    np.testing.assert_array_equal(found, [0, 1, 2, fresh[3], 4, NEVER])
    kept = jax.tree.map(np.asarray, begun)
    ct, labels = jnp.zeros((12, 12, 12), jnp.int16), jnp.zeros((12, 12, 12), jnp.uint8)
    sizes = jnp.full((1, 3), 12, jnp.int32)
    step(state, (ct,), (labels,), sizes, jax.random.key(0))  # donates the state
    for before, after in zip(jax.tree.leaves(kept), jax.tree.leaves(begun), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_what_goes_on_from_a_model_moves_by_a_share_of_what_a_fresh_one_does(optimizer):
    net = NetConfig(features=(2, 4), patch=(4, 4, 4))
    settings = TrainConfig(steps=1, optimizer=optimizer, schedule="constant")
    rng = np.random.default_rng(0)
    ct = jnp.asarray(rng.integers(-100, 300, (12, 12, 12)), jnp.int16)
    labels = jnp.asarray(rng.integers(0, N_CLASSES, (12, 12, 12)), jnp.uint8)
    before = make_unet(net, N_CLASSES, 7)[1]

    def moved(begun) -> list[np.ndarray]:
        state, step = start(net, settings, N_CLASSES, 1, 7, begun=begun, share=0.25)
        after, _ = step(state, (ct,), (labels,), jnp.full((1, 3), 12, jnp.int32), jax.random.key(0))
        pairs = zip(jax.tree.leaves(after.params), jax.tree.leaves(before), strict=True)
        return [np.asarray(a) - np.asarray(b) for a, b in pairs]

    fresh, further = moved(None), moved(before)
    assert max(np.abs(step).max() for step in fresh) > 1e-3
    for a, b in zip(fresh, further, strict=True):
        np.testing.assert_allclose(b, 0.25 * a, atol=1e-6)
