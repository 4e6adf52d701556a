"""The command line. A mistake of the user ends with one line on stderr and exit code 1, wrong usage with 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

from fasthash import FormatError, peek
from fasthash import verify as verify_file
from fasthash._extras import needs_extra

with needs_extra("cli"):
    import typer

__all__ = ["app"]

app = typer.Typer(
    name="fasthash",
    help="Short binary codes for images, and exact nearest neighbours among millions of them.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    images: Annotated[
        Path | None, typer.Option(help="Folder of class sub-folders with photos. Default: scikit-learn's digits.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("demo-report"),
    backbone: Annotated[str, typer.Option(help="Network, e.g. hrnet_w18, hrnet_w48, vgg16.")] = "hrnet_w18_small",
    weights: Annotated[
        str | None, typer.Option(help="Weights to start from: 'imagenet', or a .safetensors file. Default: random.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels. Default: 32 for digits, 64 for a folder.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 12,
    batch_size: Annotated[int, typer.Option(help="Images per training step.")] = 64,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Seed of split, weights and order.")] = 0,
) -> None:
    """Train an HDHash model, index a gallery, search it with held-out queries, write a report.

    Examples:

        fasthash demo

        fasthash demo --images photos --image-size 96 --epochs 20
    """
    with _one_line_errors():
        from fasthash.demo import run_demo

        report = run_demo(
            images,
            output,
            backbone=backbone,
            pretrained=True if weights == "imagenet" else weights or False,
            image_size=image_size,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            say=typer.echo,
        )
    typer.echo("")
    for row in report["quality"]:
        typer.echo(f"  mAP@ALL at {row['n_bits']:2d} bits   {row['mAP@ALL']:.4f}")
    for row in report["searches"]:
        typer.echo(
            f"  {row['search']:34s} recall@10 {row['recall@10']:.4f}   {row['codes_compared']:7.1f} codes compared"
            f"   {row['microseconds_per_query']:7.2f} us/query"
        )
    typer.echo(f"\nOpen {output / 'index.html'}")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="An index file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what an index file holds, from its header alone.

    Example:

        fasthash info demo-report/gallery.fh
    """
    with _one_line_errors():
        found = peek(file)
    facts = {
        "kind": found.kind,
        "codes": found.n_codes,
        "bits": found.n_bits,
        "levels": list(found.level_bits),
        "ids": "stored" if found.has_ids else "counted",
        "format": found.format_version,
        "file_bytes": found.file_bytes,
        "file_bytes_per_code": found.file_bytes / found.n_codes if found.n_codes else None,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name.replace('_', ' '):20s} {_plain(value)}")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="An index file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check every byte of an index file, section by section. Exit code 1 if anything is wrong.

    Example:

        fasthash verify demo-report/gallery.fh
    """
    with _one_line_errors():
        report = verify_file(file)
    if as_json:
        sections = [part._asdict() | {"checksum": f"{part.checksum:016x}"} for part in report.sections]
        typer.echo(json.dumps({"sections": sections, "fault": report.fault or None}))
    else:
        typer.echo(f"{'section':10s} {'offset':>14s} {'bytes':>14s}  {'XXH64':16s}")
        for part in report.sections:
            outcome = "ok" if part.intact else "DAMAGED"
            typer.echo(f"{part.name:10s} {part.offset:14d} {part.n_bytes:14d}  {part.checksum:016x}  {outcome}")
        typer.echo(f"{'content':10s} {report.fault or 'ok'}")
    if report.fault:
        raise typer.Exit(1)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else str(value)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (FormatError, OSError, ValueError, FloatingPointError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"fasthash: {message}", err=True)
    raise typer.Exit(1)
