"""What strangers and bad luck cannot do to the server: open files, take memory, keep others out, disagree."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

import anyio
from fuzz_server import fuzz, memory_mb, served
from serving import CASES, GRID, Client, make_study, prediction, raw_request, serving

from kidseg_jax.config import NetConfig
from kidseg_jax.formats.volumes import read_ct, read_labels, write_volume
from kidseg_jax.imaging.structures import N_CLASSES, RCC
from kidseg_jax.imaging.volume import Volume
from kidseg_jax.labelling.corrected import versions
from kidseg_jax.labelling.events import ClockEvent, LabelEvent, now
from kidseg_jax.labelling.ledger import append, read_ledger
from kidseg_jax.labelling.rest import connections, presence
from kidseg_jax.labelling.rest.brake import FREE_TRIES, MOST_ADDRESSES, Brake, same
from kidseg_jax.labelling.rest.presence import Presence
from kidseg_jax.labelling.server import make_app
from kidseg_jax.network.cascade import predict
from kidseg_jax.network.models import N_COARSE, Models, load_models, save_models
from kidseg_jax.network.origin import TrainedOn
from kidseg_jax.network.unet import make_unet
from kidseg_jax.rundir import RunDirectory

IDLE = [sys.executable, "-c", "pass"]
TOKEN = "a secret of enough length"


@pytest.fixture
def stage(tmp_path):
    return make_study(tmp_path / "run")


@pytest.fixture
def client(stage):
    with serving(make_app(stage.parent, IDLE)) as client:
        yield client


@pytest.fixture
def label(tmp_path):
    path = tmp_path / "label.nrrd"
    write_volume(path, improved())
    return path


def improved(seed: int = 0) -> Volume:
    labels = prediction().array.copy()
    labels[3:5, 4:6, 4 : 6 + seed] = RCC
    return Volume(labels, GRID)


def nothing_kept(stage: Path) -> bool:
    corrected = stage / "corrected"
    return (
        not (corrected.exists() and any(corrected.iterdir())) and not (stage.parent / "ledger.jsonl").exists()
    )


OPENED: list[str] = []
sys.addaudithook(lambda name, values: OPENED.append(str(values[0])) if name == "open" else None)


@pytest.mark.parametrize(
    "detached", ["data file: SECRET", "data file: ../secret", "data file: LIST\nSECRET", "mha"]
)
def test_an_upload_never_leads_to_another_file(client, stage, tmp_path, detached: str):
    """The secret has as many bytes as the label map voxels, and each is a structure's."""
    secret = tmp_path / "secret"
    secret.write_bytes(improved().array.tobytes())
    nrrd = tmp_path / "whole.nrrd"
    write_volume(nrrd, improved())
    lines = nrrd.read_bytes().partition(b"\n\n")[0].split(b"\n")
    head = b"\n".join(line for line in lines if not line.startswith(b"encoding")) + b"\nencoding: raw\n"
    upload = tmp_path / ("label.mha" if detached == "mha" else "label.nrrd")
    if detached == "mha":
        sizes, spacing, origin = (
            " ".join(map(str, v[::-1])) for v in (GRID.shape, GRID.spacing_mm, GRID.origin_mm)
        )
        upload.write_text(
            f"ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementSpacing = {spacing}\n"
            f"Offset = {origin}\nElementType = MET_UCHAR\nElementDataFile = {secret}\n"
        )
    else:
        upload.write_bytes(head + detached.replace("SECRET", str(secret)).encode() + b"\n")
    OPENED.clear()
    status, answer = client.save_label(CASES[0], upload)
    assert status == 400 and answer["detail"] and str(secret) not in OPENED and nothing_kept(stage)


def small_models(path: Path) -> None:
    net = NetConfig(features=(2, 2), patch=(8, 8, 8), spacing_mm=8.0)
    coarse, fine = make_unet(net, N_COARSE, 0)[1], make_unet(net, N_CLASSES, 0)[1]
    save_models(path, Models(net, net, coarse, fine, TrainedOn("phantoms", "none")))


