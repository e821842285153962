"""How fast are the forms of the 3-D convolution on CPU? Forward and gradient on the U-Net's shapes.

    python benchmarks/conv3d.py

Forms take turns within one process, so that a change of load touches all. At its turn each runs twice and
the second run counts: its data lie in the cache, as a layer's do that the one before has just written. The
gradient is that of both the input and the kernel from one of the output: twice the forward's arithmetic.
Reported are medians of --repeats: wall time, processor time (which a busy machine disturbs less), GFLOP/s by
the wall and the largest relative error against lax. Rows go to benchmarks/results/conv3d.csv.
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rows import about, append_rows

from kidseg_jax.network.conv3d import Form, conv3d
from kidseg_jax.network.runtime import keep_freed_memory

SHAPES = [
    ((56, 40, 48), 1, 8),
    ((56, 40, 48), 8, 8),
    ((28, 20, 24), 8, 16),
    ((28, 20, 24), 16, 16),
    ((14, 10, 12), 16, 32),
    ((14, 10, 12), 32, 32),
    ((60, 44, 52), 8, 8),
    ((30, 22, 26), 24, 24),
    ((15, 11, 13), 48, 48),
    ((64, 64, 64), 16, 16),
    ((32, 32, 32), 32, 32),
    ((16, 16, 16), 64, 64),
    ((96, 96, 96), 8, 8),
]
FORMS: tuple[Form, ...] = get_args(Form)


def gradients(x: jax.Array, kernel: jax.Array, g: jax.Array, form: Form) -> tuple[jax.Array, jax.Array]:
    """Gradients in the input and in the kernel."""
    return jax.vjp(partial(conv3d, form=form), x, kernel)[1](g)


def make_tasks(
    shape: tuple[int, int, int], c_in: int, c_out: int
) -> dict[tuple[str, Form], Callable[[], Any]]:
    """Compiled forward and gradient of every form, on one image of normal noise."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(1, *shape, c_in)), jnp.float32)
    g = jnp.asarray(rng.normal(size=(1, *shape, c_out)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, c_in, c_out)), jnp.float32)
    tasks = {}
    for form in FORMS:
        forward = jax.jit(partial(conv3d, form=form))
        gradient = jax.jit(partial(gradients, form=form))
        tasks["forward", form] = lambda run=forward: run(x, kernel)
        tasks["gradient", form] = lambda run=gradient: run(x, kernel, g)
    return tasks


def relative_error(ours: Any, expected: Any) -> float:
    """Largest over the arrays of the 2-norm of the difference by that of the expected."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True)
    return max(float(jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel())) for a, b in pairs)


def measure(shape: tuple[int, int, int], c_in: int, c_out: int, repeats: int) -> list[dict[str, Any]]:
    """One row for each form and direction."""
    tasks = make_tasks(shape, c_in, c_out)
    walls: dict[tuple[str, Form], list[float]] = {key: [] for key in tasks}
    cpus: dict[tuple[str, Form], list[float]] = {key: [] for key in tasks}
    results = {key: jax.block_until_ready(task()) for key, task in tasks.items()}
    for _ in range(repeats):
        for key, task in tasks.items():
            jax.block_until_ready(task())
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(task())
            cpus[key].append(time.process_time() - cpu)
            walls[key].append(time.perf_counter() - wall)
    rows = []
    for key in tasks:
        direction, form = key
        wall, slowest = median(walls[key]), median(walls[direction, "lax"])
        flop = 54.0 * np.prod(shape) * c_in * c_out * (2 if direction == "gradient" else 1)
        rows.append(
            {
                **about(),
                "shape": "x".join(map(str, shape)),
                "channels": f"{c_in}->{c_out}",
                "direction": direction,
                "form": form,
                "repeats": repeats,
                "wall_ms": wall * 1e3,
                "cpu_ms": median(cpus[key]) * 1e3,
                "gflops": flop / wall / 1e9,
                "times_lax": slowest / wall,
                "relative_error": relative_error(results[key], results[direction, "lax"]),
            }
        )
    return rows


def main(repeats: int = 7, shapes: tuple[int, ...] = tuple(range(len(SHAPES)))) -> None:
    """Measure, print and keep. shapes: which of them, by number."""
    keep_freed_memory()  # as the commands do, for every form alike
    print("     shape channels direction    form       ms  GFLOP/s  x lax    error")
    measured = []
    for grid, c_in, c_out in (SHAPES[i] for i in shapes):
        rows = measure(grid, c_in, c_out, repeats)
        for r in rows:
            print(
                f"{r['shape']:>10} {r['channels']:>8} {r['direction']:>9} {r['form']:>7} {r['wall_ms']:8.2f} "
                f"{r['gflops']:8.1f} {r['times_lax']:6.1f} {r['relative_error']:8.1e}",
                flush=True,
            )
        append_rows("conv3d", rows)
        measured += rows
    print_floors(measured)


def print_floors(rows: list[dict[str, Any]]) -> None:
    """Whether the compiled form is everywhere 4 times as fast as lax, and every form as exact as 1e-5."""
    for direction in ("forward", "gradient"):
        ours = [r for r in rows if r["direction"] == direction and r["form"] == "native"]
        worst = min(ours, key=lambda r: r["times_lax"])
        held = sum(r["times_lax"] >= 4 for r in ours)
        print(
            f"{direction} at least 4x lax: {'holds' if held == len(ours) else 'does not hold'} "
            f"({held} of {len(ours)} shapes; least {worst['times_lax']:.1f} at {worst['shape']} "
            f"{worst['channels']}, median {median(r['times_lax'] for r in ours):.1f})"
        )
    error = max(r["relative_error"] for r in rows)
    print(f"relative error at most 1e-5: {'holds' if error <= 1e-5 else 'does not hold'} ({error:.1e})")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
