"""The training loop: an encoder or a head, a loss and labelled images or features, on Hugging Face accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fasthash._checks import check_choice, check_int, check_real
from fasthash._extras import needs_extra
from fasthash.record import TrainingRecord

with needs_extra("train"):
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import set_seed
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from tqdm import tqdm

    from fasthash.encoder import HashEncoder
    from fasthash.heads import HashHead
    from fasthash.losses.base import HashLoss

__all__ = ["SCHEDULES", "TrainingRecord", "train"]

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
    epochs: int = 20,
    batch_size: int = 128,
    lr: float = 1e-5,
    hash_lr_mult: float = 10.0,
    weight_decay: float = 5e-4,
    schedule: str = "constant",
    seed: int = 0,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    mixed_precision: str = "no",
    num_workers: int = 0,
    progress: bool = True,
) -> TrainingRecord:
    """Train an encoder, or a head on features, in place with Adam; the defaults are those of HHNet's code.

    Afterwards the model is in eval mode, on the device that accelerate chose. The images are shuffled in
    every epoch, and those at its end that fill no batch are left out. Under several processes (`torchrun`,
    `accelerate launch`) each takes its own batches, and a pair loss sees the pairs inside one process only. Python's,
    numpy's and torch's global generators are seeded; on the CPU the same seed gives the same codes.

    Args:
        model: network to train.
        loss: called as `loss(z, labels, index)`, with the numbers of the items, and `loss.step()` after every step of
            the optimizer. What it remembers of the images under several processes is what its own process saw.
        dataset: pairs (float tensor, label), such as a `TensorDataset(features, labels)`: images `(3, H, W)` for an
            encoder, features `(n_features,)` for a head. The label is an integer or a multi-hot tensor `(C,)`.
        epochs: passes over the data.
        batch_size: images per step and process, at least 2; a smaller data set makes one batch.
        lr: learning rate of the backbone.
        hash_lr_mult: learning rate of the head, and of any parameters of the loss, as a multiple of `lr`.
        weight_decay: L2 penalty in Adam, for all parameters.
        schedule: `"constant"`, or `"cosine"` from the full learning rates down to zero.
        seed: of shuffling, dropout and augmentation.
        augment: applied to every tensor of the data set on its own, before the batch is put together.
        mixed_precision: `"no"`, `"bf16"` or `"fp16"` (GPU only), for the network; the loss is computed in float32.
        num_workers: processes that load images; 0 loads them in this one.
        progress: show a progress bar.

    Returns:
        Losses, time, device and settings.

    Raises:
        FloatingPointError: the loss became NaN or infinite.
        TypeError, ValueError: an argument is not as described; the message names it.
    """
    started = time.perf_counter()
    n_images = _check_parts(model, loss, dataset)
    check_int("epochs", epochs, 1)
    check_int("batch_size", batch_size, 2)
    check_int("num_workers", num_workers, 0)
    for name, rate in (("lr", lr), ("hash_lr_mult", hash_lr_mult)):
        if not 0 < check_real(name, rate) < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {rate!r}")
    if not 0 <= check_real("weight_decay", weight_decay) < math.inf:
        raise ValueError(f"weight_decay must be finite and not negative, got {weight_decay!r}")
    check_choice("schedule", schedule, tuple(SCHEDULES))
    check_choice("mixed_precision", mixed_precision, ("no", "bf16", "fp16"))

    with _accelerator(mixed_precision) as accelerator:
        set_seed(seed)
        share = n_images // accelerator.num_processes
        if share < 2:
            raise ValueError(f"dataset must hold at least 2 images for every process, got {n_images}")
        loader = DataLoader(
            _Numbered(dataset, augment),
            batch_size=min(batch_size, share),
            shuffle=True,
            drop_last=True,  # a last batch of one image would break batch norm
            generator=torch.Generator().manual_seed(seed),
            num_workers=num_workers,
        )
        settings = {
            "backbone": model.backbone_name if isinstance(model, HashEncoder) else None,
            "level_bits": list(model.level_bits),
            "head": _head(model).kind,
            "batch_norm": _head(model).batch_norm,
            "loss": type(loss).__name__,
            "images": n_images,
            "epochs": epochs,
            "batch_size": loader.batch_size,
            "processes": accelerator.num_processes,
            "lr": lr,
            "hash_lr_mult": hash_lr_mult,
            "weight_decay": weight_decay,
            "schedule": schedule,
            "seed": seed,
            "augment": None if augment is None else repr(augment),
            "mixed_precision": mixed_precision,
        }
        optimizer = _adam(model, loss, lr, lr * hash_lr_mult, weight_decay)
        losses = _run(accelerator, _Task(model, loss), loader, optimizer, SCHEDULES[schedule], epochs, progress)
        model.eval()
        return TrainingRecord(losses, time.perf_counter() - started, str(accelerator.device), settings)


@contextmanager
def _accelerator(mixed_precision: str) -> Iterator[Accelerator]:
    """An accelerator of this precision. All of a process share one state, in which the first one's precision would be
    final; so a state that began here ends here."""
    fresh = not AcceleratorState._shared_state
    try:
        yield Accelerator(mixed_precision=mixed_precision)
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


def _run(
    accelerator: Accelerator,
    task: _Task,
    loader: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[float], float],
    epochs: int,
    progress: bool,
) -> list[float]:
    """Train the task and return the mean loss of each epoch."""
    model, stepper, loader = accelerator.prepare(task, optimizer, loader)
    n_steps = epochs * len(loader)
    # The scheduler is not prepared: accelerate would move it by one step for every process.
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step / n_steps))
    model.train()
    losses = []
    with tqdm(total=n_steps, desc="train", unit="step", disable=not (progress and accelerator.is_main_process)) as bar:
        for epoch in range(1, epochs + 1):
            total = 0.0
            for step, batch in enumerate(loader, start=1):
                loss = model(*batch)
                value = loss.item()
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the loss is {value} in epoch {epoch}, step {step}; a smaller lr may help"
                    )
                accelerator.backward(loss)
                stepper.step()
                stepper.zero_grad()
                scheduler.step()
                task.loss.step()
                total += value
                bar.set_postfix(epoch=f"{epoch}/{epochs}", loss=f"{value:.4f}", refresh=False)
                bar.update()
            mean = torch.tensor(total / len(loader), device=accelerator.device)
            losses.append(accelerator.reduce(mean, reduction="mean").item())
    return losses


def _adam(
    model: HashEncoder | HashHead, loss: HashLoss, lr: float, hash_lr: float, weight_decay: float
) -> torch.optim.Adam:
    backbone = model.backbone if isinstance(model, HashEncoder) else nn.Identity()
    groups = [(backbone, lr), (_head(model), hash_lr), (loss, hash_lr)]
    parameters = [{"params": list(module.parameters()), "lr": rate} for module, rate in groups]
    return torch.optim.Adam([group for group in parameters if group["params"]], weight_decay=weight_decay)


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
