"""The two variants of some losses: that of the paper and that of HHNet's code."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from fasthash._checks import check_choice

__all__ = ["Variant", "check_variant"]

Variant: TypeAlias = Literal["original", "hhnet"]
"""`"original"`, the form in the paper of a loss; or `"hhnet"`, the form in HHNet's code (arXiv 2403.13747)."""


def check_variant(variant: str) -> bool:
    """Return whether the variant is HHNet's; raise ValueError for an unknown variant."""
    check_choice("variant", variant, get_args(Variant))
    return variant == "hhnet"
