"""The JSON Schema of workflow files in YAML, for editors that know it."""

from __future__ import annotations

from typing import Any

from domains.workflow.arguments import KEYWORDS, MOST_ARGUMENTS
from domains.workflow.keys import ARGUMENT_NAME, KINDS, MAX_STEPS, TOP, Kind
from domains.workflow.shapes import Key, Schema

_STEPS = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_STEPS,
    "items": {"$ref": "#/$defs/step"},
}

_ARGS = {
    "type": "object",
    "maxProperties": MOST_ARGUMENTS,
    "propertyNames": {"pattern": f"^{ARGUMENT_NAME}$"},
    "additionalProperties": {"$ref": "#/$defs/argument"},
}


def json_schema() -> dict[str, Any]:
    """Give the schema; what takes more than a schema (templates, order, ids) the daemon checks."""
    kinds = {f"{kind}-step": _step(kind, declared) for kind, declared in KINDS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An agentcmd workflow",
        **_closed({**TOP}, {"steps": _STEPS, "args": _ARGS}),
        "$defs": {
            "step": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in kinds]},
            "argument": _argument(),
            **kinds,
        },
    }


def _step(kind: str, declared: Kind) -> Schema:
    return _closed(declared.known(kind), {"steps": _STEPS})


def _closed(keys: dict[str, Key], special: dict[str, Schema]) -> Schema:
    """Give an object that has these keys and no others."""
    return {
        "type": "object",
        "properties": {
            key: special.get(key, known.shape.schema()) | {"description": known.help}
            for key, known in keys.items()
        },
        "required": [key for key, known in keys.items() if known.required],
        "additionalProperties": False,
    }


def _argument() -> Schema:
    """Give what an argument is: a JSON Schema of the words that are known here."""
    known: Schema = {keyword: {} for keyword in KEYWORDS}
    known["required"] = {
        "type": ["boolean", "array"],
        "description": "false: it need not be given, though it has no default.",
    }
    return {"type": "object", "properties": known, "additionalProperties": False}
