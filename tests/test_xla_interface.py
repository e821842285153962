"""The mirror of XLA's C interface in csrc/xla/c_interface.hpp against the header that comes with jaxlib."""

import os
import shutil
import subprocess
from pathlib import Path

import jax
import pytest

TESTS = Path(__file__).resolve().parent
COMPILER = shutil.which(os.environ.get("CXX", "c++"))


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_the_mirror_says_what_xla_says(tmp_path):
    includes = ["-I", str(TESTS.parent / "csrc"), "-isystem", jax.ffi.include_dir()]

    def compiled(source: Path) -> subprocess.CompletedProcess[str]:
        command = [str(COMPILER), "-std=c++17", "-fsyntax-only", *includes, str(source)]
        return subprocess.run(command, capture_output=True, text=True)

    source = TESTS / "xla_interface.cpp"
    assert compiled(source).stderr == ""
    wrong = tmp_path / "wrong.cpp"
    text = source.read_text(encoding="utf-8")
    wrong.write_text(text.replace("(PoolSchedule, task,", "(PoolSchedule, data,"), encoding="utf-8")
    assert "lies elsewhere" in compiled(wrong).stderr
