"""The command `serve`."""

from __future__ import annotations

import errno
import math
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from fasthash import Store
from fasthash._shown import for_terminal
from fasthash.cli._app import app, one_line_errors
from fasthash.cli.stores import check_store

__all__: list[str] = []


@app.command()
def serve(
    store: Annotated[Path, typer.Argument(help="A store.", show_default=False)],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the photos that the keys name; the page shows them.")
    ] = None,
    encoder: Annotated[Path | None, typer.Option(help="Encoder for photos that people search for.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Others than this machine need another one.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(help="Processes, which share the memory of the store.", min=1)] = 1,
    writable: Annotated[
        bool, typer.Option("--writable", help="Take changes from whoever knows the token in FASTHASH_TOKEN.")
    ] = False,
    max_body: Annotated[int, typer.Option(help="Bytes of the body of a request.", min=1)] = 8 << 20,
    max_k: Annotated[int, typer.Option(help="Neighbours of a query.", min=1)] = 1000,
    max_results: Annotated[int, typer.Option(help="Results of a request.", min=1)] = 1 << 17,
    max_searches: Annotated[int, typer.Option(help="Searches at one time.", min=1)] = 16,
    max_seconds: Annotated[float, typer.Option(help="Seconds of a search.", min=0.001)] = 10.0,
) -> None:
    """Serve a store over HTTP: a page at /, an interface at /docs, /healthz and /metrics.

    New commits are taken about once a second. There are no passwords: whoever reaches the port may search. Changes are
    refused unless --writable is given; /add, /update and /remove then need the token in the environment variable
    FASTHASH_TOKEN.

    Examples:

        fasthash serve photos.fhs --images photos --encoder encoder --port 8000

        FASTHASH_TOKEN=... fasthash serve photos.fhs --writable
    """
    if writable and workers > 1:
        raise typer.BadParameter("--writable excludes --workers: a store has one writer; start readers beside it")
    if not math.isfinite(max_seconds):
        raise typer.BadParameter(f"--max-seconds must be a finite number, got {max_seconds}")
    with one_line_errors():
        from fasthash.serving import Limits, Writing, make_app, reader_of, run, run_workers, settings

        token = os.environ.get("FASTHASH_TOKEN", "")
        if writable and not token:
            raise ValueError("--writable needs a token in the environment variable FASTHASH_TOKEN")

        if images is not None and not images.is_dir():
            raise NotADirectoryError(f"--images must be a folder, got {str(images)!r}")
        check_store(store, "which cannot be served; fasthash build CODES -o NAME.fhs makes a store")
        _check_port(host, port)

        limits = Limits(body_bytes=max_body, k=max_k, results=max_results, at_once=max_searches, seconds=max_seconds)
        with Store(store) as opened:
            make_codes = None if encoder is None else reader_of(encoder, opened.n_bits)
            writing = Writing(opened.path, token) if writable else None
            try:
                typer.echo(f"{for_terminal(opened.path)}: {_address(host, port)}", err=True)
                if workers > 1:
                    # The workers have their own. This process would keep the files of its commit, also removed ones.
                    opened.close()
                    del make_codes
                    return run_workers(workers, settings(store, limits, images, encoder), host, port, limits)
                run(make_app(opened, limits, images=images, make_codes=make_codes, writing=writing), host, port, limits)
            finally:
                if writing is not None:
                    writing.close()


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _check_port(host: str, port: int) -> None:
    """Check that a server can listen here, before it tells its address.

    Raises:
        OSError: it cannot; the port is in use, for example.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as trial:
            if os.name == "posix":  # as the server does it; a port stays busy for a minute after its last server
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"port {port} is in use; --port names another") from None
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
