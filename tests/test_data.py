"""Image sets, and the splits of the digits and of folders of photos."""

import sys
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the data sets need the extra 'train'")
pytest.importorskip("torchvision", reason="the data sets need the extra 'train'")

from PIL import Image

from fasthash import MissingExtraError
from fasthash.data import ImageSet, load_digits, load_folder


def write_image(path, value=0, size=(12, 10)):
    """An image of random pixels; the red of the first one is `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)
    pixels[0, 0, 0] = value
    Image.fromarray(pixels).save(path)


def write_classes(folder, counts):
    """A class folder for each name, with so many images."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            write_image(folder / name / f"{index:03}.png", number * 60 + index)


def names(images):
    """Paths of the images of a folder, as class/file or part/class/file."""
    return {"/".join(str(path).split("/photos/")[1].split("/")) for path in images.images}


# Image sets


def test_image_set_reads_files_and_arrays(tmp_path):
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    write_image(tmp_path / "a.png", 7)
    Image.new("RGBA", (3, 3), (1, 2, 3, 4)).save(tmp_path / "b.png")
    images = ImageSet([grey, tmp_path / "a.png", str(tmp_path / "b.png")], [1, 0, 1], ["no", "yes"])
    assert len(images) == 3
    assert images.class_names == ("no", "yes")
    assert [images.image(index).mode for index in range(3)] == ["RGB"] * 3
    np.testing.assert_array_equal(np.asarray(images.image(0)), np.stack([grey] * 3, axis=-1))
    tensor, label = images[1]
    assert (tensor.shape, tensor.dtype, tensor[0, 0, 0]) == ((3, 12, 10), torch.uint8, 7)
    assert (label, type(label)) == (0, int)
    assert images.labels.dtype == np.int64


def test_image_set_applies_its_transform_to_items_but_not_to_images():
    images = ImageSet(np.zeros((2, 4, 4, 3), np.uint8), [0, 0], ["one"], lambda image: torch.tensor(image.size))
    assert images[0][0].tolist() == [4, 4]
    assert images.image(0).size == (4, 4)


def test_subset_keeps_order_names_and_transform():
    images = ImageSet(np.arange(5, dtype=np.uint8)[:, None, None], [0, 1, 2, 1, 0], "abc", lambda image: image.size)
    chosen = images.subset(np.array([True, False, False, True, True]))
    assert chosen.labels.tolist() == [0, 1, 0]
    assert [chosen.image(index).getpixel((0, 0))[0] for index in range(3)] == [0, 3, 4]
    assert (chosen.class_names, chosen.transform) == (images.class_names, images.transform)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "labels must be integers, got dtype float64"),
        ([0], ValueError, r"labels must have shape \(2,\), one for each image, got \(1,\)"),
        ([[0], [1]], ValueError, r"labels must have shape \(2,\)"),
        ([0, 2], ValueError, "labels must be 0 to 1, as there are 2 class_names, got 0 to 2"),
        ([-1, 0], ValueError, "got -1 to 0"),
    ],
)
def test_bad_labels(labels, error, message):
    with pytest.raises(error, match=message):
        ImageSet(np.zeros((2, 4, 4), np.uint8), labels, ["a", "b"])


# Digits


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="the digits ship with scikit-learn, in the extra 'demo'")
    return load_digits


def pixels_of(images):
    return {image.tobytes() for image in images.images}


def test_digits_split(digits):
    split = digits()
    assert (len(split.train), len(split.gallery), len(split.query)) == (1597, 1597, 200)
    assert np.bincount(split.query.labels).tolist() == [20] * 10
    assert split.query.class_names == tuple("0123456789")
    assert not pixels_of(split.query) & pixels_of(split.gallery)
    assert "seed 0" in split.protocol
    assert split.skipped == ()
    image = split.train.image(0)
    assert (image.size, image.mode) == ((8, 8), "RGB")
    assert np.asarray(image).min() == 0
    assert max(np.asarray(split.train.image(index)).max() for index in range(20)) == 255


