"""The replay harness on a learner whose arithmetic is known."""

import numpy as np
import pytest
from query import Point, minutes_to, replay, verdict

from kidseg_jax.labelling.query import Score, Strategy

WORTH = {"a": 0.05, "b": 0.30, "c": 0.10, "d": 0.20}


class Arithmetic:
    """A model is the set of cases it has seen; its DSC is 0.2 and their worth; correcting takes 60 s."""

    def __init__(self):
        self.fitted = []

    def fit(self, labels):
        self.fitted.append(tuple(labels))
        return frozenset(labels)

    def measure(self, model):
        return 0.2 + sum(WORTH.get(case, 0.0) for case in sorted(model))

    def look(self, model, case):
        assert case not in model
        return f"prediction of {case}", Score(effort_s=WORTH[case], disagreement=-WORTH[case])

    def correct(self, case, predicted):
        assert predicted == f"prediction of {case}"
        return f"truth of {case}", 60.0


def walk(strategy, batch=1, enough_dsc=1.0):
    learner = Arithmetic()
    rng = np.random.default_rng(0)
    return replay({"start": "truth"}, tuple(WORTH), learner, strategy, batch, rng, enough_dsc), learner


def test_the_most_work_first_reaches_the_target_first():
    points, learner = walk("effort")
    assert [point.dsc for point in points] == pytest.approx([0.2, 0.5, 0.7, 0.8, 0.85])
    assert [point.minutes for point in points] == [0, 1, 2, 3, 4]
    assert [point.cases for point in points] == [1, 2, 3, 4, 5]
    assert learner.fitted[-1] == ("start", "b", "d", "c", "a")
    assert minutes_to(points, 0.6) == pytest.approx(1.5)
    listed, _ = walk("listed")
    least, _ = walk("disagreement")
    assert minutes_to(listed, 0.6) == pytest.approx(2.5)
    assert minutes_to(least, 0.6) == pytest.approx(3 + 0.05 / 0.3)
    assert points[-1] == listed[-1] == least[-1]


def test_a_replay_ends_where_it_has_reached_enough():
    points, learner = walk("effort", enough_dsc=0.6)
    assert [point.dsc for point in points] == pytest.approx([0.2, 0.5, 0.7])
    assert len(learner.fitted) == 3
    assert minutes_to(points, 0.6) == minutes_to(walk("effort")[0], 0.6)


def test_a_replay_ends_after_its_rounds():
    rng = np.random.default_rng(0)
    points = replay({"start": "truth"}, tuple(WORTH), Arithmetic(), "effort", 1, rng, most_rounds=2)
    assert [point.cases for point in points] == [1, 2, 3]


def test_batches_fit_once_each():
    points, learner = walk("listed", batch=3)
    assert [point.cases for point in points] == [1, 4, 5]
    assert learner.fitted == [("start",), ("start", "a", "b", "c"), ("start", "a", "b", "c", "d")]
    with pytest.raises(ValueError, match="a batch needs 1 case or more, got 0"):
        walk("listed", batch=0)


def test_minutes_to_a_target_that_is_met_at_once_or_never():
    points = [Point(1, 0.0, 0.5), Point(2, 10.0, 0.4), Point(3, 20.0, 0.6)]
    assert minutes_to(points, 0.5) == 0.0
    assert minutes_to(points, 0.55) == pytest.approx(17.5)
    assert minutes_to(points, 0.7) == float("inf")


def test_the_verdict_needs_every_seed():
    never = float("inf")
    minutes: dict[Strategy, tuple[float, ...]] = {
        "listed": (10.0, 10.0, never),
        "effort": (5.0, 9.0, 7.0),
        "random": (1.0, 11.0, 1.0),
    }
    assert verdict(minutes) == "effort saves 30 % of the minutes of listed, n = 3 seeds"
    assert verdict({"listed": (10.0, 1.0), "random": (5.0, 2.0)}) == (
        "no strategy beats listed for every one of 2 seeds"
    )