def test_a_ct_that_is_sent_is_bounded_before_memory_is_taken_and_segmented_elsewhere(tmp_path):
    """A megabyte of .nii.gz claims and holds a gigabyte of zeros; the server hardly grows."""
    good, bomb = tmp_path / "ct.nii.gz", tmp_path / "bomb.nii.gz"
    hu = np.random.default_rng(0).integers(-200, 200, GRID.shape)
    write_volume(good, Volume(hu.astype(np.int16), GRID))
    header = bytearray(gzip.decompress(good.read_bytes())[:352])
    header[42:48] = np.array([1000, 1000, 500], "<i2").tobytes()
    with gzip.GzipFile(bomb, "wb", 1) as stream:
        stream.write(header)
        for _ in range(100):
            stream.write(bytes(10_000_000))
    with served(tmp_path, "--unpacked-mb", "100") as (server, port):
        small_models(tmp_path / "run" / "stage_1" / "models.safetensors")
        client, before_mb = Client(port), memory_mb(server.pid, "VmRSS")
        for path, expected in ((bomb, 400), (good, 200)):
            fields = {"params": json.dumps({"result_extension": ".nii.gz"})}
            status, _, body = client.multipart("POST", "/infer/kidseg?output=image", fields, {"file": path})
            assert status == expected, body
            assert memory_mb(server.pid, "VmHWM") - before_mb < 100
        (tmp_path / "labels.nii.gz").write_bytes(body)
        models = load_models(tmp_path / "run" / "stage_1" / "models.safetensors")
        made = read_labels(tmp_path / "labels.nii.gz").array
        assert np.array_equal(made, predict(models, read_ct(good)).labels.array)
        assert not list((tmp_path / "run" / "uploads").iterdir())


def test_a_label_that_claims_more_than_its_ct_takes_no_memory(tmp_path):
    """A megabyte of .mha that holds a gigabyte of zeros took 9 GB before its grid was looked at."""
    bomb = tmp_path / "bomb.mha"
    head = "NDims = 3\nCompressedData = True\nDimSize = 1000 1000 300\nElementSpacing = 1 1 1\n"
    packed = zlib.compress(bytes(300_000_000), 1)
    bomb.write_bytes(f"{head}ElementType = MET_UCHAR\nElementDataFile = LOCAL\n".encode() + packed)
    with served(tmp_path) as (server, port):
        client, before_mb = Client(port), memory_mb(server.pid, "VmRSS")
        status, answer = client.save_label(CASES[0], bomb)
        assert status == 400 and "claims 300000000 voxels" in answer["detail"]
        assert memory_mb(server.pid, "VmHWM") - before_mb < 50


def test_bodies_without_files_are_small(client):
    status, answer = client.json(
        "POST", "/activelearning/listed", {"client_id": "anna", "more": "x" * (4 << 20)}
    )
    assert status == 413 and "a request may hold" in answer["detail"]


HEAD = b"PUT /datastore/label?image=case_00001 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
STALLED = HEAD + b"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 100000\r\n\r\n--B\r\n"


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.parametrize("text", [b"", HEAD, STALLED])
def test_connections_that_say_nothing_keep_nobody_out(stage, label, text: bytes, token: str | None):
    with serving(make_app(stage.parent, IDLE, token=token)) as client:
        held = []
        for _ in range(3 * connections.MOST_OF_ADDRESS):
            held.append(socket.create_connection(("127.0.0.1", client.port), timeout=60))
            held[-1].sendall(text)
        known = Client(client.port, headers={"Authorization": f"Bearer {token}"})
        for _ in range(3):
            assert known.json("GET", "/info/")[0] == 200
        assert known.save_label(CASES[0], label)[0] == 200
        for connection in held:
            connection.close()


@pytest.mark.parametrize("start", [b"", HEAD, STALLED])
def test_a_client_that_is_too_slow_is_cut_off(stage, monkeypatch, start: bytes):
    """Slowloris: a byte now and then, for the head or the body of a request that never ends."""
    for name, value in {"HEAD_S": 0.3, "STALLED_S": 5.0, "SLOW_S": 0.3, "LOOK_S": 0.05}.items():
        monkeypatch.setattr(connections, name, value)
    with serving(make_app(stage.parent, IDLE)) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=0.05) as connection:
            connection.sendall(start)
            is_open = True
            for _ in range(600):
                try:
                    connection.sendall(b"x")
                    is_open = connection.recv(1) != b""
                except TimeoutError:
                    continue
                except ConnectionError:
                    is_open = False
                if not is_open:
                    break
            assert not is_open
        assert client.json("GET", "/info/")[0] == 200


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_a_stalled_upload_does_not_hold_up_the_end(tmp_path, how: signal.Signals, code: int):
    with (
        served(tmp_path) as (server, port),
        socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
    ):
        connection.sendall(STALLED)
        assert Client(port).json("GET", "/info/")[0] == 200
        server.send_signal(how)
        assert server.wait(60) == code
    assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.parametrize("line", ["Host: [", "Host: [::1", "Host: 127.0.0.1\r\nOrigin: http://["])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_headers_that_cannot_be_read_are_refused(stage, line: str, token: str | None):
    with serving(make_app(stage.parent, IDLE, token=token)) as client:
        more = f"{line}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        assert raw_request(client.port, b"GET /info/ HTTP/1.1\r\n" + more.encode()).split()[1] == b"400"


