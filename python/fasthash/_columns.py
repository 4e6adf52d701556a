"""Codes in a column of a table (pandas, polars, Arrow), which numpy reads as an array of objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["codes_of_cells"]


def codes_of_cells(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Return the codes `(n, n_bytes)` of a column whose cells are bytes or uint8 arrays; any other array unchanged.

    Raises:
        ValueError: some cells are such, but not all, or they have several lengths.
    """
    if array.dtype != object or array.ndim != 1 or not len(array):
        return array
    cells = [_cell(cell) for cell in array]
    known = next((cell for cell in cells if cell is not None), None)
    if known is None:
        return array
    wrong = next((i for i, cell in enumerate(cells) if cell is None or len(cell) != len(known)), None)
    if wrong is not None:
        cell = cells[wrong]
        held = repr(array[wrong])[:60] if cell is None else f"{len(cell)} bytes"
        raise ValueError(f"{name} must hold a code of {len(known)} bytes in each row, got {held} in row {wrong}")
    return np.stack([cell for cell in cells if cell is not None])


def _cell(cell: Any) -> NDArray[np.uint8] | None:
    if isinstance(cell, bytes):
        return np.frombuffer(cell, np.uint8)
    if isinstance(cell, np.ndarray) and cell.dtype == np.uint8 and cell.ndim == 1:
        return cell
    return None
