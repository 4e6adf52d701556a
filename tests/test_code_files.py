"""Codes in the files of other makers."""

import io

import numpy as np
import pytest

from fasthash.code_files import read_codes

CODES = np.array([[0, 255, 16], [1, 2, 171], [7, 7, 7]], dtype=np.uint8)
TEXT = b"00FF10\n# a comment\n\n0102ab\r\n  070707\n"


def write(folder, form):
    path = folder / f"codes.{form}"
    if form == "npy":
        np.save(path, CODES)
    elif form == "npz":
        np.savez(path, codes=CODES, other=CODES[:1])
    else:
        path.write_bytes(TEXT if form == "hex" else CODES.tobytes())
    return path


@pytest.mark.parametrize("form", ["npy", "npz", "hex", "raw"])
def test_every_format_holds_the_same_codes(tmp_path, form):
    path = write(tmp_path, form)
    bits = 24 if form == "raw" else None
    for found in (read_codes(path, n_bits=bits), read_codes(io.BytesIO(path.read_bytes()), form, bits)):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, CODES)
    other = path.with_suffix(".dat")
    path.rename(other)
    np.testing.assert_array_equal(read_codes(other, form, 24), CODES)
    with pytest.raises(ValueError, match=r"codes.dat does not tell what it holds; name one of npy, npz, hex, raw"):
        read_codes(other)


@pytest.mark.parametrize("form", ["npy", "raw"])
def test_big_arrays_stay_in_their_file(tmp_path, form):
    found = read_codes(write(tmp_path, form), n_bits=24)
    while found.base is not None and not isinstance(found, np.memmap):
        found = found.base
    assert isinstance(found, np.memmap)


def test_hexadecimal_text_is_what_python_reads_line_by_line():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (70_000, 8), dtype=np.uint8)  # more lines than are read at once
    text = "\n".join(code.tobytes().hex() for code in codes).encode()
    read = []
    found = read_codes(io.BytesIO(text), watch=read.append)
    np.testing.assert_array_equal(found, [list(bytes.fromhex(line.decode())) for line in text.splitlines()])
    assert len(read) == 2
    assert sum(read) == len(text)


def test_another_array_of_an_archive(tmp_path):
    np.testing.assert_array_equal(read_codes(write(tmp_path, "npz"), array="other"), CODES[:1])
    with pytest.raises(
        ValueError, match=r"codes.npz is no .npz file of codes: it has no array 'x' but 'codes', 'other'"
    ):
        read_codes(write(tmp_path, "npz"), array="x")


def test_no_codes_of_a_known_width(tmp_path):
    np.save(tmp_path / "none.npy", CODES[:0])
    (tmp_path / "none.bin").write_bytes(b"")
    (tmp_path / "none.txt").write_bytes(b"# nothing\n")
    for name in ("none.npy", "none.bin", "none.txt"):
        assert read_codes(tmp_path / name, n_bits=24).shape == (0, 3)
    with pytest.raises(ValueError, match=r"none.txt holds no codes, which leaves open how wide they are"):
        read_codes(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"00ff\n00f\n", "line 2: expected 4 hexadecimal digits, got '00f'"),
        (b"#\n00ff\n\n00fg\n", "line 4: expected 4 hexadecimal digits, got '00fg'"),
        (b"00ff\n00 ff0\n", "line 2: expected 4 hexadecimal digits, got '00 ff0'"),
        (b"00ff\n0 ff\n0ffa\n", "line 2: expected 4 hexadecimal digits, got '0 ff'"),
        (b"0xff\n", "line 1: expected 4 hexadecimal digits, got '0xff'"),
        (b"00f\n", "line 1: expected 4 hexadecimal digits, got '00f'"),
        (b"00ff\n\xff\xfe00\n", "line 2: expected 4 hexadecimal digits"),
        (b"0" * 2000, "begins with a line of 2000 digits; codes have at most 4096 bits"),
    ],
)
def test_wrong_text_is_named_by_its_line(text, message):
    with pytest.raises(ValueError, match=f"^standard input.* ?{message}"):
        read_codes(io.BytesIO(text))


@pytest.mark.parametrize("form", ["npy", "npz", "hex", "raw"])
def test_a_width_that_is_not_that_of_the_codes(tmp_path, form):
    with pytest.raises(ValueError, match=r"codes\.(npy|npz|hex|raw)"):
        read_codes(write(tmp_path, form), n_bits=16)
    with pytest.raises(ValueError, match="bits must be a multiple of 8, got 12"):
        read_codes(write(tmp_path, form), n_bits=12)


def test_raw_bytes_need_a_width(tmp_path):
    with pytest.raises(ValueError, match=r"give the bits of a code in .*codes.raw"):
        read_codes(write(tmp_path, "raw"))


def test_what_is_no_array_of_codes(tmp_path):
    path = tmp_path / "codes.npy"
    np.save(path, CODES.astype(np.int64))
    with pytest.raises(TypeError, match=r"codes.npy must be a uint8 array of packed bits, got dtype int64"):
        read_codes(path)
    np.save(path, CODES[0])
    with pytest.raises(ValueError, match=r"codes.npy must have shape \(n, n_bytes\)"):
        read_codes(path)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"codes.npy is no .npy file of codes"):
        read_codes(path)
    for content in (b"", b"something", b"PK\x03\x04 not really"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"codes.npy is no .npy file of codes"):
            read_codes(path)
        with pytest.raises(ValueError, match=r"codes.npy is no .npz file of codes"):
            read_codes(path, "npz")
    with pytest.raises(ValueError, match="format must be one of"):
        read_codes(path, "csv")
    with pytest.raises(OSError, match="missing"):
        read_codes(tmp_path / "missing.npy")
