"""The command `export`: the codes of an index file or a store, in a format of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fasthash import Store, load
from fasthash._shown import counted, for_terminal
from fasthash.cli import stores
from fasthash.cli._app import Force, app, new_file, one_line_errors
from fasthash.cli._results import as_text
from fasthash.code_files import save_fps

__all__: list[str] = []


@app.command()
def export(
    index: Annotated[Path, typer.Argument(help="An index file or a store.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, ending in .fps.", show_default=False)],
    force: Force = False,
) -> None:
    """Write the codes of an index file or a store as fingerprints in chemfp's FPS format, with their ids or keys.

    Examples:

        fasthash export molecules.fh -o written.fps

        fasthash export molecules.fhs -o keys.fps
    """
    if output.suffix.lower() != ".fps":
        raise typer.BadParameter(f"the output must end in .fps, got {output}")
    with one_line_errors():
        new_file(output, force, index)
        codes, names, n_bits = _entries(index)
        save_fps(output, codes, names, n_bits=n_bits)
    written = f"{counted(len(codes), 'code')} of {n_bits} bits in {for_terminal(output)}"
    typer.echo(f"{written}: {output.stat().st_size:,} bytes")


def _entries(path: Path) -> tuple[Any, Any, int]:
    """Codes, their ids or keys, and their width in bits, in the order of ids."""
    stores.check_not_sharded(path, "which export does not read")
    if not stores.is_store(path):
        index = load(path)
        return *index.to_arrays(), index.n_bits
    with Store(path) as store:
        codes, ids = store.to_index().to_arrays()
        has_keys = store.info()["keys"] != "none"
        return codes, [as_text(key) for key in store.keys(ids).tolist()] if has_keys else ids, store.n_bits
