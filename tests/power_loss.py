"""What a disk may hold after the power has gone: a recorder of file operations, and all states that they can leave.

`record` runs a Python script with a library before the C library's, so that it sees what Python, C++ and extensions do:
each change of a name, each flush, and what a file holds at each of these. `states` then gives every state of the disk
that a crash can leave after each operation. Of a file that was not flushed the content may be there, partly there,
zeros or missing. Of names that changed since their folder was flushed

- `ordered`: any number of the changes to one folder have happened, in their order; folders are independent;
- `free`: any of them has happened and any has not.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# Before the script: `returned(n)` tells that the n-th save has returned, `begins(n)` that it begins.
_PRELUDE = """
import os
def _say(what, n):
    with open(os.environ["POWER_LOSS_LOG"], "a") as log:
        log.write(f"{what}\\t{n}\\t0\\t-1\\t\\t\\n")
def begins(n): _say("begins", n)
def returned(n): _say("returned", n)
root = os.environ["POWER_LOSS_ROOT"]
"""


class Operation(NamedTuple):
    """One line of the record."""

    what: str
    number: int  # of the file, or of the save that begins or has returned
    mode: int
    content: bytes | None
    path: str  # below the folder that is watched
    target: str


def build_recorder(compiler: str, folder: Path) -> Path:
    """Compile the library that records."""
    library = folder / "recorder.so"
    command = [
        compiler,
        str(Path(__file__).with_suffix(".c")),
        "-shared",
        "-fPIC",
        "-O1",
        "-w",
        "-o",
        str(library),
        "-ldl",
        "-pthread",
    ]
    subprocess.run(command, check=True, timeout=100)
    return library


def record(recorder: Path, script: str, root: Path, log: Path) -> list[Operation]:
    """Run a script, in which `root` is the folder to be watched, and return its operations below that."""
    log.write_text("")
    env = os.environ | {"LD_PRELOAD": str(recorder), "POWER_LOSS_ROOT": str(root), "POWER_LOSS_LOG": str(log)}
    result = subprocess.run(
        [sys.executable, "-c", _PRELUDE + script], env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    operations = []
    for line in log.read_text().splitlines():
        what, number, mode, copy, path, target = line.split("\t")
        content = Path(f"{log}.{copy}").read_bytes() if copy != "-1" else None
        below = [os.path.relpath(each, root) if each else "" for each in (path, target)]
        operations.append(Operation(what, int(number), int(mode, 8), content, *below))
    return operations


# ---- what a crash can leave ----


@dataclass
class _File:
    """A file, or a folder."""

    is_folder: bool = False
    flushed: bytes | None = None
    latest: bytes = b""


class _Change(NamedTuple):
    """Of names in a folder: each gets a file, or loses what it had."""

    folder: str
    names: dict[str, _File | None]


@dataclass
class _Disk:
    """What is certainly on the disk, and the changes of names that may be."""

    durable: dict[str, _File] = field(default_factory=dict)
    pending: list[_Change] = field(default_factory=list)

    def now(self) -> dict[str, _File]:
        return applied(self.durable, self.pending)

    def flush_folder(self, folder: str) -> None:
        self.durable = applied(self.durable, [each for each in self.pending if each.folder == folder])
        self.pending = [each for each in self.pending if each.folder != folder]


def applied(names: dict[str, _File], changes: list[_Change]) -> dict[str, _File]:
    after = dict(names)
    for change in changes:
        for name, file in change.names.items():
            if file is None:
                after.pop(name, None)
            else:
                after[name] = file
    return after


class State(NamedTuple):
    """Of the disk after a crash."""

    files: dict[str, bytes | None]  # None: a folder
    least: int  # the last save that had returned
    most: int  # the last one that had begun
    after: str  # the operation before the crash


def states(operations: list[Operation], model: str) -> Iterator[State]:
    """Every state that a crash can leave, after each operation; the same ones are told once.

    Args:
        operations: as recorded.
        model: "ordered" or "free".
    """
    disk, files, seen = _Disk(), {}, set()
    least = most = 0
    for number, operation in enumerate(operations):
        if operation.what == "begins":
            most = operation.number
        elif operation.what == "returned":
            least = operation.number
        else:
            _perform(disk, files, operation)
        for names in _namings(disk, model):
            for left in _contents(_reachable(names)):
                key = (least, most, tuple(sorted((name, hash(content)) for name, content in left.items())))
                if key not in seen:
                    seen.add(key)
                    yield State(left, least, most, f"{number}: {operation.what} {operation.path} {operation.target}")


def _perform(disk: _Disk, files: dict[int, _File], operation: Operation) -> None:
    what, number, _, content, path, target = operation
    folder = os.path.dirname(path)
    if what in ("write", "flush", "rename", "unlink"):
        _notice_name(disk, files.get(number), path)
    if what in ("create", "make folder"):
        made = _File(is_folder=what == "make folder")
        if what == "create":
            files[number] = made  # a number may have been that of a file which is gone
        disk.pending.append(_Change(folder, {path: made}))
    elif what == "write":
        files[number].latest = content or b""
    elif what == "flush":
        files[number].latest = files[number].flushed = content or b""
    elif what == "flush folder":
        disk.flush_folder("" if path == "." else path)
    elif what == "unlink":
        disk.pending.append(_Change(folder, {path: None}))
    elif what == "link":
        disk.pending.append(_Change(os.path.dirname(target), {target: disk.now()[path]}))
    elif what == "rename":
        assert folder == os.path.dirname(target), "renames between folders are not modelled"
        disk.pending.append(_Change(folder, {target: disk.now()[path], path: None}))
    else:
        raise AssertionError(what)


def _notice_name(disk: _Disk, file: _File | None, path: str) -> None:
    """Take a new name of a file for a rename which went to the kernel without the C library, as from Rust."""
    now = disk.now()
    if file is None or path in now or path.endswith(" (deleted)"):
        return
    old = [name for name, each in now.items() if each is file]
    disk.pending.append(_Change(os.path.dirname(path), {path: file, **dict.fromkeys(old)}))


def _namings(disk: _Disk, model: str) -> Iterator[dict[str, _File]]:
    if model == "free":
        choices = [(False, True)] * len(disk.pending)
        for chosen in itertools.product(*choices):
            yield applied(disk.durable, list(itertools.compress(disk.pending, chosen)))
        return
    folders = sorted({change.folder for change in disk.pending})
    counts = [range(sum(change.folder == folder for change in disk.pending) + 1) for folder in folders]
    for chosen in itertools.product(*counts):
        left = dict(zip(folders, chosen, strict=True))
        changes = []
        for change in disk.pending:
            if left[change.folder] > 0:
                left[change.folder] -= 1
                changes.append(change)
        yield applied(disk.durable, changes)


def _reachable(names: dict[str, _File]) -> dict[str, _File]:
    """Without those whose folder has not come to the disk."""

    def is_there(name: str) -> bool:
        folder = os.path.dirname(name)
        return folder == "" or (folder in names and names[folder].is_folder and is_there(folder))

    return {name: file for name, file in names.items() if is_there(name)}


def _contents(names: dict[str, _File]) -> Iterator[dict[str, bytes | None]]:
    choices = [_contents_of(file) for file in names.values()]
    for chosen in itertools.product(*choices):
        yield dict(zip(names, chosen, strict=True))


def _contents_of(file: _File) -> list[bytes | None]:
    """What may be in a file: all that was written, some of it, or as many zeros."""
    if file.is_folder:
        return [None]
    if file.latest == file.flushed:
        return [file.latest]
    before, new = file.flushed or b"", file.latest
    half = len(new) // 2
    holes = bytearray(new)
    for begin in range(0, len(new), 1024):  # every other sector
        holes[begin : begin + 512] = bytes(len(holes[begin : begin + 512]))
    zeros_at_the_end = new[: len(new) - half] + bytes(half)
    return list(dict.fromkeys([new, before, new[:half], bytes(len(new)), bytes(holes), zeros_at_the_end, new[:-1]]))


def write_state(state: State, folder: Path) -> None:
    """Make a folder, which must be empty, what the disk is in this state."""
    for name, content in sorted(state.files.items()):
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
