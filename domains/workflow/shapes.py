"""What may stand where in a workflow file: declared once, to read it and for its JSON Schema."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from daemon.core.errors import BadRequest
from domains.workflow import durations
from domains.workflow.definition import Json
from domains.workflow.problems import Problems, meant, shown
from domains.workflow.templates import has_template
from domains.workflow.yaml_tree import (
    Mapping,
    Node,
    Scalar,
    Sequence,
    plain,
    rewritten,
    scalars,
)

Schema = dict[str, Any]

MAX_TEXT = 256 * 1024
"""In characters: a prompt, or the text of a command."""


QUOTED = "put it in quotes where a text is meant"


class Shape(Protocol):
    """One kind of value. What cannot be read is a problem, and something of its type is given."""

    def read(self, node: Node, at: str, problems: Problems) -> Json:
        """Give the value of a node; `at` is what it is called in messages."""

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""


def snake(key: str) -> str:
    """Give the name that a key has in our structures."""
    return key.replace("-", "_")


def noun(node: Node) -> str:
    """Give a word for what stands there."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return shown(node.text)
    return repr(shown(node.text, 40))


def data(node: Node, at: str, problems: Problems) -> Json:
    """Return a node as data, and refuse what would not be written again as it is written there."""
    for scalar in scalars(node):
        if (written := rewritten(scalar)) is not None:
            problems.add(
                scalar.line,
                f"{shown(scalar.text)} in {at} is read as {written}: {QUOTED}, or write {written}",
            )
    return plain(node)


@dataclass(frozen=True, slots=True)
class Text:
    """A text; numbers and booleans are taken as they are written (3.10 stays that).

    `rendered`: templates in it are rendered later; otherwise they are refused, unless `free`.
    """

    rendered: bool = False
    free: bool = False
    longest: int = MAX_TEXT
    pattern: str | None = None
    allowed: str = "a text"
    scalars: bool = False
    empty: bool = False

    def read(self, node: Node, at: str, problems: Problems) -> str:
        """Give the text."""
        blank = isinstance(node, Scalar) and not node.text.strip() and not self.empty
        if isinstance(node, Scalar) and node.value is None and node.text:
            problems.add(node.line, f"{at} is {node.text}, which is nothing: {QUOTED}")
            return ""
        if not isinstance(node, Scalar) or node.value is None or blank:
            problems.add(node.line, f"{at} is {noun(node)}", [self.allowed])
            return ""
        text = node.text
        if len(text) > self.longest:
            problems.add(
                node.line, f"{at} has {len(text):,} characters", [f"at most {self.longest:,}"]
            )
        elif not self.rendered and not self.free and "{{" in text:
            problems.add(node.line, f"{at} is read before anything runs", ["no templates"])
        elif self.pattern is not None and re.fullmatch(self.pattern, text) is None:
            problems.add(node.line, f"{at} is {noun(node)}", [self.allowed])
        return text

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        made: Schema = {"type": ["string", "number", "boolean"] if self.scalars else "string"}
        return made | ({"pattern": f"^{self.pattern}$"} if self.pattern else {})


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def read(self, node: Node, at: str, problems: Problems) -> bool:
        """Give the boolean."""
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        problems.add(node.line, f"{at} is {noun(node)}", ["true", "false"])
        return False

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Number:
    """A number in bounds."""

    least: float
    most: float
    whole: bool = True

    def read(self, node: Node, at: str, problems: Problems) -> float:
        """Give the number."""
        value = node.value if isinstance(node, Scalar) else None
        kinds = int if self.whole else int | float
        if isinstance(value, kinds) and not isinstance(value, bool):
            number: float = value
            if self.least <= number <= self.most:
                return number
        kind = "a whole number" if self.whole else "a number"
        problems.add(
            node.line, f"{at} is {noun(node)}", [f"{kind} from {self.least:g} to {self.most:,}"]
        )
        return math.ceil(self.least)

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        kind = "integer" if self.whole else "number"
        return {"type": kind, "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration, in seconds once read; with `rendered` it may be a template, and stays a text."""

    rendered: bool = False

    def read(self, node: Node, at: str, problems: Problems) -> float | str:
        """Give the seconds, or the template."""
        if not isinstance(node, Scalar) or node.value is None:
            problems.add(node.line, f"{at} is {noun(node)}", [durations.ALLOWED])
            return 0.0
        if self.rendered and has_template(node.text):
            return node.text
        try:
            return durations.parse(node.value)
        except BadRequest as error:
            problems.add(node.line, f"{at}: {error.message}")
            return 0.0

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        return {"type": ["string", "number"], "minimum": 0}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, node: Node, at: str, problems: Problems) -> str:
        """Give the word."""
        if isinstance(node, Scalar) and node.text in self.words:
            return node.text
        problems.add(node.line, f"{at} is {noun(node)}", self.words)
        return self.words[0]

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of things of one kind."""

    item: Shape
    most: int
    unique: bool = False

    def read(self, node: Node, at: str, problems: Problems) -> list[Json]:
        """Give the list."""
        if not isinstance(node, Sequence):
            problems.add(node.line, f"{at} is {noun(node)}", ["a list"])
            return []
        if len(node.items) > self.most:
            problems.add(node.line, f"{at} has {len(node.items):,} items", [f"at most {self.most}"])
            return []
        values = [self.item.read(item, f"an item of {at}", problems) for item in node.items]
        if self.unique:
            for n, (item, value) in enumerate(zip(node.items, values, strict=True)):
                if value in values[:n]:
                    problems.add(item.line, f"{shown(str(value))} stands twice in {at}")
        return values

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        made: Schema = {"type": "array", "items": self.item.schema(), "maxItems": self.most}
        return made | ({"uniqueItems": True} if self.unique else {})


@dataclass(frozen=True, slots=True)
class MapOf:
    """Values of one kind by name."""

    value: Shape
    most: int
    pattern: str = "[A-Za-z_][A-Za-z0-9_]{0,99}"
    allowed: str = "a name of letters, digits and _"

    def read(self, node: Node, at: str, problems: Problems) -> dict[str, Json]:
        """Give the mapping."""
        if not isinstance(node, Mapping):
            problems.add(node.line, f"{at} is {noun(node)}", ["names with values"])
            return {}
        if len(node.entries) > self.most:
            problems.add(
                node.line, f"{at} has {len(node.entries):,} entries", [f"at most {self.most}"]
            )
            return {}
        for key in node.entries:
            if re.fullmatch(self.pattern, key) is None:
                problems.add(node.lines[key], f"{shown(key)!r} is no name in {at}", [self.allowed])
        return {
            key: self.value.read(value, f"{shown(key)} in {at}", problems)
            for key, value in node.entries.items()
        }

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        return {
            "type": "object",
            "additionalProperties": self.value.schema(),
            "propertyNames": {"pattern": f"^{self.pattern}$"},
            "maxProperties": self.most,
        }


@dataclass(frozen=True, slots=True)
class Anything:
    """Any data, or with `mapping` any names with any data.

    What is `loose` is not kept as it is read here.
    """

    mapping: bool = False
    loose: bool = False

    def read(self, node: Node, at: str, problems: Problems) -> Json:
        """Give the data."""
        if self.mapping and not isinstance(node, Mapping):
            problems.add(node.line, f"{at} is {noun(node)}", ["names with values"])
            return {}
        return plain(node) if self.loose else data(node, at, problems)

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        return {"type": "object"} if self.mapping else {}


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a record: what stands behind it, and what it is for."""

    shape: Shape
    help: str
    required: bool = False

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        return self.shape.schema() | {"description": self.help}


