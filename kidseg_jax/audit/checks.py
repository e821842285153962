"""Every check of a case against its CT alone, each with its scale; no network is asked."""

from collections.abc import Callable, Iterator

import numpy as np

from kidseg_jax import kernels
from kidseg_jax.audit import masses, placement, shape, tissue, trees
from kidseg_jax.audit.finding import Kind, Measure
from kidseg_jax.audit.scene import Kidney, Scene
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, STRUCTURES, URETER, VEIN

KINDS = {
    kind.name: kind
    for kind in (
        Kind("no_kidney", "no kidney labelled", "", 0.0, 0.1),
        Kind("mirrored", "labels mirrored against the CT", "HU", -5.0, 4.0),
        Kind("misfit", "border without a step in HU", "HU below", 0.0, 8.0),
        Kind("shifted", "labels shifted against the CT", "mm", 0.3, 0.4),
        Kind("swapped_vessels", "artery and vein swapped", "", 0.0, 0.4),
        Kind("missing_mass", "a mass left out of the kidney", "", 0.3, 0.2),
        Kind("mass_as_parenchyma", "a mass drawn as parenchyma", "", 1.5, 1.5),
        Kind("cut", "a vessel or ureter in pieces", "", 0.7, 0.35),
        Kind("apart", "a vessel or ureter apart from its kidney", "mm", 4.0, 3.0),
        Kind("island", "a piece apart from all else", "", 1.5, 0.5),
        Kind("holes", "a hole in the labels", "ml", 0.05, 0.15),
        Kind("skipped_slices", "slices without label inside a kidney", "", 0.0, 0.3),
        Kind("in_air", "labels in air or lung", "ml", 0.1, 0.2),
        Kind("unlike_tissue", "HU that the structure cannot have", "HU", 5.0, 10.0),
        Kind("missing_structure", "a kidney without a structure that others have", "", 0.0, 0.4),
    )
}
TREES = (ARTERY, VEIN, URETER)
NAMED = {structure.label: structure.name for structure in STRUCTURES}
NEAR_VOXELS = 6
MOST_BITE_ML, MOST_CUT = 3.0, 4.0
ORIGIN = (0, 0, 0)


def measures_of(scene: Scene) -> tuple[Measure, ...]:
    """What every check measures of a case; of a label map without a CT those of its shape alone."""
    if scene.box is None or not scene.kidneys:
        what = "no label at all" if scene.box is None else "labels, but no parenchyma"
        return (Measure("no_kidney", 1.0, ORIGIN, what),)
    measures: list[Measure] = []
    for check in CHECKS if scene.has_ct else (_shapes,):
        measures += check(scene)
    for kidney in scene.kidneys:
        for look in LOOKS if scene.has_ct else (_trees,):
            measures += look(scene, kidney)
    return tuple(measures)


def _placed(scene: Scene) -> Iterator[Measure]:
    assert scene.box is not None
    at = placement.middle_of(scene.labels, scene.box)
    mirrored = placement.best_mirror(scene.hu, scene.labels, scene.spacing_mm)
    words = " and ".join(
        ("inferior-superior", "anterior-posterior", "left-right")[axis] for axis in mirrored.axes
    )
    yield Measure(
        "mirrored",
        mirrored.gain_hu,
        at,
        f"mirrored {words}, the step at the kidneys' border is {mirrored.gain_hu:+.0f} HU larger",
    )
    yield Measure(
        "misfit",
        30.0 - mirrored.step_hu,
        at,
        f"the kidneys' border is a step of {mirrored.step_hu:.0f} HU to what lies around it",
    )
    near = tuple(
        slice(max(0, a - NEAR_VOXELS), b + NEAR_VOXELS)
        for a, b in zip(scene.box.lo, scene.box.hi, strict=True)
    )
    for axis, name in enumerate(("z", "y", "x")):
        shift = placement.best_shift(scene.hu[near], scene.labels[near], scene.spacing_mm, axis)
        yield Measure(
            "shifted",
            min(abs(shift.mm), 8.0) * shift.gain,
            at,
            f"moved by {shift.voxels:+d} voxels ({shift.mm:+.1f} mm) along {name}, they fit the CT better"
            if shift.voxels
            else "the labels fit where they are",
            side=name,
        )


