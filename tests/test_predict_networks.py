"""The verb predict with real networks, tiny and untrained: labels on the CT's own grid, or one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from grids import body_ct, oblique

from kidseg_jax.cli.app import main
from kidseg_jax.config import NetConfig
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.imaging.volume import Geometry
from kidseg_jax.network.models import N_COARSE, Models, save_models
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.network.unet import make_unet

COARSE = NetConfig(features=(2, 2), patch=(8, 8, 8), spacing_mm=12.0)
FINE = NetConfig(features=(2, 2), patch=(8, 8, 8), spacing_mm=8.0)
GIVEN = TrainedOn("given cases", "none")


def biased(params, favourite: int):
    """The same network with one class far ahead of the others, wherever it looks."""

    def raised(path, leaf):
        is_head = "head" in jax.tree_util.keystr(path) and leaf.ndim == 1
        return leaf.at[favourite].add(1e3) if is_head else leaf

    return jax.tree_util.tree_map_with_path(raised, jax.tree.map(jnp.asarray, params))


def run_with(tmp_path, ct, coarse_class: int, fine_class: int = 4) -> int:
    coarse, fine = make_unet(COARSE, N_COARSE, 0)[1], make_unet(FINE, N_CLASSES, 0)[1]
    models = Models(COARSE, FINE, biased(coarse, coarse_class), biased(fine, fine_class), GIVEN)
    save_models(tmp_path / "models.safetensors", models)
    write_volume(tmp_path / "ct.nii.gz", ct)
    model = str(tmp_path / "models.safetensors")
    return main(["predict", str(tmp_path / "ct.nii.gz"), "--model", model, "--preview", "--statistics"])


GRIDS = {
    "plain": Geometry((40, 60, 80), (4.0, 3.0, 3.0), (-100.0, -90.0, 30.0)),
    "oblique": oblique(25, (40, 60, 80), (4.0, 3.0, 3.0)),
    "one_slice": Geometry((1, 60, 80), (60.0, 3.0, 3.0)),
    "one_column": Geometry((40, 60, 1), (4.0, 3.0, 100.0)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_labels_on_the_inputs_own_grid_or_one_line(tmp_path, capfd, name):
    ct = body_ct(GRIDS[name]) if min(GRIDS[name].shape) > 1 else body_ct(GRIDS["plain"])
    if min(GRIDS[name].shape) == 1:
        index = tuple(slice(21, 21 + n) if n == 1 else slice(n) for n in GRIDS[name].shape)
        ct = type(ct)(np.ascontiguousarray(ct.array[index]), GRIDS[name])
    code = run_with(tmp_path, ct, coarse_class=1)
    said = capfd.readouterr().err
    assert code in (0, 2), said
    if code == 2:
        assert said == "kidseg_jax: ct: found no kidney, no label map written\n"
        return
    labels = read_labels(tmp_path / "ct_kidseg.nii.gz")
    assert labels.geometry.is_close(ct.geometry, 1e-4)
    assert set(np.unique(labels.array)) - {0} == {4}  # where all is kidney, its box grows
    assert (tmp_path / "ct_kidseg.png").exists() and (tmp_path / "ct_kidseg.csv").exists()


def test_a_network_that_sees_nothing_says_so(tmp_path, capfd):
    assert run_with(tmp_path, body_ct(GRIDS["plain"]), coarse_class=0) == 2
    assert capfd.readouterr().err == "kidseg_jax: ct: found no kidney, no label map written\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct.nii.gz", "models.safetensors"]
