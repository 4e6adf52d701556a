"""The commands from images to codes: `train`, `eval`, `encode` and `demo`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from fasthash._shown import command, counted, for_terminal
from fasthash.cli._app import (
    AsJson,
    Force,
    MaxBytes,
    MaxPixels,
    app,
    fail,
    given,
    new_file,
    not_an_input,
    one_line_errors,
    whole_numbers,
)
from fasthash.cli._codes import check_index_name
from fasthash.cli._settings import with_options_of
from fasthash.settings import TrainingSettings

__all__: list[str] = []


@app.command()
def demo(
    images: Annotated[
        Path | None, typer.Option(help="Folder of class sub-folders with photos. Default: those of the repository.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report.")] = Path("demo-report"),
    digits: Annotated[
        bool, typer.Option("--digits", help="Take scikit-learn's digits, as where no repository is.")
    ] = False,
    backbone: Annotated[
        str | None,
        typer.Option(help="Network. Default: tf_efficientnet_lite0 for photos, hrnet_w18_small for digits."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="'imagenet', 'package', 'none', or a file. Default: package for tf_efficientnet_lite0."),
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels. Default: 96 for photos, 32 for digits.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images. Default: 8 to 14.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per training step. Default: 32, or 64.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate. Default: 1e-3, or 5e-4.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of split, weights and order.")] = 0,
) -> None:
    """Train an HDHash model, index a gallery, search it with held-out queries, write a report.

    Examples:

        fasthash demo

        fasthash demo --images photos --image-size 112 --epochs 5
    """
    if digits and images is not None:
        raise typer.BadParameter("--digits excludes --images")
    with one_line_errors():
        not_an_input(output, images)
        from fasthash.demo import run_demo
        from fasthash.demo.report import FEW_CODES

        report = run_demo(
            images,
            output,
            digits=digits,
            backbone=backbone,
            pretrained={"imagenet": True, "none": False}.get(weights or "", weights),
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
    for row in report["searches"][:2]:  # the scan and the exact search; the page explains the others
        typer.echo(
            f"  {row['search']:34s} recall@10 {row['recall@10']:.4f}   {row['codes_compared']:7.1f} codes compared"
            f"   {row['microseconds_per_query']:7.2f} us/query"
        )
    n_codes = report["data"]["n_gallery"]
    if n_codes < FEW_CODES:
        typer.echo(
            f"  {counted(n_codes, 'code')} are too few for an index to save time; {command()} bench CODES measures more"
        )
    typer.echo(f"\nOpen {for_terminal(output / 'index.html')}")
    if report["serve"] is not None:
        typer.echo(f"Search the photos in a browser: {for_terminal(report['serve'])}")


# Long because typer takes the options from the arguments of a function.
@app.command()
@with_options_of(TrainingSettings)
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
        str | None, typer.Option(help="'imagenet', 'package', 'none', a file of weights, or a saved encoder.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    stem_stride: Annotated[int | None, typer.Option(help="Of an HRNet: 4, or 2 or 1 for small images.")] = None,
    cut_branches: Annotated[
        int | None, typer.Option(help="Of an HRNet: finest branches that the features leave out, 0 to 3.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Learn its features: 'package', or the folder of a saved encoder.")
    ] = None,
    bits: Annotated[
        str | None, typer.Option(help="Levels, such as 64 or 8,16,40; or several, such as '16 32 8,16,40'.")
    ] = None,
    level_mode: Annotated[str | None, typer.Option(help="Levels: parallel, or prefix.")] = None,
    decorrelation: Annotated[
        float | None, typer.Option(help="Levels: weight of the squared covariance of two bits, such as 10.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="Name, such as hashnet; or several, such as 'csq hyp2'.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Several seeds instead of one, such as '0 1 2'.")] = None,
    augment: Annotated[str | None, typer.Option(help="none, flip, crop_flip, resized_crop, rand_augment, ...")] = None,
    hold_out: Annotated[float | None, typer.Option(help="Share of training images for validation.")] = None,
    skip_broken: Annotated[
        bool | None, typer.Option("--skip-broken", help="Leave out images that cannot be read.", show_default=False)
    ] = None,
    **training: Any,
) -> None:
    """Train an encoder. Run the same command again to resume a stopped training.

    The file overrides the preset, and options override the file. For several processes, start the command with
    `torchrun` or `accelerate launch`. With several losses, bits or seeds, each combination is trained and evaluated in
    a folder of its own, and the results are written as table.md, table.csv and table.tex: mean and largest deviation.

    Examples:

        fasthash train runs/a --backbone hrnet_w18_small --image-size 32 --lr 5e-4

        fasthash train runs/b --preset hhnet --data cifar10 --root data

        fasthash train runs/c --loss 'csq hyp2' --bits '16 32 64' --seeds '0 1 2'
    """
    with one_line_errors():
        not_an_input(output, root)
        from fasthash.experiment import read_config, run_training

        make = partial(
            read_config,
            config,
            preset,
            data=data,
            root=root,
            lists=lists,
            protocol=protocol,
            backbone=backbone,
            weights=weights,
            image_size=image_size,
            stem_stride=stem_stride,
            cut_branches=cut_branches,
            teacher=teacher,
            level_mode=level_mode,
            decorrelation=decorrelation,
            augment=augment,
            hold_out=hold_out,
            skip_broken=skip_broken,
            **{name: value for name, value in training.items() if name != "seed"},
        )
        values = {
            "losses": [None] if loss is None else loss.split() or [""],
            "level_bits": [None] if bits is None else [whole_numbers("bits", one) for one in bits.split() or [""]],
            "seeds": [training["seed"]] if seeds is None else whole_numbers("seeds", ",".join(seeds.split())),
        }
        if seeds is not None and training["seed"] is not None:
            raise ValueError(f"seed must be left out beside --seeds, got {training['seed']} and {seeds!r}")
        if seeds is not None or any(len(several) > 1 for several in values.values()):
            _train_grid(make, values, output)
            return
        ((one_loss,), (one_bits,), (seed,)) = values.values()
        record = run_training(make(loss=one_loss, level_bits=one_bits, seed=seed), output, typer.echo)
    epochs = counted(len(record.losses), "epoch")
    typer.echo(f"{epochs}, {record.seconds:.0f} s on {record.device}, loss {record.losses[-1]:.4f}")
    measure = f"{command()} eval {shlex.quote(str(output))}"
    typer.echo(for_terminal(f"encoder in {output / 'encoder'}; measure it with: {measure}"))


def _train_grid(make: Any, values: dict[str, Any], output: Path) -> None:
    """Train and evaluate all combinations of values, and print the table."""
    from fasthash.grid import make_grid, markdown_table, run_grid

    results = run_grid(make_grid(make, **values), output, partial(typer.echo, err=True))
    typer.echo(next(iter(results.values()))["protocol"])
    typer.echo(markdown_table(results), nl=False)
    typer.echo(f"wrote {for_terminal(output / 'table.md')}, table.csv and table.tex")


@app.command(name="eval")
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder that `fasthash train` wrote.", show_default=False)],
    at: Annotated[int | None, typer.Option(help="R of mAP@R. Default: that of the protocol, or all.")] = None,
    ties: Annotated[str | None, typer.Option(help="expected, best, worst, or feature (HHNet's).")] = None,
    empty: Annotated[str | None, typer.Option(help="Queries without relevant images: zero or drop.")] = None,
    plots: Annotated[bool, typer.Option(help="Also draw curves and a contact sheet of neighbours.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compute retrieval metrics of a trained encoder; write results.json and codes.npz to its folder.

    Examples:

        fasthash eval runs/a --plots

        fasthash eval runs/a --at 5000 --ties feature
    """
    with one_line_errors():
        from fasthash.evaluation import PICTURES
        from fasthash.evaluation import evaluate as measure

        figures = measure(folder, at, ties, empty, plots=plots, progress=not as_json)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    typer.echo(for_terminal(figures["protocol"]))
    for row in figures["prefixes"]:
        typer.echo("".join(f"  {name} at {row['n_bits']} bits   {row[name]:.4f}" for name in row if "mAP" in name))
    for name, value in figures.items():
        whole = name.startswith("recall@") and name != "recall@1000"  # of all images of a small gallery: 1
        if isinstance(value, float) and not whole:
            typer.echo(f"  {name:14s} {value:.4f}")
    for name in ("results.json", "codes.npz", *(PICTURES if plots else ())):
        typer.echo(f"wrote {for_terminal(folder / name)}")


