"""Makes command options from a settings class: names and types from its fields, help from its docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, get_args, get_type_hints

import typer

__all__ = ["with_options_of"]


def with_options_of(settings: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for each field of a dataclass to a command, passed in its `**` argument; None if not given."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        command.__signature__ = signature.replace(parameters=own + _options(settings))  # type: ignore[attr-defined]
        return command

    return decorate


def _options(settings: type) -> list[inspect.Parameter]:
    hints, texts = get_type_hints(settings), _texts(settings)
    options = []
    for entry in fields(settings):
        hint = hints[entry.name]
        kind = next((kind for kind in (bool, int, float) if kind in (hint, *get_args(hint))), str)
        names = (f"--{entry.name.replace('_', '-')}",) if kind is bool else ()  # without its opposite
        option = typer.Option(*names, help=texts.get(entry.name), show_default=kind is not bool)
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        options.append(
            inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    return options


def _texts(settings: type) -> dict[str, str]:
    """Return the text of each attribute in the docstring of a class; empty if Python runs without docstrings."""
    _, _, section = (inspect.getdoc(settings) or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section.partition("\n\n")[0], re.MULTILINE)
    return {name: text[0].upper() + " ".join(text[1:].split()) for name, text in entries}
