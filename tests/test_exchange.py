"""Arrays of other libraries go in, and results go out, without a copy."""

import array
import ctypes
import mmap

import numpy as np
import pytest

import fasthash as fh
from fasthash._arrays import as_array
from fasthash._checks import check_codes, check_ids

CODES = np.random.default_rng(0).integers(0, 256, (40, 8), dtype=np.uint8)
IDS = np.arange(40) * 3 - 8


class OnlyDLPack:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, held):
        self.held = held

    def __dlpack__(self, **options):
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.held.__dlpack_device__()


class OnGpu(OnlyDLPack):
    def __dlpack__(self, **options):
        raise BufferError("the memory is not on the CPU")


def tensor(held):
    return pytest.importorskip("torch", reason="needs the extra train").from_numpy(held)


def c_array(held):
    kind = (ctypes.c_uint8 if held.dtype == np.uint8 else ctypes.c_int64) * held.shape[-1]
    return (kind if held.ndim == 1 else kind * len(held)).from_buffer(held)


def mapped(held):
    file = mmap.mmap(-1, held.nbytes)
    file.write(held.tobytes())
    return memoryview(file).cast("B").cast("B" if held.dtype == np.uint8 else "q", held.shape)


FORMS = [tensor, memoryview, c_array, mapped, OnlyDLPack]


def memory(form):
    """The memory that a form shows, as numpy sees it."""
    return np.asarray(form.held if isinstance(form, OnlyDLPack) else form)


@pytest.mark.parametrize("make", FORMS)
def test_what_comes_in_is_not_copied(make):
    codes, ids = make(CODES.copy()), make(IDS.copy())
    for checked, form, values in [
        (check_codes("codes", codes, 64), codes, CODES),
        (check_ids(ids, 40), ids, IDS),
        (as_array("bits", codes), codes, CODES),
    ]:
        assert np.shares_memory(checked, memory(form))
        np.testing.assert_array_equal(checked, values)


@pytest.mark.parametrize("make", FORMS)
@pytest.mark.parametrize("index", [fh.FlatIndex(64), fh.HierIndex()], ids=["flat", "hier"])
def test_indices_take_them(make, index):
    filled = type(index).from_arrays(make(CODES.copy()), make(IDS.copy()))
    expected = type(index).from_arrays(CODES, IDS)
    queries = make(CODES[::2].copy())
    few = make(IDS[3:9].copy())
    for found, wanted in [
        (filled.search(queries, 3), expected.search(CODES[::2], 3)),
        (filled.search(queries, 3, allow=few), expected.search(CODES[::2], 3, allow=IDS[3:9])),
        (filled.range_search(queries, 24), expected.range_search(CODES[::2], 24)),
        ((filled.reconstruct(few),), (CODES[3:9],)),
    ]:
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(a, b)
    filled.remove(few)
    assert len(filled) == 34


def test_bytes_of_read_only_memory():
    view = memoryview(CODES.tobytes()).cast("B", CODES.shape)
    assert view.readonly
    assert np.shares_memory(check_codes("codes", view, 64), np.asarray(view))
    assert len(fh.FlatIndex.from_arrays(view)) == 40


def test_ids_of_an_array_of_python():
    ids = array.array("q", IDS.tolist())
    assert np.shares_memory(check_ids(ids), np.asarray(ids))
    assert len(fh.IdFilter(ids)) == 40


def test_bits_and_real_outputs_of_tensors():
    torch = pytest.importorskip("torch", reason="needs the extra train")
    bits = torch.from_numpy(fh.unpack_bits(CODES))
    np.testing.assert_array_equal(fh.pack_bits(bits), CODES)
    np.testing.assert_array_equal(fh.sign_codes(bits - 0.5), CODES)
    np.testing.assert_array_equal(fh.unpack_bits(OnlyDLPack(CODES)), bits)


@pytest.mark.parametrize("make", [tensor, c_array, OnlyDLPack])
def test_no_rows_keep_their_type(make):
    assert check_codes("codes", make(CODES[:0].copy()), 64).shape == (0, 8)
    assert check_ids(make(IDS[:0].copy()), 0).shape == (0,)
    assert fh.FlatIndex.from_arrays(CODES).search(make(CODES[:0].copy()), 3).ids.shape == (0, 3)
    with pytest.raises(ValueError, match=r"ids must have shape \(0,\)"):
        check_ids(make(CODES[:0].copy()), 0)


def test_memory_that_numpy_cannot_read():
    index = fh.FlatIndex.from_arrays(CODES)
    with pytest.raises(TypeError, match="queries must be an array that numpy can read: the memory is not on the CPU"):
        index.search(OnGpu(CODES), 3)
    torch = pytest.importorskip("torch", reason="needs the extra train")
    with pytest.raises(TypeError, match=r"z must be an array that numpy can read: .*requires grad"):
        fh.sign_codes(torch.zeros(2, 8, requires_grad=True))
    with pytest.raises(TypeError, match=r"codes must be an array that numpy can read: .*meta"):
        index.add(torch.zeros(2, 8, dtype=torch.uint8, device="meta"))


def test_results_go_out_as_tensors_without_a_copy():
    torch = pytest.importorskip("torch", reason="needs the extra train")
    index = fh.HierIndex.from_arrays(CODES, IDS)
    for array_ in (*index.search(CODES, 3), *index.range_search(CODES, 20), *index.to_arrays(), index.reconstruct(IDS)):
        shared = torch.from_dlpack(array_)
        assert shared.data_ptr() == array_.ctypes.data
        np.testing.assert_array_equal(shared.numpy(), array_)
