"""Widths that are no multiple of 8: the padding counts nowhere, must be zero, and is kept by every way out and in."""

import itertools

import numpy as np
import pytest

import fasthash as fh
import file_reference as ref
from indices import PLANS

WIDTHS = [1, 7, 9, 42, 100, 166, 881]
KINDS = ["flat", "auto", *PLANS]
N = 400


def gallery(n_bits, n=N, seed=0):
    """Zeros and ones with clusters, duplicates and far codes; and the packed codes."""
    rng = np.random.default_rng(seed + n_bits)
    centres = rng.random((8, n_bits)) < 0.5
    bits = centres[rng.integers(0, 8, n)] ^ (rng.random((n, n_bits)) < 0.1)
    bits[n // 2 : n // 2 + 10] = bits[:10]
    return bits, np.packbits(bits, axis=1)


def empty(kind, n_bits):
    return fh.FlatIndex(n_bits) if kind == "flat" else fh.HierIndex(n_bits, plan=kind)


def nearest(bits, ids, queries, k, n_bits):
    """The k nearest by (distance, id), by numpy."""
    distances = np.full((len(queries), k), n_bits + 1)
    found = np.full((len(queries), k), -1)
    for q, query in enumerate(queries):
        of_query = (bits != query).sum(axis=1)
        order = np.lexsort((ids, of_query))[:k]
        distances[q, : len(order)], found[q, : len(order)] = of_query[order], ids[order]
    return distances, found


def check(index, bits, ids, queries, **options):
    n_bits, codes = bits.shape[1], np.packbits(queries, axis=1)
    for k in (1, 10, N + 3):
        distances, found = nearest(bits, ids, queries, k, n_bits)
        result = index.search(codes, k, **options)
        np.testing.assert_array_equal(result.ids, found)
        np.testing.assert_array_equal(result.distances, distances)
    for radius in (0, n_bits // 4, n_bits, n_bits + 5):
        within = (queries[:, None] != bits[None]).sum(axis=2) <= radius
        np.testing.assert_array_equal(index.count_within(codes, radius, **options), within.sum(axis=1))
        for q, (distances, found) in enumerate(index.range_search(codes, radius, **options).per_query()):
            every = nearest(bits, ids, queries[q : q + 1], len(ids), n_bits) if len(ids) else np.empty((2, 1, 0))
            n_within = within[q].sum()
            np.testing.assert_array_equal(distances, every[0][0][:n_within])
            np.testing.assert_array_equal(found, every[1][0][:n_within])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bits", WIDTHS)
def test_results_are_those_of_numpy(n_bits, kind, tmp_path):
    bits, codes = gallery(n_bits)
    queries = np.concatenate([bits[:3], ~bits[:1], np.zeros((1, n_bits), bool)])
    ids = np.random.default_rng(1).permutation(3 * N)[:N]
    index = empty(kind, n_bits)
    index.add(codes[:300], ids[:300])
    index.add(codes[300:], ids[300:])
    assert (index.n_bits, index.level_bits, index.stats()["n_bits"]) == (n_bits, (n_bits,), n_bits)
    check(index, bits, ids, queries)
    index.remove(ids[::3])
    index.update(ids[1::3], codes[::-1][1::3])
    bits = np.where((np.arange(N) % 3 == 1)[:, None], bits[::-1], bits)
    kept = np.arange(N) % 3 != 0
    bits, ids = bits[kept], ids[kept]
    check(index, bits, ids, queries)
    chosen = np.arange(len(ids)) % 5 == 0
    for allow in (ids[chosen], fh.IdFilter(ids[chosen])):
        check(index, bits[chosen], ids[chosen], queries, allow=allow)
    check(index, bits[::2], ids[::2], queries, allow=ids[::2])
    check(index, bits[:0], ids[:0], queries[:1], allow=np.empty(0, np.int64))
    np.testing.assert_array_equal(index.reconstruct(ids), np.packbits(bits, axis=1))
    path = tmp_path / "index.fh"
    index.save(path, id_map=True)
    data = path.read_bytes()
    assert fh.peek(path).format_version == "1.3"
    assert (fh.peek(path).n_bits, fh.verify(path).fault) == (n_bits, "")
    assert ref.write(ref.read(data)) == data
    for loaded in (fh.load(path), fh.load(path, mmap=True), type(index).from_bytes(index.to_bytes())):
        assert (loaded.n_bits, loaded.level_bits) == (n_bits, (n_bits,))
        check(loaded, bits, ids, queries)


@pytest.mark.parametrize("plan", ["auto", *PLANS])
@pytest.mark.parametrize("level_bits", [(8, 1), (8, 16, 18), (16, 84), (8, 8, 150), (80, 801)])
def test_the_last_of_several_levels(level_bits, plan):
    bits, codes = gallery(sum(level_bits))
    index = fh.HierIndex.from_arrays(codes, level_bits=level_bits, plan=plan)
    assert (index.level_bits, index.n_bits) == (level_bits, sum(level_bits))
    check(index, bits, np.arange(N), bits[:3])
    # Pruning looks at whole levels but the last: results are those of the same codes in whole bytes.
    whole = fh.HierIndex.from_arrays(codes, level_bits=(*level_bits[:-1], -(-level_bits[-1] // 8) * 8), plan=plan)
    for keep, mode in itertools.product((0.1, 0.5), ("node_ratio", "gallery_ratio", "radius")):
        found = index.search(codes[:5], 20, keep=keep, keep_mode=mode)
        expected = whole.search(codes[:5], 20, keep=keep, keep_mode=mode)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_certificates_end_at_the_width():
    _, codes = gallery(100)
    index = fh.HierIndex(100, plan="clusters")
    index.add(codes)
    assert index.search(codes[:3], 5, max_compared=1.0, stats=True)[1].exact_to.tolist() == [100] * 3
    assert (
        fh.FlatIndex.from_arrays(codes, n_bits=100).search(codes[:2], 1, stats=True)[1].exact_to.tolist() == [100] * 2
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda index, wrong: index.add(wrong), "codes"),
        (lambda index, wrong: index.add_chunks([wrong[:1], wrong[1:]]), r"chunks\[1\]"),
        (lambda index, wrong: index.update([0, 1, 2], wrong), "codes"),
        (lambda index, wrong: index.search(wrong), "queries"),
        (lambda index, wrong: index.range_search(wrong, 3), "queries"),
        (lambda index, wrong: index.count_within(wrong, 3), "queries"),
        (lambda index, wrong: fh.HierIndex.from_arrays(wrong, level_bits=42), "codes"),
        (lambda index, wrong: fh.FlatIndex.from_arrays(wrong, n_bits=42), "codes"),
        (lambda index, wrong: fh.unpack_bits(wrong, 42), "codes"),
        (lambda index, wrong: fh.codes_to_ints(wrong, 42), "codes"),
    ],
)
@pytest.mark.parametrize("bit", range(6))
def test_padding_must_be_zero(change, name, bit):
    _, codes = gallery(42)
    index = fh.FlatIndex.from_arrays(codes, n_bits=42)
    wrong = codes[:3].copy()
    wrong[2, -1] |= 1 << bit
    row = 1 if name.startswith("chunks") else 2
    held = f"a last byte of {wrong[2, -1]} in row {row}"
    message = f"^{name} must have zeros in the low 6 bits of the last byte, .* 42 bits .* got {held}$"
    before = index.to_bytes()
    with pytest.raises(ValueError, match=message):
        change(index, wrong)
    assert index.to_bytes() == before


@pytest.mark.parametrize("make", [fh.FlatIndex, fh.HierIndex])
@pytest.mark.parametrize("n", [3, 100_000])
def test_codes_that_change_while_they_are_added(make, n):
    """What was checked is what is added: else padding that is not zero counts as distance, and no file of it opens."""
    codes = np.zeros((n, 2), np.uint8)
    index = make(12)
    index.add(codes, progress=lambda share: codes.fill(255))
    assert codes[0, 1] == 255
    assert index.search(np.zeros((1, 2), np.uint8), 1).distances.tolist() == [[0]]
    assert len(make.from_bytes(index.to_bytes())) == n


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fh.FlatIndex(0), "n_bits must be at least 1, got 0"),
        (lambda: fh.FlatIndex(4097), "n_bits must be at most 4096, got 4097"),
        (lambda: fh.HierIndex((12, 8)), "level_bits must be a multiple of 8, got 12"),
        (lambda: fh.HierIndex((8, 4, 4)), "level_bits must be at least 8, got 4"),
        (lambda: fh.HierIndex((8, 0)), "level_bits must be at least 1, got 0"),
        (lambda: fh.HierIndex((4090, 7)), "level_bits must"),
        (
            lambda: fh.FlatIndex(42).add(np.zeros((1, 5), np.uint8)),
            r"codes must have shape \(n, 6\) for 42 bits, got \(1, 5\)",
        ),
        (
            lambda: fh.FlatIndex(42).add(np.zeros((1, 42), np.uint8)),
            r"got \(1, 42\); fasthash.pack_bits\(codes\) packs",
        ),
        (lambda: fh.FlatIndex(42).merge(fh.FlatIndex(48)), r"levels of \(42\) bits, has \(48\)"),
    ],
)
def test_wrong_widths(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("kind", ["flat", "scan", "prefix", "clusters"])
@pytest.mark.parametrize("mmap", [False, True])
def test_files_with_padding_that_is_not_zero(kind, mmap, tmp_path):
    path = tmp_path / "index.fh"
    index = empty(kind, 42)
    index.add(gallery(42)[1])
    index.save(path)
    contents = ref.read(path.read_bytes())
    contents.codes = contents.codes.copy()
    contents.codes[5, -1] |= 1
    path.write_bytes(ref.write(contents))
    with pytest.raises(ref.RefusedError):
        ref.read(path.read_bytes())
    with pytest.raises(fh.FormatError, match=r"bits that pad the code of row [0-9]+ are not zero"):
        fh.load(path, mmap=mmap)
    assert "pad" in fh.verify(path).fault


def test_files_whose_levels_contradict_the_padding(tmp_path):
    path = tmp_path / "index.fh"
    fh.FlatIndex.from_arrays(gallery(42)[1], n_bits=42).save(path)
    header, sections = ref.split(path.read_bytes())
    for padding in (1, 5, 7, 8, 255):
        path.write_bytes(ref.assemble(header._replace(padding=padding), sections))
        with pytest.raises(fh.FormatError, match="levels do not agree with the bits that pad a code"):
            fh.load(path)
    path.write_bytes(ref.assemble(header._replace(padding=0), sections))
    with pytest.raises(fh.FormatError, match="fields that format 1 does not have"):
        fh.load(path)


def test_whole_bytes_keep_the_file_of_older_releases(tmp_path):
    path = tmp_path / "index.fh"
    fh.FlatIndex.from_arrays(gallery(64)[1]).save(path)
    assert fh.peek(path).format_version == "1.0"


# ---- around the index ----


@pytest.mark.parametrize("n_bits", WIDTHS)
def test_bits_are_packed_and_unpacked(n_bits):
    bits, codes = gallery(n_bits)
    np.testing.assert_array_equal(fh.pack_bits(bits), codes)
    np.testing.assert_array_equal(fh.pack_bits(bits[0]), codes[0])
    np.testing.assert_array_equal(fh.unpack_bits(codes, n_bits), bits)
    np.testing.assert_array_equal(fh.unpack_bits(codes[0], n_bits), bits[0])
    np.testing.assert_array_equal(fh.sign_codes(np.where(bits, 0.5, -0.5)), codes)
    with pytest.raises(ValueError, match=r"hold .* bits, but n_bits"):
        fh.unpack_bits(codes, n_bits + 8)


def test_faiss_gets_whole_bytes():
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    _, codes = gallery(42)
    index = fh.HierIndex(42)
    index.add(codes)
    theirs = fh.to_faiss(index)
    assert theirs.d == 48
    back = fh.from_faiss(theirs, fh.HierIndex(42))
    assert back.to_bytes() == index.to_bytes()
    assert fh.from_faiss(theirs).n_bits == 48
    with pytest.raises(ValueError, match="into must have the 48 bits of source, got an index of 40"):
        fh.from_faiss(theirs, fh.FlatIndex(40))
    wrong = faiss.IndexBinaryFlat(48)
    wrong.add(codes | 1)
    with pytest.raises(ValueError, match="source must have zeros in the low 6 bits"):
        fh.from_faiss(wrong, fh.FlatIndex(42))


@pytest.mark.parametrize("algorithm", ["auto", "brute"])
def test_neighbours_of_scikit_learn(algorithm):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.neighbors import NearestNeighbors

    from fasthash.neighbors import HammingNeighbors

    bits, _ = gallery(42)
    ours = HammingNeighbors(n_neighbors=5, algorithm=algorithm).fit(bits)
    assert (ours.index_.n_bits, ours.n_bits_) == (42, 42)
    theirs = NearestNeighbors(n_neighbors=5, metric="hamming", algorithm="brute").fit(bits)
    np.testing.assert_allclose(ours.kneighbors(bits[:20])[0], theirs.kneighbors(bits[:20])[0])


def test_a_store(tmp_path):
    bits, codes = gallery(100)
    with fh.Store(tmp_path / "codes.fhs", "w", n_bits=100) as store:
        store.add(codes[:200])
        store.commit()
        store.add(codes[200:])
        store.remove(ids=[3])
        with pytest.raises(ValueError, match="codes must have zeros in the low 4 bits"):
            store.add(codes | 1)
        store.commit()
    with fh.Store(tmp_path / "codes.fhs") as store:
        assert store.n_bits == 100
        ids = np.delete(np.arange(N), 3)
        distances, found = nearest(bits[ids], ids, bits[:5], 500, 100)
        result = store.search(codes[:5], 500)
        np.testing.assert_array_equal(result.ids, found)
        np.testing.assert_array_equal(result.distances, distances)
        with pytest.raises(ValueError, match="queries must have zeros in the low 4 bits"):
            store.search(codes | 1)


def test_near_duplicates():
    _, codes = gallery(42)
    index = fh.FlatIndex.from_arrays(codes, n_bits=42)
    ours, whole = fh.near_duplicates(index, 2), fh.near_duplicates(codes, 2)
    assert [group.tolist() for group in ours] == [group.tolist() for group in whole]


# ---- codes of others ----


def test_hashes_of_other_packages():
    bits, codes = gallery(42)
    np.testing.assert_array_equal(fh.perceptual_codes(list(bits)), codes)
    numbers = [int("".join("01"[int(bit)] for bit in row), 2) for row in bits]
    np.testing.assert_array_equal(fh.perceptual_codes(numbers, n_bits=42), codes)
    for notation, texts in {
        "hex": [f"{number:011x}" for number in numbers],  # as str(ImageHash) writes a colour hash
        "bits": [f"{number:042b}" for number in numbers],
        "decimal": [str(number) for number in numbers],
    }.items():
        np.testing.assert_array_equal(fh.perceptual_codes(texts, notation=notation, n_bits=42), codes)
    np.testing.assert_array_equal(fh.perceptual_codes([row.tobytes().hex() for row in codes], n_bits=42), codes)
    with pytest.raises(ValueError, match=r"hashes\[1\]: expected zeros in the low 6 bits"):
        fh.perceptual_codes(["000000000040", "000000000041"], n_bits=42)
    with pytest.raises(ValueError, match=r"hashes\[0\]: expected a whole number of 42 bits, got 4398046511104"):
        fh.perceptual_codes([2**42], n_bits=42)
    with pytest.raises(ValueError, match=r"hashes must have n_bits = 41 bits, got 42"):
        fh.perceptual_codes(list(bits), n_bits=41)


def test_an_image_hash_of_42_bits():
    imagehash = pytest.importorskip("imagehash", reason="imagehash is not installed")
    bits, codes = gallery(42, 30)
    hashes = [imagehash.ImageHash(row.reshape(14, 3)) for row in bits]
    np.testing.assert_array_equal(fh.perceptual_codes(hashes), codes)
    np.testing.assert_array_equal(fh.perceptual_codes([str(each) for each in hashes], n_bits=42), codes)


def test_code_files(tmp_path):
    from fasthash.code_files import read_codes

    bits, codes = gallery(166, 30)
    codes.tofile(tmp_path / "codes.bin")
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "bits.npy", bits)
    (tmp_path / "codes.hex").write_text("\n".join(row.tobytes().hex() for row in codes))
    for name in ("codes.bin", "codes.npy", "bits.npy", "codes.hex"):
        np.testing.assert_array_equal(read_codes(tmp_path / name, n_bits=166), codes)
    (tmp_path / "bits.txt").write_text("\n".join("".join("01"[int(bit)] for bit in row) for row in bits))
    np.testing.assert_array_equal(read_codes(tmp_path / "bits.txt", "bits", 166), codes)
    np.save(tmp_path / "wrong.npy", codes | 1)
    with pytest.raises(ValueError, match=r"wrong.npy must have zeros in the low 2 bits"):
        read_codes(tmp_path / "wrong.npy", n_bits=166)