def test_digits_depend_on_the_seed_alone(digits):
    assert pixels_of(digits(seed=3).query) == pixels_of(digits(seed=3).query)
    assert pixels_of(digits(seed=3).query) != pixels_of(digits(seed=4).query)
    assert "seed 3" in digits(seed=3).protocol


def test_digits_transform(digits):
    split = digits(transform=lambda image: torch.ones(1))
    assert all(torch.equal(images[0][0], torch.ones(1)) for images in (split.train, split.gallery, split.query))


def test_digits_need_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"fasthash-search\[demo\]"):
        load_digits()


# Folders


@pytest.fixture
def photos(tmp_path):
    return tmp_path / "photos"


def test_folder_of_classes(photos):
    write_classes(photos, {"shoes": 20, "hats": 2, "bags": 40})
    split = load_folder(photos)
    assert split.train.class_names == ("bags", "hats", "shoes")
    assert np.bincount(split.query.labels).tolist() == [4, 1, 2]  # a tenth, at least one
    assert np.bincount(split.train.labels).tolist() == [36, 1, 18]
    assert names(split.gallery) == names(split.train)
    assert not names(split.query) & names(split.gallery)
    assert split.train.images == sorted(split.train.images)
    assert all(
        split.train.class_names[label] == str(path).split("/")[-2]
        for path, label in zip(split.train.images, split.train.labels, strict=True)
    )
    assert "photos: a tenth of each class" in split.protocol
    assert "seed 0" in split.protocol


def test_no_class_gives_more_than_50_queries(photos):
    for name in ("a", "b"):
        write_image(photos / name / "0.png")
        content = (photos / name / "0.png").read_bytes()
        for index in range(1, 600 if name == "a" else 30):
            (photos / name / f"{index}.png").write_bytes(content)
    assert np.bincount(load_folder(photos).query.labels).tolist() == [50, 3]


def test_folder_depends_on_the_seed_alone(photos):
    write_classes(photos, {"a": 20, "b": 20})
    assert names(load_folder(str(photos), seed=1).query) == names(load_folder(photos, seed=1).query)
    assert names(load_folder(photos, seed=1).query) != names(load_folder(photos, seed=2).query)
    assert "seed 2" in load_folder(photos, seed=2).protocol


def test_folder_transform_and_progress(photos, capsys, monkeypatch):
    write_classes(photos, {"a": 2, "b": 2})
    split = load_folder(photos, transform=lambda image: torch.ones(1))
    assert all(torch.equal(images[0][0], torch.ones(1)) for images in (split.train, split.gallery, split.query))
    assert capsys.readouterr().err == ""
    load_folder(photos, progress=True)
    assert capsys.readouterr().err == ""  # nobody watches a file
    monkeypatch.setattr("fasthash.data.images.is_watched", lambda: True)
    load_folder(photos, progress=True)
    assert "check images" in capsys.readouterr().err


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_published_split(photos, validation):
    write_classes(photos / "train", {"a": 3, "b": 2})
    write_classes(photos / validation, {"a": 1, "b": 1})
    write_classes(photos / "test", {"b": 2})
    split = load_folder(photos)
    assert names(split.train) == {"train/a/000.png", "train/a/001.png", "train/a/002.png"} | {
        "train/b/000.png",
        "train/b/001.png",
    }
    assert names(split.gallery) == names(split.train) | {f"{validation}/a/000.png", f"{validation}/b/000.png"}
    assert names(split.query) == {"test/b/000.png", "test/b/001.png"}
    assert split.query.labels.tolist() == [1, 1]  # numbered as in the training set, though "a" has no folder here
    assert "published split of photos: queries from test" in split.protocol


