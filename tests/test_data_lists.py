"""Readers of data sets on disk, and splits that were published as lists."""

import json
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the data sets need the extra 'train'")
pytest.importorskip("torchvision", reason="the data sets need the extra 'train'")

from PIL import Image
from torchvision.datasets import CIFAR10

from fasthash.data import audit, load_lists, read_cifar10, read_coco, read_folder, read_image_list
from real_data import shared

# Image lists


@pytest.fixture
def write(tmp_path):
    def write(text, name="list.txt"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_list_with_several_labels(write, tmp_path):
    images = read_image_list(write("./a.jpg 0 1 1\nb//c.jpg 0 0 0\r\n\n d.jpg\t1 0 0 \n"), root=tmp_path)
    assert images.names == ("a.jpg", "b/c.jpg", "d.jpg")
    assert images.images[1] == str(tmp_path / "b" / "c.jpg")
    assert images.labels.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert images.labels.dtype == np.uint8
    assert images.class_names == ("0", "1", "2")


def test_a_list_of_a_program_of_windows(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeffa.jpg 0\r\nb.jpg 1\r\n".encode())
    assert read_image_list(tmp_path / "list.txt").names == ("a.jpg", "b.jpg")


def test_a_list_with_classes(write):
    path = write("a.jpg 2\nb.jpg 0\n")
    images = read_image_list(path, class_names=["x", "y", "z"], transform=len)
    assert images.labels.tolist() == [2, 0]
    assert (images.class_names, images.transform) == (("x", "y", "z"), len)
    assert images.images == ["a.jpg", "b.jpg"]
    assert read_image_list(path).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a.jpg 0 1\n\nb.jpg 0 2\n",
            "list.txt, line 3: expected a path and then a class or zeros and ones, got 'b.jpg",
        ),
        ("a.jpg 0 1\nb.jpg\n", "line 2: expected a path and then a class or zeros and ones, got 'b.jpg'"),
        ("my photo.jpg 0 1\n", "line 1: expected a path and then a class"),
        ("a.jpg -1\n", "line 1: expected a path"),
        ("a.jpg 99999999999999999999\n", "line 1: expected a path"),
        ("a.jpg 1000000\n", "line 1: expected a path"),
        ("a.jpg 0.5\n", "line 1: expected a path"),
        ("a.jpg 0 1\nb.jpg 0 1 0\n", "line 2: expected 2 labels as in the lines before, got 3"),
        ("a.jpg 0 1\nb.jpg 0\n", "line 2: expected 2 labels as in the lines before, got 1"),
        ("", "list.txt holds no images"),
        ("\n \n", "list.txt holds no images"),
    ],
)
def test_lists_that_are_none(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_image_list(write(text))


def test_lists_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image_list(tmp_path / "missing.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.jpg 1\n")
    with pytest.raises(ValueError, match=r"latin.txt must be UTF-8 text"):
        read_image_list(tmp_path / "latin.txt")


# Splits as lists


def test_a_folder_of_lists(write, tmp_path):
    write("a.jpg 0 1\nb.jpg 1 1\n", "train.txt")
    write("c.jpg 1 0\n", "test.txt")
    write("a.jpg 0 1\nb.jpg 1 1\nd.jpg 0 1\n", "database.txt")
    split = load_lists(tmp_path, root="photos", transform=len)
    assert [len(images) for images in (split.train, split.gallery, split.query)] == [2, 3, 1]
    assert split.query.images == ["photos/c.jpg"]
    assert split.query.transform is len
    assert (split.validation, split.rules, split.seed) == (None, None, None)
    assert audit(split).overlaps["train", "gallery"] == 2
    write("e.jpg 1 0\n", "validation.txt")
    assert load_lists(tmp_path).validation.names == ("e.jpg",)
    write("e.jpg 1 0 1\n", "validation.txt")
    with pytest.raises(ValueError, match=r"has lists that do not fit together: labels must have shape"):
        load_lists(tmp_path)


def test_lists_need_queries(write, tmp_path):
    write("a.jpg 1\n", "train.txt")
    with pytest.raises(FileNotFoundError, match=r"test\.txt"):
        load_lists(tmp_path)


def test_zeros_and_ones_become_classes_where_the_protocol_has_one_class(tmp_path):
    labels = np.eye(100, dtype=np.uint8)[[3, 99, 0, 7]]
    arrays = {f"{part}_labels": labels for part in ("train", "test", "database")}
    arrays |= {f"{part}_names": np.array([f"{part}{i}".encode() for i in range(4)]) for part in ("train", "test")}
    np.savez(tmp_path / "lists.npz", **arrays)
    assert load_lists(tmp_path / "lists.npz").train.labels.shape == (4, 100)
    split = load_lists(tmp_path / "lists.npz", "imagenet100-hhnet")
    assert split.train.labels.tolist() == [3, 99, 0, 7]
    assert (split.query.names, split.validation.names) == (("test0", "test2"), ("test1", "test3"))
    assert split.gallery.names == (None,) * 4
    arrays["test_labels"] = labels * 0
    np.savez(tmp_path / "lists.npz", **arrays)
    with pytest.raises(ValueError, match="query must have one class an image, but image 0 has 0"):
        load_lists(tmp_path / "lists.npz", "imagenet100")
    with pytest.raises(ValueError, match="must have 80 classes for protocol 'coco', got 100"):
        load_lists(tmp_path / "lists.npz", "coco")
    with pytest.raises(ValueError, match="protocol must be one of"):
        load_lists(tmp_path / "lists.npz", "coco2014")


def test_classes_without_an_image_count(write, tmp_path):
    for name in ("train", "test", "database"):
        write("a.jpg 1\n", f"{name}.txt")
    assert len(load_lists(tmp_path, "imagenet100").train.class_names) == 100
    assert len(load_lists(tmp_path).train.class_names) == 2


def test_files_that_hold_no_lists(tmp_path):
    path = tmp_path / "lists.npz"
    with pytest.raises(FileNotFoundError):
        load_lists(path)
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ValueError, match="is neither a folder nor an npz file of lists"):
        load_lists(path)
    path.write_text("a.jpg 1")
    with pytest.raises(ValueError, match="is neither a folder nor an npz file of lists"):
        load_lists(path)
    np.savez(path, train_labels=np.array([0]))
    with pytest.raises(ValueError, match="must hold the arrays train_labels and test_labels, but lacks test_labels"):
        load_lists(path)
    np.savez(path, train_labels=np.array([0.5]), test_labels=np.array([0]))
    with pytest.raises(ValueError, match="train_labels must be integers, got dtype float64"):
        load_lists(path)
    np.savez(path, train_labels=np.array([0]), test_labels=np.array([0]), test_names=np.array([{}], object))
    with pytest.raises(ValueError, match="is neither a folder nor an npz file of lists: Object arrays"):
        load_lists(path)


