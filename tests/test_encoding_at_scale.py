"""Encoding in parts, in this process and on Ray: the codes of `encode_folder`, whatever happens on the way."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs the extra 'train'")
pytest.importorskip("timm", reason="the encoder needs the extra 'train'")

import fasthash as fh
from fasthash.distributed import EncodedPart, EncodedParts, encode_images
from fasthash.distributed.encoding import encode_part
from fasthash.distributed.sources import Source
from photos import picture, small_encoder, write

SIZES = {"batch_size": 4, "part_size": 8}

encoder = pytest.fixture(scope="module")(small_encoder)


@pytest.fixture(scope="module")
def cluster():
    """Ray on this machine, for all tests that need it."""
    ray = pytest.importorskip("ray", reason="needs the extra 'ray'")
    pytest.importorskip("pyarrow", reason="needs the extra 'ray'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, object_store_memory=80_000_000, include_dashboard=False, _node_ip_address="127.0.0.1")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 photos and three broken ones, which make four parts."""
    place = tmp_path_factory.mktemp("photos")
    for seed in range(23):
        write(place / f"{seed % 3}" / f"{seed}.png", picture(seed))
    write(place / os.fsdecode(b"not \xff utf-8.png"), picture(23))
    for name in ("1/broken.png", "2/5.jpg", "0/link.jpg"):
        (place / name).write_bytes(b"no photo") if "link" not in name else (place / name).symlink_to("nowhere")
    return place


def encode(source, encoder, output, **options):
    return encode_images(source, encoder, output, **SIZES | {"workers": 0, "progress": False} | options)


def together(parts):
    """All codes and all keys of some parts."""
    codes, keys, _ = zip(*parts, strict=True)
    return np.concatenate(codes), [key for part in keys for key in part]


def files(output):
    return {path.name: path.read_bytes() for path in output.iterdir()}


# Codes and their order


def check_folder(parts, encoder, folder):
    expected = encoder.encode_folder(folder, batch_size=4, progress=False)
    codes, keys = together(parts)
    assert len(np.unique(codes, axis=0)) > 15
    np.testing.assert_array_equal(codes, expected.codes)
    assert keys == expected.paths
    assert parts.broken == expected.broken
    assert [key for key, _ in parts.broken] == ["0/link.jpg", "1/broken.png", "2/5.jpg"]
    assert [len(part.keys) + len(part.broken) for part in parts] == [8, 8, 8, 3]


def test_codes_are_those_of_encode_folder(encoder, folder, tmp_path):
    parts = encode(folder, encoder, tmp_path / "codes")
    assert isinstance(parts[0], EncodedPart)
    assert (len(parts), parts.level_bits, parts.source) == (4, (8, 16), str(folder))
    check_folder(parts, encoder, folder)
    check_folder(EncodedParts(tmp_path / "codes"), encoder, folder)


