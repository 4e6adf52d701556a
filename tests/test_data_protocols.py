"""The protocols: their sizes, who may be where, and the draw held against HHNet's as a plain loop."""

import random

import numpy as np
import pytest

pytest.importorskip("torch", reason="the data sets need the extra 'train'")
pytest.importorskip("torchvision", reason="the data sets need the extra 'train'")

from fasthash.data import PROTOCOLS, Protocol, audit, draw_split
from made_up import named, several_labels, shuffled_classes
from real_data import shared

# Query, training set, validation, gallery, R of mAP@R: the published figures once more, None where there is none.
SIZES = {
    "cifar10-hhnet": (1_000, 5_000, 1_000, 53_000, 5_000),
    "cifar10": (1_000, 5_000, 0, 54_000, None),
    "cifar10-1": (1_000, 5_000, 0, 59_000, None),
    "cifar10-2": (10_000, 50_000, 0, 50_000, None),
    "fashionmnist": (10_000, 60_000, 0, 60_000, None),
    "nuswide21-hhnet": (2_100, 10_500, 2_100, None, 5_000),
    "nuswide21": (2_100, 10_500, 0, 193_734, 5_000),
    "nuswide21-hyp2": (2_100, 10_500, 0, None, 5_000),
    "nuswide21-csq": (2_040, 10_455, 0, None, 5_000),
    "nuswide81": (5_000, 10_000, 0, None, 5_000),
    "coco-hhnet": (5_000, 10_000, 5_000, None, 5_000),
    "coco": (5_000, 10_000, 0, 117_218, 5_000),
    "imagenet100": (5_000, 13_000, 0, 128_503, 1_000),
    "imagenet100-hhnet": (2_500, 13_000, 2_500, 128_503, 1_000),
    "mirflickr": (1_000, 4_000, 0, 20_000, None),
}


def data_set(name):
    """Labels of the size that a data set has when it is whole: all images but the official test images, and these."""
    if name.startswith("cifar10"):
        return shuffled_classes(10, 5_000, "train"), shuffled_classes(10, 1_000, "test", seed=1)
    if name == "fashionmnist":
        return shuffled_classes(10, 6_000, "train"), shuffled_classes(10, 1_000, "test", seed=1)
    if name.startswith("imagenet100"):
        labels = np.concatenate((np.repeat(np.arange(100), 1_285), [0, 1, 2]))
        return named(labels, "train"), shuffled_classes(100, 50, "val")
    n, n_classes, share = {
        "nuswide21": (195_834, 21, 0.1),
        "nuswide81": (209_347, 81, 0.01),
        "coco": (122_218, 80, 0.02),
        "mirflickr": (25_000, 38, 0.1),
    }[name.split("-")[0]]
    return (several_labels(n, n_classes, "images", share),)


def test_the_table_is_the_published_one():
    found = {
        name: (rules.n_query, rules.n_train, rules.n_validation, rules.n_gallery, rules.map_at)
        for name, rules in PROTOCOLS.items()
    }
    assert found == SIZES
    assert all(rules.name == name for name, rules in PROTOCOLS.items())
    assert {name for name, rules in PROTOCOLS.items() if rules.multi_label} == {
        name for name in PROTOCOLS if name.split("-")[0] in ("nuswide21", "nuswide81", "coco", "mirflickr")
    }


@pytest.mark.parametrize("name", [name for name, rules in PROTOCOLS.items() if rules.draw != "lists"])
def test_drawn_splits_have_the_sizes_and_share_what_they_should(name):
    rules = PROTOCOLS[name]
    parts = data_set(name)
    split = draw_split(name, *parts, seed=3)
    report = audit(split)
    assert report.warnings == ()
    query, train, validation, gallery, _ = SIZES[name]
    rest = sum(map(len, parts)) - query - validation - (0 if rules.train_in_gallery else train)
    sizes = {"query": query, "validation": validation, "train": train, "gallery": gallery or rest}
    assert report.sizes == {part: size for part, size in sizes.items() if size}
    assert (split.validation is None) == (validation == 0)
    inside = {pair: count for pair, count in report.overlaps.items() if count}
    assert inside == ({("train", "gallery"): train} if rules.train_in_gallery else {})
    assert (split.rules, split.seed) == (rules, 3)
    assert "drawn with seed 3" in split.protocol
    if rules.draw != "random" and not rules.multi_label:
        assert len(set(np.bincount(split.train.labels))) == 1
    if rules.draw == "per class" and not rules.multi_label:
        assert len(set(np.bincount(split.query.labels))) == 1
    if rules.draw == "official":
        assert not any(path.startswith("train") for path in split.query.images)
        assert all(path.startswith("train") for path in split.gallery.images)


