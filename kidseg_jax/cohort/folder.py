"""Cohorts on disk: where the cases of a folder lie, and reading them one at a time."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.label_maps import LabelMap, read_json, read_structures, read_toml
from kidseg_jax.cohort.label_maps import label_map as label_map_named
from kidseg_jax.formats.dicom import list_series
from kidseg_jax.formats.dicom_header import is_dicom as starts_as_dicom
from kidseg_jax.formats.dicom_regions import referred_series, region_files, region_kind
from kidseg_jax.formats.dicom_slices import walk
from kidseg_jax.formats.volumes import ending_of, read_ct
from kidseg_jax.imaging.structures import NAMES, structures_in
from kidseg_jax.imaging.volume import Volume, on_grid

IMAGE, LABELS = "imaging", "segmentation"
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".npz")


class CaseFiles(NamedTuple):
    """Where one case lies: its CT (a file or DICOM folder), and its label map where there is one.

    unlabelled: structures that this label map does not tell, although others of the cohort do.
    """

    name: str
    patient: str
    image: Path
    labels: Path | None
    unlabelled: frozenset[str] = frozenset()


class Cohort(Sequence[Case]):
    """The cases of a folder, in order of name, read when they are asked for; the last one is kept.

    names and patients are known without reading an image.
    """

    def __init__(self, files: Sequence[CaseFiles], labels: LabelMap):
        self.files = tuple(files)
        self.label_map = labels
        self._last: tuple[int, Case] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.files)

    @property
    def patients(self) -> tuple[str, ...]:
        return tuple(one.patient for one in self.files)

    @property
    def structures(self) -> frozenset[str]:
        """The structures that every case's labels can tell."""
        return self.label_map.structures.difference(*(one.unlabelled for one in self.files))

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> "Cohort": ...
    def __getitem__(self, index: int | slice) -> "Case | Cohort":
        if isinstance(index, slice):
            return Cohort(self.files[index], self.label_map)
        index = range(len(self))[index]
        if self._last is None or self._last[0] != index:
            self._last = index, read_case(self.files[index], self.label_map)
        return self._last[1]


def read_case(files: CaseFiles, labels: LabelMap) -> Case:
    """One case: CT in int16 HU, labels in the values of `structures`, both on one grid (ValueError where
    not).
    """
    ct = read_ct(files.image, series=series_drawn_on(files.image, files.labels))
    if files.labels is None:
        return Case(files.name, files.patient, ct, None, labels.structures)
    return Case(
        files.name, files.patient, ct, read_drawn(files, labels, ct), labels.structures - files.unlabelled
    )


def read_drawn(files: CaseFiles, labels: LabelMap, ct: Volume) -> Volume:
    """The label map of a case that has one, in the values of `structures`.

    A map of a part of the CT, voxel on voxel, is laid into its grid. Raises ValueError where it lies on
    another grid, or holds a structure that the table of patients says it lacks.
    """
    assert files.labels is not None
    drawn = on_grid(files.name, read_structures(files.labels, labels, ct.geometry), ct.geometry)
    if wrong := sorted(files.unlabelled & structures_in(drawn.array)):
        raise ValueError(f"{files.name}: holds {', '.join(wrong)}, which its table of patients says it lacks")
    return drawn


def series_drawn_on(image: Path, labels: Path | None) -> str | None:
    """The name of the CT series of a DICOM folder that a DICOM SEG or RTSTRUCT refers to; None for other
    labels or images, and where the file names no series or the folder splits it.

    Raises ValueError where the folder does not hold the series that is named.
    """
    if labels is None or not image.is_dir() or ending_of(labels) or not region_kind(labels):
        return None
    uid = referred_series(labels)
    named = {name: slices[0].series_uid for name, slices in list_series(image)[0].items()}
    if uid and named and uid not in named.values():
        raise ValueError(f"{labels.name}: drawn on another series than {image.name} holds")
    fitting = [name for name, one in named.items() if one == uid]
    return fitting[0] if len(fitting) == 1 else None


