"""Folders of cases as other tools lay them out: nnU-Net raw, the Medical Segmentation Decathlon, KiTS and
BIDS.

The file that names the cases is written last, so that a folder without it is not whole.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
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


def write_nnunet(out: Path, items: Iterable[Item], held: Sequence[Structure]) -> Path:
    """A nnU-Net v2 raw dataset with consecutive label values; `out` is DatasetXXX_Name or the folder it goes
    into.

    held: the structures that the label maps can tell; others get no class, rather than an empty one.
    """
    folder = out if DATASET.fullmatch(out.name) else out / DEFAULT_DATASET
    values = {structure.label: i for i, structure in enumerate(held, 1)}
    names = []
    for item in items:
        write_volume(folder / "imagesTr" / f"{item.name}_0000.nii.gz", _ct(item))
        write_volume(folder / "labelsTr" / f"{item.name}.nii.gz", renumbered(item.labels, values))
        names.append(item.name)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{structure.name: values[structure.label] for structure in held}},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    _write_json(folder / "dataset.json", dataset)
    return folder


def write_msd(out: Path, items: Iterable[Item], held: Sequence[Structure]) -> Path:
    """A task of the Medical Segmentation Decathlon: imagesTr, labelsTr and a dataset.json that pairs them."""
    values = {structure.label: i for i, structure in enumerate(held, 1)}
    training = []
    for item in items:
        pair = {"image": f"./imagesTr/{item.name}.nii.gz", "label": f"./labelsTr/{item.name}.nii.gz"}
        write_volume(out / pair["image"], _ct(item))
        write_volume(out / pair["label"], renumbered(item.labels, values))
        training.append(pair)
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
    _write_json(out / "dataset.json", dataset)
    return out


def write_kits(out: Path, items: Iterable[Item], held: Sequence[Structure]) -> Path:
    """case_XXXXX/imaging.nii.gz and segmentation.nii.gz as KiTS has them: 1 kidney, 2 tumour, slices along
    array axis 0.

    Artery, vein and ureter have no value there and become background. Cases of other names are numbered in
    order; cases.csv says which is which.
    """
    rows = [("kits", "case", "patient")]
    for number, item in enumerate(items):
        name = item.name if re.fullmatch(r"case_\d{5}", item.name) else f"case_{number:05d}"
        if any(row[0] == name for row in rows):
            raise ValueError(f"export: two cases would be called {name}, {item.name} is one of them")
        if item.ct is not None:
            write_volume(out / name / "imaging.nii.gz", oriented(_ct(item), "IPL"))
        labels = renumbered(item.labels, KITS_VALUES)
        write_volume(out / name / "segmentation.nii.gz", oriented(labels, "IPL"))
        rows.append((name, item.name, item.patient))
    write_text(out / "cases.csv", csv_text(rows))
    return out


def write_bids(out: Path, items: Iterable[Item], held: Sequence[Structure], description: str) -> Path:
    """A BIDS derivative: sub-X[/ses-Y]/anat/..._desc-DESCRIPTION_dseg.nii.gz with a table of labels beside
    each.

    A patient's cases are sessions where there are several. Letters and digits of a name are kept, BIDS allows
    no others.
    """
    items = list(items)
    patients = [_alphanumeric(item.patient) for item in items]
    table = ["index\tname\tabbreviation\tcolor", "0\tbackground\tBG\t#000000"]
    table += [f"{s.label}\t{s.name}\t{s.name[:3].upper()}\t#{bytes(s.rgb).hex().upper()}" for s in held]
    stems = set()
    for item, patient in zip(items, patients, strict=True):
        session = f"ses-{_alphanumeric(item.name)}" if patients.count(patient) > 1 else ""
        folder = out.joinpath(f"sub-{patient}", *([session] if session else []), "anat")
        parts = [f"sub-{patient}", session, f"desc-{_alphanumeric(description)}", "dseg"]
        stem = folder / "_".join(part for part in parts if part)
        if stem in stems:
            raise ValueError(f"export: two cases would be called {stem.name}, {item.name} is one of them")
        stems.add(stem)
        write_volume(stem.with_name(f"{stem.name}.nii.gz"), item.labels)
        write_text(stem.with_name(f"{stem.name}.tsv"), "\n".join(table) + "\n")
    about = {
        "Name": "kidseg_jax label maps",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "kidseg_jax", "Version": __version__}],
    }
    _write_json(out / "dataset_description.json", about)
    return out


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
