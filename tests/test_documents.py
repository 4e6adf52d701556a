"""The blocks of each page run, one after the other, as the page says; and so do the examples."""

import re

import pytest

from documents import ROOT, python_blocks, run


def test_coming_from_faiss(tmp_path):
    pytest.importorskip("faiss", reason="needs the extra faiss")
    assert run("".join(python_blocks("docs/faiss.md")), tmp_path).splitlines() == [
        "SearchResult(distances=array([[ 0, 65]], dtype=int32), ids=array([[ 7, -1]]))",
        "int32 float32",
        "source holds ids that cannot be taken over: ids must be distinct, got 0 twice",
    ]


def test_with_scikit_learn(tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra sklearn")
    best, bayes, n_clusters = run("".join(python_blocks("docs/sklearn.md")), tmp_path).splitlines()
    assert float(best.split()[-1]) > 0.9
    assert float(bayes) > 0.7
    assert int(n_clusters) > 5


def test_codes_of_a_data_set(tmp_path):
    pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("sklearn", reason="needs the extra sklearn")
    printed = run((ROOT / "examples/torch_dataset.py").read_text(encoding="utf-8"), tmp_path)
    share = re.search(r"(0\.\d{3}) of the neighbours", printed)
    assert float(share[1]) > 0.8
