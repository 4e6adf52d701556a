"""The settings of a training: plain values, checked on construction.

`fasthash.train.train` takes them, `fasthash.experiment.Experiment` adds data, network and loss, and the command line
makes its options from them. This module needs no torch, so that a wrong setting raises before anything is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, get_args

from fasthash._checks import (
    check_bool,
    check_choice,
    check_int,
    check_not_negative,
    check_positive,
    check_real,
    differences,
)

__all__ = ["SCHEDULES", "OptimizerName", "Precision", "ScheduleName", "TrainingSettings", "changed_settings"]

OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["constant", "cosine"]
Precision = Literal["no", "bf16", "fp16"]

# Factor on the learning rates after a share t of all steps, 0 <= t < 1.
SCHEDULES: dict[ScheduleName, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}
_MAX_SEED = 2**64 - 1  # of torch


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of a training; the defaults are those of HHNet's code.

    Attributes:
        optimizer: "adam", "adamw", or "sgd" with momentum 0.9.
        epochs: passes over the training images.
        batch_size: images per step and process, at least 2; a smaller data set makes one batch.
        lr: learning rate of the backbone.
        hash_lr_mult: learning rate of the head, as a multiple of `lr`.
        loss_lr_mult: learning rate of the parameters of the loss, such as HyP2's proxies, as a multiple of `lr`; None
            takes `hash_lr_mult`.
        weight_decay: L2 penalty on all parameters.
        schedule: "constant", or "cosine" from the full learning rates down to zero.
        warmup: share of all steps, below 1, in which the learning rates rise from 0; the schedule goes on meanwhile.
        clip_norm: largest norm of the gradients of a step; longer ones are scaled down. None never clips.
        ema: share of the old average of all weights that a step keeps, such as 0.999; the model is validated and ends
            with this average. None ends with the weights of the last step.
        accumulate: batches whose mean gradient makes one step, for batches that memory does not hold.
        mixup: parameter of the Beta distribution of mixup, such as 0.2: each batch is mixed with itself in reverse
            order, and the loss counts the labels of both; 0 does not mix.
        gradient_checkpointing: compute values inside the blocks of the backbone again for their gradients, instead of
            keeping them: less memory, a third more time, the same gradients.
        freeze_backbone: compute the features of all images once, without augmentation, and train only the head on them.
        teacher_weight: weight of the distance from a teacher's features, beside the hashing loss; 0 is none.
        teacher_epochs: number of first epochs that learn from the teacher alone, before the hashing loss.
        cache_mib: memory for images that are ready for the network, in MiB, so that each is decoded once; 0 reads the
            files in every epoch.
        seed: random seed, from 0 to 2^64 - 1, for order, dropout and augmentation; in an experiment also for the split
            and the initial weights.
        mixed_precision: precision of the network: "no", "bf16", or "fp16" on a GPU; the loss is computed in float32.
        num_workers: processes that load images; 0 loads them in the main process.
        patience: number of epochs without a better validation score after which the training stops; None never stops
            early.

    Raises:
        TypeError, ValueError: a setting is not as described; the message names it.

    Examples:
        >>> settings = TrainingSettings(epochs=5, lr=1e-3)
        >>> record = train(encoder, loss, images, settings=settings)
    """

    optimizer: OptimizerName = "adam"
    epochs: int = 20
    batch_size: int = 128
    lr: float = 1e-5
    hash_lr_mult: float = 10.0
    loss_lr_mult: float | None = None
    weight_decay: float = 5e-4
    schedule: ScheduleName = "constant"
    warmup: float = 0.0
    clip_norm: float | None = None
    ema: float | None = None
    accumulate: int = 1
    mixup: float = 0.0
    gradient_checkpointing: bool = False
    freeze_backbone: bool = False
    teacher_weight: float = 1.0
    teacher_epochs: int = 0
    cache_mib: int = 2048
    seed: int = 0
    mixed_precision: Precision = "no"
    num_workers: int = 0
    patience: int | None = None

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None or name not in _MAY_BE_NONE:
                self._keep(name, check(name, value))

    def _keep(self, name: str, value: Any) -> None:
        """Store a setting as a plain value, as files hold it: not as a numpy number, path or tuple."""
        object.__setattr__(self, name, value)

    def warm(self, share: float) -> float:
        """Factor on the learning rates of the warm-up, after a share of all steps."""
        return min(1.0, share / self.warmup) if self.warmup else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return the settings of the training by name, without those of a subclass; ready for JSON."""
        return {entry.name: getattr(self, entry.name) for entry in fields(TrainingSettings)}


def changed_settings(now: Mapping[str, Any], was: Mapping[str, Any], free: Collection[str] = ()) -> list[str]:
    """List the changed settings that forbid resuming a training, each with both values.

    `num_workers`, `cache_mib`, `patience` and `gradient_checkpointing` may differ; with a constant schedule, `epochs`.

    Args:
        now: settings by name, including `schedule`.
        was: settings of the stopped training.
        free: names of other settings that may differ.
    """
    free = {"num_workers", "patience", "cache_mib", "gradient_checkpointing", *free} | (
        {"epochs"} if now["schedule"] == "constant" else set()
    )
    return differences({name: value for name, value in now.items() if name not in free}, was)


def _choice(choices: Any, name: str, value: Any) -> str:
    check_choice(name, value, get_args(choices))
    return str(value)


def _flag(name: str, value: Any) -> bool:
    check_bool(name, value)
    return bool(value)


def _below_one(name: str, value: Any) -> float:
    number = check_real(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
    return number


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "optimizer": partial(_choice, OptimizerName),
    "epochs": partial(check_int, minimum=1),
    "batch_size": partial(check_int, minimum=2),  # batch norm cannot train on one image
    "lr": check_positive,
    "hash_lr_mult": check_positive,
    "loss_lr_mult": check_positive,
    "weight_decay": check_not_negative,
    "schedule": partial(_choice, ScheduleName),
    "warmup": _below_one,
    "clip_norm": check_positive,
    "ema": _below_one,
    "accumulate": partial(check_int, minimum=1),
    "mixup": check_not_negative,
    "gradient_checkpointing": _flag,
    "freeze_backbone": _flag,
    "teacher_weight": check_not_negative,
    "teacher_epochs": partial(check_int, minimum=0),
    "cache_mib": partial(check_int, minimum=0),
    "seed": partial(check_int, minimum=0, maximum=_MAX_SEED),
    "mixed_precision": partial(_choice, Precision),
    "num_workers": partial(check_int, minimum=0),
    "patience": partial(check_int, minimum=1),
}
_MAY_BE_NONE = ("clip_norm", "ema", "loss_lr_mult", "patience")
