"""One kidney's trip through a run: found once in each label map, whatever way its file is turned."""

from dataclasses import replace

import pytest
from small_cohort import SETTINGS, body, write_cohort

from kidseg_jax import stage
from kidseg_jax.cohort import split
from kidseg_jax.cohort.case import Case
from kidseg_jax.cohort.split import kidneys_of
from kidseg_jax.config import AnnotatorConfig
from kidseg_jax.imaging.structures import NAMES
from kidseg_jax.imaging.volume import Geometry, Volume, oriented
from kidseg_jax.staging.events import manual_events


def test_a_kidney_is_found_once_in_each_label_map(tmp_path, monkeypatch):
    """A run of two stages looks into the cohort's label maps and the corrected ones, once each."""
    looked_at, look = [], split.split_kidneys

    def counted(labels, *rest):
        looked_at.append(labels.shape)
        return look(labels, *rest)

    monkeypatch.setattr(split, "split_kidneys", counted)
    write_cohort(tmp_path / "cohort", 5, 5)
    out = tmp_path / "run"
    assert stage.main([*SETTINGS, "--data", str(tmp_path / "cohort"), "--out", str(out)]) == 0
    corrected = list((out / "stage_1" / "corrected").iterdir())
    assert corrected and len(looked_at) == 5 + len(corrected)


@pytest.mark.parametrize("code", ["RAS", "IPL", "PIR", "ALS"])
def test_minutes_by_hand_do_not_depend_on_how_the_file_is_turned(code):
    ct, labels = (Volume(volume.array, Geometry(volume.array.shape, (8.0, 5.0, 3.0))) for volume in body(0))
    plain = Case("c", "p", ct, labels, frozenset(NAMES))
    turned = replace(plain, ct=oriented(ct, code), labels=oriented(labels, code))
    events, same = (manual_events(case, kidneys_of(case), AnnotatorConfig()) for case in (plain, turned))
    assert [event.active_s for event in same] == [event.active_s for event in events]
    assert all(event.active_s for event in events)
