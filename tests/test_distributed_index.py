"""`ShardedIndex` on a cluster: it finds and holds what one `HierIndex` does, and refuses what that refuses."""

import json
import pickle
import threading

import numpy as np
import pytest

import fasthash as fh
from fasthash import _saved_folder
from fasthash.distributed import merge
from galleries import GALLERIES, clustered, duplicated, uniform
from indices import MODES, assert_same, make, shuffled_ids
from ray_cluster import LAYOUT, same, three_nodes, until  # noqa: F401


@pytest.fixture(scope="module")
def shared(cluster):
    """An index for all tests that kill nothing."""
    from fasthash.distributed import ShardedIndex

    with ShardedIndex(LAYOUT, n_shards=3, threads=1) as index:
        yield index


@pytest.fixture
def index(shared):
    """The same, empty, and one index that has gone the same way."""
    one = fh.HierIndex(LAYOUT)
    if (before := shared._state.next_id) > 0:
        one.add(np.zeros((1, 8), np.uint8), [before - 1])
        one.remove([before - 1])
    yield shared, one
    shared.remove(shared.to_arrays()[1])
    assert len(shared) == 0


def both(indices, method, *arguments):
    """The outcome of a call, which is the same for all indices."""
    outcomes = []
    for index in indices:
        try:
            outcomes.append(getattr(index, method)(*arguments))
        except (TypeError, ValueError) as error:
            outcomes.append(f"{type(error).__name__}: {error}")
    assert outcomes[0] == outcomes[1]
    return outcomes[0]


@pytest.mark.parametrize("kind", list(GALLERIES))
def test_searches(index, kind):
    index, one = index
    codes, queries, ids = make(3, LAYOUT, 700, kind, nq=5)
    for each in (index, one):
        each.add(codes, ids)
    same(index, one, queries)
    same(index, one, queries, k=900)
    same(index, one, queries[:0])
    some = fh.IdFilter(ids[::3])
    mask = np.zeros(5000, bool)
    mask[ids[ids >= 0][::2]] = True
    for allow in (some, some, ids[:5], mask, np.zeros(0, np.int64)):
        assert_same(index.search(queries, 7, allow=allow), one.search(queries, 7, allow=allow))
        assert_same(index.range_search(queries, 30, allow=allow), one.range_search(queries, 30, allow=allow))
        assert (index.count_within(queries, 30, allow=allow) == one.count_within(queries, 30, allow=allow)).all()
        for mode in MODES:
            pruned = {"keep": 0.2, "keep_mode": mode, "allow": allow}
            assert_same(index.search(queries, 7, **pruned), one.search(queries, 7, **pruned))
    for mode in MODES:
        for keep in (0.05, 0.5, 1):
            found = index.search(queries, 12, keep=keep, keep_mode=mode)
            assert_same(found, one.search(queries, 12, keep=keep, keep_mode=mode))
    result, work = index.search(queries, 3, stats=True)
    assert_same(result, one.search(queries, 3))
    assert [len(part) for part in work] == [5] * 4
    assert (index.search(queries, 3, keep=0.1, stats=True)[1].plan == "pruned").all()
    assert index.range_search(queries, 3, stats=True)[1].codes_compared.shape == (5,)


def test_an_empty_index(index):
    index, one = index
    queries = uniform(np.random.default_rng(0), 3, 8)
    same(index, one, queries)
    for mode in MODES:
        assert_same(index.search(queries, 2, keep=0.1, keep_mode=mode), one.search(queries, 2))
    for each in (index, one):
        each.add(np.zeros((0, 8), np.uint8))
        each.remove(np.zeros(0, np.int64))
    assert index.reconstruct(np.zeros(0, np.int64)).shape == (0, 8)
    index.add(queries[:1], [5])  # two shards stay empty
    one.add(queries[:1], [5])
    same(index, one, queries)
    assert index
    assert "n_shards=3" in repr(index)


