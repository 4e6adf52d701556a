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
from fasthash._saved_folder import parsed

__all__ = ["read_signed", "signed"]

_Read = TypeVar("_Read")


def signed(kind: str, version: int, fields: Mapping[str, Any]) -> bytes:
    """The content of a file with these fields; `kind` is the name of a class, `version` that of the format."""
    line = json.dumps({"class": kind, "format": version} | dict(fields), allow_nan=False).encode() + b"\n"
    return line + hashlib.sha256(line).hexdigest().encode() + b"\n"


def read_signed(path: Path, text: bytes, kind: str, what: str, read: Callable[[int, dict[str, Any]], _Read]) -> _Read:
    """Check the content of a file, and read its fields.

    Args:
        path: of the file, for errors.
        text: its content.
        kind: expected name of a class.
        what: the thing that the file describes, for errors: `"a store"`.
        read: function of the version of the format and the other fields.

    Raises:
        FormatError: the file is damaged, describes something else, or `read` refuses a field.
    """
    try:
        line, end, checksum = text.partition(b"\n")
        content = parsed(line.decode())
        if content.pop("class") != kind:
            raise FormatError(f"it is not that of {what}")
        version = content.pop("format")
        if checksum != hashlib.sha256(line + end).hexdigest().encode() + b"\n":
            raise FormatError("its checksum does not match")
        return read(version, content)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} is damaged, or no manifest of {what}: {error!r}") from error
