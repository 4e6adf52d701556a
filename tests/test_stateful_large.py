"""Galleries large enough for plans to give up, through any sequence of calls, beside arrays of numpy.

`FASTHASH_STATEFUL_EXAMPLES=1000` tries as many sequences; by default a few.
"""

import os
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

import fasthash as fh
import reference
from indices import KINDS, assert_same, empty, filled

N_EXAMPLES = int(os.environ.get("FASTHASH_STATEFUL_EXAMPLES", "15"))
MOST = 20_000  # codes
# Narrow codes in large galleries: most distances are shared by many, so that ids decide.
LAYOUTS = [(24,), (24,), (32,), (16, 16), (8, 16), (8,), (16,), (40,), (64,), (8, 8), (8, 16, 40)]
# Plans that may give up come more often.
SOME_KINDS = st.sampled_from([kind for kind in KINDS if kind[1] in ("auto", "multi-index")]) | st.sampled_from(KINDS)
SIZES = st.sampled_from([MOST, MOST, MOST, 3000, 100])
SEEDS = st.integers(0, 2**32)
SHARES = st.sampled_from([0.001, 0.01, 0.1, 0.5, 0.9])
FORMS = st.sampled_from([None, None, "ids", "mask", "filter"])
NOTHING = np.zeros(0, np.int64)


