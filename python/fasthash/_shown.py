"""Counts and names of files as they may be shown. The names that programs read (JSON, npz) stay true.

Whoever makes a file chooses its name, and a name may hold what commands a terminal, a spreadsheet or a page. Called
wherever a name leaves the library for people to read.
"""

from __future__ import annotations

import os
import unicodedata
from typing import Any

__all__ = ["counted", "for_csv", "for_html", "for_terminal"]

# Control characters, marks that turn the direction of text, bytes of no encoding, separators of lines and paragraphs.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# What a spreadsheet takes for the beginning of a formula; the wide forms of these signs, too.
_FORMULA = tuple("=+-@＝＋－＠")


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number of things in words.

    Examples:
        >>> counted(1, "epoch"), counted(2000, "epoch"), counted(0, "class", "classes")
        ('1 epoch', '2,000 epochs', '0 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def for_terminal(text: object) -> str:
    r"""One line without hidden characters, each written as an escape: `\x1b`, `\n`, `\u202e`, `\udcff` for byte 255.

    Examples:
        >>> print(for_terminal("a\nb\x1b[31m.png"))
        a\nb\x1b[31m.png
    """
    shown = str(text)
    if shown.isprintable():  # the usual case, told at once
        return shown
    return "".join(map(_visible, shown))


def for_csv(path: str) -> str:
    """The same for a cell of a spreadsheet: `./` stands before a relative path that would be taken for a formula.

    Examples:
        >>> for_csv("=cmd.png")
        './=cmd.png'
    """
    shown = for_terminal(path)
    return os.path.join(os.curdir, shown) if shown.lstrip().startswith(_FORMULA) else shown


def for_html(value: Any) -> Any:
    """The same for a page: `finalize` of a jinja environment, whose `autoescape` takes care of markup."""
    return for_terminal(value) if isinstance(value, str) else value


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