@pytest.mark.parametrize("seed", range(3))
def test_changes_at_random(index, seed):
    index, one = index
    rng = np.random.default_rng(seed)
    queries = uniform(rng, 3, 8)
    for _ in range(25):
        n = int(rng.integers(0, 60))
        held = one.to_arrays()[1]
        codes = (clustered, duplicated)[rng.integers(2)](rng, n, 8)
        some = rng.choice(held, min(n, len(held)), replace=False)
        match rng.integers(6):
            case 0:
                both([index, one], "add", codes)
            case 1:
                both([index, one], "add", codes, np.setdiff1d(shuffled_ids(rng, 3 * n) + rng.integers(999), held)[:n])
            case 2:
                both([index, one], "remove", some)
            case 3:
                both([index, one], "update", some, codes[: len(some)])
            case 4 if len(held):  # one of many is wrong, and nothing happens
                new = [*range(10**9, 10**9 + 20), held[0]]
                assert "ids must be new" in both([index, one], "add", uniform(rng, 21, 8), new)
                assert "10000000000" in both([index, one], "remove", [*held, 10**10])
                assert "twice" in both([index, one], "update", [*held, held[0]], uniform(rng, len(held) + 1, 8))
                assert "-1" in both([index, one], "add", uniform(rng, 3, 8), [10**9, -1, 10**9 + 1])
            case _:
                assert all((id in index) == (id in one) for id in [*some[:3], 10**12, 2**70])
                np.testing.assert_array_equal(index.reconstruct(some), one.reconstruct(some))
                for id in some[:2]:
                    np.testing.assert_array_equal(index.reconstruct(id), one.reconstruct(id))
        same(index, one, queries, k=5)
    index.compact()
    same(index, one, queries)
    import ray

    # Of all these versions each shard keeps the one that is read.
    held = [index._fleet.copies(shard)[0].actor.__ray_call__ for shard in range(3)]
    until(lambda: ray.get([call.remote(lambda shard: len(shard._versions)) for call in held]) == [1, 1, 1])


def test_bad_input_is_refused_as_by_one_index(index):
    indices = index
    rng = np.random.default_rng(0)
    for each in indices:
        each.add(uniform(rng, 9, 8))
    codes = uniform(rng, 3, 8)
    for method, *arguments in [
        ("add", codes.astype(bool)),
        ("add", codes[:, :7]),
        ("add", codes, [1.0, 2.0, 3.0]),
        ("add", codes, [1, 2]),
        ("remove", [0.5]),
        ("remove", [10**12]),
        ("update", [1], codes),
        ("reconstruct", [10**12]),
        ("reconstruct", ["a"]),
        ("__contains__", "a"),
        ("search", codes[0, :7]),
        ("search", codes, 0),
        ("search", codes, True),
        ("range_search", codes, -1),
        ("range_search", codes, 1.5),
        ("count_within", codes.astype(np.int64), 3),
    ]:
        assert isinstance(both(indices, method, *arguments), str), (method, arguments)
    for options in ({"keep": 0}, {"keep": "a"}, {"keep_mode": "x"}, {"allow": [0.5]}, {"allow": [True]}, {"stats": 1}):
        messages = []
        for each in indices:
            with pytest.raises((TypeError, ValueError)) as caught:
                each.search(codes, **options)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    with pytest.raises(TypeError, match="partial must be True or False, got 1"):
        indices[0].search(codes, partial=1)
    with pytest.raises(TypeError, match="belongs to the process that made it"):
        pickle.dumps(indices[0])


def test_the_last_id(cluster):
    from fasthash.distributed import ShardedIndex

    codes, last = np.zeros((1, 8), np.uint8), np.array([2**63 - 1])
    with ShardedIndex.from_arrays(codes, last, n_shards=1, threads=1) as index:
        indices = index, fh.HierIndex.from_arrays(codes, last)
        assert "leaves the range of int64" in both(indices, "add", codes)
        same(*indices, codes)


def test_bad_arguments_of_the_class(cluster, tmp_path, monkeypatch):
    from fasthash.distributed import ShardedIndex

    for options, error, message in [
        ({"n_shards": 0}, ValueError, "n_shards must be at least 1, got 0"),
        ({"n_shards": 1.5}, TypeError, "n_shards must be an integer, got 1.5"),
        ({"replicas": 0}, ValueError, "replicas must be at least 1, got 0"),
        ({"level_bits": (7, 8)}, ValueError, "level_bits must be at least 8, got 7"),
        ({"memory": "much"}, ValueError, "memory must be one of"),
        ({"plan": "none"}, ValueError, "plan must be one of"),
        ({"metric": "dice"}, ValueError, "metric must be one of"),
        ({"metric": "jaccard"}, ValueError, "level_bits must be one level with the metric jaccard"),
        ({"metric": "jaccard", "level_bits": 8, "plan": "scan"}, ValueError, "plan must not be given with the metric"),
        ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
        ({"num_cpus": -1}, ValueError, "num_cpus must be finite and not negative, got -1"),
        ({"hedge_after": 0}, ValueError, "hedge_after must be positive and finite, got 0"),
    ]:
        with pytest.raises(error, match=message):
            ShardedIndex(**options)
    with pytest.raises(FileNotFoundError, match="holds no saved ShardedIndex"):
        ShardedIndex.load(tmp_path)
    monkeypatch.setattr("fasthash.distributed.fleet.START_SECONDS", 2.0)
    with pytest.raises(TimeoutError, match="Ray has not started a shard within 2 s; is there a node with num_cpus=99"):
        ShardedIndex(num_cpus=99)


