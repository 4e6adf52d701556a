"""Clear errors for optional dependencies: `import fasthash` needs only numpy; extras add the rest."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from fasthash._shown import command

__all__ = ["MissingExtraError", "needs_extra", "pip_install"]


class MissingExtraError(ImportError):
    """A module of fasthash needs packages that are not installed; the message names the extra to install."""


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Wrap the optional imports of a module, so that a missing package names the extra to install.

    Args:
        extra: name of the extra of the distribution `fasthash-search`, e.g. `"train"`.

    Raises:
        MissingExtraError: an import inside the block failed because the package is not installed.

    Examples:
        >>> with needs_extra("train"):
        ...     import torch
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # A missing module of fasthash itself is a bug, not a missing extra.
        package = (error.name or "").split(".")[0]
        if package == "fasthash":
            raise
        raise MissingExtraError(
            f"this part of fasthash needs the package {package!r}; "
            f"install it with: {pip_install(f'fasthash-search[{extra}]')}"
        ) from error


def pip_install(package: str) -> str:
    """The command that installs a package into the running environment."""
    return f"{command('pip')} install {shlex.quote(package)}"
