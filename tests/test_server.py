"""The MONAI Label protocol over a real socket: what clients ask, and what must not hurt the server."""

import importlib.util
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from serving import CASES, GRID, Client, make_study, prediction, raw_request, serving

from kidseg_jax.cli.app import main
from kidseg_jax.cli.serve import listen
from kidseg_jax.config import NetConfig
from kidseg_jax.formats.volumes import read_labels, write_volume
from kidseg_jax.imaging.structures import N_CLASSES, RCC
from kidseg_jax.imaging.volume import Geometry, Volume
from kidseg_jax.labelling.corrected import versions
from kidseg_jax.labelling.events import LabelEvent, TimeEvent, content_hash
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.labelling.query import DEFAULT
from kidseg_jax.labelling.rest.presence import Presence
from kidseg_jax.labelling.rest.store import has_checksum
from kidseg_jax.labelling.returned import accepted_in, check_corrected
from kidseg_jax.labelling.server import make_app
from kidseg_jax.network.models import N_COARSE, Models, save_models
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.network.unet import make_unet
from kidseg_jax.rundir import RunDirectory

IDLE = [sys.executable, "-c", "pass"]


def improved(seed=0):
    labels = prediction(seed).array.copy()
    labels[3:5, 4:6, 4:6] = RCC
    return Volume(labels, GRID)


@pytest.fixture
def stage(tmp_path):
    return make_study(tmp_path / "run")


@pytest.fixture
def client(stage):
    with serving(make_app(stage.parent, IDLE)) as client:
        yield client


@pytest.fixture
def label(tmp_path):
    """A corrected label as Slicer writes it to disk before it sends it."""
    path = tmp_path / "label of anna.nrrd"
    write_volume(path, improved())
    return path


def test_info_says_what_the_extension_groups_by(client):
    status, info = client.json("GET", "/info/")
    assert status == 200
    assert info["labels"] == ["artery", "vein", "ureter", "parenchyma", "rcc"]
    assert info["models"]["kidseg"]["type"] == "segmentation"
    assert info["models"]["kidseg"]["labels"]["rcc"] == 5
    assert set(info["strategies"]) == {"listed", "random", "effort"}
    assert next(iter(info["strategies"])) == DEFAULT  # the extension begins with the first
    assert info["datastore"] == {"total": 3, "completed": 0, "label_tags": {"final": 0, "original": 2}}
    assert {"name", "description", "version", "trainers", "scoring", "train_stats"} <= info.keys()


def test_a_person_goes_through_the_list(client, stage, label):
    seen = []
    for _ in CASES:
        _, sample = client.next_sample()
        case = sample["id"]
        seen.append(case)
        assert os.path.samefile(sample["path"], stage / "to_correct" / f"{case}.nii.gz")
        status, headers, body = client.ask("GET", f"/datastore/image?image={case}")
        assert status == 200 and body == (stage / "to_correct" / f"{case}.nii.gz").read_bytes()
        assert f'filename="{case}.nii.gz"' in headers["content-disposition"]
        status, answer = client.save_label(case, label)
        assert status == 200 and answer["image"] == case and answer["label"]
    assert tuple(seen) == CASES
    assert client.next_sample() == (200, {})
    _, info = client.json("GET", "/info/")
    assert info["datastore"]["completed"] == 3
    checked = check_corrected(stage / "to_correct", stage / "corrected")
    assert checked.is_complete


def test_a_prediction_comes_as_the_client_parses_it(client, tmp_path):
    for ending in (".nrrd", ".nii.gz", ".seg.nrrd"):
        status, params, (name, data) = client.infer(CASES[1], result_extension=ending, result_dtype="uint8")
        assert status == 200 and name == f"{CASES[1]}{ending}"
        assert params["label_names"] == {"artery": 1, "vein": 2, "ureter": 3, "parenchyma": 4, "rcc": 5}
        assert params["latencies"]["total"] >= 0
        (tmp_path / name).write_bytes(data)
        labels = read_labels(tmp_path / name)
        assert labels.array.dtype == np.uint8 and np.array_equal(labels.array, prediction(1).array)
        assert labels.geometry.is_close(GRID)
    status, headers, body = client.ask("POST", f"/infer/kidseg?image={CASES[1]}&output=image")
    assert status == 200 and body.startswith(b"NRRD") and "attachment" in headers["content-disposition"]
    assert client.json("POST", f"/infer/kidseg?image={CASES[1]}&output=json")[1]["model"] == "kidseg"
    assert client.infer(CASES[1], result_extension=".exe")[0] == 400
    assert client.ask("POST", f"/infer/other?image={CASES[1]}")[0] == 404


