"""Every setting of a run, its unit and its default: frozen records; the presets of runs and phantoms."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

MOST_CHANNELS = 4096
MOST_VOXELS = 512**3  # of a patch
PHANTOM_RECORD = "phantom.json"  # the CohortConfig beside a phantom cohort on disk


def _require(record: Any, name: str, holds: bool, need: str) -> None:
    """Raises ValueError with what a field needs and what it is, unless it holds."""
    if not holds:
        raise ValueError(f"{type(record).__name__}.{name}: {need}, got {getattr(record, name)!r}")


@dataclass(frozen=True)
class CohortConfig:
    """The embedded phantom cohort, made when no data folder is given; ranges hold at hardness 1."""

    kind: Literal["demo", "varied"] = "demo"
    """demo: kidneys in the cortical phase, one field of view. varied: any phase, FOV, body and anomaly; HU of
    vessels and kidneys are then those of the phase, and artery_hu to medulla_hu are not looked at."""
    patients: int = 36
    """Number of patients, each with one CT."""
    kidneys: int = 50
    """Number of kidneys, 1 or 2 a patient; a patient with one has fat and bowel in the other fossa."""
    rcc_kidneys: int = 30
    """Number of kidneys with a renal cell carcinoma, at most one a patient."""
    hardness: float = 0.7
    """Scale of what makes phantoms differ: contrast phase, noise, pose, shape, tumours (ranges hold at 1)."""
    accessory_artery: float = 0.25
    """Share of kidneys with a second renal artery, 0 to 1."""
    ureter_below_mm: float = 20.0
    """How far below the kidney's lower end the ureter is labelled, in mm."""
    rcc_diameter_mm: tuple[float, float] = (20.0, 70.0)
    """Diameter of the tumours, in mm."""
    artery_hu: tuple[float, float] = (160.0, 340.0)
    """Contrast of aorta and renal arteries, in HU."""
    vein_hu: tuple[float, float] = (90.0, 215.0)
    """Contrast of the renal veins, in HU."""
    cortex_hu: tuple[float, float] = (125.0, 215.0)
    """Contrast of the renal cortex, in HU."""
    medulla_hu: tuple[float, float] = (55.0, 115.0)
    """Contrast of the medullary pyramids, in HU."""
    noise_hu: tuple[float, float] = (6.0, 22.0)
    """Standard deviation of the noise in a uniform region, in HU."""
    pixel_mm: tuple[float, float] = (1.6, 2.4)
    """Pixel size in plane, in mm, rounded to 1/64; large patients get large pixels."""
    slice_mm: tuple[float, float] = (1.5, 2.5)
    """Distance between slices, in mm, rounded to 1/64."""
    length_mm: tuple[float, float] = (150.0, 800.0)
    """Shortest and longest scan along the body, in mm (varied only; demo has 232 to 272)."""

    def __post_init__(self) -> None:
        n = self.patients
        _require(self, "patients", n >= 1, "need at least 1")
        _require(self, "kidneys", n <= self.kidneys <= 2 * n, f"{n} patients have {n} to {2 * n} kidneys")
        _require(self, "rcc_kidneys", 0 <= self.rcc_kidneys <= n, f"at most one a patient, so 0 to {n}")
        _require(self, "hardness", 0 <= self.hardness <= 4, "need 0 to 4")
        _require(self, "accessory_artery", 0 <= self.accessory_artery <= 1, "need 0 to 1")
        _require(self, "ureter_below_mm", self.ureter_below_mm >= 0, "need at least 0 mm")
        limits = {
            "rcc_diameter_mm": 5.0,
            "noise_hu": 0.0,
            "pixel_mm": 0.5,
            "slice_mm": 0.5,
            "length_mm": 50.0,
        }
        for name in (*limits, "artery_hu", "vein_hu", "cortex_hu", "medulla_hu"):
            low, high = getattr(self, name)
            least = limits.get(name, 0.0)
            _require(self, name, least <= low <= high < math.inf, f"need {least} <= lowest <= highest")


COHORTS: dict[str, CohortConfig] = {
    "demo": CohortConfig(),
    "varied": CohortConfig(
        kind="varied",
        patients=240,
        kidneys=452,
        rcc_kidneys=72,
        hardness=1.0,
        rcc_diameter_mm=(10.0, 100.0),
        noise_hu=(3.0, 45.0),
        slice_mm=(1.0, 5.0),
    ),
}


