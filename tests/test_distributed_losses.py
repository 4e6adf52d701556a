"""An index in shards without living nodes, or closed, says so; actors are objects of this process."""

import logging
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest

ray = pytest.importorskip("ray", reason="needs the extra ray")

from fasthash import FormatError
from fasthash.distributed import PartialResult, ShardedIndex, _ray
from fasthash.distributed import fleet as fleets
from fasthash.distributed.copies import Options, choose_node
from fasthash.distributed.relaying import Relays
from fasthash.distributed.states import checked_settings
from local_actors import local_actors

CODES = np.arange(40, dtype=np.uint8).reshape(20, 2)
CLOSED = "^the index is closed$"


@pytest.fixture(params=[None, "store"])
def index(request, tmp_path):
    with local_actors():
        store = None if request.param is None else tmp_path / request.param
        with ShardedIndex((8, 8), n_shards=3, replicas=2, store=store) as index:
            index.add(CODES)
            yield index


def test_without_a_node(monkeypatch):
    with pytest.raises(ConnectionError, match=r"^no node of the Ray cluster is alive$"):
        choose_node([], [], {}, {})
    with local_actors():
        monkeypatch.setattr("fasthash.distributed.copies.ray.nodes", list)
        for start in (
            lambda: ShardedIndex((8, 8)),
            lambda: Relays(Options.checked(16, 1, 1, 0, 1), 4, checked_settings(16, "default", "auto", "hamming")),
        ):
            with pytest.raises(ConnectionError, match=r"^no node of the Ray cluster is alive$"):
                start()


def failing_repair(index, monkeypatch, caplog, where, name, fail):
    """Lose a copy of shard 1 while a function that its repair needs fails; return the only message of ten attempts."""
    monkeypatch.setattr(fleets, "_WATCH_SECONDS", 0.01)
    attempts = []

    def failing(*arguments):
        attempts.append(arguments)
        return fail()

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(where, name, failing)
        copy = index._fleet.copies(1)[0]
        copy.actor.lose()
        index._fleet.check([(1, copy)])
        end = time.monotonic() + 60
        while len(attempts) < 10:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert index.wait_until_whole()
    assert len(index._fleet.copies(1)) == 2
    (record,) = caplog.records
    return record.getMessage()


def test_a_repair_that_fails_again_and_again_is_logged_once(index, monkeypatch, caplog):
    message = failing_repair(index, monkeypatch, caplog, fleets, "nodes", list)
    assert message == "shard 1 is not restored yet: ConnectionError('no node of the Ray cluster is alive')"


def test_a_new_copy_that_cannot_be_filled_is_logged_once(index, monkeypatch, caplog):
    """For example since its files are damaged, which the other copy does not read again."""

    def damaged():
        raise FormatError("damaged")

    message = failing_repair(index, monkeypatch, caplog, index._fleet.shard_class, "put", damaged)
    assert message == "shard 1 is not restored yet: FormatError('damaged')"


def test_no_start_is_waited_for_for_less_than_no_time(monkeypatch):
    """Ray would end this process."""
    now, timeouts = [0.0], []

    def pass_by(seconds):
        now[0] += seconds

    def choose_slowly(*arguments):
        pass_by(7)
        return choose_node(*arguments)

    def fail(reference, timeout):
        timeouts.append(timeout)
        raise ray.exceptions.RayActorError

    with local_actors():
        monkeypatch.setattr(fleets, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=pass_by))
        monkeypatch.setattr(fleets, "choose_node", choose_slowly)
        monkeypatch.setattr(fleets.ray, "get", fail)
        with pytest.raises(TimeoutError, match=r"^Ray has not started a shard within 60 s"):
            ShardedIndex((8, 8), n_shards=1)
    assert timeouts == [60, 52, 44, 36, 28, 20, 12, 4, 0]


