"""Encoders for programs without fasthash: ONNX and TorchScript. Called by `HashEncoder.export`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from fasthash._checks import check_choice, check_path
from fasthash._extras import needs_extra

with needs_extra("train"):
    import torch

    from fasthash._hasher import Hasher, evaluating

__all__ = ["FORMS", "export"]

FORMS = ("onnx", "torchscript")


def export(encoder: Hasher, image_size: int, form: str, path: str | os.PathLike[str]) -> Path:
    """Write an encoder to a file, in eval mode; arguments and errors as of `HashEncoder.export`."""
    check_choice("form", form, FORMS)
    check_path("path", path)
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"path={os.fspath(path)!r} must be in a folder that exists")
    if form == "onnx":
        with needs_extra("export"):
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
    weight = next(encoder.parameters())
    # Two images, since a size of 1 would be taken for a constant.
    images = torch.zeros(2, 3, image_size, image_size, dtype=weight.dtype, device=weight.device)
    with evaluating(encoder), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes are constants by intent, and torch announces the end of TorchScript
        (_write_onnx if form == "onnx" else _write_torchscript)(encoder, images, Path(path))
    return Path(path)


def _write_onnx(encoder: Hasher, images: torch.Tensor, path: Path) -> None:
    options: dict[str, Any] = {
        "input_names": ["images"],
        "output_names": ["outputs"],
        "dynamic_shapes": {"images": {0: torch.export.Dim("batch")}},
    }
    torch.onnx.export(encoder, (images,), path, dynamo=True, external_data=False, verbose=False, **options)


def _write_torchscript(encoder: Hasher, images: torch.Tensor, path: Path) -> None:
    torch.jit.trace(encoder, images, check_trace=False).save(str(path))  # type: ignore[no-untyped-call]
