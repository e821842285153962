"""The public face: every name is there, at run time and for type checkers, and costs only what it needs."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import kidseg_jax


@pytest.mark.parametrize("name", kidseg_jax.__all__)
def test_every_public_name_is_there(name):
    assert getattr(kidseg_jax, name) is not None


def test_type_checkers_see_the_same_names():
    """Those imported for type checkers are those that are looked up."""
    source = ast.parse(Path(kidseg_jax.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in source.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen | {"__version__"} == set(kidseg_jax.__all__)
    assert (Path(kidseg_jax.__file__).parent / "py.typed").exists()


def test_there_is_one_version():
    assert importlib.metadata.version("kidseg_jax") == kidseg_jax.__version__


def test_the_kernels_load_nothing_heavy():
    code = (
        "import kidseg_jax.kernels, sys; print({'jax', 'flax', 'itk', 'open3d', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
