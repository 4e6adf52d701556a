"""Checkpoints: a folder with weights as safetensors and a card, card.json, that tells all the rest. No pickles.

The card names the file of its weights, and every save takes a new name for it. So putting the new card in place of the
old one is the whole change: before it the folder holds the old checkpoint, after it the new one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import textwrap
from pathlib import Path
from typing import Any

from fasthash._durable import is_flushed, make_folder
from fasthash._extras import needs_extra
from fasthash._saved_folder import CARD_NAME, card_of, put_card

with needs_extra("train"):
    from safetensors import SafetensorError
    from safetensors.torch import load_model, save_model
    from torch import nn

__all__ = ["CARD_NAME", "brief", "read_card", "read_weights", "weights_path", "write_checkpoint"]

_VERSION = 1
_OUR_FILES = re.compile(r"weights-[0-9a-f]{8}\.(safetensors|json)")


def write_checkpoint(folder: str | os.PathLike[str], model: nn.Module, card: dict[str, Any]) -> None:
    """Write weights and card into `folder`, which is made if missing; a save that fails leaves the old checkpoint."""
    folder = Path(folder)
    make_folder(folder)
    weights = folder / f"weights-{secrets.token_hex(4)}.safetensors"
    draft = weights.with_suffix(".json")
    text = json.dumps({"version": _VERSION, **card, "weights": weights.name}, indent=2, allow_nan=False)
    try:
        save_model(model, str(weights))
        draft.write_text(text + "\n", encoding="utf-8")
        put_card(draft, [weights])
    finally:
        _remove_leftovers(folder, weights.stem)


def read_card(folder: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read the card of a checkpoint of this kind, the name of a class.

    Raises:
        FileNotFoundError: `folder` lacks card.json.
        ValueError: it is not the card of such a checkpoint.
    """
    path = card_of(folder, kind)
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if card["version"] != _VERSION:
            raise ValueError(f"version is {card['version']!r}, this release reads {_VERSION}")
        if card["class"] != kind:
            raise ValueError(f"it describes a {card['class']}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not the card of a {kind}: {error!r}") from error
    return card


def weights_path(folder: str | os.PathLike[str], card: dict[str, Any]) -> Path:
    """The file of weights that a card names.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: the name is none that `write_checkpoint` gives.
    """
    name = card.get("weights")
    if not isinstance(name, str) or not _OUR_FILES.fullmatch(name):  # so never a path that leads elsewhere
        raise ValueError(f"{Path(folder) / CARD_NAME} names no file of weights but {name!r}")
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f"folder={str(folder)!r} holds no saved {card['class']}: {name} is missing")
    return path


def read_weights(folder: str | os.PathLike[str], model: nn.Module, card: dict[str, Any]) -> None:
    """Read the weights that the card names into the model.

    Raises:
        FileNotFoundError, ValueError: as `weights_path`; the weights do not fit the model.
    """
    path = weights_path(folder, card)
    try:
        load_model(model, str(path))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} does not fit {CARD_NAME}: {brief(error)}") from error


def brief(error: Exception) -> str:
    """The beginning of an error's text, on one line."""
    # torch lists every key that does not fit: hundreds for a wrong backbone, of which the first few tell enough.
    return textwrap.shorten(str(error), width=300)


def _remove_leftovers(folder: Path, ours: str) -> None:
    """Remove what saves left behind, this one and any that was killed: all of our files but the weights in use.

    If the card may not be on the disk, remove only files of this name, which are this save's.
    """
    removed = "" if is_flushed(folder) else ours
    try:
        in_use = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))["weights"]
    except FileNotFoundError:
        in_use = None
    except (KeyError, TypeError, ValueError, RecursionError):
        return  # not a card that we wrote, so better keep what lies beside it
    for path in folder.iterdir():
        if _OUR_FILES.fullmatch(path.name) and path.name != in_use and removed in path.name:
            path.unlink(missing_ok=True)
