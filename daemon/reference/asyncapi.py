"""The AsyncAPI 3.0 document: every message of /ws, in both directions, by channel."""

from __future__ import annotations

from typing import Any, NamedTuple

from daemon import __version__
from daemon.core.channels import GLOBAL
from daemon.core.events import ChannelTemplate, Command, Event
from daemon.core.registry import Registry
from daemon.reference.docstrings import first_line, rest, wire_name
from daemon.reference.examples import COMMANDS, EVENTS, REQUESTS, TS
from daemon.reference.openapi import bearer
from daemon.reference.routes import CHANNEL, grant_of, refusals
from daemon.reference.schemas import Schema, Schemas, rewritten, schemas_of
from daemon.web.close import CloseCode
from daemon.web.messages import ID_BYTES, Authenticate, Subscribe

INTRODUCTION = """\
Everything that passes over `GET /ws` of the agentcmd daemon: text frames, one JSON message each.

The daemon sends `{"channel", "type", "data"}`; an event of a channel has its `offset` (1, 2, 3 \
and so on, without holes) and its `ts` too, and the answer to a request has the request's `id`. A \
client sends `{"id", "type", "channel", "data"}`, of which only `type` must be there. A command \
named `x.y` is answered by `x.y.ok`, or by `global.error`.

Introduce yourself with the header `Authorization: Bearer TOKEN`, the subprotocol pair \
`agentcmd.v1`, `bearer.TOKEN`, or a first message `auth`."""


class Asked(NamedTuple):
    """A request to the connection itself: its data, and what it is answered with."""

    name: str
    data: type | None
    answers: tuple[str, ...]
    sentence: str


ASKED = (
    Asked(
        "subscribe",
        Subscribe,
        ("global.subscription_success", "global.subscription_error"),
        "Follow a channel or a pattern; with `since`, what was missed comes first.",
    ),
    Asked(
        "unsubscribe",
        Subscribe,
        ("global.unsubscribed", "global.subscription_error"),
        "Follow it no longer.",
    ),
    Asked("ping", None, ("global.pong",), "Ask for a sign of life; any data comes back."),
    Asked(
        "auth",
        Authenticate,
        ("global.authenticated", "global.error"),
        "Give a token: the first one, or a fresh one of the same user before the old one expires.",
    ),
)
"""What a client may say besides the commands."""

MESSAGES = "#/components/messages/"


def asyncapi(registry: Registry) -> dict[str, Any]:
    """Write the document for what a registry declares."""
    schemas = schemas_of(_structs(registry))
    commands = sorted(registry.commands.items())
    messages = {name: _event(event, schemas) for name, event in sorted(registry.events.items())}
    messages |= {asked.name: _asked(asked, schemas) for asked in ASKED}
    for name, command in commands:
        messages[name] = _command(command, schemas)
        messages[f"{name}.ok"] = _answer(command, schemas)
    channels = _channels(registry)
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": "application/json",
        "servers": {"local": _server()},
        "channels": channels,
        "operations": _operations(registry, channels),
        "components": {"messages": messages, "securitySchemes": {"bearer": bearer()}},
    }
    document["components"]["schemas"] = schemas.mentioned(document)
    result: dict[str, Any] = rewritten(document, _as_asyncapi)
    return result


def _structs(registry: Registry) -> list[type]:
    commands = registry.commands.values()
    asked = [each.data for each in ASKED if each.data is not None]
    return [
        *registry.events.values(),
        *commands,
        *(command.__command__.answer for command in commands),
        *asked,
    ]


def _info() -> dict[str, Any]:
    errors = [(error.code, first_line(error)) for each in refusals().values() for error in each]
    closes = [(f"{int(code)}", code.meaning) for code in CloseCode]
    codes = "\n".join(f"- `{code}`: {meaning}" for code, meaning in sorted(errors))
    ends = "\n".join(f"- `{code}`: {meaning}" for code, meaning in closes)
    return {
        "title": "agentcmd",
        "version": __version__,
        "description": f"{INTRODUCTION}\n\nError codes:\n\n{codes}\n\nClose codes:\n\n{ends}",
        "license": {"name": "MIT"},
        "x-agentcmd-error-codes": dict(sorted(errors)),
        "x-agentcmd-close-codes": dict(closes),
    }


