"""The loop with people in it, on a cohort so small that two stages take seconds."""

import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_cohort import GRID, SETTINGS, body, one_voxel, write_cohort

from kidseg_jax import stage
from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import PRESETS, Config
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling.events import ApprovalEvent, LabelEvent
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.labelling.query import Score, expected_effort_s
from kidseg_jax.labelling.returned import by_people
from kidseg_jax.labelling.simulated_annotator import manual_seconds
from kidseg_jax.labelling.worklist import describe, read_list, write_list, write_to_correct
from kidseg_jax.network.cascade import Prediction, predict
from kidseg_jax.network.found_kidney import FoundKidney
from kidseg_jax.network.models import load_models
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.rundir import RunDirectory
from kidseg_jax.staging import loop
from kidseg_jax.staging.expect import Yardstick, expected, look, yardstick
from kidseg_jax.staging.plan import people_plan
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
    predicted = [e for e in read_ledger(run / "ledger.jsonl").events(LabelEvent) if e.origin == "cnn"]
    assert {e.label for e in predicted} >= {work.prediction for work in work_list.cases if work.prediction}
    assert {(e.model, e.stage) for e in predicted} == {(work_list.model, 1)}
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
    assert load_models(run).trained_on == TrainedOn("given cases", "human")
    chain = read_ledger(run / "ledger.jsonl")
    events = chain.events(LabelEvent)
    assert not any(event.simulated for event in events)
    by_people = [event for event in events if event.stage == 1 and event.origin != "cnn"]
    assert {e.parent for e in by_people if not e.blind} <= {e.label for e in events if e.origin == "cnn"}
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


def test_a_client_of_the_server_corrects_and_trains_the_next_stage(run, tmp_path):
    """The real command behind the route, over a real socket, seen through what clients see of it."""
    pytest.importorskip("starlette", reason="the extra `serve` is not installed")
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    from serving import serving

    from kidseg_jax.labelling.server import make_app

    train = [sys.executable, "-m", "kidseg_jax.stage", "--resume", str(run), "--accept-partial"]
    with serving(make_app(run, train)) as client:
        case = client.next_sample()[1]["id"]
        write_volume(tmp_path / "label.nrrd", body(int(case[-5:]))[1])
        assert client.save_label(case, tmp_path / "label.nrrd")[0] == 200
        assert client.json("POST", "/train/kidseg", {})[0] == 200
        said, deadline, job = [], time.monotonic() + 180, {}
        while job.get("status", "RUNNING") == "RUNNING" and time.monotonic() < deadline:
            job = client.json("GET", "/train/")[1]
            said.append(frozenset(job["details"]))
            time.sleep(0.05)
    assert job["status"] == "DONE", job["details"]
    assert any("stage 2: coarse network, step 20 of 40, loss" in line for details in said for line in details)
    assert len(set(said)) > 2  # lines came while it ran
    assert json.loads((run / "stage_2" / "metrics.json").read_text())["train_kidneys"] == 8
    assert list(json.loads((run / "stage_1" / "accepted.json").read_text())) == [case]


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
    assert "holds the labels that were accepted; put one back" in said and said.count("kidseg_jax:") == 1


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
    assert "cannot go on with such settings" in said and said.count("\n") == 2


def test_two_processes_never_work_on_one_run(run, capsys):
    """As when a client starts the training that someone at a terminal has started already."""
    before = sorted(run.rglob("*"))
    with RunDirectory(run).held():
        assert stage.main(["--resume", str(run)]) == 2
    said = capsys.readouterr().err
    assert "another process works on this run" in said and said.count("\n") == 1
    assert sorted(run.rglob("*")) == before
    assert stage.main(["--resume", str(run)]) == 3


def test_the_same_command_with_other_settings_is_refused(run, cohort, capsys):
    other = [*SETTINGS, "--annotator", "human", "--data", str(cohort), "--out", str(run), "--blind", "0"]
    assert stage.main(other) == 2
    assert "blind is 0.3 in this run, got 0.0" in capsys.readouterr().err


def test_the_expected_minutes_are_those_that_known_cases_took(run, cohort):
    cases: dict[str, Any] = {case.name: case for case in load_cohort(cohort)}
    works = read_list(run / "stage_1" / "to_correct").cases
    config = settings_of(run)["config"]
    models = load_models(run)
    metrics = json.loads((run / "stage_1" / "metrics.json").read_text())
    test = sorted({record["case"] for record in metrics["test"]})
    known = [(cases[name], kidneys_of(cases[name])) for name in test]
    by = yardstick(models, known, config.annotator)
    hand = [by_hand(kidney.labels, config.annotator) for _, kidneys in known for kidney in kidneys]
    assert by.by_hand_s == pytest.approx(sum(hand) / len(hand))
    looks = [look(models, case.ct, config.annotator).effort_s or 0.0 for case, _ in known]
    needed = [
        expected_effort_s(
            predict(models, c.ct).labels.array, c.labels.array, c.ct.spacing_mm, config.annotator
        )
        for c, _ in known
    ]
    # kidney by kidney, each structure is looked over once more than in a case as a whole
    assert by.pace * sum(looks) == pytest.approx(sum(needed), rel=0.5) and by.pace > 0
    for work in works:
        seen = look(models, cases[work.case].ct, config.annotator)
        if work.blind:
            n = len(predict(models, cases[work.case].ct).kidneys)
            assert work.score.effort_s == pytest.approx((n or 2) * by.by_hand_s)
        else:
            assert seen.effort_s is not None and work.score.effort_s == pytest.approx(by.pace * seen.effort_s)
        assert work.score.entropy == seen.entropy and work.score.disagreement == seen.disagreement


