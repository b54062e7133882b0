"""Markdown as one HTML file that needs nothing else: figures inside, no scripts, no network."""

import base64
import html
import re
from pathlib import Path

import mistune

_STYLE = """\
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #202020; background: #fff; max-width: 84rem;
  margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 2px solid #0072B2; padding-bottom: .3rem; }
p, ul { max-width: 62rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .8rem; margin: 1rem 0; }
th, td { padding: .25rem .4rem; border-bottom: 1px solid #ddd; }
td:first-child { min-width: 9rem; max-width: 26rem; }
@page { size: A4 landscape; margin: 12mm; }
@media print { body { max-width: none; } .scroll { overflow: visible; }
  table { font-size: 6.5pt; } th, td { padding: 1pt 2pt; } }
thead th { border-bottom: 2px solid #404040; } td em { color: #6b6b6b; } td strong { color: #0072B2; }
img { max-width: 100%; height: auto; } code { background: #f2f2f2; padding: .1em .3em; border-radius: 3px; }
a { color: #0072B2; } nav li { display: inline-block; margin-right: 1rem; } nav ul { padding: 0; }
"""


def html_page(markdown: str, title: str, folder: Path) -> str:
    """Return a page with the Markdown's content, its pictures as data and a list of its sections on top.

    Pictures are named relative to `folder`; of one's PNG and SVG the smaller is taken.
    """
    body = str(mistune.create_markdown(escape=True, plugins=["table"])(markdown))
    body = re.sub(r'<img src="([^"]*)"', lambda found: f'<img src="{_picture(folder, found[1])}"', body)
    body = body.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    sections = re.findall(r"<h2>(.*?)</h2>", body)
    for number, section in enumerate(sections):
        body = body.replace(f"<h2>{section}</h2>", f'<h2 id="s{number}">{section}</h2>', 1)
    links = "".join(f'<li><a href="#s{number}">{section}</a></li>' for number, section in enumerate(sections))
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    nav = f"<nav><ul>{links}</ul></nav>"
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}{viewport}</head>\n<body>{nav}\n{body}</body></html>\n'
    )


def _picture(folder: Path, name: str) -> str:
    """A figure as data; nothing for what a name from outside makes of other files and addresses."""
    path = folder / name
    if not (re.fullmatch(r"figures/[\w-][\w.-]*\.(png|svg)", name) and path.is_file()):
        return ""
    kinds = {".png": "image/png", ".svg": "image/svg+xml"}
    found = [path.with_suffix(suffix) for suffix in kinds if path.with_suffix(suffix).is_file()]
    smallest = min(found, key=lambda candidate: candidate.stat().st_size, default=path)
    if smallest.is_symlink():
        return ""
    data = base64.b64encode(smallest.read_bytes()).decode("ascii")
    return f"data:{kinds[smallest.suffix]};base64,{data}"
