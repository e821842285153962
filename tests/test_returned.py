"""Cases that wait for a person, and the check of what comes back."""

import gzip
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC, VEIN
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling.corrected import add_version, changes, read_corrected, versions
from kidseg_jax.labelling.events import LabelEvent, content_hash
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.labelling.query import Score
from kidseg_jax.labelling.returned import accepted_labels, check_corrected, check_one, events_to_append
from kidseg_jax.labelling.worklist import (
    choose_blind,
    describe,
    read_list,
    snap_labels,
    write_list,
    write_to_correct,
)

GRID = Geometry((12, 14, 16), (2.0, 1.0, 1.0), (-10.0, 20.0, 30.0))
CASES = ("case_00001", "case_00002", "case_00003")


def prediction(seed=0):
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3:9, 4:10, 4:11] = PARENCHYMA
    labels[5:7, 6:8, 11:14] = ARTERY
    labels[2 + seed % 3, 0, 0] = VEIN
    return Volume(labels, GRID)


def improved(seed=0):
    labels = prediction(seed).array.copy()
    labels[5:7, 6:8, 14:16] = ARTERY
    labels[3:5, 4:6, 4:6] = RCC
    return Volume(labels, GRID)


@pytest.fixture
def stage(tmp_path):
    """A stage_1 folder with three cases to correct; the last one is blind."""
    folder = tmp_path / "stage_1"
    ct = Volume(np.random.default_rng(0).integers(-100, 200, GRID.shape).astype(np.int16), GRID)
    waiting = [
        write_to_correct(
            folder / "to_correct",
            case,
            case,
            ct,
            prediction(i),
            blind=i == 2,
            score=Score(effort_s=60.0 * i) if i < 2 else None,
        )
        for i, case in enumerate(CASES)
    ]
    write_list(folder / "to_correct", 1, "sha256:model", waiting)
    return folder


def check(stage, **options):
    return check_corrected(stage / "to_correct", stage / "corrected", **options)


def test_the_list_goes_to_disk_and_back_most_work_first(stage):
    work_list = read_list(stage / "to_correct")
    assert [work.case for work in work_list.cases] == ["case_00002", "case_00001", "case_00003"]
    assert work_list.stage == 1 and work_list.model == "sha256:model"
    assert all(work.grid == GRID for work in work_list.cases)
    assert [work.score for work in work_list.cases] == [
        Score(effort_s=60.0),
        Score(effort_s=0.0),
        Score(structures=frozenset({"artery", "vein", "parenchyma"})),
    ]
    assert {path.name for path in (stage / "to_correct").iterdir()} == {
        *(f"{case}.nii.gz" for case in CASES),
        *(f"{case}.seg.nrrd" for case in CASES[:2]),
        "labels.txt",
        "list.json",
    }
    said = describe(stage / "to_correct", work_list)
    assert "case_00002  about 1 min" in said and "case_00003  blind" in said


def test_no_kidney_found_is_labelled_from_nothing_and_not_blind(tmp_path):
    ct = Volume(np.zeros(GRID.shape, np.int16), GRID)
    work = write_to_correct(tmp_path, "a", "a", ct, ct.with_array(np.zeros(GRID.shape, np.uint8)))
    assert work.prediction is None and not work.blind and not (tmp_path / "a.seg.nrrd").exists()


def test_a_ct_on_disk_is_linked_to(tmp_path):
    ct = Volume(np.zeros(GRID.shape, np.int16), GRID)
    write_volume(tmp_path / "imaging.nii.gz", ct)
    for _ in range(2):
        write_to_correct(tmp_path / "out", "a", "a", ct, prediction(), ct_path=tmp_path / "imaging.nii.gz")
    assert (tmp_path / "out" / "a.nii.gz").resolve() == tmp_path / "imaging.nii.gz"


def test_nothing_back_yet_then_some_then_all(stage):
    assert check(stage).missing == ("case_00002", "case_00001", "case_00003")
    write_volume(stage / "corrected" / "case_00001.seg.nrrd", improved())
    some = check(stage)
    assert [case.work.case for case in some.done] == ["case_00001"] and not some.is_complete
    write_volume(stage / "corrected" / "case_00002.nii.gz", improved(1))
    write_volume(stage / "corrected" / "case_00003.npz", improved(2))
    everything = check(stage)
    assert everything.is_complete and len(everything.done) == 3
    said = str(everything)
    assert "case_00001 (case_00001.seg.nrrd):\n" in said
    assert "artery: +0.02 ml, -0.00 ml, surface moved" in said
    blind = everything.done[-1]
    assert blind.work.blind and all(change.voxels_removed == 0 for change in blind.changes)
    assert {change.structure for change in blind.changes} == {"artery", "vein", "parenchyma", "rcc"}


