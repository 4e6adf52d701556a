"""`fasthash bench`: measures the speed of the indices on given codes, and of other installed libraries."""

from __future__ import annotations

from fasthash.bench.libraries import LIBRARIES
from fasthash.bench.measure import run_bench
from fasthash.bench.page import check_drawing, draw, markdown, text_table

__all__ = ["LIBRARIES", "check_drawing", "draw", "markdown", "run_bench", "text_table"]
