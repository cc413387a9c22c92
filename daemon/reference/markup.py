"""HTML in small functions: escaped text, inline code with links, tables, and the guide's Markdown.

The guide uses a little of Markdown: `## headings`, paragraphs, `- lists` and fenced code, whose
first line names the language and, where it has one, what the block is called.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

Links = Mapping[str, str]
"""Names that are explained on the page, each with its anchor."""

_CODE = re.compile(r"`([^`]+)`")
_FENCED = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    """A block of code in Markdown; `name` is empty where it has none."""

    language: str
    name: str
    code: str


def escape(text: str) -> str:
    """Make text safe between tags and in attributes."""
    return html.escape(text, quote=True)


def code(text: str) -> str:
    """Write a name as code."""
    return f"<code>{escape(text)}</code>"


def inline(text: str, links: Links | None = None) -> str:
    """Write a sentence, with what stands in backticks as code, linked where it is explained."""

    def linked(found: re.Match[str]) -> str:
        written = f"<code>{found[1]}</code>"
        anchor = (links or {}).get(html.unescape(found[1]))
        return f'<a href="#{escape(anchor)}">{written}</a>' if anchor else written

    return _CODE.sub(linked, escape(text))


def paragraphs(text: str, links: Links | None = None) -> str:
    """Write paragraphs and lists, which an empty line parts."""
    return "\n".join(_paragraph(each, links) for each in text.strip().split("\n\n") if each)


def _paragraph(text: str, links: Links | None) -> str:
    if not text.startswith("- "):
        return f"<p>{inline(' '.join(text.split(chr(10))), links)}</p>"
    items = text.removeprefix("- ").split("\n- ")
    told = "".join(f"<li>{inline(' '.join(item.split()), links)}</li>" for item in items)
    return f"<ul>{told}</ul>"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str = "") -> str:
    """Write a table; the cells are HTML already, the first of a row names it."""
    names = list(headings)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "\n".join(_row(names, list(row)) for row in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(names: list[str], cells: list[str]) -> str:
    first, *others = cells
    told = "".join(
        f'<td data-of="{escape(name)}">{cell}</td>'
        for name, cell in zip(names[1:], others, strict=True)
    )
    return f'<tr class="entry"><th scope="row">{first}</th>{told}</tr>'


def block(text: str, *, language: str) -> str:
    """Write a block of code that can be copied."""
    return (
        f'<div class="code"><button type="button" class="copy">Copy</button>'
        f'<pre tabindex="0" data-language="{escape(language)}">{code(text)}</pre></div>'
    )


def anchor(text: str) -> str:
    """Turn a heading into an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def heading(level: int, title: str, id_: str) -> str:
    """Write a heading that links to itself; the title is HTML already."""
    label = f'<a class="self" href="#{escape(id_)}">{title}</a>'
    return f'<h{level} id="{escape(id_)}">{label}</h{level}>'


def snippets(markdown: str) -> list[Snippet]:
    """Find the blocks of code in Markdown, in their order."""
    return [Snippet(*each) for each in _FENCED.findall(markdown)]


def chapters(markdown: str) -> Iterator[tuple[str, str]]:
    """Yield the title and the text of each chapter, as Markdown."""
    for chapter in re.split(r"^## ", markdown, flags=re.MULTILINE)[1:]:
        title, _, text = chapter.partition("\n")
        yield title.strip(), text


def rendered(markdown: str, links: Links | None = None) -> str:
    """Write a chapter's text as HTML."""
    parts: list[str] = []
    end = 0
    for found in _FENCED.finditer(markdown):
        parts.append(paragraphs(markdown[end : found.start()], links))
        parts.append(block(found[3].rstrip("\n"), language=found[1]))
        end = found.end()
    parts.append(paragraphs(markdown[end:], links))
    return "\n".join(part for part in parts if part)
