"""The page at /docs: everything is on it, can be linked to, and needs no other file."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from daemon.app import build_registry
from daemon.core.errors import error_classes
from daemon.reference.configuration import configuration
from daemon.reference.docstrings import first_line
from daemon.reference.markup import anchor, inline, rendered, snippets, table
from daemon.reference.page import page
from daemon.reference.routes import DOORS, command_route
from daemon.web.close import CloseCode
from daemon.web.metrics import METRICS

VOID = {"meta", "input", "br"}


class Outline(HTMLParser):
    """Reads a page: ids, links and headings, and whether each tag is closed in its place."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.levels, self.open, self.outside = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if tag == "a" else []
        self.levels += [int(tag[1])] if re.fullmatch(r"h\d", tag) else []
        self.outside += [
            attributes[name] for name in ("src", "srcset", "action") if name in attributes
        ]
        self.outside += [tag] if tag in {"link", "iframe", "object", "img", "base"} else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def text():
    return page(build_registry())


@pytest.fixture(scope="module")
def outline(text):
    return Outline(text)


@pytest.fixture(scope="module")
def words(text):
    """Everything that a reader sees, without tags."""
    shown = re.sub(r"<(script|style)>.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", shown)))


def test_it_is_one_whole_file_that_asks_for_no_other(text, outline):
    assert outline.open == []
    assert outline.outside == []
    for _, inside in re.findall(r"<(script|style)>(.*?)</\1>", text, re.DOTALL):
        assert not re.search(r"@import|url\(|fetch\(|import\(|XMLHttpRequest|://", inside)


def test_every_link_leads_to_a_place_on_the_page_and_no_place_is_there_twice(outline):
    assert len(outline.ids) == len(set(outline.ids))
    assert {link.removeprefix("#") for link in outline.links} <= set(outline.ids)
    assert all(link.startswith("#") for link in outline.links)


def test_headings_go_down_one_step_at_a_time(outline):
    assert outline.levels[0] == 1
    assert outline.levels.count(1) == 1
    steps = zip(outline.levels, outline.levels[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps)


def plain(sentence):
    return sentence.replace("`", "")


def test_every_event_and_command_is_on_it_with_its_sentence_and_fields(text, outline, words):
    registry = build_registry()
    for kind, index in (("event", registry.events), ("command", registry.commands)):
        for name, declared in index.items():
            assert f"{kind}-{name}" in outline.ids
            assert plain(first_line(declared)) in words
            article = text.partition(f'id="{kind}-{name}"')[2].partition("</article>")[0]
            for field in declared.__struct_encode_fields__:
                assert f'<th scope="row"><code>{field}</code></th>' in article, (name, field)
    for command in registry.commands.values():
        route = command_route(registry, command)
        assert f"HTTP {route.method} {route.path}." in words


def test_every_error_close_code_setting_metric_and_route_is_on_it(words):
    for error in error_classes():
        if "code" in vars(error):
            assert f"{error.code}{int(error.status)}{plain(first_line(error))}" in words
    for code in CloseCode:
        assert f"{int(code)}{plain(code.meaning)}" in words
    for of in configuration():
        for key in of.keys:
            assert plain(key.sentence) in words
            assert key.variable in words
    for metric in METRICS:
        assert f"agentcmd_{metric.name}{metric.kind}" in words
        assert metric.help in words
    for route in DOORS:
        assert f"{route.method} {route.path}" in words


def test_what_is_declared_cannot_break_the_page():
    assert inline('a `<b>` & `"c"`') == (
        "a <code>&lt;b&gt;</code> &amp; <code>&quot;c&quot;</code>"
    )
    assert inline("see `x.y`", {"x.y": "event-x.y"}) == (
        'see <a href="#event-x.y"><code>x.y</code></a>'
    )
    assert '<td data-of="&lt;i&gt;">cell</td>' in table(("A", "<i>"), [("first", "cell")])
    assert anchor("Tokens & grants, again!") == "tokens-grants-again"


def test_the_guides_markdown_is_paragraphs_lists_and_code():
    markdown = "One\ntwo.\n\n- first\n- second\n  goes on\n\n```sh name\necho '<x>'\n```\n\nEnd."
    assert rendered(markdown).split("\n")[:2] == [
        "<p>One two.</p>",
        "<ul><li>first</li><li>second goes on</li></ul>",
    ]
    assert "<code>echo &#x27;&lt;x&gt;&#x27;</code>" in rendered(markdown)
    assert rendered(markdown).endswith("<p>End.</p>")
    (snippet,) = snippets(markdown)
    assert snippet == ("sh", "name", "echo '<x>'\n")
