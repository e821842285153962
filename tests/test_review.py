"""Review mode of the server over a real socket: approve, send back, who, and what must not be possible."""

import json
import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from serving import Client, serving
from small_cohort import body, write_cohort

from kidseg_jax.cli.app import main
from kidseg_jax.formats.volumes import write_volume
from kidseg_jax.labelling.events import ReviewEvent, content_hash
from kidseg_jax.labelling.ledger import read_ledger
from kidseg_jax.labelling.review import open_review
from kidseg_jax.labelling.review_server import make_review_app

TOKEN = "a token of many letters"


@pytest.fixture
def folder(tmp_path):
    write_cohort(tmp_path / "data", 4, 3)
    return tmp_path / "data"


@pytest.fixture
def client(folder):
    with serving(make_review_app(open_review(folder))) as client:
        yield client


def decide(client, case, decision="approved", **more):
    return client.json(
        "POST", "/review/decision", {"case": case, "decision": decision, "client_id": "anna", **more}
    )


def reviews(folder):
    return read_ledger(folder / "ledger.jsonl").events(ReviewEvent)


def test_only_labelled_cases_wait(client):
    status, states = client.json("GET", "/review/cases")
    assert status == 200
    assert [one["case"] for one in states] == ["case_00000", "case_00001", "case_00002"]
    assert all(one["decision"] is None and one["findings"] == [] for one in states)


def test_a_decision_is_a_line_of_the_ledger_that_names_the_label_and_who(client, folder):
    status, state = decide(client, "case_00001", "sent_back", note="vein ends too early\nsee slice 12")
    assert status == 200 and state["decision"] == "sent_back" and state["reviewer"] == "anna"
    label = content_hash(body(1)[1].array)
    assert reviews(folder) == [
        ReviewEvent("case_00001", label, "sent_back", "anna", "vein ends too early\nsee slice 12")
    ]
    decide(client, "case_00001", "approved")
    assert [one.decision for one in reviews(folder)] == ["sent_back", "approved"]
    _, states = client.json("GET", "/review/cases")
    assert [one["decision"] for one in states] == [None, "approved", None]


def test_the_next_case_is_one_without_decision(client):
    assert client.next_sample("review")[1]["id"] == "case_00000"
    decide(client, "case_00000")
    assert client.next_sample("review")[1]["id"] == "case_00001"
    for case in ("case_00001", "case_00002"):
        decide(client, case)
    assert client.next_sample("review") == (200, {})
    assert client.next_sample("effort")[0] == 404
    assert client.json("GET", "/info/")[1]["datastore"]["completed"] == 3


def test_a_label_that_changed_since_is_not_approved_unseen(client, folder):
    status, headers, image = client.ask("GET", "/review/picture?case=case_00000")
    assert status == 200 and image.startswith(b"\x89PNG")
    seen = headers["label"]
    assert seen == content_hash(body(0)[1].array)
    assert decide(client, "case_00000", label=seen)[0] == 200
    write_volume(folder / "case_00000" / "segmentation.npz", body(7)[1])
    assert client.json("GET", "/review/cases")[1][0]["decision"] is None
    status, said = decide(client, "case_00000", label=seen)
    assert status == 400 and "has changed" in said["detail"]
    assert len(reviews(folder)) == 1


@pytest.mark.parametrize(
    "body_, said",
    [
        ({"case": "case_00000", "decision": "maybe", "client_id": "anna"}, "need one of"),
        ({"case": "case_00000", "decision": "approved"}, "name of who"),
        ({"case": "case_00000", "decision": "approved", "client_id": "anna\x1b[2J"}, "characters that print"),
        ({"case": "case_00000", "decision": "approved", "client_id": "anna", "note": "x" * 2001}, "2000"),
        ({"case": "case_00000", "decision": "approved", "client_id": "anna", "note": "\x1b[2J"}, "print"),
        ({"case": "case_00000", "decision": "approved", "client_id": "anna", "note": 3}, "need text"),
        ({"case": "../case_00000", "decision": "approved", "client_id": "anna"}, "no case"),
        ({"case": "case_00003", "decision": "approved", "client_id": "anna"}, "no case"),
        ([1], "JSON object"),
    ],
)
def test_what_is_no_decision_is_refused_and_nothing_is_written(client, folder, body_, said):
    status, answer = client.json("POST", "/review/decision", body_)
    assert status in (400, 404) and said in answer["detail"]
    assert not (folder / "ledger.jsonl").exists()


