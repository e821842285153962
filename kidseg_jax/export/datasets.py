"""Folders of cases as other tools lay them out: nnU-Net raw, the Medical Segmentation Decathlon, KiTS and
BIDS.

The file that names the cases is written last, so that a folder without it is not whole.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kidseg_jax import __version__
from kidseg_jax.atomic import write_text
from kidseg_jax.csv_text import csv_text
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.imaging.structures import PARENCHYMA, RCC, Structure, replace_values
from kidseg_jax.imaging.volume import Volume, oriented, require_same_grid

DATASET = re.compile(r"Dataset\d{3}_\w+")
DEFAULT_DATASET = "Dataset101_Kidneys"
KITS_VALUES = {PARENCHYMA: 1, RCC: 2}


class Item(NamedTuple):
    """One case to export: labels in the values of `structures`, and the CT where there is one."""

    name: str
    patient: str
    labels: Volume
    ct: Volume | None


class Layout(NamedTuple):
    """How a folder of cases is laid out: `write` one case, in any order, and `finish` when all are there."""

    folder: Path
    write: Callable[[Item], None]
    finish: Callable[[], None]


Named = Sequence[tuple[str, str]]
"""The cases to come, in order: name and patient."""


def nnunet(out: Path, cases: Named, held: Sequence[Structure]) -> Layout:
    """A nnU-Net v2 raw dataset with consecutive label values; `out` is DatasetXXX_Name or the folder it goes
    into.

    held: the structures that the label maps can tell; others get no class, rather than an empty one.
    """
    folder = out if DATASET.fullmatch(out.name) else out / DEFAULT_DATASET
    values = {structure.label: i for i, structure in enumerate(held, 1)}
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{structure.name: values[structure.label] for structure in held}},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    return Layout(
        folder,
        partial(_write_pair, folder, "_0000", values),
        partial(_write_json, folder / "dataset.json", dataset),
    )


def msd(out: Path, cases: Named, held: Sequence[Structure]) -> Layout:
    """A task of the Medical Segmentation Decathlon: imagesTr, labelsTr and a dataset.json that pairs them."""
    values = {structure.label: i for i, structure in enumerate(held, 1)}
    training = [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name, _ in cases
    ]
    dataset = {
        "name": out.name,
        "description": "Kidneys and their structures in abdominal CT",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background", **{str(values[structure.label]): structure.name for structure in held}},
        "numTraining": len(training),
        "numTest": 0,
        "training": training,
        "test": [],
    }
    return Layout(
        out, partial(_write_pair, out, "", values), partial(_write_json, out / "dataset.json", dataset)
    )


def kits(out: Path, cases: Named, held: Sequence[Structure]) -> Layout:
    """case_XXXXX/imaging.nii.gz and segmentation.nii.gz as KiTS has them: 1 kidney, 2 tumour, slices along
    array axis 0.

    Artery, vein and ureter have no value there and become background. Cases of other names are numbered in
    order; cases.csv says which is which. Raises ValueError where two cases would have one name.
    """
    called = {
        name: name if re.fullmatch(r"case_\d{5}", name) else f"case_{number:05d}"
        for number, (name, _) in enumerate(cases)
    }
    _require_apart(called)
    rows = [("kits", "case", "patient"), *((called[name], name, patient) for name, patient in cases)]
    return Layout(
        out, partial(_write_kits, out, called), partial(write_text, out / "cases.csv", csv_text(rows))
    )


def bids(out: Path, cases: Named, held: Sequence[Structure], description: str) -> Layout:
    """A BIDS derivative: sub-X[/ses-Y]/anat/..._desc-DESCRIPTION_dseg.nii.gz with a table of labels beside
    each.

    A patient's cases are sessions where there are several. Letters and digits of a name are kept, BIDS allows
    no others. Raises ValueError where none is left, or two cases would have one name.
    """
    patients = [_alphanumeric(patient) for _, patient in cases]
    table = ["index\tname\tabbreviation\tcolor", "0\tbackground\tBG\t#000000"]
    table += [f"{s.label}\t{s.name}\t{s.name[:3].upper()}\t#{bytes(s.rgb).hex().upper()}" for s in held]
    stems: dict[str, str] = {}
    for (name, _), patient in zip(cases, patients, strict=True):
        session = f"ses-{_alphanumeric(name)}" if patients.count(patient) > 1 else ""
        parts = [f"sub-{patient}", session, f"desc-{_alphanumeric(description)}", "dseg"]
        folder = "/".join(part for part in (f"sub-{patient}", session, "anat") if part)
        stems[name] = f"{folder}/{'_'.join(part for part in parts if part)}"
    _require_apart(stems)
    about = {
        "Name": "kidseg_jax label maps",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "kidseg_jax", "Version": __version__}],
    }
    return Layout(
        out,
        partial(_write_bids, out, stems, "\n".join(table) + "\n"),
        partial(_write_json, out / "dataset_description.json", about),
    )


def _write_pair(folder: Path, channel: str, values: Mapping[int, int], item: Item) -> None:
    write_volume(folder / "imagesTr" / f"{item.name}{channel}.nii.gz", _ct(item))
    write_volume(folder / "labelsTr" / f"{item.name}.nii.gz", renumbered(item.labels, values))


def _write_kits(out: Path, called: Mapping[str, str], item: Item) -> None:
    folder = out / called[item.name]
    if item.ct is not None:
        write_volume(folder / "imaging.nii.gz", oriented(_ct(item), "IPL"))
    write_volume(folder / "segmentation.nii.gz", oriented(renumbered(item.labels, KITS_VALUES), "IPL"))


def _write_bids(out: Path, stems: Mapping[str, str], table: str, item: Item) -> None:
    write_volume(out / f"{stems[item.name]}.nii.gz", item.labels)
    write_text(out / f"{stems[item.name]}.tsv", table)


def _require_apart(called: Mapping[str, str]) -> None:
    taken: dict[str, str] = {}
    for name, new in called.items():
        if new in taken:
            raise ValueError(f"export: two cases would be called {Path(new).name}, {name} is one of them")
        taken[new] = name


def renumbered(labels: Volume, values: Mapping[int, int]) -> Volume:
    """Other label values; a value that is not named becomes background."""
    table = np.zeros(256, np.uint8)
    for label, value in values.items():
        table[label] = value
    return labels.with_array(replace_values(labels.array, table))


def _ct(item: Item) -> Volume:
    if item.ct is None:
        raise ValueError(f"export: this format holds CTs too, {item.name} has none")
    require_same_grid(item.name, item.ct, item.labels)
    return item.ct


def _alphanumeric(name: str) -> str:
    kept = "".join(letter for letter in name if letter.isascii() and letter.isalnum())
    if not kept:
        raise ValueError(f"export: BIDS needs a name with letters or digits, got {name!r}")
    return kept


def _write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
