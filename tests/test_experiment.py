"""Experiments from settings: what every setting reaches, and the commands train, eval and encode from end to end."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("timm", reason="training needs the extra 'train'")
pytest.importorskip("sklearn", reason="the digits need the extra 'demo'")
typer = pytest.importorskip("typer", reason="the command line needs the extra 'cli'")

from PIL import Image

import fasthash as fh
from fasthash import _experiment as parts
from fasthash import experiment as experiments
from fasthash.data import ImageSet, Split
from fasthash.evaluation import evaluate
from fasthash.experiment import LOSSES, PRESETS, Experiment, read_config, run_training
from fasthash.losses import HierarchicalLoss
from fasthash.metrics import histograms
from fasthash.settings import TrainingSettings
from small_runs import flags, put_few_digits, run

SETTINGS = Path(__file__).parent.parent / "benchmarks" / "experiments"
SMALL = {"backbone": "resnet10t", "image_size": 32, "lr": 1e-3, "batch_size": 64, "epochs": 1}


@pytest.fixture
def few_digits(monkeypatch):
    """A split that trains in a moment."""
    put_few_digits(monkeypatch, 240, 30)


def test_train_eval_encode(few_digits, tmp_path):
    folder = tmp_path / "run"
    code, output = run(
        "train", folder, *flags(**SMALL | {"epochs": 3}), "--bits", "8,16", "--hold-out", 0.2, "--seed", 3
    )
    assert code == 0, output
    assert "query 30, train 210, gallery 210" in output
    settings = json.loads((folder / "experiment.json").read_text())
    assert settings == dataclasses.asdict(Experiment(**SMALL | {"epochs": 3}, level_bits=[8, 16], hold_out=0.2, seed=3))
    assert any((folder / "log").iterdir())

    code, output = run("eval", folder, "--plots")
    assert code == 0, output
    results = json.loads((folder / "results.json").read_text())
    assert {"precision@100", "recall@210", "P@H<=2"} <= set(results)
    assert [row["n_bits"] for row in results["prefixes"]] == [8, 24]
    assert results["prefixes"][1]["mAP@ALL"] > 0.8
    assert f"mAP@ALL at 24 bits   {results['prefixes'][1]['mAP@ALL']:.4f}" in output
    for name in ("results.json", "codes.npz"):
        assert f"wrote {folder / name}" in output
    for picture in ("pr_curves.png", "training.png", "neighbours.png"):
        assert f"wrote {folder / picture}" in output
        with Image.open(folder / picture) as image:
            assert min(image.size) > 300
    assert len(results["training"]["losses"]) == len(results["training"]["scores"]) == 3
    assert results["training"]["settings"]["images"] == 168  # 42 are held out
    code, output = run("eval", folder, "--at", 5, "--json")
    assert "mAP@5" in json.loads(output)["prefixes"][0]

    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(np.full((40, 30, 3), 80 * number, np.uint8)).save(photos / f"{number}.png")
    (photos / "broken.jpg").write_bytes(b"no photo")
    code, output = run("encode", folder / "encoder", photos, tmp_path / "codes.npz", "--index", tmp_path / "photos.fh")
    assert code == 0, output
    assert "3 images" in output
    assert "1 file skipped" in output
    assert "skipped broken.jpg" in output
    with np.load(tmp_path / "codes.npz", allow_pickle=False) as found:
        assert found["paths"].tolist() == ["0.png", "1.png", "2.png"]
        assert found["codes"].shape == (3, 3)
        assert (fh.load(tmp_path / "photos.fh").reconstruct([0, 1, 2]) == found["codes"]).all()
    for picture in ("broken", "empty"):
        (tmp_path / picture).mkdir()
    (tmp_path / "broken/a.jpg").write_bytes(b"no photo")
    for name, message in (
        ("broken", "broken holds no image that can be read, 1 file skipped; nothing was encoded"),
        ("empty", f"no photos below '{tmp_path / 'empty'}' (0 files)"),
    ):
        files = tmp_path / "none.npz", tmp_path / "none.fh"
        code, output = run("encode", folder / "encoder", tmp_path / name, files[0], "--index", files[1])
        assert code == 1
        assert message in output
        assert not any(file.exists() for file in files)
    code, output = run("encode", folder / "encoder", photos, tmp_path / "codes.npz")
    assert code == 1
    assert "codes.npz exists; --force overwrites it" in output
    code, output = run("encode", folder / "encoder", photos, tmp_path / "codes.npz", "--force")
    assert code == 0, output
    code, output = run("encode", folder / "encoder", photos, tmp_path / "CODES.NPZ")
    assert code == 0, output
    assert (tmp_path / "CODES.NPZ").read_bytes() == (tmp_path / "codes.npz").read_bytes()


def test_ties_and_queries_without_relevant_images(few_digits, tmp_path):
    hardly = Experiment(**SMALL | {"lr": 1e-6}, level_bits=[8, 8], ties="feature")
    run_training(hardly, tmp_path, say=lambda line: None, progress=False)
    own = evaluate(tmp_path, progress=False)
    with np.load(tmp_path / "codes.npz", allow_pickle=False) as codes:
        assert codes["gallery"].shape == (210, 2)
        assert codes["query"].shape == (30, 2)
        counts = histograms(*(codes[name] for name in ("query", "gallery", "query_labels", "gallery_labels")))
    assert (own["ties"], own["empty"]) == ("feature", "zero")
    values = {
        ties: evaluate(tmp_path, ties=ties, empty="drop", progress=False)["prefixes"][-1]["mAP@ALL"]
        for ties in ("worst", "expected", "best", "feature")
    }
    assert values["feature"] == own["prefixes"][-1]["mAP@ALL"]  # each query has relevant images
    assert values["worst"] < values["expected"] < values["best"]
    assert values["worst"] < values["feature"] <= values["best"]
    assert values["expected"] == counts.mean_average_precision()
    assert json.loads((tmp_path / "results.json").read_text())["ties"] == "feature"


def test_a_training_that_was_stopped_goes_on(few_digits, tmp_path, monkeypatch):
    settings = Experiment(**SMALL | {"epochs": 3})
    through = run_training(settings, tmp_path / "through", say=lambda line: None, progress=False)

    def kill(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(parts.HashEncoder, "save", kill)  # at the very end: all is done but the checkpoint
        with pytest.raises(KeyboardInterrupt):
            run_training(settings, tmp_path / "stopped", say=lambda line: None, progress=False)
    assert not (tmp_path / "stopped" / "encoder").exists()
    resumed = run_training(settings, tmp_path / "stopped", say=lambda line: None, progress=False)
    assert resumed.losses == through.losses
    first, second = (evaluate(tmp_path / name, progress=False) for name in ("through", "stopped"))
    assert first["prefixes"] == second["prefixes"]


def test_going_on_in_another_experiment_is_refused(few_digits, tmp_path):
    run_training(Experiment(**SMALL), tmp_path, say=lambda line: None, progress=False)
    other = Experiment(**SMALL | {"lr": 2e-3}, level_bits=[8, 8], ties="best")
    with pytest.raises(
        ValueError, match=r"holds another experiment: lr is 0.002, was 0.001; level_bits is \[8, 8\], was \[64\]; take"
    ):
        run_training(other, tmp_path, say=lambda line: None, progress=False)
    again = run_training(Experiment(**SMALL), tmp_path, say=lambda line: None, progress=False)
    assert len(again.losses) == 1


def test_a_wrong_setting_can_be_put_right(few_digits, tmp_path):
    with pytest.raises(ValueError, match="lr must be positive and finite"):
        run_training(Experiment(**SMALL | {"lr": -1.0}), tmp_path, say=lambda line: None, progress=False)
    run_training(Experiment(**SMALL), tmp_path, say=lambda line: None, progress=False)


def test_images_that_changed_are_noticed(few_digits, tmp_path, monkeypatch):
    run_training(Experiment(**SMALL), tmp_path, say=lambda line: None, progress=False)
    few = parts.load_digits
    monkeypatch.setattr(parts, "load_digits", lambda seed, transform: few(seed + 1, transform))
    with pytest.raises(ValueError, match=r"split.json is of other images"):
        evaluate(tmp_path, progress=False)


def test_a_training_does_not_go_on_with_other_images(few_digits, tmp_path, monkeypatch):
    run_training(Experiment(**SMALL), tmp_path, say=lambda line: None, progress=False)
    before = {name: (tmp_path / name).read_bytes() for name in ("split.json", "experiment.json", "state.safetensors")}
    few = parts.load_digits
    monkeypatch.setattr(parts, "load_digits", lambda seed, transform: few(seed + 1, transform))  # as many images
    with pytest.raises(ValueError, match="holds a training on other images than those that are there now"):
        run_training(Experiment(**SMALL | {"epochs": 2}), tmp_path, say=lambda line: None, progress=False)
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


def test_the_encoder_of_a_training_that_was_resumed_and_stopped_is_not_evaluated(few_digits, tmp_path, monkeypatch):
    quiet = {"say": lambda line: None, "progress": False}
    run_training(Experiment(**SMALL), tmp_path, **quiet)
    with monkeypatch.context() as patch:
        patch.setattr(parts.HashEncoder, "save", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_training(Experiment(**SMALL | {"epochs": 2}), tmp_path, **quiet)
    with pytest.raises(ValueError, match="has not ended: epochs is 2, and 1 in its encoder; fasthash train with"):
        evaluate(tmp_path, progress=False)
    settings = (tmp_path / "experiment.json").read_bytes()
    with pytest.raises(ValueError, match=r"epochs must be at least 2, as the training in .* has done so many, got 1"):
        run_training(Experiment(**SMALL), tmp_path, **quiet)
    assert (tmp_path / "experiment.json").read_bytes() == settings


def test_options_of_an_evaluation_are_checked_first():
    with pytest.raises(ValueError, match="at must be at least 1, got 0"):
        evaluate("nowhere", at=0)


@pytest.mark.parametrize("place", ["photos", "photos/runs", "photos/a/run"])
def test_a_folder_among_the_images_is_refused(tmp_path, monkeypatch, place):
    monkeypatch.setattr(Experiment, "split", lambda *arguments: pytest.fail("images were read"))
    experiment = Experiment(**SMALL, data="folder", root=tmp_path / "photos")
    with pytest.raises(ValueError, match=r"folder must lie outside '.*photos', where the images are, got '.*photos"):
        run_training(experiment, tmp_path / place, say=lambda line: None, progress=False)


def test_too_few_validation_images_are_refused(few_digits, tmp_path):
    with pytest.raises(ValueError, match=r"in common, got hold_out=0.001, which takes 3 of 210 images"):
        run_training(Experiment(**SMALL, hold_out=0.001), tmp_path, say=lambda line: None, progress=False)
    assert not any(tmp_path.iterdir())


def test_of_few_validation_images_each_is_a_query():
    class Encoder:
        def encode(self, images):
            return images.labels.astype(np.uint8)[:, None] * 17

    images = ImageSet([None] * 7, np.array([0, 0, 1, 2, 3, 4, 5]), "abcdef")
    assert experiments._validation_map(Encoder(), images, 0) == pytest.approx(2 / 7)


def test_later_settings_count(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('epochs = 7\nlr = 1e-3\nbackbone = "vgg16"\n')
    found = read_config(file, "hdhash", lr=5e-3, epochs=None)
    assert (found.epochs, found.lr, found.backbone, found.level_bits) == (7, 5e-3, "vgg16", [8, 16, 40])
    (tmp_path / "config.json").write_text(json.dumps({"seed": 4}))
    assert read_config(tmp_path / "config.json").seed == 4
    (tmp_path / "config.json").rename(tmp_path / "config.JSON")
    assert read_config(tmp_path / "config.JSON").seed == 4
    assert read_config() == Experiment()


def test_settings_of_another_loss_are_dropped():
    found = read_config(preset="wglhh", loss="dch")
    assert (found.loss, found.loss_options) == ("dch", {})
    assert read_config(preset="wglhh", epochs=3).loss_options == {"pos_weight": 70.0}
    images = ImageSet([None] * 6, np.arange(6) % 3, "abc")
    for name in LOSSES:
        loss = read_config(preset="hhnet", loss=name).make_loss(images)
        if name in ("dch", "dhn", "dpsh", "wglhh", "hyp2"):
            assert loss.hhnet
        elif name in ("hashnet", "cel", "dsh", "idhn", "mihash"):
            assert loss.pairs == "all"
    assert read_config(loss="cel", loss_options={"margin": 0.1}).make_loss(images).margin == 0.1
    assert read_config(preset="hdhash", level_bits=[8, 8]).make_loss(images).weights == (2 / 3, 1 / 3)


def test_what_may_change_when_an_experiment_goes_on(few_digits, tmp_path):
    quiet = {"say": lambda line: None, "progress": False}
    run_training(Experiment(**SMALL, hold_out=0.2, patience=2), tmp_path, **quiet)
    longer = Experiment(**SMALL | {"epochs": 2}, hold_out=0.2, patience=3, level_bits=(64,))
    record = run_training(longer, tmp_path, **quiet)
    assert len(record.losses) == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_make_a_loss(preset):
    found = read_config(preset=preset, data="digits")
    images = ImageSet([None] * 6, np.arange(6) % 3, "abc")
    loss = found.make_loss(images)
    assert isinstance(loss, HierarchicalLoss) == (len(found.level_bits) > 1)
    z = torch.randn(6, sum(found.level_bits), requires_grad=True)
    loss(z, torch.from_numpy(images.labels)).backward()


@pytest.mark.parametrize("file", sorted(SETTINGS.glob("*.toml")), ids=lambda file: file.stem)
def test_the_settings_of_the_benchmarks(file):
    found = read_config(file, root="images")
    loss = found.make_loss(ImageSet([None] * 6, np.arange(6) % 3, "abc"))
    loss(torch.randn(6, sum(found.level_bits)), torch.arange(6) % 3)


@pytest.mark.parametrize("mode", ["parallel", "prefix"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_on_levels(name, mode):
    images = ImageSet([None] * 6, np.arange(6) % 3, "abc")
    options = {"cel": {}, "dpsh": {"variant": "hhnet"}}.get(name, {})
    loss = Experiment(level_bits=[8, 16], loss=name, level_mode=mode, loss_options=options).make_loss(images)
    z = torch.randn(6, 24, requires_grad=True)
    value = loss(z, torch.from_numpy(images.labels), torch.arange(6))
    value.backward()
    assert z.grad.abs().sum() > 0


def test_settings_reach_the_network_and_the_loss():
    encoder = Experiment(
        backbone="resnet10t", image_size=64, head="sliced", batch_norm=True, level_bits=[8, 8]
    ).make_encoder()
    assert (encoder.image_size, encoder.head.kind, encoder.head.batch_norm, encoder.level_bits) == (
        64,
        "sliced",
        True,
        (8, 8),
    )
    images = ImageSet([None] * 6, np.arange(6) % 3, "abc")
    loss = Experiment(loss="dch", loss_options={"gamma": 3.0, "pairs": "all"}).make_loss(images)
    assert (loss.gamma, loss.pairs) == (3.0, "all")
    several = Experiment(level_bits=[8, 8], level_weights=[3.0, 1.0], level_mode="prefix", decorrelation=10)
    loss = several.make_loss(images)
    assert (loss.weights, loss.mode, loss.decorrelation) == ((0.75, 0.25), "prefix", 10.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "web"}, "data must be one of 'digits'"),
        ({"data": "folder"}, "root must name the folder of the images for data='folder', got None"),
        ({"data": "lists", "root": "x"}, "lists must name the lists or the split file for data='lists', got None"),
        ({"loss": "magic"}, "loss must be one of"),
        ({"augment": "cutout"}, "augment must be one of 'none', 'flip', 'crop_flip', .* got 'cutout'"),
        ({"level_bits": [12]}, "level_bits must be a multiple of 8, got 12"),
        ({"hold_out": 1.5}, "hold_out must be at least 0 and below 1, got 1.5"),
        ({"hold_out": 1}, "hold_out must be at least 0 and below 1, got 1"),
        ({"hold_out": -0.1}, "hold_out must be at least 0 and below 1, got -0.1"),
        ({"hold_out": float("nan")}, "hold_out must be at least 0 and below 1, got nan"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"level_mode": "nested"}, "level_mode must be one of 'parallel', 'prefix', got 'nested'"),
        ({"ties": "lucky"}, "ties must be one of 'expected', 'best', 'worst', 'feature', got 'lucky'"),
        ({"empty": "skip"}, "empty must be one of 'zero', 'drop', got 'skip'"),
        ({"variant": "best"}, "variant must be one of 'original', 'hhnet', got 'best'"),
        ({"preset": "best"}, "preset must be one of 'hhnet'"),
        ({"colour": "red"}, "settings must be among .* got colour"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"batch_size": 64.5}, "batch_size must be an integer, got 64.5"),
        ({"epochs": -3}, "epochs must be at least 1, got -3"),
        ({"backbone": "resnt18"}, "backbone='resnt18' is neither a timm model nor .*; near: resnet18"),
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"head": "round"}, "head must be one of 'linear', 'sliced', got 'round'"),
        ({"batch_norm": 1}, "batch_norm must be True or False, got 1"),
        ({"skip_broken": 1}, "skip_broken must be True or False, got 1"),
        ({"weights": True}, "weights must be a path, got True"),
        ({"root": 3}, "root must be a path, got 3"),
        ({"hold_out": "half"}, "hold_out must be a number, got 'half'"),
        ({"protocol": "cifar"}, "protocol must be one of 'cifar10-hhnet', .* got 'cifar'"),
        ({"protocol": "cifar10-hhnet"}, "protocol must be None for data='digits', which has none, got 'cifar10-hhnet'"),
        (
            {"data": "split", "lists": "x", "protocol": "cifar10-hhnet"},
            "protocol must be None for data='split', which has none, got 'cifar10-hhnet'",
        ),
        ({"lists": "x"}, "lists must be None for data='digits', which has none, got 'x'"),
        ({"teacher_weight": 2.0}, "teacher_weight must be 1.0 without a teacher, got 2.0"),
        ({"teacher": "package", "teacher_epochs": 3, "epochs": 3}, "teacher_epochs must be below epochs=3, got 3"),
        ({"data": "parts", "root": "x"}, "protocol must say how the images are split for data='parts', got None"),
        (
            {"data": "parts", "root": "x", "protocol": "nuswide21-csq"},
            "protocol must be one that is drawn for data='parts', got 'nuswide21-csq'",
        ),
        ({"level_bits": [8, 8], "level_weights": [1.0]}, "level_weights must hold one weight for each of the 2 levels"),
        ({"level_bits": [8, 8], "decorrelation": -1}, "decorrelation must be finite and not negative, got -1"),
        ({"decorrelation": 10}, "decorrelation must be 0 for a code of one level, got 10.0"),
        ({"level_bits": [8, 8], "level_weights": 2}, "level_weights must be a sequence of numbers, got 2"),
        ({"loss_options": "fast"}, "loss_options must be a table of options, got 'fast'"),
        (
            {"loss": "dch", "loss_options": {"speed": 3, "n_bits": 4}},
            r"loss_options must be among \['gamma', .*\] for dch, got \['n_bits', 'speed'\]",
        ),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read_config(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"preset": "hhnet", "data": "folder", "root": "x"},
            "patience must be None, got 10: it needs validation images, and data='folder' has none here",
        ),
        ({"patience": 2}, "needs validation images, and data='digits' has none"),
        ({"teacher": "nowhere"}, "teacher='nowhere' must be 'package' or the folder of a saved encoder"),
        ({"teacher_epochs": 2}, "teacher_epochs must be 0 without a teacher, got 2"),
        ({"freeze_backbone": True, "teacher": "package"}, "teacher must be None with freeze_backbone, got 'package'"),
        ({"freeze_backbone": True, "augment": "flip"}, "augment must be 'none' with freeze_backbone, got 'flip'"),
        ({"stem_stride": 2, "backbone": "alexnet"}, "stem_stride must be None for backbone='alexnet'"),
        ({"stem_stride": 5}, "stem_stride must be 1, 2 or 4, got 5"),
        ({"patience": 2, "data": "cifar10", "root": "x", "protocol": "cifar10-1"}, "needs validation images"),
        ({"weights": "none.safetensors"}, "pretrained='none.safetensors' does not exist"),
        ({"weights": "weights.bin"}, "must be .package., a saved encoder, or a file of weights"),
        ({"loss": "dch", "loss_options": {"gamma": -1.0}}, "gamma must be positive and finite, got -1.0"),
        ({"data": "folder", "root": "x", "weights": "imagenet"}, "path='x' is not a folder"),
        ({"data": "lists", "lists": "x", "patience": 2, "weights": "imagenet"}, "'x'|x is neither|needs"),
        (
            {"data": "lists", "lists": "lists", "protocol": "coco", "weights": "imagenet"},
            "path='lists' must have 80 classes for protocol 'coco', got 2",
        ),
        ({"data": "lists", "lists": "lists", "protocol": "cifar", "weights": "imagenet"}, "protocol must be one of"),
        ({"lr": "fast", "weights": "imagenet"}, "lr must be a number, got 'fast'"),
        ({"batch_size": 64.5, "weights": "imagenet"}, "batch_size must be an integer, got 64.5"),
    ],
)
def test_what_is_wrong_shows_before_a_network_is_made(settings, message, tmp_path, monkeypatch):
    """And, for all but what only the data tell, before any of these are read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parts, "HashEncoder", lambda *arguments, **options: pytest.fail("a network was made"))
    monkeypatch.setattr(parts, "load_digits", lambda *arguments: pytest.fail("data were read"))
    (tmp_path / "lists").mkdir()
    for name in ("train", "test", "database"):
        (tmp_path / "lists" / f"{name}.txt").write_text("a.png 0\nb.png 1\n")
    with pytest.raises((OSError, TypeError, ValueError), match=message):
        run_training(read_config(**settings), tmp_path / "run", say=lambda line: None, progress=False)
    assert not (tmp_path / "run").exists()