def test_an_index_by_jaccard_distance(cluster, tmp_path):
    from fasthash.distributed import ShardedIndex

    rng = np.random.default_rng(6)
    codes, ids = np.packbits(rng.random((600, 256)) < 0.1, axis=1), shuffled_ids(rng, 600)
    codes[::50], queries = 0, codes[:6] | codes[6:12]
    one = fh.HierIndex(256, metric="jaccard")

    def same_by_jaccard(index):
        assert (index.metric, index.stats()["metric"], len(index)) == ("jaccard", "jaccard", len(one))
        for options in ({}, {"allow": ids[::3]}, {"allow": fh.IdFilter(ids[:9])}):
            for k in (7, 700):
                assert_same(index.search(queries, k, **options), one.search(queries, k, **options))
            for radius in (0, 0.9, 1):
                expected = one.range_search(queries, radius, **options)
                assert_same(index.range_search(queries, radius, **options), expected)
                assert (index.count_within(queries, radius, **options) == np.diff(expected.offsets)).all()
        assert_same(index.search(queries, 3, stats=True)[0], one.search(queries, 3))

    with ShardedIndex(256, n_shards=3, threads=1, metric="jaccard") as index:
        assert_same(index.search(queries, 2), one.search(queries, 2))
        for each in (index, one):
            each.add(codes, ids)
            each.remove(ids[:100])
            each.update(ids[100:105], codes[:5])
        same_by_jaccard(index)
        assert "metric='jaccard'" in repr(index)
        with pytest.raises(ValueError, match="metric must be 'hamming' for keep, this index has 'jaccard'"):
            index.search(queries, keep=0.5)
        both([index, one], "range_search", queries, -0.5)
        both([index, one], "count_within", queries, "1")
        index.save(tmp_path)
    for n_shards in (None, 2):
        with ShardedIndex.load(tmp_path, n_shards=n_shards, threads=1) as loaded:
            same_by_jaccard(loaded)


