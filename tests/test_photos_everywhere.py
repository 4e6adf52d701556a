"""One photo gives the same pixels in every way that leads to a network, and is told by name where it cannot be read."""

import io
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs the extra 'train'")
pytest.importorskip("timm", reason="the encoder needs the extra 'train'")

from PIL import Image, ImageDraw

from fasthash._photos import Limits
from fasthash.data import (
    ImageSet,
    Split,
    load_folder,
    load_lists,
    read_cifar10,
    read_coco,
    read_folder,
    read_image_list,
)
from fasthash.distributed import encode_images
from fasthash.folders import read_photo
from fasthash.losses import DHNLoss
from fasthash.train import train
from hostile_images import tar_bytes
from photos import picture, small_encoder, write

encoder = pytest.fixture(scope="module")(small_encoder)


def disc():
    image = Image.new("RGBA", (40, 50), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((5, 5, 30, 40), fill=(200, 30, 90, 255))
    return image


def wide():
    return Image.fromarray(np.asarray(picture(3).convert("L")).astype(np.uint16) * 257)


PICTURES = {
    "transparent": disc(),
    "grey and transparent": disc().convert("LA"),
    "palette": disc().quantize(8),
    "16 bits": wide(),
    "plain": picture(1),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_all_ways_to_a_network_see_the_same_pixels(encoder, tmp_path, kind):
    path = write(tmp_path / "photos" / "a" / "0.png", PICTURES[kind])
    expected = encoder.transform(read_photo(path))
    codes = encoder.encode(expected[None])

    with Image.open(path) as image:
        assert torch.equal(encoder.transform(image), expected)
    images = ImageSet([path], [0], ["a"], encoder.transform)
    assert torch.equal(images[0][0], expected)
    (tmp_path / "0.tar").write_bytes(tar_bytes(("0", path.read_bytes())))
    np.testing.assert_array_equal(encoder.encode_folder(tmp_path / "photos", progress=False).codes, codes)
    for name, source in (("images", tmp_path / "photos"), ("tar", tmp_path / "0.tar")):
        options = {"format": name, "batch_size": 1, "part_size": 1, "workers": 0, "progress": False}
        (part,) = encode_images(source, encoder, tmp_path / f"{name} codes", **options)
        np.testing.assert_array_equal(part.codes, codes)
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra 'ray'")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"image": [path.read_bytes()]}), tmp_path / "0.parquet")
    options |= {"format": "parquet"}
    (part,) = encode_images(tmp_path / "0.parquet", encoder, tmp_path / "parquet codes", **options)
    np.testing.assert_array_equal(part.codes, codes)


def test_16_bits_are_not_all_white(encoder):
    """`transform` cut them off at 255."""
    of_wide = encoder.transform(wide())
    assert of_wide.std() > 0.1
    assert torch.equal(of_wide, encoder.transform(picture(3).convert("L")))


def test_arrays_are_seen_as_pictures_are(encoder):
    layer = disc()
    for array in (np.asarray(layer), np.asarray(picture(1)), np.asarray(picture(1).convert("L"))):
        expected = encoder.transform(Image.fromarray(array))
        assert torch.equal(encoder.transform(array), expected)
        images = ImageSet([array], [0], ["a"], encoder.transform)
        assert torch.equal(images[0][0], expected)
    tensor = torch.from_numpy(np.asarray(layer).transpose(2, 0, 1).copy())
    assert torch.equal(encoder.transform(tensor), encoder.transform(layer))


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.float32, bool])
def test_arrays_of_other_types_are_refused_by_name(encoder, dtype):
    """Those of 16 bits were cut off at 255."""
    array = np.ones((8, 8), dtype)
    message = rf"must be a uint8 array \(H, W\), .*, got dtype {np.dtype(dtype)}"
    with pytest.raises(TypeError, match=rf"^image {message}"):
        encoder.transform(array)
    good = np.zeros((8, 8), np.uint8)
    with pytest.raises(TypeError, match=rf"^images\[1\] {message}"):
        ImageSet([good, array, None], [0, 0, 0], ["a"])
    with pytest.raises(TypeError, match=rf"^images {message}"):
        ImageSet(np.stack([array] * 3), [0, 0, 0], ["a"])


def test_other_things_that_are_no_pictures(encoder):
    with pytest.raises(TypeError, match="image must be a PIL image, a uint8 array or a tensor, got str"):
        encoder.transform("a.png")
    with pytest.raises(TypeError, match=r"image must be a uint8 or float tensor \(C, H, W\), got dtype torch.int32"):
        encoder.transform(torch.zeros(3, 8, 8, dtype=torch.int32))
    for shape in ((8,), (8, 8, 2), (8, 8, 5)):
        with pytest.raises(ValueError, match=r"images\[0\] must have shape"):
            ImageSet([np.zeros(shape, np.uint8)], [0], ["a"])
    with pytest.raises(ValueError, match="16-bit pixels from 3 to 200 of 65535 are all 0 in 8 bits"):
        encoder.transform(Image.fromarray(np.array([[3, 200]], np.uint16)))


# Folders of classes


