"""One file neither ends an encoding run nor fills memory: it is listed as broken, and the codes of the others stay."""

import gzip
import io
import os
import tarfile
import tracemalloc

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs the extra 'train'")
pytest.importorskip("timm", reason="the encoder needs the extra 'train'")

from fasthash._photos import Limits
from fasthash.distributed import _shards, encode_images
from fasthash.folders import read_photo
from hostile_images import hostile_images, image_bytes, png_bomb, raw_header, sparse, tar_bytes
from photos import picture, small_encoder, write

MIB = 1 << 20

encoder = pytest.fixture(scope="module")(small_encoder)


@pytest.fixture(scope="module")
def expected(encoder):
    """Codes of the good images 0, 1 and 2, as they are without any other beside them."""
    return np.concatenate([encoder.encode(encoder.transform(picture(seed))[None]) for seed in range(3)])


def encode(source, encoder, output, **options):
    options = {"batch_size": 1, "part_size": 8, "workers": 0, "progress": False} | options
    return encode_images(source, encoder, output, **options)


def together(parts):
    codes, keys, _ = zip(*parts, strict=True)
    return np.concatenate(codes), [key for part in keys for key in part]


# Photos in a folder


def test_photos_in_a_folder(encoder, expected, tmp_path):
    folder, hostile = tmp_path / "photos", hostile_images()
    for seed in range(3):
        write(folder / f"{seed}.png", picture(seed))
    for name, data in hostile.items():
        (folder / name).write_bytes(data)
    found = encoder.encode_folder(folder, batch_size=1, max_bytes=MIB, progress=False)
    assert found.paths == ["0.png", "1.png", "2.png"]
    np.testing.assert_array_equal(found.codes, expected)
    reasons = dict(found.broken)
    assert list(reasons) == sorted(hostile)
    assert reasons["bomb of 13,000 px.png"] == "ValueError: 13000 x 13000 px are more than max_pixels=134217728"
    assert reasons["bomb of 50,000 px.png"].startswith("DecompressionBombError: ")
    parts = encode(folder, encoder, tmp_path / "codes", max_bytes=MIB)
    np.testing.assert_array_equal(together(parts)[0], expected)
    assert parts.broken == found.broken