@pytest.mark.parametrize("host", ["127.0.0.2", "127.1.2.3:80", "[::1]", "localhost"])
def test_every_name_of_this_machine_is_its_own(client, host: str):
    assert client.ask("GET", "/info/", host=host)[0] == 200
    assert client.ask("GET", "/info/", host=f"{host.partition(':')[0]}.example.org")[0] in (400, 403)


NOT_JSON = (
    '{"label_info": [{"name": "artery", "idx": Infinity}]}',
    '{"label_info": [{"name": "artery", "idx": NaN}]}',
    '{"label_info": [{"name": "artery", "idx": 1e400}]}',
    '{"label_info": [{"name": "artery", "idx": 1.5}]}',
    '{"label_info": [{"name": "artery", "idx": 1' + "0" * 400 + "}]}",
    '{"a":' * 200_000 + "1" + "}" * 200_000,
    '{"client_id": "\\ud800"}',
    '{"client_id": "\\u001b[2Janna"}',
    '{"client_id": "anna\\u202egnp"}',
    '{"client_id": "' + "x" * 81 + '"}',
)


@pytest.mark.parametrize("params", NOT_JSON, ids=lambda text: text[:40])
def test_parameters_that_cannot_be_said_back_are_refused(client, stage, label, params: str):
    """Nor do they leave a file without its line: the label goes in with the next try, once."""
    selector = f"/datastore/label?image={CASES[0]}&tag=final"
    status, _, body = client.multipart("PUT", selector, {"params": params}, {"label": label})
    assert status == 400 and json.loads(body)["detail"] and nothing_kept(stage)
    asked = {"content_type": "application/json"}
    is_of_label = params.startswith('{"label_info') and not any(
        w in params for w in ("Infinity", "NaN", "e400")
    )
    expected = 200 if is_of_label else 400
    assert client.ask("POST", "/activelearning/listed", params, **asked)[0] == expected
    assert client.save_label(CASES[0], label)[0] == 200
    assert len(versions(stage / "corrected", CASES[0])) == 1


def test_an_image_that_was_moved_away_is_not_found(client, stage):
    (stage / "to_correct" / f"{CASES[0]}.nii.gz").unlink()
    assert client.ask("GET", f"/datastore/image?image={CASES[0]}")[0] == 404


def test_a_case_that_was_finished_since_it_was_ranked_is_not_given_out():
    done = {"a"}
    held = Presence(600.0)
    assert held.take_next("anna", ["a", "b"], lambda case: case not in done) == "b"
    assert held.take_next("anna", ["a"], lambda case: case not in done) is None
    held.touch("anna", "a")
    assert held.take_next("anna", ["a"], lambda case: case not in done) is None


def test_twenty_clients_are_never_offered_what_is_finished(tmp_path):
    cases = tuple(f"case_{i:05}" for i in range(60))
    stage = make_study(tmp_path / "run", cases, ())
    label, finished, wrong = tmp_path / "label.nrrd", set(), []
    write_volume(label, improved())

    def work(i: int) -> None:
        client = Client(port, f"person {i}")
        for _ in range(len(cases)):
            before = set(finished)
            case = client.next_sample("listed")[1].get("id")
            if case is None:
                return
            if case in before:
                wrong.append(case)
            assert client.save_label(case, label)[0] == 200
            finished.add(case)

    with serving(make_app(stage.parent, IDLE)) as client:
        port = client.port
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(work, range(20)))
    assert not wrong and finished == set(cases)
    assert all(len(versions(stage / "corrected", case)) == 1 for case in cases)