def test_what_cannot_be_learned_from_is_refused_with_its_reason(stage):
    corrected = stage / "corrected"
    write_volume(corrected / "case_00001.seg.nrrd", prediction(0))
    empty = Volume(np.zeros(GRID.shape, np.uint8), GRID)
    write_volume(corrected / "case_00002.seg.nrrd", empty)
    other = replace(GRID, origin_mm=(-10.5, 20.0, 30.0))
    write_volume(corrected / "case_00003.seg.nrrd", Volume(improved(2).array, other))
    refused = check(stage).refused
    assert set(refused) == set(CASES)
    assert "equals the prediction" in refused["case_00001"]
    assert "holds no structure" in refused["case_00002"]
    assert "must lie on one grid" in refused["case_00003"]
    assert [c.work.case for c in check(stage, accept_unchanged=True).done] == ["case_00001"]
    assert [c.work.case for c in check(stage, accept_unchanged=["case_00001"]).done] == ["case_00001"]
    write_volume(corrected / "case_00001.2.nrrd", Volume(improved(0).array + np.uint8(5), GRID))
    (corrected / "case_00002.2.seg.nrrd").write_bytes(b"NRRD0004\n")
    (corrected / "case_00003.2.nii.gz").write_text("not gzip")
    refused = check(stage).refused
    assert "got label 6 without a name" in refused["case_00001"]
    assert set(refused) == set(CASES) and all("\n" not in reason for reason in refused.values())


def test_a_cropped_segmentation_is_laid_into_the_grid(stage, tmp_path):
    """Slicer may save the smallest box around the segments only."""
    whole = improved()
    lo, hi = (1, 0, 0), (10, 12, 16)
    part = whole.array[tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))]
    spot = tuple(GRID.to_world([lo])[0].tolist())
    grid = Geometry((9, 12, 16), GRID.spacing_mm, spot, GRID.direction)
    write_volume(tmp_path / "part.seg.nrrd", Volume(part, grid))
    assert np.array_equal(read_corrected(tmp_path / "part.seg.nrrd", GRID).array, whole.array)


def test_names_say_which_segment_is_which(tmp_path):
    labels = improved().array
    swapped = labels.copy()
    swapped[labels == ARTERY], swapped[labels == PARENCHYMA] = 7, 1
    names = {7: "Renal artery", 1: "kidney", VEIN: "vein", RCC: "tumor"}
    write_volume(tmp_path / "a.nrrd", Volume(swapped, GRID))
    assert np.array_equal(read_corrected(tmp_path / "a.nrrd", GRID, names).array, labels)
    with pytest.raises(ValueError, match="got label 5 named 'spleen'"):
        read_corrected(tmp_path / "a.nrrd", GRID, names | {5: "spleen"})


def test_a_file_that_claims_more_voxels_than_its_ct_is_not_unpacked(tmp_path):
    large = Volume(np.zeros((24, 14, 16), np.uint8), replace(GRID, shape=(24, 14, 16)))
    for name in ("a.nrrd", "a.nii.gz"):
        write_volume(tmp_path / name, large)
        with pytest.raises(ValueError, match="claims 5376 voxels, its CT has 2688"):
            read_corrected(tmp_path / name, GRID)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz"])
def test_a_file_that_unpacks_to_more_than_it_claims_is_left_early(tmp_path, ending, members):
    """A megabyte of gzip can hold a gigabyte: reading stops at what the header allows."""
    path = tmp_path / f"a{ending}"
    write_volume(path, improved())
    whole = path.read_bytes()
    start = whole.index(b"\n\n") + 2 if ending == ".nrrd" else 0
    held, more = gzip.decompress(whole[start:]), bytes(4 << 20)
    parts = [held, more] if members == 2 else [held + more]
    path.write_bytes(whole[:start] + b"".join(map(gzip.compress, parts)))
    with pytest.raises(ValueError, match="claims 2688 bytes of voxels, there are more"):
        read_corrected(path, GRID)
    path.write_bytes(whole)
    assert np.array_equal(read_corrected(path, GRID).array, improved().array)


def test_the_newest_version_counts_and_none_is_overwritten(stage):
    corrected = stage / "corrected"

    def submit(i):
        written = corrected / f".{i}.tmp"
        written.write_bytes(bytes([i]))
        return add_version(corrected, "case_00001", written)

    corrected.mkdir()
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(submit, range(24)))
    assert len(set(paths)) == 24
    assert sorted(path.read_bytes()[0] for path in paths) == list(range(24))
    found = versions(corrected, "case_00001")
    assert [path.name for path in found[:3]] == [
        "case_00001.seg.nrrd",
        "case_00001.2.seg.nrrd",
        "case_00001.3.seg.nrrd",
    ]
    assert found[-1].name == "case_00001.24.seg.nrrd" and set(found) == set(paths)
    (corrected / "case_00001.nii.gz").touch()
    with pytest.raises(ValueError, match="two files for one version of case_00001"):
        versions(corrected, "case_00001")


