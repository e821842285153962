"""The start model: in the package or not, small on disk, and what is said of it."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from grids import body_ct, oblique

import kidseg_jax
from kidseg_jax.cli.app import main
from kidseg_jax.config import NetConfig
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.network import checkpoint
from kidseg_jax.network import models as model_files
from kidseg_jax.network.losses import NEVER
from kidseg_jax.network.models import N_COARSE, SHIPPED, Models, load_models, save_models, told_structures
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.network.unet import make_unet

NET = NetConfig(features=(2, 4), patch=(8, 8, 8), spacing_mm=12.0)


def stand_in() -> Models:
    """Untrained networks of phantoms that were never shown a ureter."""
    coarse, fine = make_unet(NET, N_COARSE, 0)[1], make_unet(NET, N_CLASSES, 1)[1]
    bias: Any = fine["head"]["bias"]
    bias[...] = bias[...].at[3].set(NEVER)
    return Models(NET, NET, coarse, fine, TrainedOn("phantoms", "none"))


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """A stand-in where the package holds its start model."""
    path = tmp_path / "start" / "model.safetensors"
    save_models(path, stand_in(), half=True)
    monkeypatch.setattr(model_files, "SHIPPED", path)
    return path


def test_weights_in_half_the_room_come_back_as_float32_within_half_a_step(tmp_path):
    models = stand_in()
    hashes = [save_models(tmp_path / f"{half}.safetensors", models, half=half) for half in (False, True)]
    assert hashes[0] != hashes[1]
    read = load_models(tmp_path / "True.safetensors")
    assert read[:2] == models[:2] and read.trained_on == models.trained_on
    for before, after in zip(jax.tree.leaves(models[2:4]), jax.tree.leaves(read[2:4]), strict=True):
        assert after.dtype == np.float32
        np.testing.assert_allclose(after, before, rtol=2.0**-11, atol=2.0**-25)
    assert told_structures(read) == told_structures(models) == {"artery", "vein", "parenchyma", "rcc"}
    sizes = [
        sum(a.nbytes for a in model_files.checkpoint.read(tmp_path / f"{half}.safetensors").arrays.values())
        for half in (False, True)
    ]
    assert sizes[0] == 2 * sizes[1]


def test_a_weight_beyond_float16_is_refused_and_a_changed_byte_is_seen(tmp_path):
    models = stand_in()
    large = models._replace(coarse=jax.tree.map(lambda leaf: leaf + 1e5, models.coarse))
    with pytest.raises(ValueError, match="too large for float16"):
        save_models(tmp_path / "large.safetensors", large, half=True)
    path = tmp_path / "model.safetensors"
    save_models(path, models, half=True)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="do not match their checksum"):
        load_models(path)


def test_no_model_named_is_the_shipped_one_and_is_said_to_be_of_phantoms(shipped, tmp_path, capfd):
    models = load_models()
    assert models.trained_on == TrainedOn("phantoms", "none") and models.coarse_net == NET
    write_volume(tmp_path / "x.nii.gz", body_ct(oblique(15, shape=(12, 14, 32))))
    assert main(["predict", str(tmp_path / "x.nii.gz")]) in (0, 2)  # an untrained network may find anything
    said = capfd.readouterr().err.splitlines()
    assert said[0] == (
        "kidseg_jax: the start model of this package: was trained on phantoms only and is not for patients"
    )
    assert said[1] == "kidseg_jax: the start model of this package: tells nothing of ureter"


def test_a_package_without_one_says_so_in_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(model_files, "SHIPPED", tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="holds no start model"):
        load_models()
    write_volume(tmp_path / "x.nii.gz", body_ct(oblique(15, shape=(12, 14, 32))))
    assert main(["predict", str(tmp_path / "x.nii.gz")]) == 2
    said = capfd.readouterr().err
    assert said == ("kidseg_jax: this package holds no start model: name a model file or a run directory\n")


def test_the_shipped_file_is_where_the_package_is_installed():
    assert Path(kidseg_jax.__file__).parent / "start" / "model.safetensors" == SHIPPED


def test_the_model_that_is_shipped_is_small_and_the_one_its_card_speaks_of():
    models = load_models()
    assert models.trained_on is not None and models.trained_on.cases == "phantoms"
    assert SHIPPED.stat().st_size < 8_000_000
    assert f"`{checkpoint.read(SHIPPED).sha256}`" in SHIPPED.with_name("card.md").read_text(encoding="utf-8")
