"""Declarations: a name, channels with one field, and a shape on the wire."""

from __future__ import annotations

import msgspec
import pytest

from daemon.app import build_registry
from daemon.core.events import Answer, ChannelTemplate, Command, Event, command, event


@event("session.done", "session:{session_id}", "global")
class Done(Event):
    """A test's event."""

    session_id: str
    exit_code: int | None = None


@command("session.stop", action="write", answer=Answer, channel="session:{session_id}")
class Stop(Command):
    """A test's command."""

    session_id: str
    at_once: bool = False


def test_a_declaration_notes_its_name_and_channels_and_changes_nothing_else():
    done = Done(session_id="1")
    assert Done.__event__.name == "session.done"
    assert [template.of(done) for template in Done.__event__.channels] == ["session:1", "global"]
    assert Stop.__command__.channel.of(Stop(session_id="2")) == "session:2"


def test_fields_are_camel_case_on_the_wire_and_defaults_are_left_out():
    assert msgspec.json.encode(Done(session_id="1")) == b'{"sessionId":"1"}'
    assert msgspec.json.encode(Done(session_id="1", exit_code=0)).endswith(b'"exitCode":0}')
    assert msgspec.json.decode(b'{"sessionId":"1","atOnce":true}', type=Stop).at_once


def test_an_event_of_a_newer_daemon_may_say_more_and_a_command_may_not():
    assert msgspec.json.decode(b'{"sessionId":"1","more":1}', type=Done).session_id == "1"
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"sessionId":"1","more":1}', type=Stop)


def test_declared_structures_cannot_be_changed():
    with pytest.raises(AttributeError):
        Done(session_id="1").session_id = "2"
    assert issubclass(Answer, msgspec.Struct)


@pytest.mark.parametrize("text", ["session:{}", "{a}:{b}", "session:{a}:x", "a{b", "A:{b}"])
def test_a_template_that_is_no_prefix_and_field_is_refused_at_once(text):
    with pytest.raises(ValueError, match=r"one \{field\}"):
        ChannelTemplate(text)


def test_a_template_reads_as_its_text():
    assert (
        repr(ChannelTemplate("session:{session_id}")) == "ChannelTemplate('session:{session_id}')"
    )


def test_every_channel_of_what_the_domains_declare_can_be_filled_in():
    registry = build_registry()
    for declared in registry.events.values():
        told_to_one_connection = declared.__event__.name.startswith("global.")
        assert bool(declared.__event__.channels) is not told_to_one_connection, declared
        for template in declared.__event__.channels:
            assert not template.field or template.field in declared.__struct_fields__, declared
    for asked in registry.commands.values():
        template = asked.__command__.channel
        if template is not None and template.field:
            assert template.field in asked.__struct_fields__, asked
        assert asked.__command__.action in {"read", "write", "admin"}
