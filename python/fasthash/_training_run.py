"""A running training: the step, its progress by epoch, its state file and its log.

Called by `fasthash.train.train` alone, which has checked all arguments.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasthash._extras import needs_extra
from fasthash._progress import is_watched, width
from fasthash.settings import SCHEDULES, OptimizerName, TrainingSettings, changed_settings

with needs_extra("train"):
    import numpy as np
    import torch
    from accelerate import Accelerator
    from accelerate.utils import broadcast_object_list, set_seed
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, RandomSampler
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    from fasthash._average import Average
    from fasthash._hasher import check_finite, evaluating
    from fasthash._resume import read_state, write_state
    from fasthash._training_data import Numbered
    from fasthash.heads import HashHead
    from fasthash.losses.base import HashLoss
    from fasthash.teaching import Teaching

if TYPE_CHECKING:
    from fasthash.encoder import HashEncoder

__all__ = ["OPTIMIZERS", "Run", "Task", "head_of"]

# Fused: one kernel for all weights, 14 times as fast for VGG on a CPU.
OPTIMIZERS: dict[OptimizerName, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, momentum=0.9, fused=True),
}


class Task(nn.Module):
    """Model, loss and what is learned from a teacher as one module, so that one `prepare` covers all parameters."""

    def __init__(
        self,
        model: HashEncoder | HashHead,
        loss: HashLoss | None,
        teaching: Teaching | None = None,
        mixup: float = 0.0,
    ) -> None:
        super().__init__()
        # Channels last, as convolutions like them: 1.5 times as fast for EfficientNets on a CPU.
        self.model, self.loss = model.to(memory_format=torch.channels_last), loss
        self.teaching, self.teacher_weight = teaching, 0.0
        self.mixup = mixup

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        share = float(np.random.beta(self.mixup, self.mixup)) if self.mixup else 1.0  # noqa: NPY002  # seeded by epoch
        if self.mixup:
            inputs = share * inputs + (1 - share) * inputs.flip(0)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        if self.teaching is None or self.teacher_weight == 0:
            return self._hashing_loss(self.model(inputs), labels, index, share)
        features = self.model.backbone(inputs)  # type: ignore[operator]
        taught: torch.Tensor = self.teaching(inputs, features)
        if math.isinf(self.teacher_weight):  # the teacher alone
            # The sum gives the head gradients of zero, which DistributedDataParallel waits for.
            return taught + 0 * self.model.head(features).float().sum()  # type: ignore[operator]
        learned = self._hashing_loss(self.model.head(features), labels, index, share)  # type: ignore[operator]
        return learned + self.teacher_weight * taught

    def _hashing_loss(self, z: torch.Tensor, labels: torch.Tensor, index: torch.Tensor, share: float) -> torch.Tensor:
        """Compute the loss of a batch; of the labels of both images, where images are mixed."""
        assert self.loss is not None
        value: torch.Tensor = self.loss(z, labels, index)
        if self.mixup:
            value = share * value + (1 - share) * self.loss(z, labels.flip(0), index.flip(0))
        return value

    def step(self) -> None:
        """Advance the schedules of the loss, unless only the teacher is learned from."""
        if self.loss is not None and not math.isinf(self.teacher_weight):
            self.loss.step()


class Run:
    """A running training: its progress by epoch, its state file and its log."""

    def __init__(
        self,
        accelerator: Accelerator,
        task: Task,
        loader: DataLoader[Any],
        settings: TrainingSettings,
        facts: dict[str, Any],
        validate: Callable[[Any], float] | None,
        state: str | os.PathLike[str] | None,
        log_folder: str | os.PathLike[str] | None,
        started: float,
    ) -> None:
        self.accelerator, self.task, self.settings, self.facts = accelerator, task, settings, facts
        self.optimizer = optimizer = _optimizer(task, settings)
        self.sampler, self.images = loader.sampler, loader.dataset
        # Reading a value waits for the device: on the CPU that costs nothing, elsewhere it is done once an epoch.
        self.reads_every_step = accelerator.device.type == "cpu"
        self.validate = validate
        self.state = None if state is None else Path(state)
        self.losses: list[float] = []
        self.scores: list[float] = []
        self._begun, self._seconds_before = started, 0.0
        self.best: dict[str, torch.Tensor] | None = None  # the weights of the model with the best score
        # One schedule for all groups; accelerate's schedule would advance by one step for every process.
        self.rates = [group["lr"] for group in optimizer.param_groups]
        # The memory of a loss covers the images of its own process: do not copy it from the first process.
        memories = [] if task.loss is None else [f"loss.{name}" for name, _ in task.loss.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(task, memories)  # type: ignore[no-untyped-call]
        self.model, self.stepper, self.loader = accelerator.prepare(task, optimizer, loader)
        self.average = None if settings.ema is None else Average(task.model, settings.ema)
        if self.state is not None and self._is_there(self.state):
            self._resume(self.state)
        main = accelerator.is_main_process
        self.log = SummaryWriter(str(log_folder)) if log_folder is not None and main else None

    @property
    def seconds(self) -> float:
        """Seconds of the whole training, including the time before it was resumed."""
        return self._seconds_before + time.perf_counter() - self._begun

    def to_the_end(self, progress: bool) -> None:
        """Train the remaining epochs; stop early after `patience` epochs without a better score."""
        n_steps, epochs, patience = len(self.loader), self.settings.epochs, self.settings.patience
        shown = progress and is_watched() and self.accelerator.is_main_process
        begun = len(self.losses)
        with tqdm(
            total=epochs * n_steps, initial=begun * n_steps, desc="train", unit="step", ncols=width(), disable=not shown
        ) as bar:
            for epoch in range(begun, epochs):
                if patience is not None and self._epochs_since_best() >= patience:
                    break
                self._epoch(epoch, bar)
                if progress and not shown and self.accelerator.is_main_process:  # a line where no bar is
                    score = f", validation {self.scores[-1]:.4f}" if self.validate is not None else ""
                    line = f"epoch {epoch + 1}/{epochs}: loss {self.losses[-1]:.4f}{score}, {self.seconds:.0f} s"
                    print(line, file=sys.stderr, flush=True)
        if self.best is not None and self.validate is not None:
            self.task.model.load_state_dict(self.best)
        elif self.average is not None:
            self.task.model.load_state_dict(self.average.tensors)
        if self.log is not None:
            self.log.close()

    def _begin(self, epoch: int) -> None:
        # Each epoch has its own seed, so that a resumed training draws the same random numbers.
        seed = int(np.random.SeedSequence([self.settings.seed, epoch]).generate_state(1)[0])
        set_seed(seed)
        assert isinstance(self.sampler, RandomSampler)
        assert isinstance(self.images, Numbered)
        self.sampler.generator.manual_seed(seed)
        self.images.begin_epoch(seed)
        self.model.train()
        alone = epoch < self.settings.teacher_epochs
        self.task.teacher_weight = math.inf if alone else self.settings.teacher_weight

    def _epoch(self, epoch: int, bar: Any) -> None:
        self._begin(epoch)
        values: list[torch.Tensor] = []
        n_steps, epochs, schedule = len(self.loader), self.settings.epochs, SCHEDULES[self.settings.schedule]
        shown = {"epoch": f"{epoch + 1}/{epochs}"} | ({"loss": f"{self.losses[-1]:.4f}"} if self.losses else {})
        for step, batch in enumerate(self.loader):
            share = (epoch * n_steps + step) / (epochs * n_steps)
            factor = schedule(share) * self.settings.warm(share)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor
            loss = self.model(*batch)
            values.append(loss.detach())
            if self.reads_every_step:
                self._check(epoch, values[-1:], step)
                shown["loss"] = f"{float(values[-1]):.4f}"
            self._learn(loss, step, n_steps)
            bar.set_postfix(shown, refresh=False)
            bar.update()
        self._check(epoch, values)
        mean = torch.stack(values).double().mean().float()
        self.losses.append(self.accelerator.reduce(mean, reduction="mean").item())
        if self.validate is not None:
            with nullcontext() if self.average is None else self.average.in_use():
                self._score(self.validate)
        self._write()
        if self.log is not None:
            self.log.add_scalar("loss", self.losses[-1], epoch + 1)
            self.log.add_scalar("learning rate", self.optimizer.param_groups[-1]["lr"], epoch + 1)
            if self.scores:
                self.log.add_scalar("validation", self.scores[-1], epoch + 1)

    def _learn(self, loss: torch.Tensor, step: int, n_steps: int) -> None:
        """Add the gradients of a batch; step after every `accumulate` batches, and after the last of an epoch."""
        n = self.settings.accumulate
        first = step // n * n
        size = min(n, n_steps - first)  # the last batches of an epoch may be fewer
        steps = step + 1 == first + size
        with nullcontext() if steps else self.accelerator.no_sync(self.model):
            self.accelerator.backward(loss / size)
        if not steps:
            return
        if math.isinf(self.task.teacher_weight):
            # With the zeros of `Task.forward` as gradients, weight decay and momentum would still move the head.
            for parameter in head_of(self.task.model).parameters():
                parameter.grad = None
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.stepper.step()
        self.stepper.zero_grad()
        self.task.step()
        if self.average is not None:
            self.average.update()

    def _check(self, epoch: int, values: list[torch.Tensor], first: int = 0) -> None:
        """Raise if a loss is not finite; the batch is loaded again to see whether the data set is at fault."""
        wrong = (~torch.isfinite(torch.stack(values))).nonzero()
        if not len(wrong):
            return
        step, value = first + int(wrong[0]), float(values[int(wrong[0])])
        self._begin(epoch)
        inputs, _, index = next(islice(iter(self.loader), step, None))
        check_finite("dataset", inputs, index.tolist())
        raise FloatingPointError(f"the loss is {value} in epoch {epoch + 1}, step {step + 1}; a smaller lr may help")

    def _score(self, validate: Callable[[Any], float]) -> None:
        scores = [math.nan]
        if self.accelerator.is_main_process:
            with evaluating(self.task.model):
                scores = [float(validate(self.task.model))]
        (score,) = broadcast_object_list(scores)  # all processes must decide alike
        if not math.isfinite(score):
            raise ValueError(f"validate must return a finite number, got {score}")
        self.scores.append(score)
        *before, last = self._hashing_scores() or [-math.inf]
        if last > max(before, default=-math.inf):
            self.best = {name: tensor.detach().clone() for name, tensor in self.task.model.state_dict().items()}

    def _epochs_since_best(self) -> int:
        scores = self._hashing_scores()
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0

    def _hashing_scores(self) -> list[float]:
        """Return the scores of the epochs that learn from the loss.

        In the epochs of the teacher alone, the head does not learn, so that their scores say nothing. If all
        epochs learn from the teacher alone, return all scores.
        """
        alone = self.settings.teacher_epochs if self.settings.teacher_epochs < self.settings.epochs else 0
        first = len(self.losses) - len(self.scores)  # the epoch of the first score
        return self.scores[max(0, alone - first) :]

    def _write(self) -> None:
        if self.state is None:
            return
        if self.accelerator.is_main_process:
            scaler = None if self.accelerator.scaler is None else self.accelerator.scaler.state_dict()
            facts = {
                "settings": self.facts,
                "losses": self.losses,
                "scores": self.scores,
                "seconds": self.seconds,
                "scaler": scaler,
                "steps": 0 if self.average is None else self.average.steps,
            }
            average = None if self.average is None else self.average.tensors
            write_state(self.state, self.task, self.optimizer, self.best, facts, average)
        self.accelerator.wait_for_everyone()

    @staticmethod
    def _is_there(state: Path) -> bool:
        """Return whether the state file exists; check that all processes agree, on every host."""
        (exists,) = broadcast_object_list([state.exists()])
        if exists != state.exists():
            raise FileNotFoundError(
                f"state={str(state)!r} must be on a file system that all hosts see: "
                f"it is {'not ' if exists else ''}there on {platform.node()}, unlike for the first process"
            )
        return exists

    def _resume(self, state: Path) -> None:
        average = None if self.average is None else self.average.tensors
        facts, self.best = read_state(state, self.task, self.optimizer, average)
        if differ := changed_settings(self.facts, facts["settings"]):
            raise ValueError(f"state={str(state)!r} is of a training with other settings: {'; '.join(differ)}")
        if self.settings.epochs < (done := len(facts["losses"])):
            raise ValueError(
                f"epochs must be at least {done}, as state={str(state)!r} is of a training that has done so many, "
                f"got {self.settings.epochs}"
            )
        self.losses, self.scores, self._seconds_before = facts["losses"], facts["scores"], facts["seconds"]
        if self.average is not None:
            self.average.steps = facts["steps"]
        if facts["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(facts["scaler"])


def _optimizer(task: Task, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Make the optimizer of all parameters, with their learning rates."""
    model = task.model
    backbone = nn.Identity() if isinstance(model, HashHead) else model.backbone
    hash_lr_mult = settings.hash_lr_mult
    multiples = [(backbone, 1.0), (head_of(model), hash_lr_mult), (task.loss, settings.loss_lr_mult or hash_lr_mult)]
    multiples += [(task.teaching, hash_lr_mult)]
    parameters = [
        {"params": list(module.parameters()), "lr": settings.lr * mult}
        for module, mult in multiples
        if module is not None
    ]
    groups = [group for group in parameters if group["params"]]
    return OPTIMIZERS[settings.optimizer](groups, weight_decay=settings.weight_decay)


def head_of(model: HashEncoder | HashHead) -> HashHead:
    return model if isinstance(model, HashHead) else model.head
