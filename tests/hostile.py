"""Hostile index files by the ten thousand: each is refused, or loads and is then proven right.

What is right comes from `file_reference`, the format written down a second time: the engine has to accept just the
files that it accepts, and hold what it reads from them. `python tests/hostile.py --rounds N` offers many more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hostile_files.damaged_bytes import (
    flips,
    paddings,
    repaired_flips,
    splices,
    swapped_sections,
    truncations,
    wrong_lengths,
)
from hostile_files.damaged_clusters import wrong_clusters
from hostile_files.damaged_headers import header_fields, header_pairs, pairs_of_sizes
from hostile_files.damaged_sections import wrong_codes, wrong_id_maps, wrong_ids, wrong_runs
from hostile_files.memory import MemoryWatch, memory_of_large_files, status
from hostile_files.random_files import buffers, random_files
from hostile_files.trial import MEMORY_FOLDER, WAYS, Trial
from hostile_files.valid import Hostile, valid_files

ROOM = 512 << 20  # address space beyond what the process has when it starts
PROMISED = 64 << 20  # memory beyond the size of the file
FAMILIES = (
    header_fields,
    pairs_of_sizes,
    splices,
    swapped_sections,
    wrong_lengths,
    paddings,
    wrong_codes,
    wrong_ids,
    wrong_runs,
    wrong_clusters,
    wrong_id_maps,
)


def run(folder, rounds=0, keep=None):
    """All that the test suite offers; then so many rounds of random files, and with the first all pairs of fields."""
    trial = Trial(folder, keep)
    files = valid_files()
    for name, data in files.items():
        trial.offer(Hostile("untouched", name, data))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + ROOM, resource.RLIM_INFINITY))
    watch = MemoryWatch()

    def offer_by_turns(hostiles):
        for i, hostile in enumerate(hostiles):
            trial.offer(hostile, (WAYS[i % 3],))

    for i, hostile in enumerate(truncations(files)):
        trial.offer(hostile, ("bytes", WAYS[1 + i % 2]) if i % 3 == 0 else ("bytes",))
    for i, hostile in enumerate(flips(files)):
        by_file = i % 8 == i // 8 % 8  # one bit of each byte
        trial.offer(hostile, (WAYS[1 + i // 8 % 2] if by_file else "bytes",))
    for family in FAMILIES:
        for i, hostile in enumerate(family(files)):
            trial.offer(hostile, ("bytes", WAYS[1 + i % 2]))
    offer_by_turns(repaired_flips(files))
    offer_by_turns(buffers(np.random.default_rng(4), 1000))
    offer_by_turns(random_files(np.random.default_rng(5), 3000))
    if rounds > 0:
        offer_by_turns(header_pairs({name: files[name] for name in ("flat, ids", "hier, shared codes")}))
    for seed in range(rounds):
        offer_by_turns(buffers(np.random.default_rng([6, seed]), 20_000))
        offer_by_turns(random_files(np.random.default_rng([7, seed]), 50_000))

    return {
        "files": dict(trial.files),
        "accepted": dict(trial.accepted),
        "ways": dict(trial.ways),
        "proofs": trial.proofs,
        "failures": trial.failures,
        "largest": trial.largest,
        "growth": watch.growth(),
    }


@contextlib.contextmanager
def work_folder():
    in_memory = os.access(MEMORY_FOLDER, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="hostile-", dir=MEMORY_FOLDER if in_memory else None) as folder:
        yield Path(folder)


def main():
    parser = argparse.ArgumentParser(description="Offer hostile files to the engine.")
    parser.add_argument("--rounds", type=int, default=0, help="how often to offer 70,000 random files more")
    parser.add_argument("--keep", type=Path, help="folder for the files that the engine treats wrongly")
    parser.add_argument("--folder", type=Path, help="where to work; memory is much faster than a disk")
    parser.add_argument("--large", action="store_true", help="measure the memory that large files take instead")
    args = parser.parse_args()
    begin = time.monotonic()
    with contextlib.nullcontext(args.folder) if args.folder else work_folder() as folder:
        report = {"large": memory_of_large_files(folder)} if args.large else run(folder, args.rounds, args.keep)
    print(json.dumps(report | {"seconds": round(time.monotonic() - begin, 1)}, indent=1))
    return 1 if report.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main())
