"""One label map for one other tool: NIfTI with names inside, and ITK-SNAP's pair of files."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from kidseg_jax.atomic import write_text
from kidseg_jax.formats import nifti_write
from kidseg_jax.imaging.structures import Structure
from kidseg_jax.imaging.volume import Volume

SNAP_BANNER = """################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Fields:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
"""


def write_named_nifti(path: Path, labels: Volume, held: Sequence[Structure]) -> None:
    """A NIfTI label map whose header holds names and colours as a Caret label table, as TotalSegmentator
    writes it.
    """
    nifti_write.write_nifti(path, labels, nifti_write.Extension(0, caret_table(held)))


def caret_table(held: Sequence[Structure]) -> bytes:
    """The Caret XML of a label table, background first, colours 0..1."""
    rows = ['<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0"><![CDATA[background]]></Label>']
    for s in held:
        red, green, blue = (quoteattr(f"{channel / 255:.6f}") for channel in s.rgb)
        colour = f'Red={red} Green={green} Blue={blue} Alpha="1"'
        rows.append(f'<Label Key="{s.label}" {colour}><![CDATA[{s.name}]]></Label>')
    table = "\n".join(rows)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension>\n'
        '<VolumeInformation Index="0">\n<LabelTable>\n'
        f"{table}\n</LabelTable>\n<StudyMetaDataLinkSet>\n</StudyMetaDataLinkSet>\n"
        "<VolumeType><![CDATA[Label]]></VolumeType>\n</VolumeInformation>\n</CaretExtension>\n"
    ).encode()


def write_itksnap(path: Path, labels: Volume, held: Sequence[Structure]) -> None:
    """A NIfTI label map, and its label descriptions for ITK-SNAP in NAME.label.txt beside it."""
    rows = ['    0     0    0    0        0  0  0    "Clear Label"']
    rows += [
        f'{s.label:5d} {s.rgb[0]:5d}{s.rgb[1]:5d}{s.rgb[2]:5d}        1  1  1    "{s.name}"' for s in held
    ]
    nifti_write.write_nifti(path, labels)
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    write_text(path.with_name(f"{stem}.label.txt"), SNAP_BANNER + "\n".join(rows) + "\n")
