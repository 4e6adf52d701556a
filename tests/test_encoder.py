"""HashEncoder: widths, sizes, heads, codes, weights from files and bad input."""

import copy
import functools
import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the encoder needs the extra 'train'")
pytest.importorskip("timm", reason="the encoder needs the extra 'train'")

import timm
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import Dataset, TensorDataset

import fasthash as fh
import fasthash.backbones
from fasthash._hasher import evaluating
from fasthash.backbones import FEATURE_WIDTHS
from fasthash.codes import sign_codes
from fasthash.encoder import HashEncoder
from fasthash.heads import HashHead
from fasthash.losses import HashNetLoss, HierarchicalLoss

SMALL = "hrnet_w18_small"


def make(level_bits=(8, 16, 40), **kwargs):
    torch.manual_seed(0)
    return HashEncoder(SMALL, level_bits, image_size=32, **kwargs)


@pytest.fixture(scope="module")
def encoder():
    """A small encoder, in training mode, whose codes differ from image to image; tests must leave it as it is."""
    encoder = make()
    # Random features differ little, so that all images would get one code: centre the outputs.
    with torch.no_grad():
        z = encoder.eval()(torch.rand(64, 3, 32, 32))
        for head, part in zip(encoder.head.layers, z.split(encoder.level_bits, dim=1), strict=True):
            head.bias -= part.median(dim=0).values
    return encoder.train()


@pytest.fixture(scope="module")
def images():
    return torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# Construction


@functools.cache
def without_memory(name):
    """An encoder on the device `meta`: no memory and no arithmetic, but real shapes."""
    with torch.device("meta"):
        return HashEncoder(name, (8, 24), image_size=64)


@pytest.mark.parametrize("name", FEATURE_WIDTHS)
def test_backbones_have_the_published_width(name):
    encoder = without_memory(name)
    assert encoder(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 32)
    assert encoder.head.n_features == FEATURE_WIDTHS[name]
    assert encoder.backbone_name == name


def test_defaults():
    with torch.device("meta"):
        encoder = HashEncoder()
    assert (encoder.backbone_name, encoder.level_bits, encoder.image_size) == ("hrnet_w18", (8, 16, 40), 224)


@pytest.mark.parametrize(("name", "last"), [("alexnet", "ReLU"), ("vgg16", "Dropout")])
def test_torchvision_networks_keep_six_modules_of_their_classifier(name, last):
    with torch.device("meta"):
        classifier = HashEncoder(name, (8,), image_size=64).backbone.classifier
    kinds = [type(module).__name__ for module in classifier]
    assert len(kinds) == 6
    assert kinds[-1] == last
    assert kinds.count("ReLU") == kinds.count("Linear") == 2


def test_any_timm_model_works():
    encoder = HashEncoder("resnet10t", (8,), image_size=40)
    assert encoder.head.n_features == 512
    assert encoder.encode(torch.rand(2, 3, 40, 40)).shape == (2, 1)


def test_published_width_is_checked(monkeypatch):
    monkeypatch.setitem(FEATURE_WIDTHS, SMALL, 1024)
    with pytest.raises(RuntimeError, match="must give 1024 features, here it gives 2048"):
        make()


def test_outputs_are_the_levels_side_by_side(encoder, images):
    encoder = copy.deepcopy(encoder).eval()
    z, features = encoder(images), encoder.backbone(images)
    assert z.shape == (64, encoder.n_bits) == (64, 64)
    for part, layer in zip((z[:, :8], z[:, 8:24], z[:, 24:]), encoder.head.layers, strict=True):
        torch.testing.assert_close(part, layer(features))


def test_kinds_of_heads():
    linear, other = make(), make(head="sliced", batch_norm=True)
    assert (linear.head.kind, linear.head.batch_norm) == ("linear", False)
    assert (other.head.kind, other.head.batch_norm) == ("sliced", True)
    assert other.level_bits == other.head.level_bits == (8, 16, 40)
    assert other.encode(torch.rand(2, 3, 32, 32)).shape == (2, 8)


