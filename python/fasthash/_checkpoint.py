"""Checkpoints: a folder with weights as safetensors and a card, card.json, with everything else. No pickles.

The card names the file of its weights, and every save uses a new file name. So replacing the card is atomic: before it
the folder holds the old checkpoint, after it the new one. Concurrent saves and loads follow the rules of
`_saved_folder`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import textwrap
from collections.abc import Callable
from pathlib import Path

from fasthash import _saved_folder
from fasthash._checks import check_path
from fasthash._core import FormatError
from fasthash._durable import make_readable
from fasthash._extras import needs_extra
from fasthash._saved_folder import CARD_NAME, Card, card_of, put_card, saving

with needs_extra("train"):
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_model, save_model
    from torch import nn

__all__ = [
    "CARD_NAME",
    "brief",
    "check_checkpoint_folder",
    "check_shapes",
    "read_card",
    "read_weights",
    "weights_path",
    "write_checkpoint",
]

_VERSION = 1
_OUR_FILES = re.compile(r"weights-[0-9a-f]{8}\.(safetensors|json)")
_UNREADABLE = (SafetensorError, AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)


def write_checkpoint(folder: str | os.PathLike[str], model: nn.Module, card: Card) -> None:
    """Write weights and card to `folder`, made if missing; a save that fails leaves the old checkpoint.

    Raises:
        FileExistsError: `folder` holds something else.
        OSError: the operating system refused a step.
    """
    check_path("folder", folder)
    folder, token = Path(folder), secrets.token_hex(4)
    weights = folder / f"weights-{token}.safetensors"
    draft = weights.with_suffix(".json")
    text = json.dumps({"version": _VERSION, **card, "weights": weights.name}, indent=2, allow_nan=False)
    with saving(folder, _OUR_FILES, _weights_of, token):
        _refuse_others(folder)
        save_model(model, str(weights))
        make_readable(weights)
        draft.write_text(text + "\n", encoding="utf-8")
        put_card(draft, [weights])
        _saved_folder.reached("card replaced")


def check_checkpoint_folder(folder: Path) -> None:
    """Check that a checkpoint may be written to a folder: it is missing or empty, or holds one.

    Raises:
        FileExistsError: it holds something else.
    """
    _saved_folder.refuse_others("folder", folder, _OUR_FILES)
    _refuse_others(folder)


def read_card(folder: str | os.PathLike[str], kind: str) -> Card:
    """Read the card of a checkpoint; `kind` is the name of its class.

    Raises:
        FileNotFoundError: `folder` lacks card.json.
        FormatError: the file is not the card of such a checkpoint.
    """
    path = card_of(folder, kind)
    try:
        card = _saved_folder.parsed(path.read_text(encoding="utf-8"))
        if not _saved_folder.is_version(card["version"], (_VERSION,)):
            raise FormatError(f"version is {card['version']!r}, this release reads {_VERSION}")
        if card["class"] != kind:
            raise FormatError(f"it describes a saved {card['class']}")
    except FormatError as error:
        raise FormatError(f"{path} is not the card of a {kind}: {error}") from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not the card of a {kind}: {error!r}") from error
    return card


def weights_path(folder: str | os.PathLike[str], card: Card) -> Path:
    """Return the path of the weights that a card names.

    Raises:
        FileNotFoundError: the file is missing.
        FormatError: `write_checkpoint` never uses such a name.
    """
    name = card.get("weights")
    if not isinstance(name, str) or not _OUR_FILES.fullmatch(name):  # a path out of the folder never matches
        raise FormatError(f"{Path(folder) / CARD_NAME} names no file of weights but {name!r}")
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f"folder={str(folder)!r} holds no saved {card['class']}: {name} is missing")
    return path


def check_shapes(folder: str | os.PathLike[str], card: Card, make: Callable[[], nn.Module]) -> None:
    """Compare the shapes of the weights with those of the model before memory is allocated for either.

    A model that cannot be made on the meta device is not compared; then `read_weights` finds a mismatch.

    Args:
        folder: folder of the checkpoint.
        card: its card.
        make: function that makes the model.

    Raises:
        FileNotFoundError, FormatError: as in `read_weights`.
    """
    path = weights_path(folder, card)
    try:
        with safe_open(str(path), framework="pt") as file:
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except _UNREADABLE as error:
        raise FormatError(f"{path} does not fit {CARD_NAME}: {brief(error)}") from error
    try:
        with torch.device("meta"):
            model = make()
    except Exception:  # if the caller cannot make the model either, its error is clearer
        return
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shared = expected.keys() - {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    if wrong := sorted(name for name, shape in stored.items() if shape != expected.get(name)):
        raise FormatError(
            f"{path} does not fit {CARD_NAME}: {wrong[0]} has shape {stored[wrong[0]]}, "
            f"expected {expected.get(wrong[0], 'no such weights')}"
        )
    if lacking := sorted(expected.keys() - stored.keys() - shared):
        raise FormatError(f"{path} does not fit {CARD_NAME}: it lacks {lacking[0]}")


def read_weights(folder: str | os.PathLike[str], model: nn.Module, card: Card) -> None:
    """Read the weights that the card names into the model.

    Raises:
        FileNotFoundError, FormatError: as in `weights_path`, or the weights do not fit the model.
    """
    path = weights_path(folder, card)
    try:
        load_model(model, str(path))
    except _UNREADABLE as error:
        raise FormatError(f"{path} does not fit {CARD_NAME}: {brief(error)}") from error


def brief(error: Exception) -> str:
    """Return the beginning of an error message, on one line."""
    # torch lists every key that does not fit: hundreds for a wrong backbone. The first few are enough.
    return textwrap.shorten(str(error), width=300)


def _weights_of(card: Card) -> set[str]:
    return {card["weights"]}


def _refuse_others(folder: Path) -> None:
    """Refuse a folder with the card of an index or similar; a file that is not a card may be replaced."""
    try:
        card = _saved_folder.parsed((folder / CARD_NAME).read_text(encoding="utf-8"))
        other = card["class"] if "files" in card else None
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        return
    if other is not None:
        raise FileExistsError(f"folder={os.fspath(folder)!r} holds something else: {CARD_NAME} describes a {other}")