def write_odd_classes(folder):
    """Two classes of five photos whose names tell little, and a file that needs a plugin."""
    for label in "ab":
        for number, name in enumerate(("0.jpg", "1.jpeg", "2", "3.jpg_large", "4.bak")):
            write(folder / label / name, picture(ord(label) + number), format="JPEG")
        (folder / label / "notes.txt").write_text("no photo")
    (folder / "a" / "5.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(80))
    return folder


def test_folders_of_classes_hold_photos_of_all_names(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    photos = write_odd_classes(tmp_path / "photos")
    assert np.bincount(read_folder(photos).labels).tolist() == [6, 5]
    with pytest.warns(
        UserWarning, match=r"skipped 1 image file that cannot be read: .*5\.heic \(ValueError: .*heif.*\)$"
    ):
        split = load_folder(photos)
    assert [path.rsplit("/", 1)[1] for path in split.skipped] == ["5.heic"]
    assert len(split.train) + len(split.query) == 10


def test_folders_by_bytes(tmp_path):
    photos = write_odd_classes(tmp_path / "photos")
    assert len(read_folder(bytes(photos))) == 11
    for call in (read_folder, load_folder):
        for wrong in (None, 5, [photos]):
            with pytest.raises(TypeError, match=r"^path must be a path, got "):
                call(wrong)


@pytest.mark.parametrize("wrong", [None, 5, ["photos"]])
def test_places_that_are_none_are_named(wrong, encoder, tmp_path):
    split = Split(*[ImageSet([None], [0], ["a"])] * 3, "by hand.")
    calls = {
        "folder": [read_cifar10, read_coco, encoder.encode_folder],
        "path": [read_folder, load_folder, read_image_list, load_lists, Split.load, split.save],
        "root": [lambda root: read_image_list("x", root), lambda root: load_lists("x", root=root)],
    }
    for name, functions in calls.items():
        for call in functions:
            with pytest.raises(TypeError, match=rf"^{name} must be a path, got "):
                call(wrong)


# Photos that cannot be read


@pytest.fixture
def classes(tmp_path):
    """Two classes of four photos, one of them cut off."""
    for label in "ab":
        for number in range(4):
            write(tmp_path / "photos" / label / f"{number}.jpg", picture(number))
    cut = tmp_path / "photos" / "b" / "2.jpg"
    file = io.BytesIO()
    picture(9, (200, 200)).save(file, "JPEG", quality=95)
    cut.write_bytes(file.getvalue()[:-400])
    return tmp_path / "photos"


def test_a_training_names_the_photo_that_ends_it(encoder, classes):
    images = read_folder(classes, encoder.transform)
    with pytest.raises(OSError, match=r"^images\[6\] cannot be read: '.*photos/b/2\.jpg': OSError: .*truncated"):
        images[6]
    for num_workers in (0, 1):
        options = {"epochs": 1, "batch_size": 4, "num_workers": num_workers, "progress": False}
        with pytest.raises(OSError, match=r"photos/b/2\.jpg.*truncated"):
            train(small_encoder(), DHNLoss(), images, **options)
    with pytest.raises(OSError, match=r"photos/b/2\.jpg.*truncated"):
        encoder.encode(images)


def test_such_photos_can_be_left_out(encoder, classes):
    images, broken = read_folder(classes, encoder.transform).readable()
    assert [path for path, _ in broken] == [str(classes / "b" / "2.jpg")]
    assert broken[0][1].startswith("OSError: image file is truncated")
    assert images.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    record = train(small_encoder(), DHNLoss(), images, epochs=1, batch_size=7, progress=False)
    assert record.settings["images"] == 7


def test_of_a_whole_split(classes):
    lists = classes.parent / "lists"
    lists.mkdir()
    lines = [f"{label}/{number}.jpg {'ab'.index(label)}\n" for label in "ab" for number in range(4)]
    for name, chosen in (("train", lines), ("database", lines[2:]), ("test", lines[:2])):
        (lists / f"{name}.txt").write_text("".join(chosen))
    (lists / "test.txt").write_text("".join([*lines[:2], "a/nowhere.jpg 0\n"]))
    split = load_lists(lists, root=classes)
    left = split.readable()
    assert {name: len(part) for name, part in left.parts.items()} == {"train": 7, "gallery": 5, "query": 2}
    assert left.skipped == (str(classes / "a" / "nowhere.jpg"), str(classes / "b" / "2.jpg"))
    assert left.protocol == f"{split.protocol} Left out: 2 images that cannot be read."
    assert left.readable() is left
    left.save(classes.parent / "split.json")
    assert Split.load(classes.parent / "split.json", classes).parts.keys() == left.parts.keys()


def test_an_array_of_paths(tmp_path):
    paths = [str(write(tmp_path / f"{seed}.png", picture(seed))) for seed in range(2)]
    for images in (np.array(paths), np.array(paths, object)):
        found = ImageSet(images, [0, 0], ["a"])
        np.testing.assert_array_equal(np.asarray(found.image(1)), np.asarray(picture(1)))
        assert found.readable()[1] == []


def test_arrays_and_labels_alone_are_readable():
    images = ImageSet([np.zeros((4, 4), np.uint8), None], [0, 0], ["a"])
    left, broken = images.readable()
    assert (len(left), broken) == (2, [])


def test_a_list_of_images_that_are_missing(tmp_path):
    (tmp_path / "list.txt").write_text("a.png 0\nb.png 1\n")
    images = read_image_list(tmp_path / "list.txt", tmp_path)
    with pytest.raises(OSError, match=r"images\[1\] cannot be read: '.*b\.png': FileNotFoundError"):
        images.image(1)


def test_limits_of_bytes_name_no_other_file(tmp_path):
    path = write(tmp_path / "a.png", disc())
    with pytest.raises(ValueError, match="bytes are more than max_bytes=10"):
        read_photo(path, Limits(max_bytes=10))
    for wrong in (None, 5, b"a.png"):
        with pytest.raises(TypeError, match=r"^path must be a path, got "):
            read_photo(wrong)
    with pytest.raises(IsADirectoryError, match=r"^path must be a file, got the folder '"):
        read_photo(tmp_path)
