"""The Python client against a daemon that comes and goes."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiohttp import web
from support import written

from daemon import home
from daemon.client import QUEUED, Client, ConnectionLost, NoDaemon
from daemon.core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidChannel,
    NotFound,
    Unauthorized,
    Unavailable,
    UnknownCommand,
)
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
                for peer in running.daemon._doors.gateway.connections:
                    peer._outlet.abort()
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


# A daemon that misbehaves, and a connection that does


class Script:
    """A server that does what a test tells it, one connection after the other."""

    def __init__(self, *scenes):
        self.scenes = list(scenes)
        self.connections = 0

    async def handle(self, request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        scene = self.scenes[min(self.connections, len(self.scenes) - 1)]
        self.connections += 1
        await scene(ws)
        return ws


@pytest.fixture
async def serve():
    """Serve a script; gives its address."""
    runners = []

    async def serving(script):
        app = web.Application()
        app.router.add_get("/ws", script.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return Address(url=f"http://127.0.0.1:{runner.addresses[0][1]}")

    yield serving
    for runner in runners:
        await runner.cleanup()


HELLO = {
    "channel": "global",
    "type": "global.connected",
    "data": {"userId": "u", "connectionId": "c", "serverVersion": "0", "heartbeat": 25.0},
}


async def welcome_and_stay(ws):
    await ws.send_json(HELLO)
    async for _ in ws:
        pass


async def welcome_and_break(ws):
    await ws.send_json(HELLO)
    await ws.receive()
    ws._req.transport.abort()


async def test_a_call_under_way_is_told_that_the_connection_broke(serve):
    script = Script(welcome_and_break, welcome_and_stay)
    address = await serve(script)
    async with Client(lambda: address, token=lambda: "t") as client:
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(client.call("project.list"), 5)
        async with asyncio.timeout(5):
            while script.connections < 2:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("code", [4401, 4403])
async def test_it_stays_away_after_a_code_that_says_so(serve, code):
    async def closing(ws):
        await ws.send_json(HELLO)
        await ws.close(code=code)

    script = Script(closing)
    address = await serve(script)
    async with Client(lambda: address, token=lambda: "t") as client:
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(anext(client.subscribe("session:1")), 5)
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(client.call("project.list"), 5)
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(anext(client.subscribe("session:1")), 5)
    assert script.connections == 1


@pytest.mark.parametrize("code", [1000, 1011, 1012, 4400, 4408, 4409, 4429])
async def test_it_comes_back_after_any_other_code(serve, code):
    async def closing(ws):
        await ws.send_json(HELLO)
        await ws.close(code=code)

    script = Script(closing, welcome_and_stay)
    address = await serve(script)
    async with Client(lambda: address, token=lambda: "t"), asyncio.timeout(5):
        while script.connections < 2:
            await asyncio.sleep(0.01)


async def test_it_waits_as_long_as_a_drain_asks_for(serve):
    gone = []

    async def draining(ws):
        await ws.send_json(HELLO)
        data = {"reconnectMs": 700}
        await ws.send_json({"channel": "global", "type": "global.draining", "data": data})
        await ws.close(code=1012)
        gone.append(asyncio.get_running_loop().time())

    async def back(ws):
        gone.append(asyncio.get_running_loop().time())
        await welcome_and_stay(ws)

    address = await serve(Script(draining, back))
    async with Client(lambda: address, token=lambda: "t"), asyncio.timeout(5):
        while len(gone) < 2:
            await asyncio.sleep(0.01)
    assert 0.6 < gone[1] - gone[0] < 2


async def test_a_token_that_cannot_be_renewed_ends_the_client_and_hangs_nobody(serve):
    async def expiring(ws):
        await ws.send_json(HELLO)
        await ws.receive()
        data = {"expiresAt": 0}
        await ws.send_json({"channel": "global", "type": "global.token_expiring", "data": data})
        async for _ in ws:
            pass

    def token():
        if asked:
            raise LookupError("no more tokens")
        asked.append(1)
        return "t"

    asked = []
    address = await serve(Script(expiring))
    async with Client(lambda: address, token=token) as client:
        with pytest.raises(Unavailable, match="no more tokens"):
            await asyncio.wait_for(client.call("project.list"), 5)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(client.call("project.list"), 5)


@pytest.mark.parametrize("hello", ["junk", "[]", "{}", '{"type":7}', '{"type":"global.error"}'])
async def test_who_answers_nonsense_is_no_daemon(serve, hello):
    async def nonsense(ws):
        await ws.send_str(hello)
        await ws.close()

    address = await serve(Script(nonsense))
    with pytest.raises(NoDaemon):
        async with Client(lambda: address, token=lambda: "t"):
            pass


async def test_who_accepts_and_says_nothing_is_no_daemon(monkeypatch):
    monkeypatch.setattr("daemon.client.CONNECT", 0.2)
    held = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(NoDaemon):
        async with Client(lambda: Address(url=f"http://127.0.0.1:{port}"), token=lambda: "t"):
            pass
    assert len(held) == 1
    held[0].transport.abort()
    server.close()


async def test_nonsense_in_mid_connection_ends_the_client_and_hangs_nobody(serve):
    async def nonsense(ws):
        await ws.send_json(HELLO)
        await ws.receive()
        await ws.send_str('{"type":"what"}')
        async for _ in ws:
            pass

    address = await serve(Script(nonsense))
    async with Client(lambda: address, token=lambda: "t") as client:
        with pytest.raises(Unavailable):
            await asyncio.wait_for(client.call("project.list"), 5)


async def test_leaving_an_iterator_over_a_broken_connection_is_no_error(serve):
    address = await serve(Script(welcome_and_break))
    async with Client(lambda: address, token=lambda: "t") as client:
        following = client.subscribe("session:1")
        waiting = asyncio.ensure_future(anext(following))
        async with asyncio.timeout(5):
            while client.connected:
                await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await following.aclose()
        assert not client._subscriptions


async def test_a_closed_client_ends_its_iterators_and_calls(running):
    client = running.client()
    async with client:
        following = asyncio.ensure_future(anext(client.subscribe("project:scratch")))
        await client.call("project.list")
    with pytest.raises(Unavailable):
        await asyncio.wait_for(following, 5)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(client.call("project.list"), 5)


# Following


async def test_the_states_are_told_in_order(running):
    states = []
    state_dir = running.daemon.state_dir
    client = Client(
        lambda: home.discover(state_dir),
        token=running.token,
        on_status=lambda status, _: states.append(status),
    )
    async with client:
        (peer,) = running.daemon._doors.gateway.connections
        peer._outlet.abort()
        async with asyncio.timeout(5):
            while states.count("connected") < 2:
                await asyncio.sleep(0.01)
    assert states == [
        "connecting", "connected", "disconnected", "connecting", "connected", "closed"
    ]  # fmt: skip


async def test_many_cuts_lose_and_double_nothing_on_many_channels(running):
    chance = random.Random(7)
    total, names = 600, ("a", "b", "c")
    for name in names:
        await written(running, 1, session=name)

    async def follow(client, name):
        following = client.subscribe(f"session:{name}", since=0)
        return [(await anext(following)).offset for _ in range(total)]

    async def cut(reading):
        while not reading.done():
            for peer in list(running.daemon._doors.gateway.connections):
                peer._outlet.abort()
            await asyncio.sleep(chance.uniform(0.02, 0.2))

    async with running.client() as client:
        reading = asyncio.gather(*(follow(client, name) for name in names))
        cutting = asyncio.ensure_future(cut(reading))
        done = 1
        while done < total:
            count = min(chance.randrange(1, 30), total - done)
            for name in names:
                await written(running, count, session=name)
            done += count
            await asyncio.sleep(0.02)  # the cuts are to fall in between
        async with asyncio.timeout(20):
            assert await reading == [list(range(1, total + 1))] * 3
        await cutting


async def test_what_is_gone_for_good_is_told_as_a_gap(running):
    await written(running, 5)
    gaps = []
    state_dir = running.daemon.state_dir
    client = Client(
        lambda: home.discover(state_dir),
        token=running.token,
        on_status=lambda status, detail: gaps.append(detail) if status == "gap" else None,
    )
    async with client:
        following = client.subscribe("session:1", since=3, epoch="of-another-life")
        waiting = asyncio.ensure_future(anext(following))
        async with asyncio.timeout(5):
            while not gaps:
                await asyncio.sleep(0.01)
        await written(running, 1)
        assert (await asyncio.wait_for(waiting, 5)).offset == 6
        await following.aclose()
    assert gaps == ["session:1"]


async def test_a_pattern_that_is_not_read_is_bounded_and_says_that_it_lost_some(running):
    gaps = []
    state_dir = running.daemon.state_dir
    client = Client(
        lambda: home.discover(state_dir),
        token=running.token,
        on_status=lambda status, detail: gaps.append(detail) if status == "gap" else None,
    )
    async with client:
        following = client.subscribe("session:*")
        first = asyncio.ensure_future(anext(following))
        await client.call("project.list")  # in order: the subscription stands by now
        for _ in range(10):
            await written(running, QUEUED // 5)
        assert (await first).offset == 1
        own = client._subscriptions["session:*"]
        async with asyncio.timeout(10):
            while not gaps:
                await asyncio.sleep(0.01)
        assert gaps == ["session:*"]
        assert len(own.queue) <= QUEUED
        assert [(await anext(following)).offset for _ in range(100)] == list(range(2, 102))
        await following.aclose()


async def test_a_pattern_says_after_a_break_that_it_may_have_missed_something(running):
    states = []
    state_dir = running.daemon.state_dir
    client = Client(
        lambda: home.discover(state_dir),
        token=running.token,
        on_status=lambda status, detail: states.append((status, detail)),
    )
    async with client:
        following = client.subscribe("session:*")
        waiting = asyncio.ensure_future(anext(following))
        await client.call("project.list")
        assert ("gap", "session:*") not in states
        for peer in running.daemon._doors.gateway.connections:
            peer._outlet.abort()
        async with asyncio.timeout(5):
            while ("gap", "session:*") not in states:
                await asyncio.sleep(0.01)
        await written(running, 1)
        assert (await asyncio.wait_for(waiting, 5)).channel == "session:1"
        await following.aclose()


async def test_errors_come_with_their_type_by_code(running):
    async with running.client() as client:
        for channel, error in (
            ("session:none", NotFound),
            ("a b", InvalidChannel),
            ("session:*:", InvalidChannel),
        ):
            with pytest.raises(error):
                await anext(client.subscribe(channel))
            assert not client._subscriptions
        with pytest.raises(NotFound):
            await anext(client.history("session:none"))
    narrow = Client(
        lambda: home.discover(running.daemon.state_dir),
        token=lambda: running.token(scope="read:project:*"),
    )
    async with narrow as client:
        with pytest.raises(Forbidden):
            await anext(client.subscribe("session:1"))
        with pytest.raises(Forbidden):
            await client.call("project.remove", {"projectId": "scratch"})
        with pytest.raises(Forbidden):
            await anext(client.history("session:none"))
        assert (await client.call("project.list"))["projects"]


async def test_a_token_that_expires_is_renewed_in_time_and_not_in_a_hurry(running):
    asked, states = [], []

    def token():
        asked.append(1)
        return running.token(ttl=1.5)  # each is warned of at once

    client = Client(
        lambda: Address(url=running.url),
        token=token,
        on_status=lambda status, _: states.append(status),
    )
    async with client:
        await asyncio.sleep(3.5)  # beyond the first two tokens, which is what is tested
        assert (await client.call("project.list"))["projects"]
    assert 3 <= len(asked) <= 10
    assert "disconnected" not in states
