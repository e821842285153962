"""What a GPU is given, seen in the program that is lowered for one: no GPU is needed, and none is timed."""

import os
import re
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kidseg_jax.config import NetConfig, TrainConfig
from kidseg_jax.network import cascade, runtime
from kidseg_jax.network.runtime import MEMORY_POLICY, compiler_options, named_memory, take_device
from kidseg_jax.network.training import start
from kidseg_jax.network.unet import make_unet

NET = NetConfig(features=(4, 8), patch=(8, 8, 12), dtype="bfloat16")
SETTINGS = TrainConfig(steps=1, batch=2, class_weights=(1.0, 2.0), turn_deg=10.0, optimizer="muon")


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch):
    """The package chooses as it does where JAX computes on a GPU."""
    cascade._jitted.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    yield
    cascade._jitted.cache_clear()


def lowered(function: Any, *arguments: Any) -> Any:
    return function.trace(*arguments).lower(lowering_platforms=("cuda",))


def convolutions(program: str) -> list[str]:
    return [line for line in program.splitlines() if "stablehlo.convolution" in line]


def types(line: str) -> set[str]:
    """Element types of a convolution's operands and result."""
    return set(re.findall(r"x([a-z]+\d+)>", line.rsplit(" : ", 1)[1]))


def test_the_training_step_is_one_plain_program(on_a_gpu):
    """All on the device: convolutions in bfloat16, no CPU kernel, no call to the host, the state donated."""
    state, step = start(NET, SETTINGS, 2, 10, 0)
    roi = (12, 12, 16)
    cts, labels = ((jax.ShapeDtypeStruct(roi, t),) * 2 for t in (jnp.int16, jnp.uint8))
    sizes = jax.ShapeDtypeStruct((2, 3), jnp.int32)
    program = lowered(step, state, cts, labels, sizes, jax.random.key(0)).as_text()
    layers = 2 * 2 + 2  # encoder, decoder
    assert len(convolutions(program)) == 3 * layers - 1  # the image itself needs no gradient
    assert all(types(line) == {"bf16"} for line in convolutions(program))
    assert "kidseg" not in program and "callback" not in program
    assert len(re.findall(r"tf.aliasing_output|jax.buffer_donor", program)) == len(jax.tree.leaves(state))


def test_the_fine_network_sees_both_kidneys_in_one_program(on_a_gpu):
    params = make_unet(NET, 6, 0)[1]
    hu = jax.ShapeDtypeStruct((2, *NET.patch), jnp.int16)
    program = lowered(cascade._jitted(NET, 6), params, hu)
    assert all(types(line) == {"bf16"} for line in convolutions(program.as_text()))
    assert "kidseg" not in program.as_text()
    assert program.out_info.shape == (2, *NET.patch, 6) and program.out_info.dtype == jnp.float32


def test_xla_is_told_to_keep_channels_last(on_a_gpu):
    assert compiler_options() == {"xla_gpu_force_conv_nhwc": True}


def test_an_option_that_xla_has_no_more_is_not_told(on_a_gpu, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "CHANNELS_LAST", {"xla_gpu_of_another_year": True})
    assert compiler_options() is None


def test_memory_is_taken_as_needed_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch):
    for name in MEMORY_POLICY:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    take_device()
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5"


def test_a_device_that_is_not_there_is_one_line_and_nothing_is_written(tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "kidseg_jax.stage", "--out", str(out)],
        env=os.environ | {"JAX_PLATFORMS": "abacus"},
        capture_output=True,
        text=True,
    )
    said = "kidseg_jax: JAX_PLATFORMS: need a device of this machine, got 'abacus'\n"
    assert (done.returncode, done.stderr, out.exists()) == (2, said, False)


def test_out_of_memory_says_for_what_and_what_to_lower():
    said = r"train: out of memory on .* patch of 8x8x12 voxels, batch 2, .*: lower the patch"
    with pytest.raises(ValueError, match=said), named_memory("train", NET, 2):
        jnp.zeros((2**20, 2**30), jnp.int8).block_until_ready()
    with pytest.raises(jax.errors.JaxRuntimeError), named_memory("train", NET, 2):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_its_numerics_are_those_of_float32(on_a_gpu):
    """The program of a GPU, run here: bfloat16 with float32 parameters, norms and sums follows float32."""
    ct = np.random.default_rng(0).normal(0, 60, (12, 12, 16)).astype(np.int16)
    labels = np.zeros(ct.shape, np.uint8)
    labels[3:9, 3:9, 4:12] = 1
    ct[labels > 0] += 150
    losses = {}
    for dtype in ("float32", "bfloat16"):
        net = NetConfig(features=NET.features, patch=NET.patch, dtype=dtype)
        state, step = start(net, SETTINGS, 2, 40, 0)
        seen = []
        given = (jnp.asarray(ct),) * 2, (jnp.asarray(labels),) * 2, jnp.array([ct.shape] * 2)
        for _ in range(40):
            state, loss = step(state, *given, jax.random.key(0))
            seen.append(float(loss))
        assert {a.dtype for a in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
        losses[dtype] = np.array(seen)
    assert losses["bfloat16"][-5:].mean() < 0.6 * losses["bfloat16"][0]
    assert 0 < np.abs(losses["bfloat16"] - losses["float32"]).max() < 0.02
