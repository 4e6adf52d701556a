"""Limits of a server under load: slots of searches, slow and broken-off bodies, large answers."""

import asyncio
import json
import threading

import numpy as np
import pytest

import fasthash as fh

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")
pytest.importorskip("httpx", reason="needs httpx")

from fastapi.testclient import TestClient

from fasthash.serving import Limits, Writing, make_app, queries
from fasthash.serving.limits import RefusedError, Turns

TOKEN = "a token of the tests"


@pytest.fixture
def store(tmp_path):
    with fh.Store(tmp_path / "photos.fhs", "w", n_bits=64) as store:
        codes = np.random.default_rng(0).integers(0, 256, (3000, 8), dtype=np.uint8)
        store.add(codes, keys=[f"{i}.jpg" for i in range(3000)])
        store.commit()
    return fh.Store(tmp_path / "photos.fhs")


# ---- slots ----


def test_slots_come_back_whatever_happens():
    """Of searches that end, fail, are late, or give up while other work of the process holds its threads."""

    def failing():
        raise ValueError("no")

    async def asked(turns, work):
        try:
            return await turns.run(work)
        except RefusedError as error:
            return error.status
        except ValueError as error:
            return str(error)

    async def main():
        goes_on = threading.Event()
        loop = asyncio.get_running_loop()
        others = [loop.run_in_executor(None, goes_on.wait, 60) for _ in range(64)]  # more than its threads
        turns = Turns(Limits(at_once=4, seconds=0.2))
        assert await asyncio.gather(*(asked(turns, lambda: "ok") for _ in range(4))) == ["ok"] * 4
        assert await asyncio.gather(*(asked(turns, failing) for _ in range(4))) == ["no"] * 4
        late = await asyncio.gather(*(asked(turns, lambda: goes_on.wait(60)) for _ in range(5)))
        assert sorted(late) == [503, 504, 504, 504, 504]
        assert await asked(turns, lambda: "ok") == 503  # late ones keep their slots
        goes_on.set()
        for _ in range(100):
            if await asked(turns, lambda: "ok") == "ok":
                break
            await asyncio.sleep(0.05)
        assert await asyncio.gather(*(asked(turns, lambda: "ok") for _ in range(4))) == ["ok"] * 4
        await asyncio.gather(*others)
        turns.end()
        with pytest.raises(RuntimeError):
            await turns.run(lambda: "ok")
        assert turns._n_free == 4

    asyncio.run(main())


# ---- bodies ----


def answers(app, path, messages, headers=()):
    """What an application sends for a request whose client sends messages and then nothing more."""
    sent = []

    async def main():
        left = iter(messages)

        async def receive():
            for message in left:
                return message
            return await asyncio.Event().wait()  # for ever

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"x"), (b"content-type", b"application/json"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
        }
        await asyncio.wait_for(app(scope, receive, send), 60)

    asyncio.run(main())
    return sent


def counted(app, path, status):
    with TestClient(app) as client:
        return f'fasthash_requests_total{{route="{path}",status="{status}"}} 1.0' in client.get("/metrics").text


def part(body, more):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_that_does_not_arrive(store):
    app = make_app(store, Limits(body_seconds=0.1))
    start, body = answers(app, "/search", [part(b"{", True)])
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"]) == {"error": "the body must arrive within 0.1 s"}
    assert counted(app, "/search", 408)


def test_a_client_that_leaves_during_its_upload(store):
    app = make_app(store)
    assert answers(app, "/search", [part(b"{", True), {"type": "http.disconnect"}]) == []
    assert counted(app, "/search", 499)


def test_refusals_before_the_route_are_counted_by_path(store, tmp_path):
    app = make_app(store, Limits(body_bytes=2))
    start, _ = answers(app, "/search", [part(b"{   }", False)])
    assert start["status"] == 413
    assert counted(app, "/search", 413)


def test_a_change_without_the_token_is_refused_before_its_body_arrives(store):
    writing = Writing(store.path, TOKEN)
    for path in ("/add", "/update", "/remove"):
        app = make_app(store, writing=writing)
        start, _ = answers(app, path, [])
        assert start["status"] == 401
        assert counted(app, path, 401)
    writing.close()


def test_failures_are_counted(store, monkeypatch):
    app = make_app(store)
    monkeypatch.setattr(queries, "_encode", None)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/search", json={"keys": ["1.jpg"]}).status_code == 500
        assert 'fasthash_requests_total{route="/search",status="500"} 1.0' in client.get("/metrics").text


# ---- results ----


def test_large_answers(store, monkeypatch):
    """Results of all queries are limited before the search, and encoded in pieces, not on the thread of the server."""
    assert Limits().results >= 1024 * 100
    names, encode = [], queries._encode

    def noted(entries):
        names.append((threading.current_thread().name, len(entries)))
        return encode(entries)

    monkeypatch.setattr(queries, "_encode", noted)
    codes = store.reconstruct(np.arange(1024))
    with TestClient(make_app(store)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(queries.Snapshot, "search", None)  # is not called
            answer = client.post("/search/raw?k=1000", content=codes.tobytes())
        assert answer.status_code == 422
        message = "k 1,000 for 1,024 queries gives 1,024,000 results, at most 131,072 are allowed"
        assert answer.json() == {"error": message}
        rows = client.post("/search/raw?radius=64", content=codes[:2].tobytes()).json()["results"]
        assert [len(row) for row in rows] == [3000] * 2
        expected = store.range_search(codes[:2], 64)
        assert [each["id"] for row in rows for each in row] == expected.ids.tolist()
        assert [each["key"] for row in rows for each in row] == expected.keys.tolist()
        assert [each["distance"] for row in rows for each in row] == expected.distances.tolist()
        assert len(client.post("/search/raw?k=100", content=codes.tobytes()).json()["results"]) == 1024
    assert {name.rsplit("_", 1)[0] for name, _ in names} == {"fasthash-turn"}
    assert max(n for _, n in names) == 1000
