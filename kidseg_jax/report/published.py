"""The paper's own figures, to stand beside a run's, and how its set-up differs from ours.

Source: Kim, Lee, Ham et al. 2020, "Active learning for accuracy enhancement of semantic segmentation with
CNN-corrected label curations: evaluation on kidney segmentation in abdominal CT", Scientific Reports.
"""

DSC_PERCENT: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((44.30, 10.12), (72.60, 10.39), (48.04, 12.02), (95.83, 0.56), (11.47, 14.63), (54.45, 30.34)),
    2: ((66.03, 8.65), (77.94, 8.42), (60.43, 7.66), (96.12, 0.72), (46.76, 30.42), (70.65, 21.30)),
    3: ((63.56, 12.86), (75.00, 13.40), (60.56, 8.45), (96.27, 0.70), (52.55, 34.57), (71.07, 21.65)),
}
"""Mean and SD of DSC in percent, per stage, in the order of `records.COLUMNS`."""

P_VALUES: dict[tuple[int, int], tuple[float, ...]] = {
    (1, 3): (0.372, 0.837, 0.088, 0.697, 0.239, 0.252),
    (2, 3): (0.704, 0.873, 0.655, 0.772, 0.131, 0.330),
}
"""Published p-values of paired t-tests between two stages, in the order of `records.COLUMNS`."""

SECONDS: dict[str, tuple[int, ...]] = {
    "manual": (41 * 60 + 8, 35 * 60 + 1, 24 * 60 + 23, 26 * 60 + 26, 22 * 60 + 8, 149 * 60 + 6),
    "corrected": (22 * 60, 23 * 60, 5 * 60, 18 * 60 + 6, 5 * 60, 73 * 60 + 6),
}
"""Labelling seconds per structure, by hand and CNN-corrected, in the order of `records.COLUMNS`."""

RMS_MM: dict[str, tuple[float, float, int]] = {
    "manual_cnn": (2.22, 2.06, 17_650),
    "cnn_corrected": (2.77, 2.77, 26_471),
    "manual_corrected": (0.86, 0.80, 17_650),
}
"""Mean, SD in mm and number of points of the published surface RMS, per pair."""

STAGE_KIDNEYS = {1: 20, 2: 40, 3: 50}

SETUP_DIFFERENCES = (
    "The paper's three stages were tested on different kidneys (4 in stage 1, 10 in stage 3); ours are all "
    "tested on the "
    "same held-out kidneys, so its p-values and ours answer different questions.",
    "The paper counts kidneys; ours keep both kidneys of a patient on one side of the split and give a "
    "p-value and an "
    "interval clustered by patient beside the published t-test.",
    "The paper names neither direction nor sampling of its surface RMS; ours names both.",
    "The paper's total minutes are the sum of its columns' means; ours is the mean over kidneys of what "
    "each kidney took, "
    "and a kidney without RCC takes no RCC minutes.",
)
PHANTOM_DIFFERENCE = (
    "The paper's images are patients' CTs (50 kidneys, 36 patients); this run's are computed phantoms. A "
    "phantom is "
    "easier than a patient: its DSC is no forecast of clinical accuracy."
)
SIMULATED_DIFFERENCE = (
    "The paper's minutes were taken from people; this run's labels were corrected by a simulated annotator "
    "and its "
    "minutes are simulated."
)
