"""The commands that build and search index files and stores: `build` and `search`."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fasthash import FlatIndex, HierIndex, Store, load
from fasthash._checks import check_codes, check_int
from fasthash._shown import counted, for_terminal
from fasthash.cli import _codes, stores
from fasthash.cli._app import AsJson, Force, app, new_file, one_line_errors, use_threads, whole_numbers
from fasthash.cli._facts import facts_of, facts_of_saved_shards

if TYPE_CHECKING:
    from fasthash.cli._results import Result
    from fasthash.distributed import ShardedIndex

__all__: list[str] = []


class Memory(str, Enum):
    """Memory budget of an index; see `HierIndex`."""

    compact = "compact"
    default = "default"
    fast = "fast"


class Metric(str, Enum):
    """Distance between codes; see `FlatIndex`."""

    hamming = "hamming"
    jaccard = "jaccard"


class KeepMode(str, Enum):
    """Meaning of the share in `--keep`; see `HierIndex.search`."""

    node_ratio = "node_ratio"
    gallery_ratio = "gallery_ratio"
    radius = "radius"


Threads = Annotated[int | None, typer.Option(help="Number of threads. Default: the number of processors.")]
OnRay = Annotated[bool, typer.Option("--ray", help="Use actors of a Ray cluster; the index is a folder.")]
Shards = Annotated[int | None, typer.Option(help="With --ray: number of shards. Default: 2, or as saved.")]
Address = Annotated[
    str | None, typer.Option(help="With --ray: the cluster, such as host:6379. Default: a new one on this machine.")
]


# Long because typer takes the options from the arguments of a function.
@app.command()
def build(
    codes: Annotated[Path, typer.Argument(help="Codes; - for standard input.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Index file, or a store, ending in .fhs. Default: the codes' path with .fh."
        ),
    ] = None,
    levels: Annotated[
        str | None, typer.Option(help="Bits of the levels for --keep, such as 8,16,40. Default: one level.")
    ] = None,
    flat: Annotated[bool, typer.Option("--flat", help="Build a flat index, which always scans all codes.")] = False,
    ids: Annotated[Path | None, typer.Option(help="Ids, .npy of int64. Default: 0, 1, 2, ...")] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="With a store: a key for each code; text with one a line, or .npy. Default: those of an .npz file."
        ),
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the codes to a store that exists.")] = False,
    memory: Annotated[Memory | None, typer.Option(help="Memory budget of the index. Default: default.")] = None,
    metric: Annotated[
        Metric | None,
        typer.Option(help="Distance; jaccard is 1 - Tanimoto, for fingerprints. Default: hamming."),
    ] = None,
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
    """Build an index file from codes; or a store, if the output ends in .fhs; or with --ray a folder of shards.

    The codes are one of: an array in an .npy file, or in an .npz file as `fasthash encode` writes it: uint8
    (n, bits / 8), uint64 or int64 hashes (n,), or bool (n, bits); text with one code per line (.hex or .txt); a column
    of a table (.csv, .tsv or .parquet); fingerprints of chemfp (.fps); raw bytes (.bin or .raw), with --bits; or the
    folder that `fasthash encode --ray` wrote.

    Examples:

        fasthash build codes.npy -o codes.fh

        fasthash build codes.npy -o levels.fh --levels 8,16,40 --memory fast

        fasthash build hashes.txt --ids ids.npy

        fasthash build photos.csv -o photos.fh --column phash

        cat hashes.txt | fasthash build - -o piped.fh --flat

        fasthash build hashes.txt -o photos.fhs --keys names.txt

        fasthash build molecules.fps --metric jaccard

        fasthash build molecules.fps -o molecules.fhs --metric jaccard

        fasthash build codes.npy -o codes.shards --ray --shards 4
    """
    if flat and (levels is not None or memory is not None):
        raise typer.BadParameter("a flat index has neither --levels nor --memory")
    if flat and ray:
        raise typer.BadParameter("--flat excludes --ray")
    _check_options(ray, shards=shards, address=address)
    if output is None and str(codes) == "-":
        raise typer.BadParameter("standard input needs --output")
    if output is None and _is_pipe(codes):
        raise typer.BadParameter(f"{codes} is no file with a folder of its own, and needs --output")
    is_store = output is not None and stores.has_ending(output)
    if metric is Metric.jaccard and (levels is not None or memory is not None):
        raise typer.BadParameter("--metric jaccard excludes --levels and --memory")
    if (keys is not None or add) and not is_store:
        raise typer.BadParameter("--keys and --add need a store: an --output that ends in .fhs")
    if is_store and (flat or ray or force):
        raise typer.BadParameter("a store excludes --flat, --ray and --force; --add adds to it")
    with one_line_errors(), ExitStack() as stack:
        use_threads(threads)
        if add and output is not None and not output.exists():
            raise FileNotFoundError(f"{output} does not exist, so that --add has no store to add to")
        _check_counts(shards=shards)
        _codes.check_input(codes, format)
        beside = codes.parent / f"{codes.stem}.{'shards' if ray else 'fh'}" if output is None else output
        otherwise = "--add adds to it" if is_store else "--force overwrites it"
        output = new_file(beside, force or add, codes, ids, keys, otherwise=otherwise)
        _codes.check_index_name("output", output)
        _codes.one_stdin(codes, ids)
        gallery = _codes.read(codes, format, bits, array, column, notation)
        level_bits = _level_bits(levels, gallery.shape[1] * 8 if bits is None else bits)
        budget: Any = "default" if memory is None else memory.value
        given = None if ids is None else _codes.read_array(ids)
        if is_store:
            settings: dict[str, Any] = {} if stores.is_store(output) and levels is None else {"level_bits": level_bits}
            settings |= {} if memory is None else {"memory": budget}
            settings |= {} if metric is None else {"metric": metric.value}
            named, source = None, None
            if keys is not None:
                named = stores.read_keys(keys)
            elif _codes.holds_parts(codes) or _codes.is_archive(codes, format):
                named, source = stores.keys_for(output, codes, array, given)
            facts, seconds = stores.add_to_store(output, gallery, given, named, settings=settings)
            facts |= {} if source is None else {"keys_from": source}
            _tell_built(facts | {"seconds": seconds}, output, as_json)
            return
        by: Any = "hamming" if metric is None else metric.value
        index: FlatIndex | HierIndex | ShardedIndex
        if ray:
            n_shards = 2 if shards is None else shards
            sharded = _on_ray(address)(level_bits, memory=budget, metric=by, n_shards=n_shards, threads=threads)
            index = stack.enter_context(sharded)
        else:
            index = FlatIndex(sum(level_bits), metric=by) if flat else HierIndex(level_bits, memory=budget, metric=by)
        begin = time.perf_counter()
        with _codes.share_bar(f"indexing {counted(len(gallery), 'code')}") as tell:
            index.add(gallery, given, **({} if ray else {"progress": tell}))
        seconds = time.perf_counter() - begin
        index.save(output)
        facts = (facts_of_saved_shards(output) if ray else facts_of(output)) | {"seconds": seconds}
    _tell_built(facts, output, as_json)


# Long because of its options, as `build`.
@app.command()
def search(
    index: Annotated[Path, typer.Argument(help="An index file or a store; with --ray a folder.", show_default=False)],
    queries: Annotated[
        Path, typer.Argument(help="Codes as in `build`, or with --encoder a photo; - for standard input.")
    ],
    k: Annotated[int | None, typer.Option("-k", help="Neighbours of each query. Default: 10.")] = None,
    radius: Annotated[
        float | None, typer.Option(help="Find all codes within this distance, not k; in bits, or of jaccard to 1.")
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="HDHash's pruned search, not exact: share kept after each level.")
    ] = None,
    keep_mode: Annotated[
        KeepMode | None, typer.Option(help="Meaning of the share in --keep. Default: node_ratio.")
    ] = None,
    allow: Annotated[
        Path | None, typer.Option(help="Allowed ids: .npy of int64 ids, or of bool with a value for each id.")
    ] = None,
    format: _codes.Format = None,
    bits: _codes.Bits = None,
    array: _codes.Array = "codes",
    column: _codes.Column = None,
    notation: _codes.InNotation = None,
    mmap: Annotated[
        bool, typer.Option("--mmap", help="Map the index file: ready at once; processes share its codes.")
    ] = False,
    ray: OnRay = False,
    shards: Shards = None,
    replicas: Annotated[int | None, typer.Option(help="With --ray: copies of each shard. Default: 1.")] = None,
    address: Address = None,
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each query.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print query,rank,distance,id.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write distances and ids to this .npz file instead.")
    ] = None,
    encoder: Annotated[Path | None, typer.Option(help="Encoder for the photo that QUERIES then is.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="With --encoder: write a page with the photos found instead.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="With --html: folder of the photos that the keys name.")] = None,
    force: Force = False,
) -> None:
    """Find the nearest codes of each query, exactly unless --keep is given.

    Prints a table for up to ten queries and JSON lines for more. Time and work of the search go to stderr.

    Examples:

        fasthash search codes.fh queries.npy -k 3

        fasthash search codes.fh queries.npy --radius 12 --csv

        fasthash search levels.fh queries.npy --keep 0.3 --json

        fasthash search codes.fh queries.npy --allow allowed.npy -o found.npz

        echo 00000000000000ff | fasthash search codes.fh - --mmap

        fasthash search codes.shards queries.npy --ray --replicas 2

        fasthash search photos.fhs photo.jpg --encoder encoder --html near.html --images photos
    """
    if as_json + as_csv + (output is not None) + (html is not None) > 1:
        raise typer.BadParameter("--json, --csv, --output and --html exclude each other")
    if (html is not None and encoder is None) or (images is not None and html is None):
        raise typer.BadParameter("--html needs --encoder, and --images needs --html")
    if radius is not None and (k is not None or keep is not None):
        raise typer.BadParameter("--radius excludes -k and --keep")
    if keep_mode is not None and keep is None:
        raise typer.BadParameter("--keep-mode needs --keep")
    if mmap and (ray or stores.is_store(index)):
        raise typer.BadParameter("--mmap excludes --ray, and stores, which are always mapped")
    if force and output is None and html is None:
        raise typer.BadParameter("--force needs --output or --html")
    _check_options(ray, shards=shards, replicas=replicas, address=address)
    with one_line_errors(), ExitStack() as stack:
        from fasthash.cli import _results, _searching

        if encoder is not None:  # needs Pillow, which no other search does
            from fasthash.cli import _photo_search

        n_threads = use_threads(threads)
        _check_counts(shards=shards, replicas=replicas)
        for written in (output, html):
            if written is not None:
                new_file(written, force, index, queries, allow, encoder)
        if output is not None and output.suffix.lower() != ".npz":
            raise ValueError(f"output must end in .npz, got {output}; --csv and --json print text")
        if html is not None:
            _photo_search.check_page(html)
        _codes.one_stdin(queries, allow)
        if encoder is None and _codes.is_photo(queries, format):
            raise ValueError(
                f"{queries} is a photo, which needs --encoder DIR, the encoder of the codes in the index; "
                "fasthash encode package PHOTOS codes.npz --save DIR makes both"
            )
        if not ray:
            stores.check_not_sharded(index, "which needs --ray")
        gallery: FlatIndex | HierIndex | Store | ShardedIndex
        if ray:
            copies = 1 if replicas is None else replicas
            gallery = stack.enter_context(stores.open_shards(_on_ray(address), index, shards, copies, threads))
        elif stores.is_store(index):
            gallery = stack.enter_context(Store(index))
        else:
            gallery = load(index, mmap=mmap)
        if encoder is not None:
            query_codes = _photo_search.code_of_photo(queries, encoder, gallery.n_bits)
        else:
            if bits is None and gallery.n_bits % 8:
                bits = gallery.n_bits  # text of such a width does not tell it
            given = _codes.read(queries, format, bits, array, column, notation)
            query_codes = check_codes("queries", given, gallery.n_bits)
        # Results have a place for each of k neighbours, and a search needs memory for all of them.
        most = min(10 if k is None else k, max(1, len(gallery)))
        find = _searching.finder(gallery, most, radius, keep, keep_mode, allow)
        find(query_codes[:0])  # raises for wrong arguments before anything is printed
        if keep is not None and len(gallery.level_bits) == 1:
            note = "--keep prunes nothing in an index of one level: this search is exact; build --levels makes levels"
            typer.echo(note, err=True)
        results: list[Result] = []
        if output is None and html is None:
            with_keys = isinstance(gallery, Store) and gallery.info()["keys"] != "none"
            show = _searching.printer(len(query_codes), as_json, as_csv, with_keys)
            works, seconds = _searching.search_blocks(find, query_codes, show, shown=not sys.stdout.isatty())
        else:
            works, seconds = _searching.search_blocks(
                find, query_codes, lambda result, first: results.append(result), shown=True
            )
            if output is not None:
                _results.write_npz(output, results or [find(query_codes)[0]])
                found = f"results of {counted(len(query_codes), 'query', 'queries')}"
            elif html is not None:
                n = _photo_search.write_page(html, queries, results[0], index, len(gallery), images)
                found = counted(n, "neighbour")
            typer.echo(f"{found} in {for_terminal(html if output is None else output)}")
        typer.echo(_results.summary(works, seconds, n_threads, len(gallery)), err=True)


def _tell_built(facts: dict[str, Any], output: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        codes_in = f"{counted(facts['codes'], 'code')} of {facts['bits']} bits in {for_terminal(output)}"
        keys = f"; keys: {facts['keys_from']!r} of the archive" if "keys_from" in facts else ""
        typer.echo(f"{codes_in}: {facts['file_bytes']:,} bytes, indexed in {facts['seconds']:.2f} s{keys}")


def _level_bits(levels: str | None, n_bits: int) -> list[int]:
    level_bits = [n_bits] if levels is None else whole_numbers("levels", levels)
    if sum(level_bits) != n_bits:
        raise ValueError(f"levels must sum to the {n_bits} bits of the codes, got {levels}")
    return level_bits


def _is_pipe(path: Path) -> bool:
    """Whether codes come from a pipe or a device, such as `<(...)` or `/dev/stdin`, beside which no index belongs."""
    if str(path.parent) in ("/dev", "/dev/fd") or path.parts[:2] == ("/", "proc"):
        return True  # also if a file is redirected into it
    return path.exists() and not path.is_file() and not path.is_dir()


def _check_options(ray: bool, **of_ray: object) -> None:
    """Refuse options that need --ray if it is not given."""
    for name, value in of_ray.items():
        if value is not None and not ray:
            raise typer.BadParameter(f"--{name} needs --ray")


def _check_counts(**counts: int | None) -> None:
    """Check numbers of actors before Ray starts, which takes seconds.

    Raises:
        ValueError: one is below 1, or above the most shards.
    """
    from fasthash._saved_kinds import MAX_SHARDS

    for name, n in counts.items():
        if n is not None:
            check_int(name, n, minimum=1, maximum=MAX_SHARDS if name == "shards" else None)


def _on_ray(address: str | None) -> type[ShardedIndex]:
    """Join or start a Ray cluster; return the class of sharded indices."""
    from fasthash.distributed import ShardedIndex, _ray

    _ray.start(address)
    return ShardedIndex
