"""`TrainingRecord`: the results of a training, stored in the card of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["TrainingRecord"]


@dataclass(frozen=True)
class TrainingRecord:
    """The results of a training.

    Attributes:
        losses: mean loss of each epoch.
        seconds: wall-clock time of the whole training.
        device: device of the training, such as `"cpu"` or `"cuda:0"`.
        settings: the settings used, plain values ready for JSON.
        scores: result of `validate` after each epoch; empty without `validate`.
    """

    losses: list[float]
    seconds: float
    device: str
    settings: dict[str, Any]
    scores: list[float] = field(default_factory=list)
