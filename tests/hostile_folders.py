"""Hostile saved folders by the thousand: each is refused with `FormatError`, or gives something that works.

Checksums are made right again after every change, so that the checks behind them are reached. Every kind of folder that
fasthash loads is here: `python tests/hostile_folders.py` offers all of it, tests/test_hostile_folders.py a share.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fasthash as fh
from fasthash import _saved_folder
from fasthash._saved_kinds import SHARD_RULE, load_folder, shard_names
from fasthash.distributed.merge import shard_of
from fasthash.distributed.parts import EncodedPart, EncodedParts
from fasthash.distributed.shard import Shard

MEMORY_FOLDER = Path("/dev/shm")
ROOM = 2 << 30  # address space beyond what the process has when it starts
REMOVED = object()
VALUES = (
    *(REMOVED, None, True, False, 0, 1, -1, 2, 7, 8, 64, 2**31, 2**33, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63) - 1),
    *(10**400, 0.5, 1.0, -0.0, 1e308, float("nan"), float("inf"), "", "x", "\0", "\ud800", "../x", "0" * 64, "1"),
    *([], [None], [[]], [0], [-1], [8], [8] * 600, [[0.0], [0.0]], {}, {"a": 1}, {"name": "x"}, [[[[[[]]]]]]),
    *("int8", "float16", "float32", "cosine", "inner_product", "compact", "scan", "HashHead", "RescoringIndex"),
)


class Saved(NamedTuple):
    """A folder in memory: the card without its checksum, and the bytes of each file by its name on the disk."""

    card: dict[str, Any]
    files: dict[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> Saved:
        card = json.loads((folder / "card.json").read_text())
        card.pop("sha256", None)
        return cls(card, {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "card.json"})

    def write(self, folder: Path, *, seal: bool) -> None:
        """Write all, with the checksums of the files and of the card made right if there are any."""
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        card = json.loads(json.dumps(self.card))
        if seal and "files" in card:
            for entry in card["files"].values():
                entry.update(_saved_folder.file_entry(folder / entry["name"]))
        checksum = {"sha256": _saved_folder._checksum_of(card)} if "weights" not in self.card else {}
        (folder / "card.json").write_text(json.dumps(card | checksum))


class Kind(NamedTuple):
    """Something that is saved as a folder."""

    make: Callable[[Path, int], None]
    """Saves into a folder; two numbers give two of the same shape."""

    use: Callable[[Path], None]
    """Loads it and uses it in every way."""


class Hostile(NamedTuple):
    family: str
    name: str
    saved: Saved
    seal: bool


# ---- the kinds ----


def rescoring(dtype: str, metric: str, n: int) -> Kind:
    def make(folder: Path, seed: int) -> None:
        index = fh.RescoringIndex(20, dtype=dtype, metric=metric, level_bits=(8, 16))
        index.add(np.random.default_rng(seed).standard_normal((n, 20)), np.arange(n) * 3)
        index.save(folder)

    def use(folder: Path) -> None:
        assert (fh.RescoringIndex.verify(folder) == "") == loads(fh.RescoringIndex.load, folder, False)
        for mapped in (True, False):
            index = fh.RescoringIndex.load(folder, mmap=mapped)
            queries = np.random.default_rng(9).standard_normal((100, index.n_dims))
            found = index.search(queries, 3)
            assert np.isfinite(found.scores[found.ids != -1]).all()
            ids = index.codes.to_arrays()[1]
            assert np.isfinite(index.reconstruct(ids)).all()
            index.add(queries)
            assert set(index.search(queries[:1], len(index)).ids[0]) == set(index.codes.to_arrays()[1])
            index.remove(ids)
            assert len(index) == 100

    return Kind(make, use)


def loads(load: Callable[..., object], *arguments: Any) -> bool:
    try:
        load(*arguments)
    except fh.FormatError:
        return False
    return True


def make_shards(folder: Path, seed: int, metric: Any = "hamming") -> None:
    """As `ShardedIndex.save` writes them, without Ray."""
    rng = np.random.default_rng(seed)
    codes, ids = rng.integers(0, 256, (60, 2), np.uint8), np.arange(60)
    level_bits = [8, 8] if metric == "hamming" else [16]
    shards = [fh.HierIndex(level_bits, metric=metric) for _ in range(3)]
    for number, shard in enumerate(shards):
        ours = shard_of(ids, 3) == number
        shard.add(codes[ours], ids[ours])
    facts = {"level_bits": level_bits, "memory": "default", "plan": "auto", "n_shards": 3, "n_codes": 60, "next_id": 60}
    facts |= {} if metric == "hamming" else {"metric": metric}
    writers = {name: shard.save for name, shard in zip(shard_names(3), shards, strict=True)}
    _saved_folder.write_folder(folder, "ShardedIndex", facts | {"shard": SHARD_RULE}, writers)


def use_shards(folder: Path) -> None:
    """As actors load them, into as many shards and into others."""

    def load(card: dict[str, Any]) -> None:
        for n_shards in (card["n_shards"], 2):
            settings = card["level_bits"], card["memory"], card["plan"], None, card.get("metric", "hamming")
            shards = [Shard(*settings) for _ in range(n_shards)]
            for number, shard in enumerate(shards):
                n = shard.load(0, str(folder), card, number, n_shards)
                codes, ids = shard.read(0, "to_arrays")
                assert len(ids) == n
                assert codes.shape == (n, sum(card["level_bits"]) // 8)
                assert (shard_of(ids, n_shards) == number).all()
                assert ids.max(initial=-1) < card["next_id"]
                shard.search(0, codes[:1], 3, None, "node_ratio", None, None)

    load_folder(folder, "ShardedIndex", load)


def make_parts(folder: Path, seed: int) -> None:
    facts = {"level_bits": [8, 8], "source": "photos", "n_parts": 2, "unreadable": [["a", "no"]], "format": "images"}
    parts = EncodedParts.begin(folder, facts)
    for number in range(2):
        codes = np.random.default_rng([seed, number]).integers(0, 256, (5, 2), np.uint8)
        parts.write(number, EncodedPart(codes, [f"{seed} {i}" for i in range(5)], [("x", "broken")][: 1 - number]))


def use_parts(folder: Path) -> None:
    parts = EncodedParts(folder)
    if len(parts) <= 2:  # one that tells of more lacks them
        for number in range(len(parts)):
            codes, keys, broken = parts[number]
            assert (codes.dtype, codes.shape) == (np.uint8, (len(keys), sum(parts.level_bits) // 8))
            assert all(isinstance(text, str) for text in (*keys, *(text for pair in broken for text in pair)))
        assert isinstance(parts.broken, list)
    str(parts.source)


def photo_hashes() -> Kind:
    from fasthash._photo_hashes import PhotoHashes, Stamp

    def make(folder: Path, seed: int) -> None:
        hashes = PhotoHashes(os.curdir, 64)
        codes = np.random.default_rng(seed).integers(0, 256, (6, 8), np.uint8)
        for i in range(6):
            hashes.put(f"{i}.jpg", Stamp(i, i, "0" * 16), codes[i])
        hashes.save(folder)

    def use(folder: Path) -> None:
        hashes = PhotoHashes(os.curdir, 64)
        try:
            hashes.load(folder)
        except fh.FormatError:
            raise
        except ValueError as error:  # a state may be of another background, which is no damage
            if not str(error).startswith("background must be #"):
                raise
            return
        kept = hashes.paths[1:]
        hashes.keep_only(kept)
        hashes.put("new.jpg", Stamp(1, 1, ""), np.zeros(8, np.uint8))
        assert len(hashes.index()) == len(hashes) == len({*kept, "new.jpg"})
        with tempfile.TemporaryDirectory(dir=folder.parent) as other:
            hashes.save(other)

    return Kind(make, use)


def video_hashes() -> Kind:
    from fractions import Fraction

    from fasthash._hashed_files import Stamp
    from fasthash._video_hashes import HashedVideo, VideoHashes
    from fasthash._video_matches import Timeline, near_timelines

    def make(folder: Path, seed: int) -> None:
        hashes = VideoHashes(os.curdir, Fraction(1, 4))
        codes = np.random.default_rng(seed).integers(0, 256, (6, 32), np.uint8)
        for i in range(3):
            timeline = Timeline(codes[i:], np.arange(i, 6), np.arange(i, 6))
            hashes.put(f"{i}.mp4", Stamp(i, i, "0" * 16), HashedVideo(timeline, 1.5, 16, 9, 6, 0))
        hashes.save(folder)

    def use(folder: Path) -> None:
        hashes = VideoHashes(os.curdir, Fraction(1, 4))
        try:
            hashes.load(folder)
        except fh.FormatError:
            raise
        except ValueError as error:  # a state may be of another rate, which is no damage
            if not str(error).startswith("every must be "):
                raise
            return
        list(near_timelines([hashes.video(path).timeline for path in hashes.paths], 32, 0.4))
        with tempfile.TemporaryDirectory(dir=folder.parent) as other:
            hashes.save(other)

    return Kind(make, use)


def head() -> Kind:
    import torch

    from fasthash.heads import HashHead

    def make(folder: Path, seed: int) -> None:
        from fasthash.record import TrainingRecord

        torch.manual_seed(seed)
        HashHead(6, (8, 16)).save(folder, TrainingRecord([1.0], 2.0, "cpu", {"lr": 0.1}, [0.5]))

    def use(folder: Path) -> None:
        loaded = HashHead.load(folder)
        with torch.no_grad():
            for weights in loaded.parameters():
                weights.nan_to_num_(0, 1, -1)  # they may be any numbers, and `encode` refuses NaN
        assert loaded.encode(torch.ones(3, loaded.n_features)).shape == (3, loaded.n_bits // 8)

    return Kind(make, use)


def encoder() -> Kind:
    import torch

    from fasthash.encoder import HashEncoder

    def make(folder: Path, seed: int) -> None:
        torch.manual_seed(seed)
        HashEncoder("resnet10t", (8,), image_size=32).save(folder)

    def use(folder: Path) -> None:
        assert HashEncoder.load(folder).level_bits

    return Kind(make, use)


def kinds(without: Collection[str] = ()) -> dict[str, Kind]:
    """All kinds but some, of those whose extras are installed."""
    found = {
        "float32": rescoring("float32", "cosine", 12),
        "float16": rescoring("float16", "inner_product", 12),
        "int8": rescoring("int8", "cosine", 100),
        "no embeddings": rescoring("float32", "cosine", 0),
        "shards": Kind(make_shards, use_shards),
        "shards by jaccard distance": Kind(functools.partial(make_shards, metric="jaccard"), use_shards),
        "parts": Kind(make_parts, use_parts),
    }
    for name, make in {"photos": photo_hashes, "videos": video_hashes, "head": head, "encoder": encoder}.items():
        if name in without:
            continue
        try:
            found[name] = make()
        except ImportError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    return found


# ---- the families ----


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all that is in a card; of lists to the first and the last."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        for i in sorted({0, len(value) - 1}):
            yield from places(value[i], (*path, i))


def with_value(card: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = json.loads(json.dumps(card))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return changed


def fields(saved: Saved, other: Saved) -> Iterator[tuple[str, Saved, bool]]:
    """Each field of the card with each value."""
    for path in places(saved.card):
        for value in VALUES:
            name = f"{'.'.join(map(str, path))} = {'removed' if value is REMOVED else repr(value)[:40]}"
            yield name, saved._replace(card=with_value(saved.card, path, value)), False
        inner: Any = other.card
        for key in path:
            inner = inner.get(key) if isinstance(inner, dict) else None
        yield f"{'.'.join(map(str, path))} of another", saved._replace(card=with_value(saved.card, path, inner)), False


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npy_header(text: str, version: int = 1) -> bytes:
    data = text.encode("latin-1") + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(data).to_bytes(2 if version == 1 else 4, "little") + data


def zipped(members: dict[str, bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def fh_bytes(index: Any) -> bytes:
    return index.to_bytes()


@functools.cache
def strangers() -> dict[str, bytes]:
    """Files of all sorts, for the place of any other."""
    rng = np.random.default_rng(3)
    shape = "'fortran_order': False, 'shape': "
    codes = rng.integers(0, 256, (12, 3), np.uint8)
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    return {
        "nothing": b"",
        "a byte": b"\x93",
        "zeros": bytes(1000),
        "text": b"hello\n" * 50,
        "a pickle": pickle.dumps([1, 2]),
        "an npy of objects": npy(np.array([{}], object)),
        "no zip": b"PK\x03\x04" + bytes(100),
        "an empty zip": zipped({}),
        "a zip of others": zipped({"codes.npy": b"", "keys.npy": b"x", "broken.npy": npy(np.zeros(3))}),
        "a zip with bzip2": zipped(
            {name: npy(np.zeros((2, 2), np.uint8)) for name in ("codes.npy", "keys.npy", "broken.npy")},
            compression=zipfile.ZIP_BZIP2,
        ),
        "an npy that is too large": npy_header(f"{{'descr': '<f4', {shape}(8589934592, 20), }}"),
        "an npy past int64": npy_header(f"{{'descr': '<f4', {shape}({2**64}, {2**64}), }}"),
        "an npy of negative size": npy_header(f"{{'descr': '<f4', {shape}(-12, 20), }}"),
        "an npy without end": npy_header("{'descr': '<f4', 'shape': (("),
        "an npy that is code": npy_header("{'descr': __import__('os').getpid(), 'shape': ()}"),
        "an npy of other keys": npy_header("{'shape': (12, 20)}"),
        "an npy of many digits": npy_header(f"{{'descr': '<f4', {shape}({'9' * 5000}, 20), }}"),
        "an npy of no type": npy_header(f"{{'descr': '<q9', {shape}(12, 20), }}"),
        "an npy of 12 texts": npy(np.zeros(12, "U20")),
        "an npy of version 2": npy_header(f"{{'descr': '<f4', {shape}(12, 20), }}", 2) + bytes(960),
        "an npy in Fortran's order": npy(np.asfortranarray(np.ones((12, 20), np.float32))),
        "an npy of complex numbers": npy(np.ones((12, 20), complex)),
        "an npy of the other byte order": npy(np.ones((12, 20), ">f4")),
        "safetensors of another": len(header).to_bytes(8, "little") + header + bytes(8),
        "safetensors past the end": (2**62).to_bytes(8, "little") + header,
        "a flat index": fh_bytes(fh.FlatIndex.from_arrays(codes, np.arange(12) * 3)),
        "an index of one level": fh_bytes(fh.HierIndex.from_arrays(codes, np.arange(12) * 3)),
        "an index of other codes": fh_bytes(fh.HierIndex.from_arrays(codes, np.arange(12) * 3, level_bits=(8, 16))),
        "an index of other ids": fh_bytes(fh.HierIndex.from_arrays(codes, np.arange(12) - 20, level_bits=(8, 16))),
        "an index of the last id": fh_bytes(fh.HierIndex.from_arrays(codes[:1, :2], [2**63 - 1], level_bits=(8, 8))),
        "an index of 4096 bits": fh_bytes(fh.HierIndex.from_arrays(np.zeros((12, 512), np.uint8))),
        "an index of nothing": fh_bytes(fh.HierIndex((8, 16))),
        **{
            f"an npy of {value} as {dtype}": npy(np.full((12, 20), value, dtype))
            for value in (np.nan, np.inf, -np.inf, 0.0, 6e4)
            for dtype in (np.float32, np.float16)
        },
        **{
            f"a part of {codes.shape} {codes.dtype}, {len(keys)}, {broken}": zipped(
                {"codes.npy": npy(codes), "keys.npy": npy(np.array(keys)), "broken.npy": npy(np.zeros(broken, "U3"))}
            )
            for codes, keys, broken in (
                (np.zeros((5, 2), np.uint8), ["a"] * 4, (0, 2)),
                (np.zeros((5, 3), np.uint8), ["a"] * 5, (0, 2)),
                (np.zeros((5, 2), np.uint16), ["a"] * 5, (0, 2)),
                (np.zeros((5, 2), np.uint8), [b"a"] * 5, (0, 2)),
                (np.zeros((5, 2), np.uint8), ["a"] * 5, (4, 3)),
                (np.zeros(10, np.uint8), ["a"] * 5, (0, 2)),
                (np.zeros((5, 2), np.uint8), ["a"] * 5, (2, 2)),
            )
        },
        "a part of a text that is none": zipped(
            {
                "codes.npy": npy(np.zeros((1, 2), np.uint8)),
                "keys.npy": npy(np.frombuffer(b"\xff" * 4, "<U1")),
                "broken.npy": npy(np.zeros((0, 2), "U1")),
            }
        ),
    }


def files(saved: Saved, other: Saved) -> Iterator[tuple[str, Saved, bool]]:
    """Each file cut, changed, replaced, exchanged."""
    names, others = sorted(saved.files), sorted(other.files)

    def put(name: str, data: bytes) -> Saved:
        return saved._replace(files={**saved.files, name: data})

    for name, twin in zip(names, others, strict=True):
        data, theirs = saved.files[name], other.files[twin]
        kind = name.rpartition("-")[0]
        for size in sorted({*range(0, 200, 13), *np.linspace(0, len(data) - 1, 12).astype(int).tolist()}):
            yield f"{kind} cut to {size}", put(name, data[:size]), True
        for tail in (b"\0", bytes(1000), data):
            yield f"{kind} with {len(tail)} bytes more", put(name, data + tail), True
        for stranger, content in strangers().items():
            yield f"{kind} is {stranger}", put(name, content), True
        yield f"{kind} of another", put(name, theirs), True
        for at in (8, 64, 128, len(data) // 2):
            yield f"{kind} spliced with another at {at}", put(name, data[:at] + theirs[at:]), True
        rng = np.random.default_rng(5)
        for i in range(60):
            changed = bytearray(data)
            for place in rng.integers(0, len(data) if i % 2 else min(len(data), 200), 1 + i % 3):
                changed[place] = rng.integers(0, 256)
            yield f"{kind} with random bytes {i}", put(name, bytes(changed)), True
        missing = {key: value for key, value in saved.files.items() if key != name}
        yield f"{kind} is missing", saved._replace(files=missing), False
        for second in names:
            if second > name:
                pair = {name: saved.files[second], second: data}
                yield f"{kind} and another exchanged", saved._replace(files=saved.files | pair), True
                yield f"{kind} twice", put(second, data), True


def hostile_folders(work: Path, without: Collection[str] = ()) -> Iterator[tuple[Kind, Hostile]]:
    """All of them, kind by kind."""
    for name, kind in kinds(without).items():
        saved = []
        for seed in (1, 2):
            (folder := work / "valid").mkdir()
            kind.make(folder, seed)
            kind.use(folder)
            saved.append(Saved.read(folder))
            shutil.rmtree(folder)
        for family in (fields, files):
            every = 40 if name == "encoder" else 1  # each takes a quarter of a second
            for i, (what, changed, seal) in enumerate(family(*saved)):
                if i % every == 0:
                    yield kind, Hostile(f"{name}, {family.__name__}", what, changed, seal)


# ---- a run ----


def offer(kind: Kind, hostile: Hostile, folder: Path) -> tuple[bool, str]:
    """Whether it was accepted, and what went wrong."""
    try:
        hostile.saved.write(folder, seal=hostile.seal)
    except UnicodeEncodeError:
        return False, ""  # no such text in a file
    try:
        kind.use(folder)
    except fh.FormatError:
        return False, ""
    except FileNotFoundError as error:
        missing = "is missing" in str(error) or Path(error.filename or "").name.startswith("part-")
        return False, "" if missing else f"FileNotFoundError: {error}"
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].line
        return True, f"{type(error).__name__}: {error} at {line}"[:300]
    return True, ""


def run(work: Path, every: int = 1, without: Collection[str] = ()) -> dict[str, Any]:
    """Offer each one of so many; a folder that is treated wrongly is a failure."""
    offered, accepted, failures = Counter(), Counter(), []
    folder = work / "hostile"
    folder.mkdir()
    for i, (kind, hostile) in enumerate(hostile_folders(work, without)):
        if i % every:
            continue
        works, fault = offer(kind, hostile, folder)
        offered[hostile.family] += 1
        accepted[hostile.family] += works
        if fault:
            failures.append(f"{hostile.family}: {hostile.name}: {fault}")
    return {"offered": dict(offered), "accepted": dict(accepted), "failures": failures, "n": offered.total()}


def work_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None)


def limit_memory() -> None:
    """Make a claim of gigabytes a MemoryError, where the system can."""
    try:
        import resource

        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, resource.RLIM_INFINITY))
    except (ImportError, OSError):
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description="Offer hostile folders to everything that loads one.")
    parser.add_argument("--every", type=int, default=1, help="offer only one of so many")
    begin = time.monotonic()
    kinds()  # torch maps gigabytes when it is imported
    limit_memory()
    with work_folder() as work:
        report = run(Path(work), parser.parse_args().every)
    print(json.dumps(report | {"seconds": round(time.monotonic() - begin, 1)}, indent=1))
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
