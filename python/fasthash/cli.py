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
def train(
    output: Annotated[Path, typer.Argument(help="Folder for the experiment.", show_default=False)],
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    preset: Annotated[str | None, typer.Option(help="hhnet, hashnet, hdhash, hyp2 or wglhh.")] = None,
    data: Annotated[str | None, typer.Option(help="digits, folder, cifar10, parts, lists or split.")] = None,
    root: Annotated[str | None, typer.Option(help="Folder of the images.")] = None,
    lists: Annotated[str | None, typer.Option(help="Lists, or a split file.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Name, such as cifar10-hhnet.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Network, such as hrnet_w18.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="'imagenet', 'none', a .safetensors file, or a saved encoder.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    bits: Annotated[str | None, typer.Option(help="Levels, such as 64 or 8,16,40.")] = None,
    loss: Annotated[str | None, typer.Option(help="Name, such as hashnet.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or sgd.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step and process.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the backbone.")] = None,
    hash_lr_mult: Annotated[float | None, typer.Option(help="That of the head, as a multiple.")] = None,
    schedule: Annotated[str | None, typer.Option(help="constant or cosine.")] = None,
    mixed_precision: Annotated[str | None, typer.Option(help="no, bf16 or fp16.")] = None,
    augment: Annotated[str | None, typer.Option(help="none, flip or crop_flip.")] = None,
    hold_out: Annotated[float | None, typer.Option(help="Share of training images for validation.")] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without a better validation mAP.")] = None,
    num_workers: Annotated[int | None, typer.Option(help="Processes that load images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, weights and order.")] = None,
) -> None:
    """Train an encoder; run it again to go on where it was stopped.

    Settings come from the preset, then from the file, then from the options. Start it with `torchrun` or `accelerate
    launch` for several processes.

    Examples:

        fasthash train runs/a --backbone hrnet_w18_small --image-size 32 --bits 8,16,40 --lr 5e-4 --epochs 5

        fasthash train runs/b --preset hhnet --data cifar10 --root data --protocol cifar10-hhnet
    """
    with _one_line_errors():
        from fasthash.experiment import read_config, run_training

        experiment = read_config(
            config,
            preset,
            data=data,
            root=root,
            lists=lists,
            protocol=protocol,
            backbone=backbone,
            weights=weights,
            image_size=image_size,
            level_bits=None if bits is None else _whole_numbers(bits),
            loss=loss,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            hash_lr_mult=hash_lr_mult,
            schedule=schedule,
            mixed_precision=mixed_precision,
            augment=augment,
            hold_out=hold_out,
            patience=patience,
            num_workers=num_workers,
            seed=seed,
        )
        record = run_training(experiment, output, typer.echo)
    typer.echo(f"{len(record.losses)} epochs, {record.seconds:.0f} s on {record.device}, loss {record.losses[-1]:.4f}")
    typer.echo(f"encoder in {output / 'encoder'}; measure it with: fasthash eval {output}")


@app.command(name="eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="What `fasthash train` wrote.", show_default=False)],
    at: Annotated[int | None, typer.Option(help="R of mAP@R. Default: the protocol's, or all.")] = None,
    ties: Annotated[str | None, typer.Option(help="expected, best, worst, or feature (HHNet's).")] = None,
    empty: Annotated[str | None, typer.Option(help="Queries without relevant images: zero or drop.")] = None,
    plots: Annotated[bool, typer.Option(help="Draw curves and a contact sheet of neighbours, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure what the codes of a trained encoder find; writes results.json and codes.npz into its folder.

    Examples:

        fasthash eval runs/a --plots

        fasthash eval runs/a --at 5000 --ties feature
    """
    with _one_line_errors():
        from fasthash.evaluation import evaluate as measure

        figures = measure(folder, at, ties, empty, plots=plots, progress=not as_json)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    typer.echo(figures["protocol"])
    for row in figures["prefixes"]:
        typer.echo("".join(f"  {name} at {row['n_bits']} bits   {row[name]:.4f}" for name in row if "mAP" in name))
    for name, value in figures.items():
        if isinstance(value, float):
            typer.echo(f"  {name:14s} {value:.4f}")


@app.command()
def encode(
    encoder: Annotated[Path, typer.Argument(help="Folder of a checkpoint.", show_default=False)],
    images: Annotated[Path, typer.Argument(help="Folder of photos.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="File for codes and paths, .npz.", show_default=False)],
    index: Annotated[Path | None, typer.Option(help="Index file to write, too; ids count the paths.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 64,
    num_workers: Annotated[int, typer.Option(help="Processes that load images.")] = 0,
) -> None:
    """Encode all photos in a folder: codes uint8 (n, bytes) and their paths. Broken files are listed and left out.

    Example:

        fasthash encode runs/a/encoder photos codes.npz --index photos.fh
    """
    with _one_line_errors():
        import numpy as np

        from fasthash import HierIndex
        from fasthash.encoder import HashEncoder

        if output.suffix != ".npz":
            raise ValueError(f"output must end with .npz, got {str(output)!r}")
        network = HashEncoder.load(encoder).to_best_device()
        found = network.encode_folder(images, batch_size=batch_size, num_workers=num_workers)
        np.savez(output, codes=found.codes, paths=np.array(found.paths, dtype=np.str_))
        if index is not None:
            hierarchical = HierIndex(network.level_bits)
            hierarchical.add(found.codes)
            hierarchical.save(index)
    for path, reason in found.broken:
        typer.echo(f"skipped {path}: {reason}", err=True)
    typer.echo(f"{len(found.paths)} images in {output}, {len(found.broken)} files skipped")


@app.command()
def dedup(
    folder: Annotated[Path, typer.Argument(help="Folder of photos.", show_default=False)],
    radius: Annotated[
        int | None, typer.Option(help="Bits between near-duplicates, at most. Default: a sixteenth of the hash.")
    ] = None,
    hash_bits: Annotated[int, typer.Option(help="Width of the pHash: 64 or 256.")] = 64,
    output: Annotated[Path, typer.Option(help="Folder for the contact sheet and the lists.")] = Path("dedup-report"),
    index: Annotated[
        Path | None, typer.Option(help="Folder that keeps the hashes: the next run reads only new and changed photos.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find near-duplicate photos by their perceptual hashes; nothing is deleted. Broken files are listed and left out.

    Writes index.html, duplicates.json and duplicates.csv. Exit code 0 whether or not there are duplicates.

    Examples:

        fasthash dedup photos

        fasthash dedup photos --hash-bits 256 --radius 24 --index photo-hashes
    """
    with _one_line_errors():
        from fasthash._contact_sheet import as_dict, printable, write_report
        from fasthash.dedup import find_duplicates

        found = find_duplicates(folder, radius, hash_bits=hash_bits, state=index, progress=not as_json)
        page, *_ = write_report(found, folder, output)
    if as_json:
        typer.echo(json.dumps(as_dict(found), indent=2))
        return
    for path, reason in found.broken:
        typer.echo(f"skipped {printable(path)}: {reason}", err=True)
    n_grouped = sum(map(len, found.groups))
    typer.echo(f"{found.n_photos} photos, {found.n_hashed} of them hashed now, {len(found.broken)} files skipped")
    typer.echo(f"{len(found.groups)} groups of near-duplicates, {n_grouped} photos in them; open {page}")


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


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"bits must be whole numbers with commas between, such as 8,16,40, got {text!r}") from None


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
    except (FormatError, OSError, TypeError, ValueError, FloatingPointError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"fasthash: {message}", err=True)
    raise typer.Exit(1)
