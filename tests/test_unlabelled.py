"""Photos in, codes out, without labels: `fit_encoder` and `fasthash encode package`."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="encoding needs the extra 'train'")
pytest.importorskip("timm", reason="encoding needs the extra 'train'")
pytest.importorskip("sklearn", reason="ITQ needs the extra 'baselines'")
pytest.importorskip("typer", reason="the command line needs the extra 'cli'")

from PIL import Image
from typer.testing import CliRunner

import fasthash.unlabelled as unlabelled
from fasthash.baselines import ITQ
from fasthash.cli import app
from fasthash.encoder import HashEncoder
from fasthash.heads import HashHead


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Thirty photos and a broken one, in two folders that are no classes."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(30):
        place = folder / ("a" if number < 20 else "b/c")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(place / f"{number:02d}.png")
    (folder / "a" / "broken.png").write_bytes(b"x")
    return folder


def fit(photos, **options):
    torch.manual_seed(0)
    return unlabelled.fit_encoder(photos, (8, 16), "resnet10t", False, image_size=32, progress=False, **options)


def test_the_hash_layer_is_that_of_itq(photos, tmp_path):
    encoder, encoded = fit(photos)
    assert len(encoded.paths) == 30
    assert [path for path, _ in encoded.broken] == ["a/broken.png"]
    images = torch.stack([encoder.transform(Image.open(photos / path)) for path in encoded.paths])
    with torch.inference_mode():
        features = encoder.backbone(images).numpy()
    itq = ITQ(24, random_state=0).fit(features)
    np.testing.assert_allclose(encoder.outputs(images), itq.project(features), rtol=1e-3, atol=1e-4)
    assert (encoded.codes == itq.encode(features)).mean() > 0.95  # outputs near zero may round to either side

    encoder.save(tmp_path / "encoder")
    again = HashEncoder.load(tmp_path / "encoder").encode_folder(photos, progress=False)
    assert (again.codes == encoded.codes).mean() > 0.95
    assert again.paths == encoded.paths


def test_few_photos_are_refused(photos):
    with pytest.raises(ValueError, match=r"must hold more readable photos than n_bits = 24 .* got 10"):
        fit(photos / "b")
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        fit(photos, seed=-1)


def test_more_bits_than_features_are_refused_first(photos, monkeypatch):
    monkeypatch.setattr(unlabelled, "encode_folder", lambda *arguments: pytest.fail("photos were read"))
    with pytest.raises(
        ValueError, match="must sum to at most 512, the number of features of backbone='resnet10t', got"
    ):
        unlabelled.fit_encoder(photos, (512, 8), "resnet10t", False, image_size=32, progress=False)


def test_the_folder_of_the_encoder_is_checked_first(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(unlabelled, "fit_encoder", lambda *arguments, **options: pytest.fail("photos were read"))
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    HashHead(4, (8,)).save(tmp_path / "head")
    codes, index = tmp_path / "codes.npz", tmp_path / "codes.fh"
    for save, force, message in (
        ("there", False, "there exists; --force overwrites it"),
        ("file", True, "--save must be a folder, got the file"),
        ("head", True, "is not the card of a HashEncoder"),
        ("codes.fh", True, "must be another file or folder"),
    ):
        arguments = ["encode", "package", photos, codes, "--index", index, "--save", tmp_path / save]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments + ["--force"] * force])
        assert result.exit_code == 1
        assert message in " ".join(result.output.split())


def test_the_codes_are_written_before_the_encoder(photos, tmp_path, monkeypatch):
    made = fit(photos)
    monkeypatch.setattr(unlabelled, "fit_encoder", lambda *arguments, **options: made)
    monkeypatch.setattr(HashEncoder, "save", lambda *arguments: 1 / 0)
    arguments = ["encode", "package", photos, tmp_path / "codes.npz", "--save", tmp_path / "encoder"]
    assert CliRunner().invoke(app, [str(argument) for argument in arguments]).exit_code != 0
    assert (tmp_path / "codes.npz").exists()


def test_the_command(photos, tmp_path, monkeypatch):
    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return result.exit_code, " ".join(result.output.split())

    made = unlabelled.fit_encoder
    monkeypatch.setattr(
        unlabelled, "fit_encoder", lambda folder, bits, **options: made(folder, bits, "resnet10t", False, **options)
    )
    given = ["--bits", "8,16", "--image-size", 32, "--save", tmp_path / "encoder", "--index", tmp_path / "codes.fh"]
    code, output = run("encode", "package", photos, tmp_path / "codes.npz", *given)
    assert code == 0, output
    assert "30 images in" in output
    assert "is not saved" not in output
    code, output = run("encode", "package", photos, tmp_path / "unsaved.npz", *given[:4])
    assert code == 0, output
    assert "the encoder is not saved, so that no other photo can be encoded; --save DIR saves it" in output
    with np.load(tmp_path / "codes.npz") as file:
        assert file["codes"].shape == (30, 3)
    code, output = run("encode", tmp_path / "encoder", photos, tmp_path / "again.npz")
    assert code == 0, output

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("mine")
    for wrong, message, expected in (
        ([tmp_path / "encoder", photos, tmp_path / "c.npz", "--bits", 8], "--bits needs 'package' as the encoder", 2),
        (["package", photos, tmp_path / "c", "--ray"], "--ray needs the folder of a checkpoint, got 'package'", 2),
        (["package", photos, tmp_path / "c.npz", "--bits", 12], "must be a multiple of 8, got 12", 1),
        (["package", photos, tmp_path / "c.npz", "--save", photos], "photos", 1),
        (
            ["package", photos, tmp_path / "c.npz", "--save", tmp_path / "thesis", "--force"],
            "thesis' holds something else: chapter.txt",
            1,
        ),
        (
            [tmp_path / "encoder", photos, tmp_path / "c.npz", "--index", tmp_path / "c.npy"],
            "--index must be named as an index, such as c.fh",
            1,
        ),
    ):
        code, output = run("encode", *wrong)
        assert code == expected
        assert message in output
        assert not (tmp_path / "c.npz").exists()
