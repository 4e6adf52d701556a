"""A served store answers what the store answers; every limit has an error that names it."""

import base64
import io
import threading
import uuid

import numpy as np
import pytest

import fasthash as fh

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")
pytest.importorskip("httpx", reason="needs httpx")

from fastapi.testclient import TestClient

from fasthash.serving import Limits, app, make_app, queries, routes
from fasthash.store.view import View

NAMES = ["a.jpg", "<b>bold</b>.jpg", "lone \udce9.jpg", "\u202edcba.jpg"]


@pytest.fixture
def store(tmp_path):
    with fh.Store(tmp_path / "photos.fhs", "w", n_bits=64) as store:
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 256, (200, 8), dtype=np.uint8)
        store.add(codes, keys=[*NAMES, *(f"{i}.jpg" for i in range(196))])
        store.commit()
    return fh.Store(tmp_path / "photos.fhs")


@pytest.fixture
def client(store):
    with TestClient(make_app(store, Limits(body_bytes=5000, queries=5, k=50, results=100))) as client:
        yield client


def found(response):
    assert response.status_code == 200, response.text
    return response.json()["results"]


def test_codes_and_keys_in_every_form(client, store):
    codes = store.reconstruct(np.array([5, 9]))
    expected = store.search(codes, k=7)
    for answer in (
        client.post("/search", json={"codes": [code.tobytes().hex() for code in codes], "k": 7}),
        client.post(
            "/search",
            json={"codes": [base64.b64encode(code).decode() for code in codes], "form": "base64", "k": 7},
        ),
        client.post("/search", json={"keys": ["1.jpg", "5.jpg"], "k": 7}),
        client.post("/search/raw?k=7", content=codes.tobytes()),
    ):
        rows = found(answer)
        assert [[each["id"] for each in row] for row in rows] == expected.ids.tolist()
        assert [[each["distance"] for each in row] for row in rows] == expected.distances.tolist()
        assert [row[0]["key"] for row in rows] == ["1.jpg", "5.jpg"]


def test_radius_and_filter(client, store):
    code = store.reconstruct(np.array([5]))
    near = store.range_search(code, 26)
    (row,) = found(client.post("/search", json={"keys": ["1.jpg"], "radius": 26}))
    assert [each["id"] for each in row] == near.ids.tolist()
    (row,) = found(client.post("/search/raw?radius=26", content=code.tobytes()))
    assert [each["id"] for each in row] == near.ids.tolist()
    (row,) = found(client.post("/search", json={"keys": ["1.jpg"], "allow": [3, 5, 8]}))
    assert sorted(each["id"] for each in row) == [3, 5, 8]
    (row,) = found(client.post("/search", json={"keys": ["1.jpg"], "allow_keys": ["4.jpg", "1.jpg"]}))
    assert [each["key"] for each in row] == ["1.jpg", "4.jpg"]
    (row,) = found(client.post("/search", json={"keys": ["1.jpg"], "allow_keys": [NAMES[0], NAMES[1], NAMES[0]]}))
    assert sorted(each["id"] for each in row) == [0, 1]  # a repeated key, also of the ids 0 and 1
    # Results are counted as the filter leaves them.
    assert len(found(client.post("/search", json={"keys": ["1.jpg"] * 5, "k": 50, "allow": [3, 5, 8]}))) == 5


def test_a_store_by_jaccard_distance(tmp_path):
    """Distances are floats, which tell the float32 of the search, and so is the radius."""
    rng = np.random.default_rng(0)
    codes = np.packbits(rng.random((300, 128)) < 0.1, axis=1)
    with fh.Store(tmp_path / "molecules.fhs", "w", n_bits=128, metric="jaccard") as store:
        store.add(codes, keys=[f"m{i}" for i in range(300)])
        store.commit()
    store = fh.Store(tmp_path / "molecules.fhs")
    expected, near = store.search(codes[:1], 5), store.range_search(codes[:1], 0.8)
    with TestClient(make_app(store)) as client:
        assert client.get("/info").json()["metric"] == "jaccard"
        (row,) = found(client.post("/search", json={"codes": [codes[0].tobytes().hex()], "k": 5}))
        assert [each["id"] for each in row] == expected.ids[0].tolist()
        assert [np.float32(each["distance"]) for each in row] == expected.distances[0].tolist()
        assert [len(str(each["distance"])) < 12 for each in row] == [True] * 5
        for answer in (
            client.post("/search", json={"keys": ["m0"], "radius": 0.8}),
            client.post("/search/raw?radius=0.8", content=codes[0].tobytes()),
        ):
            (row,) = found(answer)
            assert [each["id"] for each in row] == near.ids.tolist()
        for radius, message in ((-0.1, "radius must be at least 0, got -0.1"), ("nan", "radius must be at least 0")):
            response = client.post(f"/search/raw?radius={radius}", content=codes[0].tobytes())
            assert response.status_code == 422
            assert message in response.json()["error"]