@dataclass(frozen=True)
class AnnotatorConfig:
    """The simulated annotator; every label and minute that comes from it is called simulated."""

    tolerance_mm: float = 0.75
    """Boundary errors up to this distance are not seen and stay, in mm."""
    tolerance_spread: float = 2.0
    """Care varies: a third of places have a tolerance this many times smaller, a third one as much larger."""
    smallest_ml: float = 0.02
    """Separate errors below this volume are not seen and stay, in ml."""
    look_over_s: float = 120.0
    """Time to look one structure over, changed or not, in s."""
    seconds_per_slice: float = 8.0
    """Time to find and open each slice that is changed, in s."""
    seconds_per_outline_mm: tuple[float, float, float, float, float] = (1.06, 0.77, 0.33, 0.037, 0.134)
    """Time per mm of outline drawn again, in s: artery, vein, ureter, parenchyma, rcc. Fitted so that the 50
    default phantom kidneys of seed 0, from nothing, take the mean minutes of the paper's table 2."""
    seconds_per_ml: float = 2.0
    """Time to fill in or erase, in s per ml changed."""
    slice_mm: float = 1.25
    """Thickness of the slices the annotator draws on, in mm (the paper's CTs: 1 to 1.25)."""
    time_spread: float = 0.15
    """Spread of the annotator's speed between kidneys: standard deviation of the logarithm of a time."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            values = value if isinstance(value, tuple) else (value,)
            _require(self, name, all(v >= 0 for v in values), "must not be negative")
        _require(self, "slice_mm", self.slice_mm > 0, "must be above 0")
        _require(self, "tolerance_spread", self.tolerance_spread >= 1, "need 1 or more")


@dataclass(frozen=True)
class NetConfig:
    """One U-Net and the grid it looks at."""

    features: tuple[int, ...] = (8, 16, 32)
    """Channels of each level, finest first."""
    pool: int = 2
    """Side of the max-pooling block, in voxels (the paper has 3)."""
    patch: tuple[int, int, int] = (56, 48, 48)
    """Voxels (z, y, x) that the network sees at once."""
    spacing_mm: float = 2.0
    """Voxel side of the network's isotropic grid, in mm."""
    looks: Literal[1, 2] = 1
    """Along each axis (fine only): 2 looks at an ROI eight times, moved by half a voxel, and labels it on the
    grid of all looks, twice as fine."""
    offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """From the centre of a kidney's box to that of the fine patch, in mm (z up, y back, x to the midline)."""
    window_hu: tuple[float, float] = (-100.0, 300.0)
    """HU that become -1 and 1; what lies outside is clipped a little beyond."""
    dtype: str = "float32"
    """Compute type: float32 or bfloat16; parameters and norms stay float32."""

    def __post_init__(self) -> None:
        features, patch, window = self.features, self.patch, self.window_hu
        if any(type(n) is not int for n in (*features, self.pool, *patch)):
            raise TypeError("NetConfig: features, pool and patch must be whole numbers")
        levels = len(features)
        _require(
            self, "features", levels > 1 and min(features) > 0, "need at least 2 levels of 1 channel or more"
        )
        small = levels <= 10 and max(features) <= MOST_CHANNELS
        _require(self, "features", small, f"need at most 10 levels of {MOST_CHANNELS} channels")
        _require(self, "pool", self.pool >= 2, "need 2 or more")
        _require(self, "looks", self.looks in (1, 2), "need 1 or 2")
        block = self.pool ** (levels - 1)
        whole = len(patch) == 3 and all(n >= block and n % block == 0 for n in patch)
        _require(self, "patch", whole, f"need three sizes divisible by {block}")
        _require(self, "patch", math.prod(patch) <= MOST_VOXELS, f"need at most {MOST_VOXELS} voxels")
        _require(self, "spacing_mm", 0 < self.spacing_mm < math.inf, "must be positive")
        finite = len(self.offset_mm) == 3 and all(map(math.isfinite, self.offset_mm))
        _require(self, "offset_mm", finite, "need three finite numbers")
        ordered = len(window) == 2 and -math.inf < window[0] < window[1] < math.inf
        _require(self, "window_hu", ordered, "need low < high, both finite")
        _require(self, "dtype", self.dtype in ("float32", "bfloat16"), "need float32 or bfloat16")


