"""Encoders outside of training: paths and pictures as input, half precision, files for other programs."""

from contextlib import nullcontext

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="encoders need the extra 'train'")
pytest.importorskip("timm", reason="encoders need the extra 'train'")

from PIL import Image

from fasthash import sign_codes
from fasthash._extras import MissingExtraError
from fasthash._hasher import check_precision
from fasthash.encoder import HashEncoder


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return HashEncoder("resnet10t", (8, 16), image_size=32).eval()


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 50, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def codes(encoder, pixels):
    return encoder.encode(torch.stack([encoder.transform(image) for image in pixels]))


def saved(pixels, folder):
    paths = [folder / f"{number}.png" for number in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_images_of_every_kind_give_the_same_codes(encoder, pixels, codes, tmp_path):
    paths = saved(pixels, tmp_path)
    pictures = [Image.fromarray(image) for image in pixels]
    mixed = [str(paths[0]), pictures[1], pixels[2], paths[3]]
    for images in (paths, tuple(map(str, paths)), pictures, list(pixels), mixed):
        assert np.array_equal(encoder.encode(images), codes)
    for one in (paths[1], str(paths[1]), pictures[1], pixels[1]):
        assert np.array_equal(encoder.encode(one), codes[1:2])
    assert encoder.encode([]).shape == (0, 3)
    assert encoder.outputs(paths, batch_size=3).shape == (4, 24)
    transparent = Image.fromarray(pixels[0]).convert("RGBA")
    assert np.array_equal(encoder.encode([transparent]), codes[:1])


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([1, 2], TypeError, r"images\[0\] must be a path, a PIL image or a uint8 array, got int"),
        ([np.zeros((4, 4, 3), np.float32)], TypeError, r"images\[0\] must be a uint8 array .* got dtype float32"),
        ([torch.zeros(3, 4, 4)], TypeError, r"images\[0\] must be a path, .* got Tensor"),
        ("nowhere.png", OSError, r"images\[0\] cannot be read: 'nowhere.png'"),
        (".", IsADirectoryError, r"images\[0\] must be an image file, got the folder '.'; HashEncoder.encode_folder"),
        (5, TypeError, "images must be a float tensor .*, a torch Dataset, or photos: .* got int"),
    ],
)
def test_what_is_no_image(encoder, images, error, message):
    with pytest.raises(error, match=message):
        encoder.encode(images)


@pytest.mark.filterwarnings("ignore:mixed_precision='bf16' is several times slower")
def test_half_precision(encoder, pixels, codes):
    found = encoder.encode(list(pixels), mixed_precision="bf16")
    assert np.unpackbits(found ^ codes).mean() < 0.1  # only signs of outputs near zero change
    assert encoder.outputs(list(pixels), mixed_precision="bf16").dtype == np.float32
    with pytest.raises(ValueError, match="mixed_precision must be one of 'no', 'bf16', 'fp16', got 'half'"):
        encoder.encode(list(pixels), mixed_precision="half")


@pytest.mark.parametrize(
    ("precision", "has_bf16", "has_gpu", "message"),
    [
        ("bf16", False, False, "mixed_precision='bf16' is several times slower than 'no' on this processor"),
        ("bf16", True, False, None),
        ("bf16", False, True, None),
        ("no", False, False, None),
    ],
)
def test_slow_half_precision_is_told(monkeypatch, precision, has_bf16, has_gpu, message):
    monkeypatch.setattr("fasthash._hasher._processor_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    with nullcontext() if message is None else pytest.warns(UserWarning, match=message):
        check_precision(precision)


def test_torchscript(encoder, pixels, codes, tmp_path):
    path = encoder.export("torchscript", tmp_path / "encoder.pt")
    images = torch.stack([encoder.transform(image) for image in pixels])
    with torch.no_grad():
        outputs = torch.jit.load(path)(images)  # four images, where two were traced
    assert np.array_equal(sign_codes(outputs.numpy()), codes)


def test_onnx(encoder, pixels, codes, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra export")
    import onnxruntime

    path = encoder.export("onnx", tmp_path / "encoder.onnx")
    session = onnxruntime.InferenceSession(path)
    images = torch.stack([encoder.transform(image) for image in pixels]).numpy()
    for n in (1, 4):
        (outputs,) = session.run(None, {"images": images[:n]})
        assert np.array_equal(sign_codes(outputs), codes[:n])


def test_an_encoder_keeps_its_mode(encoder, tmp_path):
    encoder.train()
    encoder.export("torchscript", tmp_path / "encoder.pt")
    assert encoder.training
    encoder.eval()


def test_exports_are_checked(encoder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="form must be one of 'onnx', 'torchscript', got 'tflite'"):
        encoder.export("tflite", tmp_path / "encoder")
    with pytest.raises(TypeError, match="path must be a path, got 5"):
        encoder.export("torchscript", 5)
    for form in ("torchscript", "onnx"):
        with pytest.raises(FileNotFoundError, match=r"^path='.*x\.pt' must be in a folder that exists$"):
            encoder.export(form, tmp_path / "no" / "x.pt")
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fasthash-search\[export\]'"):
        encoder.export("onnx", tmp_path / "encoder.onnx")