def find_cases(folder: Path) -> tuple[CaseFiles, ...]:
    """The cases of a folder in order of name.

    Sub-folders with `imaging` and `segmentation` files (KiTS, KiPA22, ours), sub-folders of DICOM files with
    a SEG or RTSTRUCT among them, or a dataset.json with imagesTr and labelsTr (nnU-Net raw, Medical
    Segmentation Decathlon). The patient is what `patients.csv`
    (header case,patient) or the table [patients] of a `patients.toml` says, else the case is a patient of its
    own. A column or table `lacks` names the structures that the label map of a case does not tell. Raises
    FileNotFoundError for no such folder, ValueError for one without cases.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of cases")
    cases = _of_dataset(folder) if (folder / "dataset.json").exists() else _of_folders(folder)
    if not cases:
        raise ValueError(
            f"{folder.name}: found no case, need sub-folders with {IMAGE} and {LABELS} or a dataset.json"
        )
    patients, unlabelled = _patients(folder, [one.name for one in cases])
    return tuple(
        one._replace(
            patient=patients.get(one.name, one.name), unlabelled=unlabelled.get(one.name, frozenset())
        )
        for one in cases
    )


def find_images(path: Path) -> list[tuple[str, Path]]:
    """Name and place of every CT of a path: a file, a DICOM folder (both one CT), or a folder of cases.

    A folder of cases is one that `find_cases` knows, one of image files, or one of DICOM folders, each with
    all that lies below it. What this package writes beside its input (NAME_kidseg.*) is no image. Raises
    ValueError for a folder with no image.
    """
    if path.is_file() or any(is_dicom(p) for p in path.iterdir()):
        return [(_stem(path) if path.is_file() else path.resolve().name, path)]
    if (path / "dataset.json").exists():
        return [(one.name, one.image) for one in _of_dataset(path)]
    cases = [(one.name, one.image) for one in _of_folders(path)]
    files = sorted(p for p in path.iterdir() if p.is_file() and _stem(p) != p.name)
    images = [(_stem(p), p) for p in files if not _stem(p).endswith("_kidseg") and not p.name.startswith(".")]
    folders = sorted(p for p in path.iterdir() if p.is_dir() and p.name not in dict(cases))
    series = [(p.name, p) for p in folders if any(is_dicom(q) for q in walk(p))]
    everything = sorted(cases + images + series)
    if not everything:
        raise ValueError(f"{path.name}: need a CT, a DICOM folder or a folder of cases, found no image")
    names = [name for name, _ in everything]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path.name}: two images have the name {', '.join(twice)}")
    return everything


def is_dicom(path: Path) -> bool:
    """True for a file that starts as DICOM does, or whose name ends in .dcm, and is not hidden."""
    if path.name.startswith(".") or not path.is_file():
        return False
    return path.name.lower().endswith(".dcm") or starts_as_dicom(path)


def _of_folders(folder: Path) -> list[CaseFiles]:
    cases, regions = [], False
    dicom: list[CaseFiles] = []
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        image = _only(path, IMAGE)
        labels = _only(path, LABELS) if image is not None else None
        if labels is None and (image is None or image.is_dir()):
            labels = _region_of(path)
            regions |= labels is not None
        if image is not None:
            cases.append(CaseFiles(path.name, path.name, image, labels))
        elif labels is not None or any(is_dicom(one) for one in walk(path)):
            dicom.append(CaseFiles(path.name, path.name, path, labels))
    return sorted(cases + dicom) if regions else cases


def _region_of(folder: Path) -> Path | None:
    """The one DICOM SEG or RTSTRUCT of a folder and of those below it."""
    there = region_files(folder)
    if len(there) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in there[:5])
        raise ValueError(f"{folder.name}: need one DICOM SEG or RTSTRUCT, got {names}")
    return there[0] if there else None


def _only(folder: Path, stem: str) -> Path | None:
    """The one file (or, for an image, DICOM folder) of this name and any of our endings."""
    there = [p for ending in (*ENDINGS, ".seg.nrrd", ".dcm") if (p := folder / f"{stem}{ending}").is_file()]
    if (folder / stem).is_dir():
        there.append(folder / stem)
    if len(there) > 1:
        raise ValueError(f"{folder.name}: need one {stem} file, got {', '.join(p.name for p in there)}")
    return there[0] if there else None


def _of_dataset(folder: Path) -> list[CaseFiles]:
    """Cases of a dataset.json: nnU-Net's (channel_names, ID_0000) or the decathlon's (modality, a list of
    training pairs).
    """
    dataset = read_json(folder / "dataset.json")
    try:
        return _cases_of(folder, dataset)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder.name}: dataset.json does not name its files as nnU-Net or MSD do: {error!r:.80}"
        ) from error


def _cases_of(folder: Path, dataset: dict[str, Any]) -> list[CaseFiles]:
    if isinstance(dataset.get("training"), list):
        pairs = [
            (_inside(folder, one.get("image")), _inside(folder, one.get("label")))
            for one in dataset["training"]
        ]
        return sorted(CaseFiles(_stem(image), _stem(image), image, labels) for image, labels in pairs)
    channels = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(channels, dict) or len(channels) != 1:
        raise ValueError(f"{folder.name}: dataset.json must name one channel, the CT, got {channels!s:.80}")
    if isinstance(dataset.get("dataset"), dict):
        return sorted(
            CaseFiles(name, name, _inside(folder, one["images"][0]), _inside(folder, one["label"]))
            for name, one in dataset["dataset"].items()
        )
    ending = dataset.get("file_ending", ".nii.gz")
    if ending not in (*ENDINGS, ".seg.nrrd"):
        raise ValueError(
            f"{folder.name}: dataset.json must name a file_ending that is read, got {ending!r:.80}"
        )
    tail = "_0000" + ending
    cases = []
    for image in sorted((folder / "imagesTr").glob(f"*{tail}")):
        name = image.name.removesuffix(tail)
        labels = folder / "labelsTr" / (name + tail.removeprefix("_0000"))
        cases.append(CaseFiles(name, name, image, labels if labels.exists() else None))
    return cases


def _inside(folder: Path, relative: Any) -> Path:
    """A path that a dataset.json names, inside its folder."""
    path = (folder / str(relative)).resolve()
    if not isinstance(relative, str) or not path.is_relative_to(folder.resolve()):
        raise ValueError(
            f"{folder.name}: dataset.json must name files inside its folder, got {relative!r:.80}"
        )
    return path


def _stem(path: Path) -> str:
    """The name without one of our endings; the whole name where it has none, or is a segmentation."""
    lower = path.name.lower()
    if lower.endswith(".seg.nrrd"):
        return path.name
    return next((path.name[: -len(ending)] for ending in ENDINGS if lower.endswith(ending)), path.name)


def _patients(folder: Path, names: Iterable[str]) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """By case: the patient, and the structures that its label map lacks; empty without a table."""
    known = set(names)
    lacks: dict[str, Any] = {}
    if (folder / "patients.csv").exists():
        with open(folder / "patients.csv", newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
        if not rows or not {"case", "patient"} <= set(rows[0]):
            raise ValueError(f"{folder.name}: patients.csv needs the columns case and patient")
        patients = {row["case"]: row["patient"] for row in rows}
        lacks = {row["case"]: (row.get("lacks") or "").split() for row in rows}
    elif (folder / "patients.toml").exists():
        table = read_toml(folder / "patients.toml")
        patients = {k: str(v) for k, v in table.get("patients", {}).items()}
        lacks = table.get("lacks", {})
    else:
        return {}, {}
    if missing := sorted(known - {case for case, patient in patients.items() if patient}):
        raise ValueError(f"{folder.name}: the table of patients names none for {', '.join(missing[:5])}")
    return patients, {case: _lacking(f"{folder.name}: {case}", words) for case, words in lacks.items()}


def _lacking(where: str, words: Any) -> frozenset[str]:
    may = [name for name in NAMES if name != "parenchyma"]
    if not isinstance(words, list) or not set(words) <= set(may):
        raise ValueError(f"{where}: lacks must be some of {', '.join(may)}, got {words!r}")
    return frozenset(words)


def load_cohort(folder: str | Path, label_map: str = "kidseg") -> Cohort:
    """The cases of a folder, in order of name, each read when it is asked for.

    Found by `find_cases`; label_map names what their values mean (`label_maps.label_map`).
    Raises ValueError for a folder without cases or an unknown label map; a broken case raises when read.
    """
    folder = Path(folder)
    return Cohort(find_cases(folder), label_map_named(label_map, folder))