def test_a_full_disk_leaves_no_label_without_its_line(stage, label, small_disk):
    ledger = stage.parent / "ledger.jsonl"
    append(ledger, [ClockEvent("x", "manual", 1, f"{i}", now()) for i in range(200)])
    with serving(make_app(stage.parent, IDLE)) as client:
        assert ledger.stat().st_size > 50_000
        small_disk(ledger.stat().st_size + 10)
        status, answer = client.save_label(CASES[0], label)
        small_disk(-1)
        assert status == 507 and "nothing was kept" in answer["detail"]
        assert not versions(stage / "corrected", CASES[0]) and not read_ledger(ledger).events(LabelEvent)
        assert not list((stage / "corrected").iterdir())
        for _ in range(2):
            assert client.save_label(CASES[0], label)[0] == 200
    assert len(versions(stage / "corrected", CASES[0])) == 1
    assert len(read_ledger(ledger).events(LabelEvent)) == 3


def test_guesses_of_the_token_are_braked_and_its_holder_is_not_locked_out():
    at = [0.0]

    async def sleep(seconds: float) -> None:
        at[0] += seconds

    async def guess() -> None:
        brake = Brake(TOKEN, clock=lambda: at[0], sleep=sleep)
        for i in range(FREE_TRIES + 50):
            assert await brake.opens(f"guess {i}", "10.0.0.1") is False
        assert at[0] > 40
        began = at[0]
        assert await brake.opens(TOKEN, "10.0.0.2") is True and at[0] == began
        assert await brake.opens(TOKEN, "10.0.0.1") is True and at[0] <= began + 1
        at[0] += 1000.0
        began = at[0]
        for i in range(FREE_TRIES):
            assert await brake.opens(f"guess {i}", "10.0.0.1") is False
        assert at[0] == began
        for i in range(2 * MOST_ADDRESSES):
            assert await brake.opens("guess", f"10.1.{i // 256}.{i % 256}") is False
        assert len(brake._tries) <= MOST_ADDRESSES

    anyio.run(guess)
    assert same(TOKEN, TOKEN) and not same(TOKEN + "x", TOKEN) and not same("\ud800", TOKEN)


def test_guesses_of_one_network_at_once_are_not_compared_beyond_their_turn():
    async def never(seconds: float) -> None:
        await anyio.sleep_forever()

    async def guess() -> None:
        brake = Brake(TOKEN, clock=lambda: 0.0, sleep=never)
        for i in range(FREE_TRIES + 60):
            with anyio.move_on_after(0.001):
                await brake.opens("guess", f"2001:db8::{i + 1:x}")
        with anyio.fail_after(60):
            assert await brake.opens(TOKEN, "2001:db8::ffff") is None
        assert await brake.opens(TOKEN, "2001:db8:1::1") is True

    anyio.run(guess)


def test_the_brake_stands_before_both_ways_to_show_a_token(stage, monkeypatch):
    compared = []
    monkeypatch.setattr("kidseg_jax.labelling.rest.brake.same", lambda a, b: compared.append(a) or same(a, b))
    with serving(make_app(stage.parent, IDLE, token=TOKEN)) as client:
        kind = {"content_type": "application/x-www-form-urlencoded"}
        assert client.ask("POST", "/auth/token", "password=wrong", **kind)[0] == 401
        assert (
            Client(client.port, headers={"Authorization": "Bearer wrong too"}).ask("GET", "/info/")[0] == 401
        )
    assert compared == ["wrong", "wrong too"]


def test_running_times_are_bounded(tmp_path):
    file, at = tmp_path / "presence.json", [0.0]
    held = Presence(600.0, file, clock=lambda: at[0])
    held.touch("first", "a")
    for i in range(presence.MOST_RUNNING):
        at[0] += 1.0
        held._touched[f"client {i}", "a"] = (now(), 0.0, at[0])
    at[0] += 1.0
    held.touch("last", "a")
    kept = {row["client"] for row in json.loads(file.read_text())["running"]}
    assert len(kept) <= presence.MOST_RUNNING + 1 and "first" not in kept and "last" in kept


def test_what_a_killed_server_left_is_swept_and_what_lives_is_not(stage):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    (stage / "corrected").mkdir()
    left = [
        stage / "corrected" / f".{dead.pid}.0123456789abcdef.seg.nrrd",
        stage.parent / "uploads" / "x" / "upload.nrrd",
    ]
    kept = [
        stage / "corrected" / f".{os.getpid()}.0123.seg.nrrd",
        stage / "corrected" / "case_00001.seg.nrrd",
    ]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with RunDirectory(stage.parent).served():
        assert not any(path.exists() for path in left) and all(path.exists() for path in kept)


def test_some_hundreds_of_random_requests(tmp_path):
    found = fuzz(400, 1_000_000, tmp_path)
    assert found["requests"] == 400
