"""The page: HTML, style and some scripts, nothing of which is loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path

from data_pipelines.pages.html import STYLE

FOLDER = Path(__file__).parent
NAMES = ("index.html", "page.css", "page.js", "plot.js", "said.js", "beside.js", "atoms.js")


def content() -> dict[str, str]:
    """By name; the style is that of all pages of the project, and what this one adds."""
    found = {name: (FOLDER / name).read_text(encoding="utf-8") for name in NAMES}
    return {**found, "page.css": STYLE + found["page.css"]}
