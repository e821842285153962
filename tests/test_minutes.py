"""Minutes from a ledger, clocks and CSV files, and the two verbs that show and take them."""

from dataclasses import replace

import numpy as np
import pytest

from kidseg_jax.cli.app import main
from kidseg_jax.evaluation.statistics import Summary
from kidseg_jax.evaluation.table import to_terminal
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling import clock
from kidseg_jax.labelling.events import ApprovalEvent, ClockEvent, LabelEvent, TimeEvent
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.labelling.minutes import work_in
from kidseg_jax.labelling.worklist import write_list, write_to_correct
from kidseg_jax.report.effort import efforts, ledger_tables


def shown(ledger):
    return to_terminal(ledger_tables(read_ledger(ledger)))


def manual(patient, structure, seconds, **changes):
    event = LabelEvent(
        case=f"case_{patient}",
        structure=structure,
        origin="manual",
        stage=0,
        label="sha256:0",
        annotator="A",
        tool="slicer",
        simulated=False,
        patient=str(patient),
        active_s=seconds,
    )
    return replace(event, **changes)


def corrected(patient, structure, seconds, **changes):
    return manual(patient, structure, seconds, origin="cnn_corrected", parent="sha256:1", stage=1, **changes)


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "ledger.jsonl"


def test_the_saving_is_of_means_over_kidneys(ledger):
    by_hand = {1: 1200.0, 2: 1800.0, 3: 2400.0}
    by_network = {4: 600.0, 5: 900.0}
    append(ledger, [manual(p, "artery", s) for p, s in by_hand.items()])
    append(ledger, [corrected(p, "artery", s) for p, s in by_network.items()])
    work = work_in(read_ledger(ledger))
    found = efforts(work["manual"], work["cnn_corrected"])
    artery = found.pop("artery")
    assert artery.manual == Summary(3, 1800.0, 600.0)
    assert (artery.corrected.n, artery.corrected.mean) == (2, 750.0)
    assert artery.corrected.sd == pytest.approx(np.sqrt(45000))
    assert artery.saving.value is not None and artery.saving.interval is not None
    assert artery.saving.value == pytest.approx(1 - 12.5 / 30)
    assert artery.saving.interval[0] < artery.saving.value < artery.saving.interval[1]
    assert found.pop("total") == artery
    assert all(effort.manual.mean is None and effort.saving.value is None for effort in found.values())
    text = shown(ledger)
    assert "minutes of people" in text and "simulated" not in text
    assert "30:00 ± 10:00" in text and "58 %" in text and "3 / 2" in text


def test_both_kidneys_of_a_patient_count_as_one(ledger):
    """Twice the kidneys, each like its fellow: the same interval as from one of them each."""
    for patient, seconds in enumerate((100.0, 300.0, 500.0)):
        for kidney in ("left", "right"):
            append(ledger, [manual(patient, "vein", seconds, kidney=kidney)])
            append(ledger, [corrected(patient + 3, "vein", seconds / 2 + 9, kidney=kidney)])
    work = work_in(read_ledger(ledger))
    both = efforts(work["manual"], work["cnn_corrected"])["vein"]
    alone = efforts(work["manual"][::2], work["cnn_corrected"][::2])["vein"]
    assert (both.manual.n, alone.manual.n) == (6, 3)
    assert alone.saving.interval is not None
    assert both.saving.interval == pytest.approx(alone.saving.interval)


def test_one_patient_gives_no_interval(ledger):
    append(ledger, [manual(1, "rcc", 60.0), corrected(2, "rcc", 30.0)])
    work = work_in(read_ledger(ledger))
    rcc = efforts(work["manual"], work["cnn_corrected"])["rcc"]
    assert rcc.saving.value == 0.5 and rcc.saving.interval is None


def test_time_lines_replace_label_times_and_add_up(ledger):
    append(ledger, [corrected(1, "artery", 100.0), corrected(1, "vein", None)])
    times = {"case": "case_1", "origin": "cnn_corrected", "stage": 1, "annotator": "A"}
    append(ledger, [TimeEvent(**times, source="server", active_s=1000.0)])
    (work,) = work_in(read_ledger(ledger))["cnn_corrected"]
    assert work.seconds == {"artery": 100.0} and work.total_s == 1000.0
    append(ledger, [TimeEvent(**times, source="clock", active_s=40.0, structure="artery")])
    append(ledger, [TimeEvent(**times, source="csv", active_s=30.0, structure="artery")])
    (work,) = work_in(read_ledger(ledger))["cnn_corrected"]
    assert work.seconds == {"artery": 70.0} and work.total_s == 1000.0
    append(ledger, [TimeEvent(**times, source="clock", active_s=5.0, structure="vein")])
    (work,) = work_in(read_ledger(ledger))["cnn_corrected"]
    assert work.total_s == 75.0


