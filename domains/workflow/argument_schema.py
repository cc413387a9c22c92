"""The schema of an argument as YAML has it: texts as they are written, numbers as numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from domains.workflow.definition import Json
from domains.workflow.problems import Problems, shown
from domains.workflow.shapes import QUOTED, Schema, data, noun
from domains.workflow.yaml_tree import Mapping, Node, Scalar, Sequence, plain

_TEXTS = frozenset({"title", "description", "pattern", "format", "type", "required"})
_SCHEMAS = frozenset({"items", "additionalProperties", "not"})
_OWN: dict[type, frozenset[str]] = {
    int: frozenset({"number", "integer"}),
    float: frozenset({"number", "integer"}),
    bool: frozenset({"boolean"}),
    type(None): frozenset({"null"}),
}


@dataclass(frozen=True, slots=True)
class Argument:
    """What may be said of one argument in JSON Schema."""

    def read(self, node: Node, at: str, problems: Problems) -> Json:
        """Return the schema."""
        if not isinstance(node, Mapping):
            problems.add(node.line, f"{at} is {noun(node)}", ["names with values"])
            return {}
        return _Reader(problems, at).schema(node)

    def schema(self) -> Schema:
        """Return the JSON Schema of it."""
        return {"type": "object"}


class _Reader:
    """Reads the schema of one argument."""

    def __init__(self, problems: Problems, at: str) -> None:
        self._problems = problems
        self._at = at

    def schema(self, node: Node) -> Json:
        if not isinstance(node, Mapping):
            return plain(node)
        return {key: self._keyword(key, value, node) for key, value in node.entries.items()}

    def _keyword(self, key: str, node: Node, schema: Mapping) -> Json:
        if key in _TEXTS and not (key == "required" and isinstance(node, Scalar)):
            return _texts(node)
        if key in {"default", "const"}:
            return self._value(node, schema, checked=key == "default")
        if key in {"enum", "examples"}:
            return self._each(node, lambda item: self._value(item, schema))
        if key in {"anyOf", "oneOf", "allOf"}:
            return self._each(node, self.schema)
        if key == "properties" and isinstance(node, Mapping):
            return {name: self.schema(one) for name, one in node.entries.items()}
        return self.schema(node) if key in _SCHEMAS else plain(node)

    def _each(self, node: Node, read: Callable[[Node], Json]) -> Json:
        return [read(item) for item in node.items] if isinstance(node, Sequence) else plain(node)

    def _value(self, node: Node, schema: Node | None, *, checked: bool = False) -> Json:
        """Return a value that a schema is for; one that is `checked` is held against it later."""
        known = schema.entries if isinstance(schema, Mapping) else {}
        if isinstance(node, Sequence):
            return [self._value(item, known.get("items"), checked=checked) for item in node.items]
        if isinstance(node, Mapping):
            inner = known.get("properties")
            of = inner.entries if isinstance(inner, Mapping) else {}
            rest = known.get("additionalProperties")
            return {
                key: self._value(one, of.get(key, rest), checked=checked)
                for key, one in node.entries.items()
            }
        if isinstance(node.value, str):
            return node.value
        types = _types(known.get("type"))
        if types & _OWN.get(type(node.value), frozenset()):
            return node.value
        if "string" not in types:
            return data(node, self._at, self._problems)
        if not checked:
            self._problems.add(node.line, f"{shown(node.text)} in {self._at} is no text: {QUOTED}")
        return node.value


def _types(node: Node | None) -> frozenset[str]:
    found = _texts(node) if node is not None else ()
    return frozenset([found] if isinstance(found, str) else found or ())


def _texts(node: Node) -> Json:
    """Return texts as they are written; `type: null` is one."""
    if isinstance(node, Scalar):
        return node.text
    if isinstance(node, Sequence):
        return [_texts(item) for item in node.items]
    return plain(node)
