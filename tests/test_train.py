"""The training loop: what every argument does, determinism, and errors."""

import copy
import json
import math
import re
from typing import get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("timm", reason="training needs the extra 'train'")
pytest.importorskip("accelerate", reason="training needs the extra 'train'")

from torch.utils.data import Dataset, TensorDataset

from fasthash.codes import unpack_bits
from fasthash.encoder import HashEncoder
from fasthash.heads import HEAD_KINDS, HashHead
from fasthash.losses import CNNHLoss, HashLoss, HashNetLoss, HierarchicalLoss
from fasthash.metrics import mean_average_precision
from fasthash.settings import OptimizerName, ScheduleName, TrainingSettings
from fasthash.train import OPTIMIZERS, SCHEDULES, train


class Blobs(Dataset):
    """Noisy images of one colour for each class."""

    def __init__(self, n=24, n_classes=3, multi_hot=False):
        generator = torch.Generator().manual_seed(0)
        colours = torch.randn(n_classes, 3, 1, 1, generator=generator)
        self.labels = torch.arange(n) % n_classes
        self.images = colours[self.labels] + 0.3 * torch.randn(n, 3, 32, 32, generator=generator)
        self.multi_hot = torch.nn.functional.one_hot(self.labels) if multi_hot else None

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        label = int(self.labels[index]) if self.multi_hot is None else self.multi_hot[index]
        return self.images[index], label


class Stub(HashLoss):
    """Mean square distance to a learned centre, that writes down how it is used."""

    def __init__(self, fail_at=None):
        super().__init__()
        self.centre = torch.nn.Parameter(torch.ones(8))
        self.fail_at = fail_at
        self.calls = []  # "z" for a loss, "step" for a step
        self.labels = []
        self.batches = []
        self.z_dtypes = set()

    def forward(self, z, labels, index=None):
        self.z_dtypes.add(z.dtype)  # before the base class turns it into float32
        return super().forward(z, labels, index)

    def batch_loss(self, z, labels, index):
        self.calls.append("loss")
        self.labels.append(labels)
        self.batches.append(z.detach().clone())
        factor = math.nan if len(self.batches) == self.fail_at else 1.0
        return factor * (z - self.centre).square().mean()

    def step(self):
        self.calls.append("step")


def make(level_bits=(8,)):
    torch.manual_seed(0)
    return HashEncoder("resnet10t", level_bits, image_size=32)


def make_head(**kwargs):
    torch.manual_seed(0)
    return HashHead(12, (8, 16), **kwargs)