def test_settings_become_plain_values(tmp_path):
    found = Experiment(
        root=tmp_path,
        weights=tmp_path / "a.safetensors",
        image_size=np.int64(32),
        level_bits=np.array([8, 8]),
        level_weights=np.array([2.0, 1.0]),
        hold_out=np.float32(0.5),
    )
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(found)))
    assert read_config(tmp_path / "config.json") == found


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"hold_out": 0.1}, True),
        ({"data": "folder", "root": "x"}, False),
        ({"data": "cifar10", "root": "x"}, True),
        ({"data": "cifar10", "root": "x", "protocol": "cifar10-2"}, False),
        ({"data": "parts", "root": "x", "protocol": "imagenet100-hhnet"}, True),
        ({"data": "lists", "lists": "x"}, None),
        ({"data": "split", "lists": "x"}, None),
    ],
)
def test_which_data_have_validation_images(settings, expected):
    assert Experiment(**settings).validates is expected


def test_a_gpu_is_missed_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(parts, "load_digits", lambda *arguments: pytest.fail("data were read"))
    with pytest.raises(
        ValueError, match="mixed_precision must be 'no' or 'bf16' on a machine without a GPU, got 'fp16'"
    ):
        run_training(Experiment(mixed_precision="fp16"), tmp_path, say=lambda line: None, progress=False)


