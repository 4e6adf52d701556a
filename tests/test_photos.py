"""What counts as a photo, and the pixels of photos of every mode: the same on all paths, and never blank in silence."""

import io
import os
import sys
import tarfile
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

pytest.importorskip("imagehash", reason="needs the extra dedup")

from PIL import Image, ImageDraw

from fasthash._photo_files import find_photos, is_photo, looks_like_photo
from fasthash._photos import Limits, decode_photo, photo_size, read_photo
from fasthash._pixels import check_colour, from_array, to_rgb
from fasthash._shown import command
from fasthash.dedup import find_duplicates, hash_photo

BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)
SHAPES = (("square", "rectangle"), ("disc", "ellipse"), ("bar", "line"))


def shape(draw, colour=BLACK, size=64):
    """A shape on a transparent picture, whose hidden colour is black."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    getattr(ImageDraw.Draw(image), draw)((size // 6, size // 4, size * 5 // 6, size * 3 // 4), fill=(*colour, 255))
    return image


def on(background, layer):
    """The layer on a background, pixel by pixel."""
    pixels = np.asarray(layer.convert("RGBA"), float)
    alpha = pixels[..., 3:] / 255
    return np.rint(pixels[..., :3] * alpha + np.array(background) * (1 - alpha)).astype(int)


def picture(seed=0, size=(48, 40)):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def png(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def find(folder, **options):
    return find_duplicates(folder, **{"progress": False} | options)


def paths(found):
    return [[photo.path for photo in group] for group in found.groups]


# Transparency


def transparent(mode):
    """A disc on transparency in a mode, as the bytes of a PNG file."""
    layer = shape("ellipse", (200, 30, 90))
    if mode == "P":  # a palette of which one colour is transparent
        palette = layer.convert("RGB").quantize(4)
        hidden = palette.getpixel((0, 0))
        return png(palette, transparency=hidden)
    if mode == "P, bytes":  # a palette of which each colour has its own transparency
        return png(layer.quantize(8))
    if mode == "L":
        return png(layer.convert("L"), transparency=0)
    if mode == "RGB":
        return png(layer.convert("RGB"), transparency=BLACK)
    return png(layer.convert(mode))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P, bytes", "L", "RGB"])
@pytest.mark.parametrize("background", [WHITE, RED, BLACK])
def test_transparent_parts_show_the_background(mode, background):
    data = transparent(mode)
    with Image.open(io.BytesIO(data)) as image:
        expected = on(background, image)
        assert mode[:2] in ("LA", "RG") or "transparency" in image.info
    found = np.asarray(decode_photo(data, "a.png", background=background), int)
    assert np.abs(found - expected).max() <= 1
    assert found[0, 0].tolist() == list(background)
    assert found[32, 32].tolist() != list(background)


def test_a_gradient_of_transparency():
    pixels = np.zeros((16, 256, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 100, np.arange(256)
    layer = Image.fromarray(pixels)
    for image in (layer, layer.convert("RGBa")):
        assert np.abs(np.asarray(to_rgb(image), int) - on(WHITE, image)).max() <= 1
    grey = layer.convert("LA")
    assert np.abs(np.asarray(to_rgb(grey.convert("La")), int) - on(WHITE, grey)).max() <= 2


def test_pictures_without_transparent_parts_stay_as_they_are():
    for mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(np.asarray(to_rgb(picture().convert(mode))), np.asarray(picture()))


def test_shapes_on_transparency_are_no_duplicates(tmp_path):
    """All three hashed alike, and the copy on white was not found."""
    for name, draw in SHAPES:
        shape(draw, size=256).save(tmp_path / f"{name}.png")
    assert paths(find(tmp_path)) == []
    copy = Image.new("RGB", (256, 256), WHITE)
    copy.paste(layer := shape("rectangle", size=256), mask=layer)
    copy.save(tmp_path / "square on white.png")
    shape("ellipse", size=256).convert("LA").save(tmp_path / "disc in grey.png")
    assert paths(find(tmp_path)) == [["disc in grey.png", "disc.png"], ["square on white.png", "square.png"]]


def test_white_shapes_need_another_background(tmp_path):
    for name, draw in SHAPES:
        shape(draw, WHITE).save(tmp_path / f"{name}.png")
    found = find(tmp_path)
    assert (found.n_photos, paths(found)) == (0, [])
    assert {why for _, why in found.broken} == {
        "ValueError: transparent, and blank on a background of #ffffff, the colour of its shapes"
    }
    for background in ("black", "#000000", BLACK):
        found = find(tmp_path, background=background)
        assert (found.n_photos, found.broken, paths(found)) == (3, [], [])
    assert (
        hash_photo(tmp_path / "disc.png", background="black") != hash_photo(tmp_path / "bar.png", background=BLACK)
    ).any()


def test_blank_pictures_are_blank():
    assert to_rgb(Image.new("RGBA", (4, 4), (0, 0, 0, 0))).getextrema() == ((255, 255),) * 3
    assert to_rgb(Image.new("RGBA", (4, 4), (*WHITE, 255))).getextrema() == ((255, 255),) * 3
    assert to_rgb(Image.fromarray(np.full((4, 4), 300, np.uint16))).getextrema() == ((1, 1),) * 3


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("whit", ValueError, "background must be a colour such as 'white' or '#00ff00', got 'whit'"),
        ("#ffffff00", ValueError, "background must be a colour without transparency, got '#ffffff00'"),
        ((1, 2), TypeError, r"background must be a colour: its name, or three integers, got \(1, 2\)"),
        (None, TypeError, "background must be a colour: its name, or three integers, got None"),
        ((1, 2, 256), ValueError, r"background must be three integers from 0 to 255, got \(1, 2, 256\)"),
        ((1.0, 2, 3), TypeError, "background must be a colour"),
    ],
)
def test_what_is_no_colour(tmp_path, value, error, message):
    picture().save(tmp_path / "a.png")
    for call in (find, lambda folder, **options: hash_photo(folder / "a.png", **options)):
        with pytest.raises(error, match=f"^{message}"):
            call(tmp_path, background=value)
    assert check_colour("background", "#0a0B0c") == check_colour("background", [10, 11, 12]) == (10, 11, 12)


# 16 bits


def wide(seed=0):
    return np.asarray(picture(seed).convert("L")).astype(np.uint16) * 257


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled(tmp_path, suffix):
    Image.fromarray(wide()).save(tmp_path / f"a.{suffix}")
    picture().convert("L").save(tmp_path / "b.png")
    np.testing.assert_array_equal(
        np.asarray(read_photo(tmp_path / f"a.{suffix}")), np.asarray(read_photo(tmp_path / "b.png"))
    )
    assert paths(find(tmp_path, radius=0)) == [[f"a.{suffix}", "b.png"]]


@pytest.mark.parametrize("dtype", [np.uint16, ">u2", np.int32])
def test_pictures_of_16_bits_in_memory(dtype):
    image = Image.fromarray(wide().astype(dtype))
    if image.mode == "I":  # 32 bits in memory, which a PNG file of 16 bits may become
        with pytest.raises(ValueError, match=r"^pixels have 32 bits, whose range is not known$"):
            to_rgb(image)
        image.format = "PNG"
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.asarray(picture().convert("L").convert("RGB")))


def test_16_bits_with_a_transparent_value():
    pixels = wide()
    pixels[:20] = 1234
    with Image.open(io.BytesIO(png(Image.fromarray(pixels), transparency=1234))) as image:
        image.load()
        assert (image.mode, image.info["transparency"]) in (("I;16", 1234), ("I", 1234))
        found = np.asarray(to_rgb(image))
    assert (found[:20] == 255).all()
    np.testing.assert_array_equal(found[20:, :, 0], pixels[20:] // 257)


@pytest.mark.parametrize(("low", "high"), [(0, 256), (257, 514), (65280, 65535)])
def test_depth_maps_that_8_bits_would_show_blank_are_listed(tmp_path, low, high):
    """Four of them were one group of duplicates."""
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(low, high, (32, 32)).astype(np.uint16)).save(tmp_path / f"{number}.png")
    found = find(tmp_path)
    assert (found.groups, found.n_photos, len(found.broken)) == ([], 0, 4)
    assert all(why.startswith("ValueError: 16-bit pixels from ") for _, why in found.broken)
    assert "of 65535 are all" in found.broken[0][1]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_modes_become_rgb(mode):
    if mode == "LAB":
        pytest.importorskip("PIL.ImageCms", reason="this Pillow knows no colour profiles")
    assert to_rgb(Image.new(mode, (4, 4))).mode == "RGB"


def test_floats_are_refused():
    with pytest.raises(ValueError, match=r"^pixels are floats, whose range is not known$"):
        to_rgb(Image.fromarray(np.zeros((4, 4), np.float32)))


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((4, 4), np.uint16), TypeError, r"pixels must be a uint8 array .*, got dtype uint16; .*257.* scales"),
        (np.zeros((4, 4, 3), np.float32), TypeError, r"pixels must be a uint8 array .*, got dtype float32$"),
        (np.zeros((4, 4), bool), TypeError, "pixels must be a uint8 array .*, got dtype bool"),
        (np.zeros((4, 4, 2), np.uint8), ValueError, r"pixels must have shape .*, got \(4, 4, 2\)"),
        (np.zeros((3, 4, 4), np.uint8), None, None),  # three rows of RGBA pixels
        (np.zeros((0, 4), np.uint8), ValueError, r"pixels must have shape .*, got \(0, 4\)"),
        ([[0]], TypeError, "pixels must be a uint8 array, got list"),
    ],
)
def test_arrays_that_are_no_pictures(array, error, message):
    if error is None:
        assert from_array(array).size == (4, 3)
        return
    with pytest.raises(error, match=f"^{message}"):
        from_array(array, name="pixels")


# Pixels beyond Pillow's limit


def test_a_limit_above_the_default_lifts_that_of_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr("fasthash._photos.MAX_PIXELS", 1500)
    picture().save(tmp_path / "a.png")  # 1,920 pixels
    with pytest.raises(Image.DecompressionBombError):
        read_photo(tmp_path / "a.png", Limits(max_pixels=1500))
    assert read_photo(tmp_path / "a.png", Limits(max_pixels=1920)).size == (48, 40)
    with pytest.raises(ValueError, match="48 x 40 px are more than max_pixels=1919"):
        read_photo(tmp_path / "a.png", Limits(max_pixels=1919))
    assert Image.MAX_IMAGE_PIXELS == 500
    assert find(tmp_path, max_pixels=1920).n_photos == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_the_size_from_the_header_is_that_of_the_photo(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "photo", kind, exif=exif)
    assert photo_size(tmp_path / "photo") == read_photo(tmp_path / "photo").size


def test_threads_leave_the_filters_of_warnings_as_they_were(tmp_path, monkeypatch):
    """The thread that ended last restored the filters that another one had set."""
    picture(1).save(tmp_path / "first.png")
    picture(2, (40, 48)).save(tmp_path / "second.png")
    first_reads, second_reads, first_is_read = Event(), Event(), Event()

    def wait_for_the_other(image, background):
        (first_reads if image.width == 48 else second_reads).set()
        assert (second_reads if image.width == 48 else first_is_read).wait(60)
        return to_rgb(image, background)

    monkeypatch.setattr("fasthash._photos.to_rgb", wait_for_the_other)
    before = list(warnings.filters)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(read_photo, tmp_path / "first.png")
        assert first_reads.wait(60)
        second = pool.submit(read_photo, tmp_path / "second.png")
        first.result()
        first_is_read.set()
        second.result()
    assert list(warnings.filters) == before


# Which files are photos


@pytest.mark.skipif(sys.platform != "linux", reason="needs long paths")
def test_folders_may_lie_deep(tmp_path, monkeypatch):
    """os.walk of Python 3.11 fails after a thousand."""
    monkeypatch.chdir(tmp_path)
    for _ in range(1100):
        os.mkdir("a")
        os.chdir("a")
    picture().save("b.png")
    os.chdir(tmp_path)
    try:
        found = find_photos(tmp_path)
        assert (found.paths, found.broken, found.n_others) == (["a/" * 1100 + "b.png"], [], 0)
    finally:  # tools that remove folders call themselves, too
        os.chdir(tmp_path)
        os.rename("a", "b")
        while os.path.isdir("b/a"):
            os.rename("b/a", "a")
            for name in os.listdir("b"):
                os.remove(os.path.join("b", name))
            os.rmdir("b")
            os.rename("a", "b")


def test_photos_of_all_names_are_found(tmp_path):
    """Four of five were neither hashed nor listed."""
    names = ["a.jpg", "b.jpeg", "b", "c.jpg_large", ".jpeg", "d.JPG", "e.bak", "f.mpo", "g.php"]
    for name in names:
        picture().save(tmp_path / name, "JPEG")
    (tmp_path / "notes.txt").write_text("BM is no picture, and P5 is none")
    (tmp_path / "nothing").touch()
    (tmp_path / "link").symlink_to("nowhere")
    found = find(tmp_path)
    assert paths(found) == [sorted(names)]
    assert (found.broken, found.n_others) == ([], 3)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM", "AVIF"])
def test_content_tells_where_the_name_does_not(tmp_path, kind):
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    picture().save(tmp_path / "without", kind)
    assert find_photos(tmp_path).paths == ["without"]
    assert read_photo(tmp_path / "without").size == (48, 40)
    (tmp_path / "cut").write_bytes((tmp_path / "without").read_bytes()[:64])
    assert [path for path, _ in find(tmp_path).broken] == ["cut"]


@pytest.mark.parametrize(
    "content", [b"", b"BMW", b"P6 is a name", b"II", b"GIF is a format", b"ftypheic", b"RIFF    WAVE"]
)
def test_content_that_is_no_photo(content):
    assert not looks_like_photo(content)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0" + bytes(60)


def test_photos_that_need_a_plugin_are_listed(tmp_path, monkeypatch):
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("a.heic", "b.HEIF", "c", "d.jpg"):
        (tmp_path / name).write_bytes(HEIC)
    (tmp_path / "e.jxl").write_bytes(b"\xff\x0a" + bytes(20))
    (tmp_path / "f.CR2").write_bytes(b"II*\0" + bytes(20))
    picture().save(tmp_path / "g.heic", "PNG")  # which is none
    found = find(tmp_path)
    assert (found.n_photos, found.n_others) == (1, 0)
    heif = f"ValueError: .heic photos need a plugin of Pillow: {command('pip')} install 'fasthash-search[heif]'"
    assert found.broken == [
        ("a.heic", heif),
        ("b.HEIF", heif),
        ("c", heif),
        ("d.jpg", heif),
        ("e.jxl", f"ValueError: .jxl photos need a plugin of Pillow: {command('pip')} install pillow-jxl-plugin"),
        ("f.CR2", "ValueError: raw photos of cameras (.cr2) are not read"),
    ]


@pytest.fixture
def plugin(monkeypatch):
    """A function that registers a format with Pillow, as plugins do; all is undone at the end."""
    for name in ("OPEN", "EXTENSION"):
        monkeypatch.setattr(Image, name, dict(getattr(Image, name)))
    monkeypatch.setattr(Image, "ID", list(Image.ID))

    def register(name, suffixes, begin):
        def load(file, filename=None):
            return picture(7)

        Image.register_open(name, load, lambda head: head.startswith(begin))
        Image.register_extensions(name, suffixes)

    return register


def test_plugins_of_pillow_are_honoured(tmp_path, plugin):
    (tmp_path / "a.qqq").write_bytes(b"QQQ!")
    (tmp_path / "b").write_bytes(b"QQQ!")
    assert find(tmp_path).n_others == 2
    plugin("QQQ", [".qqq"], b"QQQ!")
    (tmp_path / "c.qqq").write_bytes(b"broken")
    found = find(tmp_path)
    assert paths(found) == [["a.qqq", "b"]]
    assert [path for path, _ in found.broken] == ["c.qqq"]
    assert is_photo("x.QQQ")


def test_a_plugin_that_is_installed_is_registered(tmp_path, plugin, monkeypatch):
    module = types.ModuleType("pillow_heif")
    module.register_heif_opener = lambda: plugin("HEIF", [".heic", ".heif"], b"\0\0\0\x18ftypheic")
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    for name in ("a.heic", "b.jpg"):
        (tmp_path / name).write_bytes(HEIC)
    assert paths(find(tmp_path)) == [["a.heic", "b.jpg"]]


def test_formats_that_pillow_runs_programs_for_stay_out(tmp_path):
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    assert find(tmp_path).n_others == 1
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    assert "cannot identify" in find(tmp_path).broken[0][1]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.heic", "a.cr2", "a.jpg_large"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).touch()
    (tmp_path / "no-photo").touch()
    found = find(tmp_path)
    assert found.broken == [(name, "ValueError: the file is empty")]
    assert found.n_others == 1


def test_members_of_tars(tmp_path):
    shards = pytest.importorskip("fasthash.distributed._shards", reason="needs the extra 'train'")
    jpeg = io.BytesIO()
    picture().save(jpeg, "JPEG")
    for mode in ("w", "w:gz"):
        with tarfile.open(tmp_path / "0.tar", mode) as tar:
            for name, data in (
                ("a", jpeg.getvalue()),
                ("b.jpg_large", jpeg.getvalue()),
                ("c.txt", b"text"),
                ("d.heic", HEIC),
                ("e.cls", b""),
                ("f", png(shape("ellipse"))),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        found = dict(shards.members(str(tmp_path / "0.tar"), "0.tar", Limits()))
        assert list(found) == ["0.tar/a", "0.tar/b.jpg_large", "0.tar/d.heic", "0.tar/f"]
        for key in ("0.tar/a", "0.tar/b.jpg_large"):
            np.testing.assert_array_equal(np.asarray(found[key]()), np.asarray(Image.open(jpeg)))
        assert found["0.tar/f"]().getpixel((0, 0)) == WHITE