def test_names_are_told_as_they_are(client):
    (row,) = found(client.post("/search", json={"keys": ["a.jpg"], "k": 50, "allow": [0, 1, 2, 3]}))
    assert {each["key"] for each in row} == {"a.jpg", "<b>bold</b>.jpg", "lone \\udce9.jpg", "\u202edcba.jpg"}
    assert len(client.get("/keys?n=20").json()["keys"]) == 20


REFUSED = {
    "k must be 1 to 50, got 51": {"keys": ["a.jpg"], "k": 51},
    "k must be 1 to 50, got 0": {"keys": ["a.jpg"], "k": 0},
    "radius must be at least 0, got -1": {"keys": ["a.jpg"], "radius": -1},
    "radius must be a whole number of bits, got 2.5": {"keys": ["a.jpg"], "radius": 2.5},
    "radius 64 gives 200 results, at most 100": {"keys": ["a.jpg"], "radius": 64},
    "give either codes or keys": {},
    "give either codes or keys ": {"codes": ["00"], "keys": ["a"]},
    "queries must be 1 to 5, got 6": {"keys": ["a.jpg"] * 6},
    "queries must be 1 to 5, got 0": {"codes": []},
    "form must be one of hex, base64, got 'raw'": {"codes": ["00"], "form": "raw"},
    "codes must be hex digits, got 'zz'": {"codes": ["zz"]},
    "codes must have 8 bytes, got 1": {"codes": ["00"]},
    "keys must be in the store, but it does not hold 'x'": {"keys": ["x"]},
    "keys must be of the kind str": {"keys": [7]},
    "k must be a valid integer, got 'ten'": {"keys": ["a.jpg"], "k": "ten"},
    "keys.1 must be text or an integer, got 1.5": {"keys": ["a.jpg", 1.5]},
    "allow.0 must be text or an integer, got True": {"keys": ["a.jpg"], "allow": [True]},
    "codes.0 must be a valid string, got 7": {"codes": [7]},
    "more must be left out, which is no argument here, got 1": {"keys": ["a.jpg"], "more": 1},
    "allow must be from -9223372036854775808 to 9223372036854775807, got 1180591620717411303424": {
        "keys": ["a.jpg"],
        "allow": [2**70],
    },
    "allow must be ids, got '1.0'": {"keys": ["a.jpg"], "allow": ["1.0"]},
    "allow_keys must be in the store, but it does not hold 'x'": {"keys": ["a.jpg"], "allow_keys": ["1.jpg", "x"]},
    "allow_keys must be of the kind str, as all keys of this store, got 5": {"keys": ["a.jpg"], "allow_keys": [5]},
    "give either allow or allow_keys": {"keys": ["a.jpg"], "allow": [5], "allow_keys": ["1.jpg"]},
    "k 50 for 3 queries gives 150 results, at most 100 are allowed": {"keys": ["a.jpg"] * 3, "k": 50},
}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (None, "keys must be ids in a store without keys, got 'a'"),
        ([uuid.UUID(int=1)], "keys must be UUIDs, got 'a'"),
        ([b"x"], "keys must be bytes in hexadecimal digits, got 'a'"),
        ([7], "keys must be integers, got 'a'"),
    ],
    ids=["none", "uuid", "bytes", "int64"],
)
def test_keys_of_another_kind(tmp_path, keys, message):
    with fh.Store(tmp_path / "codes.fhs", "w", n_bits=8) as store:
        store.add(np.zeros((1, 1), np.uint8), keys=keys)
        store.commit()
    with TestClient(make_app(fh.Store(tmp_path / "codes.fhs"), Limits())) as client:
        response = client.post("/search", json={"keys": ["a"]})
        assert (response.status_code, response.json()) == (422, {"error": message})