def test_a_blind_case_shows_no_prediction(client, stage, label):
    status, params, file = client.infer(CASES[2])
    assert status == 200 and file is None and "labelled from nothing" in params["blind"]
    assert client.ask("GET", f"/datastore/label?label={CASES[2]}&tag=original")[0] == 404
    assert client.save_label(CASES[2], label)[0] == 200
    events = read_ledger(stage.parent / "ledger.jsonl").events(LabelEvent)
    assert {(e.origin, e.blind, e.parent) for e in events} == {("manual", True, None)}


def test_a_submitted_label_is_a_new_version_with_its_lines_in_the_ledger(client, stage, tmp_path):
    case = CASES[0]
    client.next_sample()
    for i in (0, 1, 1):
        path = tmp_path / f"label{i}.nii.gz"
        write_volume(path, improved(i))
        assert client.save_label(case, path)[0] == 200
    paths = versions(stage / "corrected", case)
    assert [path.name for path in paths] == [f"{case}.seg.nrrd", f"{case}.2.seg.nrrd"]
    assert [np.array_equal(read_labels(p).array, improved(i).array) for i, p in enumerate(paths)] == [
        True,
        True,
    ]
    chain = read_ledger(stage.parent / "ledger.jsonl")
    hashes = [content_hash(improved(i).array) for i in (0, 1)]
    first = [e for e in chain.events(LabelEvent) if e.label == hashes[0]]
    assert {e.structure for e in first} == {"artery", "parenchyma", "rcc"}
    assert {e.label for e in chain.events(LabelEvent)} == set(hashes)
    rcc = next(e for e in first if e.structure == "rcc")
    assert rcc.parent == content_hash(prediction(0).array)
    assert (rcc.voxels_added, rcc.annotator, rcc.tool, rcc.stage) == (8, "anna", "monailabel", 1)
    assert not rcc.simulated and rcc.opened is not None and rcc.submitted is not None
    (time_event,) = chain.events(TimeEvent)  # the case was opened once; what came after has no time
    assert (time_event.source, time_event.structure, time_event.annotator) == ("server", None, "anna")
    assert 0 <= time_event.active_s < 60
    assert accepted_in(chain, 1) == {case}


def test_the_listed_order_is_that_of_the_names_and_not_of_the_work(tmp_path):
    stage = make_study(tmp_path / "run", tuple(reversed(CASES)), ())
    with serving(make_app(stage.parent, IDLE)) as client:
        assert client.next_sample("effort")[1]["id"] == CASES[2]
        assert Client(client.port, "bert").next_sample("listed")[1]["id"] == CASES[0]


def test_label_info_says_which_value_is_which(client, stage, tmp_path):
    labels = improved().array
    written = np.zeros_like(labels)
    for value, mask in ((3, labels == 1), (1, labels == 4), (9, labels == 5)):
        written[mask] = value
    path = tmp_path / "label.nrrd"
    write_volume(path, Volume(written, GRID))
    info = [{"name": "artery", "idx": 3}, {"name": "parenchyma", "idx": 1}, {"name": "rcc", "idx": 9}]
    assert client.save_label(CASES[0], path, params={"label_info": info})[0] == 200
    assert np.array_equal(read_labels(stage / "corrected" / f"{CASES[0]}.seg.nrrd").array, labels)
    status, answer = client.save_label(CASES[0], path, params={"label_info": info[:2]})
    assert status == 400 and "got label 9 without a name" in answer["detail"]


