"""Broken, impossible and foreign input: each ends in one clear line, exit code 2, and no file."""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bad_input import BAD, CT, GRID, LABELS, Bad, labels_file
from dicom_files import CANARIES, write_series
from grids import body_ct
from nifti_files import nifti_bytes, put

from kidseg_jax.cli.app import main
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.volume import Volume


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() or p.is_symlink())


@pytest.mark.parametrize("name", BAD)
def test_one_line_exit_2_no_file(name, tmp_path, capfd):
    bad: Bad = BAD[name]
    (tmp_path / "given").mkdir()
    arguments = bad.make(tmp_path / "given")
    before = files_in(tmp_path)
    code = main([*arguments, "--out", str(tmp_path / "out")] if "--out" not in arguments else arguments)
    output, said = capfd.readouterr()
    assert said.count("\n") == 1, said
    assert said.startswith("kidseg_jax: ")
    assert bad.says in said
    assert code == 2
    assert files_in(tmp_path) == before
    assert not [word for word in CANARIES if word in said + output]


def test_there_are_at_least_sixty():
    assert len(BAD) >= 60


@pytest.mark.parametrize(
    "name", ["gz_cut_mid_stream", "text_named_nii_gz", "dims_claim_terabytes", "missing_file"]
)
def test_a_real_process_says_the_same(name, tmp_path):
    arguments = BAD[name].make(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "kidseg_jax", *arguments, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert BAD[name].says in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "largest_file"),
    [
        *((to, 300) for to in ("nifti", "nrrd", "seg.nrrd", "itksnap", "kits", "bids", "ply", "stl", "glb")),
        *((to, 300) for to in ("nnunet", "msd", "dicom-seg")),
        ("dicom-seg", 10_000),  # inside its frames
    ],
)
def test_a_full_disk_leaves_no_partial_file(to, largest_file, tmp_path, capsys, small_disk):
    path = labels_file(tmp_path, noise=True)
    write_volume(tmp_path / "ct.nii.gz", body_ct(GRID))
    write_series(tmp_path / "ct", body_ct(GRID))
    ct = {"dicom-seg": "ct", "nnunet": "ct.nii.gz", "msd": "ct.nii.gz"}
    more = ["--ct", str(tmp_path / ct[to])] if to in ct else []
    before = files_in(tmp_path)
    small_disk(largest_file)
    code = main(["export", str(path), "--to", to, "--out", str(tmp_path / "out"), *more])
    small_disk(resource.RLIM_INFINITY)
    _, said = capsys.readouterr()
    assert code == 2
    assert said.count("\n") == 1 and "Traceback" not in said
    assert said.startswith(f"kidseg_jax: [Errno {errno.EFBIG}] File too large: '{tmp_path / 'out'}")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(("to", "name"), [("nnunet", "Dataset007_x"), ("msd", "Task07_x")])
def test_a_disk_that_fills_up_leaves_whole_cases_and_a_data_set_without_its_list(
    to, name, tmp_path, capsys, small_disk
):
    """The second CT does not fit; a second call, with room, writes what the first would have."""
    cases, out = tmp_path / "cases", tmp_path / name
    noisy = body_ct(GRID)
    plain = noisy.with_array(np.where(noisy.array > -500, 40, -1000).astype(np.int16))
    for i, ct in enumerate((plain, noisy)):
        write_volume(cases / f"case_{i:05d}" / "imaging.nii.gz", ct)
        write_volume(cases / f"case_{i:05d}" / "segmentation.nii.gz", Volume(LABELS, GRID))
    small_disk(2000)
    code = main(["export", str(cases), "--to", to, "--out", str(out)])
    small_disk(resource.RLIM_INFINITY)
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and "File too large" in said and "case_00001" in said
    left = files_in(out)
    assert [Path(file).name.split(".")[0].removesuffix("_0000") for file in left] == ["case_00000"] * 2
    held = {file: (out / file).read_bytes() for file in left}
    assert main(["export", str(cases), "--to", to, "--out", str(out)]) == 0
    assert {file: (out / file).read_bytes() for file in left} == held
    assert len(files_in(out)) == 5 and "dataset.json" in files_in(out)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, and nobody but us may write to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_read_only_folder(open_folder, capfd):
    path, out = labels_file(open_folder), open_folder / "out"
    path.chmod(0o644)
    assert main(["export", str(path), "--to", "nifti", "--out", str(open_folder / "before")]) == 0
    capfd.readouterr()
    out.mkdir(mode=0o555)
    us = os.geteuid()
    if us == 0:
        os.seteuid(65534)  # root may write anywhere
    try:
        code = main(["export", str(path), "--to", "nifti", "--out", str(out)])
    finally:
        os.seteuid(us)
    said = capfd.readouterr().err
    assert code == 2
    assert said.startswith("kidseg_jax: ") and said.count("\n") == 1
    assert "Permission denied" in said
    assert files_in(out) == []


def test_more_memory_than_there_is_is_one_line(tmp_path, monkeypatch, capfd):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "empty", full)
    path = put(tmp_path / "x.nii", nifti_bytes(CT))
    assert main(["predict", str(path), "--model", str(tmp_path / "no_run")]) == 2
    assert capfd.readouterr().err == "kidseg_jax: out of memory\n"


def test_a_reader_that_has_seen_enough(tmp_path):
    """As `| head -0`: no traceback, no line, the code of a closed pipe."""
    labels_file(tmp_path)
    command = [sys.executable, "-m", "kidseg_jax", "info", str(tmp_path), "--only-labels"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(120), said) == (141, b"")


@pytest.fixture
def ctrl_c_is_heard():
    """Also where the tests run in the background: a shell starts such a job, and so its children, deaf."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_is_one_line_and_leaves_whole_files(tmp_path):
    command = [sys.executable, "-m", "kidseg_jax", "phantom", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("segmentation.nii.gz")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=120)
    assert (process.returncode, printed) == (130, "")
    assert said == "kidseg_jax: interrupted; what was finished is kept\n"
    assert not [file for file in files_in(tmp_path) if Path(file).name.startswith(".")]