@dataclass(frozen=True, slots=True)
class Record:
    """Known keys, each with its shape; `short` is the key that a value without keys is for.

    `open` takes any other key too, with any data. `hints` say what stands here for keys of others.
    """

    keys: AnyMapping[str, Key]
    short: str | None = None
    open: bool = False
    hints: AnyMapping[str, str] = field(default_factory=dict)

    def read(self, node: Node, at: str, problems: Problems) -> dict[str, Json]:
        """Give the values that are there, by their names in our structures."""
        if self.short is not None and not isinstance(node, Mapping):
            return {snake(self.short): self.keys[self.short].shape.read(node, at, problems)}
        if not isinstance(node, Mapping):
            problems.add(node.line, f"{at} is {noun(node)}", self.keys)
            return {}
        for key, needed in self.keys.items():
            if needed.required and key not in node.entries:
                problems.add(node.line, f"{key} is missing in {at}")
        made = {}
        for key, value in node.entries.items():
            if known := self.keys.get(key):
                made[snake(key)] = known.shape.read(value, f"{key} of {at}", problems)
            elif self.open:
                made[key] = data(value, f"{key} of {at}", problems)
            else:
                hint = self.hints.get(key)
                unknown(key, node.lines[key], at, self.keys, problems, hint=hint)
        return made

    def schema(self) -> Schema:
        """Give the JSON Schema of it."""
        made: Schema = {
            "type": "object",
            "properties": {key: known.schema() for key, known in self.keys.items()},
            "required": [key for key, known in self.keys.items() if known.required],
            "additionalProperties": self.open,
        }
        if self.short is None:
            return made
        return {"anyOf": [self.keys[self.short].shape.schema(), made]}


def unknown(
    key: str,
    line: int,
    at: str,
    known: AnyMapping[str, Any] | list[str],
    problems: Problems,
    *,
    hint: str | None = None,
) -> None:
    """Take down a key that nothing is known of."""
    more = f"; {hint}" if hint else meant(key, known)
    problems.add(line, f"{shown(key)!r} is no key of {at}{more}", known)
