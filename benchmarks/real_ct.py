"""Does a model find the kidneys of patients? Found and false ones in real CTs, DSC, seconds, pictures.

    python benchmarks/real_ct.py DIR [--model RUN_OR_FILE] [--label-map kits23] [--pictures FOLDER]
                                     [--learn 0 1 2 5 10]

DIR holds cases as `stage --data` reads them, or a kidneys.json (in it or in a folder of it) that names CTs
and the box of each kidney in LPS mm; NAME_kidneys.nii.gz beside it, where there is one, labels the kidneys of
NAME. A kidney is found where half of it, or the middle of its box, is parenchyma or RCC. False are voxels of
these more than 10 mm from any true kidney. Rows go to benchmarks/results/real_ct.csv. --learn then trains on
so many labelled kidneys, from the model and from nothing, and tests on the other patients: see learning.py.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from learning import measure
from rows import about, append_rows, say

from kidseg_jax.cohort.folder import load_cohort
from kidseg_jax.formats.volumes import read_ct, read_labels
from kidseg_jax.imaging.preview import write_preview
from kidseg_jax.imaging.reach import within
from kidseg_jax.imaging.structures import PARENCHYMA
from kidseg_jax.imaging.volume import Mask, Spacing, Volume, canonical
from kidseg_jax.kernels import label_components
from kidseg_jax.network import checkpoint
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import load_models, models_file
from kidseg_jax.network.runtime import keep_compiled, keep_freed_memory, take_device

NEAR_MM = 10.0


class Known(NamedTuple):
    """A CT and its kidneys, each a mask on the canonical CT; drawn: they are label maps, not boxes."""

    name: str
    ct: Volume
    kidneys: list[Mask]
    drawn: bool


def known_cts(folder: Path, label_map: str) -> Iterator[Known]:
    """The CTs of a folder whose kidneys are known. Raises ValueError or OSError where there are none."""
    lists = sorted([*folder.glob("kidneys.json"), *folder.glob("*/kidneys.json")])
    for listed in lists:
        for name, case in json.loads(listed.read_text(encoding="utf-8")).items():
            path = next((p for p in (folder / name, listed.parent / name) if p.exists()), None)
            if path is None:
                raise FileNotFoundError(f"{listed}: {name} is not there")
            ct, stem = read_ct(path), path.name.removesuffix(".nii.gz")
            if (labels := listed.parent / f"{stem}_kidneys.nii.gz").exists():
                values = canonical(read_labels(labels)).array
                yield Known(stem, ct, [values == v for v in np.unique(values[values > 0])], True)
            else:
                yield Known(stem, ct, [in_box(ct, box) for box in case["kidneys"].values()], False)
    for case in () if lists else load_cohort(folder, label_map):
        if case.labels is not None:
            pieces, n = label_components(canonical(case.labels).array >= PARENCHYMA)
            yield Known(case.name, case.ct, [pieces == i for i in range(1, n + 1)], True)


def in_box(ct: Volume, box: dict[str, list[float]]) -> Mask:
    """The voxels of the canonical CT between two corners in LPS mm."""
    turned = canonical(ct)
    ends = turned.geometry.to_index([box["lo_mm"], box["hi_mm"]])
    lo, hi = np.rint(ends.min(0)).astype(int).clip(0), np.rint(ends.max(0)).astype(int) + 1
    mask = np.zeros(turned.array.shape, bool)
    mask[tuple(map(slice, lo, hi))] = True
    return mask


def is_found(kidney: Mask, predicted: Mask, drawn: bool) -> bool:
    """Whether half of a drawn kidney, or the middle ninth of a box, holds what was predicted."""
    if drawn:
        return bool(2 * (kidney & predicted).sum() >= kidney.sum())
    ends = np.argwhere(kidney)
    lo, hi = ends.min(0), ends.max(0) + 1
    third = (hi - lo) // 3
    return bool(predicted[tuple(map(slice, lo + third, hi - third))].any())


def far_from(kidneys: Mask, predicted: Mask, spacing_mm: Spacing) -> Mask:
    """What was predicted more than NEAR_MM from any true kidney."""
    return predicted & ~within(kidneys, NEAR_MM, spacing_mm)


def main(
    folder: tyro.conf.Positional[Path],
    model: Path | None = None,
    label_map: str = "kidseg",
    pictures: Path | None = None,
    learn: tuple[int, ...] = (),
) -> None:
    """Predict, compare, print and keep.

    Args:
        folder: CTs whose kidneys are known.
        model: a run directory or a models.safetensors file; default: the model that the package ships.
        label_map: the label convention of a folder of cases.
        pictures: where to write a picture of each CT with what was predicted.
        learn: numbers of kidneys to learn from; needs label maps.
    """
    take_device()
    keep_compiled()
    keep_freed_memory()
    models, sha256 = load_models(model), checkpoint.read(models_file(model)).sha256
    rows, warm = [], False
    for known in known_cts(folder, label_map):
        if not warm:
            predict(models, known.ct)
            warm = True
        began = time.perf_counter()
        prediction = predict(models, known.ct)
        seconds = time.perf_counter() - began
        labels = canonical(prediction.labels)
        predicted = labels.array >= PARENCHYMA
        true = np.logical_or.reduce(known.kidneys) if known.kidneys else np.zeros_like(predicted)
        far = far_from(true, predicted, labels.spacing_mm)
        voxel_ml = float(np.prod(labels.spacing_mm)) / 1000
        rows.append(
            {
                **about(),
                "model": sha256[:12],
                "ct": known.name,
                "kidneys": len(known.kidneys),
                "found": sum(is_found(kidney, predicted, known.drawn) for kidney in known.kidneys),
                "predicted_ml": float(predicted.sum()) * voxel_ml,
                "false_ml": float(far.sum()) * voxel_ml,
                "dsc": 2 * float((predicted & true).sum()) / float(predicted.sum() + true.sum())
                if known.drawn and true.any()
                else float("nan"),
                "seconds": seconds,
            }
        )
        say(rows[-1])
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            write_preview(pictures / f"{known.name}.png", known.ct, prediction.labels)
    found, kidneys, false_ml = (sum(row[name] for row in rows) for name in ("found", "kidneys", "false_ml"))
    print(f"found {found} of {kidneys} kidneys in {len(rows)} CTs, {false_ml:.1f} ml false")
    append_rows("real_ct", rows)
    if learn:
        measure(folder, learn, (0, 1, 2), model, label_map)


if __name__ == "__main__":
    tyro.cli(main)
