"""Losses for hash networks: call `loss(z, labels)` on raw outputs, and `loss.step()` after each optimiser step."""

from __future__ import annotations

from fasthash._extras import needs_extra

# Importing any module of this package runs this file first, so this is the only check that torch is installed.
with needs_extra("train"):
    from fasthash.losses.base import HashLoss
    from fasthash.losses.bihalf import BiHalfLoss
    from fasthash.losses.cel import CELLoss
    from fasthash.losses.cnnh import CNNHLoss, cnnh_codes
    from fasthash.losses.codewords import code_margin
    from fasthash.losses.csq import CSQLoss
    from fasthash.losses.dch import DCHLoss
    from fasthash.losses.dhn import DHNLoss
    from fasthash.losses.dpn import DPNLoss
    from fasthash.losses.dpsh import DPSHLoss
    from fasthash.losses.dsdh import DSDHLoss
    from fasthash.losses.dsh import DSHLoss
    from fasthash.losses.greedyhash import GreedyHashLoss
    from fasthash.losses.hashnet import HashNetLoss
    from fasthash.losses.hierarchical import HierarchicalLoss
    from fasthash.losses.hyp2 import HyP2Loss
    from fasthash.losses.idhn import IDHNLoss
    from fasthash.losses.mihash import MIHashLoss
    from fasthash.losses.orthohash import OrthoHashLoss
    from fasthash.losses.pairs import OutputBank
    from fasthash.losses.targets import class_codes
    from fasthash.losses.triplets import DNNHLoss, DTSHLoss
    from fasthash.losses.wglhh import WGLHHLoss

__all__ = [
    "BiHalfLoss",
    "CELLoss",
    "CNNHLoss",
    "CSQLoss",
    "DCHLoss",
    "DHNLoss",
    "DNNHLoss",
    "DPNLoss",
    "DPSHLoss",
    "DSDHLoss",
    "DSHLoss",
    "DTSHLoss",
    "GreedyHashLoss",
    "HashLoss",
    "HashNetLoss",
    "HierarchicalLoss",
    "HyP2Loss",
    "IDHNLoss",
    "MIHashLoss",
    "OrthoHashLoss",
    "OutputBank",
    "WGLHHLoss",
    "class_codes",
    "cnnh_codes",
    "code_margin",
]