# Long for the same reason as `train`.
@app.command()
def encode(
    encoder: Annotated[
        Path,
        typer.Argument(
            help="Folder of a checkpoint; or 'package': ImageNet weights, and codes learned from the photos without "
            "labels.",
            show_default=False,
        ),
    ],
    images: Annotated[Path, typer.Argument(help="Folder of photos, or of shards.", show_default=False)],
    output: Annotated[
        Path, typer.Argument(help="File for codes and paths, .npz; with --ray a folder.", show_default=False)
    ],
    index: Annotated[Path | None, typer.Option(help="Also write this index file; ids are positions of paths.")] = None,
    bits: Annotated[str | None, typer.Option(help="With 'package': levels, such as 8,16,40. Default: 64.")] = None,
    image_size: Annotated[int | None, typer.Option(help="With 'package': pixels. Default: 224.")] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="With 'package': folder for the encoder, which encodes further photos. If it exists, it needs --force."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 64,
    num_workers: Annotated[
        int | None, typer.Option(help="Processes that load images; with --ray, that encode. Default: 0, or all.")
    ] = None,
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    force: Force = False,
    ray: Annotated[bool, typer.Option("--ray", help="Encode on a Ray cluster; can be resumed.")] = False,
    address: Annotated[
        str | None, typer.Option(help="Address of the Ray cluster. Default: RAY_ADDRESS, or this machine.")
    ] = None,
    format: Annotated[str | None, typer.Option(help="With --ray: images, tar or parquet.")] = None,
    column: Annotated[str | None, typer.Option(help="Column of images in parquet files. Default: image.")] = None,
    key_column: Annotated[
        str | None, typer.Option(help="Column of names in parquet files. Default: file and row.")
    ] = None,
    part_size: Annotated[
        int | None, typer.Option(help="Photos in each part, a multiple of --batch-size. Default: 4096.")
    ] = None,
    num_gpus: Annotated[float | None, typer.Option(help="GPUs of each worker, such as 0.25. Default: 0.")] = None,
) -> None:
    """Encode all photos in a folder: codes uint8 (n, bytes) and their paths. Broken files are listed and left out.

    With --ray, encode on all machines of a cluster into a folder of parts. Run the command again to resume.

    Examples:

        fasthash encode runs/a/encoder photos codes.npz --index photos.fh

        fasthash encode package photos codes.npz --bits 64 --save photos-encoder

        fasthash encode runs/a/encoder shards codes --ray --format tar --address auto --num-gpus 0.25
    """
    unlabelled = given(bits=bits, image_size=image_size, save=save)
    at_scale = given(
        address=address,
        format=format,
        column=column,
        key_column=key_column,
        part_size=part_size,
        num_gpus=num_gpus,
    )
    if not ray and at_scale:
        raise typer.BadParameter(f"--{next(iter(at_scale)).replace('_', '-')} needs --ray")
    learns = str(encoder) == "package"
    if unlabelled and not learns:
        raise typer.BadParameter(f"--{next(iter(unlabelled)).replace('_', '-')} needs 'package' as the encoder")
    if learns and ray:
        raise typer.BadParameter("--ray needs the folder of a checkpoint, got 'package'")
    with one_line_errors():
        import numpy as np

        from fasthash.encoder import HashEncoder

        if not ray and output.suffix.lower() != ".npz":
            raise ValueError(f"output must end with .npz, got {str(output)!r}")
        not_an_input(output, encoder, images)
        if not ray:
            new_file(output, force)
        if index is not None:
            new_file(index, force, encoder, images, output)
            check_index_name("index", index)
        if save is not None:
            new_file(save, force, images, output, index)
            _check_replaceable(save)
        limits = given(max_bytes=max_bytes, max_pixels=max_pixels)
        network = None if learns else HashEncoder.load(encoder).to_best_device()
        parts: Iterable[Any]  # each part is (codes, paths, broken files)
        if ray:
            from fasthash.distributed import encode_images

            at_scale |= limits
            assert network is not None  # --ray takes no 'package'
            parts = encode_images(images, network, output, batch_size=batch_size, workers=num_workers, **at_scale)
            broken = parts.broken
        else:
            options = {"batch_size": batch_size, "num_workers": num_workers or 0, **limits}
            if network is None:
                from fasthash.unlabelled import fit_encoder

                levels = (64,) if bits is None else whole_numbers("bits", bits)
                network, encoded = fit_encoder(images, levels, image_size=image_size or 224, **options)
            else:
                encoded = network.encode_folder(images, **options)
            if encoded.paths:
                with open(output, "wb") as file:  # given a path, numpy would append .npz to one that ends in .NPZ
                    np.savez(file, codes=encoded.codes, paths=np.array(encoded.paths, dtype=np.str_))
            if save is not None:
                network.save(save)
            parts, broken = [encoded], encoded.broken
        n_images = _index_parts(parts, network.level_bits, index)
    for path, reason in broken:
        typer.echo(f"skipped {for_terminal(path)}: {for_terminal(reason)}", err=True)
    if n_images == 0:
        fail(f"{images} holds no image that can be read, {counted(len(broken), 'file')} skipped; nothing was encoded")
    typer.echo(f"{counted(n_images, 'image')} in {for_terminal(output)}, {counted(len(broken), 'file')} skipped")
    if learns and save is None:
        typer.echo("the encoder is not saved, so that no other photo can be encoded; --save DIR saves it", err=True)


def _check_replaceable(save: Path) -> None:
    """Check that the folder for an encoder is one, and holds nothing but an encoder."""
    from fasthash._checkpoint import CARD_NAME, check_checkpoint_folder, read_card

    if save.exists() and not save.is_dir():
        raise NotADirectoryError(f"--save must be a folder, got the file {save}")
    check_checkpoint_folder(save)
    if (save / CARD_NAME).exists():
        read_card(save, "HashEncoder")


def _index_parts(parts: Iterable[Any], level_bits: tuple[int, ...], file: Path | None) -> int:
    """Count the images of all parts; write an index of their codes unless `file` is None."""
    from fasthash import HierIndex

    n_images, index = 0, HierIndex(level_bits)
    for codes, _, _ in parts:
        n_images += len(codes)
        if file is not None:
            index.add(codes)
    if file is not None and n_images:
        index.save(file)
    return n_images
