"""Imports point down, never in a circle; one room knows ITK, one folder of C++ knows Python."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "kidseg_jax"
FLOORS = (
    {"config", "atomic", "csv_text", "kernels", "rundir", "stops"},
    {"imaging"},
    {"formats"},
    {"cohort"},
    {"phantom", "export"},
    {"network"},
    {"labelling", "evaluation", "surgery"},
    {"report"},
    {"staging"},
    {"audit"},
    {"cli"},
    {"__main__", "stage"},
)
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imports_of(path: Path) -> set[str]:
    """The modules of this package that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kidseg_jax"):
            named = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= named or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("kidseg_jax")}
    return found & MODULES.keys() - {"kidseg_jax"}


IMPORTS = {name: imports_of(path) for name, path in MODULES.items() if name != "kidseg_jax"}


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_a_floor():
    assert {room(name) for name in IMPORTS} == HEIGHT.keys()


@pytest.mark.parametrize("name", IMPORTS)
def test_imports_point_down(name):
    up = {other for other in IMPORTS[name] if HEIGHT[room(other)] > HEIGHT[room(name)]}
    beside = {
        other
        for other in IMPORTS[name]
        if room(other) != room(name) and HEIGHT[room(other)] == HEIGHT[room(name)] and HEIGHT[room(name)]
    }
    assert not up and not beside


def test_there_is_no_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_formats_know_itk():
    knows = re.compile(r"^\s*(import itk|from itk)\b", re.MULTILINE)
    files = [name for name, path in MODULES.items() if knows.search(path.read_text(encoding="utf-8"))]
    assert {room(name) for name in files} == {"formats"}


def test_only_one_folder_of_the_kernels_knows_python():
    files = [
        path for path in (ROOT / "csrc").rglob("*.?pp") if "pybind11" in path.read_text(encoding="utf-8")
    ]
    assert {path.parent.name for path in files} == {"python"}
