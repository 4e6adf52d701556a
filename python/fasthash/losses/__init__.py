"""Losses that train a network to hash: `loss(z, labels)` of its raw outputs, `loss.step()` after an optimiser step."""

from __future__ import annotations

from fasthash._extras import needs_extra

# Every import of a module of this package passes here first, so that torch is asked for in this one place.
with needs_extra("train"):
    from fasthash.losses.base import HashLoss
    from fasthash.losses.hashnet import HashNetLoss
    from fasthash.losses.hierarchical import HierarchicalLoss

__all__ = ["HashLoss", "HashNetLoss", "HierarchicalLoss"]
