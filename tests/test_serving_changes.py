"""A server that takes changes: with the token alone, each request a commit; and several processes on one store."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
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

from fastapi import FastAPI
from fastapi.testclient import TestClient

from fasthash.serving import Limits, Writing, make_app
from fasthash.serving.middleware import EarlyToken

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


def test_update(client, folder):
    assert client.post("/update", json={"codes": ["ff" * 8, "00" * 8], "keys": ["3.jpg", "5.jpg"]}).json() == {
        "commit": 2
    }
    (row,) = client.post("/search", json={"codes": ["ff" * 8], "k": 1}).json()["results"]  # at once
    assert row == [{"id": 3, "distance": 0, "key": "3.jpg"}]
    body = {"codes": ["/" * 10 + "8="], "form": "base64", "ids": ["5"]}
    assert client.post("/update", json=body).json() == {"commit": 3}
    reader = fh.Store(folder)
    assert len(reader) == 10
    assert reader.reconstruct([3, 5]).tolist() == [[255] * 8] * 2


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer ", f"Bearer {TOKEN} ", f"Bearer {TOKEN[:-1]}"]
)
def test_the_token_is_needed(folder, header):
    writing = Writing(folder, TOKEN)
    headers = {} if header is None else {"Authorization": header}
    with TestClient(make_app(fh.Store(folder), writing=writing)) as client:
        for path in ("/add", "/update", "/remove"):
            answer = client.post(path, content=b"{", headers=headers)  # refused before it is looked at
            assert answer.status_code == 401
        assert client.get("/healthz", headers=headers).json()["commit"] == 1
    writing.close()


@pytest.mark.parametrize("early", [True, False], ids=["refused early", "refused by the routes"])
def test_the_token_is_needed_however_the_request_names_the_path(folder, monkeypatch, early):
    """The header Host, with which Starlette makes `request.url`, ends of lines, escapes, and a mounted application."""
    if not early:
        monkeypatch.setattr(EarlyToken, "__call__", lambda self, *arguments: self._app(*arguments))
    bodies = {
        "add": {"codes": ["ff" * 8], "keys": ["evil.jpg"]},
        "update": {"codes": ["ff" * 8], "keys": ["1.jpg"]},
        "remove": {"keys": ["1.jpg"]},
    }
    writing = Writing(folder, TOKEN)
    app = make_app(fh.Store(folder), writing=writing)
    outer = FastAPI()
    outer.mount("/below", app)
    with TestClient(app) as client, TestClient(outer) as other:
        for name, body in bodies.items():
            escaped = f"%{ord(name[0]):x}{name[1:]}"
            for path in (name, f"{name}%0A", f"{name}/", f"{name};x", escaped, f"x/../{name}", f"/x/{name}"):
                for host in ("127.0.0.1", "x?", "x/foo", "x#", "x/foo?a=", ""):
                    for where, prefix in ((client, "/"), (other, "/below/")):
                        answer = where.post(prefix + path, json=body, headers={"Host": host}, follow_redirects=False)
                        assert answer.status_code in (307, 400, 401, 404), (path, host)
                        assert answer.status_code == 401 or path not in (name, escaped)
        assert client.get("/healthz").json() == {"status": "ok", "codes": 10, "commit": 1}
        assert other.post("/below/remove", json=bodies["remove"], headers=SHOWN).json() == {"commit": 2}
    writing.close()


def test_without_a_writer_there_are_no_changes(folder):
    with TestClient(make_app(fh.Store(folder)), headers=SHOWN) as client:
        for path in ("/add", "/update", "/remove"):
            answer = client.post(path, content=b"{")
            assert answer.status_code == 404
            assert answer.json() == {"error": "the server was started without --writable, and takes no changes"}
            assert path not in client.get("/openapi.json").json()["paths"]


def test_tokens_that_no_request_can_show(folder):
    with pytest.raises(ValueError, match="token must have at least 16 characters, got 3"):
        Writing(folder, "abc")
    for token in ("ö" * 16, " " * 20, f" {TOKEN}", f"{TOKEN}\n", f"{TOKEN}\t{TOKEN}", f"{TOKEN}\udcff"):
        with pytest.raises(ValueError, match="token must be printable ASCII without spaces at its ends"):
            Writing(folder, token)
    Writing(folder, TOKEN).close()  # the refused ones have not locked the store


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
    "give either keys or ids ": ("/update", {"codes": ["00" * 8]}),
    "give either keys or ids  ": ("/update", {"codes": ["00" * 8], "keys": ["3.jpg"], "ids": [3]}),
    "does not hold 'y'": ("/update", {"codes": ["00" * 8] * 2, "keys": ["3.jpg", "y"]}),
    "does not hold 78": ("/update", {"codes": ["00" * 8], "ids": [78]}),
    "codes must be 2, one for each key or id, got 1": ("/update", {"codes": ["00" * 8], "ids": [3, 4]}),
    "keys must be distinct, got '3.jpg' twice": ("/update", {"codes": ["00" * 8] * 2, "keys": ["3.jpg", "3.jpg"]}),
    "codes of a request must be 1 to 5, got 7": ("/update", {"codes": ["00" * 8] * 7, "ids": list(range(7))}),
    "codes must have 8 bytes, got 2": ("/update", {"codes": ["0000"], "ids": [3]}),
    "ids must be from -9223372036854775808 to 9223372036854775807, got 18446744073709551616": (
        "/add",
        {"codes": ["00" * 8], "keys": ["a"], "ids": [2**64]},
    ),
    "ids must be from -9223372036854775808 to 9223372036854775807, got -18446744073709551616": (
        "/remove",
        {"ids": [-(2**64)]},
    ),
    "ids must be ids, got 'x'": ("/update", {"codes": ["00" * 8], "ids": ["x"]}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_changes_change_nothing(client, message):
    path, body = REFUSED[message]
    assert client.post(f"{path}?keys=a", json=body).status_code == 422
    answer = client.post(path, json=body)
    assert answer.status_code == (404 if "does not hold" in message else 422), answer.text
    assert message.strip() in answer.json()["error"]
    assert client.get("/healthz").json() == {"status": "ok", "codes": 10, "commit": 1}


def test_the_status_is_the_same_whatever_a_key_says(client):
    key = "keys must be in the store, but it does not hold 'x'"
    body = {"codes": ["ff" * 8], "keys": [key]}
    assert client.post("/remove", json={"keys": [key]}).status_code == 404
    assert client.post("/add", json=body).status_code == 200
    answer = client.post("/add", json=body)
    assert answer.status_code == 422
    assert answer.json() == {"error": f'keys must be new to the store, but it holds "{key}" already'}


def test_a_failed_commit_leaves_nothing_behind(client, monkeypatch):
    closed = fh.Store.close

    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    def closed_and_full(self):  # of a merge that has ended in the background
        closed(self)
        full(self)

    with monkeypatch.context() as patch:
        patch.setattr(fh.Store, "commit", full)
        patch.setattr(fh.Store, "close", closed_and_full)
        answer = client.post("/add", json={"codes": ["ff" * 8], "keys": ["lost.jpg"]})
    assert answer.status_code == 503
    assert "No space left" in answer.json()["error"]
    assert client.post("/add", json={"codes": ["ff" * 8], "keys": ["kept.jpg"]}).json()["ids"] == [10]
    assert client.post("/search", json={"keys": ["lost.jpg"]}).status_code == 404


def test_a_commit_that_cannot_be_opened_is_answered(folder, monkeypatch):
    """The change is on disk; searches see it later."""

    def short():
        raise MemoryError

    reader, writing = fh.Store(folder), Writing(folder, TOKEN)
    monkeypatch.setattr(reader, "refresh", short)
    with TestClient(make_app(reader, writing=writing), headers=SHOWN) as client:
        assert client.post("/remove", json={"keys": ["1.jpg"]}).json() == {"commit": 2}
    writing.close()


def test_too_many_and_too_slow(folder, monkeypatch):
    """Changes have slots of their own, and errors of their own."""
    goes_on, add = threading.Event(), Writing.add

    def slow(*arguments):
        assert goes_on.wait(60)
        return add(*arguments)

    monkeypatch.setattr(Writing, "add", slow)
    writing = Writing(folder, TOKEN)
    app = make_app(fh.Store(folder), Limits(at_once=1, seconds=0.2), writing=writing)
    with TestClient(app, headers=SHOWN) as client:
        body = {"codes": ["ff" * 8], "keys": ["new.jpg"]}
        answer = client.post("/add", json=body)
        assert (answer.status_code, answer.json()) == (504, {"error": "a change must take at most 0.2 s"})
        answer = client.post("/remove", json={"keys": ["1.jpg"]})
        assert answer.status_code == 503
        assert answer.json() == {"error": "changes at one time must be at most 1; try again"}
        goes_on.set()
    writing.close()


def test_after_its_end_the_writer_takes_no_change(folder):
    """A request may wait for its turn on a thread when the server stops."""
    writing = Writing(folder, TOKEN)
    with TestClient(make_app(fh.Store(folder), writing=writing), headers=SHOWN) as client:
        writing.close()
        for path, body in (("/add", {"codes": ["ff" * 8], "keys": ["late.jpg"]}), ("/remove", {"keys": ["1.jpg"]})):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.json()) == (503, {"error": "the server is stopping; try again"})
        writing.close()
        with fh.Store(folder, "w") as store:  # others can write
            assert len(store) == 10


def test_a_commit_that_fails_for_want_of_memory_leaves_nothing_behind(client, monkeypatch):
    def short(self):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(fh.Store, "commit", short)
        with pytest.raises(MemoryError):  # which a server answers with 500
            client.post("/add", json={"codes": ["ff" * 8], "keys": ["lost.jpg"]})
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


@pytest.mark.parametrize("path", ["/add", "/update", "/remove"])
def test_an_integer_beyond_the_kind_of_keys(tmp_path, path):
    with fh.Store(tmp_path / "s", "w", n_bits=8) as store:
        store.add(np.array([[0]], np.uint8), keys=np.array([7], np.uint64))
        store.commit()
    writing = Writing(tmp_path / "s", TOKEN)
    codes = {} if path == "/remove" else {"codes": ["ff"]}
    with TestClient(make_app(fh.Store(tmp_path / "s"), writing=writing), headers=SHOWN) as client:
        for key in (2**64, -1):
            answer = client.post(path, json=codes | {"keys": [key]})
            assert answer.status_code == 422
            assert answer.json()["error"] == f"keys must be from 0 to 18446744073709551615, got {key}"
        if path == "/add":
            answer = client.post(path, json=codes | {"keys": [8], "ids": [str(2**60)], "as_text": True})
            assert answer.json() == {"ids": [str(2**60)], "commit": 2}
    writing.close()


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


def test_the_parent_of_the_processes_keeps_no_commit(folder, monkeypatch):
    typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash import serving
    from fasthash.cli import app
    from fasthash.cli import serving as command

    opened, shown = [], []

    def noted(path):
        opened.append(fh.Store(path))
        return opened[-1]

    monkeypatch.setattr(command, "Store", noted)
    monkeypatch.setattr(command, "_check_port", lambda *arguments: None)
    monkeypatch.setattr(serving, "run_workers", lambda *arguments: shown.append(repr(opened[0])))
    result = typer_testing.CliRunner().invoke(app, ["serve", str(folder), "--workers", "2"])
    assert result.exit_code == 0, result.output
    assert shown == [f"Store({str(folder)!r}, closed)"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_request_that_never_ends_does_not_keep_the_server_from_stopping(folder, tmp_path):
    pytest.importorskip("typer", reason="needs the extra cli")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fasthash", "serve", str(folder), "--max-seconds", "0.5", "--port", str(port)]
    with open(tmp_path / "log", "w+") as log:
        server = subprocess.Popen(command, stderr=log)
        try:
            while answer_of(f"http://127.0.0.1:{port}/healthz") is None:
                assert server.poll() is None
                time.sleep(0.1)
            with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
                client.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
                time.sleep(0.5)
                server.send_signal(signal.SIGTERM)
                server.wait(60)
                assert b" 503 " in client.recv(1000).splitlines()[0]
        finally:
            server.kill()
            server.wait()
        log.seek(0)
        assert "Traceback" not in log.read()


@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("127.0.0.1", "127.0.0.1")])
def test_the_address_is_one_for_browsers(folder, monkeypatch, host, shown):
    typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash import serving
    from fasthash.cli import app
    from fasthash.cli import serving as command

    monkeypatch.setattr(serving, "run", lambda *arguments: None)
    monkeypatch.setattr(command, "_check_port", lambda *arguments: None)  # a machine may lack this address
    result = typer_testing.CliRunner().invoke(app, ["serve", str(folder), "--host", host, "--port", "18096"])
    assert f"http://{shown}:18096\n" in result.output


def test_refused_options(folder, monkeypatch):
    typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash.cli import app

    run = typer_testing.CliRunner().invoke
    result = run(app, ["serve", str(folder), "--writable", "--workers", "2"])
    assert (result.exit_code, "--writable excludes --workers" in result.output) == (2, True)
    for seconds in ("inf", "nan"):
        result = run(app, ["serve", str(folder), "--max-seconds", seconds])
        assert (result.exit_code, "--max-seconds" in result.output) == (2, True)
    monkeypatch.delenv("FASTHASH_TOKEN", raising=False)
    result = run(app, ["serve", str(folder), "--writable"])
    assert (result.exit_code, "needs a token in the environment variable" in result.output) == (1, True)
    monkeypatch.setenv("FASTHASH_TOKEN", "short")
    result = run(app, ["serve", str(folder), "--writable"])
    assert (result.exit_code, "at least 16 characters, got 5" in result.output) == (1, True)
    assert "http://" not in result.output  # no address where no server listens
    monkeypatch.setenv("FASTHASH_TOKEN", TOKEN)
    with fh.Store(folder, "w"):
        result = run(app, ["serve", str(folder), "--writable"])
    assert (result.exit_code, "is being written by process" in result.output) == (1, True)
    assert "http://" not in result.output
