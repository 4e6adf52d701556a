"""The training loop, on Hugging Face accelerate: trains an encoder or a head with a loss on labelled data."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from fasthash._checks import check_bool, check_callable, check_path
from fasthash._extras import needs_extra
from fasthash.record import TrainingRecord
from fasthash.settings import SCHEDULES, TrainingSettings

with needs_extra("train"):
    import torch
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.state import AcceleratorState
    from torch.utils.data import DataLoader, Dataset, RandomSampler

    from fasthash._hasher import check_precision
    from fasthash._recomputing import check_recomputable, recomputing
    from fasthash._training_data import Cached, FeatureCache, Numbered, features_of
    from fasthash._training_run import OPTIMIZERS, Run, Task, head_of
    from fasthash.heads import HashHead
    from fasthash.losses.base import HashLoss
    from fasthash.teaching import Teaching

if TYPE_CHECKING:
    from fasthash.encoder import HashEncoder

__all__ = ["OPTIMIZERS", "SCHEDULES", "TrainingRecord", "TrainingSettings", "check_precision", "train"]


# Long because of its docstring; each step is a function below.
def train(
    model: HashEncoder | HashHead,
    loss: HashLoss | None,
    dataset: Dataset[Any],
    *,
    settings: TrainingSettings | None = None,
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    teacher: HashEncoder | None = None,
    features: FeatureCache | None = None,
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
    resumed. One exception: the state file keeps the memory that a loss has in the first process alone. With several
    processes, a loss with a memory (`DSDHLoss`, or one with an `OutputBank`) resumes only approximately.

    Args:
        model: network to train.
        loss: called as `loss(z, labels, index)`, where `index` holds the positions in the data set; `loss.step()` is
            called after every step of the optimizer. With several processes, the memory of a loss covers only the
            images of its own process. None where the encoder learns from a teacher alone (`teacher_epochs` is
            `epochs`): then the data set needs no labels.
        dataset: pairs (float tensor, label), such as a `TensorDataset(features, labels)`: images `(3, H, W)` for an
            encoder, features `(n_features,)` for a head. The label is an integer or a multi-hot tensor `(C,)`.
        settings: optimizer, epochs, learning rates and so on; None makes them from `options`.
        augment: applied to every tensor of the data set; its random numbers depend on seed, epoch and image.
        teacher: encoder whose features the backbone learns to predict, through a linear projector that is dropped
            afterwards; see `teacher_weight` and `teacher_epochs`, and `fasthash.teaching.load_teacher`.
        features: features of images that another training with this frozen backbone has computed; new ones are added.
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
    n_images = _check_parts(model, loss, dataset, teacher, settings)

    with _accelerator(settings.mixed_precision) as accelerator:
        share = n_images // accelerator.num_processes
        if share < 2:
            raise ValueError(f"dataset must hold at least 2 images for every process, got {n_images}")
        settings = _as_used(settings, share)
        facts = _facts(model, loss, n_images, accelerator.num_processes, augment, teacher, settings)
        learner, score = model, validate
        if settings.freeze_backbone and not isinstance(model, HashHead):
            device, n_workers = accelerator.device, settings.num_workers
            if features is not None and _gives_the_same(dataset):
                dataset = features.of(model.to(device), dataset, settings.batch_size, n_workers)  # type: ignore[arg-type]
            else:
                dataset = features_of(model, dataset, device, settings.batch_size, n_workers)
            model.eval()  # `validate` runs the whole model, whose batch norms must keep their statistics
            learner, score = model.head, None if validate is None else lambda head: validate(model)
        task = Task(learner, loss, _teaching(model, teacher, settings.seed), settings.mixup)
        loader = _loader(dataset, augment, loss is not None, settings)
        run = Run(accelerator, task, loader, settings, facts, score, state, log_folder, started)
        with recomputing(model.backbone) if settings.gradient_checkpointing else nullcontext():  # type: ignore[arg-type]
            run.to_the_end(progress)
        model.eval()
        return TrainingRecord(run.losses, run.seconds, str(accelerator.device), facts, run.scores)


def _teaching(model: HashEncoder | HashHead, teacher: HashEncoder | None, seed: int) -> Teaching | None:
    """Make what a teacher teaches; the weights of its projector depend on the seed alone."""
    if teacher is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Teaching(model, teacher)  # type: ignore[arg-type]


def _loader(dataset: Dataset[Any], augment: Any, labelled: bool, settings: TrainingSettings) -> DataLoader[Any]:
    """Make the loader of shuffled batches; images of a known transform are kept in memory."""
    if settings.cache_mib and _gives_the_same(dataset):
        dataset = Cached(dataset, settings.cache_mib << 20)
    images = Numbered(dataset, augment, labelled)
    return DataLoader(
        images,
        batch_size=settings.batch_size,
        # A generator of its own: that of the loader also seeds workers, as often as they start.
        sampler=RandomSampler(images, generator=torch.Generator()),
        drop_last=True,  # batch norm cannot train on a last batch of one image
        generator=torch.Generator(),
        num_workers=settings.num_workers,
        persistent_workers=settings.num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _gives_the_same(dataset: Dataset[Any]) -> bool:
    """Whether an image of the set is the same tensor every time: its transform is that of an encoder."""
    from fasthash._preprocessing import ImageTransform
    from fasthash.data.images import ImageSet

    return isinstance(dataset, ImageSet) and isinstance(dataset.transform, ImageTransform)


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
    if settings.freeze_backbone and augment is not None:
        raise ValueError("augment must be None with freeze_backbone, which computes the features of each image once")
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
    loss: HashLoss | None,
    n_images: int,
    n_processes: int,
    augment: Callable[[torch.Tensor], torch.Tensor] | None,
    teacher: HashEncoder | None,
    settings: TrainingSettings,
) -> dict[str, Any]:
    """Describe the training as plain values: model, loss, data and settings."""
    return {
        "backbone": None if isinstance(model, HashHead) else model.backbone_name,
        "initial_weights": None if isinstance(model, HashHead) else model.initial_weights,
        "level_bits": list(model.level_bits),
        "head": head_of(model).kind,
        "batch_norm": head_of(model).batch_norm,
        "loss": None if loss is None else type(loss).__name__,
        "teacher": None if teacher is None else f"{teacher.backbone_name} from {teacher.initial_weights}",
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
        yield Accelerator(
            mixed_precision=mixed_precision,
            cpu=several and not torch.cuda.is_available(),
            dataloader_config=DataLoaderConfiguration(non_blocking=torch.cuda.is_available()),
        )
    finally:
        if fresh:
            AcceleratorState._reset_state()


def _check_parts(
    model: HashEncoder | HashHead,
    loss: HashLoss | None,
    dataset: Dataset[Any],
    teacher: HashEncoder | None,
    settings: TrainingSettings,
) -> int:
    """Check the types of model, loss, data set and teacher; return the number of images."""
    if not isinstance(model, HashHead) or teacher is not None:
        from fasthash.encoder import HashEncoder  # whose import takes seconds; heads are trained without it

        if not isinstance(model, HashEncoder):
            needed = "a HashEncoder or a HashHead" if teacher is None else "a HashEncoder where it has a teacher"
            raise TypeError(f"model must be {needed}, got {type(model).__name__}")
        if not isinstance(teacher, (HashEncoder, type(None))):
            raise TypeError(f"teacher must be a HashEncoder or None, got {type(teacher).__name__}")
        if teacher is not None and teacher.backbone is model.backbone:
            raise ValueError("teacher must have a backbone of its own, got that of the model")
    if settings.mixup and loss is not None and loss.needs_index:
        raise ValueError(f"mixup must be 0 with a {type(loss).__name__}, which stores a value for each image")
    if settings.gradient_checkpointing:
        if isinstance(model, HashHead) or settings.freeze_backbone:
            raise ValueError("gradient_checkpointing must be False where only a head is trained")
        check_recomputable(model.backbone, model.backbone_name)
    if teacher is None and settings.teacher_epochs:
        raise ValueError(f"teacher_epochs must be 0 without a teacher, got {settings.teacher_epochs}")
    if teacher is not None and settings.freeze_backbone:
        raise ValueError("freeze_backbone must be False with a teacher, whom the backbone learns from")
    alone = teacher is not None and settings.teacher_epochs >= settings.epochs
    if not isinstance(loss, HashLoss) and not (loss is None and alone):
        raise TypeError(f"loss must be a HashLoss{' or None' if alone else ''}, got {type(loss).__name__}")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(f"dataset must have a length and items, got {type(dataset).__name__}")
    n_images = len(dataset)
    item = dataset[0] if n_images else (torch.empty(0), 0)
    if loss is None and torch.is_tensor(item):
        return n_images
    if not isinstance(item, (tuple, list)) or len(item) != 2 or not torch.is_tensor(item[0]):
        raise TypeError(f"dataset must hold pairs (tensor, label), got {type(item).__name__}")
    return n_images
