"""The page at /docs: a guide, and everything that is declared; one file that needs no other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import chain
from typing import NamedTuple

from daemon import __version__
from daemon.core.events import Command, Event
from daemon.core.registry import Registry
from daemon.reference import lists
from daemon.reference.asyncapi import ASKED
from daemon.reference.configuration import configuration
from daemon.reference.docstrings import first_line, rest
from daemon.reference.examples import COMMANDS, EVENTS, REQUESTS, Data
from daemon.reference.markup import (
    Links,
    anchor,
    block,
    chapters,
    code,
    escape,
    heading,
    inline,
    paragraphs,
    rendered,
    table,
)
from daemon.reference.routes import DOORS, Route, command_route, grant_of
from daemon.reference.schemas import REF, Schema, Schemas, schemas_of


class Chapter(NamedTuple):
    """One part of the page; `entries` are the links below it in the contents."""

    title: str
    html: str
    entries: tuple[tuple[str, str], ...] = ()


def page(registry: Registry) -> str:
    """Write the page; LookupError where something that is declared is not described."""
    book = Book(registry)
    parts = list(chain(book.guide(), book.reference()))
    body = "\n".join(_section(part) for part in parts)
    contents = "\n".join(_contents(part) for part in parts)
    return (
        guide("page.html")
        .replace("{{style}}", guide("page.css"))
        .replace("{{script}}", guide("page.js"))
        .replace("{{version}}", escape(__version__))
        .replace("{{contents}}", contents)
        .replace("{{body}}", body)
    )


def guide(name: str = "guide.md") -> str:
    """Read one of the files beside this module that are written by hand."""
    return (resources.files("daemon.reference") / name).read_text(encoding="utf-8")


def _section(part: Chapter) -> str:
    id_ = anchor(part.title)
    return (
        f'<section aria-labelledby="{id_}">\n{heading(2, escape(part.title), id_)}\n'
        f"{part.html}\n</section>"
    )


def _contents(part: Chapter) -> str:
    link = f'<a href="#{anchor(part.title)}">{escape(part.title)}</a>'
    if not part.entries:
        return f"<li>{link}</li>"
    below = "".join(
        f'<li><a href="#{escape(id_)}">{escape(name)}</a></li>' for name, id_ in part.entries
    )
    return f"<li>{link}<ul>{below}</ul></li>"


def _entries(title: str, kind: str, told: Iterable[tuple[str, str]]) -> Chapter:
    """Put entries, each a name and its HTML, into a chapter."""
    found = list(told)
    articles = [
        f'<article class="entry">\n{heading(3, code(name), f"{kind}-{name}")}\n{text}\n</article>'
        for name, text in found
    ]
    links = tuple((name, f"{kind}-{name}") for name, _ in found)
    return Chapter(title, "\n".join(articles), links)


class Book:
    """The chapters of the page, all from one registry."""

    def __init__(self, registry: Registry) -> None:
        """Describe the structures once, and know what is explained where."""
        self.registry = registry
        self.schemas = _schemas(registry)
        self.links = _links(registry, self.schemas)

    def guide(self) -> Iterator[Chapter]:
        """Yield the chapters that are written by hand."""
        for title, text in chapters(guide()):
            yield Chapter(title, rendered(text, self.links))

    def reference(self) -> Iterator[Chapter]:
        """Yield the chapters that the code writes."""
        events, commands = (
            sorted(self.registry.events.items()),
            sorted(self.registry.commands.items()),
        )
        yield _entries("Events", "event", ((name, self._event(event)) for name, event in events))
        yield _entries(
            "Commands", "command", ((name, self._command(each)) for name, each in commands)
        )
        yield _entries("Requests to the connection", "request", self._requests())
        yield Chapter("HTTP routes", lists.doors(self.links))
        yield _entries("Structures", "struct", self._structures())
        yield Chapter("Error codes", lists.errors(self.links))
        yield Chapter("Close codes", lists.close_codes(self.links))
        yield Chapter("Settings", lists.settings(self.links), lists.setting_entries())
        yield Chapter("Metrics", lists.metrics())

    def _event(self, event: type[Event]) -> str:
        info = event.__event__
        on = " ".join(f"<code>{escape(each.text)}</code>" for each in info.channels)
        facts = f'<p class="facts">Told on {on or "the connection, to you alone"}</p>'
        return self._told(event, facts, ("data", EVENTS.get(info.name)))

    def _command(self, command: type[Command]) -> str:
        known = COMMANDS.get(command.__command__.name)
        return self._told(
            command,
            self._command_facts(command, command_route(self.registry, command)),
            ("data", known.data if known else None),
            ("answer", known.answer if known else None),
        )

    def _command_facts(self, command: type[Command], route: Route) -> str:
        answer = self.schemas.names[command.__command__.answer]
        return (
            f'<p class="facts">Needs <code>{escape(grant_of(command))}</code>. '
            f"HTTP <code>{route.method} {escape(route.path)}</code>. "
            f'Answers <a href="#struct-{answer}"><code>{answer}</code></a>.</p>'
        )

    def _requests(self) -> Iterator[tuple[str, str]]:
        for asked in ASKED:
            answers = " or ".join(f"`{name}`" for name in asked.answers)
            fields = self._fields(self.schemas.of(asked.data)) if asked.data else ""
            told = (
                f"<p>{inline(asked.sentence, self.links)}</p>",
                f'<p class="facts">Answered by {inline(answers, self.links)}</p>',
                fields,
                _example("message", REQUESTS[asked.name]),
            )
            yield asked.name, "\n".join(each for each in told if each)

    def _structures(self) -> Iterator[tuple[str, str]]:
        """Yield what messages and answers hold, but not the messages themselves."""
        for struct, name in sorted(self.schemas.names.items(), key=lambda each: each[1]):
            if not hasattr(struct, "__event__") and not hasattr(struct, "__command__"):
                yield name, self._told(struct, "")

    def _told(self, struct: type, facts: str, *examples: tuple[str, Data | None]) -> str:
        """Describe a structure: its sentence, the facts, the rest, its fields and examples."""
        shown = [_example(title, data) for title, data in examples if data is not None]
        return "\n".join(
            part
            for part in (
                f"<p>{inline(first_line(struct), self.links)}</p>",
                facts,
                paragraphs(rest(struct), self.links),
                self._fields(self.schemas.of(struct)),
                *shown,
            )
            if part
        )

    def _fields(self, schema: Schema) -> str:
        if not schema["properties"]:
            return ""
        required = schema.get("required", ())
        rows = (
            (
                code(name),
                self._type(field),
                "required" if name in required else _default(field),
                inline(field.get("description", ""), self.links),
            )
            for name, field in schema["properties"].items()
        )
        return table(("Field", "Type", "If left out", "Meaning"), rows, kind="fields")

    def _type(self, schema: Schema) -> str:
        """Say the type of a field, as HTML."""
        if "$ref" in schema:
            name = str(schema["$ref"]).removeprefix(REF)
            return f'<a href="#struct-{name}">{name}</a>'
        if "anyOf" in schema:
            choices = [each for each in schema["anyOf"] if each != {"type": "null"}]
            return " or ".join(map(self._type, choices))
        if "enum" in schema:
            return " or ".join(f"<code>{escape(str(choice))}</code>" for choice in schema["enum"])
        if schema.get("type") == "array":
            return f"list of {self._type(schema.get('items', {}))}"
        if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {self._type(schema['additionalProperties'])}"
        return escape(f"{schema.get('type', 'any JSON')}{_limits(schema)}")


def _limits(schema: Schema) -> str:
    """Say what a value may be, as in ` (1 to 500)`."""
    least, most = schema.get("minimum"), schema.get("maximum")
    told = [f"{least} to {most}"] if least is not None and most is not None else []
    if least is not None and most is None:
        told.append(f"from {least}")
    if "exclusiveMinimum" in schema:
        told.append(f"more than {schema['exclusiveMinimum']}")
    if "maxLength" in schema:
        told.append(f"at most {schema['maxLength']} characters")
    pieces = [_limits(each).strip(" ()") for each in schema.get("anyOf", ())]
    told += [each for each in pieces if each]
    return f" ({', '.join(told)})" if told else ""


def _default(schema: Schema) -> str:
    """Say what a field that is left out means."""
    default = schema.get("default")
    empty = default is None or default in ({}, [], "")
    return "optional" if empty else f"<code>{escape(json.dumps(default))}</code>"


def _example(title: str, data: Data) -> str:
    shown = block(json.dumps(data, indent=2, ensure_ascii=False), language="json")
    return f"<details><summary>Example: {title}</summary>{shown}</details>"


def _schemas(registry: Registry) -> Schemas:
    """Describe everything that the page shows: messages, answers and what the doors give."""
    commands = registry.commands.values()
    of_doors = [
        each
        for route in DOORS
        for each in (route.body, *(reply.content for reply in route.replies))
    ]
    shown = (
        *registry.events.values(),
        *commands,
        *(command.__command__.answer for command in commands),
        *(asked.data for asked in ASKED),
        *of_doors,
    )
    return schemas_of(each for each in shown if isinstance(each, type))


def _links(registry: Registry, schemas: Schemas) -> Links:
    """Know where each name is explained that a sentence may have in backticks."""
    links = {name: f"event-{name}" for name in registry.events}
    links |= {name: f"command-{name}" for name in registry.commands}
    links |= {asked.name: f"request-{asked.name}" for asked in ASKED}
    links |= {
        f"[{table.name}] {key.name}": f"setting-{table.name}.{key.name}"
        for table in configuration()
        for key in table.keys
    }
    return links | {name: f"struct-{name}" for name in schemas.names.values()}