def test_bad_labels_are_refused_and_the_server_goes_on(client, stage, label, tmp_path):
    (tmp_path / "text.nrrd").write_text("not a label map")
    (tmp_path / "cut.nii.gz").write_bytes(b"\x1f\x8b\x08")
    (tmp_path / "label.exe").write_bytes(b"MZ")
    write_volume(tmp_path / "empty.nrrd", Volume(np.zeros(GRID.shape, np.uint8), GRID))
    elsewhere = Geometry(GRID.shape, GRID.spacing_mm, (0.0, 0.0, 0.0))
    write_volume(tmp_path / "elsewhere.nrrd", Volume(improved().array, elsewhere))
    for name, reason in {
        "text.nrrd": "not a NRRD file",
        "cut.nii.gz": "upload.nii.gz",
        "label.exe": "need a file ending in",
        "empty.nrrd": "holds no structure",
        "elsewhere.nrrd": "must lie on one grid",
    }.items():
        status, answer = client.save_label(CASES[0], tmp_path / name)
        assert status == 400 and reason in answer["detail"] and "\n" not in answer["detail"]
        assert str(stage) not in answer["detail"]
    assert client.multipart("PUT", f"/datastore/label?image={CASES[0]}", {"params": "{}"}, {})[0] == 400
    assert (
        client.multipart("PUT", f"/datastore/label?image={CASES[0]}", {"params": "[1]"}, {"label": label})[0]
        == 400
    )
    assert client.ask("PUT", f"/datastore/label?image={CASES[0]}", b"x", content_type="text/plain")[0] == 400
    assert client.ask("POST", "/activelearning/effort", b"{", content_type="application/json")[0] == 400
    assert not (stage / "corrected").exists() or not any((stage / "corrected").iterdir())
    assert not (stage.parent / "ledger.jsonl").exists()
    assert client.save_label(CASES[0], label)[0] == 200


@pytest.mark.parametrize(
    "name",
    ["../stage_1/list", "..%2f..%2frun.json", "/etc/passwd", "case_00001/../case_00002", "", "%00", "case"],
)
def test_no_name_leaves_the_list(client, stage, label, name):
    before = sorted(stage.parent.parent.rglob("*"))
    for method, path in (
        ("GET", "/datastore/image?image="),
        ("HEAD", "/datastore/image?image="),
        ("GET", "/datastore/label?tag=final&label="),
        ("GET", "/datastore/image/info?image="),
        ("POST", "/infer/kidseg?image="),
    ):
        assert client.ask(method, path + name)[0] == 404
    status, _ = client.save_label(name, label)
    assert status == 404
    assert client.save_label(CASES[0], label, tag="../x")[0] == 400
    assert sorted(stage.parent.parent.rglob("*")) == before


def test_an_uploads_own_file_name_decides_nothing_but_its_ending(client, stage, tmp_path):
    label = tmp_path / "label.nrrd"
    write_volume(label, improved())
    body = (
        b'--B\r\nContent-Disposition: form-data; name="label"; filename="../../../evil.nrrd"\r\n\r\n'
        + label.read_bytes()
        + b"\r\n--B--\r\n"
    )
    selector = f"/datastore/label?image={CASES[0]}&tag=final"
    status, _, _ = client.ask("PUT", selector, body, content_type="multipart/form-data; boundary=B")
    assert status == 200
    assert not list(tmp_path.rglob("evil*"))
    assert (stage / "corrected" / f"{CASES[0]}.seg.nrrd").exists()


def test_two_clients_get_two_cases_and_lose_nothing(client, stage, tmp_path):
    others = [Client(client.port, name) for name in ("anna", "bert")]
    first = [other.next_sample()[1]["id"] for other in others]
    assert first[0] != first[1]

    def submit(i):
        path = tmp_path / f"{i}.nrrd"
        labels = improved(0)
        labels.array[0, 0, i] = RCC
        write_volume(path, labels)
        return others[i % 2].save_label(CASES[0], path)[0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(submit, range(16))) == [200] * 16
    paths = versions(stage / "corrected", CASES[0])
    assert len(paths) == 16
    known = {e.label for e in read_ledger(stage.parent / "ledger.jsonl").events(LabelEvent)}
    assert known == {content_hash(read_labels(path).array) for path in paths} and len(known) == 16
    assert {path.name for path in (stage / "corrected").iterdir()} == {path.name for path in paths}


