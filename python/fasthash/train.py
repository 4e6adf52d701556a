"""The training loop, on Hugging Face accelerate: trains an encoder or a head with a loss on labelled data."""

from __future__ import annotations

import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasthash._checks import check_bool, check_callable, check_path
from fasthash._extras import needs_extra
from fasthash._progress import is_watched
from fasthash.record import TrainingRecord
from fasthash.settings import SCHEDULES, OptimizerName, TrainingSettings, changed_settings

with needs_extra("train"):
    import numpy as np
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import broadcast_object_list, set_seed
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, Dataset
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    from fasthash._hasher import check_finite, evaluating
    from fasthash._resume import read_state, write_state
    from fasthash.heads import HashHead
    from fasthash.losses.base import HashLoss

if TYPE_CHECKING:
    from fasthash.encoder import HashEncoder

__all__ = ["OPTIMIZERS", "SCHEDULES", "TrainingRecord", "TrainingSettings", "check_precision", "train"]

OPTIMIZERS: dict[OptimizerName, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),  # fused: 14 times as fast for VGG on a CPU
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}


# Long because of its docstring; each step is a function below.
def train(
    model: HashEncoder | HashHead,
    loss: HashLoss,
    dataset: Dataset[Any],
    *,
    settings: TrainingSettings | None = None,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    validate: Callable[[HashEncoder | HashHead], float] | None = None,
    state: str | os.PathLike[str] | None = None,
    log_folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **options: Any,
) -> TrainingRecord:
    """Train an encoder, or a head on features, in place.

    After training, the model is in eval mode, on the device that accelerate chose. Images are shuffled in every epoch;
    an incomplete last batch is dropped. With several processes (`torchrun`, `accelerate launch`), each process has its
    own batches, and a pair loss sees only the pairs inside one process. Each epoch seeds the global generators of
    Python, numpy and torch. On the CPU, the same seed gives the same codes, even if the training was stopped and
    resumed.

    Args:
        model: network to train.
        loss: called as `loss(z, labels, index)`, where `index` holds the positions in the data set; `loss.step()` is
            called after every step of the optimizer. With several processes, the memory of a loss covers only the
            images of its own process.
        dataset: pairs (float tensor, label), such as a `TensorDataset(features, labels)`: images `(3, H, W)` for an
            encoder, features `(n_features,)` for a head. The label is an integer or a multi-hot tensor `(C,)`.
        settings: optimizer, epochs, learning rates and so on; None makes them from `options`.
        augment: applied to every tensor of the data set.
        validate: called after each epoch with the model in eval mode; returns a score, such as mAP on held-out images.
            The model ends with the weights of the best epoch.
        state: file to resume from, replaced after each epoch. If it exists, it must have been written with the same
            settings (options of the loss aside), see `fasthash.settings.changed_settings`. All hosts must see it.
        log_folder: folder for TensorBoard: loss, learning rate and score of each epoch.
        progress: show a progress bar.
        options: fields of `TrainingSettings` instead of `settings`: `train(encoder, loss, images, epochs=5, lr=1e-3)`.

    Returns:
        Losses, scores, time, device and settings.

    Raises:
        FileNotFoundError: `state` exists for the first process but not for this one, or the other way round.
        FloatingPointError: the loss became NaN or infinite.
        TypeError, ValueError: an argument is not as described; the message names it.
    """
    started = time.perf_counter()
    settings = _settings(settings, options)
    _check_options(settings, augment, validate, state, log_folder, progress)
    n_images = _check_parts(model, loss, dataset)

    with _accelerator(settings.mixed_precision) as accelerator:
        share = n_images // accelerator.num_processes
        if share < 2:
            raise ValueError(f"dataset must hold at least 2 images for every process, got {n_images}")
        settings = _as_used(settings, share)
        loader = DataLoader(
            _Numbered(dataset, augment),
            batch_size=settings.batch_size,
            shuffle=True,
            drop_last=True,  # batch norm cannot train on a last batch of one image
            generator=torch.Generator(),
            num_workers=settings.num_workers,
        )
        facts = _facts(model, loss, n_images, accelerator.num_processes, augment, settings)
        run = _Run(accelerator, _Task(model, loss), loader, settings, facts, validate, state, log_folder, started)
        run.to_the_end(progress)
        model.eval()
        return TrainingRecord(run.losses, run.seconds, str(accelerator.device), facts, run.scores)


def check_precision(mixed_precision: str) -> None:
    """Check that this machine supports a precision.

    Raises:
        ValueError: the machine does not support it.
    """
    if mixed_precision == "fp16" and not torch.accelerator.is_available():
        raise ValueError("mixed_precision must be 'no' or 'bf16' on a machine without a GPU, got 'fp16'")


