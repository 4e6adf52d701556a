"""Every Python example of the README runs as it stands there."""

import os
import re

import pytest

from documents import python_blocks, run

SEARCH, CHANGE, IMAGES, TRAIN, AUDIT, FEATURES = python_blocks("README.md")


def test_searching_codes(tmp_path):
    assert run(SEARCH, tmp_path).splitlines()[0] == "[0 1 2 3 4] [8 8 8 8 8]"


def test_changing_filtering_looking_around(tmp_path):
    assert run(CHANGE, tmp_path).splitlines() == [
        "100000 True False True",
        "[0 1 2 3] [7] [1 1 1]",
        "True",
        "100000 100000 100000",
    ]


def test_from_images(tmp_path):
    """On a small encoder of the same kind, to be quick."""
    pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("sklearn", reason="needs the extra demo")
    run(TRAIN.replace(").train", ").query"), tmp_path)
    os.makedirs(tmp_path / "demo-report")
    os.rename(tmp_path / "my-encoder", tmp_path / "demo-report" / "encoder")
    build = """
import fasthash as fh
from fasthash.data import load_digits
from fasthash.encoder import HashEncoder
encoder = HashEncoder.load("demo-report/encoder")
index = fh.HierIndex(encoder.level_bits)
index.add(encoder.encode(load_digits(transform=encoder.transform).gallery))
index.save("demo-report/gallery.fh")
"""
    run(build, tmp_path)
    assert re.fullmatch(r"0\.\d{3} of the neighbours have the query's class\n", run(IMAGES, tmp_path))


def test_auditing_a_split(tmp_path):
    pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("sklearn", reason="needs the extra demo")
    assert "53,000" in run(AUDIT, tmp_path)


def test_from_features(tmp_path):
    pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("sklearn", reason="needs the extra baselines")
    shapes = run(re.sub(r"^codes = .*$", r"\g<0>\nprint(codes.shape)", FEATURES, flags=re.MULTILINE), tmp_path)
    assert shapes.splitlines() == ["(1797, 4)"] * 3
