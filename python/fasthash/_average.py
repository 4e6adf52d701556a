"""The running average of a network's weights over the steps of a training (EMA)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fasthash._extras import needs_extra

with needs_extra("train"):
    import torch
    from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """Average of the weights and buffers of a network, in which older steps count ever less.

    Args:
        network: the network in training.
        decay: share of the old average that a step keeps; early steps keep less, since they average few.

    Attributes:
        tensors: the average, by the names of the network's state.
        steps: number of steps so far.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        self.tensors: dict[str, Tensor] = {name: value.detach().clone() for name, value in self._now().items()}

    def update(self) -> None:
        """Take in the weights of a step."""
        self.steps += 1
        share = 1 - min(self.decay, self.steps / (self.steps + 9))
        with torch.no_grad():
            for name, value in self._now().items():
                kept = self.tensors[name]
                if kept.is_floating_point():
                    kept.lerp_(value.to(kept.device), share)
                else:
                    kept.copy_(value)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Give the network the average within the block, then its own weights again."""
        own = {name: value.detach().clone() for name, value in self._now().items()}
        self.network.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def _now(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.network.state_dict()
        return state
