"""The commands around an index file: `build`, `search`, `info` and `verify`."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fasthash import FlatIndex, FormatError, HierIndex, load, peek
from fasthash import verify as verify_file
from fasthash._checks import check_codes
from fasthash._shown import counted, for_terminal
from fasthash.cli import _codes
from fasthash.cli._app import Force, app, complain, new_file, one_line_errors, use_threads, whole_numbers

if TYPE_CHECKING:
    from fasthash.cli._found import Result
    from fasthash.distributed import ShardedIndex

__all__: list[str] = []


class Memory(str, Enum):
    """What an index may spend; see `HierIndex`."""

    compact = "compact"
    default = "default"
    fast = "fast"


class KeepMode(str, Enum):
    """Share of what; see `HierIndex.search`."""

    node_ratio = "node_ratio"
    gallery_ratio = "gallery_ratio"
    radius = "radius"


Threads = Annotated[int | None, typer.Option(help="Threads to use. Default: as many as there are processors.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OnRay = Annotated[bool, typer.Option("--ray", help="Over actors of a Ray cluster; the index is a folder.")]
Shards = Annotated[int | None, typer.Option(help="With --ray: parts. Default: 2, or as many as were saved.")]
Address = Annotated[
    str | None, typer.Option(help="With --ray: the cluster, such as host:6379. Default: one of this machine's own.")
]
IndexFile = Annotated[Path, typer.Argument(help="An index file.", show_default=False)]


# Most lines of a command are its options, which typer takes from its arguments.
@app.command()
def build(
    codes: Annotated[Path, typer.Argument(help="Codes; - for standard input.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Index file. Default: beside the codes, ending .fh.")
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="Bits of the levels, such as 8,16,40, for --keep. Default: one level.")
    ] = None,
    flat: Annotated[bool, typer.Option("--flat", help="An index that always compares all codes.")] = False,
    ids: Annotated[Path | None, typer.Option(help="Ids, .npy of int64. Default: 0, 1, 2, ...")] = None,
    memory: Annotated[Memory | None, typer.Option(help="What it may spend for speed. Default: default.")] = None,
    format: _codes.Format = None,
    bits: _codes.Bits = None,
    array: _codes.Array = "codes",
    column: _codes.Column = None,
    notation: _codes.InNotation = None,
    ray: OnRay = False,
    shards: Shards = None,
    address: Address = None,
    threads: Threads = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Build an index file from codes, or with --ray a folder of several.

    Codes are uint8 (n, bits / 8) in an .npy file or, as `fasthash encode` writes them, in an .npz file; text with a
    code a line, .hex or .txt; a column of a table, .csv, .tsv or .parquet; or raw bytes with --bits, .bin or .raw.

    Examples:

        fasthash build codes.npy -o codes.fh

        fasthash build codes.npy -o levels.fh --levels 8,16,40 --memory fast

        fasthash build hashes.txt --ids ids.npy

        fasthash build photos.csv -o photos.fh --column phash

        cat hashes.txt | fasthash build - -o piped.fh --flat

        fasthash build codes.npy -o codes.shards --ray --shards 4
    """
    if flat and (levels is not None or memory is not None):
        raise typer.BadParameter("a flat index has neither --levels nor --memory")
    if flat and ray:
        raise typer.BadParameter("--flat excludes --ray")
    _check_options(ray, shards=shards, address=address)
    if output is None and str(codes) == "-":
        raise typer.BadParameter("standard input needs --output")
    with one_line_errors(), ExitStack() as stack:
        use_threads(threads)
        beside = codes.with_suffix(".shards" if ray else ".fh") if output is None else output
        output = new_file(beside, force, codes, ids)
        _codes.one_stdin(codes, ids)
        gallery = _codes.read(codes, format, bits, array, column, notation)
        level_bits = _level_bits(levels, gallery.shape[1] * 8)
        spend: Any = "default" if memory is None else memory.value
        given = None if ids is None else _codes.read_array(ids)
        index: FlatIndex | HierIndex | ShardedIndex
        if ray:
            n_shards = 2 if shards is None else shards
            made = _on_ray(address)(level_bits, memory=spend, n_shards=n_shards, threads=threads)
            index = stack.enter_context(made)
        else:
            index = FlatIndex(sum(level_bits)) if flat else HierIndex(level_bits, memory=spend)
        begin = time.perf_counter()
        with _codes.share_bar(f"indexing {counted(len(gallery), 'code')}") as tell:
            index.add(gallery, given, **({} if ray else {"progress": tell}))
        seconds = time.perf_counter() - begin
        index.save(output)
        facts = (_facts_of_shards(output) if ray else _facts(output)) | {"seconds": seconds}
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        codes_in = f"{counted(len(index), 'code')} of {index.n_bits} bits in {for_terminal(output)}"
        typer.echo(f"{codes_in}: {facts['file_bytes']:,} bytes, indexed in {seconds:.2f} s")


