"""Whatever is changed in a run behind its back is named, and nothing is made from it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_cohort import SETTINGS, body, write_cohort

from kidseg_jax import stage
from kidseg_jax.cli.app import main
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.labelling.events import FileEvent, LabelEvent
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.labelling.worklist import read_list
from kidseg_jax.network.models import load_models, save_models


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A cohort, a simulated run that is done, and a run of people whose first stage waits."""
    folder = tmp_path_factory.mktemp("told")
    write_cohort(folder / "simulated_cases", 6, 6)
    write_cohort(folder / "cases", 7, 4)
    done = [*SETTINGS, "--data", str(folder / "simulated_cases"), "--out", str(folder / "simulated")]
    assert stage.main(done) == 0
    waits = [
        *SETTINGS,
        "--annotator",
        "human",
        "--data",
        str(folder / "cases"),
        "--out",
        str(folder / "people"),
    ]
    assert stage.main(waits) == 3
    return folder


@pytest.fixture(params=["simulated", "people"])
def run(request, runs, tmp_path):
    return Path(shutil.copytree(runs / request.param, tmp_path / "run", symlinks=True))


def refused(run: Path, name: str, capsys) -> str:
    """The one line that names the file; the run stays as it is, for every verb that looks."""
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert stage.main(["--resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"kidseg_jax: {run / name}: ") and said.count("\n") == 1, said
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    return said


def changed(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}, indent=1) + "\n")


def test_a_number_of_the_metrics(run, capsys):
    metrics = run / "stage_1" / "metrics.json"
    record = json.loads(metrics.read_text())
    record["test"][0]["dsc"] = 0.999
    changed(metrics, test=record["test"])
    refused(run, "stage_1/metrics.json", capsys)
    assert main(["ledger", str(run)]) == 2
    assert str(metrics) in capsys.readouterr().err


def test_a_ledger_that_is_gone_emptied_or_cut(run, capsys):
    ledger = run / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    for kept in (None, [], lines[:1], lines[:-1]):
        ledger.unlink()
        if kept is not None:
            ledger.write_bytes(b"".join(kept))
        refused(run, "ledger.jsonl", capsys)
        ledger.write_bytes(b"")


def test_the_settings(run, capsys):
    info = json.loads((run / "run.json").read_text())
    info["config"]["seed"] = 5
    changed(run / "run.json", config=info["config"])
    refused(run, "run.json", capsys)


def test_other_models_that_are_whole(run, capsys):
    path = run / "stage_1" / "models.safetensors"
    models = load_models(path)
    net = models.fine_net
    other = type(net)(**{**vars(net), "window_hu": (-900.0, 300.0)})
    save_models(path, models._replace(fine_net=other))
    refused(run, "stage_1/models.safetensors", capsys)


def test_the_model_and_a_case_of_a_list(runs, tmp_path, capsys):
    run = Path(shutil.copytree(runs / "people", tmp_path / "run", symlinks=True))
    path = run / "stage_1" / "to_correct" / "list.json"
    whole = json.loads(path.read_text())
    fewer = {"cases": whole["cases"][1:]}
    renamed = {"cases": [{**whole["cases"][0], "case": "case_00000"}, *whole["cases"][1:]]}
    for change in ({"model": "0" * 64}, {"stage": 2}, fewer, renamed):
        changed(path, **{**whole, **change})
        refused(run, "stage_1/to_correct/list.json", capsys)
    path.unlink()
    refused(run, "stage_1/to_correct/list.json", capsys)


def test_a_label_that_the_ledger_was_told_of(runs, tmp_path, capsys):
    run = Path(shutil.copytree(runs / "people", tmp_path / "run", symlinks=True))
    folder = run / "stage_1" / "corrected"
    cases = [work.case for work in read_list(run / "stage_1" / "to_correct").cases]
    for case in cases:
        write_volume(folder / f"{case}.seg.nrrd", body(int(case[-5:]))[1])
    assert stage.main(["--resume", str(run)]) == 0
    whole = read_labels(folder / f"{cases[0]}.seg.nrrd")
    array = whole.array.copy()
    array[tuple(np.argwhere(array)[0])] = 0
    write_volume(folder / f"{cases[0]}.seg.nrrd", whole.with_array(array))
    assert cases[0] in refused(run, "stage_1/corrected", capsys)
    write_volume(folder / f"{cases[0]}.2.seg.nrrd", whole)  # put back, as a version of its own
    assert stage.main(["--resume", str(run)]) == 0
    accepted = run / "stage_1" / "accepted.json"
    changed(accepted, **{cases[1]: "sha256:00"})
    refused(run, "stage_1/accepted.json", capsys)


def test_a_corrected_file_of_a_simulated_run_that_is_done(runs, tmp_path, capsys):
    run = Path(shutil.copytree(runs / "simulated", tmp_path / "run"))
    path = sorted((run / "stage_1" / "corrected").iterdir())[0]
    labels = read_labels(path)
    write_volume(path, labels.with_array(np.where(labels.array == 4, 0, labels.array)))
    refused(run, f"stage_1/corrected/{path.name}", capsys)


def test_labels_by_hand_in_the_data_folder(runs, tmp_path, capsys):
    run = Path(shutil.copytree(runs / "people", tmp_path / "run", symlinks=True))
    data = Path(shutil.copytree(runs / "cases", tmp_path / "cases"))
    (run / "stage_1" / "metrics.json").unlink()
    case = read_ledger(run / "ledger.jsonl").events(LabelEvent)[0].case
    _, labels = body(6)
    write_volume(data / case / "segmentation.npz", labels)
    moved = runs / "cases_moved"
    (runs / "cases").rename(moved)
    data.rename(runs / "cases")
    try:
        assert stage.main(["--resume", str(run)]) == 2
    finally:
        (runs / "cases").rename(data)
        moved.rename(runs / "cases")
    assert f"{case}: its labels in the data folder changed" in capsys.readouterr().err


def test_a_run_of_an_older_version_is_taken_as_it_is(runs, tmp_path):
    """It told nothing of its files, and its metrics hold no hash of the ledger."""
    run = Path(shutil.copytree(runs / "simulated", tmp_path / "run"))
    ledger = run / "ledger.jsonl"
    events = [line.event for line in read_ledger(ledger).lines if not isinstance(line.event, FileEvent)]
    ledger.unlink()
    append(ledger, events)
    for path in run.glob("stage_*/metrics.json"):
        record = json.loads(path.read_text())
        del record["ledger"]
        path.write_text(json.dumps(record))
    assert stage.main(["--resume", str(run)]) == 0
    assert main(["ledger", str(run)]) == 0