# The published lists: queries, training set, gallery, classes


@pytest.mark.parametrize(
    ("file", "protocol", "sizes"),
    [
        ("coco_hashnet", "coco", (5_000, 10_000, 117_218, 80)),
        ("coco_deephash", "coco", (5_000, 10_000, 117_218, 80)),
        ("imagenet100_hashnet", "imagenet100", (5_000, 13_000, 128_503, 100)),
        ("imagenet100_hashnet", "imagenet100-hhnet", (2_500, 13_000, 128_503, 100)),
        ("mirflickr", "mirflickr", (1_000, 4_000, 20_000, 38)),
        ("voc2012", None, (1_000, 4_000, 6_540, 20)),
    ],
)
def test_published_lists(file, protocol, sizes):
    split = load_lists(shared("multilabel_lists", f"{file}.npz"), protocol)
    assert (len(split.query), len(split.train), len(split.gallery), len(split.query.class_names)) == sizes
    assert audit(split).warnings == ()


def test_published_lists_of_nuswide_21_lack_names():
    split = load_lists(shared("multilabel_lists", "nuswide_21.npz"), "nuswide21")
    assert (len(split.query), len(split.train), len(split.gallery)) == (2_100, 10_500, 193_734)
    assert split.gallery.class_names[:2] == ("sky", "clouds")
    report = audit(split)
    assert report.warnings == ("193,734 of 193,734 gallery images cannot be compared: only their labels are known",)
    assert "query in gallery: at least 0 of 2,100" in str(report)


def test_published_lists_of_nuswide_81_lack_the_gallery():
    split = load_lists(shared("multilabel_lists", "nuswide_81_m_test_train.npz"), "nuswide81")
    assert (len(split.query), len(split.train), len(split.gallery)) == (5_000, 10_000, 0)
    assert "gallery is empty" in audit(split).warnings


def test_the_released_gallery_of_coco_is_caught(tmp_path):
    # HashNet's release has all images but the training set in the gallery; the file at hand has the gallery put right.
    with np.load(shared("multilabel_lists", "coco_hashnet.npz"), allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    outside = ~np.isin(parts["database_names"], parts["train_names"])
    for what in ("names", "labels"):
        parts[f"database_{what}"] = np.concatenate((parts[f"database_{what}"][outside], parts[f"test_{what}"]))
    lines = {
        name: "\n".join(
            f"{path.decode()} {' '.join(map(str, row))}"
            for path, row in zip(parts[f"{name}_names"], parts[f"{name}_labels"].tolist(), strict=True)
        )
        for name in ("train", "test", "database")
    }
    for name, text in lines.items():
        (tmp_path / f"{name}.txt").write_text(text)
    split = load_lists(tmp_path, "coco")
    assert len(split.gallery) == 112_218
    report = audit(split)
    assert report.overlaps["query", "gallery"] == 5_000
    assert report.warnings == (
        "5,000 of 5,000 query images are in gallery: each finds itself at distance 0, which raises mAP; "
        "see Split.without_queries",
        "gallery has 112,218 images, protocol 'coco' has 117,218",
        "10,000 training images are not in gallery, protocol 'coco' has all of them there",
    )
    mended = audit(split.without_queries())
    assert (mended.overlaps["query", "gallery"], mended.sizes["gallery"]) == (0, 107_218)


# CIFAR-10


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Batches of 4 images in torchvision's layout, whose sums are taken for the original's."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    for number, name in enumerate(names):
        pixels = np.full((4, 3072), number, np.uint8)
        pixels[:, 0] = np.arange(4)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [0, 1, 9, number]}))
    classes = ["airplane", "automobile", *"cdefghij"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: True)
    return tmp_path


