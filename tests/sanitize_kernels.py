"""Builds the kernels with address + undefined-behaviour and with thread sanitizers and runs their tests.

JAX has no sanitized build: a program of its own, layers_check.cpp, drives the custom calls of `_layers`.

python tests/sanitize_kernels.py [address,undefined] [thread]; both by default. Exit code 0 when every run
passed. Fewer random examples than usual, each kernel and each path of threads among them. Needs g++ with its
sanitizers' libraries and the test extra. What Python itself leaks is not counted.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNTIMES = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
TESTS = ["components", "roi", "surfaces", "surface_areas", "resample"]


def build(sanitizer: str, folder: Path) -> Path:
    """A folder to put on the path: the package with a sanitized `_kernels` in it."""
    cmakedir = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True).strip()
    tools = Path(sysconfig.get_path("scripts"))
    cmake, ninja = (shutil.which(name, path=tools) or name for name in ("cmake", "ninja"))
    made = folder / "build"
    options = [
        "-GNinja",
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
        f"-DKIDSEG_SANITIZE={sanitizer.replace(',', ';')}",
        f"-Dpybind11_DIR={cmakedir}",
        f"-DPython_EXECUTABLE={sys.executable}",
        "-DCMAKE_BUILD_TYPE=Debug",  # no link-time optimisation
    ]
    subprocess.check_call([cmake, "-S", ROOT, "-B", made, *options], stdout=subprocess.DEVNULL)
    targets = ["--target", "_kernels", "layers_check"]
    subprocess.check_call([cmake, "--build", made, *targets, "--parallel", "2"], stdout=subprocess.DEVNULL)
    package = folder / "site" / "kidseg_jax"
    shutil.copytree(ROOT / "kidseg_jax", package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for module in made.glob("_kernels*.so"):
        shutil.copy(module, package)
    return package.parent


def environment(sanitizer: str, site: Path) -> dict[str, str]:
    """What a run needs: the sanitizer's runtime before all others, and the sanitized module on the path."""
    libraries = [
        subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()
        for name in (RUNTIMES[sanitizer], "libstdc++.so")
    ]
    paths = sysconfig.get_paths()
    return os.environ | {
        # No site hooks (-S): an editable install would bring its own, unsanitized module.
        "PYTHONPATH": os.pathsep.join([str(site), paths["purelib"], paths["platlib"]]),
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1",
        "KIDSEG_SANITIZED": sanitizer,
        "OPENBLAS_NUM_THREADS": "1",
    }


def passed(sanitizer: str) -> bool:
    """Whether all tests pass with a sanitized build."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        site = build(sanitizer, Path(folder))
        print(f"{sanitizer}: built in {time.perf_counter() - start:.0f} s", flush=True)
        tests = [str(ROOT / "tests" / f"test_kernels_{name}.py") for name in TESTS]
        # The thread sanitizer's memory layout needs addresses that are not randomised.
        fixed = ["setarch", "-R"] if sanitizer == "thread" and shutil.which("setarch") else []
        python = [*fixed, sys.executable, "-S", "-P"]
        environ = environment(sanitizer, site)
        loaded = [*python, "-c", "import kidseg_jax._kernels as k; print(k.__file__)"]
        if not subprocess.check_output(loaded, text=True, env=environ).startswith(str(site)):
            raise SystemExit("sanitize_kernels: another module than the sanitized one is loaded")
        pytest = [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        layers_check = [*fixed, str(Path(folder) / "build" / "layers_check")]
        return subprocess.call(layers_check) == subprocess.call(pytest, cwd=ROOT, env=environ) == 0


def main() -> int:
    sanitizers = sys.argv[1:] or list(RUNTIMES)
    if unknown := set(sanitizers) - set(RUNTIMES):
        print(
            f"sanitize_kernels: need {' or '.join(RUNTIMES)}, got {' '.join(sorted(unknown))}",
            file=sys.stderr,
        )
        return 2
    return 0 if all([passed(sanitizer) for sanitizer in sanitizers]) else 1


if __name__ == "__main__":
    sys.exit(main())
