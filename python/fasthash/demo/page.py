"""The report of the demo as one self-contained page: captions and charts are text and shapes, photos are embedded."""

from __future__ import annotations

import base64
import io
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from fasthash._shown import decimals, for_html
from fasthash.data import ImageSet, Split, relevance
from fasthash.plots import short_class_names, square_tile
from fasthash.results import SearchResult

__all__ = ["neighbour_rows", "write_page"]

_TILE = 128  # px of a photo on the page


def neighbour_rows(split: Split, result: SearchResult, chosen: list[int]) -> list[dict[str, Any]]:
    """What the page shows of some queries: each with its class, and its neighbours with distance, class and verdict."""
    rows = []
    for query in chosen:
        label = split.query.labels[query : query + 1]
        near = [
            {
                "picture": _embedded(split.gallery, id),
                "distance": distance,
                "name": short_class_names(split.gallery, id),
                "right": bool(relevance(label, split.gallery.labels[id : id + 1]).item()),
            }
            for distance, id in zip(result.distances[query].tolist(), result.ids[query].tolist(), strict=True)
            if id >= 0  # fewer than k codes in the gallery
        ]
        query_shown = {"picture": _embedded(split.query, query), "name": short_class_names(split.query, query)}
        rows.append(query_shown | {"near": near})
    return rows


def write_page(folder: Path, report: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write index.html; `rows` are those of `neighbour_rows`."""
    template = files("fasthash.demo").joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=for_html)
    page = environment.from_string(template)
    exact = next(row for row in report["searches"] if row["search"].startswith("exact"))
    html = page.render(report=report, rows=rows, exact=exact, columns=_columns(report["searches"], report["k"]))
    (folder / "index.html").write_text(html, encoding="utf-8")


def _columns(searches: list[dict[str, Any]], k: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Columns of the table of searches, and those that are the same in each row, which need no column."""
    every = [
        (f"recall@{k}", f"recall@{k}", 4),
        (f"precision@{k}", f"precision@{k}", 4),
        ("codes_compared", "codes compared", 1),
        ("nodes_visited", "nodes visited", 1),
        ("microseconds_per_query", "µs per query", 2),
    ]
    shown: list[dict[str, Any]] = []
    same: list[dict[str, Any]] = []
    for key, title, n_decimals in every:
        values = [row[key] for row in searches]
        texts = decimals(values, n_decimals)
        column = {"key": key, "title": title, "most": max(values), "texts": texts}
        (same if len(set(texts)) == 1 else shown).append(column)
    return shown, same


def _embedded(images: ImageSet, index: int) -> str:
    picture = square_tile(images.image(index)).resize((_TILE, _TILE), Image.Resampling.LANCZOS)
    with io.BytesIO() as file:
        picture.convert("RGB").save(file, "JPEG", quality=80)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