@pytest.mark.parametrize(
    "level_bits", [(), (0,), (-8, 16), (7, 9), (8, 12), (8.0,), ("8",), 64.0, 12, True, None, (4096, 8)]
)
def test_bad_levels(level_bits):
    with pytest.raises((TypeError, ValueError), match="level_bits must "):
        HashEncoder(SMALL, level_bits)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backbone": "hrnet_18"}, ValueError, "backbone='hrnet_18' is neither .* near: hrnet_w18"),
        ({"image_size": 0}, ValueError, "image_size must be at least 1, got 0"),
        ({"image_size": 32.0}, TypeError, "image_size must be an integer, got 32.0"),
        (
            {"backbone": "vit_tiny_patch16_224", "image_size": 40},
            ValueError,
            r"vit_tiny_patch16_224 cannot take images of 40 x 40 px .*224",
        ),
        ({"mean": (0, 0)}, ValueError, r"mean must be three finite numbers, got \(0, 0\)"),
        ({"mean": (0, 0, math.inf)}, ValueError, r"mean must be three finite numbers, got \(0, 0, inf\)"),
        ({"std": (1, 1, "1")}, TypeError, "std must be a number, got '1'"),
        ({"std": (1, 1, 0)}, ValueError, r"std must be positive, got \(1, 1, 0\)"),
        ({"head": "wide"}, ValueError, "head must be one of 'linear', 'sliced', got 'wide'"),
        ({"batch_norm": 1}, TypeError, "batch_norm must be True or False, got 1"),
        ({"pretrained": None}, TypeError, "pretrained must be True, False or a path, got None"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        HashEncoder(**{"backbone": SMALL, **arguments})


# Sizes of images


@pytest.mark.parametrize("name", [name for name in FEATURE_WIDTHS if name.startswith("hrnet")])
def test_every_hrnet_takes_images_of_any_size(name):
    backbone = without_memory(name).backbone
    for height, width in [(1, 32), (63, 100), (448, 447)] if name == SMALL else [(1, 33)]:
        assert backbone(torch.empty(2, 3, height, width, device="meta")).shape == (2, 2048)


@pytest.mark.parametrize("size", [32, 33, 48, 63, 100, 224, 448])
def test_codes_of_images_of_many_sizes(encoder, size):
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    codes = encoder.encode(images)
    assert codes.shape == (2, 8)
    # What is added at the right and at the bottom is zeros up to the next multiple of 32, and nothing else.
    larger = torch.zeros(2, 3, -(-size // 32) * 32, -(-size // 32) * 32)
    larger[:, :, :size, :size] = images
    np.testing.assert_array_equal(codes, encoder.encode(larger))


def test_alexnet_pads_small_images():
    with torch.device("meta"):
        encoder = HashEncoder("alexnet", (8,), image_size=32)
        seen = []
        encoder.backbone.features.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[2:]))
        for height, width in [(1, 200), (62, 63), (63, 63), (64, 65)]:
            encoder.backbone(torch.empty(1, 3, height, width))
    assert seen == [(63, 200), (63, 63), (63, 63), (64, 65)]


def test_vgg_needs_32_px():
    with torch.device("meta"), pytest.raises(ValueError, match=r"vgg16 cannot take images of 31 x 31 .*32 px or more"):
        HashEncoder("vgg16", (8,), image_size=31)


# Preprocessing


def test_transform_resizes_crops_and_normalises():
    encoder = HashEncoder("alexnet", (8,), image_size=112, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    # Shorter side 112 to 128, then a centre crop of 112: 8 px fall off left and right, and 64 px at top and bottom.
    pixels = np.zeros((240, 128, 3), np.uint8)
    pixels[64:-64, 8:-8] = (255, 255, 255)
    image = encoder.transform(Image.fromarray(pixels))
    assert image.dtype == torch.float32
    assert type(image) is torch.Tensor
    assert image.shape == (3, 112, 112)
    torch.testing.assert_close(image.amin(dim=(1, 2)), torch.tensor([1.0, 0.75, 0.5]))
    torch.testing.assert_close(image.amax(dim=(1, 2)), torch.tensor([1.0, 0.75, 0.5]))


def test_transform_takes_arrays_and_images_of_any_mode(encoder):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = (255, 0, 51)
    expected = encoder.transform(pixels)
    for mode in ("RGB", "RGBA", "P", "CMYK"):
        image = Image.fromarray(pixels).convert(mode)
        assert image.mode == mode
        torch.testing.assert_close(encoder.transform(image), expected)
    grey = encoder.transform(Image.fromarray(pixels).convert("L"))
    assert grey.shape == (3, 32, 32)


# Encoding


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_codes_do_not_depend_on_the_batch_size(encoder, images, batch_size):
    codes = encoder.encode(images, batch_size=batch_size)
    assert codes.dtype == np.uint8
    assert codes.shape == (64, 8)
    assert len(np.unique(codes, axis=0)) > 32
    z = copy.deepcopy(encoder).eval()(images)
    np.testing.assert_array_equal(codes, sign_codes(z.detach().numpy()))


def test_codes_are_the_signs_of_the_outputs(encoder, images):
    outputs = encoder.outputs(images, batch_size=2)
    assert outputs.shape == (len(images), encoder.n_bits)
    assert outputs.dtype == np.float32
    assert (sign_codes(outputs) == encoder.encode(images, batch_size=2)).all()
    with evaluating(encoder), torch.inference_mode():
        np.testing.assert_allclose(outputs, encoder(images).numpy(), atol=1e-5)
    assert encoder.outputs(images[:0]).shape == (0, encoder.n_bits)


def test_batch_size_is_used(encoder, images):
    sizes = []
    handle = encoder.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    encoder.encode(images, batch_size=30)
    handle.remove()
    assert sizes == [30, 30, 4]


def test_data_sets_give_the_codes_of_their_tensors(encoder, images):
    class Bare(Dataset):
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            return images[index]

    expected = encoder.encode(images)
    np.testing.assert_array_equal(encoder.encode(Bare()), expected)
    np.testing.assert_array_equal(encoder.encode(TensorDataset(images, torch.zeros(64))), expected)


def test_an_array_of_photos_is_a_batch(encoder):
    photos = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(encoder.encode(photos), encoder.encode(list(photos)))
    np.testing.assert_array_equal(encoder.encode(photos[1]), encoder.encode([photos[1]]))
    assert encoder.encode(photos[:0]).shape == (0, 8)


def test_an_integer_means_one_level():
    torch.manual_seed(0)
    encoder = HashEncoder(SMALL, 16, image_size=32)
    assert encoder.level_bits == encoder.head.level_bits == (16,)
    assert HashHead(4, np.int64(8)).level_bits == HierarchicalLoss(HashNetLoss(), 8).level_bits == (8,)
    assert fh.RescoringIndex(64, level_bits=32).level_bits == (32,)


def test_no_images_give_no_codes(encoder):
    for images in (torch.empty(0, 3, 32, 32), TensorDataset(torch.empty(0, 3, 32, 32))):
        codes = encoder.encode(images)
        assert codes.shape == (0, 8)
        assert codes.dtype == np.uint8


def test_encoding_restores_the_mode_of_every_part():
    encoder = make().train()
    encoder.backbone.bn1.eval()  # frozen by the user
    before = {name: module.training for name, module in encoder.named_modules()}
    statistics = encoder.backbone.bn2.running_mean.clone()
    encoder.encode(torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match="images must be finite, found nan in number 0"):
        encoder.encode(torch.full((1, 3, 32, 32), math.nan))
    assert {name: module.training for name, module in encoder.named_modules()} == before
    assert torch.equal(encoder.backbone.bn2.running_mean, statistics)


def test_progress_bar(encoder, capsys, monkeypatch):
    encoder.encode(torch.rand(2, 3, 32, 32))
    assert capsys.readouterr().err == ""
    encoder.encode(torch.rand(2, 3, 32, 32), progress=True)
    assert capsys.readouterr().err == ""  # nobody watches a file
    monkeypatch.setattr("fasthash._hasher.is_watched", lambda: True)
    encoder.encode(torch.rand(2, 3, 32, 32), progress=True)
    assert "encode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), TypeError, "images must be torch.float32 .*got torch.uint8"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.float64), TypeError, "images must be torch.float32 .*got torch.float64"),
        (torch.zeros(3, 32, 32), ValueError, r"images must have shape \(n, 3, H, W\), got \(3, 32, 32\)"),
        (torch.zeros(0, 1, 32, 32), ValueError, r"images must have shape \(n, 3, H, W\), got \(0, 1, 32, 32\)"),
        (torch.zeros(1, 3, 0, 32), ValueError, r"images must have shape \(n, 3, H, W\), got \(1, 3, 0, 32\)"),
        (torch.full((1, 3, 32, 32), math.nan), ValueError, "images must be finite, found nan in number 0"),
        (
            np.zeros((1, 3, 32, 32), np.float32),
            TypeError,
            r".* got a float32 array of shape \(1, 3, 32, 32\)",
        ),
        (np.zeros((2, 9, 9, 2), np.uint8), ValueError, r"images\[0\] must have shape .*, got \(9, 9, 2\)"),
        (np.zeros(9, np.uint8), ValueError, r"images must have shape .*, got \(9,\)"),
    ],
)
def test_bad_images(encoder, images, error, message):
    with pytest.raises(error, match=message):
        encoder.encode(images)


