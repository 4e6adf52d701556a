"""Checkpoints of encoders and heads: what they keep, saves that are killed, and folders that are none."""

import json
import os
import stat
import sys
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="checkpoints need the extra 'train'")
pytest.importorskip("timm", reason="checkpoints need the extra 'train'")

import fasthash as fh
from fasthash import _checkpoint, _saved_folder
from fasthash._resume import write_state
from fasthash.encoder import HashEncoder
from fasthash.heads import HashHead
from fasthash.record import TrainingRecord

RECORD = TrainingRecord([1.5, 0.1 + 0.2], 3.25, "cpu", {"loss": "HashNetLoss", "seed": 3, "augment": None})


def make_head(seed=0, **kwargs):
    torch.manual_seed(seed)
    return HashHead(6, (8, 16), **kwargs)


def features():
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(2))


def files(folder):
    """Names of the files, the changing part of those with weights replaced."""
    return sorted("weights" if path.name.startswith("weights-") else path.name for path in folder.iterdir())


# What they keep


def test_encoders(tmp_path):
    torch.manual_seed(0)
    encoder = HashEncoder("resnet10t", (8, 16), image_size=32)
    images = torch.rand(20, 3, 32, 32)
    for _ in range(3):
        encoder(images)  # moves the running statistics
    folder = tmp_path / "deep" / "checkpoint"
    encoder.save(folder)
    assert files(folder) == ["card.json", "weights"]
    loaded = HashEncoder.load(folder)
    np.testing.assert_array_equal(loaded.encode(images), encoder.encode(images))
    assert not loaded.training
    assert encoder.training