def test_cifar10_in_torchvisions_layout(cifar):
    train, test = read_cifar10(cifar, transform=lambda image: torch.tensor(image.size))
    assert (len(train), len(test)) == (20, 4)
    assert (train.names[0], train.names[-1], test.names[-1]) == ("train/00000", "train/00019", "test/00003")
    assert train.labels.tolist()[4:8] == [0, 1, 9, 1]
    assert train.class_names[:2] == ("airplane", "automobile")
    assert test.images[2].shape == (32, 32, 3)
    assert test.images[2][0, 0].tolist() == [2, 5, 5]
    assert train[0][0].tolist() == [32, 32]


def test_other_pickles_are_not_opened(cifar, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(pickle, "load", lambda *args, **kwargs: pytest.fail("a pickle was opened"))
    with pytest.raises(ValueError, match=r"folder='.*' does not hold CIFAR-10 whole and unchanged: "):
        read_cifar10(cifar)


def test_cifar10_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder='.*' must hold cifar-10-batches-py, which is missing"):
        read_cifar10(tmp_path)


# Class folders


def test_class_folders(tmp_path):
    for path in ("val/n02/b.JPEG", "val/n01/deep/a.png", "val/n01/notes.txt", "val/.cache/c.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    images = read_folder(tmp_path / "val", transform=len)
    assert images.names == ("val/n01/deep/a.png", "val/n02/b.JPEG")
    assert images.images[1] == str(tmp_path / "val" / "n02" / "b.JPEG")
    assert (images.labels.tolist(), images.class_names, images.transform) == ([0, 1], ("n01", "n02"), len)


def test_class_folders_that_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path='.*nowhere' is not a folder"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"path='.*' must hold class folders with images$"):
        read_folder(tmp_path)


# COCO


def write_coco(folder, part, **changed):
    content = {
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}],
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 5, "file_name": "a.jpg"}, {"id": 9, "file_name": "c.jpg"}],
        "annotations": [
            {"image_id": 9, "category_id": 90, "iscrowd": 1},
            {"image_id": 7, "category_id": 1},
            {"image_id": 7, "category_id": 1},
            {"image_id": 7, "category_id": 13},
        ],
        **changed,
    }
    path = folder / "annotations" / f"instances_{part}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_coco(tmp_path):
    write_coco(tmp_path, "train2014")
    write_coco(tmp_path, "val2014", annotations=[{"image_id": 5, "category_id": 13}])
    images = read_coco(tmp_path, transform=len)
    assert images.names == ("train2014/b.jpg", "train2014/c.jpg", "val2014/a.jpg")
    assert images.class_names == ("person", "stop sign", "toothbrush")
    assert images.labels.tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert images.images[0] == str(tmp_path / "train2014" / "b.jpg")
    assert images.transform is len
    assert len(read_coco(tmp_path, parts=["val2014"])) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"categories": 3}, "instances_val2014.json is no file of COCO's instances: TypeError"),
        ({"images": []}, "instances_val2014.json is no file of COCO's instances: KeyError"),
        ({"annotations": [{"image_id": 5}]}, "is no file of COCO's instances: KeyError"),
        ({"annotations": [{"image_id": 5, "category_id": 2}]}, r"is no file of COCO's instances: KeyError\(2\)"),
        (
            {"categories": [{"id": 1, "name": "person"}], "annotations": []},
            "val2014.json must have the categories of instances_train2014.json",
        ),
    ],
)
def test_annotations_that_are_none(tmp_path, changed, message):
    write_coco(tmp_path, "train2014")
    write_coco(tmp_path, "val2014", **changed)
    with pytest.raises(ValueError, match=message):
        read_coco(tmp_path)


def test_annotations_that_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"instances_train2014\.json"):
        read_coco(tmp_path)
    write_coco(tmp_path, "train2014", annotations=[])
    with pytest.raises(ValueError, match=r"parts must name parts of COCO with annotated images, got \['train2014'\]"):
        read_coco(tmp_path, parts=["train2014"])
    (tmp_path / "annotations" / "instances_train2014.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="is no file of COCO's instances: TypeError"):
        read_coco(tmp_path)


def test_images_of_a_list_are_read(write, tmp_path):
    Image.new("RGB", (4, 4), (9, 0, 0)).save(tmp_path / "a.png")
    tensor, label = read_image_list(write("a.png 0 1\n"), root=tmp_path)[0]
    assert tensor[0, 0, 0] == 9
    assert label.tolist() == [0, 1]
