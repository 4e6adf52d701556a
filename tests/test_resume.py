"""Trainings that are validated, stopped early, killed and resumed."""

import json
import os
import threading

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("timm", reason="training needs the extra 'train'")
pytest.importorskip("accelerate", reason="training needs the extra 'train'")

from safetensors import safe_open
from torch.utils.data import TensorDataset

from fasthash import _resume
from fasthash._resume import read_state, write_state
from fasthash.encoder import HashEncoder
from fasthash.heads import HashHead
from fasthash.losses import DSDHLoss, HashNetLoss, HyP2Loss
from fasthash.train import train

OPTIONS = {"batch_size": 8, "lr": 1e-2, "hash_lr_mult": 1.0, "weight_decay": 0.0, "progress": False}


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 4
    return TensorDataset(
        torch.randn(4, 12, generator=generator)[labels] + torch.randn(40, 12, generator=generator), labels
    )


def make_head():
    torch.manual_seed(0)
    return HashHead(12, (8, 8), batch_norm=True)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Killed(BaseException):
    pass


def killer(after, scores=None):
    """A validation that dies in its call number `after`."""
    calls = []

    def validate(model):
        assert not model.training
        calls.append(weights(model))
        if len(calls) == after:
            raise Killed
        return scores[len(calls) - 1] if scores else len(calls)

    return validate


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(
    "make_loss",
    [
        lambda labels: HashNetLoss(step_size=3),
        lambda labels: HyP2Loss(16, 4),
        lambda labels: DSDHLoss(labels, 16),
    ],
    ids=["hashnet", "hyp2", "dsdh"],
)
def test_a_killed_training_resumes_as_if_nothing_had_happened(data, tmp_path, schedule, make_loss):
    options = OPTIONS | {"epochs": 6, "schedule": schedule}

    def loss():
        torch.manual_seed(1)
        return make_loss(data.tensors[1])

    through = make_head()
    record = train(through, loss(), data, **options)
    state = tmp_path / "state.safetensors"
    with pytest.raises(Killed):  # in the third epoch, so that two are written
        train(make_head(), loss(), data, state=state, validate=killer(3), **options)
    resumed = make_head()
    again = train(resumed, loss(), data, state=state, **options)
    assert again.losses == record.losses
    assert same(weights(resumed), weights(through))
    assert again.scores == [1, 2]
    # With a validation the best weights come back, here those of the third epoch.
    with_scores = make_head()
    state.unlink()
    with pytest.raises(Killed):
        train(with_scores, loss(), data, state=state, validate=killer(3), **options)
    resumed = make_head()
    train(resumed, loss(), data, state=state, validate=lambda model: 10, **options | {"epochs": 6})
    third = make_head()
    if schedule == "constant":
        train(third, loss(), data, **options | {"epochs": 3})
        assert same(weights(resumed), weights(third))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_encoder_resumes(tmp_path, optimizer):
    images = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(images, torch.arange(12) % 3)
    options = OPTIONS | {"batch_size": 4, "epochs": 2, "lr": 1e-3, "optimizer": optimizer}

    def make():
        torch.manual_seed(0)
        return HashEncoder("resnet18", (8,), image_size=32)

    through = make()
    record = train(through, HashNetLoss(), data, **options)
    state = tmp_path / "deep" / "state"
    with pytest.raises(Killed):
        train(make(), HashNetLoss(), data, state=state, validate=killer(2), **options)
    resumed = make()
    assert train(resumed, HashNetLoss(), data, state=state, **options | {"epochs": 2}).losses == record.losses


def test_the_best_epoch_wins_and_patience_ends(data):
    scores = [0.1, 0.5, 0.4, 0.5, 0.3, 0.9]
    seen = []

    def validate(model):
        seen.append(weights(model))
        return scores[len(seen) - 1]

    head = make_head()
    record = train(head, HashNetLoss(), data, epochs=6, validate=validate, patience=3, **OPTIONS)
    assert record.scores == scores[:5]  # the best is number 2; three without a better one follow
    assert len(record.losses) == 5
    assert same(weights(head), seen[1])
    assert not head.training

    seen.clear()
    record = train(make_head(), HashNetLoss(), data, epochs=6, validate=validate, **OPTIONS)
    assert record.scores == scores


def test_a_finished_training_is_not_repeated(data, tmp_path):
    options = OPTIONS | {"epochs": 3, "state": tmp_path / "state"}
    first = make_head()
    record = train(first, HashNetLoss(), data, **options)
    second = make_head()
    assert train(second, HashNetLoss(), data, **options).losses == record.losses
    assert same(weights(first), weights(second))
    longer = make_head()
    assert train(longer, HashNetLoss(), data, **options | {"epochs": 5}).losses[:3] == record.losses
    through = make_head()
    train(through, HashNetLoss(), data, **OPTIONS | {"epochs": 5})
    assert same(weights(longer), weights(through))