@pytest.mark.parametrize(
    ("kind", "name", "value", "status", "message"),
    [
        (
            None,
            "keys",
            2**63,
            422,
            "keys must be from -9223372036854775808 to 9223372036854775807, got 9223372036854775808",
        ),
        (None, "keys", 7, 404, "keys must be in the store, but it does not hold 7"),
        (None, "keys", "9" * 5000, 422, "keys must be ids in a store without keys, got '99999"),
        (None, "allow_keys", 0, 422, "allow_keys must be left out: the entries of this store have ids alone"),
        (
            np.int64,
            "keys",
            2**63,
            422,
            "keys must be from -9223372036854775808 to 9223372036854775807, got 9223372036854775808",
        ),
        (np.uint64, "keys", -1, 422, "keys must be from 0 to 18446744073709551615, got -1"),
        (np.uint64, "keys", 2**64, 422, "keys must be from 0 to 18446744073709551615, got 18446744073709551616"),
        (np.uint64, "keys", "1_0", 422, "keys must be integers, got '1_0'"),
        (np.uint64, "allow_keys", -1, 422, "allow_keys must be from 0 to 18446744073709551615, got -1"),
    ],
)
def test_integers_beyond_the_kind_of_keys(tmp_path, kind, name, value, status, message):
    with fh.Store(tmp_path / "codes.fhs", "w", n_bits=8) as store:
        store.add(np.zeros((1, 1), np.uint8), keys=None if kind is None else np.array([7], kind))
        store.commit()
    with TestClient(make_app(fh.Store(tmp_path / "codes.fhs"))) as client:
        given = {"codes": ["00"]} if name == "allow_keys" else {}
        response = client.post("/search", json={**given, name: [value]})
        assert response.status_code == status
        assert response.json()["error"].startswith(message)


@pytest.mark.parametrize("kind", [None, np.int64, np.uint64])
def test_numbers_that_javascript_cannot_tell(tmp_path, kind):
    """Clients with floats for numbers ask for ids and keys as text, and may send them as text."""
    with fh.Store(tmp_path / "codes.fhs", "w", n_bits=8) as store:
        ids = 2**53 + np.arange(3)
        store.add(np.array([[0], [1], [3]], np.uint8), keys=None if kind is None else ids.astype(kind) + 10, ids=ids)
        store.commit()
        own = [str(id if kind is None else id + 10) for id in ids.tolist()]
    with TestClient(make_app(fh.Store(tmp_path / "codes.fhs"), make_codes=lambda image: None)) as client:
        assert client.get("/keys").json() == {"keys": list(map(int, own)), "next": None}
        assert client.get("/keys?as_text=true").json() == {"keys": own, "next": None}
        allow = {"allow": [str(ids[1])]}
        for path, body in (
            ("/search", {"json": {"keys": [own[1]], "k": 1, "as_text": True}}),
            ("/search", {"json": {"keys": [own[0]], "k": 1, "as_text": True} | allow}),
            ("/search/raw?k=1&as_text=true", {"content": b"\1"}),
        ):
            (row,) = found(client.post(path, **body))
            name = {} if kind is None else {"key": own[1]}
            assert row == [{"id": str(ids[1]), "distance": int("allow" in str(body)), **name}]
        parameters = client.get("/openapi.json").json()["paths"]["/search/photo"]["post"]["parameters"]
        assert "as_text" in {each["name"] for each in parameters}
        # The page asks for text in each request that is answered with ids or keys.
        page = client.get("/").text
        assert page.count("as_text") == 2
        assert "as_text: true" in page.split("const many = ")[1].split("\n")[0]
        assert 'asked("keys?as_text=true")' in page


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_requests(client, message):
    response = client.post("/search", json=REFUSED[message])
    assert response.status_code == (404 if "does not hold" in message else 422)
    assert message.strip() in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/search/raw?k=3&allow=5", "allow"),
        ("POST", "/search/raw?K=3", "K"),
        ("POST", "/search/photo?n=3", "n"),
        ("POST", "/search?k=3", "k"),
        ("GET", "/keys?k=3", "k"),
        ("HEAD", "/keys?k=3", "k"),
    ],
)
def test_unknown_arguments_in_the_address(client, method, path, name):
    """They would be ignored: the answer would be that of other arguments."""
    json = {"keys": ["a.jpg"]} if path.startswith("/search?") else None
    response = client.request(method, path, json=json, content=None if json else b"x" * 8)
    assert response.status_code == 422
    message = f"{name} must be left out, which is no argument in this address, got '"
    assert method == "HEAD" or response.json()["error"].startswith(message)
    assert client.get("/healthz?x=1").status_code == 200  # as those who watch a server defeat caches


