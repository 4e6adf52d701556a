"""Codes in the files of other makers."""

import base64
import errno
import io
import os
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from fasthash.code_files import keys_of_archive, read_codes, save_fps

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
    with pytest.raises(
        ValueError, match=r"codes.dat does not tell what it holds; name one of npy, npz, hex, bits, decimal, base64,"
    ):
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


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "codes.npy", CODES)
    os.rename(tmp_path / "codes.npy", tmp_path / "codes.npz")
    for read in (read_codes, keys_of_archive):
        with pytest.raises(ValueError, match=r"codes.npz is no .npz file .*: it holds a single array"):
            read(tmp_path / "codes.npz")


def test_no_codes_of_a_known_width(tmp_path):
    np.save(tmp_path / "words.npy", np.zeros(0, np.uint64))
    assert read_codes(tmp_path / "words.npy").shape == (0, 8)
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
        (b"00f\n", "line 1: expected two hexadecimal digits for each byte, got '00f'"),
        (b"00f\n00ff\n", "line 1: expected 4 hexadecimal digits, got '00f'"),
        (b"00ff\n" + 3 * b"0123456789abcdef\n", "line 1: expected 16 hexadecimal digits, got '00ff'"),
        (b"00ff photo.jpg\n", "got '00ff photo.jpg'; a column of several is read with format='csv' or 'tsv'"),
        (b"ABEiM0RVZnc=\n", "got 'ABEiM0RVZnc='; base64 is read as 'base64'"),
        (b"00ff\n-123\n", "line 2: expected 4 hexadecimal digits, got '-123'; decimal numbers are read as 'decimal'"),
        (b"00ff\n\xff\xfe00\n", "line 2: expected 4 hexadecimal digits"),
        (b"0" * 2000, "line 1: codes have at most 4096 bits, got 2000 hexadecimal digits"),
    ],
)
def test_wrong_text_is_named_by_its_line(text, message):
    with pytest.raises(ValueError, match=f"^standard input.* ?{message}"):
        read_codes(io.BytesIO(text))


@pytest.mark.parametrize("form", ["npy", "npz", "hex", "raw"])
def test_a_width_that_is_not_that_of_the_codes(tmp_path, form):
    with pytest.raises(ValueError, match=r"codes\.(npy|npz|hex|raw)"):
        read_codes(write(tmp_path, form), n_bits=16)
    with pytest.raises(ValueError, match="bits must be at least 1, got 0"):
        read_codes(write(tmp_path, form), n_bits=0)


def test_raw_bytes_need_a_width(tmp_path):
    with pytest.raises(ValueError, match=r"codes.raw holds raw bytes, which .*: give the bits of a code"):
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
    for source in (path, io.BytesIO(path.read_bytes())):
        with pytest.raises(ValueError, match=r"(codes.npy|standard input) holds Python objects, not numbers"):
            read_codes(source, "npy")
    for content in (b"", b"something", b"PK\x03\x04 not really"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"codes.npy is no .npy file"):
            read_codes(path)
        with pytest.raises(ValueError, match=r"codes.npy is no .npz file of codes"):
            read_codes(path, "npz")
    with pytest.raises(ValueError, match="format must be one of"):
        read_codes(path, "xml")
    for name in ("missing.npy", "missing"):
        with pytest.raises(FileNotFoundError, match=name):
            read_codes(tmp_path / name)
    with pytest.raises(IsADirectoryError, match=r"is a folder, not a file of codes"):
        read_codes(tmp_path)


# ---- other notations ----

WIDE = np.array([[255, 0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0, 0, 9], [128, 0, 0, 0, 0, 0, 0, 0]], np.uint8)
NUMBERS = [int.from_bytes(code.tobytes(), "big") for code in WIDE]
NOTATIONS = {
    "hex": [code.tobytes().hex() for code in WIDE],
    "bits": [f"{number:064b}" for number in NUMBERS],
    "decimal": [str(number) for number in NUMBERS],
    "base64": [base64.b64encode(code.tobytes()).decode() for code in WIDE],
}


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_notation_in_lines_and_tables(tmp_path, notation, end, mark):
    texts = NOTATIONS[notation]
    lines = mark + end.join(["# a comment", *texts, ""]).encode()
    np.testing.assert_array_equal(read_codes(io.BytesIO(lines), notation, 64), WIDE)
    for form, between in (("csv", ","), ("tsv", "\t")):
        rows = [f'{between}"{text}"{between}ein, Bild.jpg' for text in texts]
        path = tmp_path / f"table.{form}"
        quoted = [row.replace("ein, Bild.jpg", '"ein, Bild.jpg"') for row in rows]
        path.write_bytes(mark + end.join([f"id{between}phash{between}path", *quoted, ""]).encode())
        np.testing.assert_array_equal(read_codes(path, n_bits=64, column="phash", notation=notation), WIDE)
        path.write_bytes(mark + end.join(quoted).encode())
        np.testing.assert_array_equal(read_codes(path, n_bits=64, column=1, notation=notation), WIDE)
        path.write_bytes(mark + end.join(texts).encode())
        np.testing.assert_array_equal(read_codes(path, n_bits=64, notation=notation), WIDE)


