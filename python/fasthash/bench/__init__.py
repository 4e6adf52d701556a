"""`fasthash bench`: the speed of the indices on given codes, beside other libraries that are installed."""

from __future__ import annotations

from fasthash.bench.measure import run_bench
from fasthash.bench.page import draw, markdown, text_table
from fasthash.bench.rivals import RIVALS

__all__ = ["RIVALS", "draw", "markdown", "run_bench", "text_table"]
