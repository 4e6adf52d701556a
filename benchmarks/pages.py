"""Tables in Markdown, and the places on a page that they fill."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path


def table(head: list[str], rows: list[list[str]]) -> str:
    """Columns of numbers, but the first, are aligned to the right."""
    numeric = [any(cell.lstrip("*.-")[:1].isdigit() for cell in column) for column in zip(head, *rows, strict=True)]
    rules = ["---:" if i > 0 and is_numeric else "---" for i, is_numeric in enumerate(numeric)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rules, *rows])


def fill(text: str, parts: dict[str, str]) -> str:
    """Put each part between the marks of its name."""
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        (before, rest), (_, after) = text.split(begin), text.split(end)
        assert end in rest, name
        text = f"{before}{begin}\n{part}\n{end}{after}"
    return text


def fill_page(page: Path, parts: dict[str, str], *, only_print: bool = False) -> None:
    """Put the parts into a page, or print them instead."""
    if only_print:
        print(*parts.values(), sep="\n\n")
    else:
        page.write_text(fill(page.read_text(), parts))


def versions(*packages: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def share(value: float) -> str:
    """A number from 0 to 1 with three decimals, without the zero before the point."""
    return f"{value:.3f}".removeprefix("0")


def summary(values: list[float], form: Callable[[float], str] = share) -> str:
    """Mean and largest deviation of a seed."""
    mean = sum(values) / len(values)
    return f"{form(mean)} ± {form(max(abs(value - mean) for value in values))}"