@pytest.mark.parametrize(
    ("notation", "texts"),
    [
        ("hex", ["0xff00010203040506", "0X0000000000000009", "\\x8000000000000000"]),
        ("decimal", [str(number - 2**64 if number >= 2**63 else number) for number in NUMBERS]),
        ("base64", [base64.urlsafe_b64encode(code.tobytes()).decode().rstrip("=") for code in WIDE]),
        ("bits", ["0b" + text for text in NOTATIONS["bits"]]),
    ],
)
def test_codes_as_databases_and_programs_print_them(notation, texts):
    """0x of C, bytea of Postgres, BIGINT, base64 of addresses."""
    np.testing.assert_array_equal(read_codes(io.BytesIO("\n".join(texts).encode()), notation, 64), WIDE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0101" * 16, "but they look like bits, one a digit, got '0101"),
        (
            "12345678901234567890\n09876543210987654321",
            "but they look like decimal numbers, got '12345678901234567890'",
        ),
        ("12345678901234567890", "give format='decimal', n_bits=64 .or as many as a code has., or format='hex'"),
        ("\n".join(["1234567890123456"] * 2 + ["6543210987654321", "2222222222222222"]), "look like decimal numbers"),
    ],
)
def test_digits_that_look_like_something_else_are_not_guessed(tmp_path, text, message):
    (tmp_path / "hashes.txt").write_text(text)
    for source in (tmp_path / "hashes.txt", io.BytesIO(text.encode())):
        with pytest.raises(ValueError, match=message):
            read_codes(source)
    assert read_codes(tmp_path / "hashes.txt", "hex").shape[1] == len(text.split()[0]) // 2
    (tmp_path / "hashes.csv").write_text(f"phash\n{text}\n")
    with pytest.raises(ValueError, match=r"hashes.csv, column 'phash' must be hexadecimal digits, .*give notation="):
        read_codes(tmp_path / "hashes.csv", column="phash")


def test_hexadecimal_codes_without_letters_are_no_numbers():
    for text in ("0" * 64, "0000000000000001\n0000000000000000", "1234567890123456", "8" + "0" * 63):
        assert len(read_codes(io.BytesIO(text.encode()))) == len(text.split())


def test_utf_16_is_named(tmp_path):
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        for name in ("hashes.txt", "hashes.csv", "hashes.fps"):
            (tmp_path / name).write_bytes("00ff\n".encode(encoding))
            with pytest.raises(ValueError, match=rf"{name} must be UTF-8 text, but is UTF-16; iconv"):
                read_codes(tmp_path / name)


