"""Breaks selection and tie handling on purpose, one place at a time, and sees that the tests notice.

    python tests/mutants.py [NAME ...]

Each mutant is one changed line in a copy of the tree. It is caught if a test fails (or the build does) that `make test`
runs too: the C++ tests of the selection and of safe cuts, the differential tests, those of pruned searches and of
merging shards, or the test of the GPU's kernels. Exit code 1 if any survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pybind11

ROOT = Path(__file__).parent.parent
TOPK, TOPK_H = "cpp/src/search/topk.cpp", "cpp/include/fasthash/topk.h"
SCAN, SCAN_H = "cpp/src/search/scan.cpp", "cpp/src/search/scan.h"
SEARCH = "cpp/src/segments/segment_search.cpp"
PRUNED, LEVELS = "cpp/src/search/pruned_search.cpp", "cpp/src/search/tree_levels.cpp"
LEVELS_H, LEAVES = "cpp/src/search/tree_levels.h", "cpp/src/search/leaf_search.cpp"
NEAREST_LEAVES = "cpp/src/search/nearest_leaves.h"
SUBSTRING, ROW_IDS = "cpp/src/search/substring_search.cpp", "cpp/src/codes/row_ids.cpp"
WAITING, WAITING_H = "cpp/src/search/waiting_hits.cpp", "cpp/src/search/waiting_hits.h"
ENTRIES, ENTRIES_H = "cpp/src/search/row_entries.cpp", "cpp/src/search/row_entries.h"
SAFE_CUTS = "cpp/src/search/safe_cuts.cpp"
MERGE, RESCORING = "python/fasthash/distributed/merge.py", "python/fasthash/_embedding_state.py"
CLUSTERS, ARRANGED = "cpp/src/search/cluster_search.cpp", "cpp/src/codes/arranged_codes.cpp"
JACCARD, JACCARD_H = "cpp/src/search/jaccard_scan.cpp", "cpp/src/search/jaccard_topk.h"
GPU, BATCH, GALLERY = "cpp/gpu/search_kernels.h", "cpp/gpu/query_batch.h", "cpp/gpu/gallery.cu"
GPU_CLUSTERS, GPU_JACCARD, KEYS = "cpp/gpu/cluster_kernels.h", "cpp/gpu/jaccard_scan.h", "cpp/gpu/pair_keys.h"
LEVEL_CUTS, TENSOR = "cpp/gpu/level_cuts.cu", "cpp/gpu/tensor_scan.h"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str


MUTANTS = [
    Mutant("a tie with the last id is refused", TOPK_H, "least_id <= id_threshold_", "least_id < id_threshold_"),
    Mutant("the last of ascending ids is refused", TOPK_H, ": n_within_ < k_;", ": n_within_ + 1 < k_;"),
    Mutant("the id of an earlier threshold stays", TOPK, "        id_threshold_ = INT64_MAX;\n    }", "    }"),
    Mutant("the threshold falls at most one bit", TOPK, "    while (n_within_ -", "    if (n_within_ -"),
    Mutant("compacting drops the last tie", TOPK, "(pair.id < id_threshold_)) | is_last;", "(pair.id < id_threshold_));"),
    Mutant("compacting keeps the wrong ties", TOPK, "ties_.end());\n        id_threshold_", "ties_.end(), std::greater<>());\n        id_threshold_"),
    Mutant("results have the wrong ties of few", TOPK, "ids[j] = std::min(id, other);", "ids[j] = other;"),
    Mutant("results have the wrong ties of many", TOPK, "if (n_wanted < n) std::nth_element(ids, ids + n_wanted, ids + n);", ""),
    Mutant("ties that are expected are compacted away", TOPK, "n_within_ -= ties_.size() - ties_kept;", "n_within_ -= n_ties - ties_kept;"),
    Mutant("large ids are sorted by their low half", TOPK, "shift < 64 && range >> shift != 0", "shift < 32 && range >> shift != 0"),
    Mutant("a scan takes the next group's least id", SCAN, "entries_.least_id(group)", "entries_.least_id(std::min(group + 1, (codes_.size() - 1) / kGroup))"),
    Mutant("a scan leaves ties out", WAITING_H, "nearest_[query].largest_distance() + 1);", "nearest_[query].largest_distance());"),
    Mutant("a skipped group loses a distance", SCAN_H, "distances[i] <= threshold", "distances[i] < threshold"),
    Mutant("waiting ties are dropped", WAITING, "hit.distance <= nearest_[hit.query]", "hit.distance < nearest_[hit.query]"),
    Mutant("waiting ties are not pushed", WAITING, "hit.distance > nearest.threshold()", "hit.distance >= nearest.threshold()"),
    Mutant("hits that waited count twice", WAITING, "entries_.push_expected(hit.row, ", "entries_.push(hit.row, "),
    Mutant("an expected row has one entry", ENTRIES, "std::min(range.size(), nearest.k());", "1;"),
    Mutant("ascending ids are counted before they come", WAITING, " && nearest->order() == IdOrder::any", ""),
    Mutant("rows of hidden entries are counted", ENTRIES_H, "return visibility_.all() && ids_.n_entries()", "return ids_.n_entries()"),
    Mutant("the threshold of a later moment", SUBSTRING, "farthest_ = farthest;", "farthest_ = farthest - (threshold - nearest_->threshold());"),
    Mutant("held back groups lose two distances", SUBSTRING, "{threshold, threshold - 1}", "{threshold, threshold - 2}"),
    Mutant("substrings end one bit early", SUBSTRING, "n_substrings * distance + substring)) return", "n_substrings * distance + substring + 1)) return"),
    Mutant("codes of this distance count as seen", SUBSTRING, "count_bits(flips) < n_visited_[substring]", "count_bits(flips) <= n_visited_[substring]"),
    Mutant("hits at the k-th distance are dropped", SUBSTRING, "hits[i].distance > nearest_of_all", "hits[i].distance >= nearest_of_all"),
    Mutant("the k-th of some hits is a nearer one", SUBSTRING, "distances + nearest_->k() - 1;", "distances + nearest_->k() / 2;"),
    Mutant("dropped prefixes do not count", SUBSTRING, "wanted[i].distance + prefix_distance_", "wanted[i].distance"),
    Mutant("equal codes give one id less", ENTRIES, "std::min(range.size(), n_wanted);", "std::min(range.size(), n_wanted + 1) - 1;"),
    Mutant("a group's least id is its first", ROW_IDS, "} else if (id < least_ids_[group]) {", "} else if (id < least_ids_[group] && new_row) {"),
    Mutant("a loaded group's least id is its last", "cpp/src/codes/id_summary.cpp", "least = std::min(least, id);", "least = id;"),
    Mutant("chunks of several segments count as ordered", SEARCH, "order = IdOrder::any;  // threads", "(void)0;  // threads"),
    Mutant("joined chunks lose a query", SEARCH, "chunk = 1; chunk < n_chunks; ++chunk) {", "chunk = 2; chunk < n_chunks; ++chunk) {"),
    Mutant("segments in any order count as ordered", "cpp/src/segments/state.cpp", "|| each.segment->smallest_id() < last) return", ") return"),
    Mutant("pruned searches end before ties", PRUNED, "total <= largest() && !scans", "total < largest() && !scans"),
    Mutant("pruned levels keep fewer than k", LEVELS, "std::min(k, codes_.n_entries());", "std::min(k, codes_.n_entries()) / 2;"),
    Mutant("empty places of a level are counted", LEVELS, "places.end - places.begin,", "places.end - places.begin + 1,"),
    Mutant("heavy nodes count as light ones", LEVELS, "sum += codes_.n_entries(rows.begin, rows.end) - LevelNodes::kMostWeight;", "sum += 0 * rows.size();"),
    Mutant("scanned rows ignore the cuts", "cpp/src/search/kept_scan.cpp", "& (totals[i] < Totals::kDropped)", ""),
    Mutant("scanned rows are compared twice", "cpp/src/search/kept_scan.cpp", "std::min<std::size_t>(wanted.first_total, ", "std::min<std::size_t>(0, "),
    Mutant("a sample of kept rows counts others", "cpp/src/search/kept_scan.cpp", "sample_.keep(g, kept_rows(", "sample_.keep(g, ~std::uint64_t{0} | kept_rows("),
    Mutant("a few scanned rows ignore the cuts", "cpp/src/search/kept_scan.cpp", "if (!kept || total < first)", "if (total < first)"),
    Mutant("a few scanned rows are compared twice", "cpp/src/search/kept_scan.cpp", "if (!kept || total < first)", "if (!kept)"),
    Mutant("every code counts as kept for certain", SAFE_CUTS, "beyond == n_levels_ ? Fate::kept", "beyond <= n_levels_ ? Fate::kept"),
    Mutant("the next byte bounds a cut too far", SAFE_CUTS, "sum + others(d) >= needed", "sum + others(d) >= 2 * needed"),
    Mutant("a level keeps more than the one before", SAFE_CUTS, "cuts[depth] = cuts[depth - 1];", "cuts[depth] = cuts[depth - 1] + 1;"),
    Mutant("nodes count as entries", SAFE_CUTS, "return sums.n_entries - sums.n_below;", "return 0 * (sums.n_entries - sums.n_below);"),
    Mutant("dropped codes do not end a search", SCAN, "++n_dropped_[query] > most_dropped_", "n_dropped_[query] > most_dropped_"),
    Mutant("cuts of the last level are not raised", "cpp/src/search/safe_cuts.cpp", "levels.start(queries.row(q), prepared.data(), nullptr, k);", "levels.start(queries.row(q), prepared.data(), nullptr, 1);"),
    Mutant("all shares have one rate of success", "cpp/src/segments/success_rate.h", "[static_cast<int>(std::clamp<double>(step, 0, kMostSteps))]", "[0]"),
    Mutant("near prefixes are fewer than they may be", "cpp/src/codes/prefix_moments.h", "needed - 1)));", "needed - 1)) / 2);"),
    Mutant("scanned codes have ascending ids", SEARCH, "scanned && segment.ids_ascend()", "scanned"),
    Mutant("codes of unknown fate do no harm", SCAN, "if (fate == Fate::unknown) nearest", "if (fate == Fate::unknown && distance < 0) nearest"),
    Mutant("leaves go on from totals of nodes", LEVELS_H, "return at_leaves() && leaves_are_nodes();", "return at_leaves();"),
    Mutant("groups of two nodes are listed twice", LEVELS, "std::max(next, static_cast<std::uint32_t>(groups.begin))", "static_cast<std::uint32_t>(groups.begin)"),
    Mutant("the last leaf found is left out", NEAREST_LEAVES, "hit.distance <= last ? 1 : 0;", "hit.distance < last ? 1 : 0;"),
    Mutant("a guess that finds too few is the distance", NEAREST_LEAVES, "if (n_listed_ < k) return false;", ""),
    Mutant("counts of listed leaves are those of the next total", LEVELS, "counts_[largest] = static_cast<std::size_t>(count.counts[0]);", "counts_[largest] = static_cast<std::size_t>(count.counts[1]);"),
    Mutant("the nearest leaf is left out", LEVELS, "each_between(0, last,", "each_between(0, last - 1,"),
    Mutant("codes are counted as nodes", LEVELS_H, "return {leaves.begins.data(), Leaves::kMostBegins};", "return {leaves.entries.data(), leaves.most_entries};"),
    Mutant("leaves beyond the cut are kept", LEAVES, "(hit.total <= query.threshold) & (hit.prefix <= cut);", "hit.total <= query.threshold;"),
    Mutant("a guess counts as the cut", LEAVES, "query.weight_up_to(0) < query.needed && std::all_of", "std::all_of"),
    Mutant("places without leaves are hits", LEAVES, "rows_of_group({0, tree_.n_rows()}, first_row)", "rows_of_group({0, tree_.n_rows() + kGroup}, first_row)"),
    Mutant("a wrong guess leaves too few", LEAVES, "if (n_kept < n_needed_)", "if (n_kept < 1)"),
    Mutant("an annulus ends one radius early", CLUSTERS, "std::min(radii.last, d + most)", "std::min(radii.last, d + most - 1)"),
    Mutant("an annulus begins one radius late", CLUSTERS, "std::max(radii.first, d - most)", "std::max(radii.first, d - most + 1)"),
    Mutant("clusters at the threshold are left out", CLUSTERS, "if (least > most ||", "if (least >= most ||"),
    Mutant("other clusters count as too far", CLUSTERS, "if ((d - least + 1) / 2 > most)", "if ((d - least + 3) / 2 > most)"),
    Mutant("waiting clusters are dropped at the threshold", CLUSTERS, "if (least <= largest(query))", "if (least < largest(query))"),
    Mutant("the certificate reaches one bit too far", CLUSTERS, "bound(query, cluster, radii) - 1)", "bound(query, cluster, radii))"),
    Mutant("what a cluster leaves out is not noted", CLUSTERS, "leave_out(query, cluster, {std::max", "if (false) leave_out(query, cluster, {std::max"),
    Mutant("a limit forgets farther pairs", TOPK, "n_within_ -= counts_[static_cast<std::size_t>(threshold_--)];\n    id", "--threshold_;\n    id"),
    Mutant("a sample counts hidden entries", SCAN, "n == 0 || entries_.restricted()", "n == 0"),
    Mutant("a sample counts rows outside the range", SCAN, "sample_.keep(n - 1, ", "(void)("),
    Mutant("a sample is one short", "cpp/src/search/sample.cpp", ">= k) {", ">= k - 1) {"),
    Mutant("a chunk of a cluster hides its last radius", CLUSTERS, "annulus.first > last) continue;", "annulus.first >= last) continue;"),
    Mutant("centroids near the last one are few", "cpp/src/codes/k_majority.cpp", "std::size_t{2} * distance", "std::size_t{1} * distance"),
    Mutant("codes belong to a far centroid", "cpp/src/codes/k_majority.cpp", "while (distances_[number] != least) ++number;", "while (distances_[number] > least + 2) ++number;"),
    Mutant("rows of the next cluster are compared twice", SCAN_H, "if (first_row + kGroup > range.end) rows", "if (first_row + kGroup > range.end + 64) rows"),
    Mutant("one shared bit too many is wanted", JACCARD_H, "+ whole - 1) / whole;", "+ whole) / whole;"),
    Mutant("equal fractions forget ids", JACCARD_H, "&& a.id < b.id;", "&& b.id < a.id;"),
    Mutant("codes with more bits are ruled out", JACCARD, "std::min(n_set, counts_.most)) return", "std::min(n_set, counts_.fewest)) return"),
    Mutant("a block counts as its fullest code", JACCARD, "n_set + counts_.fewest);", "n_set + counts_.most);"),
    Mutant("counting ends a plane early", "cpp/src/kernels/planes.h", "scan.least - rest))", "scan.least - rest + 1))"),
    Mutant("removed codes of planes are found", JACCARD, "real & live->word(begin / 64)", "real"),
    Mutant("merged shards forget ids", MERGE, "np.lexsort((ids, distances), axis=-1)", "np.argsort(distances, axis=-1)"),
    Mutant("scored candidates forget ids", RESCORING, "np.lexsort((ids, -scores), axis=-1)", "np.argsort(-scores, axis=-1)"),
    Mutant("a GPU threshold is that of a nearer one", GPU, "thresholds[query] = keys[k - 1];", "thresholds[query] = keys[k / 2];"),
    Mutant("a row on the GPU gives one id less", GPU, "n_taken < k; ++entry", "n_taken + 1 < k; ++entry"),
    Mutant("queries compared again lose their last", BATCH, "thresholds[query] += 1;", "thresholds[query] += 0;"),
    Mutant("a GPU threshold loses ties", GPU, "static_cast<int>(distance) + 1, 0)", "static_cast<int>(distance), 0)"),
    Mutant("products take the zeros of another code", TENSOR, "8 * t + 4 * i", "8 * t"),
    Mutant("a GPU does not count the last child of a node", LEVEL_CUTS, "node < end; ++node, ++word", "node + 1 < end; ++node, ++word"),
    Mutant("a cluster on the GPU hides its last radius", GPU_CLUSTERS, "d + most < radii.last ? d + most :", "d + most < radii.last ? d + most - 1 :"),
    Mutant("a cluster on the GPU hides its first radius", GPU_CLUSTERS, "d - most > radii.first ? d - most :", "d - most > radii.first ? d - most + 1 :"),
    Mutant("centroids on the GPU bound a bit too much", GPU_CLUSTERS, "+ 1) / 2 > most", "+ 1) / 2 >= most"),
    Mutant("a near cluster is compared twice", GPU_CLUSTERS, "is_near != (visits == Visits::near)", "is_near && visits == Visits::others && d > 8"),
    Mutant("queries that give up are not scanned", GALLERY, "if (!scanned.empty()) {", "if (scanned.size() == batch.n + 1) {"),
    Mutant("a fraction at the threshold is left out", GPU_JACCARD, "if (distance <= tile", "if (distance < tile"),
    Mutant("codes at the bound are ruled out", GPU_JACCARD, "sizes) <= thresholds[g];", "sizes) < thresholds[g];"),
    Mutant("four codes count as the emptiest", GPU_JACCARD, "n_set > last ? last : n_set", "n_set > last ? first : n_set"),
    Mutant("four codes count as equally full", GPU, "begins[size + 1] <= number) ++size;", "begins[size + 1] <= number && r == 0) ++size;"),
    Mutant("a radius leaves its last fraction out", KEYS, "pair_key(distance, 0) + (", "pair_key(distance, 0) + 0 * ("),
    Mutant("a sample is found twice", GALLERY, "        restart(batch, queries);\n    }", "    }"),
    Mutant("ids beyond a key are not ranked", "cpp/gpu/gallery_copy.cu", "? kNumberBits<float>", "? kNumberBits<std::int32_t>"),
]  # fmt: skip


def copy_tree(to: Path) -> None:
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    for name in filter(None, names):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)


_OF_CORE = ("topk_test", "safe_cuts_test")


class Trial:
    """A copy of the tree that is built and tested again for each mutant."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.build = folder / "tree", folder / "build"
        copy_tree(self.tree)
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        package = self.tree / "python"
        self.environment = os.environ | {"PATH": tools, "PYTHONPATH": f"{package}{os.pathsep}{self.tree / 'tests'}"}
        options = [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}"]
        options += ["-DFASTHASH_TESTS=ON", "-DFASTHASH_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Release", "-GNinja"]
        self._call("cmake", "-S", self.tree, "-B", self.build, *options)

    def caught_by(self, of_gpu: bool) -> str | None:
        """The first step that fails."""
        of_emulator = ["gpu_test", "gpu_jaccard_test"]
        targets = of_emulator if of_gpu else ["_core", *_OF_CORE]
        if self._fails("cmake", "--build", self.build, "--target", *targets):
            return "the build"
        if of_gpu:
            return next((test for test in of_emulator if self._fails(self.build / test)), None)
        for module in self.build.glob("_core*.so"):
            shutil.copy2(module, self.tree / "python/fasthash" / module.name)
        for test in _OF_CORE:
            if self._fails(self.build / test):
                return test
        pytest = [sys.executable, "-c", _PYTEST, "-x", "-q", "-p", "no:cacheprovider"]
        for step in (
            "tests/test_differential.py",
            "tests/test_search.py",
            "tests/test_keep.py",
            "tests/test_certificate.py",
            "tests/test_jaccard.py",
        ):
            if self._fails(*pytest, step):
                return step
        return None

    def _fails(self, *command: object) -> bool:
        try:
            return self._run(*command).returncode != 0
        except subprocess.TimeoutExpired:
            return True

    def _call(self, *command: object) -> None:
        result = self._run(*command)
        if result.returncode != 0:
            raise RuntimeError(result.stdout + result.stderr)

    def _run(self, *command: object) -> subprocess.CompletedProcess[str]:
        words = [str(word) for word in command]
        return subprocess.run(
            words, cwd=self.tree, env=self.environment, capture_output=True, text=True, timeout=900, check=False
        )


# The environment's own fasthash comes first, unless its finder is taken out.
_PYTEST = """import sys, pytest
sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
sys.exit(pytest.main(sys.argv[1:]))"""


def main() -> None:
    wanted = [mutant for mutant in MUTANTS if len(sys.argv) < 2 or mutant.name in sys.argv[1:]]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        for of_gpu in (False, True):
            if (step := trial.caught_by(of_gpu)) is not None:
                raise SystemExit(f"without a mutant {step} fails")
        for mutant in wanted:
            began, path = time.monotonic(), trial.tree / mutant.file
            text = path.read_text()
            if mutant.old not in text:
                raise SystemExit(f"{mutant.name}: {mutant.file} has no {mutant.old!r}")
            path.write_text(text.replace(mutant.old, mutant.new))
            step = trial.caught_by(of_gpu=mutant.file.startswith("cpp/gpu"))
            path.write_text(text)
            survivors += [] if step else [mutant.name]
            print(f"{mutant.name:45} {step or 'SURVIVES':28} {time.monotonic() - began:5.0f} s", flush=True)
    print(f"{len(wanted) - len(survivors)} of {len(wanted)} mutants caught")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