def test_fingerprints_of_chemfp(tmp_path):
    from fasthash.code_files import read_codes

    bits, codes = gallery(166, 30)
    theirs = np.packbits(bits, axis=1, bitorder="little")  # their first bit is the lowest of a byte
    lines = [f"{row.tobytes().hex()}\tmolecule{i}" for i, row in enumerate(theirs)]
    (tmp_path / "keys.fps").write_text("\n".join(["#FPS1", "#num_bits=166", *lines, ""]))
    np.testing.assert_array_equal(read_codes(tmp_path / "keys.fps", n_bits=166), codes)
    np.testing.assert_array_equal(read_codes(tmp_path / "keys.fps"), theirs)
    for n_bits in (161, 177):  # of as many bytes, or of more
        with pytest.raises(ValueError, match=f"holds codes of 166 bits, expected {n_bits}"):
            read_codes(tmp_path / "keys.fps", n_bits=n_bits)


def test_shards():
    pytest.importorskip("ray", reason="ray is not installed")
    from fasthash.distributed import ShardedIndex

    bits, codes = gallery(42)
    with ShardedIndex((8, 34), n_shards=2) as index:
        index.add(codes)
        assert index.n_bits == 42
        distances, found = nearest(bits, np.arange(N), bits[:3], N + 2, 42)
        result = index.search(codes[:3], N + 2)
        np.testing.assert_array_equal(result.ids, found)
        np.testing.assert_array_equal(result.distances, distances)
        np.testing.assert_array_equal(index.reconstruct([5, 1]), codes[[5, 1]])
        for call in (index.add, index.search):
            with pytest.raises(ValueError, match="must have zeros in the low 6 bits"):
                call(codes | 1)


def test_the_command_line(tmp_path):
    testing = pytest.importorskip("typer.testing", reason="typer is not installed")
    from fasthash.cli import app

    _, codes = gallery(166, 30)
    np.save(tmp_path / "codes.npy", codes)
    build = ["build", str(tmp_path / "codes.npy"), "-o", str(tmp_path / "codes.fh"), "--bits", "166"]
    assert testing.CliRunner().invoke(app, build).exit_code == 0
    assert fh.load(tmp_path / "codes.fh").n_bits == 166
    search = ["search", str(tmp_path / "codes.fh"), str(tmp_path / "codes.npy"), "-k", "1", "--csv"]
    lines = testing.CliRunner().invoke(app, search).stdout.splitlines()
    assert "0,1,0,0" in lines
