"""What a label map holds: volumes in ml, and whether it runs out of the image."""

import numpy as np

from kidseg_jax.imaging.structures import PARENCHYMA, STRUCTURES, count_values
from kidseg_jax.imaging.volume import Labels, Spacing


def volumes_ml(labels: Labels, spacing_mm: Spacing) -> dict[str, float]:
    """Volume of every structure in ml by name, 0 where it has no voxel."""
    counts = count_values(labels)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    return {structure.name: float(counts[structure.label]) * voxel_ml for structure in STRUCTURES}


def touched_faces(labels: Labels) -> tuple[str, ...]:
    """The faces of a canonical image that parenchyma or RCC reaches: the kidney is cut off there."""
    names = (("inferior", "superior"), ("anterior", "posterior"), ("right", "left"))
    return tuple(
        name
        for axis, pair in enumerate(names)
        for end, name in zip((0, -1), pair, strict=True)
        if (np.take(labels, end, axis) >= PARENCHYMA).any()
    )
