"""The file of a split, the auditor, relevance, and sets with several labels."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the data sets need the extra 'train'")
pytest.importorskip("torchvision", reason="the data sets need the extra 'train'")

from PIL import Image
from torch.utils.data import DataLoader

from fasthash.data import ImageSet, Protocol, Split, audit, draw_split, load_folder, relevance
from fasthash.data.split_file import digest
from fasthash.losses import HashNetLoss
from made_up import named, several_labels

# Several labels an image


def test_several_labels_pass_a_loader_into_a_loss():
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    images = ImageSet(np.zeros((4, 8, 8, 3), np.uint8), labels, "abc")
    assert images.multi_label
    assert images.labels.dtype == np.uint8
    tensor, label = images[0]
    assert (tensor.shape, label.tolist(), label.dtype) == ((3, 8, 8), [1, 0, 1], torch.uint8)
    batch, target = next(iter(DataLoader(images, batch_size=4)))
    assert (batch.shape, target.shape) == ((4, 3, 8, 8), (4, 3))
    np.testing.assert_array_equal(target.numpy(), labels)
    assert torch.isfinite(HashNetLoss()(torch.randn(4, 16), target))
    label += 7
    assert images.labels[0].tolist() == [1, 0, 1]  # what a caller does to an item stays with the caller
    some = images.subset(np.array([False, True, True, False]))
    assert some.labels.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert ImageSet(["a"], np.array([[True, False]]), "ab").labels.tolist() == [[1, 0]]
    assert not ImageSet(["a"], [0], "ab").multi_label


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([[0, 2], [0, 1]], ValueError, r"labels of shape \(n, C\) must be 0 or 1, got 0 to 2"),
        ([[0, -1], [0, 1]], ValueError, "must be 0 or 1, got -1 to 1"),
        ([[0.0, 1], [0, 1]], TypeError, "labels must be integers, got dtype float64"),
        ([[0, 1]], ValueError, r"or \(2, 2\) with a column for each of two or more class_names, got \(1, 2\)"),
        ([[0, 1, 0], [0, 1, 0]], ValueError, r"got \(2, 3\)"),
        ([[[0]], [[1]]], ValueError, r"labels must have shape \(n,\) or \(n, C\), got \(2, 1, 1\)"),
        ([True, False], TypeError, "labels must be integers, got dtype bool"),
    ],
)
def test_bad_labels(labels, error, message):
    with pytest.raises(error, match=message):
        ImageSet(["a", "b"], labels, ["a", "b"])


def test_a_single_column_is_refused():
    with pytest.raises(ValueError, match=r"two or more class_names, got \(2, 1\)"):
        ImageSet(["a", "b"], [[0], [1]], ["a"])


# Names


def test_names(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    images = ImageSet([pixels, pixels.copy(), pixels + 1, tmp_path / "a.png", "b.png", None], [0] * 6, "a")
    assert images.names[0] == images.names[1] != images.names[2]
    assert images.names[0].startswith("sha256:")
    assert images.names[3:] == (str(tmp_path / "a.png"), "b.png", None)
    assert images.subset(np.arange(6) > 2).names == images.names[3:]
    given = ImageSet([pixels, None], [0, 0], "a", names=["x", "y"])
    assert given.names == ("x", "y")
    assert given.subset(np.array([False, True])).names == ("y",)
    with pytest.raises(ValueError, match=r"images\[1\] is None: only the labels of this image are known"):
        given[1]
    with pytest.raises(ValueError, match="names must hold 2 names, one for each image, got 1"):
        ImageSet([pixels, pixels], [0, 0], "a", names=["x"])


def test_folders_name_images_by_their_paths_inside(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / "photos" / name / f"{index}.png")
    split = load_folder(tmp_path / "photos")
    names = [f"{name}/{index}.png" for name in "ab" for index in range(3)]
    assert sorted(split.train.names + split.query.names) == names
    split.save(tmp_path / "split.json")
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    again = Split.load(tmp_path / "split.json", tmp_path / "elsewhere")
    assert again.train[0][0].shape == (3, 4, 4)
    assert again.sha256 == split.sha256


# The file


RULES = Protocol("small", "made up", 3, 4, 8, None, "random", 2, map_at=5, train_in_gallery=False, multi_label=True)


@pytest.fixture
def split():
    return draw_split(RULES, several_labels(40, 3, "images"), seed=4)


def test_a_split_survives_its_file(split, tmp_path):
    split.save(tmp_path / "split.json")
    again = Split.load(str(tmp_path / "split.json"))
    assert again.parts.keys() == split.parts.keys() == {"train", "gallery", "query", "validation"}
    for name, images in split.parts.items():
        assert again.parts[name].names == images.names
        assert list(again.parts[name].images) == list(images.images)
        np.testing.assert_array_equal(again.parts[name].labels, images.labels)
        assert again.parts[name].labels.dtype == images.labels.dtype
        assert again.parts[name].class_names == images.class_names
    assert (again.protocol, again.rules, again.seed, again.skipped) == (split.protocol, RULES, 4, ())
    assert again.sha256 == split.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["split.json"]


def test_classes_survive_the_file(tmp_path):
    images, none = named([0, 1, 2], "images"), named(np.zeros(0, int), "images", 3)
    split = Split(images, none, ImageSet([None], [1], images.class_names), "by hand", skipped=("broken.jpg",))
    split.save(tmp_path / "split.json")
    again = Split.load(tmp_path / "split.json")
    assert again.train.labels.tolist() == [0, 1, 2]
    assert again.train.labels.dtype == again.gallery.labels.dtype == np.int64
    assert (again.query.names, again.query.images) == ((None,), [None])
    assert (again.validation, again.rules, again.seed, again.skipped) == (None, None, None, ("broken.jpg",))


def test_images_come_from_a_folder_or_a_set(split, tmp_path):
    split.save(tmp_path / "split.json")
    from_folder = Split.load(tmp_path / "split.json", tmp_path, transform=len)
    assert from_folder.query.images[0] == str(tmp_path / split.query.names[0])
    assert from_folder.query.transform is len

    listed = several_labels(40, 3, "images")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    images = ImageSet(pixels, listed.labels, listed.class_names, len, listed.names)
    from_set = Split.load(tmp_path / "split.json", images)
    for name, part in from_set.parts.items():
        rows = [images.names.index(one) for one in split.parts[name].names]
        np.testing.assert_array_equal(np.stack(part.images), pixels[rows])
        assert part.transform is len
    assert from_set.sha256 == split.sha256
    assert Split.load(tmp_path / "split.json", images, transform=abs).query.transform is abs

    half = images.subset(np.arange(40) < 20)
    with pytest.raises(ValueError, match=r"images must hold all 8 that the file names, but lacks \d: 'images/0000"):
        Split.load(tmp_path / "split.json", half)
    other = ImageSet(pixels, 1 - listed.labels, listed.class_names, names=listed.names)
    with pytest.raises(ValueError, match="images must have the labels that the file gives, got others"):
        Split.load(tmp_path / "split.json", other)


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record["parts"]["query"]["names"].reverse(),
        lambda record: record["parts"]["gallery"]["names"].__setitem__(0, record["parts"]["query"]["names"][0]),
        lambda record: record["parts"]["train"]["labels"][0].clear(),
        lambda record: record["parts"].pop("validation"),
        lambda record: record.update(seed=5),
        lambda record: record["rules"].update(map_at=6),
        lambda record: record.update(protocol="another"),
        lambda record: record["class_names"].reverse(),
        lambda record: record.pop("sha256"),
    ],
)
def test_an_edited_file_is_refused(split, tmp_path, edit):
    path = tmp_path / "split.json"
    split.save(path)
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"path='.*split.json' was changed since it was written: its sha256 is "):
        Split.load(path)


def test_how_a_file_is_laid_out_does_not_matter(split, tmp_path):
    path = tmp_path / "split.json"
    split.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2, sort_keys=True))
    assert Split.load(path).sha256 == split.sha256


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda record: record["parts"].pop("query"), "is no file of a split: .*it lacks query"),
        (lambda record: record["parts"]["query"].pop("names"), "is no file of a split: KeyError"),
        (lambda record: record["parts"]["query"]["names"].pop(), r"labels must have shape \(3,\)"),
        (lambda record: record["parts"]["query"]["names"].__setitem__(0, 5), "is no file of a split: TypeError"),
        (lambda record: record["parts"]["query"]["labels"].__setitem__(0, [3]), "is no file of a split: IndexError"),
        (lambda record: record["parts"]["query"]["labels"].__setitem__(0, [-1]), "labels must not be negative"),
        (lambda record: record["parts"]["query"]["labels"].__setitem__(0, 1), "is no file of a split: TypeError"),
        (lambda record: record["rules"].update(draw="some"), "draw must be one of"),
        (lambda record: record["rules"].update(more=1), "is no file of a split: TypeError"),
        (lambda record: record.update(parts=[]), "is no file of a split"),
        (lambda record: record.update(multi_label=False), "is no file of a split"),
        (lambda record: record.update(version=2), "has version 2, this release reads 1"),
        (lambda record: record.update(version=True), "has version True, this release reads 1"),
        (lambda record: record.update(version=1.0), r"has version 1\.0, this release reads 1"),
        (lambda record: record.update(format="other"), "split.json' is no file of a split"),
    ],
)
def test_files_with_a_right_hash_and_wrong_content(split, tmp_path, edit, message):
    path = tmp_path / "split.json"
    split.save(path)
    record = json.loads(path.read_text())
    edit(record)
    record.pop("sha256")
    path.write_text(json.dumps({**record, "sha256": digest(record)}))
    with pytest.raises(ValueError, match=message):
        Split.load(path)


@pytest.mark.parametrize("content", [b"", b"[1]", b"no json", b"\xff\xfe", b"[" * 200_000])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"path='.*split.json' is no file of a split"):
        Split.load(tmp_path / "split.json")


def test_images_without_any_label_survive_the_file(tmp_path):
    images = named([[0, 0], [1, 0], [0, 0]], "images")
    Split(images, images, images, "by hand", seed=np.int64(2)).save(tmp_path / "split.json")
    again = Split.load(tmp_path / "split.json")
    assert (again.train.labels.tolist(), again.seed) == ([[0, 0], [1, 0], [0, 0]], 2)
    with pytest.raises(TypeError, match="images must be a folder or an ImageSet, got 5"):
        Split.load(tmp_path / "split.json", 5)


def test_files_that_cannot_be_read_or_written(split, tmp_path):
    with pytest.raises(FileNotFoundError):
        Split.load(tmp_path / "missing.json")
    with pytest.raises(FileNotFoundError):
        split.save(tmp_path / "missing" / "split.json")
    other = Split(split.train, split.gallery, named([0, 1, 2], "images"), "by hand")
    with pytest.raises(ValueError, match="the sets of a split must have the same classes"):
        other.save(tmp_path / "split.json")
    assert list(tmp_path.iterdir()) == []


def test_the_hash_depends_on_names_labels_and_order():
    def hash_of(**changed):
        parts = {"names": ["a", "b"], "labels": [0, 1], "class_names": ["x", "y"], **changed}
        images = ImageSet([None, None], parts["labels"], parts["class_names"], names=parts["names"])
        return Split(images, images, images, "by hand").sha256

    hashes = [
        hash_of(),
        hash_of(names=["a", "c"]),
        hash_of(names=["b", "a"]),
        hash_of(labels=[0, 0]),
        hash_of(labels=[[1, 0], [0, 1]]),
        hash_of(class_names=["x", "z"]),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hash_of() == hashes[0]
    assert len(hashes[0]) == 64


# The auditor


def subset(images, *rows):
    return images.subset(np.isin(np.arange(len(images)), rows))


def test_an_audit_counts_and_warns():
    images = named([0, 1] * 5, "images")
    split = Split(
        subset(images, 0, 1, 2),
        subset(images, 2, 3, 4, 5, 6),
        subset(images, 0, 5, 6, 7),
        "by hand",
        validation=subset(images, 1, 3, 7),
    )
    report = audit(split)
    assert report.compared_by == "name"
    assert report.sizes == {"query": 4, "validation": 3, "train": 3, "gallery": 5}
    assert report.overlaps == {
        ("query", "validation"): 1,
        ("query", "train"): 1,
        ("query", "gallery"): 2,
        ("validation", "train"): 1,
        ("validation", "gallery"): 1,
        ("train", "gallery"): 1,
    }
    assert len(report.warnings) == 5
    assert str(report).splitlines() == [
        "query 4, validation 3, train 3, gallery 5",
        "query in validation: 1 of 4",
        "query in train: 1 of 4",
        "query in gallery: 2 of 4",
        "validation in train: 1 of 3",
        "validation in gallery: 1 of 3",
        "train in gallery: 1 of 3",
        "WARNING: 2 of 4 query images are in gallery: each finds itself at distance 0, which raises mAP; "
        "see Split.without_queries",
        "WARNING: 1 of 4 query images are in train: the encoder has learnt them",
        "WARNING: 1 of 4 query images are in validation: settings were chosen on them",
        "WARNING: 1 of 3 validation images are in gallery: each finds itself at distance 0",
        "WARNING: 1 of 3 validation images are in train: the encoder has learnt them",
    ]


def test_a_clean_split_has_no_warnings(split):
    report = audit(split)
    assert report.warnings == ()
    assert str(report).splitlines()[-1] == "no image is in two sets that must be apart (compared by file name)"


def test_an_audit_tells_what_departs_from_the_protocol(split):
    rules = Protocol("other", "made up", 3, 5, 8, 100, "random", 2, multi_label=True)
    assert audit(split, protocol=rules).warnings == (
        "query has 4 images, protocol 'other' has 5",
        "gallery has 26 images, protocol 'other' has 100",
        "8 training images are not in gallery, protocol 'other' has all of them there",
    )
    everywhere = Split(split.train, split.train, split.query, "by hand", validation=split.validation, rules=RULES)
    assert audit(everywhere).warnings == ("8 training images are in gallery, protocol 'small' has none there",)
    assert "validation has 2 images, protocol 'coco' has 0" not in audit(everywhere).warnings
    assert "validation has 2 images, protocol 'coco' has 0" in audit(everywhere, protocol="coco").warnings
    with pytest.raises(ValueError, match="protocol must be one of"):
        audit(split, protocol="cifar100")


def test_an_audit_tells_repeated_and_unknown_images():
    images = named([0, 1, 0, 1], "images")
    twice = images.joined(subset(images, 1, 2))
    unknown = ImageSet([None] * 3 + ["images/000000.jpg"], [0, 1, 0, 1], images.class_names)
    report = audit(Split(twice, unknown, subset(images, 0), "by hand"))
    assert (report.repeated["train"], report.unknown["gallery"]) == (2, 3)
    assert report.overlaps["train", "gallery"] == 1
    assert "2 of 6 train images are in train already" in report.warnings
    assert "3 of 4 gallery images cannot be compared: only their labels are known" in report.warnings
    assert "query in gallery: at least 1 of 1" in str(report)


def test_an_audit_of_contents_finds_copies(tmp_path):
    for name, value in (("a", 1), ("copy", 1), ("b", 2), ("c", 3)):
        Image.new("RGB", (5, 5), (value, 0, 0)).save(tmp_path / f"{name}.png")
    train, query = (
        ImageSet([tmp_path / f"{name}.png" for name in names], [0] * len(names), "x") for names in ("abc", ["copy"])
    )
    split = Split(train, train, query, "by hand")
    assert audit(split).overlaps["query", "gallery"] == 0
    report = audit(split, content=True)
    assert (report.compared_by, report.overlaps["query", "gallery"]) == ("content", 1)
    (tmp_path / "b.png").unlink()
    assert audit(split).sizes["train"] == 3
    with pytest.raises(FileNotFoundError):
        audit(split, content=True)
    with pytest.raises(TypeError, match="content must be True or False, got 1"):
        audit(split, content=1)


def test_pixels_are_compared_too():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    images = ImageSet(pixels, [0] * 4, "x")
    copies = ImageSet(pixels[2:].copy(), [0] * 2, "x", names=["one", "two"])
    split = Split(images, images, copies, "by hand")
    assert audit(split).overlaps["query", "gallery"] == 0  # by their names
    assert audit(split, content=True).overlaps["query", "gallery"] == 2
    assert audit(Split(images, images, subset(images, 1), "by hand")).overlaps["query", "gallery"] == 1


def test_without_queries():
    images = named([0, 1] * 3, "images")
    unknown = ImageSet([None], [0], images.class_names)
    split = Split(subset(images, 0, 1), images.joined(unknown), subset(images, 1, 2), "By hand.", rules=None)
    mended = split.without_queries()
    assert mended.train.names == ("images/000000.jpg",)
    assert len(mended.gallery) == 5  # the one without a name stays
    assert audit(mended).overlaps["query", "gallery"] == 0
    assert mended.query is split.query
    assert mended.protocol == "By hand. Queries were taken out of training set and gallery."


# Relevance


def test_relevance_of_classes():
    assert relevance([0, 2], [2, 0, 0]).tolist() == [[False, True, True], [True, False, False]]
    assert relevance(np.array([1], np.uint8), [1]).dtype == bool


def test_relevance_of_several_labels_is_a_label_in_common():
    queries = several_labels(700, 9, "queries", share=0.1, seed=1).labels  # more than are worked on together
    gallery = several_labels(50, 9, "gallery", share=0.1, seed=2).labels
    gallery[3] = 0
    expected = [
        [any(a and b for a, b in zip(one, two, strict=True)) for two in gallery.tolist()] for one in queries.tolist()
    ]
    np.testing.assert_array_equal(relevance(queries, gallery), expected)
    np.testing.assert_array_equal(relevance(queries.astype(bool), gallery.astype(np.int64)), expected)
    assert not relevance(queries, gallery)[:, 3].any()
    assert relevance(queries[:0], gallery).shape == (0, 50)


def test_relevance_of_many_classes_counts_exactly():
    ones = np.ones((1, 300), np.uint8)  # a sum of uint8 would be 300 - 256, and of 256 of them 0
    assert relevance(ones[:, :256], ones[:, :256]).all()
    assert relevance(ones, ones).all()


@pytest.mark.parametrize(
    ("queries", "gallery", "error", "message"),
    [
        ([0], [[0, 1]], ValueError, r"must both be classes \(n,\) or both .* got \(1,\) and \(1, 2\)"),
        ([[0, 1]], [[0, 1, 1]], ValueError, r"got \(1, 2\) and \(1, 3\)"),
        ([0.5], [0], TypeError, "query_labels must be integers, got dtype float64"),
        ([0], [[[0]]], ValueError, r"gallery_labels must have shape \(n,\) or \(n, C\), got \(1, 1, 1\)"),
        ([[0, 1]], [[0, 2]], ValueError, r"gallery_labels of shape \(n, C\) must be 0 or 1, got 0 to 2"),
    ],
)
def test_bad_relevance(queries, gallery, error, message):
    with pytest.raises(error, match=message):
        relevance(queries, gallery)
