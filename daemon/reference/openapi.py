"""The OpenAPI 3.1 document: every route with what it takes, gives, and can be refused with."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from daemon import __version__
from daemon.core.events import Command
from daemon.core.registry import Registry
from daemon.reference.docstrings import first_line, wire_name
from daemon.reference.examples import COMMANDS
from daemon.reference.routes import DOOR, JSON, Parameter, Reply, Route, refusals, routes
from daemon.reference.schemas import Schema, Schemas, schemas_of

INTRODUCTION = """\
Commands as resources, the history of channels, live events, health and metrics of the agentcmd \
daemon.

Every command of the WebSocket is here too, carried out by the same function: a list is `GET` on \
the collection, one thing is `GET` with its id, what creates is `POST` on the collection (201 and \
`Location`), everything else is `POST` on the thing and the command's name. Bodies and answers \
are JSON. A refusal is `{"error": {"code", "message", "details"?}}`: branch on the code. Every \
answer has an `X-Request-Id`, which the daemon's log has too; a request may bring its own.

Send `Authorization: Bearer TOKEN`; `agentcmd token` prints one. What a token must grant is in \
`x-agentcmd-grant`. The messages of `/ws` are in `/asyncapi.json`."""

BYTES: dict[str, Any] = {"type": "string", "format": "binary"}
FORM_TYPE = "multipart/form-data"
FORM: dict[str, Any] = {"type": "object", "properties": {"file": BYTES}, "required": ["file"]}
"""The bodies that are files: as they are, and in a form."""

EXTRA_HEADERS: dict[int, dict[str, Any]] = {
    201: {
        "Location": {
            "description": "The path of what was made.",
            "schema": {"type": "string", "format": "uri-reference"},
        }
    },
    401: {
        "WWW-Authenticate": {
            "description": "How to introduce yourself.",
            "schema": {"const": "Bearer"},
        }
    },
}


def openapi(registry: Registry) -> dict[str, Any]:
    """Write the document for what a registry declares."""
    served = list(routes(registry))
    schemas = schemas_of(_structs(served))
    paths: dict[str, dict[str, Any]] = {}
    for route in served:
        operation = _operation(route, schemas)
        if links := _links(route, served):
            operation["responses"]["201"]["links"] = links
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "agentcmd",
            "version": __version__,
            "summary": "Supervised agents and commands, streamed live and replayable.",
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The daemon that serves this document."}],
        "security": [{"bearer": []}],
        "tags": _tags(registry),
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"bearer": bearer()},
            "responses": {name_of(status): _refusal(status) for status in refusals()},
        },
    }
    document["components"]["schemas"] = schemas.mentioned(document)
    return document


def bearer() -> dict[str, str]:
    """Describe the token, as OpenAPI and AsyncAPI both write it."""
    return {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT, signed with the daemon's secret; `agentcmd token` prints one.",
    }


def name_of(status: int) -> str:
    """Name the response of a status; Python's own phrases change from version to version."""
    return f"Refused{status}"


def _structs(served: Iterable[Route]) -> list[type]:
    bodies = [route.body or route.command for route in served]
    contents = [reply.content for route in served for reply in route.replies]
    return [each for each in (*bodies, *contents) if isinstance(each, type)]


def _tags(registry: Registry) -> list[dict[str, str]]:
    """Describe each domain by the sentence that opens its module of commands."""
    modules = {name.partition(".")[0]: cls.__module__ for name, cls in registry.commands.items()}
    tags = [
        {"name": domain, "description": first_sentence(module)}
        for domain, module in sorted(modules.items())
    ]
    return [*tags, {"name": DOOR, "description": "What is no command: state, channels, documents."}]


def first_sentence(module: str) -> str:
    """Give the sentence that opens a module."""
    return (importlib.import_module(module).__doc__ or "").strip().split("\n")[0]


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
    }
    if route.description:
        operation["description"] = route.description
    parameters = [*route.parameters, *_query(route, schemas)]
    if parameters:
        operation["parameters"] = [_parameter(each) for each in parameters]
    if body := _body(route, schemas):
        operation["requestBody"] = body
    operation["responses"] = _responses(route, schemas)
    if route.anybody:
        operation["security"] = [{}, {"bearer": []}] if 401 in route.refusals else []
    if route.command is not None:
        operation["x-agentcmd-command"] = route.name
    if route.grant:
        operation["x-agentcmd-grant"] = route.grant
    return operation


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.sentence,
        "required": parameter.required,
        "schema": parameter.schema,
    }


