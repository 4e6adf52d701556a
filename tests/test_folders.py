"""Folders of photos: every kind of file that Pillow reads, every kind of broken one, and codes in order."""

import os
import struct
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs the extra 'train'")
pytest.importorskip("timm", reason="the encoder needs the extra 'train'")

from PIL import Image, features
from torchvision.datasets.folder import IMG_EXTENSIONS

from fasthash.encoder import HashEncoder
from fasthash.folders import IMAGE_SUFFIXES, read_photo
from photos import picture, small_encoder, write
from real_data import shared, write_photos

encoder = pytest.fixture(scope="module")(small_encoder)


def encode(encoder, folder, **options):
    return encoder.encode_folder(folder, **{"progress": False} | options)


# Codes and their order


def test_codes_are_those_of_the_images_in_sorted_order(encoder, tmp_path):
    names = ["b.png", "a/z.png", "a/b/c.PNG", "ä.png", "10.png", "9.png", ".hidden/x.png", "B.png"]
    for seed, name in enumerate(names):
        write(tmp_path / name, picture(seed), format="png")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty.png").mkdir()
    result = encode(encoder, tmp_path)
    assert result.paths == sorted(names)
    assert result.broken == []
    expected = encoder.encode(torch.stack([encoder.transform(picture(names.index(path))) for path in result.paths]))
    assert expected.shape == (len(names), 3)
    assert len(np.unique(expected, axis=0)) > 4
    np.testing.assert_array_equal(result.codes, expected)


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (3, 0), (3, 2), (100, 1)])
def test_batches_and_workers_change_nothing(encoder, tmp_path, batch_size, num_workers):
    for seed in range(7):
        write(tmp_path / f"{seed}.png", picture(seed))
    for seed in (2, 3, 4):  # a whole batch of three, and parts of batches
        (tmp_path / f"{seed}-broken.png").write_bytes(b"")
    (tmp_path / "30.png").write_bytes(b"")
    expected = encode(encoder, tmp_path)
    result = encode(encoder, tmp_path, batch_size=batch_size, num_workers=num_workers)
    assert result.paths == expected.paths == [f"{seed}.png" for seed in range(7)]
    assert result.broken == expected.broken
    assert [path for path, _ in result.broken] == ["2-broken.png", "3-broken.png", "30.png", "4-broken.png"]
    np.testing.assert_array_equal(result.codes, expected.codes)


def test_images_are_read_batch_by_batch(encoder, tmp_path, monkeypatch):
    for seed in range(6):
        write(tmp_path / f"{seed}.png", picture(seed))
    events = []
    monkeypatch.setattr("fasthash.folders.read_photo", lambda path, limits: events.append("read") or picture())
    handle = encoder.backbone.register_forward_pre_hook(lambda module, inputs: events.append(len(inputs[0])))
    encode(encoder, tmp_path, batch_size=4)
    handle.remove()
    assert [event for event in events if event != "read"] == [4, 2]
    assert events.index(4) <= 4 + 1  # the second batch is not read before the first is encoded


def test_paths_are_relative_and_may_be_odd(encoder, tmp_path, monkeypatch):
    name = os.fsdecode(b"not \xff utf-8 \n.png")
    write(tmp_path / "photos" / name, format="png")
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "photos/", Path("photos"), "./photos/../photos"):
        assert encode(encoder, folder).paths == [name]


def test_progress_bar(encoder, tmp_path, capsys, monkeypatch):
    write(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    encoder.encode_folder(tmp_path)
    assert capsys.readouterr().err == ""  # nobody watches a file
    monkeypatch.setattr("fasthash.folders.is_watched", lambda: True)
    encoder.encode_folder(tmp_path)
    assert "2/2" in capsys.readouterr().err
    encode(encoder, tmp_path)
    assert capsys.readouterr().err == ""


def test_the_mode_of_the_encoder_is_kept(encoder, tmp_path):
    write(tmp_path / "a.png")
    encoder.train()
    encode(encoder, tmp_path)
    assert encoder.training
    encoder.eval()


# Kinds of images


def test_suffixes():
    assert set(IMG_EXTENSIONS) <= IMAGE_SUFFIXES
    assert {".gif", ".jfif", ".apng"} <= IMAGE_SUFFIXES
    assert not {".eps", ".pdf", ".mpg", ".h5", ".svg"} & IMAGE_SUFFIXES


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "gif", "jpg", "webp", "jp2", "avif"])
def test_formats(tmp_path, suffix):
    module = {"webp": "webp", "jp2": "jpg_2000", "avif": "avif"}.get(suffix)
    if module and not features.check(module):
        pytest.skip(f"this Pillow reads no .{suffix}")
    path = write(tmp_path / f"image.{suffix}")
    assert np.abs(np.asarray(read_photo(path), int) - np.asarray(picture(), int)).mean() < 8  # some lose details


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_modes(tmp_path, mode):
    """What a mode can hold of the picture is what comes back."""
    image = picture().convert("L") if mode == "I;16" else picture().convert(mode)
    expected = image.convert("RGB")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    path = write(tmp_path / ("image.tif" if mode in ("CMYK", "YCbCr") else "image.png"), image)
    with Image.open(path) as saved:
        assert saved.mode == mode or mode == "YCbCr"  # Pillow 12 makes that RGB itself
    assert read_photo(path).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read_photo(path)), np.asarray(expected))


