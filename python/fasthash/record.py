"""What a training did, in a form that goes into the card of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
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
        scores: what `validate` returned after each epoch, if there was one.
    """

    losses: list[float]
    seconds: float
    device: str
    settings: dict[str, Any]
    scores: list[float] = field(default_factory=list)
