"""A Markdown page as one HTML file that needs nothing beside it: pictures inside, no script, no network."""

from __future__ import annotations

import base64
import mimetypes
import re
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1.5rem; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
div.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.85rem; margin: 1rem 0; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #999; white-space: normal; vertical-align: bottom; } 
td { font-variant-numeric: tabular-nums; }
code { background: #f3f3f3; padding: 0.1em 0.3em; }
"""
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
"""


def page(markdown: str, folder: Path) -> str:
    """The HTML of a Markdown text.

    HTML in the text is shown, not interpreted. A picture that is no file here becomes its words.

    Args:
        markdown: CommonMark with tables.
        folder: what pictures' paths are relative to.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", lambda self, *arguments: _image(self, arguments, folder))
    parser.add_render_rule("heading_open", _heading)
    parser.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    title = next((line[2:] for line in markdown.splitlines() if line.startswith("# ")), "")
    return HEAD.format(title=escape(title), style=STYLE, body=parser.render(markdown))


def anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _heading(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("id", anchor(tokens[index + 1].content))
    return str(self.renderToken(tokens, index, options, env))


def _image(self: Any, arguments: Any, folder: Path) -> str:
    tokens, index, options, env = arguments
    token = tokens[index]
    path = folder / unquote(str(token.attrs["src"]))
    words = self.renderInlineAsText(token.children or [], options, env)
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except (OSError, ValueError):
        return f"<em>{escape(words or path.name)}</em>"
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    return f'<img alt="{escape(words)}" src="data:{kind};base64,{data}">'
