"""The commands that inspect index files and stores: `info` and `verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fasthash import FormatError
from fasthash import verify as verify_file
from fasthash._shown import for_terminal
from fasthash.cli import stores
from fasthash.cli._app import AsJson, app, complain, in_one_line, is_of_output, one_line_errors, typed
from fasthash.cli._facts import facts_of

__all__: list[str] = []

IndexFile = Annotated[Path, typer.Argument(help="An index file or a store.", show_default=False)]


@app.command()
def info(file: IndexFile, as_json: AsJson = False) -> None:
    """Print the header of an index file, or the size and settings of a store, also of one in shards.

    Examples:

        fasthash info codes.fh

        fasthash info photos.fhs
    """
    with one_line_errors():
        facts = facts_of(file)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):20s} {_plain(value)}")


@app.command()
def verify(
    files: Annotated[list[Path], typer.Argument(help="Index files and stores.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Check every byte of index files, section by section, and of stores. The exit code is 1 if any file is damaged.

    With --json, print one line for each file.

    Examples:

        fasthash verify codes.fh

        fasthash verify codes.fh levels.fh --json
    """
    wrong = False
    for file in files:
        try:
            if stores.is_store(file):
                wrong |= stores.verify_lines(file, as_json, for_terminal(file) if len(files) > 1 else None)
                continue
            report = verify_file(file)
        except (FormatError, OSError, ValueError) as error:
            if is_of_output(error):
                raise
            wrong = True
            if as_json:
                typer.echo(json.dumps({"file": str(file), "sections": [], "fault": in_one_line(error)}))
            else:
                complain(typed(in_one_line(error)))
            continue
        wrong |= bool(report.fault)
        if as_json:
            sections = [entry._asdict() | {"checksum": f"{entry.checksum:016x}"} for entry in report.sections]
            typer.echo(json.dumps({"file": str(file), "sections": sections, "fault": report.fault or None}))
            continue
        if len(files) > 1:
            typer.echo(for_terminal(file))
        typer.echo(f"{'section':10s} {'offset':>14s} {'bytes':>14s}  {'XXH64':16s}")
        for entry in report.sections:
            outcome = "ok" if entry.intact else "DAMAGED"
            typer.echo(f"{entry.name:10s} {entry.offset:14,d} {entry.n_bytes:14,d}  {entry.checksum:016x}  {outcome}")
        typer.echo(f"{'content':10s} {for_terminal(report.fault or 'ok')}")
    if wrong:
        raise typer.Exit(1)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else str(value)
