"""A prediction after the rules of `imaging.policy`, kidney by kidney and between the two."""

from dataclasses import replace

import numpy as np

from kidseg_jax.imaging.postprocess import Policy, apply, split_sides
from kidseg_jax.imaging.volume import Volume, canonical, pasted
from kidseg_jax.network.cascade import Prediction


def tidied(prediction: Prediction, ct: Volume, policy: Policy) -> Prediction:
    """The prediction of a CT after the rules that are on, its labels and those of each kidney alike."""
    turned = canonical(ct)
    boxes = [tuple(slice(a, b) for a, b in zip(k.lo, k.hi, strict=True)) for k in prediction.kidneys]
    maps = [np.zeros(turned.array.shape, np.uint8) for _ in boxes]
    for whole, box, kidney in zip(maps, boxes, prediction.kidneys, strict=True):
        whole[box] = apply(kidney.labels, turned.spacing_mm, policy)
    if len(maps) == 2:
        maps = [*split_sides(maps[0], maps[1], turned.spacing_mm, policy)]
    kidneys = tuple(
        replace(kidney, labels=whole[box])
        for kidney, whole, box in zip(prediction.kidneys, maps, boxes, strict=True)
    )
    labels = pasted([(kidney.lo, kidney.labels) for kidney in kidneys], ct)
    return replace(prediction, labels=labels, kidneys=kidneys)