@pytest.mark.parametrize("kind", ["linear", "sliced"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_heads(tmp_path, kind, batch_norm):
    head = make_head(kind=kind, batch_norm=batch_norm)
    head(features() + 3)
    head.save(str(tmp_path))
    loaded = HashHead.load(tmp_path)
    assert (loaded.n_features, loaded.level_bits, loaded.kind, loaded.batch_norm) == (6, (8, 16), kind, batch_norm)
    np.testing.assert_array_equal(loaded.encode(features()), head.encode(features()))


def test_the_card_of_an_encoder_keeps_every_argument(tmp_path):
    arguments = {"level_bits": (8, 24), "image_size": 96, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    HashEncoder("resnet10t", **arguments, head="sliced", batch_norm=True).save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert (card["version"], card["class"], card["head"], card["training"]) == (1, "HashEncoder", "sliced", None)
    loaded = HashEncoder.load(str(tmp_path))
    assert loaded.backbone_name == card["backbone"] == "resnet10t"
    assert {name: getattr(loaded, name) for name in arguments} == arguments
    assert (loaded.head.kind, loaded.head.batch_norm) == ("sliced", True)


def test_numbers_of_numpy_are_kept(tmp_path):
    mean = np.array([0.5, 0.25, 0.125], np.float32)
    HashEncoder("resnet10t", np.array([8, 8]), image_size=np.int64(32), mean=mean).save(tmp_path)
    assert HashEncoder.load(tmp_path).mean == (0.5, 0.25, 0.125)


def test_the_record_of_the_training(tmp_path):
    head = make_head()
    head.save(tmp_path, RECORD)
    assert json.loads((tmp_path / "card.json").read_text())["training"]["settings"]["loss"] == "HashNetLoss"
    loaded = HashHead.load(tmp_path)
    assert loaded.record == RECORD
    loaded.save(tmp_path)  # it may have been trained on: only a record that is given is kept
    assert HashHead.load(tmp_path).record is None
    assert head.record is None


@pytest.mark.parametrize("record", [{"losses": []}, "record", HashHead])
def test_bad_records(tmp_path, record):
    with pytest.raises(TypeError, match="record must be a TrainingRecord or None, got "):
        make_head().save(tmp_path / "new", record)
    assert not (tmp_path / "new").exists()


def test_records_that_are_no_json_leave_the_old_checkpoint(tmp_path):
    make_head().save(tmp_path, RECORD)
    for losses in ([float("nan")], [torch.zeros(1)]):
        with pytest.raises((TypeError, ValueError)):
            make_head(1).save(tmp_path, TrainingRecord(losses, 0.0, "cpu", {}))
    assert HashHead.load(tmp_path).record == RECORD
    assert files(tmp_path) == ["card.json", "weights"]


# Saves that fail or are killed


def test_a_new_save_replaces_the_old_one_and_nothing_else(tmp_path):
    others = ("model.safetensors", "weights.safetensors", "weights-1.json", "notes.txt")
    make_head(0).save(tmp_path)
    for name in others:
        (tmp_path / name).write_text("mine")
    make_head(1, kind="sliced").save(tmp_path)
    assert HashHead.load(tmp_path).kind == "sliced"
    assert len(list(tmp_path.iterdir())) == len(others) + 2
    assert all((tmp_path / name).read_text() == "mine" for name in others)


@pytest.mark.skipif(sys.platform == "win32", reason="needs permissions as POSIX has them")
@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_saved_files_have_the_permissions_of_new_files(tmp_path, umask, expected):
    before = os.umask(umask)
    try:
        make_head().save(tmp_path)
        make_head().save(tmp_path)
        head = make_head()
        for _ in range(2):  # the second replaces the first
            write_state(tmp_path / "state", head, torch.optim.SGD(head.parameters(), 0.1), None, {})
    finally:
        os.umask(before)
    assert len(list(tmp_path.iterdir())) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {expected}


@pytest.mark.parametrize(
    "step", ["_checkpoint.save_model", "_saved_folder.flush", "_durable.flush", "_durable.os.replace"]
)
def test_a_save_that_fails_leaves_the_old_checkpoint(monkeypatch, tmp_path, step):
    def fail(*args):
        raise OSError("no space left")

    make_head(0).save(tmp_path / "old", RECORD)
    expected = HashHead.load(tmp_path / "old").encode(features())
    monkeypatch.setattr(f"fasthash.{step}", fail)
    for folder in (tmp_path / "old", tmp_path / "new"):
        with pytest.raises(OSError, match="no space left"):
            make_head(1).save(folder)
    np.testing.assert_array_equal(HashHead.load(tmp_path / "old").encode(features()), expected)
    assert files(tmp_path / "old") == ["card.json", "weights"]
    assert files(tmp_path / "new") == []


@pytest.mark.parametrize("step", ["save_model", "flush", "os.replace", "_remove_leftovers"])
@pytest.mark.parametrize("after", [False, True])
def test_a_killed_save_leaves_the_old_checkpoint_or_the_new_one(monkeypatch, tmp_path, step, after):
    """A child process ends at once before or after a step, as under kill -9: nothing is cleaned up."""
    old, new = make_head(0), make_head(1)
    old.save(tmp_path, RECORD)
    child = os.fork()
    if not child:
        place = {"os.replace": os, "save_model": _checkpoint}.get(step, _saved_folder)
        real = getattr(place, step.split(".")[-1])
        monkeypatch.setattr(place, real.__name__, lambda *args: (after and real(*args), os._exit(9)))
        try:
            new.save(tmp_path)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9

    replaced = step == "_remove_leftovers" or (step == "os.replace" and after)
    loaded = HashHead.load(tmp_path)
    np.testing.assert_array_equal(loaded.encode(features()), (new if replaced else old).encode(features()))
    assert loaded.record == (None if replaced else RECORD)
    new.save(tmp_path)
    assert files(tmp_path) == ["card.json", "weights"]


# Folders that are no checkpoints


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("card.json", None, FileNotFoundError, "folder='.*' holds no saved HashHead: card.json is missing"),
        ("weights", None, FileNotFoundError, "holds no saved HashHead: weights-.*.safetensors is missing"),
        ("card.json", "{", ValueError, "card.json is not the card of a HashHead"),
        ("card.json", "[]", ValueError, "card.json is not the card of a HashHead"),
        ("card.json", "[" * 100_000, ValueError, "card.json is not the card of a HashHead"),
        ("card.json", "\udcff", ValueError, "card.json is not the card of a HashHead"),
        ("card.json", '{"version": 1}', ValueError, "is not the card of a HashHead: KeyError.'class'"),
        ("card.json", {"version": 2}, ValueError, "version is 2, this release reads 1"),
        ("card.json", {"version": True}, ValueError, "version is True, this release reads 1"),
        ("card.json", {"version": 1.0}, ValueError, r"version is 1\.0, this release reads 1"),
        (
            "card.json",
            {"class": "HashEncoder"},
            ValueError,
            "is not the card of a HashHead: it describes a saved HashEnc",
        ),
        ("card.json", {"level_bits": [8, 8]}, ValueError, "weights-.*.safetensors does not fit card.json"),
        ("card.json", {"level_bits": [7]}, ValueError, "level_bits must be at least 8, got 7"),
        ("card.json", {"n_features": None}, ValueError, "card of a HashHead: TypeError.*n_features must be an integer"),
        ("card.json", {"batch_norm": True}, ValueError, "weights-.*.safetensors does not fit card.json"),
        ("card.json", {"training": [1]}, ValueError, "card.json is not the card of a HashHead: TypeError"),
        ("card.json", {"training": {"losses": []}}, ValueError, "card.json is not the card of a HashHead: TypeError"),
        ("card.json", {"weights": "../weights-00000000.safetensors"}, ValueError, "names no file of weights but '../"),
        ("card.json", {"weights": 5}, ValueError, "card.json names no file of weights but 5"),
        ("weights", "no weights", ValueError, "weights-.*.safetensors does not fit card.json"),
    ],
)
def test_bad_checkpoints(tmp_path, name, content, error, message):
    make_head().save(tmp_path)
    (path,) = tmp_path.glob(f"{name}*")
    if content is None:
        path.unlink()
    elif isinstance(content, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))
    else:
        path.write_text(content, errors="surrogateescape")
    with pytest.raises(fh.FormatError if error is ValueError else error, match=message):
        HashHead.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mean": 5}, "card.json is not the card of a HashEncoder: "),
        ({"backbone": 5}, "card.json is not the card of a HashEncoder: .*backbone=5 is neither"),
        ({"class": "HashHead"}, "is not the card of a HashEncoder: it describes a saved HashHead$"),
    ],
)
def test_bad_cards_of_encoders(tmp_path, content, message):
    HashEncoder("resnet10t", (8,), image_size=32).save(tmp_path)
    path = tmp_path / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | content))
    with pytest.raises(fh.FormatError, match=message):
        HashEncoder.load(tmp_path)


