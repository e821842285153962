"""The main job, small: stages of learning, predicting and correcting on phantoms, in memory and on disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_cohort import SETTINGS, write_cohort

from kidseg_jax.cli.app import main as verb
from kidseg_jax.formats.volumes import read_labels, read_volume
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.network.models import load_models
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.stage import main
from kidseg_jax.staging.learning import StageState, TrainingSet, run_stage

COHORT = ["--cohort.patients", "6", "--cohort.kidneys", "9", "--cohort.rcc-kidneys", "3"]
SMALL = [
    *("--n", "2", "--seed", "1", "--coarse.features", "4", "8", "--coarse-train.steps", "60"),
    *("--fine.features", "4", "8", "--fine.patch", "32", "24", "28", "--fine.spacing-mm", "4"),
    *("--fine-train.steps", "15"),
    *COHORT,
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of two stages on six phantoms."""
    out = tmp_path_factory.mktemp("runs") / "small"
    assert main([*SMALL, "--out", str(out)]) == 0
    return out


def metrics(run: Path, stage: int) -> dict:
    return json.loads((run / f"stage_{stage}" / "metrics.json").read_text())


def test_a_run_leaves_what_it_promises(finished):
    for name in ("run.json", "ledger.jsonl", "tables.md", "tables.csv", "report.html"):
        assert (finished / name).stat().st_size > 0
    assert load_models(finished).fine_net.features == (4, 8)
    first = load_models(finished / "stage_1" / "models.safetensors")
    assert first.fine_net.spacing_mm == 4
    assert first.trained_on == TrainedOn("phantoms", "none")
    assert load_models(finished).trained_on == TrainedOn("phantoms", "simulated")
    assert not list(finished.rglob(".*"))  # no temporary file stays
    assert "simulated" in (finished / "tables.md").read_text()
    assert "hantom" in (finished / "report.html").read_text()


def test_all_stages_are_tested_on_the_same_kidneys_and_learn_from_no_test_patient(finished):
    one, two = metrics(finished, 1), metrics(finished, 2)
    assert {r["kidney"] for r in one["test"]} == {r["kidney"] for r in two["test"]}
    tested = {r["patient"] for r in one["test"]}
    assert tested.isdisjoint(r["patient"] for r in one["labelling"])
    assert one["train_kidneys"] < two["train_kidneys"]
    assert one["steps"] == two["steps"] == 15
    assert {r["structure"] for r in one["test"]} == set(NAMES)


def test_corrected_labels_lie_on_the_predicted_grid_and_are_nearer_the_truth(finished):
    made = sorted((finished / "stage_1" / "corrected").iterdir())
    assert made
    for corrected in made:
        predicted = read_labels(finished / "stage_1" / "predictions" / corrected.name)
        assert read_labels(corrected).geometry.is_close(predicted.geometry)
    assert all(r["simulated"] for r in metrics(finished, 1)["labelling"])


def test_the_loss_falls(finished):
    coarse = [loss for role, _, loss in metrics(finished, 2)["losses"] if role == "coarse"]
    assert coarse[-1] < coarse[0]


def test_a_second_call_trains_nothing_again(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("models.safetensors")}
    assert main([*SMALL, "--out", str(finished)]) == 0
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("models.safetensors")} == before


def test_other_settings_are_refused_in_the_same_directory(finished, capsys):
    assert main([*SMALL, "--fine-train.rate", "0.5", "--out", str(finished)]) == 2
    said = capsys.readouterr().err
    assert "config.fine_train.rate is 0.01 in this run, got 0.5" in said
    assert said.count("\n") == 1


def test_the_cohort_on_disk_trains_to_the_same_result(finished, tmp_path):
    data, out = tmp_path / "cohort", tmp_path / "run"
    assert verb(["phantom", str(data), "--seed", "1", *[a.replace("cohort.", "") for a in COHORT]]) == 0
    assert main([*SMALL, "--out", str(out), "--data", str(data)]) == 0
    for stage in (1, 2):
        ours, theirs = metrics(out, stage), metrics(finished, stage)
        assert ours["test"] == theirs["test"]
        assert ours["labelling"] == theirs["labelling"]
    assert load_models(out).trained_on == load_models(finished).trained_on  # a folder of phantoms is known


def test_predict_writes_labels_on_the_input_grid_or_says_there_is_no_kidney(finished, tmp_path, capsys):
    data = tmp_path / "cohort"
    assert verb(["phantom", str(data), "--seed", "7", *[a.replace("cohort.", "") for a in COHORT]]) == 0
    image = data / "case_00000" / "imaging.nii.gz"
    code = verb(["predict", str(image), "--model", str(finished), "--out", str(tmp_path / "out")])
    written = list((tmp_path / "out").glob("*.nii.gz")) if code == 0 else []
    assert (code, len(written)) in ((0, 1), (2, 0))
    said = capsys.readouterr().err
    assert said.startswith(f"kidseg_jax: {finished}: was trained on phantoms only and is not for patients\n")
    if written:
        assert read_labels(written[0]).geometry.is_close(read_volume(image).geometry)
        assert said.count("\n") == 1
    else:
        assert "no kidney" in said


def test_run_stage_needs_evidence_and_leaves_its_state_alone():
    state = StageState()
    from kidseg_jax.config import PRESETS

    with pytest.raises(ValueError, match="at least one labelled kidney, got none"):
        run_stage(state, TrainingSet(), PRESETS["demo"])
    assert state == StageState()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--n", "0"], "need at least 1 stage, got 0"),
        (["--threads", "0"], "need 1 or more, got 0"),
        (["--data", "does_not_exist"], "does_not_exist"),
        (["--fine.pool", "1"], "need 2 or more, got 1"),
        (["--seed", "-1"], "need 0 or more, got -1"),
        (
            ["--cohort.patients", "2", "--cohort.kidneys", "4", "--cohort.rcc-kidneys", "0"],
            "need 3 patients, got 2",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(arguments, said, tmp_path, capsys):
    try:
        code = main(["--n", "2", *COHORT, *arguments, "--out", str(tmp_path / "run")])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_a_bare_node_trains_and_predicts_without_itk_and_open3d(tmp_path):
    """As on a GPU node: arrays in, the same label files out."""
    write_cohort(tmp_path / "cohort", 6, 6)
    ct = tmp_path / "cohort" / "case_00000" / "imaging.npz"
    code = (
        "import sys\n"
        "sys.modules.update(itk=None, open3d=None)\n"
        "from kidseg_jax.cli.app import main as verb\n"
        "from kidseg_jax.stage import main\n"
        "data, run, ct, out, *settings = sys.argv[1:]\n"
        "failed = main([*settings, '--data', data, '--out', run])\n"
        "sys.exit(failed or verb(['predict', ct, '--model', run, '--out', out, '--to', 'seg.nrrd']))\n"
    )
    out, found = tmp_path / "run", tmp_path / "found"
    arguments = [tmp_path / "cohort", out, ct, found, *SETTINGS]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(out.glob("stage_1/corrected/*.seg.nrrd")) and (out / "tables.md").exists()
    (labels,) = found.glob("*.seg.nrrd")
    assert read_labels(labels).geometry == read_volume(ct).geometry


def test_help_says_what_every_setting_means(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for option in ("--fine-train.noise-sd", "--coarse.spacing-mm", "--cohort.patients", "--annotator"):
        assert option in text
    assert text.count("mm") > 3
