"""The report of the demo as one self-contained page."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from fasthash._shown import for_html

__all__ = ["write_page"]


def write_page(folder: Path, report: dict[str, Any]) -> None:
    """Write index.html with the pictures of the folder embedded."""
    template = files("fasthash.demo").joinpath("page.html").read_text(encoding="utf-8")
    pictures = {
        name: "data:image/png;base64," + base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        for name in ("neighbours", "map", "pr_curve", "searches")
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=for_html)
    page = environment.from_string(template)
    exact = next(row for row in report["searches"] if row["search"].startswith("exact"))
    html = page.render(report=report, pictures=pictures, exact=exact)
    (folder / "index.html").write_text(html, encoding="utf-8")
