"""Docstrings as they are published: cleaned, and with field names as they are on the wire."""

from __future__ import annotations

import inspect

import msgspec


def first_line(declared: type) -> str:
    """Give the first line of a docstring; LookupError where there is none of its own."""
    return published(declared).split("\n")[0]


def rest(declared: type) -> str:
    """Give what follows the first line, in paragraphs; empty where nothing does."""
    return published(declared).partition("\n")[2].strip()


def published(declared: type) -> str:
    """Give a docstring whole, each paragraph on one line; LookupError where there is none."""
    text = declared.__dict__.get("__doc__")
    if not text:
        raise LookupError(f"{declared.__name__} has no docstring")
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return on_the_wire("\n\n".join(" ".join(p.split("\n")) for p in paragraphs), declared)


def on_the_wire(text: str, declared: type) -> str:
    """Write each `field_name` of a structure in a text as `fieldName`."""
    if issubclass(declared, msgspec.Struct):
        for field in msgspec.structs.fields(declared):
            text = text.replace(f"`{field.name}`", f"`{field.encode_name}`")
    return text


def wire_name(struct: type[msgspec.Struct], field: str) -> str:
    """Give a field's name on the wire; empty where the structure has no such field."""
    names = dict(zip(struct.__struct_fields__, struct.__struct_encode_fields__, strict=True))
    return names.get(field, "")