def feature_blobs(n=128, n_classes=4):
    """Features and classes; a third of the features tells of the class, the others are loud noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % n_classes
    centres = 2 * torch.randn(n_classes, 4, generator=generator)
    telling = centres[labels] + 0.5 * torch.randn(n, 4, generator=generator)
    return torch.cat([telling, 3 * torch.randn(n, 8, generator=generator)], dim=1), labels


def quality(model, inputs, labels):
    """mAP of all codes among themselves."""
    bits = np.unpackbits(model.encode(inputs), axis=1).astype(int)
    distances = (bits[:, None] != bits).sum(axis=2)
    return mean_average_precision(distances, (labels[:, None] == labels).numpy())


def run(encoder=None, loss=None, dataset=None, **settings):
    """Train with short settings; gives encoder, loss and record."""
    encoder, loss = encoder or make(), loss or Stub()
    settings = {"epochs": 1, "batch_size": 8, "progress": False} | settings
    return encoder, loss, train(encoder, loss, dataset or Blobs(), **settings)


def state(encoder):
    return copy.deepcopy(encoder.state_dict())


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def optimizers(monkeypatch):
    """Optimizers that were made, with the learning rates of every step."""
    made = []

    class Adam(torch.optim.Adam):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.rates = []
            made.append(self)

        def step(self, *args, **kwargs):
            self.rates.append([group["lr"] for group in self.param_groups])
            return super().step(*args, **kwargs)

    monkeypatch.setitem(OPTIMIZERS, "adam", Adam)
    return made


def test_training_lowers_the_loss_and_separates_the_classes():
    encoder = make((8, 16))
    loss = HierarchicalLoss(HashNetLoss(), (8, 16))
    dataset = Blobs()
    _, _, record = run(encoder, loss, dataset, epochs=6, lr=1e-3, hash_lr_mult=1.0)
    assert record.losses[-1] < 0.5 * record.losses[0]
    codes = np.unpackbits(encoder.encode(dataset), axis=1)
    distances = (codes[:, None] != codes).sum(axis=2)
    alike = dataset.labels[:, None] == dataset.labels
    assert distances[alike.numpy()].mean() + 2 < distances[~alike.numpy()].mean()


def test_same_seed_same_codes():
    first, other, third = (run(seed=seed, epochs=2, lr=1e-3)[0] for seed in (1, 1, 2))
    assert same(first.state_dict(), other.state_dict())
    assert not same(first.state_dict(), third.state_dict())
    np.testing.assert_array_equal(first.encode(Blobs()), other.encode(Blobs()))


def test_heads_learn_from_features():
    features, labels = feature_blobs()
    for arguments in ({}, {"kind": "sliced"}, {"batch_norm": True}):
        head = make_head(**arguments)
        before = quality(head, features, labels)
        settings = {"epochs": 15, "batch_size": 32, "lr": 1e-3, "progress": False}
        record = train(head, HierarchicalLoss(HashNetLoss(), (8, 16)), TensorDataset(features, labels), **settings)
        assert record.losses[-1] < record.losses[0]
        after = quality(head, features, labels)
        assert before < 0.5
        assert after > 0.9
        assert not head.training
        expected = {"backbone": None, "level_bits": [8, 16], "head": head.kind, "batch_norm": head.batch_norm}
        assert expected.items() <= record.settings.items()


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_same_seed_same_codes_of_heads(kind):
    features, labels = feature_blobs()
    first, other, third = (make_head(kind=kind, batch_norm=True) for _ in range(3))
    for head, seed in ((first, 1), (other, 1), (third, 2)):
        run(head, HierarchicalLoss(HashNetLoss(), (8, 16)), TensorDataset(features, labels), seed=seed, lr=1e-3)
    assert same(first.state_dict(), other.state_dict())
    assert not same(first.state_dict(), third.state_dict())
    np.testing.assert_array_equal(first.encode(features), other.encode(features))


def test_encoders_with_other_heads_train():
    torch.manual_seed(0)
    encoder = HashEncoder("resnet10t", (8,), image_size=32, head="sliced", batch_norm=True)
    before = state(encoder)
    _, _, record = run(encoder, lr=1e-3)
    assert not torch.equal(before["head.norm.running_mean"], encoder.head.norm.running_mean)
    assert not torch.equal(before["head.layers.0.weight"], encoder.head.layers[0].weight)
    assert not torch.equal(before["head.layers.2.weight"], encoder.head.layers[2].weight)
    assert (record.settings["head"], record.settings["batch_norm"]) == ("sliced", True)


def test_the_seed_covers_random_augmentation():
    def draws(seed):
        drawn = []
        run(seed=seed, augment=lambda image: drawn.append(torch.rand(1).item()) or image)
        return drawn

    assert draws(1) == draws(1) != draws(2)


def test_loss_and_step_take_turns():
    _, loss, _ = run(epochs=2)
    assert loss.calls == ["loss", "step"] * 6


def test_epochs_and_batch_size():
    _, loss, record = run(dataset=Blobs(25), epochs=3, batch_size=6)
    assert [len(batch) for batch in loss.batches] == [6] * 12  # the 25th image of an epoch is dropped
    assert len(record.losses) == 3


def test_small_data_sets_make_one_batch():
    _, loss, record = run(dataset=Blobs(5), batch_size=128)
    assert [len(batch) for batch in loss.batches] == [5]
    assert record.settings["batch_size"] == 5


def test_every_image_once_an_epoch_in_another_order():
    _, loss, _ = run(dataset=Blobs(24, n_classes=24), epochs=2)
    first, second = torch.cat(loss.labels[:3]), torch.cat(loss.labels[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(24))
    assert first.tolist() != second.tolist() != list(range(24))


def test_labels_may_be_multi_hot():
    _, loss, _ = run(dataset=Blobs(multi_hot=True))
    assert loss.labels[0].shape == (8, 3)


def test_learning_rates_of_the_groups(optimizers):
    encoder, loss, _ = run(lr=1e-3, hash_lr_mult=4.0)
    (optimizer,) = optimizers
    groups = [(set(map(id, group["params"])), group["lr"]) for group in optimizer.param_groups]
    assert groups == [
        (set(map(id, encoder.backbone.parameters())), 1e-3),
        (set(map(id, encoder.head.parameters())), 4e-3),
        ({id(loss.centre)}, 4e-3),
    ]


def test_the_learning_rate_of_a_head_on_features(optimizers):
    head = make_head()
    train(head, HashNetLoss(), TensorDataset(*feature_blobs()), epochs=1, lr=1e-3, hash_lr_mult=4.0, progress=False)
    (optimizer,) = optimizers
    assert [(len(group["params"]), group["lr"]) for group in optimizer.param_groups] == [(4, 4e-3)]


def test_defaults_are_those_of_hhnet(optimizers):
    record = train(make(), HashNetLoss(), Blobs(), epochs=1, progress=False)
    (optimizer,) = optimizers
    assert optimizer.rates == [[1e-5, pytest.approx(1e-4)]]  # no third group: the loss has no parameters
    assert record.settings["schedule"] == "constant"
    assert (optimizer.defaults["weight_decay"], record.settings["weight_decay"]) == (5e-4, 5e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(optimizers, schedule):
    run(schedule=schedule, epochs=2, lr=1e-3)
    rates = [step[0] for step in optimizers[0].rates]
    expected = {"constant": [1] * 6, "cosine": [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]}
    assert rates == pytest.approx([1e-3 * factor for factor in expected[schedule]])


def test_sgd_with_momentum():
    """Two steps of a batch that stays the same, by hand."""
    features, labels = torch.eye(12)[:8], torch.arange(8) % 2
    head = HashHead(12, (8,))
    expected = copy.deepcopy(head)
    options = {"epochs": 2, "batch_size": 8, "lr": 0.5, "hash_lr_mult": 1.0, "weight_decay": 0.0, "progress": False}
    train(head, HashNetLoss(), TensorDataset(features, labels), optimizer="sgd", **options)
    loss, speed = HashNetLoss(), [0.0, 0.0]
    for _ in range(2):
        gradients = torch.autograd.grad(loss(expected(features), labels), list(expected.parameters()))
        with torch.no_grad():
            for number, (parameter, gradient) in enumerate(zip(expected.parameters(), gradients, strict=True)):
                speed[number] = 0.9 * speed[number] + gradient
                parameter -= 0.5 * speed[number]
    for parameter, other in zip(head.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter, other)


def test_weight_decay_shrinks_weights():
    def norm(weight_decay):
        encoder, _, _ = run(weight_decay=weight_decay, lr=1e-3, epochs=3)
        return sum(parameter.square().sum() for parameter in encoder.backbone.parameters())

    assert norm(1.0) < norm(0.0)


def test_everything_that_should_learn_learns():
    encoder, loss = make(), Stub()
    before = state(encoder)
    run(encoder, loss)
    after = encoder.state_dict()
    assert not torch.equal(before["backbone.conv1.0.weight"], after["backbone.conv1.0.weight"])
    assert not torch.equal(before["head.layers.0.weight"], after["head.layers.0.weight"])
    assert not torch.equal(loss.centre, torch.ones(8))


def test_an_encoder_in_eval_mode_trains_all_the_same():
    assert same(run(make().eval())[0].state_dict(), run()[0].state_dict())


def test_frozen_parameters_stay():
    encoder = make()
    encoder.backbone.requires_grad_(False)
    weights = copy.deepcopy(dict(encoder.backbone.named_parameters()))
    run(encoder)
    assert same(weights, dict(encoder.backbone.named_parameters()))


def test_augment_sees_every_image_alone():
    shapes = []

    def blank(image):
        shapes.append(image.shape)
        return torch.zeros_like(image)

    _, loss, _ = run(augment=blank)
    assert shapes == [(3, 32, 32)] * 24
    torch.testing.assert_close(loss.batches[0], loss.batches[0][:1].expand(8, -1))


def test_workers_load_the_same_batches():
    losses = [run(num_workers=n)[2].losses for n in (0, 1)]
    assert losses[0] == losses[1]


def test_num_workers_reaches_the_loader(monkeypatch):
    class Loader(torch.utils.data.DataLoader):
        def __init__(self, *args, num_workers, persistent_workers, **kwargs):
            wanted.append(num_workers)
            assert persistent_workers  # which do not start anew for each epoch
            super().__init__(*args, **kwargs)

    wanted = []
    monkeypatch.setattr("fasthash.train.DataLoader", Loader)
    run(num_workers=3)
    assert wanted[0] == 3


@pytest.mark.filterwarnings("ignore:mixed_precision='bf16' is several times slower")
def test_mixed_precision_is_for_the_network_only():
    first = run()[1]
    assert first.z_dtypes == {torch.float32}
    encoder, loss, _ = run(mixed_precision="bf16")
    assert loss.z_dtypes == {torch.bfloat16}
    assert {batch.dtype for batch in loss.batches} == {torch.float32}
    # And it ends with the training.
    assert encoder(torch.rand(2, 3, 32, 32)).dtype == torch.float32
    assert run()[1].z_dtypes == {torch.float32}


def test_encoder_is_left_ready_to_use():
    encoder, _, record = run()
    assert not encoder.training
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert next(encoder.parameters()).device == torch.device(record.device)
    copy.deepcopy(encoder).encode(Blobs())


def test_training_can_go_on():
    encoder, loss, _ = run()
    before = state(encoder)
    run(encoder, loss)
    assert not same(before, encoder.state_dict())
    assert len(loss.batches) == 6


def test_record():
    _, loss, record = run(epochs=2, lr=2e-5, seed=3, augment=torch.abs)
    assert len(record.losses) == 2
    centre = torch.ones(8)
    first = sum((batch - centre).square().mean().item() for batch in loss.batches[:3]) / 3
    assert record.losses[0] == pytest.approx(first, rel=1e-2)
    assert 0 < record.seconds < 60
    assert torch.device(record.device).type in ("cpu", "cuda", "mps")
    settings = json.loads(json.dumps(record.settings))
    assert settings == {
        "backbone": "resnet10t",
        "initial_weights": "random weights",
        "level_bits": [8],
        "head": "linear",
        "batch_norm": False,
        "loss": "Stub",
        "teacher": None,
        "images": 24,
        "optimizer": "adam",
        "epochs": 2,
        "batch_size": 8,
        "processes": 1,
        "lr": 2e-5,
        "hash_lr_mult": 10.0,
        "loss_lr_mult": 10.0,
        "weight_decay": 5e-4,
        "schedule": "constant",
        "warmup": 0.0,
        "clip_norm": None,
        "ema": None,
        "accumulate": 1,
        "mixup": 0.0,
        "gradient_checkpointing": False,
        "freeze_backbone": False,
        "teacher_weight": 1.0,
        "teacher_epochs": 0,
        "cache_mib": 2048,
        "seed": 3,
        "augment": "<built-in method abs of type object>",
        "mixed_precision": "no",
        "num_workers": 0,
        "patience": None,
    }


def test_settings_as_an_object():
    settings = TrainingSettings(epochs=2, batch_size=8, lr=1e-3, hash_lr_mult=2.0, seed=5)
    encoder, other = make(), make()
    record = train(encoder, Stub(), Blobs(), settings=settings, progress=False)
    same_record = train(other, Stub(), Blobs(), **settings.as_dict(), progress=False)
    assert record.settings == same_record.settings
    assert record.losses == same_record.losses
    assert same(encoder.state_dict(), other.state_dict())


def test_there_is_an_optimizer_and_a_schedule_for_every_name():
    assert tuple(OPTIMIZERS) == get_args(OptimizerName)
    assert tuple(SCHEDULES) == get_args(ScheduleName)


def test_progress_bar(capsys, monkeypatch):
    run()
    assert capsys.readouterr().err == ""
    run(progress=True, epochs=2)
    lines = capsys.readouterr().err.splitlines()  # nobody watches a file: no bar
    assert [re.sub(r"\d+\.\d+|\d+ s$", "#", line) for line in lines] == ["epoch 1/2: loss #, #", "epoch 2/2: loss #, #"]
    monkeypatch.setattr("fasthash._training_run.is_watched", lambda: True)
    run(progress=True, epochs=2)
    shown = capsys.readouterr().err
    assert "epoch=2/2" in shown
    assert "loss=" in shown


def test_a_loss_that_is_not_finite_stops_the_training():
    encoder = make()
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 2, step 1; a smaller lr may help"):
        run(encoder, Stub(fail_at=4), epochs=3)
    assert all(torch.isfinite(value).all() for value in encoder.state_dict().values())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": torch.nn.Linear(1, 1)}, TypeError, "model must be a HashEncoder or a HashHead, got Linear"),
        ({"loss": torch.nn.MSELoss()}, TypeError, "loss must be a HashLoss, got MSELoss"),
        ({"dataset": iter(())}, TypeError, "dataset must have a length and items, got tuple_iterator"),
        ({"dataset": TensorDataset(torch.zeros(4, 3, 32, 32))}, TypeError, "dataset must hold pairs .* got tuple"),
        ({"dataset": Blobs(1)}, ValueError, "dataset must hold at least 2 images for every process, got 1"),
        ({"dataset": Blobs(0)}, ValueError, "dataset must hold at least 2 images for every process, got 0"),
        ({"lr": "fast"}, TypeError, "lr must be a number, got 'fast'"),
        ({"optimizer": "lion"}, ValueError, "optimizer must be one of 'adam', 'adamw', 'sgd', got 'lion'"),
        ({"model": None, "batch_size": 64.5}, TypeError, "batch_size must be an integer, got 64.5"),
        ({"colour": "red"}, TypeError, "train has no argument colour; settings are optimizer, epochs, .* patience"),
        ({"settings": {"lr": 1}}, TypeError, "settings must be TrainingSettings, got dict"),
        ({"settings": TrainingSettings(), "lr": 1.0}, TypeError, "lr must be given inside settings or without"),
        ({"augment": "flip"}, TypeError, "augment must be callable, got 'flip'"),
        ({"validate": 0.5}, TypeError, "validate must be callable, got 0.5"),
        ({"state": 5}, TypeError, "state must be a path, got 5"),
        ({"log_folder": True}, TypeError, "log_folder must be a path, got True"),
        ({"progress": "no"}, TypeError, "progress must be True or False, got 'no'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    arguments = {"model": make(), "loss": Stub(), "dataset": Blobs(4), "progress": False} | arguments
    with pytest.raises(error, match=message):
        train(arguments.pop("model"), arguments.pop("loss"), arguments.pop("dataset"), **arguments)


def test_losses_that_know_images_again_get_their_numbers():
    """A head learns the codes that CNNH gave to each image, in whatever order the images come."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.where(torch.randn(12, 8, generator=generator) >= 0, 1.0, -1.0)
    head = HashHead(12, (8,))
    data = TensorDataset(torch.eye(12), torch.arange(12) % 3)
    train(
        head,
        CNNHLoss(codes),
        data,
        epochs=300,
        batch_size=5,
        lr=0.05,
        hash_lr_mult=1.0,
        weight_decay=0.0,
        progress=False,
    )
    assert (unpack_bits(head.encode(torch.eye(12))) == (codes.numpy() > 0)).all()
