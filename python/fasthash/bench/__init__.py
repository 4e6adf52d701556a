"""`fasthash bench`: the speed of the indices on given codes, beside other libraries that are installed."""

from __future__ import annotations

from fasthash.bench.libraries import LIBRARIES
from fasthash.bench.measure import run_bench
from fasthash.bench.page import draw, markdown, text_table

__all__ = ["LIBRARIES", "draw", "markdown", "run_bench", "text_table"]