def test_files_are_those_of_the_folder_and_nothing_is_drawn_or_trained(client, folder):
    case = folder / "case_00002"
    for kind, name in (("image", "imaging.npz"), ("label", "segmentation.npz")):
        status, _, data = client.ask("GET", f"/datastore/{kind}?image=case_00002")
        assert status == 200 and data == (case / name).read_bytes()
    for method, path in (
        ("PUT", "/datastore/label?image=case_00000"),
        ("DELETE", "/datastore/image"),
        ("POST", "/infer/kidseg?image=case_00000"),
        ("POST", "/train/kidseg"),
    ):
        assert client.ask(method, path)[0] == 403
    assert client.ask("GET", "/datastore/image?image=..%2F..%2Fetc")[0] == 404


def test_other_hosts_and_pages_of_other_sites_are_refused(client, folder):
    assert client.ask("GET", "/review/cases", host="evil.example")[0] == 403
    text = json.dumps({"case": "case_00000", "decision": "approved", "client_id": "anna"})
    assert client.ask("POST", "/review/decision", text, origin="http://evil.example")[0] == 403
    assert client.ask("POST", "/review/decision", b"{" + b" " * (5 << 20) + b"}")[0] == 413
    assert reviews(folder) == []


def test_with_a_token_only_the_empty_page_is_open(folder):
    with serving(make_review_app(open_review(folder), token=TOKEN)) as client:
        for path in ("/", "/review.js"):
            status, headers, text = client.ask("GET", path)
            assert status == 200 and b"case_0" not in text
            assert "default-src 'none'" in headers["content-security-policy"]
        for path in ("/review/cases", "/review/picture?case=case_00000", "/datastore/image?image=case_00000"):
            assert client.ask("GET", path)[0] == 401
        allowed = Client(client.port, headers={"Authorization": f"Bearer {TOKEN}"})
        assert allowed.json("GET", "/review/cases")[0] == 200


def test_the_page_asks_nobody_else_and_writes_no_html_from_data(client):
    page, script = (client.ask("GET", path)[2].decode() for path in ("/", "/review.js"))
    assert not re.search(r"https?://", page + script)
    assert "innerHTML" not in script and "eval" not in script


def test_an_audit_says_the_order_and_what_is_odd(folder):
    found = [{"text": "labels mirrored against the CT"}]
    cases = [
        {"case": "case_00002", "score": 7.5, "findings": found},
        {"case": "gone", "score": 9, "findings": []},
    ]
    (folder / "audit").mkdir()
    (folder / "audit" / "audit.json").write_text(json.dumps({"cases": cases}))
    states = open_review(folder).states()
    assert [one["case"] for one in states] == ["case_00002", "case_00000", "case_00001"]
    assert states[0]["score"] == 7.5 and states[0]["findings"] == ["labels mirrored against the CT"]
    (folder / "audit" / "audit.json").write_text('{"cases": [{"case": 1}]}')
    with pytest.raises(ValueError, match="need what audit writes"):
        open_review(folder)


def test_a_broken_ledger_is_refused_before_anybody_decides(folder):
    (folder / "ledger.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    with pytest.raises(ValueError, match="chain"):
        open_review(folder)


def test_a_full_disk_keeps_no_half_decision(client, folder, small_disk):
    assert decide(client, "case_00000")[0] == 200
    before = (folder / "ledger.jsonl").read_bytes()
    small_disk(len(before) + 10)
    status, _ = decide(client, "case_00001")
    small_disk(-1)
    assert status == 507
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert decide(client, "case_00001")[0] == 200 and len(reviews(folder)) == 2


def test_the_process_serves_without_jax_and_ends_in_order(folder):
    code = "import sys; from kidseg_jax.cli.app import main; main(sys.argv[1:]); print('jax' in sys.modules)"
    argv = [sys.executable, "-c", code, "serve", "--review", str(folder), "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.split()[-1]
        with urllib.request.urlopen(f"{address}/review/cases", timeout=30) as answer:
            assert len(json.load(answer)) == 3
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().strip().endswith("False")


@pytest.mark.parametrize(
    "argv, said",
    [
        ([], "either a run directory or --review"),
        (["run", "--review", "data"], "either a run directory or --review"),
        (["--review", "nowhere"], "no such folder"),
        (["--review", "data", "--host", "0.0.0.0", "--token-file", "short"], "at least 16"),
    ],
)
def test_what_cannot_be_reviewed_is_said_in_one_line(folder, monkeypatch, capsys, argv, said):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "short").write_text("short")
    assert main(["serve", *argv]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line


def test_a_folder_without_labels_has_nothing_to_review(tmp_path):
    write_cohort(tmp_path, 1, 0)
    with pytest.raises(ValueError, match="found none"):
        open_review(tmp_path)
    assert np.all([path.name != "ledger.jsonl" for path in tmp_path.iterdir()])
