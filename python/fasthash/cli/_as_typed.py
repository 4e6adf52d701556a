"""Rewrites errors of the library for people who type commands: arguments of Python become options.

`one_line_errors` calls `as_typed` for every error. A command needs no messages of its own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping

__all__ = ["as_typed"]

# Arguments of the library whose options have other names; of several options, the one that a command has.
_OTHER_NAMES = {
    "level_bits": ("levels", "bits"),
    "n": ("threads",),  # of set_num_threads
    "n_bits": ("bits", "hash_bits"),
    "state": ("index",),
}

# An argument in advice on how codes are read: `format='decimal'`, `n_bits=64`, `format='csv' or 'tsv'`, `column=`.
_ADVICE = re.compile(r"\b(array|column|format|n_bits|notation)=('[^']*'(?: or '[^']*')*|\d+)?(?=[ ,;).]|$)")

_NO_INDEX = re.compile(r"(.+): file (has \d+ bytes, fewer than a header|does not begin with 'FASTHASH')", re.DOTALL)


def as_typed(message: str, options: Mapping[str, str], given: Collection[str]) -> str:
    """A message with the options that a command has, in place of arguments of Python.

    Args:
        message: of an error.
        options: for the name of each argument of the command, what a user types, such as `--keep`.
        given: names of those that the user has given.

    Examples:
        >>> as_typed("keep must be at most 1, got 7", {"keep": "--keep"}, {"keep"})
        '--keep must be at most 1, got 7'
        >>> as_typed("give format='hex', n_bits=64", {"format": "--format", "bits": "--bits"}, ())
        'give --format hex --bits 64'
    """
    if match := _NO_INDEX.fullmatch(message):
        return f"{match[1]} is no index: it {match[2]}; fasthash build makes one of codes"
    return _advice(_beginning(message, options, given), options)


def _beginning(message: str, options: Mapping[str, str], given: Collection[str]) -> str:
    """Name the wrong option in place of the argument, if the user has typed it. Other values are not the user's."""
    match = re.match(r"(\w+) must (be given|be named)?", message)
    name = None if match is None else _option(match[1], options)
    if match is None or name is None or not (match[2] or name in given):
        return message
    if match[1] == "level_bits":  # a tuple, which is typed with commas alone
        message = re.sub(r"\((\d+(?:, \d+)*),?\)", lambda levels: levels[1].replace(" ", ""), message)
    return options[name] + message[match.end(1) :]


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