def test_text_and_profiles_that_unpack_to_much_take_no_memory(tmp_path):
    hostile = hostile_images()
    for name in ("text.png", "profile.png"):
        (tmp_path / name).write_bytes(hostile[name])
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"[Tt]oo large"):
            read_photo(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 10 * MIB
        tracemalloc.stop()


def test_an_animation_of_many_pictures_is_read_for_its_first(tmp_path):
    frames = [picture(seed, (8, 8)) for seed in range(200)]
    for suffix in ("gif", "png", "webp"):
        path = write(tmp_path / f"film.{suffix}", frames[0], save_all=True, append_images=frames[1:])
        assert read_photo(path).size == (8, 8)


def test_the_limits_are_exact(tmp_path):
    path = write(tmp_path / "0.png", picture(0, (40, 50)))
    n_bytes = path.stat().st_size
    assert read_photo(path, Limits(n_bytes, 2000)).size == (40, 50)
    with pytest.raises(ValueError, match=f"^{n_bytes} bytes are more than max_bytes={n_bytes - 1}$"):
        read_photo(path, Limits(n_bytes - 1, 2000))
    with pytest.raises(ValueError, match=r"^40 x 50 px are more than max_pixels=1999$"):
        read_photo(path, Limits(n_bytes, 1999))


@pytest.mark.parametrize("name", ["max_bytes", "max_pixels"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_limits_that_are_none(encoder, tmp_path, name, value, error):
    write(tmp_path / "0.png")
    for call in (
        lambda: encoder.encode_folder(tmp_path, **{name: value}),
        lambda: encode(tmp_path, encoder, tmp_path / "codes", **{name: value}),
    ):
        with pytest.raises(error, match=f"^{name} must be (at least 1|an integer), got {value}$"):
            call()


def test_a_run_goes_on_with_its_own_limits(encoder, tmp_path):
    write(tmp_path / "photos" / "0.png")
    encode(tmp_path / "photos", encoder, tmp_path / "codes", max_pixels=100)
    with pytest.raises(ValueError, match="max_pixels is 2000, was 100"):
        encode(tmp_path / "photos", encoder, tmp_path / "codes", max_pixels=2000)


# Tars


def test_members_of_all_sorts(encoder, expected, tmp_path):
    hostile = hostile_images()
    links = {"link.png": tarfile.SYMTYPE, "hard.png": tarfile.LNKTYPE, "tty.png": tarfile.CHRTYPE}
    links |= {"disk.png": tarfile.BLKTYPE, "pipe.png": tarfile.FIFOTYPE}
    data = tar_bytes(
        ("/absolute.png", image_bytes(0)),
        sparse("sparse.png", 1 << 40),
        ("large.png", bytes(2 * MIB)),
        *hostile.items(),
        *((name, b"", {"type": kind, "linkname": "../../etc/passwd"}) for name, kind in links.items()),
        ("folder.png", b"", {"type": tarfile.DIRTYPE}),
        ("../up.png", image_bytes(1)),
        ("inner.tar", tar_bytes(("0.png", image_bytes(0)))),
        ("inner.png", tar_bytes(("0.png", image_bytes(0)))),
        ("n" * 2000 + ".png", image_bytes(0)),
        ("unknown.png", image_bytes(0), {"type": b"Z"}),
        ("../up.png", image_bytes(2)),
    )
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar").write_bytes(data)
    (tmp_path / "shards" / "1.tgz").write_bytes(gzip.compress(data))
    before = set(os.listdir(tmp_path.parent))
    parts = encode(tmp_path / "shards", encoder, tmp_path / "codes", format="tar", max_bytes=MIB)
    for part, shard in zip(parts, ("0.tar", "1.tgz"), strict=True):
        assert part.keys == [f"{shard}//absolute.png", f"{shard}/../up.png", f"{shard}/../up.png"]
        np.testing.assert_array_equal(part.codes, expected)
        reasons = {key.removeprefix(f"{shard}/"): reason for key, reason in part.broken}
        names = {"sparse.png", "large.png", *hostile, *links, "inner.png", "n" * 1024, "unknown.png"} - {"folder.png"}
        assert set(reasons) == names
        assert reasons["sparse.png"] == "ValueError: 1099511627776 bytes are more than max_bytes=1048576"
        assert reasons["large.png"] == "ValueError: 2097152 bytes are more than max_bytes=1048576"
        assert {reasons[name] for name in (*links, "unknown.png")} == {"ValueError: not a regular file"}
        assert reasons["n" * 1024] == "ValueError: its name has 2004 characters, more than 1024"
    assert set(os.listdir(tmp_path.parent)) == before


def test_names_of_members_that_are_not_utf_8(encoder, tmp_path):
    name = os.fsdecode(b"\xff\x1b.png")
    (tmp_path / "0.tar").write_bytes(tar_bytes((name, image_bytes(0)), (name, b""), format=tarfile.GNU_FORMAT))
    (part,) = encode(tmp_path / "0.tar", encoder, tmp_path / "codes", format="tar")
    assert part.keys == [f"0.tar/{name}"]
    assert [key for key, _ in part.broken] == [f"0.tar/{name}"]


@pytest.mark.parametrize(
    "bomb",
    [
        raw_header("././@LongLink", 64 * MIB, tarfile.GNUTYPE_LONGNAME) + bytes(64 * MIB),
        raw_header("long", 64 * MIB, tarfile.XHDTYPE) + bytes(64 * MIB),
        raw_header("long", 1 << 40, tarfile.XHDTYPE),
        raw_header("long", -1024, tarfile.XHDTYPE),
        raw_header("back.png", -1024, tarfile.REGTYPE),
        raw_header("back.png", -(1 << 40), tarfile.REGTYPE),
        (raw_header("chain", 512, tarfile.XHDTYPE) + b"9 path=a\n".ljust(512, b"\0")) * 5000,
        tar_bytes(("map.png", b"2000000\n" + b"0\n" * (8 * MIB), sparse("map.png", 1000)[2]))[:-1024],
    ],
    ids=["name", "attributes", "claim", "negative", "back", "far back", "chain", "map"],
)
def test_headers_of_a_tar_take_no_memory(encoder, expected, tmp_path, bomb):
    """Tarfile reads as much as they say."""
    n_blocks = 1 + -(-len(image_bytes(0)) // 512)
    begin = tar_bytes(("0.png", image_bytes(0)))[: n_blocks * 512]
    data = gzip.compress(begin + bomb + tar_bytes(("1.png", image_bytes(1))), 1)
    del bomb
    (tmp_path / "0.tgz").write_bytes(data)
    (tmp_path / "1.tar").write_bytes(tar_bytes(("1.png", image_bytes(1))))
    tracemalloc.start()
    photos = list(_shards.members(str(tmp_path / "0.tgz"), "0.tgz", Limits()))
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    tracemalloc.stop()
    assert [key for key, _ in photos] == ["0.tgz/0.png", "0.tgz"]

    parts = encode(tmp_path, encoder, tmp_path / "codes", format="tar")
    codes, keys = together(parts)
    assert keys == ["0.tgz/0.png", "1.tar/1.png"]
    np.testing.assert_array_equal(codes, expected[:2])
    assert [key for key, _ in parts.broken] == ["0.tgz"]


def test_many_members_take_no_memory(tmp_path):
    path = tmp_path / "0.tar"
    path.write_bytes(tar_bytes(*((f"{number}.txt", b"") for number in range(2000))))
    tracemalloc.start()
    assert list(_shards.members(str(path), "0.tar", Limits())) == []
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()


def test_shards_that_are_no_files(encoder, tmp_path):
    (tmp_path / "shards").mkdir()
    os.mkfifo(tmp_path / "shards" / "pipe.tar")  # opening it would wait for ever
    (tmp_path / "shards" / "link.tar").symlink_to("nowhere")
    (tmp_path / "shards" / "zeros.tar").symlink_to("/dev/zero")
    (tmp_path / "shards" / "good.tar").write_bytes(tar_bytes(("0.png", image_bytes(0))))
    parts = encode(tmp_path / "shards", encoder, tmp_path / "codes", format="tar")
    assert together(parts)[1] == ["good.tar/0.png"]
    reasons = dict(parts.broken)
    assert set(reasons) == {"pipe.tar", "link.tar", "zeros.tar"}
    assert reasons["pipe.tar"] == reasons["zeros.tar"] == "ValueError: not a regular file"
    assert reasons["link.tar"].startswith("FileNotFoundError: ")


@pytest.mark.parametrize("kind", ["bz2", "xz", "gz"])
def test_compressed_tars_that_are_damaged(encoder, tmp_path, kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{kind}") as tar:
        for seed in range(3):
            member = tarfile.TarInfo(f"{seed}.png")
            member.size = len(image_bytes(seed))
            tar.addfile(member, io.BytesIO(image_bytes(seed)))
    data = bytearray(file.getvalue())
    (tmp_path / "good.tar").write_bytes(data)
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    (tmp_path / "bad.tar").write_bytes(data)
    parts = encode(tmp_path, encoder, tmp_path / "codes", format="tar")
    assert parts[1].keys == ["good.tar/0.png", "good.tar/1.png", "good.tar/2.png"]
    assert "bad.tar" in dict(parts.broken)


# Parquet files


@pytest.fixture
def parquet():
    pytest.importorskip("pyarrow", reason="needs the extra 'ray'")
    from pyarrow import parquet

    return parquet


def as_arrow(values, type=None):
    import pyarrow as pa

    return pa.array(values, type)


def write_rows(parquet, path, **columns):
    import pyarrow as pa

    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table(columns), path)


def test_rows_of_all_sorts(parquet, encoder, expected, tmp_path):
    hostile = hostile_images()
    images = [image_bytes(0), None, bytes(2 * MIB), image_bytes(1), *hostile.values(), image_bytes(2)]
    write_rows(parquet, tmp_path / "rows" / "0.parquet", image=images)
    parts = encode(tmp_path / "rows", encoder, tmp_path / "codes", format="parquet", max_bytes=MIB)
    (part,) = parts
    np.testing.assert_array_equal(part.codes, expected)
    assert part.keys == ["0.parquet/0", "0.parquet/3", f"0.parquet/{len(images) - 1}"]
    assert len(part.broken) == len(images) - 3
    assert part.broken[1] == ("0.parquet/2", "ValueError: 2097152 bytes are more than max_bytes=1048576")


def test_columns_of_all_sorts(parquet, encoder, expected, tmp_path):
    import pyarrow as pa

    good = image_bytes(0)
    struct = {"bytes": good, "path": None}
    accepted = {
        "binary": [good],
        "large": as_arrow([good], pa.large_binary()),
        "fixed": as_arrow([good], pa.binary(len(good))),
        "shared": as_arrow([good, good]).dictionary_encode(),
        "struct": [struct, {"bytes": None, "path": "x"}, None],
    }
    refused = {
        "text": ["text"],
        "list": [[good] * 3],
        "numbers": [[1] * 1000],
        "number": [7],
        "other struct": [{"data": good}],
        "nothing": as_arrow([None], pa.null()),
        "shared text": as_arrow(["text"]).dictionary_encode(),
        "none": as_arrow([], pa.binary()),
    }
    for name, column in (accepted | refused).items():
        write_rows(parquet, tmp_path / "rows" / f"{name}.parquet", image=column)
    write_rows(parquet, tmp_path / "rows" / "other column.parquet", photo=[good])
    twice = pa.table([as_arrow([good]), as_arrow([good])], names=["image", "image"])
    parquet.write_table(twice, tmp_path / "rows" / "twice.parquet")
    whole = (tmp_path / "rows" / "binary.parquet").read_bytes()
    (tmp_path / "rows" / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "rows" / "zeros.parquet").write_bytes(whole[:4] + bytes(len(whole) - 12) + whole[-8:])

    parts = encode(tmp_path / "rows", encoder, tmp_path / "codes", format="parquet")
    codes, keys = together(parts)
    assert {key.split(".")[0] for key in keys} == set(accepted)
    assert (codes == expected[0]).all()
    broken = {key.split(".")[0] for key, _ in parts.broken}
    assert broken == {*refused, "struct", "other column", "twice", "cut", "zeros"} - {"none"}
    assert dict(parts.broken)["text.parquet/0"] == "ValueError: no bytes of an image but string"


def test_keys_of_all_sorts(parquet, encoder, expected, tmp_path):
    import pyarrow as pa

    from fasthash.distributed import EncodedParts

    far = as_arrow([0, 1 << 60, None], pa.timestamp("ms"))
    columns = {
        "times": (far, ["1970-01-01 00:00:00"], [1, 2]),
        "shared times": (far.dictionary_encode(), ["1970-01-01 00:00:00"], [1, 2]),
        "dates": (as_arrow([0, 2**31 - 1, None], pa.date32()), ["1970-01-01"], [1, 2]),
        "text": (["a\x1b", "b" * 2000, "c\0"], ["a\x1b"], [1, 2]),
        "large text": (["d", "e" * MIB, "f"], ["d", "f"], [1]),
        "lists": ([[1], [2], [3]], [], [0, 1, 2]),
        "bad text": (as_arrow([b"g", b"\xff", b"h"]).view(pa.string()), ["g", "h"], [1]),
    }
    for number, (name, (column, good, bad)) in enumerate(columns.items()):
        path = tmp_path / f"{number}.parquet"
        write_rows(parquet, path, image=[image_bytes(seed) for seed in range(3)], name=column)
        encode(path, encoder, tmp_path / name, format="parquet", key_column="name")
        (part,) = EncodedParts(tmp_path / name)
        assert part.keys == good, name
        assert [key for key, _ in part.broken] == [f"{number}.parquet/{row}" for row in bad]
        np.testing.assert_array_equal(part.codes, expected[[row for row in range(3) if row not in bad]])
    assert "timestamp[ms], cannot be written as text" in EncodedParts(tmp_path / "times").broken[0][1]


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_a_dictionary_of_large_values_is_not_spread_out(parquet, tmp_path, as_dictionary):
    """60 rows that share one value, in a file of its size or less."""
    import pyarrow as pa

    path, size = tmp_path / "0.parquet", 4 * MIB
    column = pa.DictionaryArray.from_arrays(as_arrow([0] * 60, pa.int32()), as_arrow([bytes(size)]))
    parquet.write_table(
        pa.table({"image": column}), path, dictionary_pagesize_limit=16 * MIB, store_schema=as_dictionary
    )
    assert path.stat().st_size < size
    before = pa.total_allocated_bytes()
    keys = []
    for key, read in _shards.rows(str(path), "0.parquet", "image", None, Limits()):
        assert pa.total_allocated_bytes() - before < 8 * size
        with pytest.raises(OSError, match="cannot identify"):
            read()
        keys.append(key)
    assert keys == [f"0.parquet/{row}" for row in range(60)]


def test_a_wrong_name_of_a_column_is_told_before_anything_is_done(parquet, encoder, tmp_path):
    for number in range(2):
        write_rows(parquet, tmp_path / "rows" / f"{number}.parquet", photo=[image_bytes(0)])
    (tmp_path / "rows" / "2.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"0\.parquet has no column 'image' but photo"):
        encode(tmp_path / "rows", encoder, tmp_path / "codes", format="parquet")
    assert not (tmp_path / "codes").exists()


# The commands


def test_options_of_the_commands(encoder, tmp_path):
    testing = pytest.importorskip("typer.testing", reason="needs the extra 'cli'")
    from fasthash.cli import app

    write(tmp_path / "photos" / "0.png", picture(0, (40, 40)))
    write(tmp_path / "photos" / "1.png", picture(1, (60, 60)))
    (tmp_path / "photos" / "2.png").write_bytes(png_bomb(60, 60) + bytes(100_000))
    encoder.save(tmp_path / "encoder")
    run = testing.CliRunner().invoke
    limits = ["--max-bytes", "50000", "--max-pixels", "2000"]
    commands = [["encode", tmp_path / "encoder", tmp_path / "photos", tmp_path / "codes.npz"]]
    commands += [["encode", tmp_path / "encoder", tmp_path / "photos", tmp_path / "codes", "--ray", "--num-workers", 0]]
    for missing in ("imagehash", "jinja2"):
        pytest.importorskip(missing, reason="needs the extra 'dedup'")
    commands += [["dedup", tmp_path / "photos", "--output", tmp_path / "report"]]
    for command in commands:
        result = run(app, [*map(str, command), *limits])
        assert result.exit_code == 0, result.output
        assert "skipped 1.png: ValueError: 60 x 60 px are more than max_pixels=2000" in result.stderr
        assert "bytes are more than max_bytes=50000" in result.stderr
        wrong = run(app, [*map(str, command), "--force" if command[0] == "encode" else "--json", "--max-pixels", "0"])
        assert wrong.exit_code == 1
        assert "--max-pixels must be at least 1, got 0" in wrong.stderr