def test_binary_files_are_not_called_text(tmp_path):
    np.save(tmp_path / "codes.npy", np.zeros((3, 8), np.uint8))
    np.savez(tmp_path / "codes.npz", codes=np.zeros((3, 8), np.uint8))
    for form in ("npy", "npz"):
        with pytest.raises(ValueError, match=f"{form} must be UTF-8 text, but is binary; the format '{form}' reads"):
            read_codes(tmp_path / f"codes.{form}", "hex")
    for content in (b"\0" * 20, b"ab\0\0cd\n", b"\x7fELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0>\0"):
        with pytest.raises(ValueError, match=r"^standard input must be UTF-8 text, but is binary$"):
            read_codes(io.BytesIO(content))


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        (
            {"column": "phash"},
            "id,phash\n1,00ff\n2,00fg\n",
            "line 3, column 'phash': expected 4 hexadecimal digits, got",
        ),
        ({"column": 1}, "1,00ff\n2,0\n", "line 2, column 1: expected 4 hexadecimal digits, got '0'"),
        ({"column": "phash"}, "id,phash\n1,00ff\n2\n", "line 3, column 'phash': there are only 1 columns"),
        ({"column": "phash"}, 'id,phash\n"a\nb",00ff\n2,x\n', "line 4, column 'phash'"),
        ({"column": "hash"}, "id,phash\n1,00ff\n", "column must be one of .*, which has no 'hash' but 'id', 'phash'"),
        ({"column": "a"}, "a,a\n00,00\n", "column must be one of .*, which has more than one 'a' but"),
        ({}, "id,phash\n1,00ff\n", "has 2 columns, 'id', 'phash'; name one with column="),
        ({"column": 2}, "1,00ff\n", "column must be a number from 0 to 1 for .*, got 2"),
        ({}, "phash\n00ff\n", "line 1, column 0: expected 4 hexadecimal digits, got 'phash'"),
        ({}, "", "holds no codes"),
    ],
)
def test_wrong_tables_are_named_by_line_and_column(tmp_path, options, text, message):
    (tmp_path / "hashes.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_codes(tmp_path / "hashes.csv", **options)


@pytest.mark.parametrize("form", ["csv", "tsv"])
def test_quotes_that_are_not_closed_are_errors(tmp_path, form):
    end = "," if form == "csv" else "\t"
    path = tmp_path / f"hashes.{form}"
    rows = [("phash", "name"), ("00" * 8, "x"), ("01" * 8, '"a'), ("02" * 8, "b"), ("03" * 8, "c")]
    path.write_text("".join(end.join(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=rf"hashes.{form}, line 3: unexpected end of data; a field that begins with"):
        read_codes(path, column="phash")
    rows[4] = ("03" * 8, '"c')
    path.write_text("".join(end.join(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=rf"hashes.{form}, line 3: .* expected after"):
        read_codes(path, column="phash")
    rows[2:] = [("01" * 8, '"two ""lines""\n"'), ('"' + "02" * 8 + '"', 'an inch is 1"')]
    path.write_text("".join(end.join(row) + "\n" for row in rows))
    assert read_codes(path, column="phash")[:, 0].tolist() == [0, 1, 2]


def test_what_is_no_source():
    with pytest.raises(TypeError, match=r"source must be a path or a stream of bytes, got b'q\.tsv'"):
        read_codes(b"q.tsv", column="phash")
    with pytest.raises(TypeError, match="source must be a stream of bytes, as open"):
        read_codes(io.StringIO("00"))
    for path in ("a\0.txt", Path("a\0.txt")):
        with pytest.raises(ValueError, match="source must not contain a null byte, got"):
            read_codes(path)


def test_options_of_other_formats_are_refused(tmp_path):
    path = write(tmp_path, "hex")
    with pytest.raises(ValueError, match="column must be left out for the format 'hex', which has no columns, got 'a'"):
        read_codes(path, column="a")
    with pytest.raises(ValueError, match="notation must be left out for the format 'hex', got 'bits'"):
        read_codes(path, notation="bits")
    with pytest.raises(ValueError, match="notation must be one of 'hex', 'bits', 'decimal', 'base64', got 'octal'"):
        read_codes(path, "csv", notation="octal")
    for column in (1.5, True):
        with pytest.raises(TypeError, match="column must be a name or a number from 0, got"):
            read_codes(io.BytesIO(b"00,11\n"), "csv", column=column)
    with pytest.raises(ValueError, match="line 1: decimal numbers do not tell how wide codes are"):
        read_codes(io.BytesIO(b"17\n"), "decimal")
    with pytest.raises(ValueError, match="line 2: expected a whole number of 8 bits, got '256'"):
        read_codes(io.BytesIO(b"17\n256\n"), "decimal", 8)


def test_fingerprints_of_chemfp(tmp_path):
    path = tmp_path / "molecules.fps"
    head = "#FPS1\n#num_bits=20\n#type=RDKit-MACCS166/2\n"
    path.write_text(head + "ff0001\tCHEMBL1\n0203aB\tCHEMBL2\tmore\n")
    np.testing.assert_array_equal(read_codes(path), [[255, 0, 1], [2, 3, 171]])
    path.write_text(head + "ff0001\tCHEMBL1\n0203\tCHEMBL2\n")
    with pytest.raises(ValueError, match=r"molecules.fps, line 5: expected 6 hexadecimal digits, got '0203'"):
        read_codes(path)
    path.write_text(head)
    assert read_codes(path).shape == (0, 3)
    with pytest.raises(ValueError, match=r"molecules.fps holds codes of 20 bits, expected 64"):
        read_codes(path, n_bits=64)
    path.write_text("#num_bits=24\nff0001\tCHEMBL1\n")
    with pytest.raises(ValueError, match=r"molecules.fps must begin with #FPS1"):
        read_codes(path)


@pytest.mark.parametrize("n_bits", [8, 20, 64, 166, 2048, 4096])
def test_fingerprints_are_written_as_they_are_read(tmp_path, n_bits):
    path, n_bytes = tmp_path / "written.fps", -(-n_bits // 8)
    bits = np.random.default_rng(n_bits).random((70, n_bits)) < 0.3
    codes = np.packbits(bits, axis=1)
    save_fps(path, codes, n_bits=n_bits)
    np.testing.assert_array_equal(read_codes(path, n_bits=n_bits), codes)
    lines = path.read_text().splitlines()
    assert lines[:2] == ["#FPS1", f"#num_bits={n_bits}"]
    assert [line.split("\t")[1] for line in lines[2:]] == [str(row) for row in range(70)]
    if n_bits % 8:  # the first bit of a fingerprint is the lowest of its first byte
        theirs = np.packbits(bits, axis=1, bitorder="little")
        assert [line.split("\t")[0] for line in lines[2:]] == [row.tobytes().hex() for row in theirs]
    whole = codes if n_bits % 8 == 0 else np.packbits(bits, axis=1, bitorder="little")
    save_fps(path, whole)
    assert path.read_text().splitlines()[1] == f"#num_bits={8 * n_bytes}"
    np.testing.assert_array_equal(read_codes(path), whole)
    assert [each.name for each in tmp_path.iterdir()] == ["written.fps"]


def test_identifiers_of_fingerprints(tmp_path):
    stream, codes = io.BytesIO(), np.array([[255, 1]] * 5, np.uint8)
    key = uuid.UUID(int=3)
    save_fps(stream, codes, ["caf\u00e9 and more", "lone \udce9", -7, np.int64(8), key])
    lines = stream.getvalue().split(b"\n")
    assert [line.split(b"\t")[1] for line in lines[2:-1]] == [
        "caf\u00e9 and more".encode(), b"lone \xe9", b"-7", b"8", str(key).encode(),
    ]  # fmt: skip
    stream.seek(0)
    np.testing.assert_array_equal(read_codes(stream, "fps"), codes)
    save_fps(tmp_path / "none.fps", codes[:0], [])
    assert read_codes(tmp_path / "none.fps").shape == (0, 2)
    save_fps(tmp_path / "ids.fps", codes, np.array([3, -1, 2**62, 0, 9]))
    assert (tmp_path / "ids.fps").read_text().splitlines()[4] == f"ff01\t{2**62}"


@pytest.mark.parametrize(
    ("codes", "ids", "n_bits", "error", "message"),
    [
        ([[1]], ["a\tb"], None, ValueError, r"ids must be text without tabs, line ends and NUL, and not empty, got 'a"),
        ([[1]], ["a\nb"], None, ValueError, "ids must be text without tabs"),
        ([[1]], ["a\rb"], None, ValueError, "ids must be text without tabs"),
        ([[1]], ["\0"], None, ValueError, "ids must be text without tabs"),
        ([[1]], [""], None, ValueError, "and not empty, got ''"),
        ([[1]], ["\ud800"], None, ValueError, "ids must be text that UTF-8 can write"),
        ([[1]], [None], None, TypeError, "ids must be text, integers or UUIDs, got None"),
        ([[1]], [b"a"], None, TypeError, "ids must be text, integers or UUIDs, got b'a'"),
        ([[1]], [True], None, TypeError, "ids must be text, integers or UUIDs, got True"),
        ([[1]], [0.5], None, TypeError, "ids must be text, integers or UUIDs, got 0.5"),
        ([[1]], "a", None, TypeError, "ids must be a sequence of identifiers, got 'a'"),
        ([[1]], 3, None, TypeError, "ids must be a sequence of identifiers, got 3"),
        ([[1]], np.zeros((1, 1), int), None, ValueError, r"ids must have one axis, got shape \(1, 1\)"),
        ([[1], [2]], ["a"], None, ValueError, "ids must be 2, one for each code, got 1"),
        ([[1]], None, 4, ValueError, "codes must have zeros in the low 4 bits"),
        ([[1]], None, 16, ValueError, r"codes must have shape \(n, 2\) for 16 bits"),
        ([[1]], None, 0, ValueError, "n_bits must be"),
    ],
)
def test_wrong_fingerprints_leave_the_old_file(tmp_path, codes, ids, n_bits, error, message):
    path = tmp_path / "old.fps"
    path.write_text("as it was")
    with pytest.raises(error, match=message):
        save_fps(path, np.array(codes, np.uint8), ids, n_bits=n_bits)
    assert path.read_text() == "as it was"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("ids", [{"a", "b"}, frozenset("ab"), {"a": 1, "b": 2}, {"a": 1, "b": 2}.keys()])
def test_identifiers_without_an_order_are_refused(tmp_path, ids):
    with pytest.raises(TypeError, match="ids must be a sequence of identifiers"):
        save_fps(tmp_path / "a.fps", np.zeros((2, 1), np.uint8), ids)
    assert not list(tmp_path.iterdir())


def test_fingerprints_go_where_a_link_leads_and_keep_permissions(tmp_path):
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "a.fps", tmp_path / "a.fps"
    file.touch(mode=0o600)
    link.symlink_to("real/a.fps")
    save_fps(link, np.zeros((2, 1), np.uint8))
    assert link.is_symlink()
    assert (file.stat().st_mode & 0o777, len(read_codes(file))) == (0o600, 2)


def test_fingerprints_do_not_replace_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="target must be a regular file or a stream of bytes"):
        save_fps(tmp_path / "pipe", np.zeros((2, 1), np.uint8))
    assert (tmp_path / "pipe").is_fifo()


def test_fingerprints_of_long_names(tmp_path):
    path = tmp_path / f"{'x' * 251}.fps"  # as long as a name may be
    save_fps(path, np.zeros((2, 1), np.uint8))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_fingerprints_do_not_replace_links_that_lead_nowhere(tmp_path):
    path = tmp_path / "circle.fps"
    path.symlink_to("circle.fps")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        save_fps(path, np.zeros((2, 1), np.uint8))
    assert path.is_symlink()
    dangling = tmp_path / "link.fps"
    dangling.symlink_to("new.fps")
    save_fps(dangling, np.zeros((2, 1), np.uint8))
    assert dangling.is_symlink()
    assert len(read_codes(tmp_path / "new.fps")) == 2


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("a\0b", ValueError, r"^target must not contain a null byte, got 'a\\x00b'$"),
        (3, TypeError, "^target must be a path or a stream of bytes, got 3$"),
        (True, TypeError, "^target must be a path or a stream of bytes, got True$"),
        (None, TypeError, "^target must be a path or a stream of bytes, got None$"),
    ],
)
def test_targets_of_fingerprints_that_are_none(target, error, message):
    with pytest.raises(error, match=message):
        save_fps(target, np.zeros((2, 1), np.uint8))


def test_fingerprints_that_cannot_be_written(tmp_path, monkeypatch):
    from fasthash import _code_writing

    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_fps(tmp_path / "nowhere" / "a.fps", np.zeros((1, 1), np.uint8))

    def refuse(draft, path):
        raise OSError("no space left")

    monkeypatch.setattr(_code_writing, "put", refuse)
    with pytest.raises(OSError, match="no space left"):
        save_fps(tmp_path / "a.fps", np.zeros((1, 1), np.uint8))
    assert not list(tmp_path.iterdir())


def test_columns_of_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra ray")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra ray")
    bits = np.unpackbits(WIDE, axis=1).astype(bool)
    columns = {
        "unsigned": pyarrow.array(NUMBERS, pyarrow.uint64()),
        "signed": pyarrow.array(np.array(NUMBERS, np.uint64).view(np.int64)),
        "bytes": pyarrow.array([code.tobytes() for code in WIDE]),
        "fixed": pyarrow.array([code.tobytes() for code in WIDE], pyarrow.binary(8)),
        "list": pyarrow.array(WIDE.tolist(), pyarrow.list_(pyarrow.uint8())),
        "flags": pyarrow.array(bits.tolist(), pyarrow.list_(pyarrow.bool_(), 64)),
        "hex": pyarrow.array(NOTATIONS["hex"]),
        "base64": pyarrow.array(NOTATIONS["base64"]),
    }
    path = tmp_path / "codes.parquet"
    parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    for number, name in enumerate(columns):
        notation = "base64" if name == "base64" else None
        for column in (name, number):
            np.testing.assert_array_equal(read_codes(path, column=column, notation=notation), WIDE)
        with open(path, "rb") as stream:
            np.testing.assert_array_equal(read_codes(stream, "parquet", 64, column=name, notation=notation), WIDE)
    with pytest.raises(
        ValueError, match=r"codes.parquet has \d columns, 'unsigned', 'signed', .*; name one with column="
    ):
        read_codes(path)
    for name, values, message in (
        ("text", ["00ff", "00f"], "column 'text', row 1: expected 4 hexadecimal digits, got '00f'"),
        ("null", ["00ff", None], "column 'null': row 1 has no value"),
        (
            "real",
            [1.5, 2.0],
            "column 'real' must hold text, bytes, 64-bit integers, or lists of uint8 or bool, got double",
        ),
        ("ragged", [[1], [1, 2]], "column 'ragged': lists must be of uint8 or bool, all of one length"),
        ("letters", [b"a" * 16, b"b" * 16], "column 'letters' must be the bytes of codes, but they look like hex"),
    ):
        parquet.write_table(pyarrow.table({name: values}), path)
        with pytest.raises((TypeError, ValueError), match=message):
            read_codes(path)
    path.write_bytes(b"PAR1 or not")
    with pytest.raises(ValueError, match=r"codes.parquet is no .parquet file"):
        read_codes(path)


def test_arrays_of_words_and_of_bits(tmp_path):
    words = np.array(NUMBERS, np.uint64)
    bits = np.unpackbits(WIDE, axis=1)
    for array in (words, words.view(np.int64), words.astype(">u8"), words[:, None], bits.astype(bool)):
        np.save(tmp_path / "codes.npy", array)
        np.testing.assert_array_equal(read_codes(tmp_path / "codes.npy", n_bits=64), WIDE)
    np.save(tmp_path / "codes.npy", words.reshape(1, 3))
    np.testing.assert_array_equal(read_codes(tmp_path / "codes.npy"), WIDE.reshape(1, 24))
    for array in (bits, bits.astype(np.int64), bits.astype(np.int8)):
        np.save(tmp_path / "codes.npy", array)
        with pytest.raises((TypeError, ValueError), match=r"fasthash.pack_bits\(np.load\('.*codes.npy'\)\) packs"):
            read_codes(tmp_path / "codes.npy")
    np.save(tmp_path / "codes.npy", bits)
    with pytest.raises(ValueError, match=r"holds codes of 512 bits, expected 64; fasthash.pack_bits\(.*\) packs zeros"):
        read_codes(tmp_path / "codes.npy", n_bits=64)
    assert read_codes(tmp_path / "codes.npy", n_bits=512).shape == (3, 64)  # codes after all
    np.save(tmp_path / "codes.npy", np.array([0, 1, 1, 0, 1, 0, 0, 1]))
    with pytest.raises(ValueError, match=r"pack_bits\(.*\)\[None\] packs the bits of a single hash"):
        read_codes(tmp_path / "codes.npy")


def test_raw_bytes_that_are_text(tmp_path):
    (tmp_path / "codes.bin").write_bytes(b"0123456789abcdef\n" * 8)
    with pytest.raises(ValueError, match=r"codes.bin must hold the bytes of codes, but begins with text of hex"):
        read_codes(tmp_path / "codes.bin", n_bits=8)


# ---- pipes ----


def through_a_pipe(content):
    """What `/dev/fd/N` names, as a shell makes it of `<(...)`."""
    reader, writer = os.pipe()

    def fill():
        with open(writer, "wb") as file:
            file.write(content)

    threading.Thread(target=fill).start()
    return reader


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs /dev/fd")
@pytest.mark.parametrize("form", ["npy", "npz", "hex", "raw", "csv", "parquet"])
@pytest.mark.parametrize("as_path", [True, False])
def test_every_format_comes_through_a_pipe(tmp_path, form, as_path):
    codes = np.tile(CODES, (9_000, 1))  # more than a pipe holds at once
    path = tmp_path / "codes"
    if form in ("npy", "npz"):
        np.save(path, codes) if form == "npy" else np.savez(path, codes=codes)
        path = path.with_suffix(f".{form}")
    elif form == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="needs the extra ray")
        parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra ray")
        parquet.write_table(pyarrow.table({"code": [code.tobytes() for code in codes]}), path)
    else:
        text = "".join(f"{code.tobytes().hex()}\n" for code in codes)
        path.write_bytes(codes.tobytes() if form == "raw" else text.encode())
    reader = through_a_pipe(path.read_bytes())
    with open(reader, "rb") as stream:
        found = read_codes(f"/dev/fd/{reader}" if as_path else stream, form, 24)
        np.testing.assert_array_equal(found, codes)