def test_fewer_epochs_than_were_done_are_refused(data, tmp_path):
    state = tmp_path / "state.safetensors"
    train(make_head(), HashNetLoss(), data, state=state, epochs=3, **OPTIONS)
    before = state.read_bytes()
    with pytest.raises(ValueError, match=r"epochs must be at least 3, as state=.* has done so many, got 2"):
        train(make_head(), HashNetLoss(), data, state=state, epochs=2, **OPTIONS)
    assert state.read_bytes() == before


def test_functions_without_a_name_of_their_own_resume(data, tmp_path):
    """Where an augmentation stands in memory is no setting."""
    options = OPTIONS | {"epochs": 2, "state": tmp_path / "state"}
    first = train(make_head(), HashNetLoss(), data, augment=lambda x: x + 0, **options)
    with safe_open(str(tmp_path / "state"), framework="pt") as file:
        before = json.loads(file.metadata()["fasthash"])["seconds"]
    again = train(make_head(), HashNetLoss(), data, augment=lambda x: x + 0, **options)
    assert again.losses == first.losses
    assert again.seconds > before > 0  # what was before the stop counts


def test_a_state_of_another_training_is_refused(data, tmp_path):
    options = OPTIONS | {"epochs": 2, "state": tmp_path / "state"}
    train(make_head(), HashNetLoss(), data, **options)
    with pytest.raises(ValueError, match=r"state=.* other settings: lr is 0.02, was 0.01; seed is 3, was 0"):
        train(make_head(), HashNetLoss(), data, **options | {"lr": 0.02, "seed": 3})
    with pytest.raises(ValueError, match="does not hold this training"):
        train(HashHead(12, (8,)), HashNetLoss(), data, **options)
    with pytest.raises(ValueError, match=r"epochs is 4, was 2|schedule is 'cosine'"):
        train(make_head(), HashNetLoss(), data, **options | {"epochs": 4, "schedule": "cosine"})
    (tmp_path / "state").write_bytes(b"no state")
    with pytest.raises(ValueError, match="does not hold this training"):
        train(make_head(), HashNetLoss(), data, **options)
    torch.save({}, tmp_path / "state")
    with pytest.raises(ValueError, match="does not hold this training"):
        train(make_head(), HashNetLoss(), data, **options)


def test_a_write_that_fails_leaves_the_state_before(data, tmp_path, monkeypatch):
    options = OPTIONS | {"epochs": 4, "state": tmp_path / "state"}
    writes = []

    def fail_late(source, target):
        writes.append(target)
        if len(writes) == 3:
            raise OSError("no more")
        return replace(source, target)

    replace = os.replace
    monkeypatch.setattr(os, "replace", fail_late)
    with pytest.raises(OSError, match="no more"):
        train(make_head(), HashNetLoss(), data, **options)
    monkeypatch.undo()
    with safe_open(str(tmp_path / "state"), framework="pt") as file:
        assert len(json.loads(file.metadata()["fasthash"])["losses"]) == 2
    through, resumed = make_head(), make_head()
    train(through, HashNetLoss(), data, **OPTIONS | {"epochs": 4})
    train(resumed, HashNetLoss(), data, **options)
    assert same(weights(through), weights(resumed))


def test_tensorboard_sees_every_epoch(data, tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    record = train(
        make_head(), HashNetLoss(), data, epochs=3, validate=lambda model: 0.5, log_folder=tmp_path / "log", **OPTIONS
    )
    events = event_accumulator.EventAccumulator(str(tmp_path / "log")).Reload()
    logged = [event.value for event in events.Scalars("loss")]
    assert logged == pytest.approx(record.losses)
    assert [event.value for event in events.Scalars("validation")] == [0.5] * 3
    assert len(events.Scalars("learning rate")) == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patience": 3}, ValueError, "patience must be None without validate, got 3"),
        ({"patience": 0, "validate": lambda model: 1}, ValueError, "patience must be at least 1, got 0"),
        ({"validate": lambda model: float("nan")}, ValueError, "validate must return a finite number, got nan"),
    ],
)
def test_bad_arguments(data, options, error, message):
    with pytest.raises(error, match=message):
        train(make_head(), HashNetLoss(), data, epochs=1, **OPTIONS, **options)


def test_two_that_write_one_state_take_turns(tmp_path):
    """Each write is whole; none finds its draft taken by the other."""
    task = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(task.parameters(), 0.1)
    errors = []

    def write():
        try:
            for epoch in range(20):
                write_state(tmp_path / "state.safetensors", task, optimizer, None, {"epoch": epoch})
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert read_state(tmp_path / "state.safetensors", task, optimizer)[0] == {"epoch": 19}
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


@pytest.mark.parametrize("version", [True, 1.0, "1", 2])
def test_only_the_integer_is_a_version(tmp_path, monkeypatch, version):
    task = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(task.parameters(), 0.1)
    monkeypatch.setattr(_resume, "_VERSION", version)
    write_state(tmp_path / "state.safetensors", task, optimizer, None, {})
    monkeypatch.undo()
    with pytest.raises(ValueError, match="it is of another version"):
        read_state(tmp_path / "state.safetensors", task, optimizer)