def _settings(settings: TrainingSettings | None, options: dict[str, Any]) -> TrainingSettings:
    """Return the settings, from `settings` or from options by name."""
    known = TrainingSettings().as_dict()
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(f"train has no argument {', '.join(unknown)}; settings are {', '.join(known)}")
    if settings is None:
        return TrainingSettings(**options)
    if not isinstance(settings, TrainingSettings):
        raise TypeError(f"settings must be TrainingSettings, got {type(settings).__name__}")
    if options:
        raise TypeError(f"{next(iter(options))} must be given inside settings or without settings, got both")
    return settings


def _check_options(
    settings: TrainingSettings, augment: Any, validate: Any, state: Any, log_folder: Any, progress: Any
) -> None:
    check_precision(settings.mixed_precision)
    if settings.patience is not None and validate is None:
        raise ValueError(f"patience must be None without validate, got {settings.patience!r}")
    for name, function in (("augment", augment), ("validate", validate)):
        if function is not None:
            check_callable(name, function)
    for name, path in (("state", state), ("log_folder", log_folder)):
        if path is not None:
            check_path(name, path)
    check_bool("progress", progress)


def _as_used(settings: TrainingSettings, share: int) -> TrainingSettings:
    """Replace defaults by their values, for `share` images per process."""
    used = settings.as_dict() | {"batch_size": min(settings.batch_size, share)}
    if settings.loss_lr_mult is None:
        used["loss_lr_mult"] = settings.hash_lr_mult
    return TrainingSettings(**used)


def _facts(
    model: HashEncoder | HashHead,
    loss: HashLoss,
    n_images: int,
    n_processes: int,
    augment: Callable[[torch.Tensor], torch.Tensor] | None,
    settings: TrainingSettings,
) -> dict[str, Any]:
    """Describe the training as plain values: model, loss, data and settings."""
    return {
        "backbone": None if isinstance(model, HashHead) else model.backbone_name,
        "initial_weights": None if isinstance(model, HashHead) else model.initial_weights,
        "level_bits": list(model.level_bits),
        "head": _head(model).kind,
        "batch_norm": _head(model).batch_norm,
        "loss": type(loss).__name__,
        "images": n_images,
        "processes": n_processes,
        "augment": None if augment is None else re.sub(r" at 0x[0-9a-f]+", "", repr(augment)),
        **settings.as_dict(),
    }


@contextmanager
def _accelerator(mixed_precision: str) -> Iterator[Accelerator]:
    """Make an accelerator with this precision, and reset its state at the end if it was created here.

    All accelerators of a process share one state, and the first one fixes the precision.
    """
    fresh = not AcceleratorState._shared_state
    try:
        # On CPUs, accelerate joins the processes of torchrun only with cpu=True; else each would train its own model.
        several = int(os.environ.get("WORLD_SIZE", 1)) > 1
        yield Accelerator(mixed_precision=mixed_precision, cpu=several and not torch.cuda.is_available())
    finally:
        if fresh:
            AcceleratorState._reset_state()


class _Numbered(Dataset[Any]):
    """The data set with augmentation and with the position of each item, which some losses need."""

    def __init__(self, dataset: Dataset[Any], augment: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
        self.dataset, self.augment = dataset, augment

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any, int]:
        tensor, label = self.dataset[index]
        return tensor if self.augment is None else self.augment(tensor), label, index


class _Task(nn.Module):
    """Model and loss as one module, so that one `prepare` covers the parameters of both."""

    def __init__(self, model: HashEncoder | HashHead, loss: HashLoss) -> None:
        super().__init__()
        # Channels last, as convolutions like them: 1.5 times as fast for EfficientNets on a CPU.
        self.model, self.loss = model.to(memory_format=torch.channels_last), loss

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        value: torch.Tensor = self.loss(self.model(inputs), labels, index)
        return value


