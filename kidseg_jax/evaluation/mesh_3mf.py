"""Surfaces as 3MF (3D Manufacturing Format, core specification 1.3): one object a structure, named and
coloured, in mm.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from kidseg_jax.atomic import written_whole
from kidseg_jax.evaluation.mesh_files import COMMENT
from kidseg_jax.evaluation.surfaces import Surface

CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
MODEL = "3D/3dmodel.model"
TYPES = (
    f'<?xml version="1.0" encoding="UTF-8"?>\n<Types xmlns="{PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>'
    "</Types>\n"
)
RELATIONS = (
    f'<?xml version="1.0" encoding="UTF-8"?>\n<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Target="/{MODEL}" Id="rel0" Type="{CORE.replace("core/2015/02", "2013/01/3dmodel")}"/>'
    "</Relationships>\n"
)
FIRST_OBJECT = 2  # behind the table of colours
STAMP = (1980, 1, 1, 0, 0, 0)


def write_3mf(
    path: Path, surfaces: Mapping[str, Surface], colours: Mapping[str, tuple[int, int, int]]
) -> None:
    """A 3MF file of one thing made of named, coloured parts, in mm and LPS; the same bits for the same parts.

    Raises ValueError, writing nothing, for no part, or one that is not watertight or points inward.
    """
    if not surfaces:
        raise ValueError(f"write_3mf: {path}: need at least one surface, got none")
    for name, surface in surfaces.items():
        if not surface.is_watertight or surface.volume_ml <= 0:
            raise ValueError(
                f"write_3mf: {path}: needs watertight surfaces that point outward, not so: {name}"
            )
    with (
        written_whole(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, text in (
            ("[Content_Types].xml", TYPES),
            ("_rels/.rels", RELATIONS),
            (MODEL, _model(surfaces, colours)),
        ):
            archive.writestr(zipfile.ZipInfo(name, STAMP), text, zipfile.ZIP_DEFLATED)


def _model(surfaces: Mapping[str, Surface], colours: Mapping[str, tuple[int, int, int]]) -> str:
    whole = FIRST_OBJECT + len(surfaces)
    base = "".join(
        f'<base name={quoteattr(name)} displaycolor="#{bytes(colours[name]).hex().upper()}"/>'
        for name in surfaces
    )
    objects = "".join(
        f'<object id="{number}" name={quoteattr(name)} type="model" pid="1" pindex="{number - FIRST_OBJECT}">'
        f"{_mesh(surface)}</object>\n"
        for number, (name, surface) in enumerate(surfaces.items(), FIRST_OBJECT)
    )
    parts = "".join(f'<component objectid="{number}"/>' for number in range(FIRST_OBJECT, whole))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<model unit="millimeter" xml:lang="en-US" xmlns="{CORE}">\n'
        f'<metadata name="Description">{COMMENT}</metadata>\n'
        f'<resources>\n<basematerials id="1">{base}</basematerials>\n{objects}'
        f'<object id="{whole}" name="kidney" type="model"><components>{parts}</components></object>\n'
        f'</resources>\n<build><item objectid="{whole}"/></build>\n</model>\n'
    )


def _mesh(surface: Surface) -> str:
    vertices = "".join(
        f'<vertex x="{x:.9g}" y="{y:.9g}" z="{z:.9g}"/>'
        for x, y, z in surface.vertices_mm.astype(np.float32).tolist()
    )
    triangles = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in surface.triangles.tolist())
    return f"<mesh><vertices>{vertices}</vertices><triangles>{triangles}</triangles></mesh>"