def test_a_clock_that_was_forgotten_is_no_time_of_zero(ledger):
    append(ledger, [ClockEvent("case_1", "manual", 0, "A", "2020-01-01T00:00:00+00:00", "artery")])
    with pytest.raises(ValueError, match="nothing counted"):
        clock.stop(ledger, "case_1", "artery", "A")
    append(ledger, [manual(1, "artery", None), manual(2, "artery", 600.0)])
    assert efforts(work_in(read_ledger(ledger))["manual"], [])["artery"].manual == Summary(1, 600.0, None)


def test_a_persons_own_time_of_a_case_replaces_what_the_server_saw_of_it(ledger):
    seen = TimeEvent("case_1", "cnn_corrected", 1, "A", source="server", active_s=1000.0)
    append(ledger, [seen, replace(seen, active_s=200.0)])
    (work,) = work_in(read_ledger(ledger))["cnn_corrected"]
    assert work.total_s == 1200.0
    append(ledger, [replace(seen, source="clock", active_s=700.0)])
    append(ledger, [replace(seen, case="case_2", active_s=50.0)])
    first, second = work_in(read_ledger(ledger))["cnn_corrected"]
    assert (first.total_s, second.total_s) == (700.0, 50.0)


def test_people_and_simulation_are_not_mixed(ledger):
    append(ledger, [manual(1, "artery", 60.0), corrected(2, "artery", 30.0)])
    append(
        ledger,
        [corrected(2, "artery", 999.0, simulated=True), manual(1, "artery", 60.0, stage=1, blind=True)],
    )
    people, simulated = (to_terminal([table]) for table in ledger_tables(read_ledger(ledger)))
    assert "16:39" not in people and "1 of those by hand are blind" in people
    assert "simulated minutes" in simulated and "16:39" in simulated and "0 / 1" in simulated
    assert ledger_tables(read_ledger(ledger.with_name("none.jsonl"))) == []


def test_a_clock_is_started_once_and_stopped_once(ledger):
    clock.start(ledger, "case_1", "artery", "manual", "A", 0)
    clock.start(ledger, "case_1", "vein", "manual", "A", 0)
    clock.start(ledger, "case_1", "artery", "manual", "B", 0)
    with pytest.raises(ValueError, match="case_1, artery: the clock of A runs since"):
        clock.start(ledger, "case_1", "artery", "manual", "A", 0)
    stopped = clock.stop(ledger, "case_1", "artery", "A")
    assert 0 <= stopped.active_s < 60 and stopped.origin == "manual"
    with pytest.raises(ValueError, match="case_1, artery: no clock of A runs"):
        clock.stop(ledger, "case_1", "artery", "A")
    clock.start(ledger, "case_1", "artery", "cnn_corrected", "A", 1)
    assert clock.stop(ledger, "case_1", "artery", "A").origin == "cnn_corrected"
    assert clock.stop(ledger, "case_1", "artery", "B").annotator == "B"


def test_a_forgotten_clock_counts_nothing(ledger):
    append(ledger, [ClockEvent("case_1", "manual", 0, "A", "2020-01-01T00:00:00+00:00")])
    with pytest.raises(ValueError, match="more than 6 h: it was stopped and nothing counted"):
        clock.stop(ledger, "case_1", None, "A")
    assert [event.active_s for event in read_ledger(ledger).events(TimeEvent)] == [0.0]
    clock.start(ledger, "case_1", None, "manual", "A", 0)


