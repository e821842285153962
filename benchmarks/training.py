"""How fast is a training step, beside MONAI's DynUNet in PyTorch, and how long before the first one?

    python benchmarks/training.py                    64^3 and 96^3 on CPU, 2 threads, float32 and bfloat16
    python benchmarks/training.py --device gpu       the preset gpu's fine network, bfloat16 on both sides;
                                                     PyTorch compiled, channels last, cuDNN's fastest
    python benchmarks/training.py --compile          to the first step of the demo, each a fresh process

All take the same widths, patch and batch, Dice and cross-entropy over 6 classes, and Adam. They run in one
process and take turns, so that a change of load touches all; the first step of each, which compiles, does
not count. Reported are medians of --repeats. On a GPU the step as the preset trains, with Muon and turns, is
timed too; the rate of the arithmetic of all convolutions (forward once, backward twice) stands over that of
large bfloat16 matrix products, and the bytes that XLA counts over those of a large copy, both measured here.
Peers: the extra `bench`. Rows go to benchmarks/results/training.csv and training_compile.csv.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from rows import about, append_rows, say

if TYPE_CHECKING:
    from kidseg_jax.config import NetConfig, TrainConfig

N_CLASSES = 6
WEIGHTS = (1.0, 20.0, 15.0, 15.0, 2.0, 8.0)
Step = Callable[[], float]


def draw(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """A CT in HU, int16, of noise, and labels in blocks of eight voxels, uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, N_CLASSES, [n // 8 for n in shape]).astype(np.uint8)
    labels = coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)
    return rng.normal(50.0, 100.0, labels.shape).astype(np.int16), labels


def our_step(net: "NetConfig", train: "TrainConfig") -> tuple[Step, float]:
    """The whole step: augmentation, network, loss, optimizer. It ends when the loss is on the host.

    And the 10^9 bytes that XLA counts, read and written, by the program that it makes of one.
    """
    import jax
    import jax.numpy as jnp

    from kidseg_jax.network.runtime import keep_compiled, keep_freed_memory
    from kidseg_jax.network.training import start

    keep_compiled()
    keep_freed_memory()
    ct, labels = draw(net.patch)
    state, step = start(net, train, N_CLASSES, 1000, 0)
    key = jax.random.key(0)
    cts, targets = (jnp.asarray(ct),) * train.batch, (jnp.asarray(labels),) * train.batch
    sizes = jnp.array([ct.shape] * train.batch)
    program: Any = step
    counted = program.lower(state, cts, targets, sizes, key).compile().cost_analysis()

    def run() -> float:
        nonlocal state
        state, loss = step(state, cts, targets, sizes, key)
        return float(loss)

    return run, counted["bytes accessed"] / 1e9


def monai_step(net: "NetConfig", batch: int, dtype: str, device: str) -> Step:
    """MONAI's DynUNet: network, loss, Adam, on a patch that is already there. It ends as ours does."""
    import torch  # pyright: ignore[reportMissingImports]
    from monai.losses.dice import DiceCELoss  # pyright: ignore[reportMissingImports]
    from monai.networks.nets.dynunet import DynUNet  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    (ct, labels), features = draw(net.patch), net.features
    strides = [1] + [2] * (len(features) - 1)
    model: Any = DynUNet(
        3, 1, N_CLASSES, [3] * len(features), strides, strides[1:], features, norm_name="instance"
    ).to(device)
    x = torch.from_numpy((np.clip(ct, -200, 400) / 300).astype(np.float32))[None, None].repeat(
        batch, 1, 1, 1, 1
    )
    target = torch.from_numpy(labels.astype(np.int64))[None, None].repeat(batch, 1, 1, 1, 1).to(device)
    x = x.to(device)
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        model, x = model.to(memory_format=torch.channels_last_3d), x.to(memory_format=torch.channels_last_3d)
        model = torch.compile(model)
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True, weight=torch.tensor(WEIGHTS, device=device))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(x)
        loss = loss_of(logits.float(), target)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return run


def gflop(patch: tuple[int, ...], features: tuple[int, ...], pool: int, batch: int) -> float:
    """10^9 operations of a step's 3x3x3 convolutions in our U-Net: forward, and twice that backward."""
    voxels, total = float(np.prod(patch)), 0.0
    for level, (before, c) in enumerate(zip((1, *features[:-1]), features, strict=True)):
        decoder = 3 * c * c if level < len(features) - 1 else 0
        total += 54.0 * voxels / pool ** (3 * level) * (before * c + c * c + decoder)
    return 3 * batch * total / 1e9


def best_rates(n: int = 8192, times: int = 10) -> tuple[float, float]:
    """10^9 operations a second of large bfloat16 matrix products, and bytes of large copies, here at best."""
    import jax
    import jax.numpy as jnp

    def seconds(once: Callable[[jax.Array], jax.Array], of: jax.Array) -> float:
        chain = jax.jit(lambda a: jax.lax.fori_loop(0, times, lambda _, b: once(b), a))
        chain(of).block_until_ready()
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            chain(of).block_until_ready()
            taken.append((time.perf_counter() - began) / times)
        return median(taken)

    a = jax.random.normal(jax.random.key(0), (n, n), jnp.bfloat16) / n**0.5
    large = jax.random.normal(jax.random.key(0), (n, 8 * n), jnp.float32)
    return 2e-9 * n**3 / seconds(lambda b: a @ b, a), 2e-9 * large.nbytes / seconds(lambda b: b + 1, large)