class LargeMachine(RuleBasedStateMachine):
    @initialize(layout=st.sampled_from(LAYOUTS), kind=SOME_KINDS, n=SIZES, seed=SEEDS)
    def begin(self, layout, kind, n, seed):
        self.layout, self.kind, self.n_bytes = layout, kind, sum(layout) // 8
        self.index = empty(kind, layout)
        self.codes, self.ids = np.zeros((0, self.n_bytes), np.uint8), NOTHING
        self.folder = tempfile.TemporaryDirectory(prefix="fasthash-")
        self.path = os.path.join(self.folder.name, "index.fh")
        rng = np.random.default_rng(seed)
        self.centres = rng.integers(0, 256, (rng.choice([1, 4, 64]), self.n_bytes), dtype=np.uint8)
        self.share_uniform = rng.choice([0.0, 0.5, 1.0, 1.0, 1.0])
        self.add(n, seed)

    def teardown(self):
        if hasattr(self, "folder"):
            try:
                order = np.argsort(self.ids)
                assert_same(self.index.to_arrays(), (self.codes[order], self.ids[order]))
            finally:
                self.folder.cleanup()

    def draw_codes(self, rng, n):
        """Anywhere, or some flipped bits away from few centres."""
        near = self.centres[rng.integers(0, len(self.centres), n)]
        near ^= np.packbits(rng.random((n, self.n_bytes * 8)) < 0.06, axis=1)
        anywhere = rng.integers(0, 256, (n, self.n_bytes), dtype=np.uint8)
        return np.where(rng.random((n, 1)) < self.share_uniform, anywhere, near)

    def draw_queries(self, rng, n):
        """Codes, what is near to codes, what is anywhere, and what is far from all that is near to a centre."""
        ways = [
            lambda: self.draw_codes(rng, n),
            lambda: rng.integers(0, 256, (n, self.n_bytes), dtype=np.uint8),
            lambda: ~self.draw_codes(rng, n),
        ]
        return ways[rng.integers(3)]()

    def some_rows(self, rng, share):
        return rng.permutation(len(self.ids))[: int(np.ceil(share * len(self.ids)))]

    def allow(self, rng, form, share):
        """A filter, and the codes and ids that it leaves."""
        if form is None:
            return None, self.codes, self.ids
        ids = np.append(self.ids[self.some_rows(rng, share)], 10**12)
        if form == "mask" and (n_ids := self.index._impl.next_id()) < 10**6:
            ids = np.isin(np.arange(n_ids), ids)
        return fh.IdFilter(ids) if form == "filter" else ids, *reference.allowed(self.codes, self.ids, ids)

    # ---- changes ----

    @rule(n=st.sampled_from([1, 50, 3000]), seed=SEEDS)
    def add(self, n, seed):
        n = min(n, MOST - len(self.ids))
        rng = np.random.default_rng(seed)
        codes = self.draw_codes(rng, n)
        first = max(0, self.ids.max(initial=-1) + 1)
        ids = first + rng.permutation(n) if rng.random() < 0.5 else None
        if rng.random() < 0.2:
            ids = np.setdiff1d(rng.integers(-(2**40), 2**40, n), [*self.ids.tolist(), -1])
            codes = codes[: len(ids)]
        first = self.index._impl.next_id()
        self.index.add(codes, ids)
        self.codes = np.concatenate([self.codes, codes])
        self.ids = np.concatenate([self.ids, first + np.arange(n) if ids is None else ids])

    @rule(share=SHARES, seed=SEEDS)
    def remove(self, share, seed):
        rows = self.some_rows(np.random.default_rng(seed), share)
        self.index.remove(self.ids[rows])
        self.codes, self.ids = np.delete(self.codes, rows, axis=0), np.delete(self.ids, rows)

    @rule(share=SHARES, seed=SEEDS)
    def update(self, share, seed):
        rng = np.random.default_rng(seed)
        rows = self.some_rows(rng, share)
        codes = self.draw_codes(rng, len(rows))
        self.index.update(self.ids[rows], codes)
        self.codes = self.codes.copy()
        self.codes[rows] = codes

    @rule()
    def compact(self):
        self.index.compact()

    @rule(kind=SOME_KINDS, seed=SEEDS)
    def build_anew(self, kind, seed):
        """Of the same codes, in another order: another kind of index, plan and memory."""
        order = np.random.default_rng(seed).permutation(len(self.ids))
        self.kind = kind
        self.index = filled(empty(kind, self.layout), self.codes[order], self.ids[order])

    @rule(mmap=st.booleans())
    def save_and_load(self, mmap):
        self.index.save(self.path)
        self.index = fh.load(self.path, mmap=mmap)

    @rule(swap=st.booleans())
    def copy(self, swap):
        other = self.index.copy()
        if swap:
            self.index, other = other, self.index
        other.remove(self.ids[::3])  # of no concern to the other

    # ---- questions ----

    @rule(seed=SEEDS, k=st.sampled_from([10, 50, 77, 200, 400, 500]), form=FORMS, share=SHARES)
    def search(self, seed, k, form, share):
        rng = np.random.default_rng(seed)
        queries = self.draw_queries(rng, 64)
        allow, codes, ids = self.allow(rng, form, share)
        found, stats = self.index.search(queries, k, allow=allow, stats=True)
        event(" and ".join(np.unique(stats.plan)))
        expected = reference.search(queries, codes, ids, k)
        assert_same(found, expected)
        rows = rng.permutation(64)[:3]
        assert_same(self.index.search(queries[rows], k, allow=allow), [array[rows] for array in expected])

    @rule(seed=SEEDS, k=st.sampled_from([1, 50, 200, 500]))
    def search_all(self, seed, k):
        self.search(seed, k, None, 1)

    @rule(seed=SEEDS, radius=st.integers(0, 12) | st.integers(0, 64), form=FORMS, share=SHARES)
    def within(self, seed, radius, form, share):
        rng = np.random.default_rng(seed)
        queries = self.draw_queries(rng, 4)
        allow, codes, ids = self.allow(rng, form, share)
        assert_same(
            self.index.range_search(queries, radius, allow=allow), reference.range_search(queries, codes, ids, radius)
        )
        counts = reference.count_within(queries, codes, radius)
        assert_same([self.index.count_within(queries, radius, allow=allow)], [counts])


TestLargeIndex = LargeMachine.TestCase
TestLargeIndex.settings = settings(
    max_examples=N_EXAMPLES, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
pytestmark = pytest.mark.timeout(300 + 10 * N_EXAMPLES)