def _query(route: Route, schemas: Schemas) -> list[Parameter]:
    """Turn the fields of a reading command into query parameters; its id is in the path."""
    if route.command is None or route.body is not None:
        return []
    fields = _without_id(route.command, route.id_field, schemas)
    return [
        Parameter(
            name,
            "query",
            schema.get("description", ""),
            _bare(schema),
            required=name in fields.get("required", ()),
        )
        for name, schema in fields["properties"].items()
    ]


def _bare(schema: Schema) -> Schema:
    """Take the sentence away, and null, which a query cannot say: what is absent is left out."""
    bare = {key: value for key, value in schema.items() if key != "description"}
    choices: list[Schema] = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(choices) != 1:
        return bare
    del bare["anyOf"]
    if schema.get("default", "") is None:
        del bare["default"]
    return bare | choices[0]


def _body(route: Route, schemas: Schemas) -> dict[str, Any] | None:
    """Describe what a POST takes; None where the path says all."""
    if route.file:
        files = {each: {"schema": FORM if each == FORM_TYPE else BYTES} for each in route.file}
        return {"required": True, "content": files}
    if route.body is None:
        return None
    if route.command is None:
        return {"required": True, "content": {JSON: {"schema": schemas.ref(route.body)}}}
    schema = _without_id(route.command, route.id_field, schemas)
    if not schema["properties"]:
        return None
    whole = not route.id_field
    content: dict[str, Any] = {"schema": schemas.ref(route.command) if whole else schema}
    if route.name in COMMANDS:
        id_ = wire_name(route.command, route.id_field)
        data = COMMANDS[route.name].data
        content["example"] = {key: value for key, value in data.items() if key != id_}
    return {"required": "required" in schema, "content": {JSON: content}}


def _without_id(command: type[Command], id_field: str, schemas: Schemas) -> Schema:
    """Copy a command's schema without the field that the path holds."""
    schema = dict(schemas.of(command))
    id_ = wire_name(command, id_field)
    schema["properties"] = {k: v for k, v in schema["properties"].items() if k != id_}
    required = [name for name in schema.pop("required", ()) if name != id_]
    return schema | ({"required": required} if required else {})


def _responses(route: Route, schemas: Schemas) -> dict[str, Any]:
    """Describe good answers and refusals; a 503 with an answer of its own comes first."""
    responses = {str(reply.status): _reply(route, reply, schemas) for reply in route.replies}
    for status in route.refusals:
        ref = {"$ref": f"#/components/responses/{name_of(status)}"}
        responses.setdefault(str(status), ref)
    return dict(sorted(responses.items()))


def _reply(route: Route, reply: Reply, schemas: Schemas) -> dict[str, Any]:
    response: dict[str, Any] = {"description": reply.sentence}
    if reply.status in EXTRA_HEADERS and route.command is not None:
        response["headers"] = EXTRA_HEADERS[reply.status]
    if reply.content is not None:
        known = isinstance(reply.content, type)
        schema = schemas.ref(reply.content) if isinstance(reply.content, type) else reply.content
        content: dict[str, Any] = {"schema": schema}
        if known and route.name in COMMANDS:
            content["example"] = COMMANDS[route.name].answer
        response["content"] = {reply.media: content}
    return response


def _links(route: Route, served: Iterable[Route]) -> dict[str, Any]:
    """Lead from what a command has made to all that can be done with it."""
    if route.command is None or not any(reply.status == 201 for reply in route.replies):
        return {}
    answer = route.command.__command__.answer
    id_ = wire_name(answer, f"{route.tag}_id")
    return {
        each.name: {"operationId": each.name, "parameters": {"id": f"$response.body#/{id_}"}}
        for each in served
        if each.tag == route.tag and each.id_field
    }


def _refusal(status: int) -> dict[str, Any]:
    """Describe what is answered with one status, code by code."""
    errors = refusals()[status]
    told = "\n".join(f"- `{error.code}`: {first_line(error)}" for error in errors)
    response: dict[str, Any] = {
        "description": told,
        "content": {JSON: {"schema": refusal_schema(sorted(error.code for error in errors))}},
    }
    if status in EXTRA_HEADERS:
        response["headers"] = EXTRA_HEADERS[status]
    return response


def refusal_schema(codes: list[str]) -> Schema:
    """Describe the body of a refusal with one of these codes."""
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"enum": codes, "description": "Stable, for programs."},
                    "message": {"type": "string", "description": "One sentence, for people."},
                    "details": {"type": "object", "description": "Further facts, where any."},
                },
            }
        },
    }