def test_datastore_lists_what_there_is(client, stage, label):
    client.save_label(CASES[0], label)
    status, everything = client.json("GET", "/datastore/?output=all")
    assert status == 200 and set(everything["objects"]) == set(CASES)
    assert set(everything["objects"][CASES[0]]["labels"]) == {"original", "final"}
    assert everything["objects"][CASES[2]]["image"] == {
        "ext": ".nii.gz",
        "info": {"blind": True, "expected_s": 598.0},
    }
    assert client.json("GET", "/datastore/")[1]["completed"] == 1
    (pair,) = client.json("GET", "/datastore/?output=train")[1]
    assert all((stage / path).exists() for path in pair.values())
    status, headers, body = client.ask("GET", f"/datastore/label?label={CASES[0]}&tag=final")
    assert status == 200 and body == (stage / "corrected" / f"{CASES[0]}.seg.nrrd").read_bytes()
    assert f'filename="{CASES[0]}.seg.nrrd"' in headers["content-disposition"]
    assert client.ask("GET", f"/datastore/label?label={CASES[1]}&tag=final")[0] == 404
    assert client.ask("HEAD", f"/datastore/label?image={CASES[0]}&tag=final")[0] == 200
    assert client.json("GET", f"/datastore/label/info?label={CASES[0]}&tag=final")[1]["versions"]
    assert client.json("GET", "/datastore/?output=other")[0] == 400


