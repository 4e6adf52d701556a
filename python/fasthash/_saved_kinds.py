"""Checks of saved folders before they are loaded: the fields of each kind of card, and its arrays.

Called by every load of a folder. Checksums detect accidents, but a hostile card can have correct checksums. So every
value is checked here before it is used, and a wrong value raises `FormatError`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_choice, check_int, check_level_bits, check_real
from fasthash._core import FormatError
from fasthash._index_options import MEMORIES, PLANS
from fasthash._index_options import METRICS as CODE_METRICS
from fasthash._quantiser import (
    DTYPES,
    MAX_DIMS,
    METRICS,
    Center,
    Floats,
    Form,
    Scales,
    Steps,
    check_center,
    check_ranges,
    pack_signs,
)
from fasthash._saved_folder import CARD_NAME, Card, read_by_card, read_card
from fasthash._vectors import BLOCK, Rows
from fasthash.index import HierIndex, load

__all__ = [
    "HASH_BITS",
    "MAX_SHARDS",
    "SHARD_RULE",
    "check_center_of",
    "check_photos",
    "check_ranges_of",
    "check_shard",
    "check_stored_vectors",
    "check_training",
    "check_videos",
    "load_codes",
    "load_folder",
    "shard_names",
]

HASH_BITS = (64, 256)
HASH_KINDS = ("phash", "phash-turning")
MAX_SHARDS = 1 << 16
SHARD_RULE = "splitmix64(id) mod n_shards"
_MAX_CODES = 2**32 - 1  # per index
_MAX_PARTS = 10_000_000  # limits the list of missing parts
_END_OF_IDS = 1 << 63
_MAX_PHOTO_ID = 1 << 62  # leaves room for larger ids
_N_SAMPLES = 256  # rows checked if not all are
_TOLERANCE = 0.01  # for a length of 1; float16 has 11 bits

_Loaded = TypeVar("_Loaded")
_Check = Callable[[str, Any], object]


# ---- fields ----


def _integer(minimum: int, maximum: int) -> _Check:
    return partial(check_int, minimum=minimum, maximum=maximum)


def _one_of(choices: Collection[str]) -> _Check:
    return partial(check_choice, choices=choices)


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {value!r}")


def _or_none(check: _Check) -> _Check:
    return lambda name, value: None if value is None else check(name, value)


def _mean_or(check: _Check) -> _Check:
    return lambda name, value: None if value == "mean" else check(name, value)


def _list_of(check: _Check) -> _Check:
    def check_all(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise TypeError(f"{name} must be a list, got {value!r}")
        for entry in value:
            check(name, entry)

    return check_all


def _row_of(*checks: _Check) -> _Check:
    def check_row(name: str, value: Any) -> None:
        if not isinstance(value, list) or len(value) != len(checks):
            raise TypeError(f"{name} must hold lists of {len(checks)}, got {value!r}")
        for check, entry in zip(checks, value, strict=True):
            check(name, entry)

    return check_row


def _number(name: str, value: Any) -> None:
    if not math.isfinite(check_real(name, value)):
        raise ValueError(f"{name} must be finite, got {value!r}")


def _object(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be an object, got {value!r}")


def _levels(name: str, value: Any) -> None:
    if not isinstance(value, list):
        raise TypeError(f"{name} must be a list, got {value!r}")
    check_level_bits(value, any_width=True)


def _colour(name: str, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch("#[0-9a-f]{6}", value):
        raise ValueError(f"{name} must be #rrggbb, got {value!r}")


_TIME = _integer(-(2**93), 2**93)  # nanoseconds; systems count seconds in 64 bits
_SIZE = _integer(0, 2**63 - 1)

_PHOTO_FACTS = _text, _integer(0, _MAX_PHOTO_ID), _SIZE, _TIME  # path, id, bytes, time


def _photo(name: str, value: Any) -> None:
    """A row of a photo; those of the first release lack the checksum at the end."""
    old = isinstance(value, list) and len(value) == len(_PHOTO_FACTS)
    _row_of(*_PHOTO_FACTS, *(() if old else (_text,)))(name, value)


_STEPS = _list_of(_integer(0, 2**53))
# Path, bytes, time, sample; seconds, width, height, frames, blank frames; first and last steps.
_VIDEO_FACTS = _text, _SIZE, _TIME, _text, _number, _SIZE, _SIZE, _SIZE, _SIZE, _STEPS, _STEPS


_FIELDS: Mapping[str, Mapping[str, _Check]] = {
    "RescoringIndex": {
        "n_dims": _integer(1, MAX_DIMS),
        "dtype": _one_of(DTYPES),
        "metric": _one_of(METRICS),
        "n_embeddings": _integer(0, _MAX_CODES),
        "ranges": _or_none(_list_of(_list_of(_number))),
    },
    "ShardedIndex": {
        "level_bits": _levels,
        "memory": _one_of(MEMORIES),
        "plan": _one_of(PLANS),
        "n_shards": _integer(1, MAX_SHARDS),
        "n_codes": _SIZE,
        "next_id": _integer(0, _END_OF_IDS),
        "shard": _one_of((SHARD_RULE,)),
    },
    "PhotoHashes": {
        "hash": _one_of(HASH_KINDS),
        "hash_bits": _integer(min(HASH_BITS), max(HASH_BITS)),
        "photos": _list_of(_photo),
    },
    "VideoHashes": {
        "hash": _one_of(HASH_KINDS[:1]),
        "every": _text,
        "folder": _text,
        "videos": _list_of(_row_of(*_VIDEO_FACTS)),
    },
    "EncodedParts": {
        "level_bits": _levels,
        "source": _text,
        "n_parts": _integer(0, _MAX_PARTS),
        "unreadable": _list_of(_row_of(_text, _text)),
    },
}

# Fields that cards of the first release lack, and cards of other settings.
_LATER_FIELDS: Mapping[str, Mapping[str, _Check]] = {
    "PhotoHashes": {"background": _colour, "folder": _text},
    "RescoringIndex": {"center": _or_none(_mean_or(_list_of(_number)))},
    "ShardedIndex": {"metric": _one_of(CODE_METRICS)},
}

_TRAINING: Mapping[str, _Check] = {
    "losses": _list_of(_number),
    "seconds": _number,
    "device": _text,
    "settings": _object,
    "scores": _list_of(_number),
}


def load_folder(folder: str | os.PathLike[str], kind: str, load: Callable[[Card], _Loaded]) -> _Loaded:
    """Check all fields of the card of a folder, then load its files.

    Args:
        folder: saved folder.
        kind: expected kind of the card.
        load: function that reads the files of a card; called again if a save has replaced the card meanwhile.

    Raises:
        FileNotFoundError: `folder` lacks card.json.
        FormatError: the card or a file is damaged, or belongs to something else.
    """

    def read() -> Card:
        card = read_card(folder, kind)
        fields = _FIELDS[kind]
        try:
            for name, check in fields.items():
                check(name, card[name])
            for name, check in _LATER_FIELDS.get(kind, {}).items():
                if name in card:
                    check(name, card[name])
            if kind == "ShardedIndex":
                _empty_shard(card)
            if (found := set(card["files"])) != (names := _names_of_files(card)):
                raise ValueError(f"files must be {', '.join(sorted(names))}, got {', '.join(sorted(found))}")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"{Path(folder) / CARD_NAME} is not the card of a {kind}: {error!r}") from error
        return card

    return read_by_card(read, load)


def check_training(value: Any) -> None:
    """Check the training record in the card of a checkpoint; None is allowed."""
    if value is not None:
        _object("training", value)
        for name, check in _TRAINING.items():
            if name in value:  # TrainingRecord raises for missing fields
                check(f"training.{name}", value[name])


def shard_names(n_shards: int) -> list[str]:
    """Return the file names of shards, in order."""
    return [f"shard-{shard:05d}.fh" for shard in range(n_shards)]


def _empty_shard(card: Mapping[str, Any]) -> HierIndex:
    """An index with the settings of a shard of a card, without codes.

    Raises:
        ValueError: the settings exclude each other.
    """
    settings: dict[str, Any] = {name: card[name] for name in ("memory", "plan")}
    return HierIndex(card["level_bits"], **settings, metric=card.get("metric", "hamming"))


def _names_of_files(card: Card) -> set[str]:
    if card["class"] == "ShardedIndex":
        return set(shard_names(card["n_shards"]))
    names = {"RescoringIndex": ["codes.fh", "vectors.npy"], "EncodedParts": []}
    return set(names.get(card["class"], ["codes.fh"]))


# ---- arrays ----


def load_codes(path: Path, n_codes: int, level_bits: tuple[int, ...] | None = None) -> HierIndex:
    """Load an index file; it must hold a `HierIndex` with `n_codes` codes and, unless None, with `level_bits`.

    Raises:
        FormatError: the file holds another index, or is damaged.
    """
    index = load(path)
    fits = isinstance(index, HierIndex) and index.metric == "hamming" and level_bits in (None, index.level_bits)
    if not isinstance(index, HierIndex) or not fits or len(index) != n_codes:
        levels = "" if level_bits is None else f" of level_bits {level_bits}"
        raise FormatError(f"{path} holds {index!r}, expected a HierIndex with {n_codes} codes{levels}")
    return index


def check_ranges_of(card: Card) -> Floats | None:
    """Check and return the ranges in the card of a `RescoringIndex`; int8 vectors of the first form need ranges.

    Raises:
        FormatError: the ranges are missing, unexpected or wrong.
    """
    given, n, is_int8 = card["ranges"], card["n_embeddings"], card["dtype"] == "int8"
    try:
        if (given is not None and not is_int8) or (given is None and is_int8 and n and "center" not in card):
            raise ValueError(f"ranges do not fit the dtype {card['dtype']} of {n} embeddings")
        return None if given is None else check_ranges(np.array(given, np.float64), card["n_dims"])
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{CARD_NAME} is not the card of a RescoringIndex: {error}") from error


def check_center_of(card: Card) -> Center:
    """The center of the card of a `RescoringIndex`, which is known as soon as there are embeddings.

    Raises:
        FormatError: it is none.
    """
    given = card.get("center")
    try:
        if given == "mean" and card["n_embeddings"]:
            raise ValueError(f"center must be known of {card['n_embeddings']} embeddings, got 'mean'")
        return check_center(np.array(given, np.float64) if isinstance(given, list) else given, card["n_dims"])
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{CARD_NAME} is not the card of a RescoringIndex: {error}") from error


def check_stored_vectors(
    path: Path,
    rows: Rows,
    codes: NDArray[np.uint8],
    form: Form,
    center: Center,
    card: Card,
    *,
    whole: bool,
) -> None:
    """Check that stored vectors are valid and match their codes.

    Args:
        path: file of the vectors, for errors.
        rows: rows of the file.
        codes: uint8 `(n, n_bytes)`, code of each row.
        form: form in which the vectors are stored.
        center: center subtracted for the codes.
        card: card of the folder.
        whole: check all rows, not only 256 rows spread evenly.

    Raises:
        FormatError: a vector is not finite, does not match its code, or does not have length 1 for the cosine metric.
    """
    step = max(1, BLOCK // card["n_dims"])
    n_checked = rows.n if whole else min(rows.n, _N_SAMPLES)
    places = np.arange(n_checked) * max(0, rows.n - 1) // max(1, n_checked - 1)
    for i in range(0, len(places), step):
        block = places[i : i + step]
        stored = rows.take(block)
        if fault := _fault_of(stored, codes[block], form, None if isinstance(center, str) else center, card["metric"]):
            raise FormatError(f"{path} holds vectors {fault}")


def _fault_of(stored: NDArray[Any], codes: NDArray[np.uint8], form: Form, center: Floats | None, metric: str) -> str:
    with np.errstate(all="ignore"):  # numbers that no index keeps
        vectors = form.decode(stored)
    if not np.isfinite(vectors).all():
        return "that are not finite"
    error = np.zeros(len(stored))
    if isinstance(form, Scales):
        widths = form.heads(stored)[0].astype(np.float64)
        if (widths < 0).any():
            return "whose steps are below 0"
        error = widths * np.sqrt(vectors.shape[1])
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if metric == "cosine" and not isinstance(form, Steps) and (np.abs(lengths - 1) > _TOLERANCE + error).any():
        return "whose length is not 1"
    n_bits = codes.shape[1] * 8
    low, high = form.bounds(stored)
    positive, negative = pack_signs(low, n_bits, center), pack_signs(-high, n_bits, None if center is None else -center)
    wrong = positive & ~codes | negative & codes
    return "of other codes" if wrong.any() else ""


def check_shard(
    index: HierIndex, shards: NDArray[np.int64], number: int, ids: NDArray[np.int64], card: Mapping[str, Any]
) -> None:
    """Check that a file of a `ShardedIndex` holds the codes of its shard and no others.

    Args:
        index: index of the file.
        shards: int64 `(n,)`, shard of each id.
        number: number of the shard of the file.
        ids: int64 `(n,)`, all ids of the index.
        card: card of the folder.

    Raises:
        FormatError: the file has other settings or ids of another shard, or an id is not below `next_id`.
    """
    metric = card.get("metric", "hamming")
    if (index.level_bits, index.memory, index.metric) != (tuple(card["level_bits"]), card["memory"], metric):
        raise FormatError(f"{shard_names(number + 1)[-1]} holds {index!r}, which is not what {CARD_NAME} tells")
    if (shards != number).any():
        raise FormatError(f"{shard_names(number + 1)[-1]} holds the id {ids[shards != number][0]} of another shard")
    if int(ids.max(initial=-1)) >= card["next_id"]:
        raise FormatError(f"next_id must be above every id, got {card['next_id']}, and an id is {ids.max()}")


def check_photos(index: HierIndex, card: Card) -> None:
    """Check that the photos of a card match the ids of the codes, each exactly once.

    Raises:
        FormatError: the photos and the codes differ, or a photo is repeated.
    """
    photos = card["photos"]
    if card["hash_bits"] not in HASH_BITS or index.level_bits != (card["hash_bits"],):
        raise FormatError(f"hash_bits of {CARD_NAME} are {card['hash_bits']}, the codes are {index!r}")
    if len({path for path, *_ in photos}) != len(photos):
        raise FormatError(f"{CARD_NAME} names a photo twice")
    if sorted(id for _, id, *_ in photos) != index.to_arrays()[1].tolist():
        raise FormatError(f"{CARD_NAME} names other photos than there are codes")


def check_videos(index: HierIndex, card: Card) -> None:
    """Check that the videos of a card share the ids of the codes in their order, and that their frames are in order.

    Raises:
        FormatError: they do not, or a video is repeated.
    """
    videos = card["videos"]
    if len({path for path, *_ in videos}) != len(videos):
        raise FormatError(f"{CARD_NAME} names a video twice")
    for path, *_, first, last in videos:
        begins, ends = np.array(first, dtype=np.int64), np.array(last, dtype=np.int64)
        if len(first) != len(last) or (ends < begins).any() or (begins[1:] <= ends[:-1]).any():
            raise FormatError(f"{CARD_NAME} has frames of {path!r} out of order")
    if (index.to_arrays()[1] != np.arange(len(index))).any():
        raise FormatError(f"{CARD_NAME} names other frames than there are codes")
