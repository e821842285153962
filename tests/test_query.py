"""Which case next: every order is a permutation, and the scores are what their names say."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from query import Point, minutes_to

from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.imaging.structures import ARTERY, PARENCHYMA, RCC, structures_in
from kidseg_jax.labelling.query import (
    DEFAULT,
    STRATEGIES,
    Score,
    Strategy,
    disagreement,
    expected_effort_s,
    mean_entropy,
    order,
    score_of,
    together,
)

POOL = tuple(f"case_{i:05d}" for i in range(9))
WITH_RCC = ("case_00004", "case_00007")


def scores():
    return {
        case: Score(
            effort_s=float((i * 5) % 9),
            entropy=float(i % 3),
            disagreement=i / 10,
            structures=frozenset({"artery", "rcc"} if case in WITH_RCC else {"artery"}),
        )
        for i, case in enumerate(POOL)
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_order_is_the_pool_and_does_not_change_it(strategy: Strategy):
    pool = list(POOL)
    chosen = order(pool, scores(), strategy, np.random.default_rng(0))
    assert sorted(chosen) == sorted(POOL) and tuple(pool) == POOL
    assert chosen == order(pool, scores(), strategy, np.random.default_rng(0))
    assert order([], scores(), strategy, np.random.default_rng(0)) == ()


def test_the_highest_score_comes_first_and_ties_stay_as_listed():
    known = scores()
    by_effort = order(POOL, known, "effort", np.random.default_rng(0))
    assert [known[case].effort_s for case in by_effort] == sorted(map(float, range(9)), reverse=True)
    by_entropy = order(POOL, known, "entropy", np.random.default_rng(0))
    assert by_entropy == tuple(POOL[i] for i in (2, 5, 8, 1, 4, 7, 0, 3, 6))
    assert order(POOL, known, "disagreement", np.random.default_rng(0)) == POOL[::-1]
    assert order(POOL, known, "listed", np.random.default_rng(0)) == POOL


def test_random_depends_on_the_seed_alone():
    orders = {order(POOL, {}, "random", np.random.default_rng(seed)) for seed in range(20)}
    assert len(orders) > 10


def test_strata_take_turns_until_the_rare_one_is_used_up():
    first = order(POOL, scores(), "stratified", np.random.default_rng(0))[:4]
    assert first == ("case_00004", "case_00000", "case_00007", "case_00001")


def test_a_pool_without_scores_is_refused():
    known = scores()
    known["case_00003"] = replace(known["case_00003"], entropy=float("nan"), effort_s=None)
    needed: dict[Strategy, str] = {"entropy": "entropy", "effort": "effort_s"}
    for strategy, field in needed.items():
        with pytest.raises(ValueError, match=f"needs {field}, got none for case_00003"):
            order(POOL, known, strategy, np.random.default_rng(0))
    with pytest.raises(ValueError, match="every case may occur once"):
        order(["a", "a"], known, "listed", np.random.default_rng(0))
    with pytest.raises(ValueError, match="need a strategy of listed, random"):
        order(POOL, known, "best", np.random.default_rng(0))  # pyright: ignore[reportArgumentType]


def test_entropy_of_certain_even_and_half_certain_voxels():
    certain = np.eye(6)[np.arange(12) % 6]
    assert mean_entropy(certain) == 0
    assert mean_entropy(np.full((3, 4, 8), 1 / 8)) == pytest.approx(3)
    assert mean_entropy(np.stack([np.eye(2)[0], np.full(2, 0.5)])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="must sum to 1"):
        mean_entropy(np.full((3, 6), 0.5))


def test_disagreement_is_one_minus_dice():
    a = np.zeros((4, 4, 4), np.uint8)
    assert disagreement(a, a) == 0
    a[:2] = ARTERY
    b = a.copy()
    b[1] = 0
    assert disagreement(a, a) == 0
    assert disagreement(a, b) == disagreement(b, a) == pytest.approx(1 - 2 * 16 / (32 + 16))
    b[3] = RCC
    assert disagreement(a, b) == pytest.approx(1 - (2 * 16 / 48 + 0) / 2)


def test_effort_grows_with_the_difference_of_two_predictions():
    config = AnnotatorConfig()
    a = np.zeros((20, 24, 24), np.uint8)
    a[4:16, 4:16, 4:16] = PARENCHYMA
    small, large = a.copy(), a.copy()
    small[8:12, 8:12, 8:12] = RCC
    large[6:14, 6:14, 6:14] = RCC
    spacing_mm = (1.0, 1.0, 1.0)
    efforts = [expected_effort_s(a, other, spacing_mm, config) for other in (a, small, large)]
    assert efforts[0] == config.look_over_s
    assert efforts[0] < efforts[1] < efforts[2]


def test_views_that_agree_cost_a_look_and_views_that_differ_cost_their_difference():
    config = AnnotatorConfig()
    a = np.zeros((20, 24, 24), np.uint8)
    a[4:16, 4:16, 4:16] = PARENCHYMA
    b = a.copy()
    b[6:14, 6:14, 6:14] = RCC
    sure = [np.eye(6)[labels] for labels in (a, b)]
    spacing_mm = (1.0, 1.0, 1.0)
    same = score_of([sure[0], sure[0]], spacing_mm, config)
    assert same == Score(config.look_over_s, 0.0, 0.0, frozenset({"parenchyma"}))
    score = score_of([sure[0], sure[0], sure[1]], spacing_mm, config)
    assert score.effort_s == pytest.approx(
        (config.look_over_s + expected_effort_s(a, b, spacing_mm, config)) / 2
    )
    assert score.disagreement == pytest.approx(disagreement(a, b) / 2)
    assert score.structures == {"parenchyma"}
    unsure = 0.5 * sure[0] + 0.5 / 6
    assert score_of([unsure, unsure], spacing_mm, config).entropy == pytest.approx(mean_entropy(unsure))
    with pytest.raises(ValueError, match="need two views or more, got 1"):
        score_of(sure[:1], spacing_mm, config)


def test_kidneys_of_a_case_add_up():
    kidneys = [
        Score(60.0, 0.25, 0.5, frozenset({"artery"})),
        Score(30.0, 0.75, 0.25, frozenset({"rcc"})),
    ]
    assert together(kidneys) == Score(90.0, 0.5, 0.375, frozenset({"artery", "rcc"}))
    assert together([]) == Score()
    assert together([kidneys[0], replace(kidneys[1], effort_s=None)]).effort_s is None


def test_structures_are_named():
    labels = np.zeros((2, 2, 2), np.uint8)
    assert structures_in(labels) == frozenset()
    labels[0, 0] = ARTERY, RCC
    assert structures_in(labels) == {"artery", "rcc"}


def test_the_default_is_what_the_kept_rows_say():
    """Fewer simulated minutes than a list and than random order, for every seed; else the list."""
    file = Path(__file__).parents[1] / "benchmarks" / "results" / "query.csv"
    walks: dict[tuple[str, str], list[Point]] = {}
    with open(file, newline="") as stream:
        for row in csv.DictReader(stream):
            point = Point(int(row["kidneys"]), float(row["minutes"]), float(row["dsc"]))
            walks.setdefault((row["strategy"], row["seed"]), []).append(point)
    seeds = sorted({seed for _, seed in walks})
    assert len(seeds) >= 3
    for target in (0.6, 0.62, 0.64):
        minutes = {s: [minutes_to(walks[s, seed], target) for seed in seeds] for s in STRATEGIES}
        winners = [
            strategy
            for strategy in STRATEGIES
            if all(
                a is not None and (b is None or a < b)
                for base in ("listed", "random")
                if base != strategy
                for a, b in zip(minutes[strategy], minutes[base], strict=True)
            )
        ]
        assert winners in ([], [DEFAULT])
