"""`Hasher`, the base class of `HashEncoder` and `HashHead`: levels, codes of batches, checkpoints."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from fasthash._checkpoint import CARD_NAME, brief, check_shapes, read_card, read_weights, write_checkpoint
from fasthash._checks import check_choice, check_level_bits
from fasthash._core import FormatError
from fasthash._extras import needs_extra
from fasthash._progress import is_watched, width
from fasthash._saved_folder import Card, read_by_card
from fasthash._saved_kinds import check_training
from fasthash.codes import pack_signs
from fasthash.record import TrainingRecord
from fasthash.settings import Precision

with needs_extra("train"):
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset
    from tqdm import tqdm

__all__ = ["Batches", "Hasher", "check_finite", "check_precision", "evaluating", "in_batches"]

_Model = TypeVar("_Model", bound="Hasher")
Batches = Iterable[Any]  # tensors, float32 arrays, or lists whose first element is a tensor


class Hasher(nn.Module):
    """Network to raw outputs `(B, n_bits)`, the levels side by side, coarse first.

    Attributes:
        record: the training record of the loaded checkpoint, or None.
    """

    _CARD_FIELDS: ClassVar[tuple[str, ...]]  # names of the constructor arguments that the card stores
    _ADDED_FIELDS: ClassVar[dict[str, Any]] = {}  # others, with their values in cards that lack them

    def __init__(self, level_bits: int | Sequence[int]) -> None:
        super().__init__()
        self._level_bits = check_level_bits(level_bits)
        self.record: TrainingRecord | None = None

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Bits of each level, coarse first."""
        return self._level_bits

    @property
    def n_bits(self) -> int:
        """Bits of a whole code: the sum of `level_bits`."""
        return sum(self._level_bits)

    def to_best_device(self: _Model) -> _Model:
        """Move to the first CUDA GPU, or to the CPU if no GPU is available; return self."""
        return self.to("cuda" if torch.cuda.is_available() else "cpu")

    def save(self, folder: str | os.PathLike[str], record: TrainingRecord | None = None) -> None:
        """Write the network to `folder`: the weights as safetensors, the arguments in card.json.

        A save that fails or is killed at any point leaves the earlier checkpoint. Saves into one folder run one at a
        time; a load during a save gets the old or the new checkpoint, complete.

        Args:
            folder: output folder, made if missing; a checkpoint in it is replaced.
            record: result of `fasthash.train.train`, stored in the card.

        Raises:
            TypeError: `record` is neither a TrainingRecord nor None.
            FileExistsError: `folder` holds something else, such as an index or a store.
            OSError: a file cannot be written.
        """
        if not isinstance(record, (TrainingRecord, type(None))):
            raise TypeError(f"record must be a TrainingRecord or None, got {type(record).__name__}")
        training = None if record is None else asdict(record)
        card = {"class": type(self).__name__, **self._arguments(), **self._notes(), "training": training}
        write_checkpoint(folder, self, card)

    @classmethod
    def load(cls: type[_Model], folder: str | os.PathLike[str]) -> _Model:
        """Load a network that `save` wrote, on the CPU and in eval mode.

        Raises:
            FileNotFoundError: `folder` lacks the card or the weights.
            FormatError: a file is damaged or was not written by `save`.
        """

        def load(card: Card) -> _Model:
            try:
                arguments = {field: card[field] for field in cls._CARD_FIELDS}
                arguments |= {field: card.get(field, usual) for field, usual in cls._ADDED_FIELDS.items()}
                check_training(card["training"])
                check_shapes(folder, card, lambda: cls(**arguments))
                model = cls(**arguments)
                model.record = None if card["training"] is None else TrainingRecord(**card["training"])
            except FormatError:
                raise
            except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
                raise FormatError(
                    f"{os.path.join(folder, CARD_NAME)} is not the card of a {cls.__name__}: "
                    f"{type(error).__name__}({brief(error)!r})"
                ) from error
            read_weights(folder, model, card)
            model._take_notes(card)
            return model.eval()

        return read_by_card(lambda: read_card(folder, cls.__name__), load)

    def _arguments(self) -> dict[str, Any]:
        """Values of `_CARD_FIELDS`."""
        raise NotImplementedError

    def _notes(self) -> dict[str, Any]:
        """Values that the card stores beside the arguments."""
        return {}

    def _take_notes(self, card: Card) -> None:
        """Take the values of `_notes` from a card, which may lack them."""

    def _weight(self) -> torch.Tensor:
        """Return one parameter; all have the same dtype and device."""
        return next(self.parameters())

    def _codes(self, batches: Batches, name: str, progress: bool, mixed_precision: str = "no") -> NDArray[np.uint8]:
        """Compute the packed codes of all batches; arguments as in `_outputs`."""
        empty = np.empty((0, self.n_bits // 8), np.uint8)
        return np.concatenate([empty, *map(pack_signs, self._outputs(batches, name, progress, mixed_precision))])

    def _outputs(
        self, batches: Batches, name: str, progress: bool, mixed_precision: str = "no"
    ) -> Iterator[NDArray[np.float32]]:
        """Compute the raw outputs of each batch, in eval mode without gradients; `name` names the data in errors."""
        device, done = self._weight().device, 0
        with evaluating(self), torch.inference_mode(), _in_precision(device, mixed_precision):
            for batch in tqdm(
                batches, desc="encode", unit="batch", ncols=width(), disable=not (progress and is_watched())
            ):
                inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
                if isinstance(inputs, np.ndarray):
                    inputs = torch.from_numpy(inputs.copy())  # copy one batch, as the array may be a mapped file
                inputs = inputs.to(device)
                if inputs.ndim == 4:  # 1.4 times as fast for EfficientNets on a CPU
                    inputs = inputs.contiguous(memory_format=torch.channels_last)
                z = self(inputs).float().cpu().numpy()
                if np.isnan(z).any():
                    check_finite(name, inputs, range(done, done + len(z)))
                    row, bit = np.argwhere(np.isnan(z))[0].tolist()
                    raise ValueError(
                        f"outputs for the {name} must not hold NaN, found one for number {done + row}, bit {bit}"
                    )
                yield z
                done += len(z)


def in_batches(items: torch.Tensor | NDArray[Any] | Dataset[Any], batch_size: int, num_workers: int = 0) -> Batches:
    """Split an array or a data set into batches, in order."""
    if isinstance(items, Dataset):
        return DataLoader(items, batch_size, num_workers=num_workers)
    return [items[start : start + batch_size] for start in range(0, len(items), batch_size)]


def check_finite(name: str, inputs: torch.Tensor, numbers: Sequence[int]) -> None:
    """Inputs of a network, looked at when an output is not a number.

    Raises:
        ValueError: an input holds NaN or infinity; `numbers` name the inputs.
    """
    wrong = ~torch.isfinite(inputs).flatten(1).all(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        values = inputs[row][~torch.isfinite(inputs[row])]
        raise ValueError(f"{name} must be finite, found {values[0].item()} in number {numbers[row]}")


def check_precision(mixed_precision: Any) -> None:
    """Check that this machine supports a precision; warn if float32 is faster.

    Raises:
        ValueError: it is unknown, or the machine does not support it.
    """
    check_choice("mixed_precision", mixed_precision, get_args(Precision))
    if mixed_precision == "no" or torch.accelerator.is_available():
        return
    if mixed_precision == "fp16":
        raise ValueError("mixed_precision must be 'no' or 'bf16' on a machine without a GPU, got 'fp16'")
    if not _processor_has_bf16():
        warnings.warn(
            "mixed_precision='bf16' is several times slower than 'no' on this processor, which has no instructions for "
            "bfloat16",
            stacklevel=2,
        )


def _processor_has_bf16() -> bool:
    """Whether PyTorch has fast bfloat16 kernels for this processor; it has none without AVX-512 on x86."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # absent in builds without oneDNN
    return supported is None or bool(supported())


def _in_precision(device: torch.device, mixed_precision: str) -> AbstractContextManager[None]:
    if mixed_precision == "no":
        return nullcontext()
    return torch.autocast(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[mixed_precision])


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode within the block; then restore the mode of each part, as some may be frozen."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
