"""Views of one region: on the same voxels, from the places that they name."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kidseg_jax.config import Config
from kidseg_jax.imaging.structures import N_CLASSES
from kidseg_jax.network import views
from kidseg_jax.network.cascade import _logits
from kidseg_jax.network.unet import make_unet

NET = replace(Config().fine, features=(4, 8), patch=(16, 12, 20))
NO_PARAMS: Any = {}
SHAPE = tuple(n + 2 * views.MARGIN for n in NET.patch)
HU = np.random.default_rng(0).integers(-100, 300, SHAPE).astype(np.int16)


def test_what_sees_voxel_by_voxel_sees_the_same_from_everywhere(monkeypatch):
    monkeypatch.setattr(views, "_jitted", lambda net: lambda params, hu: hu[..., None].astype(np.float32))
    m = 2 * views.MARGIN
    expected = HU[m:-m, m:-m, m:-m, None]
    for view in views.views_of(NET, NO_PARAMS, HU):
        assert np.array_equal(view, expected)


def test_a_network_sees_the_middle_patch_first_and_answers_differently_from_elsewhere():
    _, params = make_unet(NET, N_CLASSES, seed=0)
    first, *others = views.views_of(NET, params, HU)
    m = views.MARGIN
    logits = _logits(NET, N_CLASSES, params)(HU[None, m:-m, m:-m, m:-m])[0, m:-m, m:-m, m:-m]
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(first, probs / probs.sum(-1, keepdims=True), atol=1e-5)
    assert len(others) == 2 and all(other.shape == first.shape for other in others)
    assert all(np.abs(other - first).max() > 1e-3 for other in others)


def test_another_region_is_refused():
    with pytest.raises(ValueError, match=r"need a region of \(20, 16, 24\) voxels, got \(16, 12, 20\)"):
        views.views_of(NET, NO_PARAMS, np.zeros(NET.patch, np.int16))
