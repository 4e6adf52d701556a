"""The pictures: what is drawn, and that files come of it."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need the extra 'demo'")
pytest.importorskip("torch", reason="image sets need the extra 'train'")

from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from fasthash import plots
from fasthash.data import ImageSet, Split
from fasthash.results import SearchResult
from pictures import assert_drawn, assert_shows

PIXELS = [np.full((4, 4), 40 * number, np.uint8) for number in range(6)]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, kept open."""
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    yield figures
    monkeypatch.undo()
    plt.close("all")


def split_of(query_labels, gallery_labels):
    gallery = ImageSet(PIXELS[: len(gallery_labels)], gallery_labels, "abc")
    query = ImageSet(PIXELS[: len(query_labels)], query_labels, "abc")
    return Split(gallery, gallery, query, "made up.")


@pytest.mark.parametrize("several", [False, True])
def test_neighbours_are_marked_by_shared_classes(several, drawn, tmp_path):
    eye = np.eye(3, dtype=np.uint8)
    query, gallery = np.array([0, 1, 2]), np.array([0, 0, 1, 2])
    split = split_of(*((eye[query], eye[gallery]) if several else (query, gallery)))
    result = SearchResult(np.array([[0, 1], [0, 4], [2, 64]]), ids=np.array([[0, 1], [2, 3], [3, -1]]))
    chosen = plots.choose_queries(split, result, seed=0)
    assert chosen == [0, 1, 2]
    plots.draw_neighbours(tmp_path / "sheet.png", split.query, split.gallery, result, chosen)
    titles = [axis.get_title() for axis in drawn[0].axes]
    assert titles == ["query: a", "✓  d=0", "✓  d=1", "query: b", "✓  d=0", "✗ c  d=4", "query: c", "✓  d=2", ""]
    for number in range(4):  # each image of the gallery, which is of one grey
        assert_shows(tmp_path / "sheet.png", [40 * number] * 3)


def test_images_of_several_classes_and_of_none(drawn, tmp_path):
    labels = np.array([[1, 0, 1], [0, 0, 0]], np.uint8)
    split = split_of(labels, labels)
    result = SearchResult(np.zeros((2, 2), np.int64), ids=np.array([[0, 1], [1, 0]]))
    plots.draw_neighbours(tmp_path / "sheet.png", split.query, split.gallery, result, [0, 1])
    titles = [axis.get_title() for axis in drawn[0].axes]
    assert titles == ["query: a, c", "✓  d=0", "✗ no class  d=0", "query: no class", "✗ no class  d=0", "✗ a, c  d=0"]


def test_the_worst_query_comes_last():
    query, gallery = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    split = split_of(query, gallery)
    result = SearchResult(np.zeros((4, 2), np.int64), ids=np.array([[0, 1], [0, 1], [2, 3], [2, 3]]))
    for seed in range(5):
        chosen = plots.choose_queries(split, result, seed)
        assert chosen[1] == 3
        assert chosen[0] == 2 or chosen[2:] == [2]


def test_at_most_ten_classes_are_drawn():
    labels = np.arange(15)
    images = ImageSet(PIXELS * 3, np.arange(18) % 15, [str(label) for label in labels])
    split = Split(images, images, images.subset(np.arange(18) < 15), "made up.")
    result = SearchResult(np.zeros((15, 1), np.int64), ids=np.arange(15)[:, None])
    chosen = plots.choose_queries(split, result, seed=0)
    assert len(set(chosen)) == 10


def test_map_by_bits(drawn, tmp_path):
    plots.draw_map_by_bits(tmp_path / "bits.png", {"HyP2": {16: 0.4, 32: 0.5}, "HashNet": {32: 0.6}})
    (axis,) = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.get_lines()}
    assert lines == {"HyP2": [[16, 0.4], [32, 0.5]], "HashNet": [[32, 0.6]]}
    assert axis.get_xticks().tolist() == [16, 32]
    assert_drawn(tmp_path / "bits.png")


def test_recall_by_time(drawn, tmp_path):
    plots.draw_recall_by_time(tmp_path / "time.png", {"keep": [(0.9, 2.0), (0.99, 5.0)], "exact": [(1.0, 3.0)]}, k=10)
    (axis,) = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.get_lines()}
    assert lines == {"keep": [[2.0, 0.9], [5.0, 0.99]], "exact": [[3.0, 1.0]]}
    assert axis.get_ylabel() == "recall@10"


def test_bars_of_searches_that_differ_have_different_labels(drawn, tmp_path):
    rows = [
        {"search": name, "recall@10": recall, "codes_compared": compared, "microseconds_per_query": time}
        for name, recall, compared, time in (("scan", 1, 1200, 0.84), ("exact", 0.9975, 900.5, 0.79), ("c", 0.5, 83, 2))
    ]
    plots.draw_searches(tmp_path / "searches.png", rows, 10)
    labels = [[text.get_text() for text in axis.texts] for axis in drawn[0].axes]
    assert labels == [["1.000", "0.998", "0.500"], ["1200", "901", "83"], ["0.84", "0.79", "2.00"]]


def levels(widths):
    """Rows as an evaluation makes them, of prefixes of some widths."""
    curves = [{"recall": [0, 0.5, 1], "precision": [1, 0.5, 0.5 / number]} for number in range(1, len(widths) + 1)]
    return [{"n_bits": n, "mAP@ALL": 0.5, "pr_curve": curve} for n, curve in zip(widths, curves, strict=True)]


@pytest.mark.parametrize("widths", [[8], [8, 16, 24, 32], [8, 16, 24, 32, 40], range(8, 56, 8), range(8, 264, 8)])
def test_every_level_is_drawn_and_named(widths, drawn, tmp_path):
    rows = levels(widths)
    plots.draw_pr_curves(tmp_path / "curves.png", rows)
    plots.draw_map(tmp_path / "map.png", rows, chance=0.1)
    curves, bars = (figure.axes[0] for figure in drawn)
    names = [f"{n} bits" for n in widths]
    assert [text.get_text() for text in curves.get_legend().get_texts()] == names
    assert [line.get_ydata()[-1] for line in curves.lines] == [row["pr_curve"]["precision"][-1] for row in rows]
    for colours in ([line.get_color() for line in curves.lines], [bar.get_facecolor() for bar in bars.patches]):
        assert len({to_hex(colour) for colour in colours}) == len(names)
    assert_drawn(tmp_path / "curves.png")