# Mostly options, as of `build`.
@app.command()
def search(
    index: Annotated[Path, typer.Argument(help="An index file; with --ray a folder.", show_default=False)],
    queries: Annotated[Path, typer.Argument(help="Codes as in `build`; - for standard input.", show_default=False)],
    k: Annotated[int | None, typer.Option("-k", help="Neighbours of each query. Default: 10.")] = None,
    radius: Annotated[int | None, typer.Option(help="All codes within so many bits, instead of k.")] = None,
    keep: Annotated[
        float | None, typer.Option(help="HDHash's pruned search: the share kept after each level; not exact.")
    ] = None,
    keep_mode: Annotated[KeepMode, typer.Option(help="Share of what.")] = KeepMode.node_ratio,
    allow: Annotated[
        Path | None, typer.Option(help="Only these: .npy of int64 ids, or of bool with an entry for each id.")
    ] = None,
    format: _codes.Format = None,
    bits: _codes.Bits = None,
    array: _codes.Array = "codes",
    column: _codes.Column = None,
    notation: _codes.InNotation = None,
    mmap: Annotated[
        bool, typer.Option("--mmap", help="Leave the index in its file: ready at once, slower for many queries.")
    ] = False,
    ray: OnRay = False,
    shards: Shards = None,
    replicas: Annotated[int | None, typer.Option(help="With --ray: copies of each shard. Default: 1.")] = None,
    address: Address = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each query.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print query,rank,distance,id.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write distances and ids into this .npz file instead.")
    ] = None,
    force: Force = False,
) -> None:
    """Find the nearest codes of each query, exactly unless --keep is given.

    Prints a table for up to ten queries and JSON lines for more; what the search took goes to stderr.

    Examples:

        fasthash search codes.fh queries.npy -k 3

        fasthash search codes.fh queries.npy --radius 12 --csv

        fasthash search levels.fh queries.npy --keep 0.3 --json

        fasthash search codes.fh queries.npy --allow allowed.npy -o found.npz

        echo 00000000000000ff | fasthash search codes.fh - --mmap

        fasthash search codes.shards queries.npy --ray --replicas 2
    """
    if as_json + as_csv + (output is not None) > 1:
        raise typer.BadParameter("--json, --csv and --output exclude each other")
    if radius is not None and (k is not None or keep is not None):
        raise typer.BadParameter("--radius excludes -k and --keep")
    if ray and mmap:
        raise typer.BadParameter("--mmap excludes --ray")
    _check_options(ray, shards=shards, replicas=replicas, address=address)
    with one_line_errors(), ExitStack() as stack:
        from fasthash.cli import _found, _searching

        n_threads = use_threads(threads)
        if output is not None:
            new_file(output, force, index, queries, allow)
        _codes.one_stdin(queries, allow)
        gallery: FlatIndex | HierIndex | ShardedIndex
        if ray:
            copies = 1 if replicas is None else replicas
            sharded = _on_ray(address).load(index, n_shards=shards, replicas=copies, threads=threads)
            gallery = stack.enter_context(sharded)
        else:
            gallery = load(index, mmap=mmap)
        wanted = check_codes(
            "queries", _codes.read(queries, format, bits, array, column, notation), gallery.n_bits // 8
        )
        find = _searching.finder(gallery, 10 if k is None else k, radius, keep, keep_mode.value, allow)
        find(wanted[:0])  # what is wrong with the arguments shows before anything is printed
        if output is None:
            show = _searching.printer(len(wanted), as_json, as_csv)
            works, seconds = _searching.search_blocks(find, wanted, show, shown=not sys.stdout.isatty())
        else:
            results: list[Result] = []
            works, seconds = _searching.search_blocks(
                find, wanted, lambda result, first: results.append(result), shown=True
            )
            _found.write_npz(output, results or [find(wanted)[0]])
        typer.echo(_found.summary(works, seconds, n_threads), err=True)


