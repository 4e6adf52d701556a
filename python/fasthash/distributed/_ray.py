"""Ray itself: imported with a clear error if it is missing, and started where nobody has."""

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

_INLINE = 1 << 16  # bytes up to which an array goes along with each call


def start(address: str | None = None) -> None:
    """Join a Ray cluster, unless this process is in one already.

    Args:
        address: `"host:port"` or `"auto"`, as in `ray.init`. None takes the environment variable RAY_ADDRESS, or else
            starts a Ray of this machine's own, which ends with the process.

    Raises:
        ConnectionError: no cluster answers at the address.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    alone = address is None and not os.environ.get("RAY_ADDRESS")
    # "local": without it Ray would join whatever cluster was started on this machine last
    options = {"address": "local", "include_dashboard": False} if alone else {"address": address}
    ray.init(log_to_driver=False, logging_level="warning", **options)


def shared(array: Any) -> Any:
    """An array as Ray passes it to several actors: a large one is sent to each node once."""
    return ray.put(array) if isinstance(array, np.ndarray) and array.nbytes > _INLINE else array