def calls(index, folder):
    """Every call that needs the shards, by name."""
    yield from {
        "search": lambda: index.search(CODES),
        "search, partial": lambda: index.search(CODES, partial=True),
        "search, keep, partial": lambda: index.search(CODES, keep=0.5, partial=True),
        "range_search": lambda: index.range_search(CODES, 3),
        "range_search, partial": lambda: index.range_search(CODES, 3, partial=True),
        "count_within": lambda: index.count_within(CODES, 3),
        "count_within, partial": lambda: index.count_within(CODES, 3, partial=True),
        "reconstruct": lambda: index.reconstruct([1]),
        "reconstruct nothing": lambda: index.reconstruct(np.empty(0, np.int64)),
        "in": lambda: 1 in index,
        "to_arrays": index.to_arrays,
        "add": lambda: index.add(CODES),
        "add nothing": lambda: index.add(CODES[:0]),
        "remove": lambda: index.remove([1]),
        "update": lambda: index.update([1], CODES[:1]),
        "compact": index.compact,
        "save": lambda: index.save(folder),
        "len": lambda: len(index),
        "ntotal": lambda: index.ntotal,
        "nbytes": lambda: index.nbytes,
        "stats": index.stats,
        "copies": lambda: index.copies,
        "wait_until_whole": lambda: index.wait_until_whole(5),
    }.items()
    if index.store is not None:
        yield "commit", index.commit
        yield "commit_number", lambda: index.commit_number


@pytest.mark.parametrize("changed", [False, True])
def test_a_closed_index_says_so(index, tmp_path, changed):
    if index.store is not None and not changed:
        index.commit()
    index.close()
    index.close()
    for name, call in calls(index, tmp_path / "saved"):
        with pytest.raises(ValueError, match=CLOSED):
            pytest.fail(f"{name} returned {call()!r}")
    assert not (tmp_path / "saved").exists()
    assert repr(index) == "ShardedIndex(level_bits=(8, 8), n_shards=3, replicas=2, memory='default', closed)"
    assert (index.n_bits, index.n_shards, index.replicas) == (16, 3, 2)


@pytest.mark.parametrize("partial", [False, True])
def test_closing_during_a_search(index, partial):
    def closing(*arguments):
        index.close()
        raise fleets.ray.exceptions.RayActorError

    for shard in range(3):
        for copy in index._fleet.copies(shard):
            copy.actor._object.search = closing
    with pytest.raises(ValueError, match=CLOSED):
        index.search(CODES, partial=partial)


def test_closing_while_it_waits_for_copies(index):
    fleet = index._fleet
    with fleet._changed:
        fleet._copies[0] = []
    wait_for = fleet._changed.wait_for

    def closed_meanwhile(predicate, seconds):
        assert not predicate()
        fleet.close()
        return wait_for(predicate, seconds)

    fleet._changed.wait_for = closed_meanwhile
    with pytest.raises(ValueError, match=CLOSED):
        index.wait_until_whole()


@pytest.mark.parametrize("index", ["store"], indirect=True)
def test_a_commit_that_is_in_place_when_the_index_is_closed_counts(index, monkeypatch):
    change = index._fleet.change

    def closing(*arguments):
        index._fleet.close()
        return change(*arguments)

    monkeypatch.setattr(index._fleet, "change", closing)
    assert index.commit() == 1
    folder = index.store
    index.close()
    with ShardedIndex.open(folder) as again:
        assert len(again) == len(CODES)


def test_a_lost_index_is_not_a_closed_one(index):
    """`partial=True` still gives the rest: here nothing."""
    for shard in range(3):
        for copy in index._fleet.copies(shard):
            copy.actor.lose()
    found = index.search(CODES, partial=True)
    assert isinstance(found, PartialResult)
    assert found.missing_shards == (0, 1, 2)
    assert re.search("with 20 codes$", repr(index))


def test_ray_that_does_not_start_is_one_line(monkeypatch):
    """Ray raises a bare Exception, and may do so over several lines."""

    def fail(error):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: fail(Exception("The current node timed out\nduring startup.")))
    with pytest.raises(ConnectionError, match=r"^Ray does not start: The current node timed out during startup\.$"):
        _ray.start()
    for error in (ConnectionError("no cluster"), ValueError("address must be ...")):  # which are clear as they are
        monkeypatch.setattr(ray, "init", lambda error=error, **options: fail(error))
        with pytest.raises(type(error), match=f"^{error}$"):
            _ray.start()


def test_nodes_are_chosen_apart():
    assert choose_node(["a", "b", "c"], ["a"], {}, {"a": 0, "b": 2, "c": 1}) == "c"
    assert choose_node(["a", "b", "c"], ["a"], {"c": 1}, {"a": 0, "b": 2, "c": 1}) == "b"
    assert choose_node(["a", "b"], ["a"], {"b": 1}, {}) == "b"
    assert choose_node(["a", "b", "c"], ["a"], {"b": 2, "c": 1}, {"c": 9}) == "c"
    assert choose_node(["a"], ["a"], {"a": 1}, {}) == "a"