def test_the_draw_per_class_is_that_of_hhnet():
    train, test = data_set("cifar10-hhnet")
    split = draw_split("cifar10-hhnet", train, test, seed=0)
    labels = [*train.labels.tolist(), *test.labels.tolist()]
    names = [*train.images, *test.images]
    order = list(range(60_000))
    random.seed(0)
    random.shuffle(order)
    place = {name: index for index, name in enumerate(names)}
    for label in range(10):
        of_class = [names[index] for index in order if labels[index] == label]
        for images, expected in (
            (split.train, of_class[:500]),
            (split.query, of_class[500:600]),
            (split.validation, of_class[600:700]),
            (split.gallery, of_class[700:]),
        ):
            found = [images.images[row] for row in np.flatnonzero(images.labels == label)]
            assert found == sorted(expected, key=place.get)


def test_the_random_draw_is_that_of_hhnet():
    images = several_labels(30, 3, "images")
    rules = Protocol("small", "made up", 3, 4, 8, None, "random", 2, train_in_gallery=False, multi_label=True)
    split = draw_split(rules, images, seed=0)
    folds = ["train"] * 8 + ["query"] * 4 + ["validation"] * 2 + ["gallery"] * 16
    random.seed(0)
    random.shuffle(folds)
    for name, part in split.parts.items():
        assert part.images == [path for path, fold in zip(images.images, folds, strict=True) if fold == name]


def test_validation_images_are_every_second_query_of_imagenet():
    train, test = data_set("imagenet100-hhnet")
    split = draw_split("imagenet100-hhnet", train, test)
    assert split.query.images == test.images[::2]
    assert split.validation.images == test.images[1::2]


def test_several_labels_are_drawn_per_class():
    images = several_labels(2_000, 5, "images", share=0.2)
    rules = Protocol("small", "made up", 5, 50, 250, None, "per class", multi_label=True)
    split = draw_split(rules, images)
    assert (len(split.query), len(split.train), len(split.gallery)) == (50, 250, 1_950)
    assert split.query.labels.sum(axis=0).min() >= 10
    assert split.train.labels.sum(axis=0).min() >= 50


def test_splits_depend_on_the_seed_alone():
    parts = data_set("cifar10")
    once, again, other = (draw_split("cifar10", *parts, seed=seed) for seed in (5, 5, 6))
    assert once.sha256 == again.sha256
    assert once.query.images == again.query.images
    assert once.query.images != other.query.images
    assert once.sha256 != other.sha256
    assert draw_split("cifar10", *parts).seed == 0


def test_the_real_labels_of_cifar10():
    path = shared("cifar10_jpeg", "cifar10_jpeg.npz")
    with np.load(path, allow_pickle=False) as arrays:
        labels, is_test = arrays["labels"], arrays["is_test"]
    parts = named(labels[~is_test], "train"), named(labels[is_test], "test")
    for name in ("cifar10-hhnet", "cifar10", "cifar10-1", "cifar10-2"):
        assert audit(draw_split(name, *parts)).warnings == ()


def test_the_real_labels_of_nuswide():
    path = shared("multilabel_lists", "nuswide_81_groundtruth.npz")
    with np.load(path, allow_pickle=False) as arrays:
        labels = arrays["labels"]
    assert len(draw_split("nuswide81", named(labels, "images")).gallery) == 204_347
    frequent = np.sort(np.argsort(labels.sum(axis=0))[-21:])
    labels = labels[:, frequent]
    split = draw_split("nuswide21", named(labels[labels.any(axis=1)], "images"))
    assert audit(split).warnings == ()
    assert len(split.gallery) == 193_734