def take_turns(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Seconds of each step, in turns, after one that compiles and one that warms up."""
    for step in steps.values():
        step()
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def compare(patch: tuple[int, int, int], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each contestant at one patch size; ours first, PyTorch in bfloat16 last."""
    from kidseg_jax.config import PRESETS, NetConfig, TrainConfig
    from kidseg_jax.network.runtime import describe_device

    on_gpu, preset = arguments.device == "gpu", PRESETS["gpu"]
    dtype = "bfloat16" if on_gpu else "float32"
    net = preset.fine if on_gpu else NetConfig(features=tuple(arguments.features), patch=patch, dtype=dtype)
    plain = TrainConfig(class_weights=WEIGHTS, batch=preset.fine_train.batch if on_gpu else arguments.batch)
    steps, moved = {}, {}
    for name, train in {"": plain, **({" as the preset": preset.fine_train} if on_gpu else {})}.items():
        who = f"kidseg_jax {dtype}{name}"
        steps[who], moved[who] = our_step(net, train)
    for dtype in ["bfloat16"] if on_gpu else ["float32", "bfloat16"]:
        device = "cuda" if on_gpu else "cpu"
        steps[f"MONAI DynUNet {dtype}"] = monai_step(net, plain.batch, dtype, device)
    seconds = take_turns(steps, arguments.repeats)
    ours, work = median(next(iter(seconds.values()))), gflop(net.patch, net.features, 2, plain.batch)
    flops, bytes_s = best_rates() if on_gpu else (float("nan"), float("nan"))
    rows = []
    for who, times in seconds.items():
        step_s = median(times)
        gflops = work / step_s if who in moved else float("nan")
        gbytes_s = moved[who] / step_s if on_gpu and who in moved else float("nan")
        rows.append(
            {
                **about(),
                "device": describe_device(),
                "threads": 0 if on_gpu else arguments.threads,
                "patch": "x".join(map(str, patch)),
                "features": "/".join(map(str, net.features)),
                "batch": plain.batch,
                "who": who,
                "repeats": arguments.repeats,
                "step_s": step_s,
                "fastest_s": min(times),
                "ours_over_it": ours / step_s,
                "gflops": gflops,
                "share_of_matrix_rate": gflops / flops,
                "gbytes_s": gbytes_s,
                "share_of_copy_rate": gbytes_s / bytes_s,
            }
        )
    return rows


FIRST_STEP = """
import json, time
began = time.perf_counter()
import jax, jax.numpy as jnp
from kidseg_jax.config import PRESETS
from kidseg_jax.network.runtime import keep_compiled
from kidseg_jax.network.training import start
keep_compiled()
imported = time.perf_counter()
net, settings = PRESETS["demo"].fine, PRESETS["demo"].fine_train
shape = tuple(n + 8 for n in net.patch)
ct, labels = jnp.zeros(shape, jnp.int16), jnp.zeros(shape, jnp.uint8)
state, step = start(net, settings, 6, 550, 0)
jax.block_until_ready(state)
started = time.perf_counter()
args = state, (ct,), (labels,), jax.random.key(0)
lowered = step.lower(*args)
traced = time.perf_counter()
lowered.compile()
compiled = time.perf_counter()
step(*args)[1].block_until_ready()
done = time.perf_counter()
laps = {"import_s": imported - began, "weights_s": started - imported, "trace_s": traced - started,
        "compile_s": compiled - traced, "first_call_s": done - compiled, "to_first_step_s": done - imported}
print(json.dumps(laps))
"""


def first_steps() -> list[dict[str, Any]]:
    """The demo's fine network from import to its first step: nothing compiled before, and from the cache."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for cached in ("nothing", "cache"):
            said = subprocess.run(
                [sys.executable, "-c", FIRST_STEP],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "KIDSEG_CACHE": cache},
            )
            rows.append({**about(), "from": cached, **json.loads(said.stdout.splitlines()[-1])})
    return rows


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="only the seconds to the demo's first step")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 96])
    parser.add_argument("--features", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.compile:
        rows = first_steps()
        for row, most in zip(rows, (6.0, 1.0), strict=True):
            say(row)
            held = row["compile_s"] <= most
            print(f"  compile_s at most {most:g}: {'holds' if held else 'does not hold'}")
        append_rows("training_compile", rows)
        return
    if arguments.device == "cpu":
        import torch  # pyright: ignore[reportMissingImports]

        os.environ["JAX_PLATFORMS"] = "cpu"
        torch.set_num_threads(arguments.threads)
        from kidseg_jax.network import native

        native.set_threads(arguments.threads)
    else:
        from kidseg_jax.network.runtime import take_device

        take_device()  # as the commands do; PyTorch needs the rest
    from kidseg_jax.config import PRESETS

    patches = [(side, side, side) for side in arguments.sides]
    for patch in [PRESETS["gpu"].fine.patch] if arguments.device == "gpu" else patches:
        rows = compare(patch, arguments)
        for row in rows:
            say(row)
        against = rows[-1] if arguments.device == "gpu" else rows[1]
        said = "holds" if against["ours_over_it"] <= 1.0 else "does not hold"
        print(f"  at most 1.0x {against['who']}: {against['ours_over_it']:.2f}, {said}")
        append_rows("training", rows)


if __name__ == "__main__":
    main()
