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


def test_embeddings(tmp_path):
    first, recall, *others = run("".join(python_blocks("docs/embeddings.md")), tmp_path).splitlines()
    assert first == "1.0"
    assert 0.5 < float(recall) < 1
    assert others == [
        "5000 ''",
        "1.0",
        "True",
        "0",
        "128 (100, 10)",
    ]


def test_near_duplicates(tmp_path):
    assert run("".join(python_blocks("docs/dedup.md")), tmp_path).splitlines() == [
        "[array([0, 1, 3]), array([2, 4])]",
        "[array([11, 13]), array([12, 14])]",
    ]


def test_embeddings_of_text(tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra sklearn")
    printed = run((ROOT / "examples/embeddings.py").read_text(encoding="utf-8"), tmp_path)
    recalls = [float(recall) for recall in re.findall(r"recall@10 (\S+)", printed)]
    assert len(recalls) == 3
    assert recalls == sorted(recalls)
    assert recalls[1] > 0.8
    assert re.search(r"days between two dates: calendar\.Calendar", printed)


def test_near_duplicates_of_photos(tmp_path):
    pytest.importorskip("imagehash", reason="needs the extra dedup")
    pytest.importorskip("sklearn", reason="needs the extra sklearn")
    printed = run((ROOT / "examples/near_duplicates.py").read_text(encoding="utf-8"), tmp_path)
    assert "rows 6 18\n12 photos, 12 hashed, 0 groups\n18 photos, 7 hashed, 7 groups\n" in printed
