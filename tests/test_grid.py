"""Several seeds, widths and losses in one command: what is trained, what is shared, and the tables."""

import csv
import json
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("timm", reason="training needs the extra 'train'")
pytest.importorskip("typer", reason="the command line needs the extra 'cli'")


from PIL import Image

from fasthash import _experiment, _training_data, grid
from fasthash._training_data import FeatureCache
from fasthash.data import ImageSet
from fasthash.encoder import HashEncoder
from fasthash.evaluation import evaluate
from fasthash.experiment import Experiment, read_config, run_training
from small_runs import flags, put_few_digits, run

SMALL = {"backbone": "resnet10t", "image_size": 32, "lr": 1e-3, "batch_size": 32, "epochs": 1}


@pytest.fixture
def few_digits(monkeypatch):
    """A split that trains in a moment."""
    put_few_digits(monkeypatch, 90, 15)


def test_one_command_trains_and_tabulates_all(few_digits, tmp_path):
    arguments = ["train", tmp_path / "a", *flags(**SMALL), "--loss", "csq", "--bits", "8 8,8", "--seeds", "3 5"]
    code, output = run(*arguments)
    assert code == 0, output
    folders = [f"csq-{bits}-seed{seed}" for bits in ("8", "8+8") for seed in (3, 5)]
    assert sorted(path.name for path in (tmp_path / "a").iterdir() if path.is_dir()) == sorted(folders)
    table = (tmp_path / "a" / "table.md").read_text()
    assert table in output
    head, _, row = table.splitlines()
    assert head == "| mAP@ALL, 2 seeds | 8 bits | 8+8 bits |"
    assert row.startswith("| csq | ")

    found = [json.loads((tmp_path / "a" / name / "results.json").read_text()) for name in folders[:2]]
    values = [figures["prefixes"][-1]["mAP@ALL"] for figures in found]
    rows = list(csv.DictReader((tmp_path / "a" / "table.csv").open()))
    assert float(rows[0]["mean"]) == pytest.approx(np.mean(values), abs=1e-6)
    assert float(rows[0]["spread"]) == pytest.approx(abs(values[0] - values[1]) / 2, abs=1e-6)
    assert [(row["loss"], row["bits"], row["metric"]) for row in rows[:2]] == [
        ("csq", "8", "mAP@ALL"),
        ("csq", "8", "precision@75"),
    ]
    assert r"\pm" in (tmp_path / "a" / "table.tex").read_text()

    before = [(tmp_path / "a" / name / "encoder" / "card.json").stat().st_mtime_ns for name in folders]
    code, again = run(*arguments)  # nothing is trained anew
    assert code == 0, again
    assert before == [(tmp_path / "a" / name / "encoder" / "card.json").stat().st_mtime_ns for name in folders]
    assert (tmp_path / "a" / "table.md").read_text() == table


def test_a_table_holds_results_of_one_kind(few_digits, tmp_path, monkeypatch):
    arguments = ["train", tmp_path, *flags(**SMALL), "--bits", "8", "--seeds", "3 5"]
    assert run(*arguments)[0] == 0
    table, place = (tmp_path / "table.md").read_text(), tmp_path / "hashnet-8-seed3"
    for other in ({"at": 5}, {"ties": "best"}, {"empty": "drop"}):
        evaluate(place, **other, progress=False)
        code, output = run(*arguments)
        assert code == 0, output
        assert (tmp_path / "table.md").read_text() == table
        figures = json.loads((place / "results.json").read_text())
        assert (figures["ties"], figures["empty"], "mAP@ALL" in figures["prefixes"][0]) == ("expected", "zero", True)

    few = _experiment.load_digits
    monkeypatch.setattr(_experiment, "load_digits", lambda seed, transform: few(seed + 1, transform))
    code, output = run(*arguments)
    assert code == 1
    assert "holds a training on other images" in " ".join(output.split())
    assert (tmp_path / "table.md").read_text() == table
    assert (place / "results.json").exists()