def test_published_split_without_test(photos):
    write_classes(photos / "train", {"a": 3, "b": 2})
    write_classes(photos / "val", {"a": 1, "b": 1})
    split = load_folder(photos)
    assert names(split.query) == {"val/a/000.png", "val/b/000.png"}
    assert names(split.gallery) == names(split.train)
    assert len(split.train) == 5
    assert "queries from val," in split.protocol


def test_classes_called_train_and_test_are_classes(photos):
    write_classes(photos, {"train": 2, "test": 2})
    assert load_folder(photos).train.class_names == ("test", "train")


def test_other_files_and_hidden_folders_are_no_images(photos):
    write_classes(photos, {"a": 2, "b": 2, ".thumbnails": 2})
    (photos / "a" / "notes.txt").write_text("no image")
    (photos / "list.csv").write_text("no class")
    split = load_folder(photos)
    assert split.train.class_names == ("a", "b")
    assert split.skipped == ()


def test_images_lie_at_any_depth(photos):
    write_classes(photos, {"a": 2, "b": 2})
    write_image(photos / "a" / "summer" / "deep.JPG", 9)
    split = load_folder(photos)
    assert "a/summer/deep.JPG" in names(split.train) | names(split.query)


def test_broken_files_are_skipped_and_listed(photos):
    write_classes(photos, {"a": 3, "b": 3})
    for suffix in ("jpg", "png", "bmp", "webp", "tiff"):
        write_image(photos / "a" / f"whole.{suffix}", 5, size=(200, 200))
        content = (photos / "a" / f"whole.{suffix}").read_bytes()
        (photos / "a" / f"cut.{suffix}").write_bytes(content[: len(content) * 9 // 10])
    (photos / "b" / "empty.jpg").touch()
    (photos / "b" / "text.png").write_text("no image at all")
    with pytest.warns(
        UserWarning, match=r"skipped 7 image files that cannot be read: .*cut.bmp \(OSError: .*, \.\.\.$"
    ):
        split = load_folder(photos)
    skipped = [path.split("/photos/")[1] for path in split.skipped]
    assert skipped == [f"a/cut.{suffix}" for suffix in ("bmp", "jpg", "png", "tiff", "webp")] + [
        "b/empty.jpg",
        "b/text.png",
    ]
    assert len(split.train) + len(split.query) == 11
    for images in (split.train, split.query):
        assert all(images[index][0].shape[0] == 3 for index in range(len(images)))


def test_no_warning_without_broken_files(photos):
    write_classes(photos, {"a": 2, "b": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_folder(photos)


def test_missing_folder(photos):
    with pytest.raises(FileNotFoundError, match=r"path='.*photos' is not a folder"):
        load_folder(photos)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, r"path='.*photos' must hold two or more class folders, found \[\]"),
        ({"a": 5}, r"must hold two or more class folders, found \['a'\]; photos without classes: fasthash encode"),
        ({"a": 0, "b": 0}, r"path='.*photos' holds no readable images \(0 broken files\)"),
        (
            {"a": 5, "b": 1, "c": 0},
            r"photos must hold 2 or more readable images of each class; too few: b \(1\), c \(0\)",
        ),
    ],
)
def test_folders_that_make_no_experiment(photos, counts, message):
    photos.mkdir()
    write_classes(photos, counts)
    with pytest.raises(ValueError, match=message):
        load_folder(photos)


def test_published_splits_that_make_no_experiment(photos):
    write_classes(photos / "train", {"a": 2, "b": 2})
    with pytest.raises(ValueError, match=r"must hold two or more class folders, found \['train'\]"):
        load_folder(photos)
    write_classes(photos / "test", {"a": 0})
    with pytest.raises(ValueError, match="test must hold the query images, but no image there is readable"):
        load_folder(photos)
    write_classes(photos / "test", {"B": 1})
    with pytest.raises(ValueError, match=r"train must hold 1 or more readable images of each class; too few: B \(0\)"):
        load_folder(photos)