@dataclass(frozen=True)
class TrainConfig:
    """How one network is trained in one stage."""

    steps: int = 400
    """Optimizer steps of every stage; 0 takes `epochs` instead."""
    epochs: tuple[int, ...] = ()
    """Passes over the training kidneys for stage 1, 2, ...; the last value holds for later stages."""
    batch: int = 1
    """Kidneys a step."""
    optimizer: Literal["adam", "muon"] = "adam"
    """adam for everything, or muon for the convolution kernels and adam for the rest."""
    rate: float = 1e-2
    """Peak learning rate of Adam."""
    kernel_rate: float = 3e-2
    """Peak learning rate of Muon."""
    begun_rate: float = 0.03
    """Share of both rates for a network that goes on from a start model: more unlearns what it knew."""
    stage_rate: float = 0.0
    """Share of both rates for stages after the first, which then go on from the weights of the stage before;
    0 begins every stage from the first weights, as a run from a start model does in any case."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """constant, or a linear warm-up followed by a cosine to zero."""
    warmup: float = 0.1
    """Share of the steps that warm up (cosine only)."""
    weight_decay: float = 0.0
    """L2 penalty added to the gradient (Adam, not AdamW)."""
    momentum: float = 0.9
    """Adam's first-moment decay."""
    class_weights: tuple[float, ...] = ()
    """Weights of the cross-entropy beside the Dice loss, background first; empty is Dice alone (eq. 1, 2)."""
    lean_back: float = 0.0
    """Share of their logs that is taken off the logits after training: class weights make a network draw rare
    classes too large. 0 leaves it as it learned."""
    dice_power: Literal[1, 2] = 1
    """Power of the probabilities in the size of a prediction: 1 as published, 2 rewards being sure."""
    noise_sd: float = 0.05
    """SD of the Gaussian noise on every input, in units of half the HU window."""
    shift_mm: float = 8.0
    """Largest random shift of the patch along each axis, in mm."""
    poses: int = 1
    """Poses each ROI is learned in: its own, and others resampled from its CT when the stage begins."""
    pose_turn_deg: float = 10.0
    """Largest turn of a pose about each of the three axes, in degrees."""
    pose_stretch: float = 0.12
    """Largest stretch of a pose along each axis, as a share."""
    gain_sd: float = 0.0
    """SD of a random scale of the intensities about 1."""
    offset_sd: float = 0.0
    """SD of a random offset of the intensities, in units of half the HU window."""
    turn_deg: float = 0.0
    """Largest random turn about the body's long axis, in degrees."""
    zoom: float = 0.0
    """Largest random change of size, as a share."""

    def __post_init__(self) -> None:
        trains = self.steps > 0 or (self.steps == 0 and len(self.epochs) > 0 and min(self.epochs) > 0)
        if not trains or self.batch < 1 or self.poses < 1:
            raise ValueError(
                "TrainConfig: need steps above 0 or epochs above 0, and batch and poses of 1 or more, "
                f"got steps {self.steps}, epochs {self.epochs}, batch {self.batch}, poses {self.poses}"
            )
        _require(self, "stage_rate", 0 <= self.stage_rate < math.inf, "must be finite and not negative")
        for name in ("rate", "kernel_rate", "begun_rate"):
            _require(self, name, 0 < getattr(self, name) < math.inf, "must be positive and finite")
        sizes = "weight_decay noise_sd shift_mm gain_sd offset_sd turn_deg zoom pose_turn_deg"
        for name in sizes.split():
            _require(self, name, 0 <= getattr(self, name) < math.inf, "must be finite and not negative")
        for name in ("warmup", "momentum", "zoom", "pose_stretch"):
            _require(self, name, 0 <= getattr(self, name) < 1, "need 0 to below 1")
        least = min(self.class_weights, default=1.0)
        takes_back = 0 < self.lean_back <= 1 and least > 0
        _require(self, "lean_back", not self.lean_back or takes_back, "need 0 to 1 and class weights above 0")


