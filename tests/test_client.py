"""The Python client against a daemon that comes and goes."""

from __future__ import annotations

import asyncio

import pytest

from daemon import home
from daemon.client import QUEUED, Client, NoDaemon
from daemon.core.errors import BadRequest, Conflict, NotFound, Unauthorized, UnknownCommand
from daemon.home import Address

ENDS = ("session.completed", "session.error", "session.cancelled")
COUNTING = "i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); sleep 0.002; done"


async def test_calls_answer_or_raise_by_code(running):
    async with running.client() as client:
        assert (await client.call("project.list"))["projects"]
        for type_, data, error in (
            ("no.such", {}, UnknownCommand),
            ("session.get", {"sessionId": "none"}, NotFound),
            ("session.get", {}, BadRequest),
        ):
            with pytest.raises(error):
                await client.call(type_, data)


async def test_it_resumes_after_forced_disconnects_without_gap_or_duplicate(running):
    states = []
    state_dir = running.daemon.state_dir
    client = Client(
        lambda: home.discover(state_dir),
        token=running.token,
        on_status=lambda status, _: states.append(status),
    )
    offsets = []
    async with client:
        created = await client.call(
            "session.create", {"agent": "command", "argv": ["sh", "-c", COUNTING]}
        )
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            offsets.append(message.offset)
            if len(offsets) % 60 == 0:
                for peer in running.daemon._gateway.connections:
                    peer._transport.abort()
            if message.type in ENDS:
                break
    assert offsets == list(range(1, len(offsets) + 1))
    assert states.count("disconnected") >= 1
    assert "gap" not in states


async def test_a_slow_consumer_is_paused_and_misses_nothing(running):
    from domains.session.events import StreamOutput

    total = 3 * QUEUED
    async with running.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": ["true"]})
        channel = f"session:{created['sessionId']}"
        offsets = []
        async for message in client.subscribe(channel, since=0):
            offsets.append(message.offset)
            if len(offsets) == 1:
                for number in range(total):
                    event = StreamOutput(
                        session_id=created["sessionId"], content=str(number), type="system"
                    )
                    running.daemon._bus.emit(event)
                await running.daemon._journal.flushed()
                own = client._subscriptions[channel]
                async with asyncio.timeout(10):
                    while not own.paused:
                        await asyncio.sleep(0.01)
                assert len(own.queue) <= QUEUED
            if len(offsets) >= total:
                break
    assert offsets == list(range(1, total + 1))


async def test_a_channel_is_followed_once_a_client(running):
    async with running.client() as client:
        first = client.subscribe("project:scratch", since=0)
        assert (await anext(first)).offset == 1
        with pytest.raises(Conflict):
            await anext(client.subscribe("project:scratch"))
        await first.aclose()
        again = client.subscribe("project:scratch", since=0)
        assert (await anext(again)).offset == 1
        await again.aclose()


async def test_a_channel_that_is_refused_raises(running):
    async with running.client() as client:
        with pytest.raises(NotFound):
            await anext(client.subscribe("session:none"))


async def test_no_daemon_and_a_refused_token_say_so_at_once(running):
    with pytest.raises(NoDaemon):
        async with Client(lambda: None, token=lambda: ""):
            pass
    with pytest.raises(NoDaemon):
        async with Client(lambda: Address(url="http://127.0.0.1:1"), token=lambda: ""):
            pass
    with pytest.raises(Unauthorized):
        async with Client(lambda: Address(url=running.url), token=lambda: "junk"):
            pass


async def test_it_does_not_come_back_when_its_token_is_refused(running):
    tokens = iter([running.token(ttl=1), "junk", "junk", "junk"])
    client = Client(lambda: Address(url=running.url), token=lambda: next(tokens))
    async with client:
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(anext(client.subscribe("project:scratch")), 5)


async def test_history_reads_what_is_kept_without_following(running):
    async with running.client() as client:
        messages = [m async for m in client.history("project:scratch")]
    assert [m.type for m in messages] == ["project.created"]
