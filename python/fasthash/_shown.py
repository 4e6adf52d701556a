"""Makes counts and file names fit to show: one function for each medium. Names for programs (JSON, npz) stay unchanged.

A hostile file name may contain control sequences for a terminal, a spreadsheet or a web page. These functions are
called wherever the library shows a name to people.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "as_numbers",
    "command",
    "counted",
    "decimals",
    "for_csv",
    "for_html",
    "for_terminal",
    "in_bytes",
    "inside_here",
    "short",
]

# Control characters, marks that change the text direction, undecodable bytes, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_SHOWN_BITS = 512  # of an integer

# Characters that start a formula in a spreadsheet, and their full-width forms.
_FORMULA = tuple("=+-@＝＋－＠")


def as_numbers(values: NDArray[Any]) -> list[Any]:
    """Values of an array as objects of Python; a float32 with the fewest digits that determine it."""
    return [float(str(value)) for value in values] if values.dtype == "float32" else values.tolist()


def command(name: str = "fasthash") -> str:
    """What a user types to run a program of this environment: its name, or a path such as .venv/bin/fasthash.

    The name alone is right if PATH leads to this environment, or if the environment holds no such program.
    """
    program = os.path.join(os.path.dirname(sys.executable or ""), name)
    found = shutil.which(name)
    if not os.path.isabs(program) or not os.path.exists(program) or (found and os.path.samefile(found, program)):
        return name
    return shlex.quote(inside_here(program))


def inside_here(path: str) -> str:
    """An absolute path below the current folder as a relative one."""
    inside = os.path.relpath(path)
    return path if inside == os.pardir or inside.startswith(os.pardir + os.sep) else inside


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun, in the plural unless it is 1.

    Examples:
        >>> counted(1, "epoch"), counted(2000, "epoch"), counted(0, "class", "classes")
        ('1 epoch', '2,000 epochs', '0 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def decimals(values: Iterable[float], n_decimals: int) -> list[str]:
    """Write numbers with so many decimals, or up to three more if different numbers would look the same.

    Halves are rounded up.

    Examples:
        >>> decimals([0.84, 0.79], 1), decimals([0.9975, 0.5], 3)
        (['0.84', '0.79'], ['0.998', '0.500'])
    """
    exact = [Decimal(f"{value:.9g}") for value in values]  # without the last digits, which summation leaves
    for more in range(4):
        step = Decimal(1).scaleb(-n_decimals - more)
        texts = [f"{number.quantize(step, ROUND_HALF_UP):f}" for number in exact]
        if len(set(texts)) == len(set(exact)):
            break
    return texts


def short(value: Any) -> str:
    """The beginning of a value, for errors: bytes and arrays may be large."""
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length():,} bits"
    try:
        shown = repr(value[:60] if isinstance(value, (bytes, bytearray)) else value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        shown = f"a {type(value).__name__} with an integer of very many digits"
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


def in_bytes(n: int) -> str:
    """Write a size with a unit that people read.

    Examples:
        >>> in_bytes(999), in_bytes(34_567), in_bytes(3_456_789)
        ('999 bytes', '35 kB', '3.5 MB')
    """
    if n < 1000:
        return counted(n, "byte")
    if n < 999_500:
        return f"{n / 1e3:.0f} kB"
    return f"{n / 1e6:,.1f} MB"


def for_terminal(text: object) -> str:
    r"""Return one line with hidden characters as escapes: `\x1b`, `\n`, `\u202e`, `\udcff` for byte 255.

    Examples:
        >>> print(for_terminal("a\nb\x1b[31m.png"))
        a\nb\x1b[31m.png
    """
    shown = str(text)
    if shown.isprintable():  # fast path for the usual case
        return shown
    return "".join(map(_visible, shown))


def for_csv(path: str) -> str:
    """Make a path safe for a cell of a spreadsheet: escape it, and prefix `./` if it would start a formula.

    Examples:
        >>> for_csv("=cmd.png")
        './=cmd.png'
    """
    shown = for_terminal(path)
    return os.path.join(os.curdir, shown) if shown.lstrip().startswith(_FORMULA) else shown


def for_html(value: Any) -> Any:
    """Make a value safe for a page: `finalize` of a jinja environment; its `autoescape` escapes markup."""
    return for_terminal(value) if isinstance(value, str) else value


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
