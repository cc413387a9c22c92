"""What the code writes about itself: all of it is there, and a change of the code shows."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from daemon.app import build_registry
from daemon.core.events import Answer, Command, Event, command, event
from daemon.core.registry import Registry
from daemon.core.section import Section, described
from daemon.reference import ROOT, stale, written
from daemon.reference.configuration import configuration
from daemon.reference.docstrings import first_line, published, rest
from daemon.reference.fields import FIELDS
from daemon.reference.page import Book
from daemon.reference.schemas import schemas_of, sentence_of

DOCUMENTS = {"openapi.json", "asyncapi.json", "index.html"}


def test_nothing_that_is_written_differs_from_the_code():
    assert stale(ROOT) == {}
    others = {"README.md", "default.toml", "workflow.schema.json"}
    assert {path.name for path in written(ROOT)} == DOCUMENTS | others


def test_the_check_is_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "daemon.reference", "--check"],
        check=False,
        cwd=ROOT,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_renamed_field_of_an_event_is_stale_where_messages_are_told():
    @event("project.created", "project:{project_id}")
    class ProjectCreated(Event):
        """A folder became a project."""

        project_id: str
        title: str
        path: str

    registry = build_registry()
    events = registry.events | {"project.created": ProjectCreated}
    other = Registry(events.values(), registry.commands.values(), registry.nouns)
    assert {path.name for path in stale(ROOT, other)} == {"asyncapi.json", "index.html"}


def test_a_renamed_field_of_a_command_or_of_its_answer_is_stale_everywhere():
    registry = build_registry()

    class OneProject(Answer):
        """One project."""

        project: str

    @command("project.add", action="write", channel="project:*", answer=OneProject)
    class AddProject(Command):
        """Make a folder a project; one that is known already is given back as it is."""

        folder: str

    commands = registry.commands | {"project.add": AddProject}
    other = Registry(registry.events.values(), commands.values())
    assert {path.name for path in stale(ROOT, other)} == DOCUMENTS


def test_another_sentence_is_stale_also_in_the_readme():
    @event("global.pong")
    class Pong(Event):
        """The answer to a `ping`."""

    registry = build_registry()
    events = registry.events | {"global.pong": Pong}
    other = Registry(events.values(), registry.commands.values(), registry.nouns)
    assert {path.name for path in stale(ROOT, other)} == {
        "README.md",
        "asyncapi.json",
        "index.html",
    }


def test_what_has_no_docstring_cannot_be_written():
    @event("global.silent")
    class Silent(Event):
        pass

    registry = build_registry()
    other = Registry(
        (*registry.events.values(), Silent), registry.commands.values(), registry.nouns
    )
    with pytest.raises(LookupError, match="Silent has no docstring"):
        written(ROOT, other)


class Inner(Answer):
    number: int


class Outer(Answer):
    """Holds another."""

    inner: list[Inner]


def test_a_structure_inside_that_has_no_docstring_cannot_be_written():
    with pytest.raises(LookupError, match="Inner has no docstring"):
        schemas_of([Outer])


class Half(Section):
    """Half of it."""

    told: Annotated[int, described("A number")] = 1
    untold: int = 2


class All(Section):
    """All."""

    half: Half = Half()


def test_a_setting_without_a_sentence_cannot_be_written():
    with pytest.raises(LookupError, match=r"half\.untold has no sentence"):
        configuration(All)


def test_a_setting_is_told_with_its_type_limits_default_and_variable():
    keys = {f"{table.name}.{key.name}": key for table in configuration() for key in table.keys}
    port = keys["server.port"]
    assert (port.type, port.default, port.variable) == (
        "whole number",
        "4100",
        "AGENTCMD_SERVER__PORT",
    )
    assert port.limits == "at least 0, at most 65535"
    assert keys["log.level"].choices == ("debug", "info", "warning", "error")
    assert keys["server.hosts"].type == "list of text"
    assert keys["agents.NAME.env"].variable == "AGENTCMD_AGENTS__NAME__ENV"


def test_a_docstring_is_published_with_the_names_of_the_wire():
    class Told(Event):
        """The first line has `some_field`.

        The rest goes on
        over two lines with `some_field`.

        And `other_field` is none of its fields.
        """

        some_field: str

    assert first_line(Told) == "The first line has `someField`."
    assert rest(Told) == (
        "The rest goes on over two lines with `someField`.\n\n"
        "And `other_field` is none of its fields."
    )
    assert "\n    " not in published(Told)


def test_a_field_is_explained_by_its_declaration_the_docstring_or_its_name():
    class Told(Event):
        """One thing. Here `count` is how often; and `own` is not this.

        `pid` is another than elsewhere.
        """

        count: int
        own: Annotated[str, Meta(description="Said at the field.")]
        pid: int
        session_id: str
        unknown: str

    assert sentence_of(Told, "count") == "Here `count` is how often; and `own` is not this."
    assert sentence_of(Told, "own") == "Said at the field."
    assert sentence_of(Told, "pid") == "`pid` is another than elsewhere."
    assert sentence_of(Told, "session_id") == FIELDS["session_id"]
    assert sentence_of(Told, "unknown") == ""
    (schema,) = schemas_of([Told]).components.values()
    assert schema["properties"]["own"]["description"] == "Said at the field."
    assert "description" not in schema["properties"]["unknown"]


def test_every_field_that_a_client_sees_has_a_sentence():
    described = Book(build_registry()).schemas
    untold = [
        f"{struct.__name__}.{field}"
        for struct in described.names
        for field in struct.__struct_fields__
        if not sentence_of(struct, field)
    ]
    assert untold == [], "say it in the docstring, at the field, or in daemon/reference/fields.py"


def test_nothing_is_explained_that_does_not_exist():
    structs = Book(build_registry()).schemas.names
    fields = {field for struct in structs for field in struct.__struct_fields__}
    fields |= {
        f"{struct.__name__}.{field}" for struct in structs for field in struct.__struct_fields__
    }
    assert FIELDS.keys() - fields == set()


def test_a_field_with_a_default_need_not_be_sent_and_one_without_must():
    described = Book(build_registry()).schemas
    for struct in described.names:
        fields = msgspec.structs.fields(struct)
        required = {field.encode_name for field in fields if field.required}
        tag = struct.__struct_config__.tag_field
        assert set(described.of(struct).get("required", ())) == required | ({tag} if tag else set())


def test_files_are_package_data():
    text = (ROOT / "pyproject.toml").read_text()
    for folder, names in (("daemon/web/docs", DOCUMENTS), ("daemon/reference", set())):
        beside = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
        for name in names | {each for each in beside if not each.endswith(".py")}:
            assert f'{name}"' in text, f"{name} would miss from a wheel"
