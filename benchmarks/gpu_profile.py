"""Where does a training step's time go on a GPU? The kernels of the fine network's step, timed by CUPTI.

    python benchmarks/gpu_profile.py [--preset gpu] [--steps 20]

Every kernel that a step starts is laid to what it computes, by the name that XLA keeps of the operation it
came from; for that, command buffers, which start many kernels as one, are off. Reported are ms a step,
the share of the device's busy time and the number of kernels; idle is the rest of a step's wall time. The
largest single kernels are printed. Rows go to benchmarks/results/gpu_profile.csv.
"""

import argparse
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_command_buffer="

import jax
import jax.numpy as jnp
from rows import about, append_rows, say
from training import N_CLASSES, draw

from kidseg_jax.config import PRESETS
from kidseg_jax.network.runtime import describe_device, keep_compiled, take_device
from kidseg_jax.network.training import start

KINDS = (  # the first that fits the operation's name
    ("convolutions, gradient", r"transpose\(jvp.*conv_general"),
    ("convolutions", r"conv_general"),
    ("Muon, matrix products", r"^(?!.*jvp).*dot_general"),
    ("1x1 maps", r"dot_general"),
    ("augmentation", r"gather|map_coordinates|random|threefry|erf_inv|clip|floor"),
    ("norms, gradient", r"transpose\(jvp.*(norm_relu|leaky)|_norm_relu_backward"),
    ("other of the gradient", r"transpose\(jvp"),
    ("other of the network and loss", r"jvp"),
)


def operations(program: str) -> dict[str, str]:
    """What each instruction of a compiled program came from."""
    return dict(re.findall(r"^\s*(?:ROOT )?%?([\w.-]+) = .*?op_name=\"(.*?)\"", program, re.MULTILINE))


def kernels(folder: str) -> list[tuple[str, str, float]]:
    """Kernel, instruction and ms of everything that the device did while it was watched."""
    found = []
    for file in Path(folder).rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            if not plane.name.startswith("/device:"):
                continue
            for line in plane.lines:
                if line.name is not None and line.name.startswith("Stream"):
                    for event in line.events:
                        stats = dict(event.stats)
                        found.append((event.name, str(stats.get("hlo_op", "")), event.duration_ns / 1e6))
    return found


def kind_of(kernel: str, instruction: str, came_from: dict[str, str]) -> str:
    """The kind of work of a kernel."""
    if re.match(r"Mem(cpy|set)", kernel):
        return "copies"
    name = came_from.get(instruction, "")
    fits = (kind for kind, pattern in KINDS if re.search(pattern, name))
    return next(fits, "optimizer and other" if name else "unnamed")


def main() -> None:
    """Profile, print and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="gpu")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    take_device()
    keep_compiled()
    net, train = PRESETS[arguments.preset].fine, PRESETS[arguments.preset].fine_train
    state, step = start(net, train, N_CLASSES, 1000, 0)
    ct, labels = draw(net.patch)
    given = (jnp.asarray(ct),) * train.batch, (jnp.asarray(labels),) * train.batch
    given = *given, jnp.array([ct.shape] * train.batch), jax.random.key(0)
    program: Any = step
    came_from = operations(program.lower(state, *given).compile().as_text())
    for _ in range(3):
        state, _ = step(state, *given)
    jax.block_until_ready(state)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            began = time.perf_counter()
            for _ in range(arguments.steps):
                state, _ = step(state, *given)
            jax.block_until_ready(state)
            wall_ms = 1e3 * (time.perf_counter() - began) / arguments.steps
        started = kernels(folder)
    if not started:
        raise SystemExit("gpu_profile: need a GPU whose kernels can be timed, saw none")
    ms, count, single = Counter[str](), Counter[str](), Counter[str]()
    for kernel, instruction, took in started:
        kind = kind_of(kernel, instruction, came_from)
        ms[kind] += took / arguments.steps  # pyright: ignore[reportArgumentType]
        count[kind] += 1
        single[f"{kernel[:60]} | {instruction} | {came_from.get(instruction, '')[-90:]}"] += (  # pyright: ignore[reportArgumentType]
            took / arguments.steps
        )
    busy = sum(ms.values())
    rows = [
        {
            **about(),
            "device": describe_device(),
            "preset": arguments.preset,
            "steps": arguments.steps,
            "step_ms": wall_ms,
            "busy_ms": float(busy),
            "what": kind,
            "ms": float(took),
            "share": took / busy,
            "kernels": count[kind] // arguments.steps,
        }
        for kind, took in ms.most_common()
    ]
    for row in rows:
        say(row)
    for what, took in single.most_common(40):
        print(f"  {took:8.3f} ms  {what}")
    append_rows("gpu_profile", rows)


if __name__ == "__main__":
    main()
