"""The state of a training for resuming it: one safetensors file, replaced after every epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fasthash._checkpoint import brief
from fasthash._durable import make_folder, make_readable, put
from fasthash._extras import needs_extra
from fasthash._folder_lock import locked
from fasthash._saved_folder import is_version

with needs_extra("train"):
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file
    from torch import Tensor, nn

__all__ = ["read_facts", "read_state", "write_state"]

_VERSION = 1


def write_state(
    path: Path,
    task: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor] | None,
    facts: dict[str, Any],
    average: dict[str, Tensor] | None = None,
) -> None:
    """Write weights, moments, the best weights so far, their average, and `facts`, which are plain JSON values.

    If the process is killed, the old file or the new one remains, complete.
    """
    tensors = {f"task.{name}": tensor for name, tensor in task.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
    for kind, weights in (("best", best), ("average", average)):
        tensors |= {f"{kind}.{name}": tensor for name, tensor in (weights or {}).items()}
    draft = path.with_name(path.name + ".tmp")
    make_folder(path.parent)
    # Clone, since safetensors refuses tensors that share memory.
    clones = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with locked(path.parent):
        save_file(clones, str(draft), {"fasthash": json.dumps({"version": _VERSION, **facts})})
        make_readable(draft)
        put(draft, path)


def read_facts(path: Path) -> dict[str, Any]:
    """Read the facts of a state from `write_state`, without its tensors.

    Raises:
        ValueError: the file is not such a state.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            return _facts(file)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold a training: {brief(error)}") from error


def _facts(file: Any) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((file.metadata() or {})["fasthash"])
    if not is_version(facts.pop("version"), (_VERSION,)):
        raise ValueError("it is of another version")
    return facts


def read_state(
    path: Path, task: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Load a state from `write_state` into task, optimizer and average; return the facts and the best weights.

    Raises:
        ValueError: the file is not such a state, or belongs to another network, loss or optimizer.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = _facts(file)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        task.load_state_dict(_below("task", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below("optimizer", tensors).items():
            number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        _lay_out_as_weights(optimizer)
        for name, tensor in (average or {}).items():
            tensor.copy_(tensors[f"average.{name}"])
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold this training: {brief(error)}") from error
    return facts, _below("best", tensors) or None


def _lay_out_as_weights(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the strides of their weights: fused optimizers step through both memories side by side."""
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.split(".", 1)[1]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
