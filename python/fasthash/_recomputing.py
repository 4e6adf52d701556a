"""Gradient checkpointing: blocks of a network keep no values for the backward pass, but compute them anew there.

Called by `fasthash.train.train`. timm has its own for some networks, but not for HRNets, and batch norms there count
every batch twice; here statistics and gradients are those of a usual training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

from fasthash._extras import needs_extra

with needs_extra("train"):
    from timm.models.hrnet import HighResolutionModule
    from torch import is_grad_enabled, nn
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.utils.checkpoint import checkpoint

__all__ = ["check_recomputable", "recomputing"]

_STAGES = ("blocks", "stages", "layer1", "layer2", "layer3", "layer4")


def check_recomputable(backbone: nn.Module, name: str) -> None:
    """Check that a backbone has blocks that can be computed anew.

    Raises:
        ValueError: it has none.
    """
    if not _blocks(backbone):
        raise ValueError(
            f"gradient_checkpointing must be False for backbone={name!r}, which has no blocks or stages that are known"
        )


@contextmanager
def recomputing(backbone: nn.Module) -> Iterator[None]:
    """Within the block, keep only the inputs of the blocks of a network for the backward pass."""
    blocks = _blocks(backbone)
    for block in blocks:
        block.forward = partial(_forward, block, block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _blocks(backbone: nn.Module) -> list[nn.Module]:
    """Return the modules to compute anew: those of HRNets, and the entries of stages of other networks."""
    found: list[nn.Module] = [module for module in backbone.modules() if isinstance(module, HighResolutionModule)]
    stages = [stage for name in _STAGES if isinstance(stage := getattr(backbone, name, None), nn.Sequential)]
    return found + [block for stage in stages for block in stage if next(block.parameters(), None) is not None]


def _forward(block: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    if not (block.training and is_grad_enabled()):
        return forward(*inputs)

    def with_own_lists(*inputs: Any) -> Any:  # HRNet's modules replace the entries of their lists of inputs
        return forward(*(list(one) if isinstance(one, list) else one for one in inputs))

    return checkpoint(with_own_lists, *inputs, use_reentrant=False, context_fn=partial(_contexts, block))


def _contexts(block: nn.Module) -> tuple[Any, Any]:
    """Contexts of the first and of the second computation; only the first counts for the statistics of batch norms."""
    return nullcontext(), _fixed_statistics(block)


@contextmanager
def _fixed_statistics(block: nn.Module) -> Iterator[None]:
    with ExitStack() as stack:
        for module in block.modules():
            if isinstance(module, _BatchNorm) and module.track_running_stats:
                stack.callback(_restore, module, *(tensor.clone() for tensor in module.buffers(recurse=False)))
        yield


def _restore(module: nn.Module, *tensors: Any) -> None:
    for buffer, tensor in zip(module.buffers(recurse=False), tensors, strict=True):
        buffer.copy_(tensor)
