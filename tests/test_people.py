"""The loop with people in it, on a cohort so small that two stages take seconds."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from small_cohort import SETTINGS, body, write_cohort

from kidseg_jax import stage
from kidseg_jax.config import PRESETS, Config
from kidseg_jax.imaging.cohort import Kidney
from kidseg_jax.imaging.io import write_volume
from kidseg_jax.labelling.events import LabelEvent
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.labelling.worklist import read_list
from kidseg_jax.staging.people import people_plan
from kidseg_jax.staging.resume import from_json, settings_of


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Four labelled cases and three without labels."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 7, 4)
    return folder


@pytest.fixture(scope="module")
def waiting(cohort, tmp_path_factory):
    """A run that has trained its first stage and waits."""
    out = tmp_path_factory.mktemp("runs") / "waiting"
    assert (
        stage.main(
            [*SETTINGS, "--annotator", "human", "--data", str(cohort), "--out", str(out), "--blind", "0.3"]
        )
        == 3
    )
    return out


@pytest.fixture
def run(waiting, tmp_path):
    return Path(shutil.copytree(waiting, tmp_path / "run", symlinks=True))


def correct(run, case):
    _, labels = body(int(case[-5:]))
    write_volume(run / "stage_1" / "corrected" / f"{case}.seg.nrrd", labels)


def test_a_stage_waits_names_its_cases_and_goes_on_when_they_are_back(run, capsys):
    folder = run / "stage_1" / "to_correct"
    work_list = read_list(folder)
    cases = [work.case for work in work_list.cases]
    assert sorted(cases) == ["case_00004", "case_00005", "case_00006"]
    assert sum(work.blind for work in work_list.cases) == 1
    efforts = [work.score.effort_s for work in work_list.cases]
    assert efforts == sorted(efforts, key=lambda effort: -(effort or 0.0)) and None not in efforts
    for work in work_list.cases:
        assert (folder / f"{work.case}.nii.gz").exists()
        assert (folder / f"{work.case}.seg.nrrd").exists() == (work.prediction is not None)
    correct(run, cases[0])
    assert stage.main(["--resume", str(run)]) == 3
    said = capsys.readouterr().out
    assert f"{cases[1]}: no corrected file yet" in said and f"{cases[0]} ({cases[0]}.seg.nrrd):" in said
    assert not (run / "stage_2").exists()
    for case in cases[1:]:
        correct(run, case)
    assert stage.main(["--resume", str(run), "--approver", "Dr B"]) == 0
    metrics = json.loads((run / "stage_2" / "metrics.json").read_text())
    first = json.loads((run / "stage_1" / "metrics.json").read_text())
    assert metrics["train_kidneys"] == first["train_kidneys"] + 6
    chain = read_ledger(run / "ledger.jsonl")
    events = chain.events(LabelEvent)
    assert not any(event.simulated for event in events)
    by_people = [event for event in events if event.stage == 1]
    assert {event.case for event in by_people} == set(cases)
    assert {event.approver for event in by_people} == {"Dr B"}
    assert sum(event.blind for event in by_people) == 2
    assert stage.main(["--resume", str(run)]) == 0
    assert read_ledger(run / "ledger.jsonl") == chain


def test_a_stage_goes_on_with_those_that_are_back_and_remembers_which(run, capsys):
    cases = [work.case for work in read_list(run / "stage_1" / "to_correct").cases]
    assert stage.main(["--resume", str(run), "--accept-partial"]) == 3
    correct(run, cases[1])
    assert stage.main(["--resume", str(run), "--accept-partial"]) == 0
    accepted = json.loads((run / "stage_1" / "accepted.json").read_text())
    assert list(accepted) == [cases[1]]
    metrics = (run / "stage_2" / "metrics.json").read_text()
    assert json.loads(metrics)["train_kidneys"] == 8
    correct(run, cases[0])  # too late for this stage: what was learned from is settled
    assert stage.main(["--resume", str(run), "--accept-partial"]) == 0
    assert (run / "stage_2" / "metrics.json").read_text() == metrics


def test_what_cannot_be_learned_from_stops_the_stage_by_name(run, capsys):
    seen = next(work.case for work in read_list(run / "stage_1" / "to_correct").cases if work.prediction)
    given = run / "stage_1" / "to_correct" / f"{seen}.seg.nrrd"
    (run / "stage_1" / "corrected").mkdir()
    shutil.copy(given, run / "stage_1" / "corrected" / f"{seen}.seg.nrrd")
    assert stage.main(["--resume", str(run), "--accept-partial"]) == 3
    assert f"{seen}: refused: {seen}.seg.nrrd: equals the prediction" in capsys.readouterr().out
    (run / "stage_1" / "corrected" / f"{seen}.seg.nrrd").write_bytes(b"not a segmentation")
    assert stage.main(["--resume", str(run), "--accept-partial"]) == 3
    assert f"{seen}: refused: {seen}.seg.nrrd: not a NRRD file" in capsys.readouterr().out


def test_a_corrected_file_that_is_gone_is_named_and_a_whole_version_is_used(run, capsys):
    cases = [work.case for work in read_list(run / "stage_1" / "to_correct").cases]
    for case in cases:
        correct(run, case)
    (run / "stage_1" / "accepted.json").write_text(json.dumps({case: "sha256:" + "0" * 64 for case in cases}))
    assert stage.main(["--resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "holds the labels that were accepted; put one back" in said and said.count("\n") == 1


def test_resume_takes_the_settings_of_the_run(run, cohort, tmp_path, capsys):
    settings = settings_of(run)
    assert settings["data"] == cohort and settings["n"] == 2 and settings["annotator"] == "human"
    assert settings["config"].fine_train.steps == 10 and isinstance(settings["config"], Config)
    for preset in PRESETS.values():
        assert from_json(Config, json.loads(json.dumps(asdict(preset)))) == preset
    assert stage.main(["--resume", str(tmp_path / "none")]) == 2
    (tmp_path / "run.json").write_text("{}")
    assert stage.main(["--resume", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "cannot be gone on with" in said and said.count("\n") == 2


def test_the_same_command_with_other_settings_is_refused(run, cohort, capsys):
    other = [*SETTINGS, "--annotator", "human", "--data", str(cohort), "--out", str(run), "--blind", "0"]
    assert stage.main(other) == 2
    assert "blind is 0.3 in this run, got 0.0" in capsys.readouterr().err


def kidneys(n, first=0):
    return [
        Kidney(f"case_{i}", f"patient_{i // 2}", "left", (0, 0, 0), (1, 1, 1), False)
        for i in range(first, first + n)
    ]


def test_the_plan_keeps_patients_on_one_side_and_uses_every_case():
    labelled = kidneys(20)
    unlabelled = {f"new_{i}": f"patient_{i}" for i in range(30)}
    for seed in range(10):
        plan = people_plan(labelled, unlabelled, 3, seed)
        tested = {k.patient for k in labelled if k.case in plan.test}
        assert len(plan.test) == 4 and len(tested) == 2
        later = [case for part in plan.new[1:] for case in part]
        assert not tested & {unlabelled[case] for case in later}
        assert len(later) == 30 - len(tested) and len(set(later)) == len(later)
        assert set(plan.new[0]) | set(plan.test) == {k.case for k in labelled}
        assert len(plan.new) == 3 and abs(len(plan.new[1]) - len(plan.new[2])) <= 1
    with pytest.raises(ValueError, match="2 patients or more, got 1"):
        people_plan(kidneys(2), unlabelled, 2, 0)
    with pytest.raises(ValueError, match="need 2 cases without labels, got 1"):
        people_plan(labelled, {"new": "someone"}, 3, 0)
