"""An index through any sequence of calls, beside a dictionary."""

import copy
import os
import pickle
import tempfile

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import fasthash as fh
import reference
from indices import KINDS, MODES, assert_same, empty, filled

INT64_MAX = 2**63 - 1
ALL_IDS = (-(2**63), INT64_MAX)
# Of the last ones 64 KiB are few codes: they come to stand in three segments.
LAYOUTS = [(8, 16, 40), (8, 16, 40), (64,), (8, 8), (2048, 2048)]
STARTS = [0, 0, 40, 1500, 5500]
SIZES = st.integers(1, 12) | st.integers(1, 100) | st.integers(100, 170) | st.integers(100, 4000)
SEEDS = st.integers(0, 2**32)
FEW = st.sampled_from([0, 1e-9, 0.01, 0.01, 0.04, 0.04, 0.1, 0.3, 0.95, 1])  # of the codes; rounded up
SHARES = st.sampled_from([0, 1e-9, 0.01, 0.1, 0.5, 0.99, 1])
RADII = st.integers(0, 12) | st.integers(0, 70)
FORMS = st.sampled_from([None, "ids", "mask", "filter"])


class Machine(RuleBasedStateMachine):
    kinds = KINDS

    @initialize(data=st.data(), layout=st.sampled_from(LAYOUTS), n=st.sampled_from(STARTS), seed=SEEDS)
    def begin(self, data, layout, n, seed):
        self.kind = data.draw(st.sampled_from(self.kinds), label="kind")
        self.layout = layout
        self.n_bytes = sum(layout) // 8
        self.index = empty(self.kind, layout)
        self.held = {}  # id: code
        self.next_id = 0
        self.others = []  # copies made on the way, with what they held
        self.filter = None
        self.folder = tempfile.TemporaryDirectory(prefix="fasthash-")
        self.path = os.path.join(self.folder.name, "index.fh")
        rng = np.random.default_rng(seed)
        self.centres = rng.integers(0, 256, (6, self.n_bytes), dtype=np.uint8)
        if n > 0:
            self.add_counted(n, seed)

    def teardown(self):
        if hasattr(self, "folder"):
            try:
                for index, held in [*self.others, (self.index, self.held)]:
                    assert_holds(index, held)
            finally:
                self.folder.cleanup()

    # ---- what the calls are made of ----

    def codes(self, rng, n):
        """Near a few centres, often equal."""
        codes = self.centres[rng.integers(0, len(self.centres), n)]
        for _ in range(rng.integers(4)):
            bit = np.uint8(1) << rng.integers(0, 8, n, dtype=np.uint8)
            codes[np.arange(n), rng.integers(0, self.n_bytes, n)] ^= bit
        return codes

    def new_ids(self, rng, n):
        """At most n of them."""
        ranges = [(0, 4 * n), (-3 * n, 3 * n), (self.next_id, self.next_id + 9 * n), (2**63 - 3 * n, 2**63), ALL_IDS]
        low, high = ranges[rng.choice(5, p=[0.4, 0.3, 0.28, 0.01, 0.01])]
        ids = np.unique(rng.integers(min(low, INT64_MAX), min(high, INT64_MAX), 2 * n, endpoint=True))
        ids = np.array([i for i in ids.tolist() if i != -1 and i not in self.held], np.int64)
        return rng.permutation(ids)[:n]

    def some_ids(self, rng, share):
        ids = np.array(list(self.held), np.int64)
        return rng.permutation(ids)[: int(np.ceil(share * len(ids)))]

    def arrays(self):
        codes = np.frombuffer(b"".join(self.held.values()), np.uint8).reshape(-1, self.n_bytes)
        return codes, np.array(list(self.held), np.int64)

    def hold(self, codes, ids):
        self.held.update(zip(ids.tolist(), (code.tobytes() for code in codes), strict=True))
        self.next_id = max([self.next_id, *(i + 1 for i in ids.tolist())])

    def allow(self, rng, form, share):
        """A filter, and the codes and ids that it leaves."""
        if form is None:
            return None, *self.arrays()
        if form == "mask" and self.next_id < 10**6:
            allow = rng.random(self.next_id + rng.integers(3)) < share
            return allow, *reference.allowed(*self.arrays(), allow)
        ids = np.concatenate([self.some_ids(rng, share), [-1, 10**12]])
        allow = ids
        if form == "filter":
            if self.filter is None or rng.random() < 0.3:
                self.filter = fh.IdFilter(ids), ids
            allow, ids = self.filter  # also after changes of the index
        return allow, *reference.allowed(*self.arrays(), ids)

    # ---- changes ----

    @rule(n=SIZES, seed=SEEDS)
    def add_counted(self, n, seed):
        codes = self.codes(np.random.default_rng(seed), n)
        if self.next_id + n > 2**63:
            with pytest.raises(ValueError, match="ids must be given"):
                self.index.add(codes)
            return
        self.index.add(codes)
        # Counted from 0: beyond the last id numpy has no integer to end with.
        self.hold(codes, self.next_id + np.arange(n))

    @rule(n=SIZES, seed=SEEDS)
    def add_with_ids(self, n, seed):
        rng = np.random.default_rng(seed)
        ids = self.new_ids(rng, n)
        codes = self.codes(rng, len(ids))
        self.index.add(codes, ids)
        self.hold(codes, ids)

    @precondition(lambda self: self.held)
    @rule(n=st.integers(1, 50), seed=SEEDS)
    def add_what_is_there(self, n, seed):
        rng = np.random.default_rng(seed)
        ids = rng.permutation(np.concatenate([self.new_ids(rng, n), self.some_ids(rng, 0.001)]))
        with pytest.raises(ValueError, match="ids must be new to the index, but it holds"):
            self.index.add(self.codes(rng, len(ids)), ids)

    @rule(share=FEW, seed=SEEDS)
    def remove(self, share, seed):
        ids = self.some_ids(np.random.default_rng(seed), share)
        self.index.remove(ids)
        for i in ids.tolist():
            del self.held[i]

    @rule(seed=SEEDS)
    def remove_what_is_not_there(self, seed):
        rng = np.random.default_rng(seed)
        ids = rng.permutation(np.concatenate([self.new_ids(rng, 1), self.some_ids(rng, 0.1)]))
        if set(ids.tolist()) <= self.held.keys():
            return
        for call in (self.index.remove, lambda ids: self.index.update(ids, self.codes(rng, len(ids)))):
            with pytest.raises(ValueError, match="ids must be in the index, but it does not hold"):
                call(ids)

    @rule(share=FEW, seed=SEEDS)
    def update(self, share, seed):
        rng = np.random.default_rng(seed)
        ids = self.some_ids(rng, share)
        codes = self.codes(rng, len(ids))
        self.index.update(ids, codes)
        self.hold(codes, ids)

    @rule(n=SIZES, seed=SEEDS)
    def merge(self, n, seed):
        rng = np.random.default_rng(seed)
        ids = self.new_ids(rng, n)
        codes = self.codes(rng, len(ids))
        kinds = KINDS if len(self.layout) == 1 else self.kinds
        other = filled(empty(kinds[rng.integers(len(kinds))], self.index.level_bits), codes, ids)
        self.index.merge(other)
        assert len(other) == len(ids)
        self.hold(codes, ids)

    @rule()
    def compact(self):
        self.index.compact()
        stats = self.index.stats()
        assert (stats["n_segments"], stats["n_removed"]) == (min(1, len(self.held)), 0)

    @rule(way=st.sampled_from([fh.FlatIndex.copy, copy.copy, copy.deepcopy]), swap=st.booleans())
    def copy(self, way, swap):
        other = way(self.index)
        self.others = [*self.others[-2:], (self.index if swap else other, dict(self.held))]
        if swap:
            self.index = other

    # ---- files ----

    @rule(mmap=st.booleans())
    def save_and_load(self, mmap):
        self.index.save(self.path)
        self.index = fh.load(self.path, mmap=mmap)

    @rule()
    def pickle(self):
        self.index = pickle.loads(pickle.dumps(self.index))

    @rule()
    def through_bytes(self):
        self.index = type(self.index).from_bytes(bytearray(self.index.to_bytes()))

    # ---- questions ----

    @rule(
        seed=SEEDS,
        k=st.integers(1, 30) | st.integers(1, 6000),
        form=FORMS,
        share=SHARES,
        keep=st.none() | st.sampled_from([0.1, 0.5, 1]),
    )
    def search(self, seed, k, form, share, keep):
        rng = np.random.default_rng(seed)
        queries = self.codes(rng, 2)
        allow, codes, ids = self.allow(rng, form, share)
        if keep is None or self.kind == "flat":
            assert_same(self.index.search(queries, k, allow=allow), reference.search(queries, codes, ids, k))
            return
        mode = MODES[rng.integers(3)]
        found = self.index.search(queries, k, keep=keep, keep_mode=mode, allow=allow)
        assert_same(found, reference.pruned_search(queries, codes, ids, k, self.layout, keep, mode)[:2])

    @rule(seed=SEEDS, radius=RADII, form=FORMS, share=SHARES)
    def range_search(self, seed, radius, form, share):
        rng = np.random.default_rng(seed)
        queries = self.codes(rng, 2)
        allow, codes, ids = self.allow(rng, form, share)
        found = self.index.range_search(queries, radius, allow=allow)
        assert_same(found, reference.range_search(queries, codes, ids, radius))

    @rule(seed=SEEDS, radius=RADII, form=FORMS, share=SHARES)
    def count_within(self, seed, radius, form, share):
        rng = np.random.default_rng(seed)
        queries = self.codes(rng, 2)
        allow, codes, _ = self.allow(rng, form, share)
        counts = self.index.count_within(queries, radius, allow=allow)
        assert_same([counts], [reference.count_within(queries, codes, radius)])

    @rule(seed=SEEDS)
    def contains(self, seed):
        rng = np.random.default_rng(seed)
        for i in [-1, 0, self.next_id, *self.new_ids(rng, 3), *self.some_ids(rng, 0.001)]:
            assert (i in self.index) == (int(i) in self.held)

    @rule(share=SHARES, seed=SEEDS)
    def reconstruct(self, share, seed):
        ids = self.some_ids(np.random.default_rng(seed), share)
        codes = self.index.reconstruct(ids)
        assert codes.shape == (len(ids), self.n_bytes)
        assert codes.tobytes() == b"".join(self.held[i] for i in ids.tolist())

    @rule()
    def to_arrays(self):
        assert_holds(self.index, self.held)

    @rule()
    def build_anew(self):
        codes, ids = self.index.to_arrays()
        assert_holds(filled(empty(self.kind, self.layout), codes, ids), self.held)

    # ---- always ----

    @invariant()
    def sizes_are_right(self):
        if not hasattr(self, "index"):
            return  # not yet begun
        stats = self.index.stats()
        assert len(self.index) == stats["n_codes"] == len(self.held)
        assert stats["n_segments"] <= 4
        assert stats["n_removed"] <= len(self.held) / 7
        assert self.index.level_bits == (self.layout if self.kind != "flat" else (sum(self.layout),))
        if self.kind != "flat":
            assert self.index.memory == self.kind[0]


def assert_holds(index, held):
    codes, ids = index.to_arrays()
    assert ids.tolist() == sorted(held)
    assert codes.tobytes() == b"".join(held[i] for i in sorted(held))
    assert len(index) == len(held)


class FlatMachine(Machine):
    kinds = ("flat",)


class HierMachine(Machine):
    kinds = tuple(kind for kind in KINDS if kind != "flat")


TestFlatIndex = FlatMachine.TestCase
TestHierIndex = HierMachine.TestCase
TestFlatIndex.settings = TestHierIndex.settings = settings(
    max_examples=settings.default.max_examples // 2, stateful_step_count=50
)