def test_patience_needs_validation_images_in_the_lists(tmp_path):
    """Which only the lists tell."""
    for name in ("train", "test", "database"):
        (tmp_path / f"{name}.txt").write_text("a.png 0\nb.png 1\n")
    experiment = Experiment(data="lists", lists=tmp_path, patience=2, weights="imagenet")
    with pytest.raises(ValueError, match="patience must be None, got 2: it needs validation images, and data='lists'"):
        run_training(experiment, tmp_path / "run", say=lambda line: None, progress=False)
    assert not (tmp_path / "run").exists()


def test_files_of_settings_that_are_none(tmp_path):
    for name, content in (("a.json", b"[1]"), ("b.json", b"{"), ("c.toml", b"lr ="), ("d.toml", b"\xff")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} (cannot be read|must hold settings by name)"):
            read_config(tmp_path / name)


def test_the_command_takes_every_setting_of_a_training(tmp_path, monkeypatch):
    seen = []
    given = {
        "optimizer": "sgd",
        "epochs": 3,
        "batch_size": 5,
        "lr": 0.5,
        "hash_lr_mult": 2.0,
        "loss_lr_mult": 4.0,
        "weight_decay": 0.25,
        "schedule": "cosine",
        "warmup": 0.25,
        "clip_norm": 2.0,
        "ema": 0.5,
        "accumulate": 4,
        "mixup": 0.5,
        "teacher_weight": 0.5,
        "teacher_epochs": 2,
        "cache_mib": 64,
        "seed": 9,
        "mixed_precision": "bf16",
        "num_workers": 2,
        "patience": 7,
    }
    switches = ["gradient_checkpointing", "freeze_backbone"]
    assert [*given, *switches] == sorted(TrainingSettings().as_dict(), key=switches.__contains__)
    monkeypatch.setattr(experiments, "run_training", lambda experiment, *rest: seen.append(experiment) or 1 / 0)
    run("train", tmp_path, *flags(**given), "--hold-out", 0.5, "--teacher", "package", "--stem-stride", 2)
    run("train", tmp_path, "--freeze-backbone")
    run("train", tmp_path, "--gradient-checkpointing")
    assert seen == [
        Experiment(**given, hold_out=0.5, teacher="package", stem_stride=2),
        Experiment(freeze_backbone=True),
        Experiment(gradient_checkpointing=True),
    ]
    _, output = run("train", "--help")
    assert "Passes over the training images" in output


