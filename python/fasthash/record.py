"""What a training did, in a form that goes into the card of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["TrainingRecord"]


@dataclass(frozen=True)
class TrainingRecord:
    """What a training did.

    Attributes:
        losses: mean loss of each epoch.
        seconds: wall-clock time of the whole training.
        device: where it ran, as `"cpu"` or `"cuda:0"`.
        settings: the arguments as they were used, plain values ready for JSON.
    """

    losses: list[float]
    seconds: float
    device: str
    settings: dict[str, Any]
