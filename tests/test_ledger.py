"""The ledger: every line chained, torn ends named, nothing lost between writers."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest

from kidseg_jax.labelling.events import (
    ClockEvent,
    LabelEvent,
    RepairEvent,
    TimeEvent,
    content_hash,
    seconds_between,
)
from kidseg_jax.labelling.ledger import GENESIS, append, read_ledger


def label_event(case="case_00000", structure="artery", **changes) -> LabelEvent:
    event = LabelEvent(
        case=case,
        structure=structure,
        origin="manual",
        stage=1,
        label="sha256:00",
        annotator="Zoë",
        tool="slicer",
        simulated=False,
        active_s=61.5,
    )
    return replace(event, **changes)


def filled(path, n=4):
    return append(path, [label_event(f"case_{i:05d}") for i in range(n)])


def test_what_goes_in_comes_out(tmp_path):
    path = tmp_path / "run" / "ledger.jsonl"
    assert read_ledger(path).head == GENESIS
    events = [
        label_event(),
        label_event(origin="cnn", model="sha256:aa", active_s=None),
        label_event(origin="cnn_corrected", parent="sha256:bb", voxels_added=3, voxels_removed=4),
        ClockEvent("case_00000", "manual", 1, "A", "2024-01-01T10:00:00+00:00", "vein"),
        TimeEvent("case_00000", "manual", 1, "A", "clock", 12.25, "vein"),
    ]
    append(path, events[:2])
    written = append(path, events[2:])
    chain = read_ledger(path)
    assert [line.event for line in chain.lines] == events
    assert chain == written and chain.torn is None
    assert chain.events(TimeEvent) == events[4:]
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [r["previous"] for r in records] == [GENESIS, *(r["hash"] for r in records[:-1])]


def test_once_writes_only_what_is_new(tmp_path):
    path = tmp_path / "ledger.jsonl"
    events = [label_event(f"case_{i}") for i in range(5)]
    append(path, events[:3], once=True)
    append(path, [*events, events[4]], once=True)
    assert read_ledger(path).events(LabelEvent) == events


def test_a_cut_at_every_byte_is_named_and_mended(tmp_path):
    path = tmp_path / "ledger.jsonl"
    whole = filled(path, 3)
    data = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(0, len(data), 7):
        path.write_bytes(data[:cut])
        chain = read_ledger(path)
        kept = sum(end <= cut for end in ends)
        assert chain.lines == whole.lines[:kept]
        at_an_end = cut in (0, *ends)
        assert (chain.torn is None) == at_an_end
        assert at_an_end or f"line {kept + 1} is torn" in str(chain.torn)
        again = append(path, [label_event("next")])
        assert read_ledger(path) == again and again.torn is None
        dropped = [RepairEvent(kept + 1, data[:cut].decode().split("\n")[-1])] * (not at_an_end)
        assert [line.event for line in again.lines[kept:]] == [*dropped, label_event("next")]


def test_every_change_in_the_middle_is_found(tmp_path):
    path = tmp_path / "ledger.jsonl"
    filled(path)
    rows = path.read_bytes().splitlines(keepends=True)
    changes = {
        "a word": [rows[0], rows[1].replace(b"manual", b"cnn"), *rows[2:]],
        "a time": [rows[0], rows[1].replace(b"61.5", b"6.5"), *rows[2:]],
        "a line cut out": [rows[0], *rows[2:]],
        "two lines swapped": [rows[0], rows[2], rows[1], rows[3]],
        "a line twice": [rows[0], rows[1], rows[1], *rows[2:]],
        "not JSON": [rows[0], b"{\n", *rows[2:]],
        "the last line": [*rows[:3], rows[3].replace(b"61.5", b"1.5")],
    }
    for what, changed in changes.items():
        path.write_bytes(b"".join(changed))
        with pytest.raises(ValueError, match=r"ledger.jsonl: line \d"):
            pytest.fail(f"{what} was not found: {read_ledger(path)}")
        before = path.read_bytes()
        with pytest.raises(ValueError, match=r"ledger.jsonl: line \d"):
            append(path, [label_event()])
        assert path.read_bytes() == before


def test_lines_cut_off_at_the_end_change_the_head(tmp_path):
    path = tmp_path / "ledger.jsonl"
    head = filled(path).head
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:-1]))
    shorter = read_ledger(path)
    assert shorter.torn is None and shorter.head != head
    assert all(line.hash != head for line in shorter.lines)


def _write_many(path, who):
    for i in range(10):
        append(path, [label_event(f"{who}_{i}")])


def test_writers_in_many_processes_lose_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    writers = [get_context("spawn").Process(target=_write_many, args=(path, who)) for who in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    cases = [event.case for event in read_ledger(path).events(LabelEvent)]
    assert sorted(cases) == sorted(f"{who}_{i}" for who in range(4) for i in range(10))


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_writer_leaves_a_ledger_that_goes_on(tmp_path, seed):
    path = tmp_path / "ledger.jsonl"
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; from test_ledger import append, label_event\n"
        "for i in range(10**6): append(sys.argv[1], [label_event(str(i)), label_event(str(i), 'vein')])"
    )
    here = os.path.dirname(__file__)
    writer = subprocess.Popen([sys.executable, "-c", code, str(path), here, os.path.dirname(here)])
    while not (path.exists() and path.stat().st_size > 2000):
        assert writer.poll() is None
        time.sleep(0.01)
    time.sleep(np.random.default_rng(seed).uniform(0, 0.1))
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    append(path, [label_event("last")])
    chain = read_ledger(path)
    cases = [e.case for e in chain.events(LabelEvent) if e.structure == "artery"]
    assert cases == [*map(str, range(len(cases) - 1)), "last"]


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path):
    path = tmp_path / "ledger.jsonl"
    filled(path)
    before = path.read_bytes()
    code = (
        "import sys, resource, signal; sys.path[:0] = sys.argv[2:]\n"
        "from test_ledger import append, label_event\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 100},) * 2)\n"
        "try: append(sys.argv[1], [label_event('too much')])\n"
        "except OSError as error: print('OSError', error.errno)"
    )
    here = os.path.dirname(__file__)
    arguments = [sys.executable, "-c", code, str(path), here, os.path.dirname(here)]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert said.startswith("OSError")
    assert path.read_bytes() == before


def test_a_hash_is_of_the_voxels_not_of_their_container():
    labels = np.random.default_rng(0).integers(0, 6, (3, 4, 5), dtype=np.uint8)
    assert content_hash(labels) == content_hash(np.asfortranarray(labels.astype(np.int16)))
    assert content_hash(labels) == content_hash(labels[::-1][::-1])
    changed = labels.copy()
    changed[2, 3, 4] ^= 1
    others = (changed, labels.reshape(3, 5, 4), labels[:, :, :4])
    assert len({content_hash(a) for a in (labels, *others)}) == 4
    with pytest.raises(TypeError, match="need an array of integers, got float32"):
        content_hash(labels.astype(np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"structure": "aorta"}, "structure: need one of artery, vein"),
        ({"origin": "guessed"}, "origin: need one of"),
        ({"origin": "cnn_corrected"}, "a cnn_corrected label has a parent"),
        ({"parent": "sha256:00"}, "a cnn_corrected label has a parent and no other has"),
        ({"origin": "cnn"}, "a cnn label needs the hash of its model"),
        ({"origin": "cnn", "model": "sha256:00", "blind": True}, "only a manual label is blind"),
        ({"active_s": -1.0}, "active_s: must be finite and not negative, got -1"),
        ({"opened": "yesterday"}, "opened: need ISO 8601"),
        ({"opened": "2024-01-01T10:00:00"}, "opened: need ISO 8601 with an offset"),
        (
            {"opened": "2024-01-01T10:00:00+00:00", "submitted": "2024-01-01T10:00:00+01:00"},
            "submitted must not come before opened",
        ),
    ],
)
def test_events_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        label_event(**changes)


def test_seconds_between_knows_offsets():
    assert seconds_between("2024-01-01T10:00:00+00:00", "2024-01-01T11:00:30+01:00") == 30