def _shapes(scene: Scene) -> Iterator[Measure]:
    for piece in shape.islands(scene)[:5]:
        far = min(piece.apart_mm, 60.0)
        size = 1.5 * np.log1p(piece.ml / 0.3) * (0.4 + far / 15) * (1 + min(piece.odd_hu, 150.0) / 75)
        yield Measure(
            "island",
            float(size),
            piece.at,
            f"{piece.ml:.2g} ml of {NAMED[piece.label]} {piece.apart_mm:.0f} mm from a kidney's labels, "
            f"{piece.odd_hu:.0f} HU from the rest",
            NAMED[piece.label],
        )
    ml, at = shape.holes(scene)
    yield Measure("holes", ml, at, f"a hole of {ml:.2g} ml inside the labels")
    slices, at = shape.skipped_slices(scene)
    yield Measure("skipped_slices", float(slices), at, f"{slices} slices inside a kidney without label")


def _tissues(scene: Scene) -> Iterator[Measure]:
    for structure in STRUCTURES:
        air, unlike = tissue.in_air(scene, structure.label), tissue.unlike(scene, structure.label)
        if air is not None:
            text = f"{air.size:.2g} ml of {structure.name} in air, lung or outside the body"
            yield Measure("in_air", air.size, air.at, text, structure.name)
        if unlike is not None:
            text = f"the median of {structure.name} is {unlike.size:.0f} HU outside what it can have"
            yield Measure("unlike_tissue", unlike.size, unlike.at, text, structure.name)


def _trees(scene: Scene, kidney: Kidney) -> Iterator[Measure]:
    middle = kidney.place(np.argwhere(kidney.labels == PARENCHYMA).mean(axis=0))
    reaches = _reaches(kidney)
    for label in TREES:
        name = NAMED[label]
        if name not in scene.told:
            continue
        if not (kidney.labels == label).any():
            missing = 0.3 if reaches else 1.0
            yield Measure(
                "missing_structure", missing, middle, f"no {name} at this kidney", name, kidney.side
            )
            continue
        for gap in trees.gaps(kidney, label)[-2:]:
            size = min(trees.cut_size(gap, kidney.spacing_mm), MOST_CUT)
            text = f"{name} in pieces, {gap.mm:.0f} mm apart, {gap.smaller_ml:.2g} ml beyond the gap"
            yield Measure("cut", size, kidney.place(gap.at), text, name, kidney.side)
        apart = trees.apart_mm(kidney, label)
        if apart is not None:
            text = f"{name} ends {apart[0]:.0f} mm from its kidney"
            yield Measure("apart", min(apart[0], 60.0), kidney.place(apart[1]), text, name, kidney.side)


def _vessels(scene: Scene, kidney: Kidney) -> Iterator[Measure]:
    signs = trees.swap_signs(kidney)
    if signs is None:
        return
    size = -sum(trees.SWAP_WEIGHTS[name] * value for name, value in signs.items())
    at = kidney.place(np.argwhere(kidney.labels == ARTERY).mean(axis=0))
    against = [
        name.removesuffix("_mm") for name, value in signs.items() if value * trees.SWAP_WEIGHTS[name] < -0.2
    ]
    text = f"artery and vein look swapped by {', '.join(against) or 'nothing'}"
    yield Measure("swapped_vessels", size, at, text, side=kidney.side)


def _reaches(kidney: Kidney) -> bool:
    """Whether the kidney touches a face of the image: what it lacks may lie outside."""
    box = kernels.bounding_box(kidney.labels)
    return box is not None and (min(box.lo) == 0 or any(np.equal(box.hi, kidney.labels.shape)))


def _masses(scene: Scene, kidney: Kidney) -> Iterator[Measure]:
    if "rcc" not in scene.told:
        return
    coarse = kidney.coarse
    hull = masses.hull_of(coarse.labels >= PARENCHYMA, coarse.spacing_mm)
    bite = masses.bite(coarse, hull)
    yield Measure(
        "missing_mass",
        float(np.sqrt(min(bite.size, MOST_BITE_ML))),
        kidney.place(bite.at, coarse),
        f"{bite.size:.2g} ml of soft tissue without label in a bite of the kidney",
        side=kidney.side,
    )
    rim, thick = masses.uneven_rim(coarse, hull), masses.thickest(coarse)
    uneven, lumpy = (rim.size - 0.14) / 0.02, (thick.size - 15.6) / 0.9
    yield Measure(
        "mass_as_parenchyma",
        float(np.clip(uneven, 0, 10) + np.clip(lumpy, 0, 10)),
        kidney.place(rim.at if uneven > lumpy else thick.at, coarse),
        f"cortex uneven by {100 * rim.size:.0f} %, parenchyma up to {2 * thick.size:.0f} mm thick",
        side=kidney.side,
    )


CHECKS: tuple[Callable[[Scene], Iterator[Measure]], ...] = (_placed, _shapes, _tissues)
LOOKS: tuple[Callable[[Scene, Kidney], Iterator[Measure]], ...] = (_trees, _vessels, _masses)