def test_bodies(client):
    for content in (b"x" * 5001, iter([b"x" * 3000, b"x" * 3000])):
        response = client.post("/search", content=content)
        assert response.status_code == 413
        assert "at most 5,000 bytes" in response.json()["error"]
    form, json = "application/x-www-form-urlencoded", {"Content-Type": "application/json"}
    kinds = [({"Content-Type": kind}, repr(kind)) for kind in (form, "notjson", "application/notjson", "text/json")]
    for headers, got in (({}, "none"), *kinds):  # `form` is that of `curl -d`
        response = client.post("/search", content=b'{"keys": ["a.jpg"]}', headers=headers)
        if got == "none" and response.status_code == 200:
            continue  # older releases of FastAPI read a body without the header as JSON
        assert response.status_code == 415
        assert response.json() == {"error": f"the header Content-Type must be application/json, got {got}"}
    for content, message in (
        (b"{", "the body must be JSON, got a fault at character 1: "),
        (b"", "the body must be given"),
        (b"[7]", "the body must be a valid dictionary or object to extract fields from, got [7]"),
        (b"\xff", "the body must be JSON in UTF-8, got a fault at byte 0"),
        (b"[" * 4000, "the body must be JSON with less nesting"),
        (b'{"keys": [' + b"9" * 4500 + b"]}", "the body must be JSON with integers of at most 4,300 digits"),
        (b'{"keys": [' + b"9" * 4300 + b"]}", "keys must be of the kind str"),
    ):
        response = client.post("/search", content=content, headers=json)
        assert response.status_code == 422
        assert message in response.json()["error"]
    for depth in (100, *range(500, 1500, 25)):  # the parser may accept more than can be shown
        for content in (b"[" * depth + b"]" * depth, b'{"keys": ' + b"[" * depth + b"]" * depth + b"}"):
            response = client.post("/search", content=content, headers=json)
            assert response.status_code == 422, depth
            assert len(response.text) < 300
    long = b"x" * 4000
    for content in (b'{"%b": 1}' % long, b'{"codes": ["00"], "form": "%b"}' % long, b'{"keys": ["%b"]}' % long):
        response = client.post("/search", content=content, headers=json)
        assert response.status_code in (404, 422)
        assert len(response.text) < 300
    for content in (b"", b"x" * 7, b"x" * 48):
        assert "must be 1 to 5 codes of 8 bytes" in client.post("/search/raw", content=content).json()["error"]


def test_bodies_that_would_pass_for_codes(client):
    """Compressed bytes and JSON, of a length that is one of codes."""
    for path in ("/search", "/search/raw", "/search/photo"):
        response = client.post(path, content=b"x" * 8, headers={"Content-Encoding": "gzip"})
        assert response.status_code == 415
        assert response.json() == {"error": "the header Content-Encoding must be left out, got 'gzip'"}
    assert client.post("/search/raw?k=1", content=b"x" * 8, headers={"Content-Encoding": "Identity"}).status_code == 200
    for path, noun in (("/search/raw", "codes"), ("/search/photo", "photo")):
        response = client.post(path, content=b'{"k": 1}', headers={"Content-Type": "application/json; charset=utf-8"})
        assert response.status_code == 415
        assert f"the body must be the bytes of the {noun}, not JSON; see curl" in response.json()["error"]


