"""The two lines of a manifest: one of JSON, and its SHA-256. Used for stores, and for folders of shards.

Their bytes are in docs/format.md; the fields are checked by those who know them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fasthash._core import FormatError
from fasthash._folder_kinds import kind_of_folder
from fasthash._saved_folder import is_version, parsed

__all__ = ["read_signed", "signed"]

_FORMATS = (1, 2)  # 2 names the metric; 1 is without one and means Hamming
_KINDS = ("Store", "ShardedIndex")  # classes of files of this form

_Read = TypeVar("_Read")


def signed(kind: str, fields: Mapping[str, Any]) -> bytes:
    """The content of a file with these fields, `metric` among them; `kind` is the name of a class."""
    # The oldest format that can say this, so that earlier releases read it.
    named = {name: value for name, value in fields.items() if (name, value) != ("metric", "hamming")}
    head = {"class": kind, "format": 2 if "metric" in named else 1}
    line = json.dumps(head | named, allow_nan=False).encode() + b"\n"
    return line + hashlib.sha256(line).hexdigest().encode() + b"\n"


def read_signed(path: Path, text: bytes, kind: str, what: str, read: Callable[[dict[str, Any]], _Read]) -> _Read:
    """Check the content of a file, and read its fields.

    Args:
        path: of the file, for errors.
        text: its content.
        kind: expected name of a class.
        what: the thing that the file describes, for errors: `"a store"`.
        read: function of the fields, `metric` among them, which format 1 leaves out.

    Raises:
        FormatError: the file is damaged, describes something else, or `read` refuses a field.
    """
    if any(text.startswith(_beginning(other)) for other in _KINDS if other != kind):
        # Not damaged: its folder was given to the wrong class.
        raise FormatError(f"{path.parent} is {kind_of_folder(path.parent)}")
    try:
        line, end, checksum = text.partition(b"\n")
        content = parsed(line.decode())
        if content.pop("class") != kind:
            raise FormatError(f"it is not that of {what}")
        if not is_version(version := content.pop("format"), _FORMATS):
            raise FormatError(f"format is {version!r}, this release reads {' and '.join(map(str, _FORMATS))}")
        if checksum != hashlib.sha256(line + end).hexdigest().encode() + b"\n":
            raise FormatError("its checksum does not match")
        if ("metric" in content) != (version == 2) or content.get("metric") == "hamming":
            raise FormatError(f"its metric is not that of format {version}")
        return read({"metric": "hamming"} | content)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} is damaged, or no manifest of {what}: {error!r}") from error


def _beginning(kind: str) -> bytes:
    """The first bytes of each file of this kind that `signed` makes."""
    return f'{{"class": "{kind}"'.encode()
