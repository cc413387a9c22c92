"""YAML as a tree that knows its lines: plain data only, nothing that grows when it is read.

Anchors, aliases and tags are refused: the first two are how a small file becomes a huge one, and
tags are how a file makes objects. A word without quotes is what YAML 1.2 has it to be: only true
and false are booleans, and 0755, 1:30, 2024-01-01 and 12e4567 stay the text that they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from domains.workflow.definition import Json
from domains.workflow.problems import Problems, shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 30
MAX_NODES = 20_000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_FLAGS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_HALF = re.compile("[\ud800-\udfff]")
_BROKEN = re.compile(r"[-+]?(0|[1-9][0-9]*)?\.[0-9]+([eE][-+]?[0-9]{1,3})?")


@dataclass(slots=True)
class Scalar:
    """A text, number, boolean or null, and how it is written; `block`: behind `|`."""

    line: int
    value: Json
    text: str
    block: bool = False


@dataclass(slots=True)
class Sequence:
    """A list."""

    line: int
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """Keys with their values; `lines` are those of the keys."""

    line: int
    entries: dict[str, Node] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


Node = Scalar | Sequence | Mapping


def plain(node: Node) -> Json:
    """Give the data without the lines."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {key: plain(value) for key, value in node.entries.items()}


def rewritten(node: Scalar) -> str | None:
    """Return how a number, boolean or null would be written anew, where that is in another way.

    3.10 would be 3.1, `~` would be null: what was meant as a text is lost in the value.
    """
    if isinstance(node.value, str) or (node.value is None and not node.text):
        return None
    written = _NAMES.get(str(node.value), repr(node.value))
    return None if written == node.text else written


_NAMES = {"None": "null", "True": "true", "False": "false"}


def scalars(node: Node) -> Iterator[Scalar]:
    """Give every text, number, boolean and null in it, but no keys."""
    if isinstance(node, Scalar):
        yield node
    else:
        inner = node.items if isinstance(node, Sequence) else node.entries.values()
        for one in inner:
            yield from scalars(one)


def read(data: bytes, problems: Problems) -> Node | None:
    """Read a document; None when nothing can be made of it, and `problems` says why."""
    if len(data) > MAX_BYTES:
        problems.add(1, f"the file has {len(data):,} bytes", [f"at most {MAX_BYTES:,}"])
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add(line, "the file is not UTF-8", ["text in UTF-8"])
        return None
    return _read(text, problems)


class _Refused(Exception):
    """The document cannot be read on."""

    def __init__(self, line: int, message: str, *allowed: str) -> None:
        super().__init__(message)
        self.line, self.message, self.allowed = line, message, allowed


def _read(text: str, problems: Problems) -> Node | None:
    import yaml  # noqa: PLC0415  # 2 MB that a daemon without workflows does without
    from yaml.reader import ReaderError  # noqa: PLC0415

    from domains.workflow.yaml_scanner import Loader  # noqa: PLC0415

    tree = _Tree(problems)
    try:
        for event in yaml.parse(text, Loader=Loader):
            tree.take(event)
    except _Refused as refused:
        problems.add(refused.line, refused.message, refused.allowed)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(line, f"the character {error.character:#04x} cannot stand in YAML")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        about = " ".join(part for part in (error.context, error.problem) if part)
        problems.add(line, f"this is no YAML: {shown(about, 200)}{_hint(about)}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.add(1, f"this is no YAML: {shown(str(error), 200)}")
    else:
        if tree.root is None:
            problems.add(1, "the file is empty", ["name, args, steps and the like"])
        return tree.root
    return None


def _hint(about: str) -> str:
    if "'\\t'" in about:
        return "; indent with spaces, not with tabs"
    if "mapping values are not allowed" in about:
        return "; put a text with a colon and a space in it in quotes"
    if "flow mapping" in about or "flow sequence" in about or "'%'" in about:
        return "; put a text that begins with {, [ or % in quotes"
    return ""


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come; `key` waits for its value."""

    node: Sequence | Mapping
    key: str | None = None
    key_line: int = 0
    keyed: bool = False


class _Tree:
    """Puts the parser's events together, without recursion."""

    def __init__(self, problems: Problems) -> None:
        self.root: Node | None = None
        self._problems = problems
        self._open: list[_Open] = []
        self._nodes = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        """Take the next event."""
        line = event.start_mark.line + 1
        kind = type(event).__name__
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise _Refused(line, "a second document begins here", "one document in a file")
        elif kind == "AliasEvent":
            raise _Refused(
                line,
                f"the alias *{shown(event.anchor)} is not allowed: write out what it stands for",
            )
        elif kind in {"ScalarEvent", "SequenceStartEvent", "MappingStartEvent"}:
            self._begin(kind, event, line)
        elif kind in {"SequenceEndEvent", "MappingEndEvent"}:
            self._open.pop()

    def _begin(self, kind: str, event: Any, line: int) -> None:
        if event.anchor is not None:
            raise _Refused(
                line,
                f"the anchor &{shown(event.anchor)} is not allowed: write out what is repeated",
            )
        if event.tag is not None:
            raise _Refused(line, f"the tag {shown(event.tag)} is not allowed", "plain data")
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Refused(line, "the file holds too much", f"at most {MAX_NODES:,} values")
        if kind == "ScalarEvent":
            self._scalar(event, line)
            return
        if len(self._open) >= MAX_DEPTH:
            raise _Refused(line, "this is nested too deeply", f"at most {MAX_DEPTH} levels")
        node = Sequence(line) if kind == "SequenceStartEvent" else Mapping(line)
        self._place(node)
        self._open.append(_Open(node))

    def _scalar(self, event: Any, line: int) -> None:
        text = _whole(event.value, line)
        value: Json = _resolved(text) if event.implicit[0] else text
        parent = self._open[-1] if self._open else None
        if parent is None or not isinstance(parent.node, Mapping) or parent.keyed:
            self._place(Scalar(line, value, text, block=event.style == "|"))
            return
        key, known = text, parent.node.lines
        if value is None:
            raise _Refused(line, "a key is missing before the colon")
        if key in known:
            self._problems.add(line, f"{shown(key)} stands here twice, first in line {known[key]}")
        parent.key, parent.key_line, parent.keyed = key, line, True

    def _place(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent.node, Sequence):
            parent.node.items.append(node)
            return
        if not parent.keyed or parent.key is None:
            raise _Refused(
                node.line,
                "a key is a list or a mapping; a value that begins with {{ stands in quotes",
                "a text as key",
            )
        parent.node.entries.setdefault(parent.key, node)
        parent.node.lines.setdefault(parent.key, parent.key_line)
        parent.keyed = False


def _whole(text: str, line: int) -> str:
    """Give a text whose escapes are put together to whole characters, as JSON writes them."""
    if "\0" in text:
        raise _Refused(line, "a text has a NUL in it")
    if _HALF.search(text):
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise _Refused(line, "a text has half a character in it") from None
    return text


def _resolved(text: str) -> Json:
    """Give what a word without quotes means."""
    if text in _NULL:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _BROKEN.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text