@dataclass(frozen=True)
class Config:
    """One run."""

    seed: int = 0
    """Seed of all that is drawn: phantoms, split, initial weights, order of samples, noise, annotator."""
    cohort: CohortConfig = CohortConfig()
    annotator: AnnotatorConfig = AnnotatorConfig()
    coarse: NetConfig = NetConfig(features=(8, 16), patch=(40, 40, 56), spacing_mm=8.0)
    """The network that finds the kidneys in the whole CT."""
    coarse_train: TrainConfig = TrainConfig(
        steps=200,
        optimizer="muon",
        stage_rate=0.5,
        class_weights=(1.0, 5.0),
        dice_power=2,
        shift_mm=16.0,
        gain_sd=0.05,
        offset_sd=0.05,
    )
    """How the coarse network learns."""
    fine: NetConfig = NetConfig(
        features=(8, 24, 48), patch=(60, 44, 52), spacing_mm=2.25, looks=2, offset_mm=(-10.0, -5.0, 18.0)
    )
    """The network that segments one kidney in its ROI."""
    fine_train: TrainConfig = TrainConfig(
        steps=1000,
        optimizer="muon",
        stage_rate=0.5,
        class_weights=(1.0, 20.0, 15.0, 15.0, 2.0, 8.0),
        lean_back=0.3,
        dice_power=2,
        poses=8,
        gain_sd=0.05,
        offset_sd=0.05,
    )
    """How the fine network learns."""

    def __post_init__(self) -> None:
        _require(self, "seed", self.seed >= 0, "need 0 or more")


PAPER = TrainConfig(
    steps=0, epochs=(150, 300, 300), rate=1e-5, schedule="constant", weight_decay=5e-4, shift_mm=0.0
)
PRESETS: dict[str, Config] = {
    "demo": Config(),
    "paper": Config(
        coarse=NetConfig(features=(16, 32, 64), pool=3, patch=(54, 54, 72), spacing_mm=6.0),
        coarse_train=PAPER,
        fine=NetConfig(
            features=(16, 32, 64), pool=3, patch=(108, 81, 99), spacing_mm=1.25, offset_mm=(-10.0, -5.0, 18.0)
        ),
        fine_train=PAPER,
    ),
    "gpu": Config(
        coarse=NetConfig(features=(16, 32, 64), patch=(64, 64, 80), spacing_mm=5.0, dtype="bfloat16"),
        coarse_train=TrainConfig(
            steps=1000,
            batch=2,
            optimizer="muon",
            class_weights=(1.0, 5.0),
            dice_power=2,
            shift_mm=20.0,
            gain_sd=0.1,
            offset_sd=0.1,
            turn_deg=15.0,
            zoom=0.15,
        ),
        fine=NetConfig(
            features=(32, 64, 128, 256),
            patch=(112, 80, 96),
            spacing_mm=1.25,
            offset_mm=(-10.0, -5.0, 18.0),
            dtype="bfloat16",
        ),
        fine_train=TrainConfig(
            steps=4000,
            batch=2,
            optimizer="muon",
            class_weights=(1.0, 20.0, 15.0, 15.0, 2.0, 8.0),
            dice_power=2,
            shift_mm=10.0,
            gain_sd=0.1,
            offset_sd=0.1,
            turn_deg=10.0,
            zoom=0.1,
        ),
    ),
    "start": Config(
        cohort=replace(COHORTS["varied"], patients=360, kidneys=680, rcc_kidneys=140),
        coarse=NetConfig(features=(16, 32, 64), patch=(48, 48, 64), spacing_mm=6.0),
        coarse_train=TrainConfig(
            steps=5000,
            optimizer="muon",
            class_weights=(1.0, 5.0),
            dice_power=2,
            shift_mm=24.0,
            gain_sd=0.1,
            offset_sd=0.1,
            turn_deg=10.0,
            zoom=0.15,
        ),
        fine=NetConfig(
            features=(12, 32, 64), patch=(60, 44, 52), spacing_mm=2.25, offset_mm=(-10.0, -5.0, 18.0)
        ),
        fine_train=TrainConfig(
            steps=8000,
            optimizer="muon",
            class_weights=(1.0, 4.0, 3.0, 3.0, 1.0, 2.0),
            dice_power=2,
            shift_mm=12.0,
            poses=3,
            gain_sd=0.1,
            offset_sd=0.1,
        ),
    ),
}