def test_the_ledger_gets_each_case_once(stage):
    ledger = stage.parent / "ledger.jsonl"
    for case in CASES:
        write_volume(stage / "corrected" / f"{case}.seg.nrrd", improved())
    work_list = read_list(stage / "to_correct")
    for _ in range(2):
        append(
            ledger, events_to_append(check(stage), work_list, read_ledger(ledger), approver="B"), once=True
        )
    events = read_ledger(ledger).events(LabelEvent)
    assert len(events) == 12 and {event.approver for event in events} == {"B"}
    artery = next(e for e in events if (e.case, e.structure) == ("case_00001", "artery"))
    assert artery.parent == content_hash(prediction(0).array) and artery.label == content_hash(
        improved().array
    )
    assert (artery.voxels_added, artery.voxels_removed, artery.origin) == (8, 0, "cnn_corrected")
    blind = [e for e in events if e.case == "case_00003"]
    assert {(e.origin, e.blind, e.parent, e.model) for e in blind} == {("manual", True, None, None)}


def test_a_corrected_file_that_was_lost_or_changed_is_named(stage):
    corrected = stage / "corrected"
    path = corrected / "case_00001.seg.nrrd"
    write_volume(path, improved())
    arguments = (corrected, "case_00001", GRID, content_hash(improved().array))
    assert np.array_equal(accepted_labels(*arguments).array, improved().array)
    (corrected / "case_00001.2.seg.nrrd").write_bytes(b"NRRD0004\ncut")
    assert np.array_equal(accepted_labels(*arguments).array, improved().array)
    path.unlink()
    with pytest.raises(ValueError, match="no file of case_00001 holds the labels that were accepted"):
        accepted_labels(*arguments)
    write_volume(path, improved(1))
    with pytest.raises(ValueError, match="no file of case_00001"):
        accepted_labels(*arguments)


def test_a_prediction_that_was_edited_in_place_is_named(stage):
    write_volume(stage / "to_correct" / "case_00001.seg.nrrd", improved())
    write_volume(stage / "corrected" / "case_00001.seg.nrrd", improved())
    with pytest.raises(
        ValueError, match="not the prediction any more; save corrections in the folder corrected"
    ):
        work = next(w for w in read_list(stage / "to_correct").cases if w.case == "case_00001")
        check_one(stage / "to_correct", work, stage / "corrected" / "case_00001.seg.nrrd")


def test_changes_are_counted_in_ml_and_mm():
    before, after = prediction(), prediction()
    after.array[3:9, 4:10, 4:11] = 0
    after.array[3:9, 4:10, 5:12] = PARENCHYMA  # one voxel to the left, 6 x 6 voxels of 2 mm3 a side
    after.array[5:7, 6:8, 11:14] = ARTERY
    found = {change.structure: change for change in changes(before, after)}
    moved = found["parenchyma"]
    assert moved.voxels_added == 36 - 4 and moved.voxels_removed == 36
    assert moved.added_ml == pytest.approx(0.064) and moved.removed_ml == pytest.approx(0.072)
    assert moved.max_mm == pytest.approx(1.0) and moved.rms_mm is not None and 0 < moved.rms_mm < 1
    assert found["artery"].voxels_added == found["artery"].voxels_removed == 0 and found["artery"].rms_mm == 0
    assert changes(Volume(np.zeros_like(before.array), GRID), Volume(np.zeros_like(before.array), GRID)) == ()


def test_blind_cases_are_a_share_of_the_list():
    rng = np.random.default_rng(0)
    cases = [f"case_{i}" for i in range(40)]
    assert len(choose_blind(cases, 0.1, rng)) == 4
    assert choose_blind(cases, 0.0, rng) == frozenset() == choose_blind([], 0.5, rng)
    assert len(choose_blind(cases[:3], 0.1, rng)) == 1
    assert len({choose_blind(cases, 0.1, np.random.default_rng(seed)) for seed in range(10)}) > 5
    with pytest.raises(ValueError, match="the share must be 0 to 1, got 10"):
        choose_blind(cases, 10, rng)


def test_snap_reads_the_label_file_by_its_first_line_and_rows():
    lines = snap_labels().splitlines()
    assert lines[0] == "# ITK-SnAP Label Description File"
    rows = [line.split(maxsplit=7) for line in lines if not line.startswith("#")]
    assert rows[0] == ["0"] * 7 + ['"Clear Label"']
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert rows[1] == ["1", "216", "101", "79", "1", "1", "1", '"artery"']