def _level_bits(levels: str | None, n_bits: int) -> list[int]:
    level_bits = [n_bits] if levels is None else whole_numbers("levels", levels)
    if sum(level_bits) != n_bits:
        raise ValueError(f"levels must sum to the {n_bits} bits of the codes, got {levels}")
    return level_bits


def _check_options(ray: bool, **of_ray: object) -> None:
    """Options that mean nothing without --ray are refused without it."""
    for name, value in of_ray.items():
        if value is not None and not ray:
            raise typer.BadParameter(f"--{name} needs --ray")


def _on_ray(address: str | None) -> type[ShardedIndex]:
    """The class of sharded indices, once this process is in a cluster."""
    from fasthash.distributed import ShardedIndex, _ray

    _ray.start(address)
    return ShardedIndex


@app.command()
def info(file: IndexFile, as_json: AsJson = False) -> None:
    """Tell what an index file holds, from its header alone.

    Examples:

        fasthash info codes.fh
    """
    with one_line_errors():
        facts = _facts(file)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):20s} {_plain(value)}")


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(help="Index files.", show_default=False)], as_json: AsJson = False
) -> None:
    """Check every byte of index files, section by section. Exit code 1 if anything is wrong with any of them.

    With --json a line for each file.

    Examples:

        fasthash verify codes.fh

        fasthash verify codes.fh levels.fh --json
    """
    wrong = False
    for file in files:
        try:
            report = verify_file(file)
        except (FormatError, OSError, ValueError) as error:
            wrong = True
            if as_json:
                typer.echo(json.dumps({"file": str(file), "sections": [], "fault": str(error)}))
            else:
                complain(str(error))
            continue
        wrong |= bool(report.fault)
        if as_json:
            sections = [part._asdict() | {"checksum": f"{part.checksum:016x}"} for part in report.sections]
            typer.echo(json.dumps({"file": str(file), "sections": sections, "fault": report.fault or None}))
            continue
        if len(files) > 1:
            typer.echo(for_terminal(file))
        typer.echo(f"{'section':10s} {'offset':>14s} {'bytes':>14s}  {'XXH64':16s}")
        for part in report.sections:
            outcome = "ok" if part.intact else "DAMAGED"
            typer.echo(f"{part.name:10s} {part.offset:14,d} {part.n_bytes:14,d}  {part.checksum:016x}  {outcome}")
        typer.echo(f"{'content':10s} {for_terminal(report.fault or 'ok')}")
    if wrong:
        raise typer.Exit(1)


def _facts(file: Path) -> dict[str, Any]:
    found = peek(file)
    return {
        "kind": found.kind,
        "codes": found.n_codes,
        "bits": found.n_bits,
        "levels": list(found.level_bits),
        "memory": found.memory,
        "ids": "stored" if found.has_ids else "counted",
        "format": found.format_version,
        "file_bytes": found.file_bytes,
        "file_bytes_per_code": found.file_bytes / found.n_codes if found.n_codes else None,
    }


def _facts_of_shards(folder: Path) -> dict[str, Any]:
    """What a folder of shards holds, in the same terms; the files that a card names are those that there are."""
    shards = [_facts(file) for file in sorted(folder.glob("shard-*.fh"))]
    n, n_bytes = (sum(shard[name] for shard in shards) for name in ("codes", "file_bytes"))
    counted = {
        "codes": n,
        "shards": len(shards),
        "file_bytes": n_bytes,
        "file_bytes_per_code": n_bytes / n if n else None,
    }
    return shards[0] | {"kind": "sharded"} | counted


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else str(value)