def test_a_csv_is_taken_whole_and_once(tmp_path, ledger, capsys):
    file = tmp_path / "times.csv"
    file.write_text(
        "\ufeffcase,structure,seconds,origin,annotator,stage\n"
        "case_1,artery,90,cnn_corrected,Zoë,1\ncase_1,,600.5,cnn_corrected,Zoë,1\n",
        encoding="utf-8",
    )
    assert main(["label", "csv", str(file), "--run", str(ledger.parent)]) == 0
    assert main(["label", "csv", str(file), "--run", str(ledger.parent)]) == 0
    assert "2 times, 2 of them new" in (said := capsys.readouterr().out) and "2 times, 0 of them new" in said
    events = read_ledger(ledger).events(TimeEvent)
    assert [(e.structure, e.active_s, e.annotator) for e in events] == [
        ("artery", 90.0, "Zoë"),
        (None, 600.5, "Zoë"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("case_1,aorta,90,manual,A,1", "line 3: TimeEvent.structure: need one of"),
        ("case_1,artery,soon,manual,A,1", "line 3: could not convert"),
        ("case_1,artery,-1,manual,A,1", "line 3: TimeEvent.active_s"),
        ("case_1,artery,nan,manual,A,1", "line 3: needs a case"),
        ("case_1,artery,90,cnn,A,1", "line 3: TimeEvent.origin"),
        (",artery,90,manual,A,1", "line 3: needs a case"),
        ("case_1,artery", "line 3: "),
    ],
)
def test_a_csv_with_a_bad_row_is_refused_whole(tmp_path, ledger, capsys, row, message):
    file = tmp_path / "times.csv"
    file.write_text(f"case,structure,seconds,origin,annotator,stage\ncase_1,artery,90,manual,A,1\n{row}\n")
    assert main(["label", "csv", str(file), "--run", str(ledger.parent)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not ledger.exists()


def test_label_and_ledger_at_the_command_line(ledger, capsys):
    run = ["--run", str(ledger.parent), "--annotator", "A"]
    (ledger.parent / "stage_1" / "to_correct").mkdir(parents=True)
    (ledger.parent / "stage_2").mkdir()
    assert main(["label", "start", "case_1", "--structure", "vein", *run]) == 0
    assert main(["label", "stop", "case_1", "--structure", "vein", *run]) == 0
    assert [event.stage for event in read_ledger(ledger).events(TimeEvent)] == [1]
    assert main(["label", "stop", "case_1", "--structure", "vein", *run]) == 2
    assert "no clock of A runs" in capsys.readouterr().err
    append(ledger, [manual(1, "artery", 1200.0, approver="C"), corrected(2, "artery", 600.0)])
    append(ledger, [ApprovalEvent("case_2", 1, "sha256:0", "C")])
    head = read_ledger(ledger).head
    assert main(["ledger", str(ledger.parent), "--expect", head]) == 0
    said = capsys.readouterr().out
    assert "50 %" in said and "5 lines, every hash holds" in said and head in said
    assert "stage 0: 1 cases approved by C\nstage 1: 1 cases approved by C" in said
    assert "stage 1: 1 structures cnn_corrected by A with slicer" in said


def test_a_ledger_that_is_damaged_is_not_shown(ledger, capsys):
    assert main(["ledger", str(ledger.parent)]) == 2
    assert "no such ledger" in capsys.readouterr().err
    append(ledger, [manual(1, "artery", 1200.0), corrected(2, "artery", 600.0)])
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-3])
    assert main(["ledger", str(ledger.parent)]) == 1
    said = capsys.readouterr()
    assert "line 2 is torn" in said.err and "1 lines, every hash holds" in said.out
    ledger.write_bytes(whole.replace(b"1200.0", b"1300.0"))
    assert main(["ledger", str(ledger)]) == 2
    assert "line 1 was changed" in capsys.readouterr().err
    ledger.write_bytes(whole)
    assert main(["ledger", str(ledger), "--expect", "0" * 64]) == 2
    assert "lines were cut off" in capsys.readouterr().err


def test_the_list_says_how_a_case_is_labelled(ledger, tmp_path, capsys):
    """Minutes of a blind case, or of a name that nobody asked for, never count as those of a correction."""
    run, folder = ledger.parent, ledger.parent / "stage_1" / "to_correct"
    ct = Volume(np.zeros((4, 4, 4), np.int16), Geometry((4, 4, 4), (1.0, 1.0, 1.0)))
    seen = ct.with_array(np.ones((4, 4, 4), np.uint8))
    works = [write_to_correct(folder, c, c, ct, seen, blind=c == "case_2") for c in ("case_1", "case_2")]
    write_list(folder, 1, "sha256:model", works)
    given = ["--run", str(run), "--annotator", "A"]
    for case in ("case_1", "case_2"):
        assert main(["label", "start", case, *given]) == 0
    assert [e.origin for e in read_ledger(ledger).events(ClockEvent)] == ["cnn_corrected", "manual"]
    assert main(["label", "start", "case_01", *given]) == 2
    assert "case_01: not on the list of stage 1" in capsys.readouterr().err
    assert main(["label", "start", "case_2", "--origin", "cnn_corrected", "--structure", "vein", *given]) == 2
    assert "case_2: its list says manual in stage 1, got cnn_corrected" in capsys.readouterr().err
    before = ledger.read_bytes()
    file = tmp_path / "times.csv"
    for row in ("case_2,vein,90,cnn_corrected,A,1", "case_3,vein,90,manual,A,1"):
        file.write_text(
            f"case,structure,seconds,origin,annotator,stage\ncase_1,,9,cnn_corrected,A,1\n{row}\n"
        )
        assert main(["label", "csv", str(file), "--run", str(run)]) == 2
        assert row.split(",")[0] in capsys.readouterr().err
    assert ledger.read_bytes() == before
