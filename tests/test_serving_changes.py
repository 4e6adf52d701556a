"""A server that takes changes: with the token alone, each request a commit; and several processes on one store."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import numpy as np
import pytest

import fasthash as fh

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")
pytest.importorskip("httpx", reason="needs httpx")

from fastapi.testclient import TestClient

from fasthash.serving import Limits, Writing, make_app

TOKEN = "a token of the tests"
SHOWN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def folder(tmp_path):
    with fh.Store(tmp_path / "photos.fhs", "w", n_bits=64) as store:
        store.add(np.arange(80, dtype=np.uint8).reshape(10, 8), keys=[f"{i}.jpg" for i in range(10)])
        store.commit()
    return tmp_path / "photos.fhs"


@pytest.fixture
def client(folder):
    writing = Writing(folder, TOKEN)
    with TestClient(make_app(fh.Store(folder), Limits(changes=5), writing=writing), headers=SHOWN) as client:
        yield client
    writing.close()


def test_add_and_remove(client, folder):
    answer = client.post("/add", json={"codes": ["ff" * 8, "fe" * 8], "keys": ["new.jpg", "b.jpg"]})
    assert answer.json() == {"ids": [10, 11], "commit": 2}
    (row,) = client.post("/search", json={"codes": ["ff" * 8], "k": 1}).json()["results"]  # at once
    assert row == [{"id": 10, "distance": 0, "key": "new.jpg"}]
    assert client.post("/remove", json={"keys": ["new.jpg", "3.jpg"]}).json() == {"commit": 3}
    assert client.post("/remove", json={"ids": [11]}).json() == {"commit": 4}
    reader = fh.Store(folder)
    assert len(reader) == 9
    assert "new.jpg" not in reader
    with pytest.raises(BlockingIOError):
        fh.Store(folder, "w")


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN} ", f"Bearer {TOKEN[:-1]}"]
)
def test_the_token_is_needed(folder, header):
    writing = Writing(folder, TOKEN)
    headers = {} if header is None else {"Authorization": header}
    with TestClient(make_app(fh.Store(folder), writing=writing)) as client:
        for path in ("/add", "/remove"):
            answer = client.post(path, content=b"{", headers=headers)  # refused before it is looked at
            assert answer.status_code == 401
        assert client.get("/healthz", headers=headers).json()["commit"] == 1
    writing.close()


def test_without_a_writer_there_are_no_changes(folder):
    with TestClient(make_app(fh.Store(folder)), headers=SHOWN) as client:
        for path in ("/add", "/remove"):
            answer = client.post(path, content=b"{")
            assert answer.status_code == 404
            assert answer.json() == {"error": "the server was started without --writable, and takes no changes"}
            assert path not in client.get("/openapi.json").json()["paths"]
    with pytest.raises(ValueError, match="token must have at least 16 characters, got 3"):
        Writing(folder, "abc")


REFUSED = {
    "keys must be new": ("/add", {"codes": ["00" * 8], "keys": ["3.jpg"]}),
    "codes of a request must be 1 to 5, got 6": ("/add", {"codes": ["00" * 8] * 6, "keys": list("abcdef")}),
    "codes of a request must be 1 to 5, got 0": ("/add", {"codes": [], "keys": []}),
    "codes must have 8 bytes, got 1": ("/add", {"codes": ["00"], "keys": ["a"]}),
    "codes must be given": ("/add", {"keys": ["a"]}),
    "give either keys or ids": ("/remove", {}),
    "does not hold 'x'": ("/remove", {"keys": ["x"]}),
    "does not hold 77": ("/remove", {"ids": [77]}),
    "entries of a request must be 1 to 5, got 6": ("/remove", {"ids": [1, 2, 3, 4, 5, 6]}),
    "keys must be of the kind str": ("/remove", {"keys": [3]}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_changes_change_nothing(client, message):
    path, body = REFUSED[message]
    answer = client.post(path, json=body)
    assert answer.status_code == (404 if "does not hold" in message else 422), answer.text
    assert message in answer.json()["error"]
    assert client.get("/healthz").json() == {"status": "ok", "codes": 10, "commit": 1}


def test_a_failed_commit_leaves_nothing_behind(client, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fh.Store, "commit", full)
        answer = client.post("/add", json={"codes": ["ff" * 8], "keys": ["lost.jpg"]})
    assert answer.status_code == 503
    assert "No space left" in answer.json()["error"]
    assert client.post("/add", json={"codes": ["ff" * 8], "keys": ["kept.jpg"]}).json()["ids"] == [10]
    assert client.post("/search", json={"keys": ["lost.jpg"]}).status_code == 404


@pytest.mark.parametrize("keys", [None, [b"\xff", b"a"], [uuid.UUID(int=1), uuid.UUID(int=2)], [-5, 2**40]])
def test_other_kinds_of_keys(tmp_path, keys):
    with fh.Store(tmp_path / "s", "w", n_bits=8) as store:
        store.add(np.array([[0], [1]], np.uint8), keys=keys)
        store.commit()
    new = {bytes: "c0ff", uuid.UUID: str(uuid.UUID(int=9)), int: 2**60}.get(type(keys and keys[0]))
    writing = Writing(tmp_path / "s", TOKEN)
    with TestClient(make_app(fh.Store(tmp_path / "s"), writing=writing), headers=SHOWN) as client:
        assert client.post("/add", json={"codes": ["ff"]} | ({"keys": [new]} if keys else {})).json()["ids"] == [2]
        assert client.post("/remove", json={"keys": [new]} if keys else {"ids": [2]}).json() == {"commit": 3}
    writing.close()
    assert len(fh.Store(tmp_path / "s")) == 2


# ---- processes ----


def answer_of(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return json.load(response)
    except (OSError, urllib.error.URLError):
        return None


def test_several_processes_serve_one_store(folder):
    pytest.importorskip("typer", reason="needs the extra cli")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fasthash", "serve", str(folder), "--workers", "2", "--port", str(port)]
    server = subprocess.Popen(command, start_new_session=True)
    try:
        while answer_of(f"http://127.0.0.1:{port}/healthz") is None:
            assert server.poll() is None
            time.sleep(0.1)
        with fh.Store(folder, "w") as store:
            store.add(np.zeros((1, 8), np.uint8), keys=["new.jpg"])
            store.commit()
        seen = 0
        while seen < 20:  # by both, soon
            seen = seen + 1 if (answer_of(f"http://127.0.0.1:{port}/healthz") or {}).get("commit") == 2 else 0
            time.sleep(0.05)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def test_refused_options(folder, monkeypatch):
    typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash.cli import app

    run = typer_testing.CliRunner().invoke
    result = run(app, ["serve", str(folder), "--writable", "--workers", "2"])
    assert (result.exit_code, "--writable excludes --workers" in result.output) == (2, True)
    monkeypatch.delenv("FASTHASH_TOKEN", raising=False)
    result = run(app, ["serve", str(folder), "--writable"])
    assert (result.exit_code, "needs a token in the environment variable" in result.output) == (1, True)
    monkeypatch.setenv("FASTHASH_TOKEN", "short")
    result = run(app, ["serve", str(folder), "--writable"])
    assert (result.exit_code, "at least 16 characters, got 5" in result.output) == (1, True)
