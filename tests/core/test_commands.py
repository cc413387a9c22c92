"""The dispatch table: decode, authorise, carry out; every refusal has its code."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.commands import Caller, Dispatcher, as_bytes, handles
from daemon.core.errors import (
    BadRequest,
    Forbidden,
    Unavailable,
    UnknownCommand,
)
from daemon.core.events import Answer, Command, command
from daemon.core.registry import Registry


class Done(Answer):
    """What was done."""

    thing_id: str
    size: int


@command("thing.change", action="write", answer=Done, channel="thing:{thing_id}")
class Change(Command):
    """Change a thing."""

    thing_id: str
    size: int = 0


@command("thing.look", action="read", answer=Done)
class Look(Command):
    """Look at things."""


class Service:
    """Carries the commands out."""

    @handles(Change)
    def change(self, asked, _):
        return Done(thing_id=asked.thing_id, size=asked.size)

    @handles(Look)
    async def look(self, _, caller):
        caller.require("read", "thing:7")
        return Done(thing_id="7", size=0)

    def unmarked(self):
        raise AssertionError


def caller(*grants):
    pairs = (grant.split(":", 1) for grant in grants)
    return Caller(sub="u", grants=tuple((a, c) for a, c in pairs), expires_at=0.0)


EVERYTHING = caller("read:*", "write:*", "admin:*")


def dispatcher(ready=lambda: None):
    made = Dispatcher(Registry([], [Change, Look]), ready=ready)
    made.bind(Service())
    made.check()
    return made


async def test_a_command_is_decoded_and_carried_out_by_the_marked_method():
    answer = dispatcher().call("thing.change", b'{"thingId":"1","size":3}', EVERYTHING)
    assert answer == Done(thing_id="1", size=3)
    assert await dispatcher().call("thing.look", b"{}", EVERYTHING) == Done(thing_id="7", size=0)


def test_values_written_as_text_are_read_as_numbers():
    answer = dispatcher().call_with("thing.change", {"thingId": "1", "size": "3"}, EVERYTHING)
    assert answer == Done(thing_id="1", size=3)
    with pytest.raises(BadRequest, match=r"thing.change: .*size"):
        dispatcher().call_with("thing.change", {"thingId": "1", "size": "many"}, EVERYTHING)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "thing.change"),
        (b"{", "thing.change"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"{}", "thingId"),
        (b'{"thingId":1}', "thingId"),
        (b'{"thingId":"1","size":"3"}', "size"),
        (b'{"thingId":"1","size":1.5}', "size"),
        (b'{"thingId":"1","more":1}', "more"),
        (b'{"thingId":"\xff"}', "thing.change"),
        (b'{"thingId":"1","size":' + b"[" * 100_000, "thing.change"),
        (b'{"thingId":"1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "thing.change"),
    ],
)
def test_data_that_does_not_fit_is_a_bad_request_that_names_command_and_place(data, told):
    with pytest.raises(BadRequest, match=told):
        dispatcher().call("thing.change", data, EVERYTHING)


@given(st.binary(max_size=200))
def test_whatever_comes_is_carried_out_or_a_bad_request(data):
    with contextlib.suppress(BadRequest):
        assert isinstance(dispatcher().call("thing.change", data, EVERYTHING), Done)


def test_an_unknown_command_says_what_exists_and_is_not_echoed_at_length():
    with pytest.raises(UnknownCommand, match=r"there is: thing\.change, thing\.look") as caught:
        dispatcher().call("x" * 10_000, b"{}", EVERYTHING)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("grants", "allowed"),
    [
        (["write:*"], True),
        (["write:thing:*"], True),
        (["write:thing:1"], True),
        (["write:thing:2"], False),
        (["read:*", "admin:*"], False),
        (["write:other:*"], False),
        ([], False),
    ],
)
def test_a_command_needs_its_action_on_its_channel(grants, allowed):
    if allowed:
        dispatcher().call("thing.change", b'{"thingId":"1"}', caller(*grants))
    else:
        with pytest.raises(Forbidden, match="--scope 'write:thing:1'"):
            dispatcher().call("thing.change", b'{"thingId":"1"}', caller(*grants))


async def test_a_handler_without_a_channel_asks_the_caller_itself():
    with pytest.raises(Forbidden, match="read:thing:7"):
        await dispatcher().call("thing.look", b"{}", caller("read:thing:8"))


def test_scope_comes_before_whether_anything_may_be_changed():
    def draining():
        raise Unavailable("the daemon is draining")

    busy = dispatcher(draining)
    with pytest.raises(Unavailable):
        busy.call("thing.change", b'{"thingId":"1"}', EVERYTHING)
    with pytest.raises(Forbidden):
        busy.call("thing.change", b'{"thingId":"1"}', caller())


async def test_reading_goes_on_while_nothing_may_be_changed():
    def draining():
        raise Unavailable("the daemon is draining")

    await dispatcher(draining).call("thing.look", b"{}", EVERYTHING)


def test_a_command_that_nobody_handles_stops_the_start():
    empty = Dispatcher(Registry([], [Change, Look]), ready=lambda: None)
    with pytest.raises(LookupError, match=r"no service handles thing\.change, thing\.look"):
        empty.check()


def test_a_grant_is_for_its_action_and_what_it_covers():
    one = caller("read:session:*", "write:session:1")
    assert one.may("read", "session:1")
    assert one.may("read", "session:*")
    assert one.may("write", "session:1")
    assert not one.may("write", "session:*")
    assert not one.may("read", "*")
    assert not one.may("admin", "session:1")


def test_what_is_to_be_written_comes_as_text_or_in_base64():
    assert as_bytes("é", "utf-8") == "é".encode()
    assert as_bytes("w6k=", "base64") == "é".encode()
    for data, encoding in (("w6k", "base64"), ("é", "base64"), ("\ud800", "utf-8")):
        with pytest.raises(BadRequest):
            as_bytes(data, encoding)
