"""What a comparison of two surfaces is called and what it says; no Open3D is needed to read one."""

from dataclasses import dataclass

PAIRS = {
    "manual_cnn": "manual vs CNN",
    "cnn_corrected": "CNN vs CNN-corrected",
    "manual_corrected": "manual vs CNN-corrected",
}
"""The label maps whose surfaces are compared, first and second, with their headings in the tables."""

MODES = {
    "sampled_points": "{points} seeded vertices of the first surface, each to the nearest vertex of the "
    "second",
    "points_to_triangles": "{points} seeded vertices of the first surface, each to the nearest place on the "
    "second's triangles, negative inside",
    "area_symmetric": "every place of both surfaces, weighted by area, to the nearest place on the other's "
    "triangles",
}
"""How surfaces are compared, by name, in the order of the tables."""

USABLE_RMS_MM = 2.0
"""3D printing and augmented reality want a surface RMS below this, in mm."""


@dataclass(frozen=True)
class SurfaceComparison:
    """One measure of one pair, in mm, signed where `mode` is; None throughout where a surface is missing."""

    mode: str
    how: str
    points: int
    seed: int
    rms_mm: float | None = None
    mean_mm: float | None = None
    mean_absolute_mm: float | None = None
    min_mm: float | None = None
    max_mm: float | None = None
    p05_mm: float | None = None
    median_mm: float | None = None
    p95_mm: float | None = None
    within_2mm: float | None = None
