"""Rewrites errors of the library for people who type commands: arguments of Python become options.

`one_line_errors` calls `as_typed` for every error. A command needs no messages of its own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from fasthash._folder_kinds import NO_INDEX

__all__ = ["as_typed"]

# Arguments of the library whose options have other names; of several options, the one that a command has.
_OTHER_NAMES = {
    "level_bits": ("levels", "bits"),
    "n": ("threads",),  # of set_num_threads
    "n_bits": ("bits", "hash_bits"),
    "state": ("index",),
    "workers": ("num_workers",),
}

# An argument in advice: `format='decimal'`, `n_bits=64`, `format='csv' or 'tsv'`, `column=`, `hold_out=0.1`.
_ADVICE = re.compile(
    r"\b(array|batch_size|column|data|format|hold_out|n_bits|notation|workers)="
    r"('[^']*'(?: or '[^']*')*|\d+(?:\.\d+)?)?(?=[ ,;).]|$)"
)


def as_typed(message: str, options: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """A message with the options that a command has, in place of arguments of Python.

    Args:
        message: of an error.
        options: for the name of each argument of the command, what a user types, such as `--keep`.
        given: values of the options that the user has given, by the same names.

    Examples:
        >>> as_typed("keep must be at most 1, got 7", {"keep": "--keep"}, {"keep": 7})
        '--keep must be at most 1, got 7'
        >>> as_typed("path='a' is not a folder", {"images": "--images"}, {"images": "a"})
        "--images='a' is not a folder"
        >>> as_typed("give format='hex', n_bits=64", {"format": "--format", "bits": "--bits"}, {})
        'give --format hex --bits 64'
    """
    if match := NO_INDEX.match(message):
        return f"{match[1]} is no index: it {match[2]}; fasthash build makes one of codes"
    if _option("state", options) == "index":
        message = re.sub(r"\bthe state (?=['\"])", "the index ", message)
        message = re.sub(r"\ba state of (its|their) own$", r"an index of \1 own", message)
    return _advice(_beginning(message, options, given), options)


def _beginning(message: str, options: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """Name the wrong option in place of the argument, if the user has typed it, or must. Others are not the user's."""
    if match := re.match(r"(\w+)=('[^']*'|\"[^\"]*\")", message):  # the library may call the argument something else
        same = [name for name, value in given.items() if match[2] in _shown(value)]
        name = next((name for name in (match[1], *same) if name in same), None)
        return message if name is None else options[name] + message[match.end(1) :]
    match = re.match(r"(\w+) must (be given|be named)?", message)
    name = None if match is None else _option(match[1], options)
    missing = message.endswith(", got None")
    if match is None or name is None or not (match[2] or name in given or missing):
        return message
    message = message.removesuffix(", got None").replace(" must be None, ", " must be left out, ")
    if isinstance(given.get(name), bool):  # a flag, which is typed without a value
        message = re.sub(r"^(\w+) must be False\b", r"\1 must be left out", message)
        message = re.sub(r"^(\w+) must be True\b", r"\1 must be given", message)
        message = re.sub(r", got (True|False)\b", "", message)
    if match[1] == "level_bits":  # a tuple, which is typed with commas alone
        message = re.sub(r"\((\d+(?:, \d+)*),?\)", lambda levels: levels[1].replace(" ", ""), message)
    return options[name] + message[match.end(1) :]


def _shown(value: Any) -> list[str]:
    """How messages show the value of an option, or each of several."""
    return [repr(str(each)) for each in (value if isinstance(value, (list, tuple)) else [value])]


def _advice(message: str, options: Mapping[str, str]) -> str:
    def typed(match: re.Match[str]) -> str:
        name = _option(match[1], options)
        if name is None:
            return match[0]
        values = (shlex.quote(value.strip("'")) for value in (match[2] or "").split(" or ") if value)
        return " ".join([options[name], *([" or ".join(values)] if match[2] else [])])

    message = _ADVICE.sub(typed, message)
    message = re.sub(r"(--[\w-]+ \S+), (?=--)", r"\1 ", message)  # options stand side by side
    if "format" in options:
        way = "--notation" if ", column " in message else "--format"
        message = re.sub(r"\b(is|are) read as '(\w+)'", rf"\1 read with {way} \2", message)
        message = re.sub(r"; the format '(\w+)' reads", r"; --format \1 reads", message)
        message = message.replace("; name one of npy,", "; --format names it: npy,")
    if "bits" in options:
        message = message.replace("give the bits of a code", "give the bits of a code with --bits")
    return message


def _option(argument: str, options: Mapping[str, str]) -> str | None:
    """The name under which a command has an argument of the library."""
    return next((name for name in (argument, *_OTHER_NAMES.get(argument, ())) if name in options), None)
