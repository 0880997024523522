"""HTML by hand: one self-contained page with sections, tables and panels, for wide and narrow screens.

Arguments are HTML unless they are said to be text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from data_pipelines.schema import Descriptor, SiteKind

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin: 2.6rem 0 0; }
p.note { color: #555; max-width: 48rem; margin: 0.3rem 0 1rem; } a { color: #1f6f9f; }
nav { display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.7rem; margin: 1.2rem 0; }
dl div { border: 1px solid #ddd; border-radius: 6px; padding: 0.5rem 0.8rem; }
dt { color: #555; font-size: 0.85rem; } dd { margin: 0; font-size: 1.25rem; }
.good { color: #2c7a3f; } .bad { color: #b3401e; } .non-O { color: #1f6f9f; } .O { color: #b8650f; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); gap: 1.2rem 1rem; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.beside figure { flex: 1 1 320px; max-width: 460px; } .beside > div { flex: 1 1 340px; min-width: 0; }
figure { margin: 0; min-width: 0; display: flex; flex-direction: column; }
svg { width: 100%; height: auto; display: block; margin-top: auto; }
figcaption { font-size: 0.88rem; line-height: 1.35; color: #555; overflow-wrap: anywhere; }
figcaption b { color: #222; } .id, figcaption span { display: inline-block; }
.scroll { overflow-x: auto; max-width: 100%; } .scroll > svg { width: auto; max-width: none; }
.key { display: inline-block; margin-right: 0.7em; font-size: 0.88rem; line-height: 1.35; color: #555; }
pre { overflow-x: auto; background: #f5f5f5; border-radius: 6px; padding: 0.6rem 0.8rem; line-height: 1.6; }
table { border-collapse: collapse; font-size: 0.9rem; margin: 0.4rem 0 1rem; }
td, th { padding: 0.15rem 1.1rem 0.15rem 0; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #888; font-weight: 600; vertical-align: bottom; } td.n, th.n { text-align: right; }
td.n, td .good, td .bad, td .O, td .non-O { white-space: nowrap; } td .id { min-width: 9rem; overflow-wrap: anywhere; } small { color: #555; } dd small { display: block; font-size: 0.85rem; line-height: 1.35; }
table.map td, table.map th { padding: 0.15rem 0.6rem; text-align: center; white-space: nowrap; line-height: 1.25; }
table.map td { border: 1px solid #fff; min-width: 3.2rem; } table.map small { display: block; color: #333; }
table.map th.row { text-align: left; border: 0; vertical-align: middle; }
code { font-size: 0.88em; }
@media (max-width: 600px) {
  table { font-size: 0.8rem; } td, th { padding-right: 0.7rem; }
  table.map { font-size: 0.66rem; } table.map td, table.map th { padding: 0.1rem; min-width: 0; }
}
"""


def page(title: str, top: str, sections: Iterable[tuple[str, str, str]], refresh: float = 0) -> str:
    """The whole document. `title` is text; `top` and the (title, note, content) of the sections are HTML. refresh: seconds
    after which a browser reads it again, 0 for never."""
    links, body = "", ""
    for name, note, content in sections:
        anchor = name.lower().replace(" ", "-")
        links += f'<a href="#{anchor}">{name}</a>'
        body += f'<section><h2 id="{anchor}">{name}</h2><p class="note">{note}</p>{content}</section>'
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        + (f'<meta http-equiv="refresh" content="{refresh:g}">' if refresh else "")
        + f"<title>{escape(title)}</title><style>{STYLE}</style>"
    )
    body = f"<h1>{escape(title)}</h1>{top}<nav>{links}</nav>{body}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def tiles(facts: Mapping[str, str]) -> str:
    """The numbers to see first, by name."""
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in facts.items())}</dl>"


def judged(good: bool, words: str) -> str:
    """Words in the colour of a verdict; a bad one is bold too, for those who see no red and green."""
    return f'<span class="good">{words}</span>' if good else f'<b class="bad">{words}</b>'


def named(d: Descriptor) -> str:
    """An abbreviation and what it stands for."""
    return f"<b>{d.name}</b> {escape(d.meaning)}" + (f", {d.unit}" if d.unit else "")


def sites(counts: Mapping[SiteKind, int]) -> str:
    """How many sites of each kind, in its colour."""
    named = {kind: "structures" if kind == "structure" else f"{kind} sites" for kind in counts}
    return ", ".join(f'<span class="{kind}">{count:,} {named[kind]}</span>' for kind, count in counts.items())


def commands(lines: Iterable[str]) -> str:
    """Text to type."""
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def panels(panels: Iterable[str]) -> str:
    return f'<div class="panels">{"".join(panels)}</div>'


def panel(svg: str, caption: str) -> str:
    """A picture that a telephone shows unshrunk, under its caption."""
    return f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"


def wide(svg: str) -> str:
    """A picture that is too wide for a telephone: it keeps its size and scrolls."""
    return f'<div class="scroll">{svg}</div>'


def legend(drawn: Iterable[tuple[str, str]]) -> str:
    """(name, colour) of all that is drawn."""
    keys = (f'<span class="key"><b style="color: {colour}">■</b> {name}</span>' for name, colour in drawn)
    return " ".join(keys)


def table(header: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """Rows of cells and of counts, these to the right; nothing where there are no rows."""
    if not rows:
        return ""
    number = [
        ' class="n"' if any(isinstance(cell, int) for cell in column) else "" for column in zip(*rows, strict=True)
    ]
    lines = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows]
    heads = "".join(f"<th{of}>{name}</th>" for of, name in zip(number, header, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{of}>{cell}</td>' for of, cell in zip(number, line, strict=True))}</tr>" for line in lines
    )
    return f'<div class="scroll"><table><tr>{heads}</tr>{body}</table></div>'


def shaded(header: Sequence[str], rows: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """A table whose cells are (content, colour behind it), by the name of their row."""
    heads = "".join(f"<th>{name}</th>" for name in header)
    body = ""
    for name, cells in rows.items():
        drawn = "".join(f'<td style="background: {colour}">{content}</td>' for content, colour in cells)
        body += f'<tr><th class="row">{name}</th>{drawn}</tr>'
    return f'<div class="scroll"><table class="map"><tr>{heads}</tr>{body}</table></div>'
