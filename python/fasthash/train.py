"""The training loop: an encoder or a head, a loss and labelled images or features, on Hugging Face accelerate."""

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
from typing import Any

from fasthash._checks import check_choice, check_int, check_real
from fasthash._extras import needs_extra
from fasthash.record import TrainingRecord

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

    from fasthash._hasher import evaluating
    from fasthash._resume import read_state, write_state
    from fasthash.encoder import HashEncoder
    from fasthash.heads import HashHead
    from fasthash.losses.base import HashLoss

__all__ = ["OPTIMIZERS", "SCHEDULES", "TrainingRecord", "train"]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": partial(torch.optim.Adam, fused=True),  # one pass over the weights: 14 times as fast for VGG on a CPU
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}

# Factor on the learning rates when the share t of all steps is done, 0 <= t < 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}


def train(
    model: HashEncoder | HashHead,
    loss: HashLoss,
    dataset: Dataset[Any],
    *,
    optimizer: str = "adam",
    epochs: int = 20,
    batch_size: int = 128,
    lr: float = 1e-5,
    hash_lr_mult: float = 10.0,
    loss_lr_mult: float | None = None,
    weight_decay: float = 5e-4,
    schedule: str = "constant",
    seed: int = 0,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    mixed_precision: str = "no",
    num_workers: int = 0,
    validate: Callable[[HashEncoder | HashHead], float] | None = None,
    patience: int | None = None,
    state: str | os.PathLike[str] | None = None,
    log_folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> TrainingRecord:
    """Train an encoder, or a head on features, in place; the defaults are those of HHNet's code.

    Afterwards the model is in eval mode, on the device that accelerate chose. The images are shuffled in
    every epoch, and those at its end that fill no batch are left out. Under several processes (`torchrun`,
    `accelerate launch`) each takes its own batches, and a pair loss sees the pairs inside one process only. Python's,
    numpy's and torch's global generators are seeded anew for each epoch; on the CPU the same seed gives the same codes,
    whether the training ran through or was stopped and resumed.

    Args:
        model: network to train.
        loss: called as `loss(z, labels, index)`, with the numbers of the items, and `loss.step()` after every step of
            the optimizer. What it remembers of the images under several processes is what its own process saw.
        dataset: pairs (float tensor, label), such as a `TensorDataset(features, labels)`: images `(3, H, W)` for an
            encoder, features `(n_features,)` for a head. The label is an integer or a multi-hot tensor `(C,)`.
        optimizer: `"adam"`, or `"sgd"` with momentum 0.9.
        epochs: passes over the data.
        batch_size: images per step and process, at least 2; a smaller data set makes one batch.
        lr: learning rate of the backbone.
        hash_lr_mult: learning rate of the head, as a multiple of `lr`.
        loss_lr_mult: that of parameters of the loss, such as HyP2's proxies; None takes `hash_lr_mult`.
        weight_decay: L2 penalty, for all parameters.
        schedule: `"constant"`, or `"cosine"` from the full learning rates down to zero.
        seed: of shuffling, dropout and augmentation.
        augment: applied to every tensor of the data set on its own, before the batch is put together.
        mixed_precision: `"no"`, `"bf16"` or `"fp16"` (GPU only), for the network; the loss is computed in float32.
        num_workers: processes that load images; 0 loads them in this one.
        validate: called after each epoch with the model in eval mode; returns a figure of merit, such as mAP on images
            held out. The model ends with the weights of the best epoch.
        patience: epochs without a better figure after which the training ends; None goes on to the last.
        state: file that is replaced after each epoch with all that the training needs to go on. If it is there at the
            beginning, the training resumes from it; it must be of the same settings, but for `epochs` of a constant
            schedule. The options of the loss are not compared. All hosts must see it.
        log_folder: where TensorBoard finds loss, learning rate and figure of merit of each epoch.
        progress: show a progress bar.

    Returns:
        Losses, figures of merit, time, device and settings.

    Raises:
        FileNotFoundError: `state` is there for the first process, but not for this one, or the other way round.
        FloatingPointError: the loss became NaN or infinite.
        TypeError, ValueError: an argument is not as described; the message names it.
    """
    started = time.perf_counter()
    n_images = _check_parts(model, loss, dataset)
    check_int("epochs", epochs, 1)
    check_int("batch_size", batch_size, 2)
    check_int("num_workers", num_workers, 0)
    loss_lr_mult = hash_lr_mult if loss_lr_mult is None else loss_lr_mult
    for name, rate in (("lr", lr), ("hash_lr_mult", hash_lr_mult), ("loss_lr_mult", loss_lr_mult)):
        if not 0 < check_real(name, rate) < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {rate!r}")
    if not 0 <= check_real("weight_decay", weight_decay) < math.inf:
        raise ValueError(f"weight_decay must be finite and not negative, got {weight_decay!r}")
    check_choice("optimizer", optimizer, OPTIMIZERS)
    check_choice("schedule", schedule, tuple(SCHEDULES))
    check_choice("mixed_precision", mixed_precision, ("no", "bf16", "fp16"))
    if patience is not None and validate is None:
        raise ValueError(f"patience must be None without validate, got {patience!r}")
    if patience is not None:
        check_int("patience", patience, 1)

    with _accelerator(mixed_precision) as accelerator:
        share = n_images // accelerator.num_processes
        if share < 2:
            raise ValueError(f"dataset must hold at least 2 images for every process, got {n_images}")
        loader = DataLoader(
            _Numbered(dataset, augment),
            batch_size=min(batch_size, share),
            shuffle=True,
            drop_last=True,  # a last batch of one image would break batch norm
            generator=torch.Generator(),
            num_workers=num_workers,
        )
        settings = {
            "backbone": model.backbone_name if isinstance(model, HashEncoder) else None,
            "level_bits": list(model.level_bits),
            "head": _head(model).kind,
            "batch_norm": _head(model).batch_norm,
            "loss": type(loss).__name__,
            "images": n_images,
            "optimizer": optimizer,
            "epochs": epochs,
            "batch_size": loader.batch_size,
            "processes": accelerator.num_processes,
            "lr": lr,
            "hash_lr_mult": hash_lr_mult,
            "loss_lr_mult": loss_lr_mult,
            "weight_decay": weight_decay,
            "schedule": schedule,
            "seed": seed,
            "augment": None if augment is None else re.sub(r" at 0x[0-9a-f]+", "", repr(augment)),
            "mixed_precision": mixed_precision,
        }
        stepper = OPTIMIZERS[optimizer](
            _groups(model, loss, lr, lr * hash_lr_mult, lr * loss_lr_mult), weight_decay=weight_decay
        )
        run = _Run(accelerator, _Task(model, loss), stepper, loader, settings, validate, state, log_folder, started)
        run.to_the_end(patience, progress)
        model.eval()
        return TrainingRecord(run.losses, run.seconds, str(accelerator.device), settings, run.scores)


@contextmanager
def _accelerator(mixed_precision: str) -> Iterator[Accelerator]:
    """An accelerator of this precision. All of a process share one state, in which the first one's precision would be
    final; so a state that began here ends here."""
    fresh = not AcceleratorState._shared_state
    try:
        # By itself accelerate joins the processes of torchrun on GPUs only, and each would train a model of its own.
        several = int(os.environ.get("WORLD_SIZE", 1)) > 1
        yield Accelerator(mixed_precision=mixed_precision, cpu=several and not torch.cuda.is_available())
    finally:
        if fresh:
            AcceleratorState._reset_state()


class _Numbered(Dataset[Any]):
    """Items of a data set, augmented and each with its number, by which some losses know an image again."""

    def __init__(self, dataset: Dataset[Any], augment: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
        self.dataset, self.augment = dataset, augment

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any, int]:
        tensor, label = self.dataset[index]
        return tensor if self.augment is None else self.augment(tensor), label, index


class _Task(nn.Module):
    """Model and loss as one module, so that one `prepare` covers the parameters of both."""

    def __init__(self, model: nn.Module, loss: HashLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.loss(self.model(inputs), labels, index)
        return value


class _Run:
    """A training under way: what is done, epoch by epoch, and how it goes on."""

    def __init__(
        self,
        accelerator: Accelerator,
        task: _Task,
        optimizer: torch.optim.Optimizer,
        loader: DataLoader[Any],
        settings: dict[str, Any],
        validate: Callable[[Any], float] | None,
        state: str | os.PathLike[str] | None,
        log_folder: str | os.PathLike[str] | None,
        started: float,
    ) -> None:
        self.accelerator, self.task, self.optimizer, self.settings = accelerator, task, optimizer, settings
        self.shuffle = loader.generator
        self.validate = validate
        self.state = None if state is None else Path(state)
        self.losses: list[float] = []
        self.scores: list[float] = []
        self._begun, self._seconds_before = started, 0.0
        self.best: dict[str, torch.Tensor] | None = None  # the weights of the model with the best score
        # All groups share a schedule; it is not accelerate's, which would move by one step for every process.
        self.rates = [group["lr"] for group in optimizer.param_groups]
        # What a loss remembers is of the images of its own process: the first one's must not take its place.
        memories = [f"loss.{name}" for name, _ in task.loss.named_buffers()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(task, memories)  # type: ignore[no-untyped-call]
        self.model, self.stepper, self.loader = accelerator.prepare(task, optimizer, loader)
        if self.state is not None and self._is_there(self.state):
            self._resume(self.state)
        main = accelerator.is_main_process
        self.log = SummaryWriter(str(log_folder)) if log_folder is not None and main else None

    @property
    def seconds(self) -> float:
        """Time of the whole training, what was before it was stopped included."""
        return self._seconds_before + time.perf_counter() - self._begun

    def to_the_end(self, patience: int | None, progress: bool) -> None:
        """Train all epochs that are left, or until the scores have not risen for so many."""
        n_steps, epochs = len(self.loader), self.settings["epochs"]
        shown = progress and self.accelerator.is_main_process
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
        # Each epoch has seeds of its own, so that a training which resumes draws what it would have drawn.
        seed = int(np.random.SeedSequence([self.settings["seed"], epoch]).generate_state(1)[0])
        set_seed(seed)
        self.shuffle.manual_seed(seed)
        self.model.train()
        total, n_steps, epochs = 0.0, len(self.loader), self.settings["epochs"]
        for step, batch in enumerate(self.loader):
            share = (epoch * n_steps + step) / (epochs * n_steps)
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * SCHEDULES[self.settings["schedule"]](share)
            loss = self.model(*batch)
            value = loss.item()
            if not math.isfinite(value):
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
        found = [math.nan]
        if self.accelerator.is_main_process:
            with evaluating(self.task.model):
                found = [float(validate(self.task.model))]
        (score,) = broadcast_object_list(found)  # so that all processes decide alike
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
                "settings": self.settings,
                "losses": self.losses,
                "scores": self.scores,
                "seconds": self.seconds,
                "scaler": scaler,
            }
            write_state(self.state, self.task, self.optimizer, self.best, facts)
        self.accelerator.wait_for_everyone()

    @staticmethod
    def _is_there(state: Path) -> bool:
        """Whether the training resumes; all processes must agree, on whatever host they are."""
        (there,) = broadcast_object_list([state.exists()])
        if there != state.exists():
            raise FileNotFoundError(
                f"state={str(state)!r} must be on a file system that all hosts see: "
                f"it is {'not ' if there else ''}there on {platform.node()}, unlike for the first process"
            )
        return there

    def _resume(self, state: Path) -> None:
        facts, self.best = read_state(state, self.task, self.optimizer)
        was, now = dict(facts["settings"]), dict(self.settings)
        if now["schedule"] == "constant":
            was["epochs"] = now["epochs"]
        differ = [f"{name} is {now.get(name)!r}, was {was.get(name)!r}" for name in now if now[name] != was.get(name)]
        if differ:
            raise ValueError(f"state={str(state)!r} is of a training with other settings: {'; '.join(differ)}")
        self.losses, self.scores, self._seconds_before = facts["losses"], facts["scores"], facts["seconds"]
        if facts["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(facts["scaler"])


def _groups(
    model: HashEncoder | HashHead, loss: HashLoss, lr: float, hash_lr: float, loss_lr: float
) -> list[dict[str, Any]]:
    """Parameters with their learning rates."""
    backbone = model.backbone if isinstance(model, HashEncoder) else nn.Identity()
    groups = [(backbone, lr), (_head(model), hash_lr), (loss, loss_lr)]
    parameters = [{"params": list(module.parameters()), "lr": rate} for module, rate in groups]
    return [group for group in parameters if group["params"]]


def _head(model: HashEncoder | HashHead) -> HashHead:
    return model.head if isinstance(model, HashEncoder) else model


def _check_parts(model: HashEncoder | HashHead, loss: HashLoss, dataset: Dataset[Any]) -> int:
    """Check the kinds of the parts and return the number of images."""
    if not isinstance(model, (HashEncoder, HashHead)):
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
