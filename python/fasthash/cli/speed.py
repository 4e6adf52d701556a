"""The command `bench`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fasthash._durable import check_writable
from fasthash.cli import _codes
from fasthash.cli._app import AsJson, Force, app, new_file, one_line_errors

__all__: list[str] = []

_FILES = ("bench.json", "bench.md", "bench.png")


@app.command()
def bench(
    codes: Annotated[Path, typer.Argument(help="Codes as in `build`; - for standard input.", show_default=False)],
    queries: Annotated[
        Path | None, typer.Option(help="Codes to search for. Default: up to 1,000 taken out of the codes.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Neighbours of each query.")] = 10,
    threads: Annotated[int, typer.Option(help="Threads of each library.")] = 1,
    rounds: Annotated[int, typer.Option(help="Number of rounds; times are medians.")] = 5,
    compare: Annotated[
        str | None, typer.Option(help="Some of faiss,usearch,numpy,sklearn. Default: all installed ones.")
    ] = None,
    format: _codes.Format = None,
    bits: _codes.Bits = None,
    array: _codes.Array = "codes",
    column: _codes.Column = None,
    notation: _codes.InNotation = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for bench.json, bench.md and bench.png.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure the speed of the indices and of other installed libraries on your codes.

    Prints microseconds per query, with one query per call and with all queries in one call. Times are medians of rounds
    in which all searches take turns. Ties count in recall.

    Examples:

        fasthash bench codes.npy

        fasthash bench codes.npy --queries queries.npy --compare faiss,numpy --json

        fasthash bench codes.npy --rounds 3 -o report
    """
    with one_line_errors():
        from fasthash.bench import check_drawing, draw, markdown, run_bench, text_table

        if output is not None:
            check_drawing()  # now, not after the measurements
            check_writable("output", output, _FILES)
            for name in _FILES if output.exists() else ():
                new_file(output / name, force, codes, queries)
        _codes.one_stdin(codes, queries)
        report = run_bench(
            _codes.read(codes, format, bits, array, column, notation),
            None if queries is None else _codes.read(queries, format, bits, array, column, notation),
            k,
            threads=threads,
            rounds=rounds,
            compare=None if compare is None else compare.split(","),
            say=lambda line: typer.echo(line, err=True),
        )
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            (output / "bench.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            (output / "bench.md").write_text(markdown(report, "bench.png"), encoding="utf-8")
            draw(output / "bench.png", report)
    typer.echo(json.dumps(report) if as_json else text_table(report))