def by_hand(labels, annotator):
    return sum(manual_seconds(labels, GRID.spacing_mm, annotator).values())


def test_a_case_without_a_kidney_is_expected_to_take_longest_and_says_why(tmp_path):
    grid = Geometry((6, 8, 10), (2.0, 2.0, 2.0))
    nothing = Volume(np.zeros(grid.shape, np.uint8), grid)
    kidney = nothing.with_array(np.full(grid.shape, PARENCHYMA, np.uint8))
    by = Yardstick(pace=3.0, by_hand_s=4000.0)
    seen = Score(100.0, 0.5, 0.25)
    found = FoundKidney("left", (0, 0, 0), grid.shape, kidney.array, False)
    with_kidney, without = Prediction(kidney, (found, found)), Prediction(nothing, ())
    assert expected(seen, with_kidney, False, by) == Score(300.0, 0.5, 0.25, frozenset({"parenchyma"}))
    assert expected(seen, with_kidney, True, by).effort_s == 2 * 4000.0
    none = expected(Score(), without, False, by)
    assert none.effort_s == 8000.0 and none.disagreement == 1.0 and none.structures == frozenset()
    ct = nothing.with_array(np.zeros(grid.shape, np.int16))
    scores = {"a": (kidney, expected(seen, with_kidney, False, by)), "b": (nothing, none)}
    works = [
        write_to_correct(tmp_path, c, c, ct, labels, score=score) for c, (labels, score) in scores.items()
    ]
    ranked = write_list(tmp_path, 1, "sha256:model", works)
    assert [work.case for work in ranked.cases] == ["b", "a"]
    said = describe(tmp_path, read_list(tmp_path)).splitlines()
    assert said[2:] == [
        "  b  no kidney found: label from nothing, about 133 min expected",
        "  a  about 5 min expected",
    ]


def test_a_label_that_comes_while_the_next_stage_trains_is_learned_from_in_the_one_after(
    cohort, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    settings = ["--n", "3", *SETTINGS[2:], "--annotator", "human", "--data", str(cohort), "--out", str(out)]
    assert stage.main(settings) == 3
    first, second = sorted(work.case for work in read_list(out / "stage_1" / "to_correct").cases)
    correct(out, first)
    run_stage = loop.run_stage

    def late(*given):
        if not (out / "stage_1" / "corrected" / f"{second}.seg.nrrd").exists():
            correct(out, second)
        return run_stage(*given)

    monkeypatch.setattr(loop, "run_stage", late)
    assert stage.main([*settings, "--accept-partial", "--approver", "Dr B"]) == 3
    monkeypatch.undo()
    assert list(json.loads((out / "stage_1" / "accepted.json").read_text())) == [first]
    works = {work.case: work for work in read_list(out / "stage_2" / "to_correct").cases}
    assert len(works) == 2 and second in works
    (third,) = set(works) - {second}
    _, truth = body(int(second[-5:]))
    assert np.array_equal(
        read_labels(out / "stage_2" / "corrected" / f"{second}.seg.nrrd").array, truth.array
    )
    lines = [e for e in by_people(read_ledger(out / "ledger.jsonl")) if e.case == second]
    given = {work.case: work.prediction for work in read_list(out / "stage_1" / "to_correct").cases}
    assert {(e.stage, e.parent, e.approver) for e in lines} == {(1, given[second], "Dr B")}
    write_volume(out / "stage_2" / "corrected" / f"{third}.seg.nrrd", body(int(third[-5:]))[1])
    assert stage.main([*settings, "--approver", "Dr B"]) == 0
    assert set(json.loads((out / "stage_2" / "accepted.json").read_text())) == {second, third}
    chain = read_ledger(out / "ledger.jsonl")
    assert [e for e in by_people(chain) if e.case == second] == lines
    (approval,) = chain.events(ApprovalEvent)
    assert (approval.case, approval.stage, approval.approver) == (second, 2, "Dr B")
    counts = [
        json.loads((out / f"stage_{k}" / "metrics.json").read_text())["train_kidneys"] for k in (1, 2, 3)
    ]
    assert np.diff(counts).tolist() == [2, 4]


def kidneys(n, first=0):
    return [one_voxel(f"case_{i}", f"patient_{i // 2}", "left") for i in range(first, first + n)]


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