def test_the_dataset_is_a_zip_that_is_not_left_behind(client, label, tmp_path, monkeypatch):
    import io
    import tempfile
    import zipfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert client.ask("GET", "/datastore/dataset")[0] == 400
    client.save_label(CASES[0], label)
    status, _, body = client.ask("GET", "/datastore/dataset")
    assert status == 200
    names = set(zipfile.ZipFile(io.BytesIO(body)).namelist())
    assert names == {f"image/{CASES[0]}.nii.gz", f"label/{CASES[0]}.seg.nrrd"}
    deadline = time.monotonic() + 180
    while any((tmp_path / "temporary").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any((tmp_path / "temporary").iterdir())


def test_cases_and_labels_are_neither_added_nor_removed(client, label):
    assert client.multipart("PUT", "/datastore/?image=new", {"params": "{}"}, {"file": label})[0] == 403
    assert client.ask("DELETE", f"/datastore/label?id={CASES[0]}&tag=final")[0] == 403
    assert client.ask("DELETE", f"/datastore/image?id={CASES[0]}")[0] == 403
    assert client.ask("PUT", "/session/")[0] == 406
    assert client.ask("GET", "/batch/infer/?check_if_running=true")[0] == 404
    assert client.ask("GET", "/scoring/?check_if_running=true")[0] == 404
    assert client.json("GET", "/auth/") == (200, {"enabled": False, "client_id": "kidseg_jax", "realm": ""})
    assert client.ask("GET", "/no/such/route")[0] == 404


def test_another_tag_is_kept_beside_and_does_not_count(client, stage, label):
    assert client.save_label(CASES[0], label, tag="draft")[0] == 200
    assert (stage / "saved_draft" / f"{CASES[0]}.seg.nrrd").exists()
    assert client.json("GET", "/datastore/")[1]["completed"] == 0
    assert not (stage.parent / "ledger.jsonl").exists()


def test_training_runs_once_at_a_time_with_live_details(stage, label, tmp_path):
    go = tmp_path / "go"
    code = (
        "import sys, time, pathlib\nfor i in range(30): print('step', i, flush=True)\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
    )
    with serving(make_app(stage.parent, [sys.executable, "-c", code])) as client:
        assert client.ask("GET", "/train/?check_if_running=true")[0] == 404
        assert client.ask("GET", "/train/")[0] == 404
        status, refusal = client.json("POST", "/train/kidseg", {})
        assert status == 429 and "no case is corrected yet" in refusal["detail"]
        client.save_label(CASES[0], label)
        status, job = client.json("POST", "/train/kidseg", {"client_id": "anna"})
        assert status == 200 and job["status"] == "RUNNING" and job["request"]["model"] == "kidseg"
        assert client.json("POST", "/train/kidseg", {})[0] == 429
        deadline = time.monotonic() + 180
        while (
            len(details := client.json("GET", "/train/")[1]["details"]) < 20 and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        assert details == [f"step {i}" for i in range(10, 30)]
        assert client.ask("GET", "/train/?check_if_running=true")[0] == 200
        go.touch()
        while client.ask("GET", "/train/?check_if_running=true")[0] == 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        done = client.json("GET", "/train/")[1]
        assert done["status"] == "DONE" and done["id"] == job["id"] and done["end_ts"] >= done["start_ts"]
        go.unlink()
        assert client.json("POST", "/train/", None)[0] == 200
        assert client.json("DELETE", "/train/")[1]["status"] == "STOPPED"


def test_training_that_ends_with_a_new_list_is_done(stage, label, tmp_path):
    """A stage that is not the last ends with the code of a run that waits for people."""
    make_study(tmp_path / "next", ("case_00009",), ())
    move = f"mv {tmp_path / 'next' / 'stage_1'} {stage.parent / 'stage_2'}; exit 3"
    with serving(make_app(stage.parent, ["sh", "-c", move])) as client:
        client.save_label(CASES[0], label)
        deadline = time.monotonic() + 180
        assert client.json("POST", "/train/kidseg", {})[0] == 200
        while client.json("GET", "/train/")[1]["status"] == "RUNNING" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.json("GET", "/train/")[1]["status"] == "DONE"
        assert client.next_sample()[1]["id"] == "case_00009"


def test_training_that_fails_says_so_and_can_be_tried_again(stage, label):
    with serving(
        make_app(stage.parent, [sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    ) as client:
        client.save_label(CASES[0], label)
        for _ in range(2):
            deadline = time.monotonic() + 180
            assert client.json("POST", "/train/kidseg", {})[0] == 200
            while client.json("GET", "/train/")[1]["status"] == "RUNNING" and time.monotonic() < deadline:
                time.sleep(0.02)
            failed = client.json("GET", "/train/")[1]
            assert failed["status"] == "ERROR" and failed["details"] == ["why"]


def test_the_next_stage_is_served_once_its_list_stands(client, stage):
    later = stage.parent / "other"
    make_study(later, ("case_00009",), ())
    (later / "stage_1").rename(stage.parent / "stage_2")
    assert client.next_sample()[1]["id"] == "case_00009"
    assert "stage 1" in client.json("GET", "/info/")[1]["description"]  # as the list itself says


def test_a_broken_image_or_list_ends_nothing(client, stage, label):
    (stage / "to_correct" / f"{CASES[0]}.nii.gz").write_bytes(b"broken")
    (stage / "to_correct" / f"{CASES[0]}.seg.nrrd").write_bytes(b"broken")
    assert client.infer(CASES[0])[0] == 400
    assert client.save_label(CASES[0], label)[0] == 400
    assert client.save_label(CASES[1], label)[0] == 200
    whole = (stage / "to_correct" / "list.json").read_text()
    (stage / "to_correct" / "list.json").write_text("{")
    status, answer = client.json("GET", "/info/")
    assert status == 400 and "not a list of cases" in answer["detail"]
    (stage / "to_correct" / "list.json").write_text(whole)
    assert client.json("GET", "/info/")[0] == 200


def test_bodies_are_bounded_whether_or_not_they_say_their_length(stage, label):
    with serving(make_app(stage.parent, IDLE, largest_bytes=5000)) as client:
        start = (
            f"PUT /datastore/label?image={CASES[0]} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
            + b"Connection: close\r\n"
        )
        kind = b"Content-Type: multipart/form-data; boundary=B\r\n"
        said = raw_request(client.port, start + kind + b"Content-Length: 999999999999\r\n\r\n")
        assert b"413" in said.split(b"\r\n")[0]
        said = raw_request(client.port, start + kind + b"Content-Length: 5001\r\n\r\n" + b"x" * 5001)
        assert b"413" in said.split(b"\r\n")[0]
        head = b'--B\r\nContent-Disposition: form-data; name="label"; filename="a.nrrd"\r\n\r\n'
        chunks = b"%x\r\n%s\r\n" % (len(head), head) + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 8
        said = raw_request(
            client.port, start + kind + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        )
        assert b"413" in said.split(b"\r\n")[0]
        assert client.save_label(CASES[0], label)[0] == 200


def test_web_pages_and_foreign_names_are_kept_out_of_a_loopback_server(client):
    assert client.ask("GET", "/info/", host="rebound.example.org")[0] == 403
    assert client.ask("POST", "/train/", b"{}", origin="http://evil.example.org")[0] == 403
    assert client.ask("GET", "/info/", host=f"localhost:{client.port}")[0] == 200
    assert client.ask("GET", "/info/", origin=f"http://127.0.0.1:{client.port}")[0] == 200
    assert raw_request(client.port, b"GET /info/ HTTP/1.0\r\n\r\n").split(b"\r\n")[0].split()[1] == b"403"


def test_a_server_with_a_token_answers_who_shows_it(stage, label):
    token = "a secret of enough length"
    with serving(make_app(stage.parent, IDLE, token=token)) as client:
        assert client.json("GET", "/auth/")[1]["enabled"] is True
        assert client.json("GET", "/info/")[0] == 401
        assert client.save_label(CASES[0], label)[0] == 401
        assert client.ask("GET", "/auth/token/valid")[0] == 401
        form = "grant_type=password&username=anna&password="
        asked = {"content_type": "application/x-www-form-urlencoded"}
        assert client.ask("POST", "/auth/token", form + "wrong", **asked)[0] == 401
        status, _, body = client.ask("POST", "/auth/token", form + token.replace(" ", "+"), **asked)
        given = json.loads(body)
        assert status == 200 and given["token_type"] == "bearer"
        known = Client(
            client.port, headers={"Authorization": f"{given['token_type']} {given['access_token']}"}
        )
        assert known.ask("GET", "/auth/token/valid")[0] == 200
        assert known.save_label(CASES[0], label)[0] == 200
        assert known.ask("GET", "/info/", host="kidseg.example.org")[0] == 200
        for wrong in ("Bearer", "Bearer x", f"Basic {token}", f"Bearer {token}x", "Bearer \xe9"):
            assert Client(client.port, headers={"Authorization": wrong}).ask("GET", "/info/")[0] == 401


def test_time_counts_up_to_the_idle_cut_off():
    ticks = iter([0.0, 100.0, 5000.0, 5000.0, 5050.0])
    presence = Presence(600.0, clock=lambda: next(ticks))
    for _ in range(3):
        presence.touch("anna", "case")
    assert presence.worked("anna", "case").active_s == 100 + 600 + 0  # type: ignore[union-attr]
    assert presence.worked("bert", "case") is None


def test_a_case_is_kept_for_its_person_until_the_cut_off():
    at = [0.0]
    presence = Presence(600.0, clock=lambda: at[0])
    assert [presence.take_next(who, ["a", "b"]) for who in ("anna", "bert", "anna", "carl")] == [
        "a",
        "b",
        "a",
        None,
    ]
    at[0] = 601.0
    assert presence.take_next("carl", ["a", "b"]) == "a"
    presence.leave("carl", "a")
    assert presence.take_next("dora", ["a"]) == "a"


def test_running_times_and_kept_cases_outlive_a_restart(tmp_path):
    file, at = tmp_path / "presence.json", [1000.0]
    before = Presence(600.0, file, clock=lambda: at[0])
    assert before.take_next("anna", ["a", "b"]) == "a"
    before.touch("bert", "b")
    before.leave("bert", "b")
    at[0] += 40.0
    before.touch("anna", "a")
    opened = before.worked("anna", "a").opened  # type: ignore[union-attr]
    at[0] = 3.0  # the clock of another process
    after = Presence(600.0, file, clock=lambda: at[0])
    at[0] += 20.0
    worked = after.worked("anna", "a")
    assert worked is not None and worked.opened == opened and 60 <= worked.active_s < 62
    assert after.worked("bert", "b") is None
    assert after.take_next("carl", ["a", "b"]) == "b"
    long_ago = json.loads(file.read_text()) | {"written": "2020-01-01T00:00:00+00:00"}
    file.write_text(json.dumps(long_ago))
    late = Presence(600.0, file, clock=lambda: at[0])
    assert late.worked("anna", "a").active_s == 40 + 600  # type: ignore[union-attr]
    assert late.take_next("carl", ["a", "b"]) == "a"
    file.write_text(json.dumps(long_ago | {"written": "2120-01-01T00:00:00+00:00"}))  # a clock set back
    assert Presence(600.0, file, clock=lambda: at[0]).worked("anna", "a").active_s < 80  # type: ignore[union-attr]
    assert Presence(600.0, file, {("anna", "a", opened)}).worked("anna", "a") is None
    for text in ("{", "[]", '{"written": "now", "running": []}', '{"written": null}'):
        file.write_text(text)
        with pytest.raises(ValueError, match="not the running times of a server; remove it"):
            Presence(600.0, file)


def test_a_server_that_starts_again_knows_since_when_a_case_is_open(stage, label):
    with serving(make_app(stage.parent, IDLE)) as client:
        case = client.next_sample()[1]["id"]
        (running,) = json.loads((stage.parent / "presence.json").read_text())["running"]
        assert (running["client"], running["case"]) == ("anna", case)
    with serving(make_app(stage.parent, IDLE)) as client:
        assert client.save_label(case, label)[0] == 200
    (time_event,) = read_ledger(stage.parent / "ledger.jsonl").events(TimeEvent)
    assert time_event.opened == running["opened"]
    held = stage.parent / "presence.json"
    assert json.loads(held.read_text())["running"] == []
    held.write_text(json.dumps({"written": running["opened"], "running": [running]}))  # killed before `leave`
    with serving(make_app(stage.parent, IDLE)) as client:
        assert client.save_label(case, label)[0] == 200
    assert read_ledger(stage.parent / "ledger.jsonl").events(TimeEvent) == [time_event]


def test_a_full_disk_costs_running_times_and_not_the_work(tmp_path, capsys, small_disk):
    presence = Presence(600.0, tmp_path / "presence.json")
    small_disk(120)
    assert presence.take_next("anna", ["a"]) == "a"
    small_disk(resource.RLIM_INFINITY)
    said = capsys.readouterr().err
    assert "a restart now would lose running times" in said and said.count("\n") == 1
    assert presence.worked("anna", "a") is not None and not list(tmp_path.iterdir())


def test_a_checksum_holds_for_every_digest(tmp_path):
    """Digests that begin with letters or digits of `SHA256:` too: stripping characters would damage those."""
    import hashlib

    path = tmp_path / "image"
    begins = set()
    for i in range(200):
        path.write_bytes(bytes([i]))
        digest = hashlib.sha256(bytes([i])).hexdigest()
        begins.add(digest[0])
        assert has_checksum(path, f"SHA256:{digest}") and has_checksum(path, digest)
        assert not has_checksum(path, f"SHA256:{digest[1:]}0")
    assert {"2", "5", "6"} <= begins
    with pytest.raises(ValueError, match="need SHA256, got 'MD5'"):
        has_checksum(path, "MD5:00")


def test_serve_at_the_command_line_says_what_a_model_of_phantoms_is_and_is_alone(stage, capsys):
    net = NetConfig(features=(2, 2), patch=(8, 8, 8), spacing_mm=8.0)
    coarse, fine = make_unet(net, N_COARSE, 0)[1], make_unet(net, N_CLASSES, 0)[1]
    models = stage / "models.safetensors"
    save_models(models, Models(net, net, coarse, fine, TrainedOn("phantoms", "none")))
    command = [sys.executable, "-m", "kidseg_jax", "serve", str(stage.parent), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        guard = threading.Timer(180, server.kill)
        guard.start()
        said = server.stdout.readline()
        guard.cancel()
        port = int(said.rsplit(":", 1)[1])
        assert said.startswith(f"serving {stage.parent} on http://127.0.0.1:")
        deadline = time.monotonic() + 180
        while True:
            try:
                assert Client(port).json("GET", "/info/")[0] == 200
                break
            except ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert main(["serve", str(stage.parent), "--port", "0"]) == 2
        said = capsys.readouterr().err
        assert said == f"kidseg_jax: {stage.parent}: another server serves this run; stop it first\n"
        with RunDirectory(stage.parent).held():  # the next stage can train meanwhile
            pass
    finally:
        server.send_signal(signal.SIGINT)  # Ctrl-C, as people end it
        _, warned = server.communicate(timeout=180)
    assert server.returncode == 0
    assert warned == f"kidseg_jax: {models}: was trained on phantoms only and is not for patients\n"


def test_serve_on_another_address_asks_for_the_token_that_it_prints(stage):
    command = [
        sys.executable,
        "-m",
        "kidseg_jax",
        "serve",
        str(stage.parent),
        "--port",
        "0",
        "--host",
        "0.0.0.0",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "KIDSEG_TOKEN"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        guard = threading.Timer(180, server.kill)
        guard.start()
        token, port = (server.stdout.readline().rsplit(mark, 1)[1].strip() for mark in (" ", ":"))
        guard.cancel()
        known = Client(int(port), headers={"Authorization": f"Bearer {token}"})
        deadline = time.monotonic() + 180
        while True:
            try:
                assert known.json("GET", "/info/")[0] == 200
                break
            except ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert Client(int(port)).json("GET", "/info/")[0] == 401
        assert Client(int(port)).ask("GET", f"/datastore/image?image={CASES[0]}")[0] == 401
    finally:
        server.terminate()
        server.communicate(timeout=180)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6 beside IPv4")
def test_every_address_of_both_families_is_listened_on():
    with listen("::", 0) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=10).close()


def test_serve_on_a_port_that_is_taken_is_one_line(stage, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", str(stage.parent), "--port", str(port)]) == 2
    said = f"kidseg_jax: serve: cannot listen on 127.0.0.1, port {port}: Address already in use\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_run"], "needs a stage with a list of cases to correct"),
        (["RUN", "--host", "example.org"], "--host must be an IP address or localhost"),
        (["RUN", "--port", "70000"], "--port must be 0 to 65535"),
        (["RUN", "--host", "0.0.0.0", "--token-file", "no_such_file"], "no_such_file"),
        (["RUN", "--host", "0.0.0.0", "--token-file", "SHORT"], "a token needs at least 16"),
    ],
)
def test_serve_refuses_in_one_line(stage, tmp_path, capsys, arguments: list[str], message: str):
    (tmp_path / "short").write_text("short\n")
    replaced = {"RUN": str(stage.parent), "SHORT": str(tmp_path / "short")}
    assert main(["serve", *(replaced.get(a, a) for a in arguments)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_the_stand_in_of_the_walk_through_does_a_persons_work(stage, tmp_path, capsys):
    path = Path(__file__).parents[1] / "docs" / "stand_in.py"
    spec = importlib.util.spec_from_file_location("stand_in", path)
    assert spec is not None and spec.loader is not None
    stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stand_in)
    for i, case in enumerate(CASES):
        write_volume(tmp_path / "truth" / f"{case}.nii.gz", improved(i % 3))
    token = "a secret of enough length"
    with serving(make_app(stage.parent, IDLE, token=token)) as client:
        assert stand_in.main(f"http://127.0.0.1:{client.port}", tmp_path / "truth", token) == 3
    assert f"{CASES[2]}: drawn from nothing" in capsys.readouterr().out
    checked = check_corrected(stage / "to_correct", stage / "corrected", accept_unchanged=True)
    assert checked.is_complete
    blind = next(case for case in checked.done if case.work.blind)
    assert blind.label == content_hash(improved(2).array)