def test_a_protocol_in_words():
    assert str(PROTOCOLS["cifar10-hhnet"]) == (
        "cifar10-hhnet (the code of HHNet, arXiv 2403.13747): 1,000 queries, 5,000 training images, "
        "1,000 validation images, a gallery of 53,000 without the training images; mAP@5000"
    )
    assert str(PROTOCOLS["nuswide21-csq"]).endswith(
        "2,040 queries, 10,455 training images, a gallery of the rest; mAP@5000"
    )
    assert str(PROTOCOLS["cifar10-2"]).endswith("a gallery of 50,000 with the training images; mAP@ALL")


SMALL = ("small", "made up", 2, 4, 8, None)


@pytest.mark.parametrize(
    ("protocol", "images", "message"),
    [
        ("cifar", [0, 1], "protocol must be one of 'cifar10-hhnet', .*, got 'cifar'"),
        ("cifar10", [0, 1], "images must be of 10 classes for protocol 'cifar10', got 2 class_names"),
        (
            Protocol(*SMALL, "random", multi_label=True),
            [0, 1],
            r"labels of shape \(n, C\) for protocol 'small', got \(2,\)",
        ),
        (Protocol(*SMALL, "random"), [[0, 1]] * 20, r"labels of shape \(n,\) for protocol 'small', got \(20, 2\)"),
        (Protocol(*SMALL, "random"), [0, 1] * 6, "images must be more than 12 for protocol 'small', got 12"),
        (Protocol(*SMALL, "lists"), [0, 1] * 9, "'small' is published as lists alone and cannot be drawn"),
        (Protocol(*SMALL, "official"), [0, 1] * 9, "test must hold the 4 test images for protocol 'small', got none"),
        (
            Protocol(*SMALL, "per class"),
            [0] * 9 + [1] * 5,
            "images must hold 6 of class 'class 1' that no class before it took, found 5",
        ),
        (
            Protocol("small", "made up", 2, 3, 8, None, "per class"),
            [0, 1] * 9,
            "n_query must be a multiple of the 2 classes, got 3",
        ),
    ],
)
def test_what_cannot_be_drawn(protocol, images, message):
    with pytest.raises(ValueError, match=message):
        draw_split(protocol, named(images, "images"))


def test_seeds():
    images, rules = named([0, 1] * 9, "images"), Protocol(*SMALL, "random")
    split = draw_split(rules, images, seed=np.int64(3))
    assert (split.seed, split.sha256) == (3, draw_split(rules, images, seed=3).sha256)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        draw_split(rules, images, seed=-1)


def test_test_images_that_do_not_fit():
    rules = Protocol(*SMALL, "official")
    images = named([0, 1] * 9, "images")
    with pytest.raises(ValueError, match="test must hold the 4 test images for protocol 'small', got 2"):
        draw_split(rules, images, named([0, 1], "test"))
    with pytest.raises(ValueError, match="both sets must have the same classes"):
        draw_split(rules, images, named([0, 1, 2, 0], "test"))
    with pytest.raises(TypeError, match=r"seed must be an integer, got 1\.5"):
        draw_split(rules, images, named([0, 1, 0, 1], "test"), seed=1.5)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"n_query": 0}, ValueError, "n_query must be at least 1, got 0"),
        ({"n_train": 1.0}, TypeError, "n_train must be an integer, got 1.0"),
        ({"n_validation": -1}, ValueError, "n_validation must be at least 0, got -1"),
        ({"n_gallery": 0}, ValueError, "n_gallery must be at least 1, got 0"),
        ({"map_at": 0}, ValueError, "map_at must be at least 1, got 0"),
        ({"n_classes": True}, TypeError, "n_classes must be an integer, got True"),
        ({"draw": "some"}, ValueError, "draw must be one of 'per class', 'random', 'official', 'lists', got 'some'"),
        ({"multi_label": 1}, TypeError, "multi_label must be True or False, got 1"),
    ],
)
def test_bad_protocols(changed, error, message):
    fields = {"name": "a", "source": "b", "n_classes": 2, "n_query": 4, "n_train": 8, "n_gallery": None}
    with pytest.raises(error, match=message):
        Protocol(**{**fields, "draw": "random", **changed})
