"""How much work a case is expected to be, before anyone looks at it; minutes are simulated ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kidseg_jax.cohort.case import Case, LabelledKidney
from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.imaging.structures import N_CLASSES, structures_in
from kidseg_jax.imaging.volume import Spacing, Volume, canonical
from kidseg_jax.labelling import query
from kidseg_jax.labelling.simulated_annotator import manual_seconds
from kidseg_jax.network.candidates import likeliest
from kidseg_jax.network.cascade import Prediction, find_kidneys, predict
from kidseg_jax.network.models import Models
from kidseg_jax.network.roi import sample_ct
from kidseg_jax.network.views import MARGIN, views_of
from kidseg_jax.staging.case_work import pair_kidneys


@dataclass(frozen=True)
class Yardstick:
    """What cases with a known truth say of the work.

    pace: seconds to correct a prediction, for each second that its views differ by; by_hand_s: seconds to
    label a kidney from nothing.
    """

    pace: float
    by_hand_s: float


def look(models: Models, ct: Volume, config: AnnotatorConfig, threads: int = 1) -> query.Score:
    """What views of the kidneys in a CT (int16 HU) say, before anyone labels them; UNSCORED without any."""
    net = models.fine_net
    spacing_mm: Spacing = (net.spacing_mm, net.spacing_mm, net.spacing_mm)
    turned = canonical(ct)
    scores = []
    for candidate in likeliest(find_kidneys(models, turned, threads)):
        z, y, x = (n + 2 * MARGIN for n in candidate.roi.shape)
        hu = sample_ct(turned.array, turned.spacing_mm, replace(candidate.roi, shape=(z, y, x)), threads)
        scores.append(query.score_of(views_of(net, models.fine, hu), spacing_mm, config))
    return query.together(scores)


def yardstick(
    models: Models,
    known: Sequence[tuple[Case, Sequence[LabelledKidney]]],
    config: AnnotatorConfig,
    threads: int = 1,
) -> Yardstick:
    """The pace of the simulated annotator on cases that no network learned from.

    known: such cases with their labelled kidneys. A pace of 1 where no kidney of theirs is found.
    """
    expected_s, needed_s, by_hand_s = 0.0, 0.0, []
    for case, kidneys in known:
        effort_s = look(models, case.ct, config, threads).effort_s
        spacing_mm = canonical(case.ct).spacing_mm
        pairs = list(pair_kidneys(case, kidneys, predict(models, case.ct, threads)))
        by_hand_s += [sum(manual_seconds(p.truth, spacing_mm, config).values()) for p in pairs]
        if effort_s is not None:
            expected_s += effort_s
            needed_s += sum(query.expected_effort_s(p.predicted, p.truth, spacing_mm, config) for p in pairs)
    return Yardstick(needed_s / expected_s if expected_s else 1.0, float(np.mean(by_hand_s)))


def expected(score: query.Score, prediction: Prediction, blind: bool, by: Yardstick) -> query.Score:
    """What is known of a case with this prediction: the look at it, its effort in the time it would take.

    A blind case takes the time of its kidneys from nothing; one without a prediction takes that of
    two, with the largest doubt that a score has.
    """
    structures = structures_in(prediction.labels.array)
    if not structures or score.effort_s is None:
        return query.Score(2 * by.by_hand_s, float(np.log2(N_CLASSES)), 1.0, structures)
    effort_s = len(prediction.kidneys) * by.by_hand_s if blind else by.pace * score.effort_s
    return replace(score, effort_s=effort_s, structures=structures)
