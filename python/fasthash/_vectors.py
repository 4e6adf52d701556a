"""Storage of the vectors of an index: rows in a mapped file and in memory, and the file that stores them.

Called by `RescoringIndex`. `Rows` are immutable: adding vectors makes new `Rows` that share the memory of the old ones.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._core import FormatError
from fasthash._npy import read_header

__all__ = ["BLOCK", "Rows", "open_vectors"]

BLOCK = 1 << 20  # numbers decoded at a time, so that they stay in the cache


class Rows:
    """Immutable rows of numbers: first the rows of a mapped file, then those of a buffer with spare capacity.

    `plus` shares the buffer with the old rows and writes behind them. So only the newest `Rows` of a buffer may grow.
    """

    def __init__(self, mapped: NDArray[Any], buffer: NDArray[Any], n_buffered: int) -> None:
        self.mapped, self.buffer, self.n_buffered = mapped, buffer, n_buffered

    @classmethod
    def of(cls, array: NDArray[Any]) -> Rows:
        return cls(array[:0], array, len(array))

    @classmethod
    def mapping(cls, array: NDArray[Any]) -> Rows:
        return cls(array, np.empty((0, array.shape[1]), array.dtype), 0)

    @property
    def n(self) -> int:
        return len(self.mapped) + self.n_buffered

    @property
    def nbytes(self) -> int:
        return self.buffer.nbytes

    def full(self) -> Rows:
        """Return the same rows without spare capacity, so that `plus` allocates a new buffer."""
        return Rows(self.mapped, self.buffer[: self.n_buffered], self.n_buffered)

    def plus(self, array: NDArray[Any]) -> Rows:
        end = self.n_buffered + len(array)
        buffer = self.buffer
        if end > len(buffer):
            buffer = np.empty((max(end, len(buffer) * 3 // 2), array.shape[1]), buffer.dtype)
            buffer[: self.n_buffered] = self.buffer[: self.n_buffered]
        buffer[self.n_buffered : end] = array
        return Rows(self.mapped, buffer, end)

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        n = len(self.mapped)
        if self.n_buffered == 0 or n == 0:
            return (self.buffer if n == 0 else self.mapped)[places]
        taken = np.empty((*places.shape, self.buffer.shape[1]), self.buffer.dtype)
        in_file = places < n
        taken[in_file] = self.mapped[places[in_file]]
        taken[~in_file] = self.buffer[places[~in_file] - n]
        return taken

    def write(self, path: Path, places: NDArray[np.int64]) -> None:
        """Write some rows in the format of `numpy.save`, in blocks.

        Args:
            path: file to write.
            places: int64 `(n,)`, numbers of the rows, in the order of the file.
        """
        n_dims, dtype = self.buffer.shape[1], self.buffer.dtype
        header = {
            "shape": (len(places), n_dims),
            "fortran_order": False,
            "descr": np.lib.format.dtype_to_descr(dtype),
        }
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            step = max(1, BLOCK // n_dims)
            for i in range(0, len(places), step):
                file.write(self.take(places[i : i + step]).data)


def open_vectors(path: Path, shape: tuple[int, int], dtype: str, mmap: bool) -> Rows:
    """Open the rows of a file that `Rows.write` wrote.

    Args:
        path: the file.
        shape: expected shape; checked against the header and the size of the file before memory is allocated.
        dtype: expected dtype.
        mmap: map the rows instead of reading them.

    Raises:
        FormatError: the file has another shape, dtype or size.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            header = read_header(file)
        except FormatError as error:
            raise FormatError(f"{path} is no file of vectors: {error}") from error
        n_bytes = os.fstat(file.fileno()).st_size - file.tell()
        if header != (np.dtype(dtype), shape) or n_bytes != shape[0] * shape[1] * header[0].itemsize:
            raise FormatError(
                f"{path} holds {header[0]} of shape {header[1]} in {n_bytes} bytes, expected {dtype} of shape {shape}"
            )
        if mmap and shape[0]:
            return Rows.mapping(np.asarray(np.memmap(file, dtype, "r", file.tell(), shape)))
        return Rows.of(np.fromfile(file, dtype, shape[0] * shape[1]).reshape(shape))
