"""The settings of a training: every one is checked when they are made, and none is cast."""

import dataclasses
import json
import math

import numpy as np
import pytest

from fasthash.settings import SCHEDULES, TrainingSettings, changed_settings

NAMES = [field.name for field in dataclasses.fields(TrainingSettings)]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer, got 1.5"),
        ({"epochs": True}, TypeError, "epochs must be an integer, got True"),
        ({"batch_size": 1}, ValueError, "batch_size must be at least 2, got 1"),
        ({"batch_size": 64.5}, TypeError, "batch_size must be an integer, got 64.5"),
        ({"batch_size": "64"}, TypeError, "batch_size must be an integer, got '64'"),
        ({"num_workers": -1}, ValueError, "num_workers must be at least 0, got -1"),
        ({"lr": "fast"}, TypeError, "lr must be a number, got 'fast'"),
        ({"lr": 0}, ValueError, "lr must be positive and finite, got 0"),
        ({"lr": math.nan}, ValueError, "lr must be positive and finite, got nan"),
        ({"lr": None}, TypeError, "lr must be a number, got None"),
        ({"hash_lr_mult": -1}, ValueError, "hash_lr_mult must be positive and finite, got -1"),
        ({"loss_lr_mult": math.inf}, ValueError, "loss_lr_mult must be positive and finite, got inf"),
        ({"weight_decay": -1}, ValueError, "weight_decay must be finite and not negative, got -1"),
        ({"optimizer": "lion"}, ValueError, "optimizer must be one of 'adam', 'adamw', 'sgd', got 'lion'"),
        ({"schedule": "step"}, ValueError, "schedule must be one of 'constant', 'cosine', got 'step'"),
        ({"schedule": None}, ValueError, "schedule must be one of 'constant', 'cosine', got None"),
        ({"mixed_precision": "fp8"}, ValueError, "mixed_precision must be one of 'no', 'bf16', 'fp16', got 'fp8'"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": 2**64}, ValueError, "seed must be at most 18446744073709551615, got 18446744073709551616"),
        ({"patience": 0}, ValueError, "patience must be at least 1, got 0"),
    ],
)
def test_wrong_settings(settings, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        TrainingSettings(**settings)


def test_every_setting_is_checked_and_described():
    for name in NAMES:
        with pytest.raises((TypeError, ValueError), match=f"{name} must be .*, got "):
            TrainingSettings(**{name: object()})
        assert f"\n        {name}: " in TrainingSettings.__doc__


def test_numbers_of_numpy_become_plain_ones():
    settings = TrainingSettings(epochs=np.int64(3), lr=np.float32(0.5), seed=np.uint8(7), weight_decay=0)
    assert (
        json.loads(json.dumps(settings.as_dict()))
        == TrainingSettings(epochs=3, lr=0.5, seed=7, weight_decay=0.0).as_dict()
    )
    assert type(settings.lr) is float


def test_a_subclass_adds_settings_of_its_own():
    @dataclasses.dataclass(frozen=True)
    class Coloured(TrainingSettings):
        colour: str = "red"

    assert list(Coloured("blue", epochs=3).as_dict()) == NAMES


def test_changed_settings():
    def changed(now, was, free=()):
        return changed_settings(TrainingSettings(**now).as_dict(), TrainingSettings(**was).as_dict(), free)

    assert changed({"lr": 0.02, "seed": 3}, {"lr": 0.01}) == ["lr is 0.02, was 0.01", "seed is 3, was 0"]
    assert changed({"num_workers": 2, "patience": 3, "epochs": 9}, {}) == []
    assert changed({"epochs": 9, "schedule": "cosine"}, {"schedule": "cosine"}) == ["epochs is 9, was 20"]
    assert changed({"schedule": "cosine", "epochs": 9}, {}) == [
        "epochs is 9, was 20",
        "schedule is 'cosine', was 'constant'",
    ]
    assert changed({"lr": 0.02, "seed": 3}, {"lr": 0.01}, ["lr"]) == ["seed is 3, was 0"]


def test_schedules():
    assert SCHEDULES["constant"](0.7) == 1
    assert [SCHEDULES["cosine"](t) for t in (0, 0.5)] == [1, pytest.approx(0.5)]
