"""What the report draws of one kidney: the CT and the label maps of its region, in one small file."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.atomic import written_whole
from kidseg_jax.imaging.volume import Geometry, Labels, Volume
from kidseg_jax.rundir import StageDirectory

Role = Literal["test", "new"]
MARGIN_MM = 6.0
AIR_HU = -1024
_MAPS = ("manual", "cnn", "corrected")


@dataclass(frozen=True)
class KidneySnapshot:
    """One kidney's region: ct int16 HU (z, y, x) and label maps uint8 on its grid; None where there was none.

    role: "test" for a held-out kidney, "new" for one that was labelled in this stage.
    """

    kidney: str
    role: Role
    geometry: Geometry
    ct: np.ndarray
    manual: Labels | None
    cnn: Labels | None
    corrected: Labels | None = None


def write_snapshot(
    stage_folder: Path,
    kidney: str,
    role: Role,
    ct: Volume,
    box: kernels.Box,
    manual: Labels | None,
    cnn: Labels | None,
    corrected: Labels | None = None,
) -> Path:
    """Write stage_folder/evidence/KIDNEY.npz, whole or not at all, and return its path.

    ct: the canonical CT (z, y, x), int16 HU. box: the region in its voxels that the label maps (uint8) cover;
    `MARGIN_MM` of CT is kept around it. The file holds ct, those of manual, cnn and corrected there are,
    spacing_mm (z, y, x), origin_mm (x, y, z) LPS, direction (3, 3) and role. Raises ValueError when a
    map has not the shape of the box.
    """
    margin = np.ceil(MARGIN_MM / np.array(ct.spacing_mm)).astype(int)
    lo, hi = np.array(box.lo) - margin, np.array(box.hi) + margin
    wide = kernels.Box(tuple(lo.tolist()), tuple(hi.tolist()))
    around = [(int(m), int(m)) for m in margin]
    inside = tuple(int(n) for n in np.subtract(box.hi, box.lo))
    maps = {}
    for name, labels in zip(_MAPS, (manual, cnn, corrected), strict=True):
        if labels is None:
            continue
        if labels.shape != inside:
            raise ValueError(f"write_snapshot: {name} must have the box's shape {inside}, got {labels.shape}")
        maps[name] = np.pad(labels.astype(np.uint8), around)
    path = StageDirectory(stage_folder).snapshot(kidney)
    with written_whole(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            ct=kernels.crop_roi(ct.array, wide, fill=AIR_HU),
            spacing_mm=np.array(ct.spacing_mm),
            origin_mm=ct.geometry.to_world(lo),
            direction=np.array(ct.geometry.direction),
            role=np.array(role),
            **maps,
        )
    return path


def read_snapshot(path: Path) -> KidneySnapshot:
    """The inverse of `write_snapshot`. Raises ValueError, naming the file, when it is not such a file."""
    try:
        with np.load(path, allow_pickle=False) as data:
            ct = data["ct"]
            geometry = Geometry(
                shape=ct.shape,
                spacing_mm=tuple(data["spacing_mm"].tolist()),
                origin_mm=tuple(data["origin_mm"].tolist()),
                direction=tuple(map(tuple, data["direction"].tolist())),
            )
            maps = {name: data.get(name) for name in _MAPS}
            role: Role = "new" if str(data["role"]) == "new" else "test"
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: need the arrays that write_snapshot leaves, got {error}") from error
    return KidneySnapshot(path.stem, role, geometry, ct, **maps)