def test_save_load_and_other_numbers_of_shards(index, tmp_path):
    from fasthash.distributed import ShardedIndex

    index, one = index
    rng = np.random.default_rng(5)
    codes, queries = clustered(rng, 500, 8), uniform(rng, 3, 8)
    ids = shuffled_ids(rng, 500)
    for each in (index, one):
        each.add(codes, ids)
        each.remove([ids.max()])  # still the largest so far
    index.save(tmp_path)
    index.save(tmp_path)  # in place of itself
    files = sorted(tmp_path.glob("shard-*.fh"))
    assert len(files) == 3
    pieces = [fh.load(file).to_arrays() for file in files]
    assert sorted(np.concatenate([ids for _, ids in pieces])) == sorted(one.to_arrays()[1])
    for n_shards in (None, 2, 6):
        with ShardedIndex.load(tmp_path, n_shards=n_shards, threads=1) as loaded:
            assert (loaded.n_shards, loaded.level_bits, loaded.memory) == (n_shards or 3, LAYOUT, "default")
            same(loaded, one, queries)
            if n_shards == 2:
                more = one.copy()
                for each in (loaded, more):
                    each.add(codes[:7])  # counts on from the id that was removed
                same(loaded, more, queries)
    first, second = files[0].read_bytes(), files[1].read_bytes()
    for content in ((second, first), (first, second)):  # exchanged, and back
        for file, data in zip(files, content, strict=False):
            file.write_bytes(data)
        card = json.loads((tmp_path / "card.json").read_text())
        del card["sha256"]
        for entry in card["files"].values():
            entry.update(_saved_folder.file_entry(tmp_path / entry["name"]))
        (tmp_path / "card.json").write_text(json.dumps(card | {"sha256": _saved_folder._checksum_of(card)}))
        if content[0] == second:
            with pytest.raises(fh.FormatError, match=r"shard-00000\.fh holds the id -?\d+ of another shard"):
                ShardedIndex.load(tmp_path)
    damaged = bytearray(files[1].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    files[1].write_bytes(damaged)
    with pytest.raises(fh.FormatError):
        ShardedIndex.load(tmp_path)
    files[1].unlink()
    with pytest.raises(fh.FormatError, match="is missing, which card"):
        ShardedIndex.load(tmp_path)


class Changing:
    """Gives another array each time."""

    def __init__(self, *arrays):
        self.arrays = list(arrays)

    def __array__(self, dtype=None, copy=None):
        return self.arrays.pop(0) if len(self.arrays) > 1 else self.arrays[0]


def test_what_is_given_is_read_once(index, monkeypatch):
    """By an object that changes, and by an array that is written once the shards of its ids are known."""
    index, one = index
    rng = np.random.default_rng(8)
    codes, more = uniform(rng, 40, 8), uniform(rng, 40, 8)
    first = index._state.next_id
    ids = np.arange(first, first + 40)
    index.add(Changing(codes, more), Changing(ids, ids + 1000))
    one.add(codes, ids)
    same(index, one, codes[:3])
    written = ids.copy()
    real = merge.rows_of_shards

    def rows(given, n_shards):
        found = real(given, n_shards)
        thread = threading.Thread(target=written.fill, args=(first,))
        thread.start()
        thread.join()
        return found

    monkeypatch.setattr("fasthash.distributed.changing.rows_of_shards", rows)
    index.update(written, more)
    monkeypatch.undo()
    assert (written == first).all()
    one.update(ids, more)
    same(index, one, codes[:3])
    allowed, queries = Changing(ids[:5], ids), Changing(codes[:3], more[:3])
    assert_same(index.search(queries, 9, keep=0.5, allow=allowed), one.search(codes[:3], 9, keep=0.5, allow=ids[:5]))


def test_a_load_beside_a_save_reads_the_card_again(index, tmp_path, monkeypatch):
    """The card is replaced after it was read, so the actors find no files."""
    from fasthash.distributed import ShardedIndex

    index, one = index
    for each in (index, one):
        each.add(np.arange(80, dtype=np.uint8).reshape(10, 8))
    index.save(tmp_path)
    points = []

    def save_again(point):
        points.append(point)
        if points == ["card read"]:
            index.save(tmp_path)

    monkeypatch.setattr(_saved_folder, "reached", save_again)
    with ShardedIndex.load(tmp_path, threads=1) as loaded:
        assert_same(loaded.to_arrays(), one.to_arrays())
    assert points == ["card read", "card replaced", "card read"]


def test_stats(index):
    index, _ = index
    index.add(uniform(np.random.default_rng(0), 100, 8))
    stats = index.stats()
    assert (stats["n_codes"], stats["n_shards"], stats["copies"]) == (100, 3, [1, 1, 1])
    assert sum(shard["n_codes"] for shard in stats["shards"]) == 100
    assert stats["nbytes"] == index.nbytes > 800


def test_the_commands(cluster, tmp_path, monkeypatch):
    typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash.cli import app

    def run(line):
        result = typer_testing.CliRunner().invoke(app, line.split())
        return result.exit_code, result.stdout + result.stderr

    monkeypatch.chdir(tmp_path)
    codes = clustered(np.random.default_rng(9), 300, 8)
    np.save("codes.npy", codes)
    np.save("queries.npy", codes[:4] ^ np.uint8(1))
    np.save("ids.npy", np.arange(300) * 3)
    options = "--levels 8,16,40 --ids ids.npy --memory compact"
    code, printed = run(f"build codes.npy -o one.fh {options}")
    assert code == 0
    code, printed = run(f"build codes.npy --ray --threads 1 {options}")
    assert (code, "300 codes of 64 bits in codes.shards" in printed) == (0, True), printed
    assert len(list((tmp_path / "codes.shards").glob("shard-*.fh"))) == 2
    for search in ("--radius 9 --csv", "-k 5 --keep 0.2 --json"):
        found = [run(f"search {name} queries.npy {search}") for name in ("one.fh", "codes.shards --ray --threads 1")]
        lines = [text.splitlines()[:-1] for _, text in found]  # but for the line that says what it took
        assert [code for code, _ in found] == [0, 0], found
        assert lines[0] == lines[1]
    more = "--ray --shards 1 --replicas 2 --threads 1 --csv"
    assert (
        run(f"search codes.shards queries.npy {more}")[1].splitlines()[:-1]
        == (run("search one.fh queries.npy --csv")[1].splitlines()[:-1])
    )
    code, printed = run("build codes.npy --ray")
    assert (code, printed) == (1, "fasthash: codes.shards exists; --force overwrites it\n")
    code, printed = run("build codes.npy --ray --force --json --shards 1 --threads 1")
    facts = json.loads(printed)
    assert (code, facts["kind"], facts["shards"], facts["codes"], facts["levels"]) == (0, "sharded", 1, 300, [64])
    assert run("search one.fh queries.npy --ray")[0] == 1
    for line, message in [
        ("build codes.npy --shards 2", "--shards needs --ray"),
        ("build codes.npy --ray --flat", "--flat excludes --ray"),
        ("search one.fh queries.npy --replicas 2", "--replicas needs --ray"),
        ("search one.fh queries.npy --address auto", "--address needs --ray"),
        ("search one.fh queries.npy --ray --mmap", "--mmap excludes --ray"),
    ]:
        code, printed = run(line)
        assert (code, message in printed) == (2, True), printed
