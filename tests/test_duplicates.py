"""Groups of near-duplicates among codes, and codes of perceptual hashes as other packages give them."""

import csv
from collections import Counter

import numpy as np
import pytest

import fasthash as fh
from real_data import shared


def clustered(n, n_bytes, seed=0):
    """Codes around centres, some of them equal."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (max(1, n // 6), n_bytes), dtype=np.uint8)
    flips = rng.random((n, n_bytes * 8)) < 0.03
    return centres[rng.integers(0, len(centres), n)] ^ np.packbits(flips, axis=1)


def slow_groups(codes, radius, ids):
    """The slow path: a walk from each code over all within the radius of one that was reached."""
    left, groups = set(range(len(codes))), []
    bits = np.unpackbits(codes, axis=1).astype(int)
    while left:
        reached, edge = set(), {left.pop()}
        while edge:
            row = edge.pop()
            reached.add(row)
            near = {i for i in left if np.abs(bits[i] - bits[row]).sum() <= radius}
            left -= near
            edge |= near
        if len(reached) > 1:
            groups.append(sorted(ids[row] for row in reached))
    return sorted(groups)


def as_lists(groups):
    assert all(group.dtype == np.int64 for group in groups)
    return [group.tolist() for group in groups]


@pytest.mark.parametrize("dense", [1, 4, 256], ids="followed from {}".format)
@pytest.mark.parametrize("radius", [0, 1, 3, 5, 9, 64])
@pytest.mark.parametrize("seed", range(3))
def test_groups_are_those_of_a_walk(radius, seed, dense, monkeypatch):
    monkeypatch.setattr("fasthash.duplicates._BATCH", 7)
    monkeypatch.setattr("fasthash.duplicates._PAIRS", 40)
    monkeypatch.setattr("fasthash.duplicates._DENSE", dense)
    codes = clustered(90, 4, seed)
    expected = slow_groups(codes, radius, np.arange(90).tolist())
    assert as_lists(fh.near_duplicates(codes, radius)) == expected
    ids = np.random.default_rng(seed).permutation(90) * 5 - 77
    expected = slow_groups(codes, radius, ids.tolist())
    assert as_lists(fh.near_duplicates(codes, radius, ids)) == expected
    for index in (fh.FlatIndex.from_arrays(codes, ids), fh.HierIndex.from_arrays(codes, ids)):
        assert as_lists(fh.near_duplicates(index, radius)) == expected
    order = np.random.default_rng(9).permutation(90)
    assert as_lists(fh.near_duplicates(codes[order], radius, ids[order])) == expected


def test_a_long_chain_is_one_group():
    """Each code is one bit from the next; the ends are as far apart as codes can be."""
    bits = np.tri(2049, 2048, -1, dtype=np.uint8)
    codes = fh.pack_bits(bits[np.random.default_rng(0).permutation(2049)])
    assert as_lists(fh.near_duplicates(codes, 1)) == [list(range(2049))]
    assert fh.near_duplicates(codes, 0) == []


def test_equal_codes_by_the_thousand():
    codes = np.zeros((100_000, 8), dtype=np.uint8)
    codes[70_000:] = 255
    first, second = fh.near_duplicates(codes, 3)
    assert (len(first), len(second)) == (70_000, 30_000)


def near_blank(n, n_bytes=8, share=0.02, n_distinct=None):
    """Hashes of pictures that are white but for some noise: few of their bits are set."""
    rng = np.random.default_rng(0)
    codes = np.packbits(rng.random((n, n_bytes * 8)) < share, axis=1)
    return codes if n_distinct is None else np.unique(codes, axis=0)[rng.integers(0, n_distinct, n)]


@pytest.mark.parametrize(
    ("codes", "radius"),
    [
        (near_blank(20_000, n_distinct=1294), 4),
        (near_blank(100_000, n_distinct=1294), 4),
        (near_blank(20_000), 4),
        (near_blank(2_500, 32, 0.03), 31),  # all of them distinct
        (np.concatenate([near_blank(3_000), ~near_blank(3_000)]), 4),
    ],
    ids=["given", "100,000", "more distinct", "PDQ", "two clusters"],
)
def test_a_dense_cluster_lists_few_pairs(codes, radius, monkeypatch):
    """Each distinct code about once, not with all its neighbours: those took seconds and gigabytes."""
    listed = []

    def range_search(index, *arguments):
        found = fh.HierIndex._range_search(index, *arguments)
        listed.append(len(found.ids))
        return found

    monkeypatch.setattr(fh.HierIndex, "_range_search", fh.HierIndex.range_search, raising=False)
    monkeypatch.setattr(fh.HierIndex, "range_search", range_search)
    groups = fh.near_duplicates(codes, radius)
    distinct, row_of = np.unique(codes, axis=0, return_inverse=True)
    assert sum(listed) < 20 * len(distinct) + 100_000
    assert max(listed) < 1 << 17
    monkeypatch.undo()
    # The slow path: all neighbours of each distinct code, joined one by one.
    groups_of = list(range(len(distinct)))

    def root(row):
        while groups_of[row] != row:
            groups_of[row] = row = groups_of[groups_of[row]]
        return row

    index = fh.FlatIndex.from_arrays(distinct)
    for start in range(0, len(distinct), 100):
        found = index.range_search(distinct[start : start + 100], radius)
        for row, near in zip(range(start, start + 100), np.split(found.ids, found.offsets[1:-1]), strict=False):
            for other in {root(i) for i in near.tolist()}:
                groups_of[other] = root(row)
    roots = np.array([root(row) for row in range(len(distinct))])[row_of.reshape(-1)]
    _, first, sizes = np.unique(roots, return_index=True, return_counts=True)
    expected = sorted((row, size) for row, size in zip(first.tolist(), sizes.tolist(), strict=True) if size > 1)
    assert [(group[0], len(group)) for group in groups] == expected
    assert all((roots[group] == roots[group[0]]).all() for group in groups)


def test_an_index_that_grows():
    codes = clustered(80, 8)
    index = fh.HierIndex.from_arrays(codes[:50])
    index.add(codes[50:])
    index.remove(np.arange(0, 80, 4))
    left = np.setdiff1d(np.arange(80), np.arange(0, 80, 4))
    assert as_lists(fh.near_duplicates(index, 4)) == slow_groups(codes[left], 4, left.tolist())


def test_no_codes():
    assert fh.near_duplicates(np.empty((0, 8), np.uint8), 3) == []
    assert fh.near_duplicates(fh.HierIndex(), 3) == []
    assert fh.near_duplicates(np.zeros((1, 8), np.uint8), 3) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((3, 8)), 1), TypeError, "codes must be a uint8 array of packed bits, got dtype float64"),
        ((["00ff"], 1), TypeError, "codes must be a uint8 array of packed bits, got dtype <U4"),
        ((np.zeros(8, np.uint8), 1), ValueError, "codes must have shape (n, n_bytes)"),
        ((np.zeros((3, 8), np.uint8), -1), ValueError, "radius must be at least 0, got -1"),
        ((np.zeros((3, 8), np.uint8), 1.0), TypeError, "radius must be an integer, got 1.0"),
        ((np.zeros((3, 8), np.uint8), 1, [1, 2]), ValueError, "ids must have shape (3,)"),
        ((np.zeros((3, 8), np.uint8), 1, [1, 2, 2]), ValueError, "ids must be distinct, got 2 twice"),
        ((fh.FlatIndex(8), 1, [1]), ValueError, "ids must be None for an index, which has its own"),
    ],
)
def test_what_has_no_groups(arguments, error, message):
    with pytest.raises(error) as caught:
        fh.near_duplicates(*arguments)
    assert str(caught.value).startswith(message)


# Codes of perceptual hashes


def test_codes_of_hex_digits_bytes_and_bits():
    expected = np.random.default_rng(0).integers(0, 256, (5, 32), dtype=np.uint8)
    texts = [row.tobytes().hex() for row in expected]
    for hashes in (
        texts,
        [text.upper() for text in texts],
        np.array(texts),
        [row.tobytes() for row in expected],
        list(np.unpackbits(expected, axis=1).astype(bool)),
        np.unpackbits(expected, axis=1).astype(bool),
        (text for text in texts),
    ):
        np.testing.assert_array_equal(fh.perceptual_codes(hashes), expected)


@pytest.mark.parametrize("hash_size", [8, 16])
def test_codes_of_imagehash(hash_size):
    imagehash = pytest.importorskip("imagehash", reason="needs the extra dedup")
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (6, 40, 40), dtype=np.uint8)
    for function in (imagehash.phash, imagehash.dhash, imagehash.average_hash):
        hashes = [function(Image.fromarray(picture), hash_size=hash_size) for picture in pixels]
        codes = fh.perceptual_codes(hashes)
        assert codes.shape == (6, hash_size**2 // 8)
        np.testing.assert_array_equal(codes, fh.perceptual_codes([str(item) for item in hashes]))
        distances = fh.FlatIndex.from_arrays(codes).search(codes[:1], 6)
        assert dict(zip(distances.ids[0].tolist(), distances.distances[0].tolist(), strict=True)) == {
            i: hashes[0] - item for i, item in enumerate(hashes)
        }


@pytest.mark.parametrize(
    ("hashes", "error", "message"),
    [
        ([], ValueError, "hashes must hold at least one hash, which tells their width"),
        ("00ff", TypeError, "hashes must be a sequence of hashes, got a single str; use [hash]"),
        (b"ab", TypeError, "hashes must be a sequence of hashes, got a single bytes; use [hash]"),
        ({"a.jpg": "00ff"}, TypeError, "hashes must be a sequence of hashes, got a dict; use list(hashes.values())"),
        ({"00ff": "a.jpg"}, TypeError, "hashes must be a sequence of hashes, got a dict; use list(hashes.values())"),
        (Counter(["00ff"]), TypeError, "hashes must be a sequence of hashes, got a Counter; use list(hashes.values())"),
        ({"00ff", "ff00"}, TypeError, "hashes must be a sequence of hashes, got a set, which has no order"),
        (frozenset(["00ff"]), TypeError, "hashes must be a sequence of hashes, got a frozenset, which has no order"),
        (
            ["0f" * 32, "0f" * 31 + "0g"],
            ValueError,
            f"hashes[1]: expected 64 hexadecimal digits, got {'0f' * 20!r}... (64 characters, 'g' at 63)",
        ),
        (
            ["0f" * 32 + "'"],
            ValueError,
            "hashes[0]: expected two hexadecimal digits for each byte, got "
            f"{'0f' * 20!r}... (65 characters, {chr(39)!r} at 64)",
        ),
        (
            ["0f" * 115 + "0"],
            ValueError,
            f"hashes[0]: expected two hexadecimal digits for each byte, got {'0f' * 20!r}... (231 characters)",
        ),
        (
            ["00ff", "ff00\n"],
            ValueError,
            "hashes[1]: expected 4 hexadecimal digits, got 'ff00\\n'; strip() removes the white space around it",
        ),
        (["00ff", "00fg"], ValueError, "hashes[1]: expected 4 hexadecimal digits, got '00fg'"),
        (["00ff", "00f"], ValueError, "hashes[1]: expected 4 hexadecimal digits, got '00f'"),
        (["00", "00ff", "ff00"], ValueError, "hashes[0]: expected 4 hexadecimal digits, got '00'"),
        (["00", np.ones(8, bool)], TypeError, "hashes must be of one kind, got ndarray, str"),
        ([b"\x00\xff", "00ff"], TypeError, "hashes must be of one kind, got bytes, str"),
        ([b"\x00\xff", b"\x00"], ValueError, "hashes must have one width, got 16 bits in hash 0 and 8 in hash 1"),
        ([np.ones(8, bool), np.ones(9, bool)], ValueError, "hashes must have one width, got 8 bits in hash 0 and 9"),
        (
            [np.ones(4097, bool)],
            ValueError,
            "hashes must have 1 to 4096 bits, got 4097 bits",
        ),
        (
            [np.ones(8, np.uint8)],
            TypeError,
            "hashes must be ImageHash objects, text, bytes, arrays of bool, or an array of uint64 or int64, got",
        ),
        ([3], TypeError, "hashes must tell their width, which integers do not, got int at 0; np.array(hashes, dtype="),
        ([3.5], TypeError, "hashes must be ImageHash objects, text, bytes, arrays of bool, or an array of"),
        ([""], ValueError, "hashes[0]: expected two hexadecimal digits for each byte, got ''"),
        (
            [b"a" * 16, b"b" * 16],
            ValueError,
            "hashes must be the bytes of codes, but they look like hexadecimal digits",
        ),
        ([b"0101" * 16], ValueError, "hashes must be the bytes of codes, but they look like hexadecimal digits, got"),
        ([b"ABEiM0RVZnc="] * 2, ValueError, "hashes must be the bytes of codes, but they look like text"),
        (["0101" * 16], ValueError, "hashes must be hexadecimal digits, but they look like bits, one a digit"),
        (["12345678901234567890"], ValueError, "hashes must be hexadecimal digits, but they look like decimal numbers"),
        (
            [(np.ones(256, np.uint8), 100)],
            TypeError,
            "hashes must be hashes alone, got a pair at 0, as pdqhash gives it",
        ),
        (
            np.array([0, 1, 1, 0, 0, 0, 1, 1]),
            ValueError,
            "hashes must hold a hash in each number, but all 8 are zero or",
        ),
        (
            np.arange(24).reshape(3, 8),
            TypeError,
            "hashes must be a uint8 array of packed bits, got dtype int64; np.asarray(",
        ),
    ],
)
def test_what_are_no_hashes(hashes, error, message):
    with pytest.raises(error) as caught:
        fh.perceptual_codes(hashes)
    assert str(caught.value).startswith(message)


def test_codes_of_numbers_and_of_bits_in_integers():
    expected = np.random.default_rng(1).integers(0, 256, (5, 8), dtype=np.uint8)
    words = expected.view(">u8")[:, 0].astype(np.uint64)
    bits = np.unpackbits(expected, axis=1)
    for hashes in (words, words.view(np.int64), list(words), bits, list(bits), bits.astype(np.int64)):
        np.testing.assert_array_equal(fh.perceptual_codes(hashes), expected)
    for numbers in (words.tolist(), words.view(np.int64).tolist()):
        np.testing.assert_array_equal(fh.perceptual_codes(numbers, n_bits=64), expected)
        texts = [str(number) for number in numbers]
        np.testing.assert_array_equal(fh.perceptual_codes(texts, notation="decimal", n_bits=64), expected)
    texts = ["".join(map(str, row)) for row in bits]
    np.testing.assert_array_equal(fh.perceptual_codes(texts, notation="bits"), expected)
    with pytest.raises(ValueError, match="hashes must have n_bits = 32 bits, got 64"):
        fh.perceptual_codes(list(bits), n_bits=32)
    with pytest.raises(ValueError, match="notation must be one of 'hex', 'bits', 'decimal', 'base64', got 'octal'"):
        fh.perceptual_codes(texts, notation="octal")


def test_codes_of_hashes_with_several_segments():
    imagehash = pytest.importorskip("imagehash", reason="needs the extra dedup")
    bits = np.random.default_rng(2).integers(0, 2, (5, 8, 8)).astype(bool)
    segments = [imagehash.ImageHash(one) for one in bits]
    images = [imagehash.ImageMultiHash(segments[:2]), imagehash.ImageMultiHash(segments[2:])]
    codes, owners = fh.segment_codes(images)
    np.testing.assert_array_equal(codes, fh.perceptual_codes(segments))
    assert owners.tolist() == [0, 0, 1, 1, 1]
    assert owners.dtype == np.int64
    with pytest.raises(
        TypeError, match=r"one hash each, got an ImageMultiHash at 0, .*fasthash.segment_codes\(hashes\)"
    ):
        fh.perceptual_codes(images)
    with pytest.raises(TypeError, match="hashes must be a sequence of hashes, got a single ImageMultiHash"):
        fh.perceptual_codes(images[0])
    with pytest.raises(TypeError, match="hashes must be ImageMultiHash objects, got ImageHash at 1"):
        fh.segment_codes([images[0], segments[0]])
    with pytest.raises(TypeError, match=r"hashes must be .*, got a dict; use list\(hashes.values\(\)\)"):
        fh.segment_codes({"a.jpg": images[0]})


# Meta's test data of PDQ


def pdq_codes(name):
    path = shared("pdq_near_duplicates", "data", "reg-test-input", name)
    return fh.perceptual_codes(path.read_text().split())


def test_pdq_of_photos_that_were_changed():
    """One photo in 12 versions, of other sharpness, colours and size, a copy of it, and three other pictures."""
    path = shared("pdq_near_duplicates", "wasm", "test", "TestData", "PDQMD5TestData.csv")
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row["Hash"]) == 64]  # others are MD5 of videos
    same_photo = [
        i for i, row in enumerate(rows) if "bridge-mods" in row["FilePath"] or row["FilePath"].endswith("/b.jpg")
    ]
    assert (len(rows), len(same_photo)) == (16, 13)
    codes = fh.perceptual_codes([row["Hash"] for row in rows])
    assert as_lists(fh.near_duplicates(codes, 31)) == [same_photo]  # every pair, and no other
    distances = fh.FlatIndex.from_arrays(codes).search(codes[same_photo[:1]], 16).distances[0]
    assert distances[12] <= 31 < 90 < distances[13]


def test_pdq_needles_in_a_haystack():
    """100 needles, of which the last 350 codes of the haystack are copies: 50 equal ones, then three times all 100, the
    more bits changed the later. Each copy is that of the one needle that it is nearest to by far."""
    needles, haystack = pdq_codes("needles.txt"), pdq_codes("haystack.txt")
    by_needle = fh.FlatIndex.from_arrays(needles).search(haystack[1000:], 2)
    owners = by_needle.ids[:, 0]
    np.testing.assert_array_equal(owners[:50], np.arange(50))
    for block in range(3):  # a copy of each needle in each block, so the truth does not rest on a radius
        np.testing.assert_array_equal(np.sort(owners[50 + 100 * block :][:100]), np.arange(100))
    assert (by_needle.distances[:, 1] - by_needle.distances[:, 0]).min() > 30
    true = {(needle, 1000 + i) for i, needle in enumerate(owners.tolist())}

    found = fh.HierIndex.from_arrays(haystack).range_search(needles, 31)
    pairs = set(zip(np.repeat(np.arange(100), np.diff(found.offsets)).tolist(), found.ids.tolist(), strict=True))
    assert pairs <= true  # precision 1
    assert len(pairs) / len(true) == 250 / 350  # recall: the last block is farther away than 31
    assert {row for _, row in true - pairs} == set(range(1250, 1350))

    groups = fh.near_duplicates(np.concatenate([needles, haystack[1000:]]), 31)
    expected = [[i] for i in range(100)]
    for i, needle in enumerate(owners[:250].tolist()):
        expected[needle].append(100 + i)
    found_groups = [group for group in as_lists(groups) if group[0] < 100]
    assert found_groups == expected


def test_codes_of_an_index_may_be_zeros_and_ones():
    bits = np.random.default_rng(0).integers(0, 2, (20, 16), np.uint8)
    index = fh.FlatIndex(128)
    index.add(bits)
    expected = [set(group) for group in as_lists(fh.near_duplicates(bits[:, :8], 4))]  # 64 bits are not taken for bits
    assert [set(group) for group in as_lists(fh.near_duplicates(fh.FlatIndex.from_arrays(bits[:, :8]), 4))] == expected
    n_pairs = sum(len(pairs.first) for pairs in fh.near_pairs(index, 4))
    assert n_pairs == (np.bitwise_count(bits[:, None] ^ bits).sum(axis=2)[np.triu_indices(20, 1)] <= 4).sum()
    assert len(np.concatenate(fh.near_duplicates(index, 128))) == 20
    others = np.random.default_rng(1).integers(0, 256, (5, 16), np.uint8)
    found = sum(len(pairs.first) for pairs in fh.near_pairs(others, 50, gallery=bits))
    assert found == (np.bitwise_count(others[:, None] ^ bits).sum(axis=2) <= 50).sum()


def test_a_gallery_of_another_width_in_as_many_bytes_is_refused_at_once():
    gallery = fh.FlatIndex(13)
    gallery.add(np.array([[255, 248]], np.uint8))
    with pytest.raises(ValueError, match="codes must have zeros in the low 3 bits of the last byte"):
        fh.near_pairs(np.array([[255, 255]], np.uint8), 3, gallery=gallery)
