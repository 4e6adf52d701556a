"""Options of a command made of a settings class: names, types and help are those of its fields and its docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, get_args, get_type_hints

import typer

__all__ = ["with_options_of"]


def with_options_of(settings: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each field of a dataclass; they come in its `**` argument, None where left out."""

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
        kind = next((kind for kind in (int, float) if kind in (hint, *get_args(hint))), str)
        annotation = Annotated[kind | None, typer.Option(help=texts.get(entry.name))]  # type: ignore[valid-type]
        options.append(
            inspect.Parameter(entry.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        )
    return options


def _texts(settings: type) -> dict[str, str]:
    """What the docstring of a class says about each attribute; nothing where Python was told to drop docstrings."""
    _, _, section = (inspect.getdoc(settings) or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section.partition("\n\n")[0], re.MULTILINE)
    return {name: text[0].upper() + " ".join(text[1:].split()) for name, text in found}
