# Types of the compiled GPU module, which some installations lack; a test compares them with the module if present.
import numpy as np
from numpy.typing import NDArray

from fasthash._core import IdFilter

class ArgumentError(ValueError): ...
class DeviceError(RuntimeError): ...
class OutOfMemory(MemoryError): ...  # noqa: N818

def n_devices() -> int: ...
def device_name(device: int) -> str: ...
def free_bytes(device: int) -> int: ...

class AllowedIds: ...

# Methods with `_on_gpu` in their name take addresses in GPU memory for queries and results.
class Gallery:
    def __init__(
        self,
        device: int,
        codes: NDArray[np.uint8],
        ids: NDArray[np.int64] | None,
        first_id: int,
        level_bits: list[int],
        tree: bool,
        room: int,
    ) -> None: ...
    def nbytes(self) -> int: ...
    def streamed(self) -> bool: ...
    def allowed(self, filter: IdFilter) -> AllowedIds: ...
    def search(
        self, queries: NDArray[np.uint8], k: int, allow: AllowedIds | None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]: ...
    def search_on_gpu(
        self, queries: int, n: int, k: int, allow: AllowedIds | None, distances: int, ids: int, stream: int
    ) -> None: ...
    def search_pruned(
        self, queries: NDArray[np.uint8], k: int, keep: float, keep_mode: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]: ...
    def search_pruned_on_gpu(
        self, queries: int, n: int, k: int, keep: float, keep_mode: int, distances: int, ids: int, stream: int
    ) -> NDArray[np.bool_]: ...
    def count_within(self, queries: NDArray[np.uint8], radius: int, allow: AllowedIds | None) -> NDArray[np.int64]: ...
    def count_within_on_gpu(
        self, queries: int, n: int, radius: int, allow: AllowedIds | None, stream: int
    ) -> NDArray[np.int64]: ...
    def range_search(
        self, queries: NDArray[np.uint8], radius: int, allow: AllowedIds | None, offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]: ...
    def range_search_on_gpu(
        self,
        queries: int,
        n: int,
        radius: int,
        allow: AllowedIds | None,
        offsets: NDArray[np.int64],
        distances: int,
        ids: int,
        stream: int,
    ) -> None: ...
