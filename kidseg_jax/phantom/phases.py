"""The four contrast phases of a varied phantom: HU of every tissue, drawn from published ranges."""

from dataclasses import dataclass

import numpy as np

from kidseg_jax.phantom.body import Contrast
from kidseg_jax.phantom.organs import Filling, Range
from kidseg_jax.phantom.shapes import Draw

PHASES = ("unenhanced", "corticomedullary", "nephrographic", "excretory")

# HU by phase, in the order of PHASES; docs/phantoms.md names where each range was published.
HU: dict[str, tuple[Range, Range, Range, Range]] = {
    "artery": ((30, 52), (180, 470), (110, 210), (75, 140)),
    "vein": ((30, 52), (90, 280), (105, 200), (75, 140)),
    "low_cava": ((28, 50), (35, 90), (70, 170), (70, 135)),
    "cortex": ((16, 42), (125, 265), (125, 250), (85, 175)),
    "urine": ((-5, 16), (-4, 18), (-4, 40), (120, 1200)),
    "bladder": ((-5, 16), (-5, 16), (-5, 18), (10, 500)),
    "liver": ((42, 68), (52, 88), (85, 140), (70, 115)),
    "spleen": ((40, 58), (85, 170), (95, 155), (75, 120)),
    "pancreas": ((28, 52), (75, 130), (70, 115), (55, 95)),
    "bowel_wall": ((28, 50), (45, 110), (60, 120), (50, 95)),
    "muscle": ((38, 66), (42, 70), (48, 78), (48, 75)),
    "genital": ((35, 58), (55, 130), (70, 145), (60, 110)),
}
# The medulla as a share of the way from unenhanced parenchyma to the cortex.
MEDULLA: tuple[Range, Range, Range, Range] = ((0.8, 1.1), (0.05, 0.5), (0.6, 1.05), (0.85, 1.2))
SOLID_MASS: tuple[Range, Range, Range, Range] = ((18, 55), (40, 230), (45, 195), (40, 150))


@dataclass(frozen=True)
class Tissues:
    """One patient's HU in one phase, whatever is not in `Contrast` or `Filling`."""

    phase: str
    contrast: Contrast
    filling: Filling
    muscle: float
    genital: float
    bladder: float
    mass: Range
    fat: float
    mesentery: float
    marrow: float
    bone: float
    lung: float


def draw_tissues(draw: Draw, front: float) -> Tissues:
    """One patient's tissues in a phase drawn at even odds; a seventh of livers is fatty.

    front: 1 where gas rises to the front, -1 in a prone patient.
    """
    k = int(draw.rng.integers(len(PHASES)))
    hu = {name: draw(*ranges[k]) for name, ranges in HU.items()}
    plain = draw(*HU["cortex"][0])
    liver = draw(-15, 40) + (hu["liver"] - 55) * 0.5 if draw.rng.random() < 0.14 else hu["liver"]
    oral = draw.rng.random()
    bowel = (-30.0, 55.0) if oral < 0.6 else (20.0, 450.0) if oral < 0.85 else (120.0, 900.0)
    contrast = Contrast(
        artery=hu["artery"],
        vein=hu["vein"],
        cortex=hu["cortex"],
        medulla=plain + draw(*MEDULLA[k]) * (hu["cortex"] - plain) if k else plain * draw(*MEDULLA[0]),
        low_cava=min(hu["low_cava"], hu["vein"]),
        liver=liver,
        spleen=hu["spleen"],
        urine=float(np.exp(draw(np.log(120), np.log(1200)))) if k == 3 else hu["urine"],
    )
    filling = Filling(
        wall=hu["bowel_wall"] - 15,
        stomach_wall=hu["bowel_wall"],
        colon_wall=hu["bowel_wall"],
        pancreas=(hu["pancreas"] - 5, hu["pancreas"] + 5),
        adrenal=(hu["pancreas"] - 15, hu["pancreas"] + 10),
        bile=(-5.0, 25.0) if draw.rng.random() < 0.9 else (25.0, 200.0),
        stomach=bowel,
        bowel=bowel,
        stool=(-120.0, 70.0) if draw.rng.random() < 0.8 else bowel,
        loops=(12.0, 60.0),
        loop_mm=(7.0, 18.0),
        spleen=(0.7, 1.6),
        front=front,
    )
    return Tissues(
        phase=PHASES[k],
        contrast=contrast,
        filling=filling,
        muscle=hu["muscle"] - (draw(0, 45) if draw.rng.random() < 0.15 else 0),
        genital=hu["genital"],
        bladder=hu["bladder"],
        mass=SOLID_MASS[k],
        fat=draw(-118, -88),
        mesentery=draw(-110, -75),
        marrow=draw(60, 220),
        bone=draw(300, 800),
        lung=draw(-920, -700),
    )