def test_a_bad_picture_is_named_by_its_number(encoder, tmp_path):
    good = Image.new("RGB", (9, 9))
    with pytest.raises(ValueError, match=r"images\[1\] cannot be read: pixels are floats"):
        encoder.encode([good, Image.new("F", (9, 9))])
    with pytest.raises(ValueError, match=r"images\[2\] cannot be read: .*blank on a background"):
        encoder.encode(
            [good, good, np.where(np.arange(36).reshape(3, 3, 4) < 20, 255, [255, 255, 255, 0]).astype(np.uint8)]
        )


@pytest.mark.parametrize(("batch_size", "error"), [(0, ValueError), (2.5, TypeError)])
def test_bad_batch_size(encoder, images, batch_size, error):
    with pytest.raises(error, match=f"batch_size must be .*got {batch_size}"):
        encoder.encode(images, batch_size=batch_size)


# Weights of the backbone


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """The state of a whole timm model, classifier included, as published files hold it."""
    path = tmp_path_factory.mktemp("weights") / "whole.safetensors"
    torch.manual_seed(7)
    save_file(timm.create_model(SMALL, num_classes=10).state_dict(), path)
    return path


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_pretrained_file(weights_file, kind):
    encoder = make(pretrained=kind(weights_file))
    weights = load_file(weights_file)
    state = encoder.backbone.state_dict()
    assert set(weights) - set(state) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(value, weights[key]) for key, value in state.items())


