"""Offers hostile files to the engine, in each way of loading, and counts the results."""

from __future__ import annotations

import mmap
import signal
import traceback
from collections import Counter
from pathlib import Path

import fasthash as fh
import file_reference as ref
from hostile_files.proof import Proof, require
from hostile_files.valid import LARGEST

MEMORY_FOLDER = Path("/dev/shm")
SECONDS_PER_FILE = 5  # of the processors
WAYS = ("bytes", "load", "mmap")


class Trial:
    """Offers files to the engine and counts what comes of it."""

    def __init__(self, folder, keep=None):
        self.folder = folder
        self.keep = keep
        self.save_every = 1 if folder.is_relative_to(MEMORY_FOLDER) else 16  # a disk takes milliseconds for each
        self.files = Counter()
        self.accepted = Counter()
        self.ways = Counter()
        self.proofs = 0
        self.failures = []
        self.n_files = 0
        self.largest = 0
        # What is on offer stands here when the process dies of it.
        with open(folder / "last", "wb") as file:
            file.truncate(LARGEST + 4096)
        with open(folder / "last", "r+b") as file:
            self.last = mmap.mmap(file.fileno(), 0)

    def offer(self, hostile, ways=WAYS):
        self.last.seek(0)
        self.last.write(f"{hostile.family}: {hostile.name}\n{len(hostile.data)}\n".encode() + hostile.data)
        self.files[hostile.family] += 1
        self.n_files += 1
        fh.set_num_threads(2 if self.n_files % 8 == 0 else 1)  # threads that wait for each other take time
        self.largest = max(self.largest, len(hostile.data))
        signal.setitimer(signal.ITIMER_PROF, SECONDS_PER_FILE)
        try:
            proof, fault = None, "it is broken"
            if not hostile.broken:
                try:
                    proof = Proof(ref.read(hostile.data))
                except ref.RefusedError as refused:
                    fault = str(refused)
            self.accepted[hostile.family] += proof is not None
            for i, way in enumerate(ways):
                self.ways[way] += 1
                index = self.load(hostile, way, proof, fault)
                if index is not None:
                    proof.check(index)
                    if i == self.n_files % len(ways):
                        self.prove_changes(proof, index)
            if "load" in ways:
                self.verify(hostile, proof is not None)
        except Exception as error:
            self.fail(hostile, "".join(traceback.format_exception_only(error)).strip())
        signal.setitimer(signal.ITIMER_PROF, 0)

    def load(self, hostile, way, proof, fault):
        path = self.folder / "hostile.fh"
        try:
            if way == "bytes":
                cls = fh.FlatIndex if hostile.data[16:17] == b"\1" else fh.HierIndex
                index = cls.from_bytes(hostile.data)
            else:
                path.unlink(missing_ok=True)  # what is mapped must not be overwritten
                path.write_bytes(hostile.data)
                index = fh.load(path, mmap=way == "mmap")
        except fh.FormatError as error:
            require(proof is None, f"refusal by {way}: {error}")
            require(way == "bytes" or str(error).startswith(f"{path}: "), f"message by {way}: {error}")
            return None
        require(proof is not None, f"acceptance by {way} where the document says: {fault}")
        return index

    def prove_changes(self, proof, index):
        self.proofs += 1
        if len(index.level_bits) > 1 and self.proofs % 64 == 0:  # its slow path is very slow
            proof.check_pruned(index)
        proof.check_changes(index)
        proof.check_saving(index, self.folder / "saved.fh" if self.proofs % self.save_every == 0 else None)

    def verify(self, hostile, valid):
        path = self.folder / "hostile.fh"
        try:
            report = fh.verify(path)
        except fh.FormatError:
            require(not valid, "refusal by verify")
        else:
            require((report.fault == "") == valid, f"verdict of verify: {report.fault or 'no fault'}")
            require(all(section.intact for section in report.sections) or not valid, "section of verify")
        try:
            info = fh.peek(path)
        except fh.FormatError:
            require(not valid, "refusal by peek")
        else:
            require(info.file_bytes == len(hostile.data), "length by peek")

    def fail(self, hostile, fault):
        self.failures.append(f"{hostile.family}: {hostile.name}: {fault}")
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{len(self.failures)}.fh").write_bytes(hostile.data)
