"""Where a network that did not see a case disagrees with its labels, structure by structure."""

from collections.abc import Collection, Iterator

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.audit.finding import Kind, Measure
from kidseg_jax.imaging.structures import STRUCTURES
from kidseg_jax.imaging.volume import Labels, Mask, Shape, Spacing

KINDS = {
    kind.name: kind
    for kind in (
        Kind("disagreement", "network and label disagree", "1 - DSC", 0.15, 0.12),
        Kind("network_alone", "seen by the network alone", "", 0.8, 0.7),
        Kind("label_alone", "not seen by the network", "", 0.8, 0.7),
    )
}


def disagreements(
    labels: Labels, predicted: Labels, spacing_mm: Spacing, told: Collection[str], who: str
) -> Iterator[Measure]:
    """What label map and prediction (canonical, uint8, one grid) differ in, of the structures both can tell.

    A structure that both have is measured by 1 - DSC; one that only one has by the cube root of its ml.
    who: the network, in words.
    """
    box = kernels.bounding_box((labels > 0) | (predicted > 0))
    if box is None:
        return
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    for structure in STRUCTURES:
        if structure.name not in told:
            continue
        drawn, seen = (one[box.slices] == structure.label for one in (labels, predicted))
        sizes = np.count_nonzero(drawn), np.count_nonzero(seen)
        if not any(sizes):
            continue
        differ = drawn != seen
        at = _where(differ if differ.any() else drawn, box)
        if all(sizes):
            dsc = 2 * np.count_nonzero(drawn & seen) / sum(sizes)
            size = 1 - dsc
            kind, text = "disagreement", f"{structure.name}: DSC {100 * dsc:.0f} % with {who}"
        elif sizes[0]:
            size, kind = float(np.cbrt(sizes[0] * voxel_ml)), "label_alone"
            text = f"{sizes[0] * voxel_ml:.2g} ml of {structure.name} that {who} does not see"
        else:
            size, kind = float(np.cbrt(sizes[1] * voxel_ml)), "network_alone"
            text = f"{sizes[1] * voxel_ml:.2g} ml of {structure.name} that only {who} sees"
        yield Measure(kind, float(size), at, text, structure.name)


def _where(mask: Mask, box: kernels.Box) -> Shape:
    """The voxel in the middle of the largest piece."""
    stats = kernels.component_stats(np.ascontiguousarray(mask))
    centre = stats.centroid[int(stats.voxels.argmax())]
    z, y, x = (np.asarray(box.lo) + np.rint(centre).astype(int)).tolist()
    return z, y, x
