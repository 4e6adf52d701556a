"""The two forms that some losses have."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from fasthash._checks import check_choice

__all__ = ["Variant", "check_variant"]

Variant: TypeAlias = Literal["original", "hhnet"]
"""The form of the paper that introduced a loss, or that of the code of HHNet (arXiv 2403.13747)."""


def check_variant(variant: str) -> bool:
    """Whether the variant is HHNet's; refuses unknown ones."""
    check_choice("variant", variant, get_args(Variant))
    return variant == "hhnet"
