"""The AsyncAPI document: valid for its official parser, and complete."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import jsonschema
import npm
import pytest
from node_client import node

from daemon.app import build_registry
from daemon.core.errors import error_classes
from daemon.reference import ROOT
from daemon.reference.asyncapi import ASKED, asyncapi
from daemon.reference.schemas import references
from daemon.web.close import CloseCode

PARSER = "@asyncapi/parser@3.6.6"
FILE = ROOT / "daemon" / "web" / "docs" / "asyncapi.json"


@pytest.fixture(scope="module")
def document():
    return asyncapi(build_registry())


async def test_the_official_parser_reads_it_without_a_complaint(document):
    folder = await asyncio.to_thread(npm.package, PARSER)
    script = Path(__file__).parent / "validate.js"
    process = await asyncio.create_subprocess_exec(
        node(), script, folder, FILE, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    told = json.loads(out)
    assert told["complaints"] == []
    assert told["read"]
    assert told["channels"] == list(document["channels"])
    assert told["messages"] == len(document["components"]["messages"])


def test_every_event_command_answer_and_request_is_a_message(document):
    registry = build_registry()
    wanted = {*registry.events, *registry.commands, *(asked.name for asked in ASKED)}
    wanted |= {f"{name}.ok" for name in registry.commands}
    messages = document["components"]["messages"]
    assert messages.keys() == wanted
    told = [name for of in document["channels"].values() for name in of["messages"]]
    assert set(told) == wanted
    for name, message in messages.items():
        assert message["summary"].endswith((".", ":")), name
        assert message["payload"]["properties"]["type"] == {"const": name}


def test_an_event_is_in_the_channels_that_it_is_told_on(document):
    for name, event in build_registry().events.items():
        on = {key for key, of in document["channels"].items() if name in of["messages"]}
        told = event.__event__.channels
        names = {c: c.prefix.rstrip(":").replace(":", ".") for c in told}
        prefixes = {name if c.field else f"{name}.log" for c, name in names.items()}
        assert on == (prefixes or {"global"}), name
    assert document["channels"]["session"]["address"] == "session:{sessionId}"
    assert document["channels"]["session"]["parameters"].keys() == {"sessionId"}


def test_only_an_event_of_a_channel_has_a_place_there(document):
    for name, event in build_registry().events.items():
        payload = document["components"]["messages"][name]["payload"]
        assert ("offset" in payload["required"]) == bool(event.__event__.channels), name
        assert ("id" in payload["properties"]) != bool(event.__event__.channels), name


def test_every_request_says_what_it_is_answered_with(document):
    operations = document["operations"]
    registry = build_registry()
    for name in (*registry.commands, *(asked.name for asked in ASKED)):
        operation = operations[name]
        assert operation["action"] == "receive"
        assert operation["reply"]["messages"], name
    for name in registry.commands:
        assert operations[name]["reply"]["messages"] == [
            {"$ref": f"#/channels/global/messages/{name}.ok"},
            {"$ref": "#/channels/global/messages/global.error"},
        ]
        assert operations[name]["x-agentcmd-grant"]
    assert all(
        operation["action"] == "send"
        for name, operation in operations.items()
        if name.startswith("events.")
    )


def test_every_error_and_close_code_is_told(document):
    info = document["info"]
    assert info["x-agentcmd-error-codes"].keys() == {cls.code for cls in error_classes()}
    assert info["x-agentcmd-close-codes"] == {str(int(c)): c.meaning for c in CloseCode}
    for code in (*info["x-agentcmd-error-codes"], *info["x-agentcmd-close-codes"]):
        assert f"- `{code}`: " in info["description"]


def test_every_reference_leads_somewhere(document):
    for ref in set(references(document)):
        place = document
        for step in ref.removeprefix("#/").split("/"):
            assert step in place, ref
            place = place[step]


def test_every_example_fits_its_message(document):
    schemas = {"components": document["components"]}
    for name, message in document["components"]["messages"].items():
        validator = jsonschema.Draft202012Validator(message["payload"] | schemas)
        for example in message["examples"]:
            validator.validate(example["payload"]), name