def test_pretrained_by_a_saved_encoder(encoder, tmp_path):
    encoder.save(tmp_path)
    other = make(level_bits=(24,), pretrained=tmp_path)
    state = encoder.backbone.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in other.backbone.state_dict().items())
    assert other.level_bits == (24,)
    with pytest.raises(ValueError, match=r"pretrained='.*' does not fit the backbone"):
        HashEncoder("resnet10t", (8,), pretrained=tmp_path, image_size=32)
    (tmp_path / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no saved HashEncoder"):
        make(pretrained=tmp_path)


def test_pretrained_file_of_a_torchvision_network(tmp_path):
    path = tmp_path / "alexnet.SafeTensors"
    whole = torchvision.models.alexnet()
    save_file(whole.state_dict(), path)
    encoder = HashEncoder("alexnet", (8,), pretrained=path, image_size=64)
    assert torch.equal(encoder.backbone.classifier[4].weight, whole.classifier[4].weight)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("conv1.weight"),
        lambda weights: weights.update(extra=torch.zeros(1)),
        lambda weights: weights.update({"conv1.weight": torch.zeros(1)}),
        lambda weights: weights.clear(),
    ],
)
def test_pretrained_file_must_fit(weights_file, tmp_path, change):
    weights = load_file(weights_file)
    change(weights)
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"pretrained='.*other.safetensors' does not fit the backbone: ") as caught:
        make(pretrained=tmp_path / "other.safetensors")
    assert len(str(caught.value)) < 600  # not all the hundreds of keys


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ""])
def test_pickles_with_code_are_refused(tmp_path, suffix):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    read = suffix in (".pt", ".pth")
    message = "other pickles are refused, because" if read else "must be 'package', a saved encoder, or a file"
    with pytest.raises(ValueError, match=message):
        make(pretrained=path)
    torch.save({"weights": Bomb()}, path)
    with pytest.raises(ValueError, match=message):
        make(pretrained=path)


def test_pretrained_file_of_another_format(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"pretrained='.*' is not a safetensors file"):
        make(pretrained=path)


def test_missing_pretrained_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pretrained='.*nowhere.safetensors' does not exist"):
        make(pretrained=tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("name", [SMALL, "alexnet"])
def test_published_weights_out_of_reach(monkeypatch, name):
    def no_network(*args, pretrained=False, weights=None, **kwargs):
        assert pretrained is True or weights == "IMAGENET1K_V1"
        raise OSError("no route to host")

    monkeypatch.setattr(fasthash.backbones, "check_host", lambda url: None)
    monkeypatch.setattr(fasthash.backbones.timm, "create_model", no_network)
    monkeypatch.setattr(fasthash.backbones.torchvision.models, "get_model", no_network)
    message = f"weights of {name} could not be downloaded; .*pretrained='{name}.safetensors' .no route to host"
    with pytest.raises(ConnectionError, match=message):
        HashEncoder(name, pretrained=True)