def test_sixteen_bits_become_eight(tmp_path):
    ramp = np.array([[0, 256, 257, 32896, 65278, 65535]], np.uint16)
    png, tif, pgm = (tmp_path / f"ramp.{suffix}" for suffix in ("png", "tif", "pgm"))
    Image.fromarray(ramp).save(png)
    Image.fromarray(ramp).save(tif)
    pgm.write_bytes(b"P5 6 1 65535\n" + ramp.astype(">u2").tobytes())
    for path in (png, tif, pgm):
        assert np.asarray(read_photo(path))[0].tolist() == [[value] * 3 for value in (0, 0, 1, 128, 254, 255)]


def test_animations_give_their_first_picture(tmp_path):
    for suffix in ("gif", "png", "tif"):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
        path = write(tmp_path / f"film.{suffix}", frames[0], save_all=True, append_images=frames[1:])
        with Image.open(path) as film:
            assert film.n_frames == 3
        assert read_photo(path).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(tmp_path, suffix, orientation):
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8], upright[:8, 16:], upright[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    # Where the first row and the first column of the stored image are on the upright one, as the EXIF standard says.
    stored = {
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: upright[:, ::-1].transpose(1, 0, 2),  # right, top
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: upright[::-1].transpose(1, 0, 2),  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path / f"photo.{suffix}", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    result = np.asarray(read_photo(path), int)
    assert result.shape == upright.shape
    assert np.abs(result[4::8, 4::8] - upright[4::8, 4::8]).max() < 40  # JPEG changes colours a little


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 40])
def test_broken_metadata_break_no_photo(tmp_path, exif):
    path = write(tmp_path / "photo.jpg", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_photo(path).size == (40, 50)


# Broken files


def png_bomb(width, height):
    """A PNG file of a hundred bytes that claims to be huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def test_broken_files_are_listed_and_the_rest_is_encoded(encoder, tmp_path):
    good = write(tmp_path / "good.jpg", picture(1))
    whole = {suffix: write(tmp_path / f"whole.{suffix}").read_bytes() for suffix in ("jpg", "png", "gif", "tif", "bmp")}
    bad = tmp_path / "bad"
    bad.mkdir()
    for suffix, content in whole.items():
        (bad / f"truncated.{suffix}").write_bytes(content[: len(content) // 2])
        (bad / f"header.{suffix}").write_bytes(content[:12])
        (tmp_path / f"whole.{suffix}").unlink()
    (bad / "empty.jpg").write_bytes(b"")
    (bad / "text.jpg").write_text("this is no image")
    (bad / "page.png").write_text("<html><body>404</body></html>")
    (bad / "bomb.png").write_bytes(png_bomb(50_000, 50_000))
    (bad / "strip.png").write_bytes(write(tmp_path / "strip.png", Image.new("RGB", (1, 3000))).read_bytes())
    (tmp_path / "strip.png").unlink()
    (bad / "postscript.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    Image.fromarray(np.zeros((9, 9), np.float32)).save(bad / "floats.tif")
    Image.fromarray(np.full((9, 9), 70_000, np.int32)).save(bad / "integers.tif")
    (bad / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(bad / "pipe.jpg")

    result = encode(encoder, tmp_path, batch_size=2)
    assert result.paths == ["good.jpg"]
    np.testing.assert_array_equal(result.codes, encoder.encode(encoder.transform(read_photo(good))[None]))
    reasons = dict(result.broken)
    assert list(reasons) == sorted(f"bad/{name}" for name in os.listdir(bad))
    for name, reason in {
        "empty.jpg": "ValueError: the file is empty",
        "text.jpg": "UnidentifiedImageError: cannot identify",
        "postscript.jpg": "UnidentifiedImageError: cannot identify",
        "truncated.jpg": "OSError: ",
        "truncated.png": "OSError: image file is truncated",
        "bomb.png": "DecompressionBombError: Image size (2500000000 pixels) exceeds limit",
        "strip.png": "ValueError: 1 x 3000 px is more than 100 times as long as wide",
        "floats.tif": "ValueError: pixels are floats, whose range is not known",
        "integers.tif": "ValueError: pixels have 32 bits, whose range is not known",
        "dangling.jpg": "FileNotFoundError: ",
        "pipe.jpg": "ValueError: not a regular file",
    }.items():
        assert reasons[f"bad/{name}"].startswith(reason)
    assert all(len(reason) < 400 for reason in reasons.values())


def test_links_to_files_are_followed_and_links_to_folders_are_not(encoder, tmp_path):
    write(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "b.png").symlink_to("a.png")
    (tmp_path / "photos" / "again").symlink_to(".")
    assert encode(encoder, tmp_path / "photos").paths == ["a.png", "b.png"]


def test_what_may_not_be_read_is_listed(encoder, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    write(tmp_path / "good.png")
    write(tmp_path / "secret.png").chmod(0)
    write(tmp_path / "closed" / "a.png").parent.chmod(0)
    result = encode(encoder, tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert result.paths == ["good.png"]
    assert [path for path, _ in result.broken] == ["closed", "secret.png"]
    assert all(reason.startswith("PermissionError: ") for _, reason in result.broken)


def test_folders_that_cannot_be_read(encoder, tmp_path, monkeypatch):
    """As above, for all users: the file system says no to one folder."""
    write(tmp_path / "good.png")
    write(tmp_path / "closed" / "a.png")
    scandir = os.scandir

    def guarded(path):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    closed = tmp_path / "closed"
    result = encode(encoder, tmp_path)
    assert result.paths == ["good.png"]
    assert result.broken[0][0] == "closed"
    assert result.broken[0][1].startswith("PermissionError: ")
    closed = tmp_path
    with pytest.raises(PermissionError):
        encode(encoder, tmp_path)


def test_a_folder_of_broken_files_gives_no_codes(encoder, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    result = encode(encoder, tmp_path)
    assert (result.codes.shape, result.codes.dtype, result.paths, len(result.broken)) == ((0, 3), np.uint8, [], 1)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"folder": "nowhere"}, FileNotFoundError, "folder='nowhere' is not a folder"),
        ({"folder": __file__}, FileNotFoundError, "folder='.*test_folders.py' is not a folder"),
        ({"folder": 5}, TypeError, "folder must be a path, got 5"),
        ({}, ValueError, r"^no photos below '.*' \(1 file\)$"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, ValueError, "num_workers must be at least 0, got -1"),
        ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
    ],
)
def test_bad_arguments(encoder, tmp_path, arguments, error, message):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(error, match=message):
        encoder.encode_folder(**{"folder": tmp_path, **arguments})


def test_a_source_without_photos(tmp_path):
    from fasthash.distributed.sources import Source

    with pytest.raises(ValueError, match=r"^no photos below '.*' \(0 files\)$"):
        Source(str(tmp_path), "images", 4).parts()


# Real photos


def check_real_photos(folder):
    torch.manual_seed(0)
    encoder = HashEncoder("hrnet_w18_small", (8, 16, 40), image_size=64)
    result = encode(encoder, folder, batch_size=16)
    assert result.paths == sorted(os.listdir(folder))
    assert result.broken == []
    assert result.codes.shape == (len(result.paths), 8)
    photos = torch.stack([encoder.transform(Image.open(folder / path)) for path in result.paths[:4]])
    np.testing.assert_array_equal(result.codes[:4], encoder.encode(photos))


def test_real_photos(tmp_path):
    check_real_photos(write_photos(tmp_path / "real"))


def test_many_real_photos(tmp_path):
    with tarfile.open(shared("clothing_small_224", "clothing_small_224.tar")) as archive:
        members = [member for member in archive if member.name.startswith("test/")][::8]
        for member in members:
            (tmp_path / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    check_real_photos(tmp_path)
