"""Import of Ray with a clear error if it is missing, and start of a cluster if none is running."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fasthash._extras import needs_extra

with needs_extra("ray"):
    import ray
    import ray.exceptions
    import ray.util.scheduling_strategies

__all__ = ["ray", "shared", "start"]

_INLINE = 1 << 16  # largest array in bytes that is sent with each call


def start(address: str | None = None) -> None:
    """Join a Ray cluster, unless this process has joined one.

    Args:
        address: `"host:port"` or `"auto"`, as in `ray.init`. None takes the environment variable RAY_ADDRESS; if it is
            not set, starts a local cluster that ends with the process.

    Raises:
        ConnectionError: no cluster answers at the address, or Ray does not start.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    alone = address is None and not os.environ.get("RAY_ADDRESS")
    # Without "local", Ray would join the latest cluster on this machine.
    options = {"address": "local", "include_dashboard": False} if alone else {"address": address}
    try:
        ray.init(log_to_driver=False, logging_level="warning", **options)
    except (ConnectionError, TypeError, ValueError):
        raise
    except Exception as error:  # Ray has no class for it
        raise ConnectionError(f"Ray does not start: {' '.join(str(error).split())}") from error


def shared(array: Any) -> Any:
    """Prepare an array for calls to several actors: Ray sends a large array only once to each node."""
    return ray.put(array) if isinstance(array, np.ndarray) and array.nbytes > _INLINE else array
