"""Reads codes from text with one code per line and from columns of tables; called by `code_files`.

Text is read in blocks of lines. The first block settles the width of a code, if the caller has not.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import MAX_BITS, check_codes, code_bytes
from fasthash._code_text import codes_of_text, hexadecimal, of_first_bits
from fasthash._extras import needs_extra
from fasthash.perceptual import codes_of_array, codes_of_bytes

__all__ = ["read_parquet", "read_text", "table_rows"]

_LINES = 1 << 16  # that are read at once
_BEGINNINGS = {b"\x93NUMPY": "npy", b"PK\3\4": "npz", b"PAR1": "parquet"}


class _Code(NamedTuple):
    """The text of a code, and the line that it ends in."""

    text: str
    line: int


def read_text(
    lines: Iterable[bytes],
    name: str,
    format: str,
    n_bits: int | None,
    notation: str | None,
    column: str | int | None,
    watch: Callable[[int], object] | None,
) -> NDArray[np.uint8]:
    """Codes of a file of text; arguments and errors as of `read_codes`.

    Args:
        notation: None reads hexadecimal digits, if they do not look like something else.
    """
    decoded = _decoded(lines, name, watch)
    where, wanted = "", n_bits
    if format in ("csv", "tsv"):
        where, entries = _of_table(decoded, format, name, column)
    elif format == "fps":
        n_bits, entries = _fingerprints(decoded, name, n_bits)
        notation = "hex"
    else:
        entries = _of_lines(decoded)
    parts = []
    while block := list(islice(entries, _LINES)):
        texts = [code.text for code in block]
        if notation is None:
            notation = hexadecimal(f"{name}{where}", texts, "notation" if where else "format")
        part = codes_of_text(texts, notation, n_bits, _place_in(name, block, where))
        n_bits = part.shape[1] * 8 if n_bits is None else n_bits
        parts.append(part)
    if n_bits is None:
        raise ValueError(f"{name} holds no codes, which leaves open how wide they are")
    codes = np.concatenate(parts) if parts else np.empty((0, code_bytes(n_bits)), np.uint8)
    if format == "fps" and wanted is not None and wanted % 8:
        return check_codes(name, of_first_bits(codes), wanted)
    return codes


def _place_in(name: str, block: list[_Code], where: str) -> Callable[[int], str]:
    """Names the place of text i of a block, for errors."""
    return lambda i: f"{name}, line {block[i].line}{where}"


def _decoded(lines: Iterable[bytes], name: str, watch: Callable[[int], object] | None) -> Iterator[str]:
    """Lines of UTF-8, without the mark that some programs put first; bytes of no character stay escapes."""
    n_read = 0
    for number, line in enumerate(lines):
        if number == 0:
            _check_text(name, line)
            line = line.removeprefix(b"\xef\xbb\xbf")
        n_read += len(line)
        if watch is not None and number % _LINES == _LINES - 1:
            watch(n_read)
            n_read = 0
        yield line.decode("utf-8", "backslashreplace")
    if watch is not None and n_read:
        watch(n_read)


def _check_text(name: str, line: bytes) -> None:
    """Check the first line of a file that should be UTF-8 text.

    Raises:
        ValueError: it is UTF-16, which its mark tells or a NUL in each character, or not text.
    """
    form = next((form for beginning, form in _BEGINNINGS.items() if line.startswith(beginning)), None)
    nuls = [set(line[first::2]) == {0} for first in (0, 1)]
    if form is None and (line.startswith((b"\xff\xfe", b"\xfe\xff")) or nuls[0] != nuls[1]):
        raise ValueError(f"{name} must be UTF-8 text, but is UTF-16; iconv -f UTF-16 -t UTF-8 makes it so")
    if form is not None or b"\0" in line:
        advice = f"; the format {form!r} reads it" if form else ""
        raise ValueError(f"{name} must be UTF-8 text, but is binary{advice}")


def _of_lines(lines: Iterator[str]) -> Iterator[_Code]:
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield _Code(text, number)


def _fingerprints(lines: Iterator[str], name: str, n_bits: int | None) -> tuple[int | None, Iterator[_Code]]:
    """Width of the fingerprints of an FPS file, from its header or else `n_bits`, and their codes."""
    if not next(lines, "").startswith("#FPS1"):
        raise ValueError(f"{name} must begin with #FPS1, as fingerprints of chemfp do")
    told, n_told, n_head, line = None, 0, 1, ""
    for line in lines:
        if not line.startswith("#"):
            break
        n_head += 1
        if match := re.fullmatch(r"#num_bits=([1-9]\d{0,8})\s*", line):
            n_told = int(match[1])
            told = code_bytes(n_told) * 8
        line = ""
    given = None if n_bits is None else code_bytes(n_bits) * 8
    # A width of whole bytes is also that of fingerprints which fill their last byte in part.
    if told is not None and n_bits is not None and n_bits not in (n_told, told):
        raise ValueError(f"{name} holds codes of {n_told} bits, expected {n_bits}")
    if told is not None and told > MAX_BITS:
        raise ValueError(f"{name} holds fingerprints of {told} bits; codes have at most {MAX_BITS}")

    def codes() -> Iterator[_Code]:
        for number, text in enumerate(chain([line], lines), start=n_head + 1):
            if text.strip():
                yield _Code(text.split("\t")[0].strip(), number)

    return given if told is None else told, codes()


# Tables


def _of_table(lines: Iterable[str], format: str, name: str, column: str | int | None) -> tuple[str, Iterator[_Code]]:
    """How errors name the column, and its codes."""
    rows = table_rows(lines, format, name)
    first = next(rows, None)
    if first is None:
        return "", iter(())
    cells, _ = first
    if isinstance(column, str):
        place, shown = _place(name, cells, column), f", column {column!r}"
        rest: Iterable[tuple[list[str], int]] = rows
    else:
        if column is None and len(cells) > 1:
            raise ValueError(_unnamed(name, cells))
        place = _number(name, len(cells), 0 if column is None else column)
        shown = f", column {place}"
        rest = _with_first(first, rows)

    def codes() -> Iterator[_Code]:
        for cells, line in rest:
            if len(cells) <= place:
                raise ValueError(f"{name}, line {line}{shown}: there are only {len(cells)} columns")
            yield _Code(cells[place].strip(), line)

    return shown, codes()


def table_rows(lines: Iterable[str], format: str, name: str) -> Iterator[tuple[list[str], int]]:
    """The rows of a table that are not empty, each with the line that it ends in.

    Args:
        lines: of the file, with their ends.
        format: `"csv"` or `"tsv"`.
        name: of the file, for errors.

    Raises:
        ValueError: quotes are not closed, or text follows a closing quote. Otherwise a quote that begins a field would
            swallow all rows up to the next one. The message names the line in which the row begins.
    """
    table = csv.reader(lines, delimiter="," if format == "csv" else "\t", strict=True)
    begin = 1
    try:
        for cells in table:
            if cells:
                yield cells, table.line_num
            begin = table.line_num + 1
    except csv.Error as error:
        fault = str(error)
        if "unexpected end of data" in fault or "expected after" in fault or "field larger" in fault:
            fault += '; a field that begins with " ends with ", and "" stands for a " in it'
        raise ValueError(f"{name}, line {begin}: {fault}") from None


def _with_first(first: Any, rows: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rows


def _place(name: str, names: list[str], column: str) -> int:
    if names.count(column) != 1:
        how = "no" if column not in names else "more than one"
        raise ValueError(f"column must be one of {name}, which has {how} {column!r} but {', '.join(map(repr, names))}")
    return names.index(column)


def _unnamed(name: str, cells: list[str]) -> str:
    return f"{name} has {len(cells)} columns, {', '.join(map(repr, cells))}; name one with column="


def _number(name: str, n_columns: int, column: Any) -> int:
    if isinstance(column, bool) or not isinstance(column, int):
        raise TypeError(f"column must be a name or a number from 0, got {column!r}")
    if not 0 <= column < n_columns:
        raise ValueError(f"column must be a number from 0 to {n_columns - 1} for {name}, got {column}")
    return column


def read_parquet(
    file: Any, name: str, n_bits: int | None, notation: str | None, column: str | int | None
) -> NDArray[np.uint8]:
    """Codes of a column of a parquet file; arguments and errors as of `read_codes`."""
    with needs_extra("ray"):
        import pyarrow
        import pyarrow.parquet
    try:
        table = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{name} is no .parquet file: {error}") from None
    names = table.schema_arrow.names
    if column is None and len(names) > 1:
        raise ValueError(_unnamed(name, names))
    chosen = names[_place(name, names, column) if isinstance(column, str) else _number(name, len(names), column or 0)]
    where, row, parts = f"{name}, column {chosen!r}", 0, []
    for batch in table.iter_batches(_LINES, columns=[chosen]):
        values = batch.column(0)
        if not len(values):
            continue
        if values.null_count:
            raise ValueError(f"{where}: row {row + values.is_null().to_pylist().index(True)} has no value")
        if notation is None and (pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type)):
            notation = hexadecimal(where, values.to_pylist(), "notation")
        part = _of_values(values, where, row, n_bits, notation)
        n_bits = part.shape[1] * 8 if n_bits is None else n_bits
        parts.append(part)
        row += len(values)
    if n_bits is None:
        raise ValueError(f"{name} holds no codes, which leaves open how wide they are")
    return np.concatenate(parts) if parts else np.empty((0, code_bytes(n_bits)), np.uint8)


def _of_values(values: Any, where: str, row: int, n_bits: int | None, notation: str | None) -> NDArray[np.uint8]:
    from pyarrow import types

    kind = values.type
    if types.is_string(kind) or types.is_large_string(kind):
        assert notation is not None
        texts = [text.strip() for text in values.to_pylist()]
        return codes_of_text(texts, notation, n_bits, lambda i: f"{where}, row {row + i}")
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        codes = codes_of_bytes(where, values.to_pylist(), expression="column")
        return codes_of_array(where, codes, codes.shape[1] * 8 if n_bits is None else n_bits, expression="column")
    if types.is_uint64(kind) or types.is_int64(kind):
        return codes_of_array(where, values.to_numpy(zero_copy_only=False), n_bits, expression="column")
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        lengths = {len(value) for value in values}
        flat = values.flatten()
        if (
            len(lengths) > 1
            or flat.null_count
            or not (types.is_uint8(kind.value_type) or types.is_boolean(kind.value_type))
        ):
            raise ValueError(f"{where}: lists must be of uint8 or bool, all of one length, got {kind}")
        rows = flat.to_numpy(zero_copy_only=False).reshape(len(values), -1)
        return codes_of_array(where, rows, n_bits, expression="column")
    raise TypeError(f"{where} must hold text, bytes, 64-bit integers, or lists of uint8 or bool, got {kind}")
