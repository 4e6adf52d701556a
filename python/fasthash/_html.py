"""Small HTML tables for notebooks; all text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["html_table"]


def html_table(caption: str, head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; the first cell of each row names it."""
    lines = [f"<table><caption>{escape(caption)}</caption>"]
    if head:
        lines.append("<thead><tr>" + "".join(f"<th>{escape(str(cell))}</th>" for cell in head) + "</tr></thead>")
    lines.append("<tbody>")
    for first, *rest in rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        lines.append(f"<tr><th>{escape(str(first))}</th>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table>"])