def test_a_card_cannot_name_pretrained_weights(tmp_path):
    """Only the arguments that a save writes are taken from a card; a download is none of them."""
    HashEncoder("resnet10t", (8,), image_size=32).save(tmp_path)
    path = tmp_path / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pretrained": "/nowhere.safetensors"}))
    HashEncoder.load(tmp_path)


def test_a_load_beside_a_save_reads_the_card_again(tmp_path, monkeypatch):
    """The card is replaced after it was read, and its weights are removed."""
    make_head(0).save(tmp_path)
    points = []

    def save_again(point):
        points.append(point)
        if points == ["card read"]:
            make_head(1, kind="sliced").save(tmp_path)

    monkeypatch.setattr(_saved_folder, "reached", save_again)
    assert HashHead.load(tmp_path).kind == "sliced"
    assert points == ["card read", "card replaced", "card read"]


def test_threads_save_and_load_one_folder(tmp_path):
    heads = [make_head(seed) for seed in range(3)]
    codes = [head.encode(features()).tobytes() for head in heads]
    heads[0].save(tmp_path)
    errors = []

    def work(number):
        try:
            for i in range(15):
                if number < 2:
                    heads[(number + i) % 3].save(tmp_path)
                elif HashHead.load(tmp_path).encode(features()).tobytes() not in codes:
                    errors.append("another head")
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert files(tmp_path) == ["card.json", "weights"]


def test_a_checkpoint_is_not_written_among_other_files(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds something else: thesis\.txt$"):
        make_head().save(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_checkpoint_is_written_into_a_repository(tmp_path):
    """Those who share networks clone a repository, and save into it."""
    (tmp_path / ".git").mkdir()
    for name in (".gitattributes", "README.md", "LICENSE"):
        (tmp_path / name).write_text("mine")
    make_head().save(tmp_path)
    assert (tmp_path / "card.json").exists()
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_checkpoint_does_not_replace_an_index(tmp_path):
    fh.RescoringIndex(8).save(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds something else: card\.json describes a RescoringIndex"):
        make_head().save(tmp_path)
    assert len(fh.RescoringIndex.load(tmp_path)) == 0


def test_shapes_are_compared_before_memory_is_taken(tmp_path, monkeypatch):
    """A layer of 2^40 features would take 88 TB; the weights say six."""
    make_head().save(tmp_path)
    path = tmp_path / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_features": 2**40}))
    with pytest.raises(fh.FormatError, match=r"has shape \(8, 6\), expected \(8, 1099511627776\)"):
        HashHead.load(tmp_path)


def test_a_card_of_others_is_not_tidied(tmp_path):
    (tmp_path / "card.json").write_text("not ours")
    (tmp_path / "weights-00000000.safetensors").write_text("perhaps in use")
    _saved_folder._remove_leftovers(tmp_path, _checkpoint._OUR_FILES, _checkpoint._weights_of, "")
    assert sorted(os.listdir(tmp_path)) == ["card.json", "weights-00000000.safetensors"]