def test_workers_change_nothing(cluster, encoder, folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("fasthash.distributed.encoding.is_watched", lambda: True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each worker has
    encode(folder, encoder, tmp_path / "here")
    parts = encode(folder, encoder, tmp_path / "there", workers=2, progress=True)
    check_folder(parts, encoder, folder)
    torch.set_num_threads(threads)
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert "4/4" in capfd.readouterr().err


def test_parts_are_indexed_one_by_one(encoder, folder, tmp_path):
    index = fh.HierIndex((8, 16))
    parts = encode(folder, encoder, tmp_path)
    for codes, _, _ in parts:
        index.add(codes)
    codes, keys = together(parts)
    np.testing.assert_array_equal(index.reconstruct(np.arange(len(keys))), codes)


def test_nothing_but_broken_files(encoder, tmp_path):
    for seed in range(9):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{seed}.png").write_bytes(b"")
    parts = encode(tmp_path / "photos", encoder, tmp_path / "codes")
    codes, keys = together(parts)
    assert (codes.shape, keys, len(parts.broken)) == ((0, 3), [], 9)


# Shards


def shard(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def png(seed):
    file = io.BytesIO()
    picture(seed).save(file, "png")
    return file.getvalue()


def in_order(encoder, tmp_path, seeds):
    """Codes of pictures, as `encode_folder` makes them."""
    for place, seed in enumerate(seeds):
        write(tmp_path / "in order" / f"{place:03}.png", picture(seed))
    return encoder.encode_folder(tmp_path / "in order", batch_size=4, progress=False).codes


@pytest.mark.parametrize("workers", [0, 1])
def test_tar_shards(request, encoder, tmp_path, workers):
    if workers:
        request.getfixturevalue("cluster")
    (tmp_path / "shards" / "b").mkdir(parents=True)
    numbers = [9, 2, 3, 4, 5, 6, 7, 8]  # in the order in which they lie there
    members = [(f"{n}.{end}", data) for n in numbers for end, data in (("txt", b"text"), ("png", png(n)))]
    shard(tmp_path / "shards" / "b" / "1.tar", [*members, ("broken.jpg", b"no photo"), ("2.png", png(10))])
    shard(tmp_path / "shards" / "2.TAR", [("a/1.png", png(1))])
    shard(tmp_path / "shards" / "3.tar", [])
    parts = encode(tmp_path / "shards", encoder, tmp_path / "codes", format="tar", workers=workers)
    codes, keys = together(parts)
    assert keys == ["2.TAR/a/1.png", *(f"b/1.tar/{n}.png" for n in [*numbers, 2])]
    np.testing.assert_array_equal(codes, in_order(encoder, tmp_path, [1, *numbers, 10]))
    message = "UnidentifiedImageError: cannot identify image file 'b/1.tar/broken.jpg'"
    assert parts.broken == [("b/1.tar/broken.jpg", message)]


def test_a_single_shard(encoder, tmp_path):
    path = shard(tmp_path / "one.tar", [("1.png", png(1))])
    assert together(encode(path, encoder, tmp_path / "codes", format="tar"))[1] == ["one.tar/1.png"]


@pytest.mark.parametrize("damage", ["cut in an image", "cut between images", "header", "no tar", "gzip"])
def test_what_a_damaged_tar_lacks_is_told(encoder, tmp_path, damage):
    """Tarfile takes some of these for the end of the archive."""
    path = shard(tmp_path / "0.tar", [(f"{n}.png", png(n)) for n in range(3)])
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        last = tar.getmembers()[2]
    if damage == "cut in an image":
        del data[last.offset_data + 100 :]
    elif damage == "cut between images":
        del data[last.offset :]
    elif damage == "header":
        data[last.offset : last.offset + 512] = b"\xff" * 512
    elif damage == "no tar":
        data = b"no tar"
    else:
        import gzip

        data = gzip.compress(data)[:-500]
        path.unlink()
        path = tmp_path / "0.tgz"
    path.write_bytes(data)
    parts = encode(tmp_path, encoder, tmp_path / "codes", format="tar")
    (key, reason), *others = parts.broken
    assert (key, others) == (path.name, [])
    assert "Error: " in reason
    if damage not in ("no tar", "gzip"):
        codes, keys = together(parts)
        assert keys == ["0.tar/0.png", "0.tar/1.png"]
        np.testing.assert_array_equal(codes, in_order(encoder, tmp_path, [0, 1]))


def test_links_in_a_tar_are_told(encoder, tmp_path):
    path = shard(tmp_path / "0.tar", [("1.png", png(1))])
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("2.png")
        link.type, link.linkname = tarfile.LNKTYPE, "1.png"
        tar.addfile(link)
    assert encode(path, encoder, tmp_path / "codes", format="tar").broken == [
        ("0.tar/2.png", "ValueError: not a regular file")
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_parquet(request, encoder, tmp_path, workers):
    pa = pytest.importorskip("pyarrow", reason="needs the extra 'ray'")
    if workers:
        request.getfixturevalue("cluster")
    from pyarrow import parquet

    images = [png(seed) for seed in range(70)]  # more than are read at once
    images[3], images[5] = None, b"no photo"
    (tmp_path / "rows").mkdir()
    parquet.write_table(pa.table({"image": images, "name": range(100, 170)}), tmp_path / "rows" / "0.parquet")
    struct = [{"bytes": png(70), "path": "x"}, {"bytes": None, "path": "y"}]
    parquet.write_table(pa.table({"image": struct, "name": [170, 171]}), tmp_path / "rows" / "1.parquet")
    (tmp_path / "rows" / "2.parquet").write_bytes(b"no parquet")
    good = [seed for seed in range(71) if seed not in (3, 5)]

    parts = encode(tmp_path / "rows", encoder, tmp_path / "codes", format="parquet", workers=workers)
    codes, keys = together(parts)
    assert keys == [f"{n // 70}.parquet/{n % 70}" for n in good]
    np.testing.assert_array_equal(codes, in_order(encoder, tmp_path, good))
    assert [key for key, _ in parts.broken] == ["0.parquet/3", "0.parquet/5", "1.parquet/1", "2.parquet"]
    assert parts.broken[0][1] == "ValueError: no bytes of an image but NoneType"

    options = {"format": "parquet", "column": "image", "key_column": "name"}
    named = encode(tmp_path / "rows", encoder, tmp_path / "named", **options)
    assert together(named)[1] == [str(100 + n) for n in good]
    with pytest.raises(ValueError, match=r"0\.parquet has no column 'photo' but image, name"):
        encode(tmp_path / "rows", encoder, tmp_path / "none", format="parquet", column="photo")


# Stopped and resumed

KILLED = """
import os, signal, sys
from fasthash.distributed import encode_images
from fasthash.encoder import HashEncoder

place = sys.argv[1]
replace, written = os.replace, []

def replace_or_die(draft, path):
    if str(path).endswith(".npz"):
        written.append(path)
        if len(written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    replace(draft, path)

os.replace = replace_or_die
sizes = {"batch_size": 2, "part_size": 2, "workers": 0}
encode_images(f"{place}/photos", HashEncoder.load(f"{place}/encoder"), f"{place}/codes", progress=False, **sizes)
"""


def test_killed_and_resumed(cluster, encoder, tmp_path, monkeypatch):
    for seed in range(12):
        write(tmp_path / "photos" / f"{seed:02}.png", picture(seed))
    (tmp_path / "photos" / "05b.png").write_bytes(b"no photo")
    encoder.save(tmp_path / "encoder")
    result = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True, text=True, timeout=120)
    assert result.returncode == -signal.SIGKILL, result.stderr
    output = tmp_path / "codes"
    before = files(output)
    assert sum(name.endswith(".npz") for name in before) == 2
    assert sum(name.endswith(".tmp") for name in before) == 1  # it was killed as it put a part in place
    parts = EncodedParts(output)
    assert len(parts.missing) == 5
    with pytest.raises(ValueError, match="lacks 5 of 7 parts"):
        iter(parts)

    written = []
    original = EncodedParts.write
    monkeypatch.setattr(EncodedParts, "write", lambda *call: written.append(call[1]) or original(*call))
    missing = parts.missing
    sizes = {"batch_size": 2, "part_size": 2}
    parts = encode(tmp_path / "photos", encoder, output, workers=1, **sizes)
    assert sorted(written) == missing  # none twice, none left out
    assert parts.missing == []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encode(tmp_path / "photos", encoder, tmp_path / "undisturbed", **sizes)
    torch.set_num_threads(threads)
    assert files(output) == files(tmp_path / "undisturbed")
    left = {item for item in before.items() if item[0].endswith((".tmp", ".lock"))}
    assert before.items() <= files(output).items() | left

    written.clear()
    encode(tmp_path / "photos", encoder, output, workers=1, **sizes)
    assert written == []


def test_a_lost_worker_is_replaced(cluster, tmp_path, folder):
    encoder, mark = small_encoder(), str(tmp_path / "mark")

    def die_once(module, inputs):
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

    handle = encoder.backbone.register_forward_pre_hook(die_once)
    parts = encode(folder, encoder, tmp_path / "codes", workers=2)
    handle.remove()
    assert os.path.exists(mark)
    check_folder(parts, encoder, folder)


def test_errors_of_workers_are_ours(cluster, folder, tmp_path):
    encoder = small_encoder()
    encoder.head.layers[0].bias.data[3] = torch.nan
    with pytest.raises(ValueError, match="must not hold NaN, found one for number 0, bit 3"):
        encode(folder, encoder, tmp_path / "codes", workers=1)


def test_as_many_workers_as_the_cluster_has_room_for(cluster, monkeypatch):
    from fasthash.distributed._workers import _room

    assert [_room(n, 0) for n in (2, 1, 0.5, 0.1)] == [1, 2, 4, 20]
    message = "num_cpus=1 and num_gpus=1 of a worker must be in the cluster, which has 2 cores and 0 GPUs"
    with pytest.raises(ValueError, match=message):
        _room(1, 1)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 16.0, "GPU": 2.0})
    assert [_room(*wanted) for wanted in ((1, 0.25), (4, 0.25), (1, 1))] == [8, 4, 2]


def test_a_host_that_does_not_see_the_source_lists_nothing_as_broken(encoder, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder on "):
        encode_part(encoder, Source(str(tmp_path / "elsewhere"), "images", 8), ["0.png"], 4)
    with pytest.raises(FileNotFoundError, match="is not there on "):
        encode_part(encoder, Source(str(tmp_path / "elsewhere"), "tar", 8), ["0.tar"], 4)


# Refused


@pytest.fixture
def few(tmp_path):
    for seed in range(3):
        write(tmp_path / "few" / f"{seed}.png", picture(seed))
    return tmp_path / "few"


def test_another_run_is_refused(encoder, few, tmp_path):
    output = tmp_path / "codes"
    encode(few, encoder, output)
    before = files(output)
    other = small_encoder()
    with torch.no_grad():
        other.head.layers[0].bias[0] += 1e-3
    write(tmp_path / "as many" / "0.png")
    cases = [
        (few, other, {}, "holds codes of another run: encoder is "),
        (tmp_path / "as many", encoder, {}, "source is .*as many', was .*few'"),
        (few, encoder, {"batch_size": 2}, "batch_size is 2, was 4"),
        (few, encoder, {"part_size": 4}, "part_size is 4, was 8"),
    ]
    for source, network, options, message in cases:
        with pytest.raises(ValueError, match=message):
            encode(source, network, output, **options)
    write(few / "3.png")
    with pytest.raises(ValueError, match="listing is "):
        encode(few, encoder, output)
    assert files(output) == before


def test_another_folder_is_refused(encoder, few, tmp_path):
    encoder.save(tmp_path / "encoder")
    with pytest.raises(FileExistsError, match="holds something else"):
        encode(few, encoder, tmp_path / "encoder")
    encode(few, encoder, tmp_path / "codes")
    (tmp_path / "codes" / "card.json").unlink()
    with pytest.raises(FileExistsError, match=r"holds parts without a card\.json"):
        encode(few, encoder, tmp_path / "codes")
    with pytest.raises(FileNotFoundError, match="holds no saved EncodedParts"):
        EncodedParts(few)


def test_damaged_parts(encoder, few, tmp_path):
    parts = encode(few, encoder, tmp_path / "codes")
    path = tmp_path / "codes" / "part-000000.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    for damaged in (data, data[:100], b"", b"PK"):
        path.write_bytes(damaged)
        with pytest.raises(fh.FormatError, match=r"part-000000\.npz is damaged"):
            parts[0]
    path.unlink()
    assert encode(few, encoder, tmp_path / "codes")[0].keys == ["0.png", "1.png", "2.png"]
    for number in (-1, 1):
        with pytest.raises(IndexError, match=f"number must be 0 to 0, got {number}"):
            parts[number]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": 3}, TypeError, "source must be a path, got 3"),
        ({"source": "missing"}, FileNotFoundError, "missing' is not a folder on "),
        ({"output": None}, TypeError, "output must be a path, got None"),
        ({"encoder": "resnet"}, TypeError, "encoder must be a HashEncoder, got str"),
        ({"format": "zip"}, ValueError, "format must be one of 'images', 'tar', 'parquet', got 'zip'"),
        ({"format": "tar"}, ValueError, r"holds no files for format='tar' \(\.tar, \.tar\.gz, \.tgz\)"),
        ({"column": "image"}, ValueError, "column must be None for format='images', got 'image'"),
        ({"format": "parquet", "key_column": 1}, TypeError, "key_column must be the name of a column or None, got 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"part_size": 6}, ValueError, "part_size must be a multiple of batch_size=4, got 6"),
        ({"part_size": 0}, ValueError, "part_size must be at least 1, got 0"),
        ({"workers": -1}, ValueError, "workers must be at least 0, got -1"),
        ({"num_cpus": 0}, ValueError, "num_cpus must be positive and finite, got 0"),
        ({"num_gpus": -1}, ValueError, "num_gpus must be finite and not negative, got -1"),
        ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
    ],
)
def test_bad_arguments(encoder, few, tmp_path, options, error, message):
    arguments = {"source": few, "encoder": encoder, "output": tmp_path / "codes"} | options
    with pytest.raises(error, match=message):
        encode(**arguments)
    assert not (tmp_path / "codes").exists()


def test_codes_are_read_without_torch(encoder, few, tmp_path):
    encode(few, encoder, tmp_path / "codes")
    code = "import sys; sys.modules |= {'torch': None, 'ray': None, 'PIL': None}\n"
    code += "from fasthash.distributed import EncodedParts; print(list(EncodedParts('codes'))[0].keys)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout == "['0.png', '1.png', '2.png']\n", result.stderr


# The command


@pytest.fixture
def run():
    testing = pytest.importorskip("typer.testing", reason="needs the extra 'cli'")
    from fasthash.cli import app

    return lambda *arguments: testing.CliRunner().invoke(app, [*map(str, arguments)])


def test_the_command(cluster, run, encoder, few, tmp_path):
    (few / "broken.jpg").write_bytes(b"no photo")
    encoder.save(tmp_path / "encoder")
    command = ["encode", tmp_path / "encoder", few, tmp_path / "codes", "--ray", "--batch-size", 2, "--part-size", 2]
    result = run(*command, "--num-workers", 1, "--index", tmp_path / "photos.fh")
    assert result.exit_code == 0, result.output
    assert f"3 images in {tmp_path / 'codes'}, 1 file skipped" in result.output
    assert "skipped broken.jpg: UnidentifiedImageError" in result.output
    codes, _ = together(EncodedParts(tmp_path / "codes"))
    np.testing.assert_array_equal(fh.load(tmp_path / "photos.fh").reconstruct([0, 1, 2]), codes)
    card = json.loads((tmp_path / "codes" / "card.json").read_text())
    assert (card["batch_size"], card["part_size"]) == (2, 2)

    again = run(*command[:-1], 4, "--num-workers", 0)
    assert again.exit_code == 1
    assert "part_size is 4, was 2" in again.output


def test_shards_by_command(run, encoder, tmp_path):
    encoder.save(tmp_path / "encoder")
    shard(tmp_path / "0.tar", [("1.png", png(1))])
    result = run(
        "encode", tmp_path / "encoder", tmp_path, tmp_path / "codes", "--ray", "--format", "tar", "--num-workers", 0
    )
    assert result.exit_code == 0, result.output
    assert EncodedParts(tmp_path / "codes")[0].keys == ["0.tar/1.png"]


def test_options_that_need_ray(run, tmp_path):
    for option in ("address", "format", "column", "key-column", "part-size", "num-gpus"):
        result = run("encode", tmp_path, tmp_path, tmp_path / "codes.npz", f"--{option}", "1")
        assert result.exit_code == 2
        assert f"--{option} needs --ray" in result.output


def test_options_of_workers_without_a_worker(encoder, few, tmp_path):
    for option, value in (("num_gpus", 1), ("num_cpus", 2), ("address", "auto")):
        message = f"^{option} must be left out with workers=0, which starts no worker, got {value!r}$"
        with pytest.raises(ValueError, match=message):
            encode(few, encoder, tmp_path / "codes", **{option: value})
    assert not (tmp_path / "codes").exists()


def test_sizes_that_do_not_fit_name_the_options(run, encoder, few, tmp_path):
    encoder.save(tmp_path / "encoder")
    result = run("encode", tmp_path / "encoder", few, tmp_path / "codes", "--ray", "--part-size", 100)
    assert "--part-size must be a multiple of --batch-size 64, got 100" in result.output


def test_parts_are_not_written_among_other_files(encoder, few, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"^output='.*' holds something else: thesis\.txt$"):
        encode(few, encoder, tmp_path / "mine")
    assert files(tmp_path / "mine") == {"thesis.txt": b"mine"}


def test_an_index_of_parts_by_command(run, encoder, folder, tmp_path):
    """Parts are read as the codes of a file, and name them in a store."""
    codes, keys = together(encode(folder, encoder, tmp_path / "codes"))
    bits = codes.shape[1] * 8
    assert run("build", tmp_path / "codes").exit_code == 0
    np.testing.assert_array_equal(fh.load(tmp_path / "codes.fh").to_arrays()[0], codes)
    assert run("build", tmp_path / "codes", "-o", tmp_path / "codes.fhs").exit_code == 0
    with fh.Store(tmp_path / "codes.fhs") as store:
        assert store.keys(store.ids(keys)).tolist() == keys
        np.testing.assert_array_equal(store.reconstruct(store.ids(keys)), codes)
    for options, message in (
        (["--bits", bits + 8], f"codes holds codes of {bits} bits, expected {bits + 8}"),
        (["--column", "a"], "codes holds parts of codes: leave out --array, --column and --notation"),
        (["--format", "npy"], "codes is a folder; fasthash encode makes codes of photos"),
    ):
        result = run("build", tmp_path / "codes", "--force", *options)
        assert result.exit_code == 1
        assert message in result.output
    (tmp_path / "codes/part-000002.npz").unlink()
    result = run("build", tmp_path / "codes", "--force")
    assert "lacks 1 of 4 parts: encoding was stopped" in result.output


def test_another_saved_folder_is_named(encoder, few, tmp_path):
    encode(few, encoder, tmp_path / "codes")
    message = r"card\.json is not the card of a HashEncoder: it describes a saved EncodedParts$"
    with pytest.raises(fh.FormatError, match=message):
        type(encoder).load(tmp_path / "codes")