def test_broken_images_end_a_training_or_are_left_out(tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    lines = []
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
        lines.append(f"{number}.jpg {number % 2}\n")
    for name in ("train", "test", "database"):
        (lists / f"{name}.txt").write_text("".join(lines))
    broken = tmp_path / "7.jpg"
    broken.write_bytes(broken.read_bytes()[:-100])
    options = flags(data="lists", lists=lists, root=tmp_path, backbone="resnet10t", image_size=32, epochs=1)
    code, output = run("train", tmp_path / "a", *options)
    assert code == 1
    assert f"images[7] cannot be read: '{broken}': OSError: image file is truncated" in output
    _, output = run("train", tmp_path / "c", *options, "--num-workers", 1)
    last = output.strip().splitlines()[-1]
    assert last.startswith(f"fasthash: OSError: images[7] cannot be read: '{broken}'")
    code, output = run("train", tmp_path / "b", *options, "--skip-broken")
    assert code == 0, output
    assert "Left out: 1 image that cannot be read." in output
    assert "1 epoch, " in output
    assert evaluate(tmp_path / "b", progress=False)["protocol"].endswith("Left out: 1 image that cannot be read.")
    assert json.loads((tmp_path / "b" / "split.json").read_text())["skipped"] == [str(broken)]


def test_encoding_nothing_is_an_error(tmp_path):
    from fasthash.encoder import HashEncoder

    HashEncoder("resnet10t", (8,), image_size=32).save(tmp_path / "encoder")
    (tmp_path / "photos").mkdir()
    for at_scale in ([], ["--ray", "--num-workers", 0]):
        output = tmp_path / ("codes" if at_scale else "codes.npz")
        code, text = run("encode", tmp_path / "encoder", tmp_path / "photos", output, *at_scale)
        assert code == 1
        assert f"no photos below '{tmp_path / 'photos'}' (0 files)" in text
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    assert run("encode", tmp_path / "encoder", tmp_path / "photos", tmp_path / "codes.npz")[0] == 1
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    code, text = run("encode", tmp_path / "encoder", tmp_path / "photos", tmp_path / "codes.npz")
    assert code == 1
    message = f"fasthash: {tmp_path / 'photos'} holds no image that can be read, 1 file skipped; nothing was encoded"
    assert text.strip().endswith(message)
    assert not (tmp_path / "codes.npz").exists()
    Image.new("RGB", (32, 32)).save(tmp_path / "photos" / "b.jpg")
    code, text = run("encode", tmp_path / "encoder", tmp_path / "photos", tmp_path / "codes.npz")
    assert (code, "1 image in " in text, "encode:" in text) == (0, True, False)


def test_a_place_for_codes_that_cannot_be_written_is_told_first(tmp_path, monkeypatch):
    monkeypatch.setattr("fasthash._durable.os.access", lambda path, mode: not mode & os.W_OK)
    code, output = run("encode", tmp_path / "encoder", tmp_path / "photos", tmp_path / "codes.npz")
    assert code == 1
    assert f"folder='{tmp_path}' cannot be written: '{tmp_path}' does not allow it" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "OUT", "--bits", "8,x"], "bits must be whole numbers with commas between"),
        (["train", "OUT", "--config", "missing.toml"], "missing.toml"),
        (["train", "OUT", "--data", "parts", "--root", "x"], "protocol must say how the images are split"),
        (
            ["train", "OUT", "--patience", "3", "--backbone", "resnet10t", "--image-size", "32"],
            "--patience must be left out, got 3: it needs validation images, and --data digits has none",
        ),
        (["train", "OUT", "--data", "folder"], "--root must name the folder of the images for --data folder"),
        (["train", "OUT", "--data", "folder", "--root", "x"], "--root='x' is not a folder; it does not exist"),
        (["train", "OUT", "--weights", "x.pth"], "--weights='x.pth' does not exist"),
        (["train", "OUT", "--seed", "1", "--seeds", "1 2"], "--seed must be left out beside --seeds"),
        (["eval", "OUT"], "out' is not a folder that fasthash train made: it does not exist"),
        (["eval", "wrong.toml"], "folder='wrong.toml' is not a folder that fasthash train made: it is a file"),
        (["eval", "."], "folder='.' is not a folder that fasthash train made: it holds no experiment.json"),
        (["eval", "stopped"], "folder='stopped' holds a training that has not ended; fasthash train with the same"),
        (["train", "OUT", "--config", "wrong.toml"], "level_bits must be a sequence of integers, got 64.0"),
        (["encode", "OUT", "OUT", "codes.txt"], "output must end with .npz, got 'codes.txt'"),
        (["encode", "OUT", "OUT", "codes.npz"], "holds no saved HashEncoder"),
    ],
)
def test_mistakes_end_with_one_line(few_digits, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text("level_bits = 64.0")
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped/experiment.json").write_text("{}")
    code, output = run(*[str(tmp_path / "out") if part == "OUT" else part for part in arguments])
    assert code == 1
    assert output.strip().splitlines()[-1].startswith("fasthash: ")
    assert message in output


def test_several_labels_are_held_out_too(few_digits, tmp_path, monkeypatch):
    few = parts.load_digits

    def several(seed, transform):
        split = few(seed, transform)
        parts = [
            ImageSet(
                part.images, np.eye(3, dtype=np.uint8)[part.labels] | (part.labels[:, None] == 0), "abc", transform
            )
            for part in (split.train, split.gallery, split.query)
        ]
        return Split(*parts, "several.", seed=seed)

    monkeypatch.setattr(parts, "load_digits", several)
    record = run_training(Experiment(**SMALL, hold_out=0.3), tmp_path, say=lambda line: None, progress=False)
    assert record.settings["images"] == 147
    assert len(record.scores) == 1
    assert 0 < evaluate(tmp_path, progress=False)["prefixes"][0]["mAP@ALL"] <= 1
