"""The label map of a phantom's kidney.

Labelled as in the paper: the renal artery and vein of a kidney from the wall of aorta or cava to the branches
in the sinus; aorta and cava are background. The ureter label holds the renal pelvis, its calyces and the
ureter down to a fixed distance below the kidney, where the label ends; the CT shows the rest of it.
"""

import numpy as np
from scipy import ndimage

from kidseg_jax.config import CohortConfig
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC, URETER, VEIN
from kidseg_jax.imaging.volume import Labels
from kidseg_jax.phantom.body import Body, great_vessels
from kidseg_jax.phantom.kidney import KidneyFields
from kidseg_jax.phantom.shapes import Canvas, Window
from kidseg_jax.phantom.vessels import Trees, tube_fields


def label_kidney(
    labels: Labels,
    canvas: Canvas,
    body: Body,
    fields: KidneyFields,
    trees: Trees,
    config: CohortConfig,
) -> None:
    """Write one kidney into `labels`, in place; artery over vein over ureter over the rest.

    Where a vessel that crosses covers a whole slice of the ureter, the ureter keeps that slice.
    """
    tubes = (*trees.artery, *trees.vein, *trees.ureter)
    points = np.vstack([p for p, _ in tubes])
    reach = max(float(r.max()) for _, r in tubes) + canvas.soft_mm
    wide = canvas.window(points.min(0) - reach, points.max(0) + reach)
    corner = [
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(wide.slices, fields.window.slices, strict=True)
    ]
    own = np.zeros([s.stop - s.start for s in corner], np.uint8)

    def part(window: Window) -> Labels:
        z, y, x = (
            slice(s.start - o.start, s.stop - o.start) for s, o in zip(window.slices, corner, strict=True)
        )
        return own[z, y, x]

    solid = part(fields.window)
    solid[(fields.capsule < 0) & (fields.sinus > 0)] = PARENCHYMA
    if fields.tumour is not None:
        solid[fields.tumour < 0] = RCC
    _drop_islands(own, (PARENCHYMA, RCC), np.zeros_like(own))
    under = own.copy()
    z = canvas.z[corner[0]]
    has_kidney = np.flatnonzero((own > 0).any(axis=(1, 2)))
    bottom = float(z[has_kidney[0], 0, 0]) - config.ureter_below_mm if len(has_kidney) else -np.inf
    whole_ureter = np.zeros(own.shape, bool)
    for value, tubes in ((URETER, trees.ureter), (VEIN, trees.vein), (ARTERY, trees.artery)):
        for window, field in tube_fields(canvas, tubes):
            inside = field < 0
            if value == URETER:
                inside &= window.z >= bottom
            else:
                aorta, cava = great_vessels(window, canvas, body)
                inside &= (aorta > 0) & ((cava > 0) | (value == ARTERY))
            part(window)[inside] = value
        if value == URETER:
            whole_ureter = own == URETER
    covered = whole_ureter.any(axis=(1, 2)) & ~(own == URETER).any(axis=(1, 2))
    own[covered[:, None, None] & whole_ureter] = URETER
    _drop_islands(own, (URETER, VEIN, ARTERY), under)
    _drop_islands(own, (PARENCHYMA, RCC), np.zeros_like(own))
    target = labels[tuple(corner)]
    np.copyto(target, own, where=(own > 0) & (target == 0))


def _drop_islands(own: Labels, values: tuple[int, ...], under: Labels) -> None:
    """Give back to `under` every piece of a structure below a 30th of its largest, in place."""
    for value in values:
        components = np.zeros(own.shape, np.int32)
        ndimage.label(own == value, structure=np.ones((3, 3, 3)), output=components)
        if components.max() > 1:
            size = np.bincount(np.ravel(components))[1:]
            small = np.take(np.concatenate([[False], size < size.max() / 30]), components)
            own[small] = under[small]
