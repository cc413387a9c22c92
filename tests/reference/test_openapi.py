"""The OpenAPI document: valid, complete, and of routes that a real daemon serves."""

from __future__ import annotations

import re

import jsonschema
import pytest
from aiohttp.test_utils import make_mocked_request
from openapi_spec_validator import OpenAPIV31SpecValidator

from daemon.app import build_registry
from daemon.core.channels import is_id
from daemon.core.errors import error_classes
from daemon.reference.docstrings import first_line, rest
from daemon.reference.openapi import openapi
from daemon.reference.routes import DOORS, ID, command_route
from daemon.reference.schemas import references

NOT_IN_IT = {"/", "/ws", "/docs/"}
"""Served, and told elsewhere: the console, what AsyncAPI describes, another spelling."""


@pytest.fixture(scope="module")
def document():
    return openapi(build_registry())


def operations(document):
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_its_validator_finds_nothing(document):
    OpenAPIV31SpecValidator(document).validate()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere(document):
    for ref in set(references(document)):
        place = document
        for step in ref.removeprefix("#/").split("/"):
            assert step in place, ref
            place = place[step]


def test_every_command_is_one_operation_with_its_words(document):
    found = {operation["operationId"]: operation for _, _, operation in operations(document)}
    registry = build_registry()
    assert found.keys() == {*registry.commands, *(route.name for route in DOORS)}
    for name, command in registry.commands.items():
        operation = found[name]
        assert operation["summary"] == first_line(command)
        assert operation.get("description", "") == rest(command)
        assert operation["x-agentcmd-command"] == name
        assert operation["x-agentcmd-grant"].startswith(command.__command__.action)
        assert operation["tags"] == [name.partition(".")[0]]
    assert {tag["name"] for tag in document["tags"]} == {op["tags"][0] for op in found.values()}


@pytest.mark.parametrize(
    ("name", "method", "path"),
    [
        ("session.list", "GET", "/api/sessions"),
        ("session.get", "GET", "/api/sessions/{id}"),
        ("session.messages", "GET", "/api/sessions/{id}/messages"),
        ("session.create", "POST", "/api/sessions"),
        ("project.add", "POST", "/api/projects"),
        ("session.cancel", "POST", "/api/sessions/{id}/cancel"),
        ("session.import", "POST", "/api/sessions/import"),
        ("system.status", "POST", "/api/systems/status"),
    ],
)
def test_a_command_has_its_place(document, name, method, path):
    assert document["paths"][path][method.lower()]["operationId"] == name


def test_what_stands_in_the_path_is_asked_for_nowhere_else(document):
    cancel = document["paths"]["/api/sessions/{id}/cancel"]["post"]
    assert "requestBody" not in cancel
    send = document["paths"]["/api/sessions/{id}/send_message"]["post"]["requestBody"]
    body = send["content"]["application/json"]["schema"]
    assert (body["required"], send["required"]) == (["content"], True)
    assert "sessionId" not in body["properties"]
    listed = document["paths"]["/api/sessions/{id}/messages"]["get"]["parameters"]
    assert [each["name"] for each in listed] == ["id", "cursor", "limit"]


def test_a_query_is_typed_with_its_limits(document):
    listed = document["paths"]["/api/sessions"]["get"]["parameters"]
    schemas = {each["name"]: each["schema"] for each in listed}
    assert schemas["limit"] == {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}
    assert schemas["state"] == {"type": "string"}
    assert not any(each["required"] for each in listed)


def test_what_creates_says_where_it_is_and_what_can_be_done_with_it(document):
    created = document["paths"]["/api/sessions"]["post"]["responses"]["201"]
    assert "Location" in created["headers"]
    assert created["links"]["session.cancel"]["parameters"] == {"id": "$response.body#/sessionId"}
    assert created["links"].keys() <= build_registry().commands.keys()


@pytest.mark.parametrize("text", ["a", "A-b_c.9", "x" * 128, "", "x" * 129, "a/b", "a b", "ä"])
def test_an_id_is_what_the_daemon_takes_for_one(text):
    assert bool(re.search(ID["pattern"], text)) == is_id(text)


def test_every_error_code_is_told_with_its_status(document):
    told = {}
    for name, response in document["components"]["responses"].items():
        schema = response["content"]["application/json"]["schema"]
        for code in schema["properties"]["error"]["properties"]["code"]["enum"]:
            told[code] = int(name.removeprefix("Refused"))
            assert f"- `{code}`: " in response["description"]
    assert told == {cls.code: int(cls.status) for cls in error_classes()}


def test_every_operation_says_what_it_can_be_refused_with(document):
    for method, path, operation in operations(document):
        statuses = operation["responses"].keys()
        assert {"403", "500"} <= statuses, path
        guarded = operation.get("security") is None
        assert not guarded or "401" in statuses, path
        assert method == "GET" or {"400", "413"} <= statuses, path


# Of a real daemon


async def test_every_operation_is_served_by_the_router(running, document):
    router = running.daemon._runner.app.router
    for method, path, _ in operations(document):
        match = await router.resolve(make_mocked_request(method, filled(path)))
        assert match.http_exception is None, path


async def test_every_route_is_in_the_document(running, document):
    known = {(method, path) for method, path, _ in operations(document)}
    shapes = {(method, shape(path)) for method, path in known}
    for route in running.daemon._runner.app.router.routes():
        path = route.resource.canonical if route.resource else ""
        if route.method in ("HEAD", "*") or path in NOT_IN_IT or path.startswith("/socket.io"):
            continue
        generic = path.startswith("/api/{resource}")
        assert (route.method, shape(path) if generic else path) in (shapes if generic else known)


async def test_every_command_is_carried_out_where_the_document_says(running, document, monkeypatch):
    carried_out = []

    def noted(name, *_):
        carried_out.append(name)
        raise ValueError

    monkeypatch.setattr(running.daemon._dispatcher, "call", noted)
    monkeypatch.setattr(running.daemon._dispatcher, "call_with", noted)
    registry = build_registry()
    for name, command in sorted(registry.commands.items()):
        route = command_route(registry, command)
        assert document["paths"][route.path][route.method.lower()]["operationId"] == name
        async with running.http.request(
            route.method, running.url + filled(route.path), headers=running.headers()
        ) as response:
            assert response.status == 500
    assert carried_out == sorted(build_registry().commands)


async def test_what_needs_a_token_says_so(running, document):
    for method, path, operation in operations(document):
        async with running.http.request(method, running.url + filled(path)) as response:
            assert (response.status == 401) == (operation.get("security") is None), path
            assert str(response.status) in operation["responses"], path


def filled(path):
    values = {"id": "none", "channel": "session:none", "offset": "1"}
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)


def shape(path):
    """Tell a path by the number of its parts, as the routes of the commands do."""
    parts = path.split("/")
    generic = parts[:2] == ["", "api"]
    return tuple(parts[:2]) + ("*",) * len(parts[2:]) if generic else path
