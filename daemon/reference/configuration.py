"""Every setting as data: its key, type, default, limits, sentence and environment variable."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from daemon.core.section import Section
from daemon.settings import PREFIX, Settings

AGENT = "agents.NAME"
"""The table that stands for one agent, whatever its name."""

TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


class Key(NamedTuple):
    """One setting; `default` is as TOML writes it, `choices` is empty where any value goes."""

    name: str
    type: str
    default: str
    sentence: str
    choices: tuple[str, ...]
    limits: str
    variable: str


class Table(NamedTuple):
    """One table of the configuration file."""

    name: str
    sentence: str
    keys: tuple[Key, ...]


def configuration(settings: type[Section] = Settings) -> list[Table]:
    """List all tables in their order; LookupError where a setting has no sentence."""
    return [
        Table(name, inspect.cleandoc(kind.__doc__ or ""), tuple(_keys(name, kind)))
        for name, kind in _sections(settings)
    ]


def _sections(settings: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    for name, hint in get_type_hints(settings).items():
        if isinstance(hint, type) and issubclass(hint, Section):
            yield name, hint
            for below, inner in get_type_hints(hint).items():
                if of_sections(inner):
                    yield f"{name}.{below}.NAME", get_args(inner)[1]
        else:
            yield AGENT, get_args(hint)[1]


def of_sections(hint: Any) -> bool:
    """Tell whether a setting is a table of tables, which have entries of their own."""
    inner = get_args(hint)[1:2]
    return bool(inner) and isinstance(inner[0], type) and issubclass(inner[0], Section)


def _keys(table: str, kind: type[Section]) -> Iterator[Key]:
    defaults = kind()
    for name, hint in get_type_hints(kind, include_extras=True).items():
        metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if of_sections(bare):
            continue
        yield Key(
            name=name,
            type=_type(bare),
            default=_toml(getattr(defaults, name)),
            sentence=_sentence(f"{table}.{name}", metas),
            choices=tuple(choice for choice in get_args(bare) if isinstance(choice, str)),
            limits=", ".join(_limits(metas)),
            variable=f"{PREFIX}{table}__{name}".upper().replace(".", "__"),
        )


def _sentence(place: str, metas: list[Meta]) -> str:
    told = [meta.description for meta in metas if meta.description]
    if not told:
        raise LookupError(f"the setting {place} has no sentence")
    return told[0]


def _limits(metas: list[Meta]) -> Iterator[str]:
    signs = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    for meta in metas:
        for limit, words in signs.items():
            if (value := getattr(meta, limit)) is not None:
                yield f"{words} {value:g}"


def _type(bare: Any) -> str:
    if bare in TYPES:
        return TYPES[bare]
    if get_origin(bare) is tuple:
        return "list of text"
    if get_origin(bare) is dict:
        return "table of text"
    return "one of"


def _toml(value: Any) -> str:
    return "{}" if isinstance(value, dict) else msgspec.json.encode(value).decode()
