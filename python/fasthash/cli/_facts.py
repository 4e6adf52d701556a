"""Facts of an index file, a store, or a folder of saved shards, as `build` and `info` print them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fasthash import peek
from fasthash.cli import stores

__all__ = ["facts_of", "facts_of_saved_shards"]


def facts_of(file: Path) -> dict[str, Any]:
    """Header of an index file, or size and settings of a store, ready for JSON.

    Raises:
        FormatError: it is damaged.
        OSError: it cannot be read.
    """
    if stores.is_store(file):
        return stores.facts_of(file)
    header = peek(file)
    return {
        "kind": header.kind,
        "codes": header.n_codes,
        "bits": header.n_bits,
        "levels": list(header.level_bits),
        "metric": header.metric,
        "memory": header.memory,
        "ids": "stored" if header.has_ids else "counted",
        "clusters": header.n_clusters,
        "id_map": header.has_id_map,
        "format": header.format_version,
        "file_bytes": header.file_bytes,
        "file_bytes_per_code": header.file_bytes / header.n_codes if header.n_codes else None,
    }


def facts_of_saved_shards(folder: Path) -> dict[str, Any]:
    """Sum up the files of a folder of shards, with the keys of `facts_of`: after a save it holds no other shards."""
    shards = [facts_of(file) for file in sorted(folder.glob("shard-*.fh"))]
    n, n_bytes = (sum(shard[name] for shard in shards) for name in ("codes", "file_bytes"))
    counted = {
        "codes": n,
        "shards": len(shards),
        "file_bytes": n_bytes,
        "file_bytes_per_code": n_bytes / n if n else None,
    }
    return shards[0] | {"kind": "sharded"} | counted
