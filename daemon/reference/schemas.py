"""JSON Schemas of declared structures, every one and every field with its published sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect as declared

from daemon.reference.docstrings import on_the_wire, published
from daemon.reference.fields import FIELDS

REF = "#/components/schemas/"

Schema = dict[str, Any]

_SENTENCE = re.compile(r"(?<=[.;:])\s+(?=[A-Z`])")


class Schemas(NamedTuple):
    """The schemas of some structures and of all that these hold, by their published names."""

    components: dict[str, Schema]
    names: dict[type, str]

    def ref(self, struct: type) -> Schema:
        """Point to a structure's schema."""
        return {"$ref": f"{REF}{self.names[struct]}"}

    def of(self, struct: type) -> Schema:
        """Give a structure's schema itself."""
        return self.components[self.names[struct]]

    def mentioned(self, document: Any) -> dict[str, Schema]:
        """Give the schemas that a document points to, and those that these point to."""
        found: dict[str, Schema] = {}
        pending = list(references(document))
        while pending:
            name = pending.pop().removeprefix(REF)
            if name in self.components and name not in found:
                found[name] = self.components[name]
                pending.extend(references(found[name]))
        return dict(sorted(found.items()))


def schemas_of(structs: Iterable[type]) -> Schemas:
    """Describe these structures and all that they hold; LookupError where a docstring misses."""
    reached = list(dict.fromkeys(_reached(structs)))
    refs, components = msgspec.json.schema_components(reached, ref_template=f"{REF}{{name}}")
    names = {
        struct: str(ref["$ref"]).removeprefix(REF)
        for struct, ref in zip(reached, refs, strict=True)
    }
    for struct, name in names.items():
        _describe(components[name], struct)
    return Schemas(dict(components), names)


def references(value: Any) -> Iterator[str]:
    """Yield every `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def rewritten(value: Any, change: Callable[[Schema], Schema]) -> Any:
    """Copy a document with `change` done to each object in it, the outer ones first."""
    if isinstance(value, dict):
        return {key: rewritten(inner, change) for key, inner in change(value).items()}
    if isinstance(value, list):
        return [rewritten(inner, change) for inner in value]
    return value


def sentence_of(struct: type, field: str) -> str:
    """Say what a field means; empty where neither its declaration nor the docstring tells.

    In this order: the description at the field, what `FIELDS` says of it in this structure, the
    sentences of the docstring that name it, and what a field of this name means anywhere.
    """
    info = next(each for each in _struct(struct).fields if each.name == field)
    if isinstance(info.type, declared.Metadata) and info.type.extra_json_schema:
        told = info.type.extra_json_schema.get("description", "")
        if told:
            return str(told)
    specific = FIELDS.get(f"{struct.__name__}.{field}")
    if specific:
        return on_the_wire(specific, struct)
    named = f"`{info.encode_name}`"
    sentences = _SENTENCE.split(published(struct).replace("\n\n", " "))
    told = " ".join(each for each in sentences if named in each)
    return told or FIELDS.get(field, "")


def _describe(schema: Schema, struct: type) -> None:
    """Put the published texts where msgspec has put the docstring as it is in the source."""
    schema["description"] = published(struct)
    for field in _struct(struct).fields:
        sentence = sentence_of(struct, field.name)
        if sentence:
            schema["properties"][field.encode_name]["description"] = sentence
    if not schema["required"]:
        del schema["required"]


def _struct(struct: type) -> declared.StructType:
    told = declared.type_info(struct)
    if not isinstance(told, declared.StructType):
        raise TypeError(f"{struct.__name__} is no structure")
    return told


def _reached(structs: Iterable[type]) -> Iterator[type]:
    """Yield the structures, and those in their fields, each before what it holds."""
    seen: set[type] = set()
    pending: list[declared.Type] = list(declared.multi_type_info(structs))
    while pending:
        told = pending.pop(0)
        match told:
            case declared.StructType(cls=cls, fields=fields) if cls not in seen:
                seen.add(cls)
                yield cls
                pending.extend(field.type for field in fields)
            case declared.Metadata(type=inner) | declared.ListType(item_type=inner):
                pending.append(inner)
            case declared.UnionType(types=types):
                pending.extend(types)
            case declared.DictType(value_type=inner):
                pending.append(inner)