class _Run:
    """A running training: its progress by epoch, its state file and its log."""

    def __init__(
        self,
        accelerator: Accelerator,
        task: _Task,
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
        self.shuffle = loader.generator
        self.validate = validate
        self.state = None if state is None else Path(state)
        self.losses: list[float] = []
        self.scores: list[float] = []
        self._begun, self._seconds_before = started, 0.0
        self.best: dict[str, torch.Tensor] | None = None  # the weights of the model with the best score
        # One schedule for all groups; accelerate's schedule would advance by one step for every process.
        self.rates = [group["lr"] for group in optimizer.param_groups]
        # The memory of a loss covers the images of its own process: do not copy it from the first process.
        memories = [f"loss.{name}" for name, _ in task.loss.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(task, memories)  # type: ignore[no-untyped-call]
        self.model, self.stepper, self.loader = accelerator.prepare(task, optimizer, loader)
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
        with tqdm(total=epochs * n_steps, initial=begun * n_steps, desc="train", unit="step", disable=not shown) as bar:
            for epoch in range(begun, epochs):
                if patience is not None and self._epochs_since_best() >= patience:
                    break
                self._epoch(epoch, bar)
        if self.best is not None and self.validate is not None:
            self.task.model.load_state_dict(self.best)
        if self.log is not None:
            self.log.close()

    def _epoch(self, epoch: int, bar: Any) -> None:
        # Each epoch has its own seed, so that a resumed training draws the same random numbers.
        seed = int(np.random.SeedSequence([self.settings.seed, epoch]).generate_state(1)[0])
        set_seed(seed)
        self.shuffle.manual_seed(seed)
        self.model.train()
        total, n_steps, epochs = 0.0, len(self.loader), self.settings.epochs
        for step, batch in enumerate(self.loader):
            share = (epoch * n_steps + step) / (epochs * n_steps)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * SCHEDULES[self.settings.schedule](share)
            loss = self.model(*batch)
            value = loss.item()
            if not math.isfinite(value):
                inputs, _, index = batch
                check_finite("dataset", inputs, index.tolist())
                raise FloatingPointError(
                    f"the loss is {value} in epoch {epoch + 1}, step {step + 1}; a smaller lr may help"
                )
            self.accelerator.backward(loss)
            self.stepper.step()
            self.stepper.zero_grad()
            self.task.loss.step()
            total += value
            bar.set_postfix(epoch=f"{epoch + 1}/{epochs}", loss=f"{value:.4f}", refresh=False)
            bar.update()
        mean = torch.tensor(total / n_steps, device=self.accelerator.device)
        self.losses.append(self.accelerator.reduce(mean, reduction="mean").item())
        if self.validate is not None:
            self._score(self.validate)
        self._write()
        if self.log is not None:
            self.log.add_scalar("loss", self.losses[-1], epoch + 1)
            self.log.add_scalar("learning rate", self.optimizer.param_groups[-1]["lr"], epoch + 1)
            if self.scores:
                self.log.add_scalar("validation", self.scores[-1], epoch + 1)

    def _score(self, validate: Callable[[Any], float]) -> None:
        scores = [math.nan]
        if self.accelerator.is_main_process:
            with evaluating(self.task.model):
                scores = [float(validate(self.task.model))]
        (score,) = broadcast_object_list(scores)  # all processes must decide alike
        if not math.isfinite(score):
            raise ValueError(f"validate must return a finite number, got {score}")
        if score > max(self.scores, default=-math.inf):
            self.best = {name: tensor.detach().clone() for name, tensor in self.task.model.state_dict().items()}
        self.scores.append(score)

    def _epochs_since_best(self) -> int:
        return len(self.scores) - 1 - self.scores.index(max(self.scores)) if self.scores else 0

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
            }
            write_state(self.state, self.task, self.optimizer, self.best, facts)
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
        facts, self.best = read_state(state, self.task, self.optimizer)
        if differ := changed_settings(self.facts, facts["settings"]):
            raise ValueError(f"state={str(state)!r} is of a training with other settings: {'; '.join(differ)}")
        self.losses, self.scores, self._seconds_before = facts["losses"], facts["scores"], facts["seconds"]
        if facts["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(facts["scaler"])


def _optimizer(task: _Task, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Make the optimizer of all parameters, with their learning rates."""
    model = task.model
    backbone = nn.Identity() if isinstance(model, HashHead) else model.backbone
    hash_lr_mult = settings.hash_lr_mult
    multiples = ((backbone, 1.0), (_head(model), hash_lr_mult), (task.loss, settings.loss_lr_mult or hash_lr_mult))
    parameters = [{"params": list(module.parameters()), "lr": settings.lr * mult} for module, mult in multiples]
    groups = [group for group in parameters if group["params"]]
    return OPTIMIZERS[settings.optimizer](groups, weight_decay=settings.weight_decay)


def _head(model: HashEncoder | HashHead) -> HashHead:
    return model if isinstance(model, HashHead) else model.head


def _check_parts(model: HashEncoder | HashHead, loss: HashLoss, dataset: Dataset[Any]) -> int:
    """Check the types of model, loss and data set; return the number of images."""
    if not isinstance(model, HashHead):
        from fasthash.encoder import HashEncoder  # whose import takes seconds; heads are trained without it

        if not isinstance(model, HashEncoder):
            raise TypeError(f"model must be a HashEncoder or a HashHead, got {type(model).__name__}")
    if not isinstance(loss, HashLoss):
        raise TypeError(f"loss must be a HashLoss, got {type(loss).__name__}")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(f"dataset must have a length and items, got {type(dataset).__name__}")
    n_images = len(dataset)
    item = dataset[0] if n_images else (torch.empty(0), 0)
    if not isinstance(item, (tuple, list)) or len(item) != 2 or not torch.is_tensor(item[0]):
        raise TypeError(f"dataset must hold pairs (tensor, label), got {type(item).__name__}")
    return n_images