def test_every_error_has_one_form(store, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("secret")

    with TestClient(make_app(store), raise_server_exceptions=False) as client:
        for method, path, status, message in (
            ("GET", "/nope", 404, "path must be one of those in /openapi.json, got '/nope'"),
            ("GET", "/search", 405, "method must be POST for '/search', got GET"),
            ("DELETE", "/info", 405, "method must be GET for '/info', got DELETE"),
            ("GET", "/keys?n=x", 422, "n must be a valid integer, unable to parse string as an integer, got 'x'"),
            ("GET", "/keys?n=0", 422, "n must be greater than or equal to 1, got '0'"),
            ("GET", "/image", 422, "key must be given"),
            ("GET", f"/keys?first={'9' * 5000}", 422, "first: Unable to parse"),
        ):
            response = client.request(method, path)
            assert response.status_code == status
            assert response.json()["error"].startswith(message)
        assert client.get("/search").headers["allow"] == "POST"
        # The path in a message is that of the request, whatever the header Host makes of it.
        assert "got '/nope'" in client.get("/nope", headers={"Host": "x?"}).json()["error"]
        monkeypatch.setattr(routes, "some_keys", broken)
        response = client.get("/keys")
        assert response.status_code == 500
        assert response.json() == {"error": "the server failed with RuntimeError; its log says where"}


def test_damage_is_not_blamed_on_the_request(store, monkeypatch):
    def damaged(*arguments):
        raise fh.FormatError("photos.keys: the entry 9 of a key is out of range")

    with TestClient(make_app(store), raise_server_exceptions=False) as client:
        monkeypatch.setattr(View, "ids_of", damaged)
        response = client.post("/search", json={"keys": ["a.jpg"]})
        assert response.status_code == 500
        assert response.json() == {"error": "the server failed with FormatError; its log says where"}


def test_too_many_and_too_slow(store, monkeypatch):
    goes_on, begun = threading.Event(), threading.Event()
    whole = routes.results

    def slow(*arguments):
        begun.set()
        assert goes_on.wait(60)
        return whole(*arguments)

    monkeypatch.setattr(routes, "results", slow)
    with TestClient(make_app(store, Limits(at_once=1, seconds=0.2))) as client:
        response = client.post("/search", json={"keys": ["a.jpg"]})
        assert response.status_code == 504
        assert "at most 0.2 s" in response.json()["error"]
        response = client.post("/search", json={"keys": ["a.jpg"]})  # the first one still runs
        assert response.status_code == 503
        assert "searches at one time must be at most 1" in response.json()["error"]
        goes_on.set()


def test_new_commits_are_taken(store, monkeypatch):
    monkeypatch.setattr(app, "_REFRESH", 0.01)
    with TestClient(make_app(store)) as client, fh.Store(store.path, "w") as writer:
        assert client.get("/healthz").json() == {"status": "ok", "codes": 200, "commit": 1}
        writer.add(np.zeros((1, 8), np.uint8), keys=["new.jpg"])
        writer.commit()
        for _ in range(1000):
            if client.get("/healthz").json()["commit"] == 2:
                break
        (row,) = found(client.post("/search", json={"codes": ["00" * 8], "k": 1}))
        assert row == [{"id": 200, "distance": 0, "key": "new.jpg"}]


@pytest.mark.parametrize("error", [OSError, MemoryError, RuntimeError])
def test_a_commit_that_cannot_be_opened_is_tried_again(store, monkeypatch, error):
    refresh, failures = store.refresh, [error("no"), error("no")]

    def refreshed():
        if failures:
            raise failures.pop()
        return refresh()

    monkeypatch.setattr(app, "_REFRESH", 0.01)
    monkeypatch.setattr(store, "refresh", refreshed)
    with TestClient(make_app(store)) as client, fh.Store(store.path, "w") as writer:
        writer.remove(["a.jpg"])
        writer.commit()
        for _ in range(1000):
            if client.get("/healthz").json()["commit"] == 2:
                break
        assert client.get("/healthz").json() == {"status": "ok", "codes": 199, "commit": 2}
        assert "fasthash_refresh_failures_total 2.0" in client.get("/metrics").text


def test_metrics_page_and_interface(client):
    client.post("/search", json={"keys": ["a.jpg"]})
    client.get("/nothing")
    text = client.get("/metrics").text
    assert 'fasthash_requests_total{route="/search",status="200"} 1.0' in text
    assert "fasthash_codes 200.0" in text
    assert {"/search", "/search/raw", "/healthz"} <= client.get("/openapi.json").json()["paths"].keys()
    page = client.get("/")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "innerHTML" not in page.text
    assert "textContent" in page.text


def test_every_get_answers_head(client):
    paths = [path for path, methods in client.get("/openapi.json").json()["paths"].items() if "get" in methods]
    assert {"/", "/healthz", "/info", "/keys", "/metrics"} <= set(paths)
    for path in paths:
        get, head = client.get(path), client.head(path)
        assert head.status_code == get.status_code
        assert head.content == b""
        assert head.headers["content-type"] == get.headers["content-type"]


def test_keys_are_walked_through_in_pages(tmp_path, monkeypatch):
    """All segments are covered, without the removed entries, and every page but the last is full."""
    monkeypatch.setattr(queries, "_ENTRIES", 7)
    with fh.Store(tmp_path / "s", "w", n_bits=8, merge=False) as store:
        for begin, end in ((0, 60), (60, 70), (70, 100)):
            store.add(np.zeros((end - begin, 1), np.uint8), keys=[f"{i}" for i in range(begin, end)])
            store.commit()
        store.remove([f"{i}" for i in (*range(10, 40), 65)])
        store.commit()
    with TestClient(make_app(fh.Store(tmp_path / "s"))) as client:
        for n in (1, 3, 8, 69, 70, 500):
            shown, sizes, first = [], [], 0
            while first is not None:
                answer = client.get(f"/keys?first={first}&n={n}").json()
                shown += answer["keys"]
                sizes.append(len(answer["keys"]))
                first = answer["next"]
            assert sorted(map(int, shown)) == [*range(10), *range(40, 65), *range(66, 100)]
            assert set(sizes[:-1]) <= {n}
        for first in (100, 2**63 - 1, 2**64):
            assert client.get(f"/keys?first={first}").json() == {"keys": [], "next": None}


@pytest.mark.parametrize("keys", [None, [b"\xff", b"a"], [uuid.UUID(int=1), uuid.UUID(int=2)], [-5, 2**40]])
def test_other_kinds_of_keys(tmp_path, keys):
    with fh.Store(tmp_path / "s", "w", n_bits=8) as store:
        store.add(np.array([[0], [1]], np.uint8), keys=keys)
        store.commit()
        with TestClient(make_app(store)) as client:
            shown = client.get("/keys").json()["keys"]
            for i, key in enumerate(shown):
                (row,) = found(client.post("/search", json={"keys": [key], "k": 1}))
                assert row[0]["id"] == i


# ---- photos ----


@pytest.fixture
def photos(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.jpg", "more/b é.png"):
        image.new("RGB", (20, 10), "red").save(folder / name)
    (folder / "notes.txt").write_text("secret")
    image.new("RGB", (4, 4)).save(tmp_path / "outside.jpg")
    (folder / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    return folder


def test_the_photos_of_keys(store, photos):
    with TestClient(make_app(store, images=photos)) as client:
        assert client.get("/info").json()["shows_photos"]
        for name in ("a.jpg", "more/b é.png"):
            response = client.get("/image", params={"key": name})
            assert response.content == (photos / name).read_bytes()
            assert response.headers["content-type"].startswith("image/")
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        outside = ["../outside.jpg", str(photos.parent / "outside.jpg"), "link.jpg", "more/../../outside.jpg"]
        for name in [*outside, "notes.txt", "more", "", "gone.jpg", "a.jpg\0.jpg", "<b>.jpg"]:
            response = client.get("/image", params={"key": name})
            assert response.status_code == 404, name
            assert "key must name a photo in the folder of images" in response.json()["error"]
    with TestClient(make_app(store)) as client:
        assert client.get("/image?key=a.jpg").status_code == 404


def test_searches_for_photos(store, photos):
    seen = []

    def make_codes(image):
        seen.append(image.size)
        return store.reconstruct([5])

    limits = Limits(body_bytes=5000, pixels=1000, k=50, results=100)
    with TestClient(make_app(store, limits, make_codes=make_codes)) as client:
        data = (photos / "a.jpg").read_bytes()
        (row,) = found(client.post("/search/photo?k=3", content=data))
        assert seen == [(20, 10)]
        assert row[0]["id"] == 5
        assert len(row) == 3
        large = io.BytesIO()
        pytest.importorskip("PIL.Image").new("RGB", (100, 50)).save(large, "png")
        for content in (b"", b"no photo", data[:100], large.getvalue()):
            response = client.post("/search/photo", content=content)
            assert response.status_code == 422
            assert "the photo cannot be read: " in response.json()["error"]
        for path, noun in (("/search/photo", "photo"), ("/search/raw", "codes")):  # as `curl -F` sends it
            response = client.post(path, files={"file": data})
            assert response.status_code == 415
            assert f"the body must be the bytes of the {noun}, not a form; see curl" in response.json()["error"]
    with TestClient(make_app(store)) as client:
        assert "without an encoder" in client.post("/search/photo", content=data).json()["error"]
