"""HTML of the reports: document, tables, figures."""

import base64
import html
import json
from collections.abc import Sequence
from typing import Any

from train.report import plots

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #222; --soft: #555; --line: #ddd;
        --panel: #f6f6f6; --good: #009e73; --bad: #d55e00; --alarm: #fdf3ec; --plot: none; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15171a; --text: #e8eaed; --soft: #a9b0b8; --line: #3a3f46; --panel: #1e2125;
          --alarm: #33211a; --plot: invert(.91) hue-rotate(180deg); }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--ground);
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; white-space: nowrap; }
th, td { text-align: right; vertical-align: top; padding: .25rem .7rem; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
tbody th { font-weight: normal; } th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } img { max-width: 100%; filter: var(--plot); }
/* A plot that shrinks with a telephone's screen cannot be read: it is scrolled. */
@media (max-width: 40rem) { img { max-width: none; width: 40rem; } }
figcaption, .facts { color: var(--soft); font-size: 14px; }
.box { border: 1px solid var(--good); border-left-width: 6px; padding: .2rem 1rem; margin: 1rem 0; }
.box p { margin: .5rem 0; } .box p:first-child { font-weight: 600; }
.box.alarming { border-color: var(--bad); background: var(--alarm); }
pre { background: var(--panel); padding: 1rem; overflow-x: auto; font-size: 13px; }
"""


def document(title: str, parts: Sequence[str], style: str = "") -> str:
    """Return a self-contained HTML page.

    Args:
        title: as plain text.
        parts: the HTML of its body, from top to bottom.
        style: CSS of its own, after that of all pages.
    """
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def box(lines: Sequence[str], alarming: bool = False) -> str:
    """Return plain sentences in a frame of their own; an alarming one is read out at once."""
    role, kind = ("alert", "box alarming") if alarming else ("note", "box")
    inner = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'<div class="{kind}" role="{role}">{inner}</div>'


def bullets(lines: Sequence[str]) -> str:
    """Return plain sentences as an HTML list."""
    return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def folded(title: str, facts: Any) -> str:
    """Return JSON values as a collapsed HTML section."""
    text = html.escape(json.dumps(facts, indent=2, ensure_ascii=False))
    shown = f'<pre tabindex="0">{text}</pre>'
    return f"<details><summary>{html.escape(title)}</summary>{shown}</details>"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table of plain texts; a line break in one is a line break in its cell."""
    head = "".join(f'<th scope="col">{_cell(name)}</th>' for name in columns)
    body = "".join(f"<tr>{_row(row)}</tr>\n" for row in rows)
    return _scrolled(
        title,
        f"<table><caption>{html.escape(title)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}</tbody></table>",
    )


def _row(cells: Sequence[str]) -> str:
    head, *rest = (_cell(cell) for cell in cells)
    return f'<th scope="row">{head}</th>' + "".join(f"<td>{cell}</td>" for cell in rest)


def _scrolled(title: str, inner: str) -> str:
    """Return what is scrolled where it is too wide, by the keyboard too."""
    label = html.escape(title)
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">{inner}</div>'


def _cell(text: str) -> str:
    return html.escape(text).replace("\n", "<br>")


def figure(title: str, caption: str, plot: Any, *arguments: Any) -> str:
    """Return a plot as an HTML figure with the image in it.

    Args:
        title: alternative text of the image.
        caption: text below it.
        plot: the function that draws it.
        arguments: of the function.
    """
    content = base64.b64encode(plots.svg(plot, *arguments)).decode()
    image = f'<img alt="{html.escape(title)}" src="data:image/svg+xml;base64,{content}">'
    return (
        f"<figure>{_scrolled(title, image)}<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
