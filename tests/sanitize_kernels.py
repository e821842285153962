"""Builds the kernels with address + undefined-behaviour and with thread sanitizers and runs their tests.

python tests/sanitize_kernels.py [address,undefined] [thread] [-- pytest arguments]; all by default.
Exit code 0 when every run passed. Needs g++, its sanitizer libraries, cmake and the test extra.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNTIMES = {"address,undefined": "libasan.so", "thread": "libtsan.so"}
TESTS = ["components", "roi", "surfaces", "resample"]


def build(sanitizer: str, folder: Path) -> Path:
    """A folder to put on the path: the package with a sanitized `_kernels` in it."""
    cmakedir = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True).strip()
    options = [
        f"-DKIDSEG_SANITIZE={sanitizer.replace(',', ';')}",
        f"-Dpybind11_DIR={cmakedir}",
        "-DKIDSEG_WERROR=ON",
        "-DCMAKE_BUILD_TYPE=Debug",  # no link-time optimisation
    ]
    made = folder / "build"
    subprocess.check_call(
        ["cmake", "-S", ROOT, "-B", made, f"-DPython_EXECUTABLE={sys.executable}", *options],
        stdout=subprocess.DEVNULL,
    )
    subprocess.check_call(["cmake", "--build", made, "--target", "_kernels", "--parallel", "2"])
    package = folder / "site" / "kidseg_jax"
    shutil.copytree(ROOT / "kidseg_jax", package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for module in made.glob("_kernels*.so"):
        shutil.copy(module, package)
    return package.parent


def run(sanitizer: str, arguments: list[str]) -> int:
    """Run the tests with a sanitized build; returns pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        site = build(sanitizer, Path(folder))
        runtime = RUNTIMES[sanitizer]
        library = subprocess.check_output(["g++", f"-print-file-name={runtime}"], text=True).strip()
        environment = os.environ | {
            # No site hooks (-S): an editable install would bring its own, unsanitized module.
            "PYTHONPATH": os.pathsep.join(
                [str(site), sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
            ),
            "LD_PRELOAD": library,
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
            "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1",
            "KIDSEG_SANITIZED": sanitizer,
        }
        tests = [str(ROOT / "tests" / f"test_kernels_{name}.py") for name in TESTS]
        python = [
            sys.executable,
            "-S",
            "-P",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *tests,
            *arguments,
        ]
        # The thread sanitizer's memory layout needs addresses that are not randomised.
        command = ["setarch", "-R", *python] if sanitizer == "thread" and shutil.which("setarch") else python
        print(f"{sanitizer}: {len(tests)} test files", flush=True)
        return subprocess.call(command, cwd=ROOT, env=environment)


def main() -> int:
    given, _, arguments = " ".join(sys.argv[1:]).partition("--")
    sanitizers = given.split() or list(RUNTIMES)
    if unknown := set(sanitizers) - set(RUNTIMES):
        raise SystemExit(
            f"sanitize_kernels: need one of {', '.join(RUNTIMES)}, got {', '.join(sorted(unknown))}"
        )
    return max(run(sanitizer, arguments.split()) for sanitizer in sanitizers)


if __name__ == "__main__":
    sys.exit(main())
