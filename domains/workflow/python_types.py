"""The types of a Python workflow's arguments, as JSON Schema."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from domains.workflow.definition import Json

MAX_DEPTH = 10
"""How deep an annotation is looked into."""

_TYPES: Mapping[str, dict[str, Json]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "None": {"type": "null"},
}


def schema_of(node: ast.expr | None, depth: int = 0) -> dict[str, Json]:
    """Return the JSON Schema of an annotation; of one that says nothing here, that of anything."""
    if isinstance(node, ast.Constant):
        return _of_constant(node.value, depth)
    if depth > MAX_DEPTH or node is None:
        return {}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _any_of([node.left, node.right], depth)
    if isinstance(node, ast.Subscript):
        return _of_subscript(node, depth)
    return {**_TYPES.get(_last(node), {})}


def _of_constant(value: object, depth: int) -> dict[str, Json]:
    """Return that of None, or of an annotation in quotes."""
    if value is None:
        return {"type": "null"}
    if not isinstance(value, str):
        return {}
    try:
        return schema_of(ast.parse(value.strip(), mode="eval").body, depth + 1)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _of_subscript(node: ast.Subscript, depth: int) -> dict[str, Json]:
    inner = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
    match _last(node.value), inner:
        case "list" | "List", [item]:
            return {"type": "array"} | _with("items", schema_of(item, depth + 1))
        case "dict" | "Dict", [_, value]:
            return {"type": "object"} | _with("additionalProperties", schema_of(value, depth + 1))
        case "Optional" | "Union" as name, _:
            return _any_of(inner + [ast.Constant(None)] * (name == "Optional"), depth)
        case "Annotated", [some, *_]:
            return schema_of(some, depth + 1)
        case "Literal", _ if all(isinstance(each, ast.Constant) for each in inner):
            return {"enum": [ast.literal_eval(each) for each in inner]}
        case _:
            return {}


def _with(keyword: str, schema: dict[str, Json]) -> dict[str, Json]:
    return {keyword: schema} if schema else {}


def _any_of(nodes: list[ast.expr], depth: int) -> dict[str, Json]:
    """Return one of several, as short as it can be said."""
    schemas = [schema_of(each, depth + 1) for each in nodes]
    if not all(schemas):
        return {}
    if all(list(each) == ["type"] for each in schemas):
        types = [each["type"] for each in schemas]
        flat = [one for each in types for one in (each if isinstance(each, list) else [each])]
        return {"type": list(dict.fromkeys(flat))}
    if len(schemas) == 2 and "enum" in schemas[0] and schemas[1] == {"type": "null"}:
        return {"enum": [*schemas[0]["enum"], None]}
    return {"anyOf": schemas}


def _last(node: ast.expr) -> str:
    """Return the last part of a name: `Literal` of `typing.Literal`."""
    return (dotted(node) or "").rpartition(".")[2]


def dotted(node: ast.expr) -> str | None:
    """Return a name with dots, None where it is anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])
