"""What would a GPU be given? Programs compiled for an H100 that need not be there: nothing is timed.

    pip install -e '.[gpu]' && python benchmarks/gpu_program.py [--presets demo gpu]

XLA compiles each preset's training step and its fine network for a described card. Counted are the kernels it
would start, the bytes that they read and write, the operations of the convolutions, how many of those are in
bfloat16 and channels last, and the memory. bytes_ms and flops_ms are what an H100 needs at best, at 3.35 TB/s
and, in bfloat16, 989 TFLOP/s; the larger one is a floor of the time, not a measurement. The formulations that
a GPU gets can so be compared without one. Rows go to benchmarks/results/gpu_program.csv.
"""

import argparse
import os
import re
from math import prod
from typing import Any

os.environ.update(JAX_PLATFORMS="cpu", JAX_SKIP_CUDA_CONSTRAINTS_CHECK="1")

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from rows import about, append_rows, say
from training import gflop

from kidseg_jax.config import PRESETS, Config
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.network import cascade, conv3d, layers, losses
from kidseg_jax.network.training import start
from kidseg_jax.network.unet import make_unet

BYTES_PER_MS, FLOPS_PER_MS = 3.35e9, 989e9
BYTES = {"pred": 1, "u8": 1, "s8": 1, "s16": 2, "bf16": 2, "u32": 4, "s32": 4, "f32": 4, "u64": 8, "s64": 8}
NO_KERNELS = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant"}
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84929347584
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def as_on_a_gpu() -> SingleDeviceSharding:
    """Make the package choose as it does on a GPU; where the described card would be."""
    jax.devices()  # registers the plugin
    try:
        described = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    except NotImplementedError as error:
        raise SystemExit("gpu_program: need JAX with CUDA, got none: install the extra gpu") from error
    jax.default_backend = lambda: "gpu"
    for module in (conv3d, layers, losses):
        assert module.best_form() == "lax"
    return SingleDeviceSharding(described.devices[0])


def compiled(function: Any, arguments: Any, card: SingleDeviceSharding) -> Any:
    """The jitted function's program for shapes like those of the arguments."""
    there = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=card), arguments)
    return function.trace(*there).lower(lowering_platforms=("cuda",)).compile()


def training_step(config: Config, card: SingleDeviceSharding) -> Any:
    """The fine network's step, on ROIs with room for the shifts."""
    net, settings = config.fine, config.fine_train
    state, step = start(net, settings, N_CLASSES, 1000, 0)
    room = 2 * int(settings.shift_mm // net.spacing_mm)
    roi = tuple(n + room for n in net.patch)
    cts, labels = ((jax.ShapeDtypeStruct(roi, t),) * settings.batch for t in (jnp.int16, jnp.uint8))
    return compiled(step, (state, cts, labels, jax.random.key(0)), card)


def fine_network(config: Config, card: SingleDeviceSharding) -> Any:
    """Both kidneys of a case in one batch."""
    params = make_unet(config.fine, N_CLASSES, 0)[1]
    hu = jax.ShapeDtypeStruct((2, *config.fine.patch), jnp.int16)
    return compiled(cascade._jitted(config.fine, N_CLASSES), (params, hu), card)


def size(types: str) -> int:
    """Bytes of all arrays in a type of a program's text."""
    return sum(
        prod(map(int, filter(None, dims.split(",")))) * BYTES[kind]
        for kind, dims in re.findall(r"(\w+)\[([\d,]*)\]", types)
    )


def kernels(program: str) -> list[tuple[str, int]]:
    """Line and bytes, read and written, of everything that a program's text starts."""
    sizes: dict[str, int] = {}
    found = []
    for line in program[program.index("\nENTRY") :].splitlines():
        if is_operation := re.match(r"\s+(?:ROOT )?(%\S+) = (.*?) ([\w-]+)\((.*?)\)(?:,|$)", line):
            name, types, operation, operands = is_operation.groups()
            sizes[name] = size(re.sub(r"\{.*?\}", "", types))
            if operation not in NO_KERNELS:
                read = sum(sizes.get(of, 0) for of in re.findall(r"%[\w.-]+", operands))
                found.append((line, sizes[name] + (sizes[name] if "slice" in name else read)))
    return found


def describe(name: str, what: str, program: Any, gflop: float) -> dict[str, Any]:
    """The row of one program."""
    started = kernels(program.as_text())
    convolutions = [line for line, _ in started if "__cudnn$conv" in line]
    moved, memory = sum(n for _, n in started), program.memory_analysis()
    return {
        **about(),
        "device": "compiled for one H100, not run",
        "preset": name,
        "what": what,
        "kernels": len(started),
        "convolutions": len(convolutions),
        "in_bfloat16": sum("= (bf16[" in line for line in convolutions),
        "channels_last": sum(bool(re.search(r"->b\d+f\b", line)) for line in convolutions),
        "gb_moved": moved / 1e9,
        "gflop": gflop,
        "bytes_ms": moved / BYTES_PER_MS,
        "flops_ms": gflop * 1e9 / FLOPS_PER_MS,
        "memory_gb": (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 1e9,
        "donated_share": memory.alias_size_in_bytes / memory.output_size_in_bytes,
    }


def main() -> None:
    """Compile, count, print and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", choices=list(PRESETS), nargs="+", default=["demo", "gpu"])
    arguments = parser.parse_args()
    card = as_on_a_gpu()
    rows = []
    for name in arguments.presets:
        config = PRESETS[name]
        net, batch = config.fine, config.fine_train.batch
        of_one = gflop(net.patch, net.features, net.pool, 1)
        for what, program, work in (
            ("training step", training_step(config, card), of_one * batch),
            ("fine network", fine_network(config, card), of_one * 2 / 3),
        ):
            rows.append(describe(name, what, program, work))
            say(rows[-1])
    append_rows("gpu_program", rows)


if __name__ == "__main__":
    main()
