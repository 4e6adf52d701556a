"""Data flows one way: no include and no import runs upward."""

import pytest

import layers


def test_no_include_runs_upward():
    assert layers.upward_includes() == []


def test_no_import_runs_upward():
    assert layers.upward_imports() + layers.cycles() == []


@pytest.mark.parametrize("file", ["codes/sorted_codes.h", "fasthash/topk.h", "index/index.cpp"])
def test_files_belong_to_layers(file):
    assert layers.layer_of_file(file) in layers.LAYERS


def test_an_include_that_runs_upward_is_found(monkeypatch):
    edges = [("codes/sorted_codes.h", "search/scan.h"), ("search/scan.cpp", "codes/sorted_codes.h")]
    monkeypatch.setattr(layers, "includes", lambda: iter(edges))
    assert layers.upward_includes() == ["cpp: codes/sorted_codes.h (codes) includes search/scan.h (search)"]


def test_an_import_that_runs_upward_is_found(monkeypatch):
    monkeypatch.setattr(layers, "imports", lambda: {"codes": {"index"}, "index": {"codes"}, "what": set()})
    assert layers.upward_imports() == [
        "python: codes (codes) imports index (indices)",
        "python: what belongs to no layer of tests/layers.py",
    ]
    assert layers.cycles() == ["python: a cycle of imports: codes -> index -> codes"]