def _server() -> dict[str, Any]:
    return {
        "host": "127.0.0.1:4100",
        "pathname": "/ws",
        "protocol": "ws",
        "description": "The daemon of this machine, with its default settings.",
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
    }


# Channels and operations


def _key(template: ChannelTemplate) -> str:
    """Name a kind of channel: `session:{session_id}` is `session`.

    One that is single bears its own name with `.log`, which tells `global` from the connection.
    """
    name = template.prefix.rstrip(":").replace(":", ".")
    return name if template.field else f"{name}.log"


def _channels(registry: Registry) -> dict[str, Any]:
    """Describe the connection itself, and each kind of channel that an event is told on."""
    named = [*registry.commands, *(f"{name}.ok" for name in registry.commands)]
    named += [asked.name for asked in ASKED]
    named += [name for name, event in registry.events.items() if not event.__event__.channels]
    channels = {
        GLOBAL: {
            "address": GLOBAL,
            "title": "The connection itself",
            "description": "What you ask for and the answers to it; no event of a channel.",
            "messages": _refs(named),
        }
    }
    templates: dict[str, tuple[ChannelTemplate, list[str]]] = {}
    for name, event in registry.events.items():
        for template in event.__event__.channels:
            templates.setdefault(_key(template), (template, []))[1].append(name)
    for key, (template, names) in sorted(templates.items()):
        channels[key] = _channel(key, template, names, registry)
    return channels


def _channel(
    key: str, template: ChannelTemplate, names: list[str], registry: Registry
) -> dict[str, Any]:
    if not template.field:
        return {
            "address": template.prefix,
            "title": f"The channel {template.prefix}",
            "description": f"A log of the daemon's own: subscribe to `{template.prefix}`.",
            "messages": _refs(names),
        }
    event = registry.events[names[0]]
    field = wire_name(event, template.field)
    return {
        "address": f"{template.prefix}{{{field}}}",
        "title": f"A {key}",
        "description": f"A log of events: subscribe to `{template.prefix}ID`, and to "
        f"`{template.prefix}*` for all of them, live.",
        "parameters": {field: {"description": "Letters, digits, `_`, `-`, `.`; 128 at most."}},
        "messages": _refs(names),
    }


def _refs(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"{MESSAGES}{name}"} for name in sorted(names)}


def _operations(registry: Registry, channels: dict[str, Any]) -> dict[str, Any]:
    """Say who sends what: the daemon receives requests, and sends events."""
    operations = {
        f"events.{key}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "summary": f"Events of a {key}, to everyone who has subscribed.",
            "messages": [{"$ref": f"#/channels/{key}/messages/{name}"} for name in of["messages"]],
        }
        for key, of in channels.items()
        if key != GLOBAL
    }
    unasked = ("global.connected", "global.draining", "global.token_expiring", "global.error")
    operations["unasked"] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{GLOBAL}"},
        "summary": "What every client is told unasked.",
        "messages": _on_connection(*(name for name in unasked if name in registry.events)),
    }
    for asked in ASKED:
        operations[asked.name] = _request(asked.name, asked.sentence, asked.answers)
    for name, command in sorted(registry.commands.items()):
        operation = _request(name, first_line(command), (f"{name}.ok", "global.error"))
        operations[name] = operation | {"x-agentcmd-grant": grant_of(command)}
    return operations


def _request(name: str, summary: str, answers: tuple[str, ...]) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{GLOBAL}"},
        "summary": summary,
        "messages": _on_connection(name),
        "reply": {
            "channel": {"$ref": f"#/channels/{GLOBAL}"},
            "messages": _on_connection(*answers),
        },
    }