def test_a_refused_grid_leaves_nothing(tmp_path):
    (tmp_path / "photos").mkdir()
    data = ["--data", "folder", "--root", tmp_path / "photos"]
    code, output = run("train", tmp_path / "new" / "a", *data, *flags(**SMALL), "--loss", "csq", "--seeds", "3 5")
    assert code == 1
    assert "must hold two or more class folders" in output
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_tables():
    def figures(value):
        return {"prefixes": [{"n_bits": 8, "mAP@5": value, "pr_curve": {}}], "P@H<=2": value / 2, "protocol": "p"}

    results = {grid.Point("csq", "8", seed): figures(value) for seed, value in ((0, 0.5), (1, 0.75), (2, 1.0))}
    results[grid.Point("dch", "16", 0)] = figures(0.125)
    assert grid.markdown_table(results) == (
        "| mAP@5, 3 seeds | 8 bits | 16 bits |\n| --- | ---: | ---: |\n| csq | .750 ± .250 |  |\n| dch |  | .125 |\n"
    )
    assert grid.latex_table(results).splitlines()[4:6] == [r"csq & $.750 \pm .250$ &  \\", r"dch &  & $.125$ \\"]
    assert grid.csv_table(results).splitlines()[:3] == [
        "loss,bits,metric,mean,spread,seeds",
        "csq,8,mAP@5,0.750000,0.250000,3",
        "csq,8,P@H<=2,0.375000,0.125000,3",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seeds", "0 x"], "seeds must be whole numbers"),
        (["--seeds", "0 0"], "got hashnet-64-seed0 twice"),
        (["--seeds", "0 -1"], "seed must be at least 0, got -1"),
        (["--seeds", "0 1", "--seed", 2], "--seed must be left out beside --seeds, got 2 and '0 1'"),
        (["--bits", "8 12"], "must be a multiple of 8"),
        (["--bits", ""], "bits must be whole numbers"),
        (["--loss", "csq luck"], "loss must be one of"),
        (["--loss", ""], "loss must be one of"),
        (["--seeds", "0 1", "--weights", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_mistakes_are_told_before_an_image_is_read(given, message, tmp_path, monkeypatch):
    monkeypatch.setattr(Experiment, "split", None)
    code, output = run("train", tmp_path / "a", *flags(**SMALL), *given)
    assert code == 1
    assert message in " ".join(output.split())
    assert not (tmp_path / "a").exists()


def test_another_experiment_in_the_folder_is_told_first(few_digits, tmp_path, monkeypatch):
    run_training(Experiment(**SMALL, seed=1, level_bits=[8]), tmp_path / "a" / "hashnet-8-seed1", print, progress=False)
    monkeypatch.setattr(Experiment, "split", None)
    code, output = run("train", tmp_path / "a", *flags(**SMALL | {"lr": 0.5}), "--bits", 8, "--seeds", "0 1")
    assert code == 1
    assert "holds another experiment: lr" in " ".join(output.split())


def test_one_process_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="need one process"):
        grid.run_grid(grid.make_grid(read_config), tmp_path)


def test_a_frozen_backbone_sees_each_image_once(few_digits, tmp_path, monkeypatch):
    """The results are those of trainings on their own."""
    seen = []
    features_of = _training_data.features_of
    monkeypatch.setattr(
        _training_data, "features_of", lambda encoder, images, *rest: seen.append(len(images)) or features_of(
            encoder, images, *rest
        ),
    )  # fmt: skip
    encoder = read_config(**SMALL, level_bits=[8]).make_encoder()
    encoder.save(tmp_path / "start")
    settings = SMALL | {"freeze_backbone": True, "level_bits": [8], "weights": str(tmp_path / "start")}
    experiments = grid.make_grid(lambda **given: read_config(**settings, seed=given["seed"]), seeds=[0, 1])
    results = grid.run_grid(experiments, tmp_path / "grid", str, progress=False)
    later = grid.make_grid(lambda **given: read_config(**settings, seed=given["seed"]), seeds=[2])
    grid.run_grid(later, tmp_path / "grid", str, progress=False)  # takes the features from their file
    assert seen == [75, 15]
    for point, experiment in experiments.items():
        record = run_training(experiment, tmp_path / "alone" / point.folder, str, progress=False)
        alone = evaluate(tmp_path / "alone" / point.folder, progress=False)
        assert results[point]["training"]["losses"] == record.losses
        assert results[point]["prefixes"][0]["mAP@ALL"] == alone["prefixes"][0]["mAP@ALL"]


def features(encoder, images, file=None):
    return FeatureCache(file).of(encoder, images).tensors[0]


def test_features_of_a_replaced_photo_are_computed_again(tmp_path):
    encoder, photo, file = HashEncoder("resnet10t", (8,), image_size=32), tmp_path / "a.png", tmp_path / "features.npz"
    images = ImageSet([str(photo)], [0], "a", encoder.transform)
    found = []
    for colour in (10, 200):
        Image.new("RGB", (32, 32), (colour, 50, 90)).save(photo)
        os.utime(photo, (colour, colour))
        found.append(features(encoder, images, file))
        assert torch.equal(found[-1], features(encoder, images))
    assert not torch.equal(*found)


def test_features_depend_on_the_stem_and_the_branches(tmp_path):
    images, file, start = ImageSet([np.full((9, 9), 70, np.uint8)], [0], "a"), tmp_path / "features.npz", None
    for settings in ({"stem_stride": 4}, {"stem_stride": 2}, {"stem_stride": 2, "cut_branches": 1}):
        encoder = HashEncoder("hrnet_w18_small", (8,), start or False, image_size=32, **settings)
        if start is None:
            start = tmp_path / "start"
            encoder.save(start)
        images.transform = encoder.transform
        assert torch.equal(features(encoder, images, file), features(encoder, images)), settings


def test_a_truncated_file_of_features_is_made_anew(tmp_path):
    encoder, file = HashEncoder("resnet10t", (8,), image_size=32), tmp_path / "features.npz"
    images = ImageSet([np.full((9, 9), 70, np.uint8)], [0], "a", encoder.transform)
    expected = features(encoder, images, file)
    content = file.read_bytes()
    for size in (0, 10, len(content) // 2):
        file.write_bytes(content[:size])
        assert torch.equal(features(encoder, images, file), expected)
        assert len(file.read_bytes()) == len(content)
