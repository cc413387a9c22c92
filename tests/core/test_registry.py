"""The registry: what the domains declare, by name, and nothing by itself."""

from __future__ import annotations

import types

import pytest

from daemon.core.errors import UnknownEvent
from daemon.core.events import Answer, Command, Event, command, event
from daemon.core.registry import Registry


@event("a.done", "a:{id}")
class Done(Event):
    """A test's event."""

    id: str
    count: int = 0


@command("a.ask", action="read", answer=Answer)
class Ask(Command):
    """A test's command."""

    id: str


def module(**names):
    made = types.ModuleType("made")
    vars(made).update(names)
    return made


def test_a_domain_is_its_events_and_commands_modules():
    package = module(
        events=module(Done=Done, Event=Event, event=event, other=3),
        commands=module(Ask=Ask, Command=Command, Done=Done),
    )
    registry = Registry.of([package])
    assert registry.events == {"a.done": Done}
    assert registry.commands == {"a.ask": Ask}
    assert registry.decoders["a.ask"].decode(b'{"id":"1"}') == Ask(id="1")


def test_one_declaration_seen_twice_is_one():
    events = module(Done=Done, Same=Done)
    assert Registry.of([module(events=events)]).events == {"a.done": Done}


def test_two_commands_of_one_name_are_refused():
    @command("a.ask", action="write", answer=Answer)
    class Other(Command):
        """The same name."""

    with pytest.raises(ValueError, match=r"a\.ask is declared twice"):
        Registry([], [Ask, Other])


def test_two_registries_share_nothing():
    assert Registry([Done], []).events is not Registry([Done], []).events
    assert Registry([], []).events == {}


def test_an_event_is_made_from_its_wire_data():
    registry = Registry([Done], [])
    assert registry.event("a.done", {"id": "1", "count": 2}) == Done(id="1", count=2)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.gone", {}, "no domain declares the event 'a.gone'"),
        ("a.done", {}, "a.done: .*missing required field `id`"),
        ("a.done", {"id": 1}, "a.done: Expected `str`, got `int`"),
        ("a.done", {"id": "1", "count": "x"}, r"\$.count"),
        ("a.done", None, "a.done: Expected `object`"),
        ("a.done", "text", "a.done: Expected `object`"),
    ],
)
def test_what_does_not_fit_is_an_unknown_event_with_the_reason(name, data, told):
    with pytest.raises(UnknownEvent, match=told):
        Registry([Done], []).event(name, data)