def _on_connection(*names: str) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/{GLOBAL}/messages/{name}"} for name in names]


# Messages


def _event(event: type[Event], schemas: Schemas) -> dict[str, Any]:
    """Describe an event: one of a channel has its place there, one of the connection has none."""
    name = event.__event__.name
    data = schemas.ref(event) if event.__struct_fields__ else {}
    told = event.__event__.channels
    fields: dict[str, Schema] = {"channel": CHANNEL, "type": {"const": name}, "data": data}
    example: dict[str, Any] = {"channel": GLOBAL, "type": name, "data": EVENTS.get(name)}
    if told:
        fields |= {"offset": {"type": "integer", "minimum": 1}, "ts": {"type": "number"}}
        field = told[0].field and wire_name(event, told[0].field)
        known = EVENTS.get(name, {}).get(field, "")
        example |= {"channel": f"{told[0].prefix}{known}", "offset": 7, "ts": TS}
        required = list(fields)
    else:
        required = list(fields)
        fields |= {"id": ID}
    message = _message(name, first_line(event), rest(event), fields, required)
    return message | _examples(example, known=name in EVENTS)


ID: Schema = {
    "type": ["string", "number"],
    "description": f"What you choose, at most {ID_BYTES} bytes of JSON; the answer repeats it.",
}


def _sent(name: str, data: Schema, *, needed: bool) -> tuple[dict[str, Schema], list[str]]:
    fields: dict[str, Schema] = {
        "id": ID,
        "type": {"const": name},
        "channel": CHANNEL,
        "data": data,
    }
    return fields, ["type", "data"] if needed else ["type"]


def _asked(asked: Asked, schemas: Schemas) -> dict[str, Any]:
    data = schemas.ref(asked.data) if asked.data else {}
    needed = asked.data is not None and "required" in schemas.of(asked.data)
    fields, required = _sent(asked.name, data, needed=needed)
    message = _message(asked.name, asked.sentence, "", fields, required)
    return message | _examples(REQUESTS[asked.name], known=True)


def _command(command: type[Command], schemas: Schemas) -> dict[str, Any]:
    name = command.__command__.name
    needed = "required" in schemas.of(command)
    fields, required = _sent(name, schemas.ref(command), needed=needed)
    message = _message(name, first_line(command), rest(command), fields, required)
    known = COMMANDS.get(name)
    example = {"id": 1, "type": name, "data": known.data} if known else {}
    return message | _examples(example, known=known is not None)


def _answer(command: type[Command], schemas: Schemas) -> dict[str, Any]:
    name = f"{command.__command__.name}.ok"
    answer = command.__command__.answer
    fields: dict[str, Schema] = {
        "channel": CHANNEL,
        "type": {"const": name},
        "data": schemas.ref(answer),
        "id": ID,
    }
    message = _message(name, first_line(answer), rest(answer), fields, ["channel", "type", "data"])
    known = COMMANDS.get(command.__command__.name)
    example = {"channel": GLOBAL, "type": name, "data": known.answer, "id": 1} if known else {}
    return message | _examples(example, known=known is not None)


def _message(
    name: str, summary: str, description: str, fields: dict[str, Schema], required: list[str]
) -> dict[str, Any]:
    message: dict[str, Any] = {"name": name, "title": name, "summary": summary}
    if description:
        message["description"] = description
    message["payload"] = {"type": "object", "properties": fields, "required": required}
    return message


def _examples(payload: dict[str, Any], *, known: bool) -> dict[str, Any]:
    return {"examples": [{"payload": payload}]} if known else {}


def _as_asyncapi(schema: Schema) -> Schema:
    """Write a schema as AsyncAPI's own kind of them: a discriminator is a name there."""
    if isinstance(schema.get("discriminator"), dict):
        return schema | {"discriminator": schema["discriminator"]["propertyName"]}
    return schema
