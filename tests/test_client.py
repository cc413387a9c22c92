"""The Python client against a daemon that comes and goes."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from aiohttp import web
from support import written

from daemon import home
from daemon.client import Client, ConnectionLost, Message, NoDaemon, Output
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
from daemon.core.frames import output_frame, payload
from daemon.home import Address
from daemon.subscription import QUEUED

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
                async with asyncio.timeout(30):
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
            await asyncio.wait_for(anext(client.subscribe("project:scratch")), 30)


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
            await asyncio.wait_for(client.call("project.list"), 30)
        async with asyncio.timeout(30):
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
            await asyncio.wait_for(anext(client.subscribe("session:1")), 30)
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(client.call("project.list"), 30)
        with pytest.raises(Unauthorized):
            await asyncio.wait_for(anext(client.subscribe("session:1")), 30)
    assert script.connections == 1


@pytest.mark.parametrize("code", [1000, 1011, 1012, 4400, 4408, 4409, 4429])
async def test_it_comes_back_after_any_other_code(serve, code):
    async def closing(ws):
        await ws.send_json(HELLO)
        await ws.close(code=code)

    script = Script(closing, welcome_and_stay)
    address = await serve(script)
    async with Client(lambda: address, token=lambda: "t"), asyncio.timeout(30):
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
    async with Client(lambda: address, token=lambda: "t"), asyncio.timeout(30):
        while len(gone) < 2:
            await asyncio.sleep(0.01)
    assert 0.6 < gone[1] - gone[0] < 10


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
            await asyncio.wait_for(client.call("project.list"), 30)
        with pytest.raises(Unavailable):
            await asyncio.wait_for(client.call("project.list"), 30)


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
    monkeypatch.setattr("daemon.dial.CONNECT", 0.2)
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
            await asyncio.wait_for(client.call("project.list"), 30)


async def test_leaving_an_iterator_over_a_broken_connection_is_no_error(serve):
    address = await serve(Script(welcome_and_break))
    async with Client(lambda: address, token=lambda: "t") as client:
        following = client.subscribe("session:1")
        waiting = asyncio.ensure_future(anext(following))
        async with asyncio.timeout(30):
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
        await asyncio.wait_for(following, 30)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(client.call("project.list"), 30)


@pytest.mark.parametrize("turns", range(6))
async def test_a_client_that_is_cancelled_while_it_closes_leaves_nothing_open(serve, turns):
    address = await serve(Script(welcome_and_stay))
    client = Client(lambda: address, token=lambda: "t")
    await client.__aenter__()
    line = client._line
    leaving = asyncio.ensure_future(client.__aexit__())
    for _ in range(turns):  # of the loop, so that it is cancelled wherever it can be
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert line.http.closed == (turns > 0)  # what was cancelled before it began has done nothing
    await line.close()


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
        async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
            while not gaps:
                await asyncio.sleep(0.01)
        await written(running, 1)
        assert (await asyncio.wait_for(waiting, 30)).offset == 6
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
        async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
            while ("gap", "session:*") not in states:
                await asyncio.sleep(0.01)
        await written(running, 1)
        assert (await asyncio.wait_for(waiting, 30)).channel == "session:1"
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


# Output of terminals


async def open_terminal(client, *command, **data):
    """Open a terminal; gives its channel."""
    created = await client.call("shell.create", {"command": list(command), **data})
    return f"shell:terminal:{created['terminalId']}"


async def taken(following, *, upto="shell.exit"):
    """Take what a terminal tells until an event has come."""
    told = []
    async with asyncio.timeout(30):
        async for each in following:
            told.append(each)
            if isinstance(each, Message) and each.type == upto:
                await following.aclose()
                return told
    raise AssertionError(told)


def joined(told):
    """Give the output, which has no hole; and the types of the events."""
    output = [each for each in told if isinstance(each, Output)]
    for one, other in itertools.pairwise(output):
        assert other.at == one.end or other.fresh or one.fresh
    events = [each.type for each in told if isinstance(each, Message)]
    return b"".join(each.data for each in output), events


def watching(running):
    """Make a client and the list of what its connection went through."""
    states = []
    client = Client(
        lambda: home.discover(running.daemon.state_dir),
        token=running.token,
        on_status=lambda status, detail: states.append((status, detail)),
    )
    return client, states


async def test_output_comes_as_the_bytes_it_was_between_the_other_events(running):
    client, states = watching(running)
    async with client:
        channel = await open_terminal(client, "sh", "-c", r"read x; printf '\303\251\377'; read x")
        following = client.subscribe_output(channel, since=0)
        waiting = asyncio.ensure_future(anext(following))
        id_ = channel.rpartition(":")[2]
        await client.tell("shell.resize", {"terminalId": id_, "cols": 70, "rows": 10})
        await client.tell("shell.input", {"terminalId": id_, "data": "a\rb\r"})
        output, events = joined([await waiting, *await taken(following)])
    assert b"\xc3\xa9\xff" in output
    assert events == ["shell.created", "shell.resized", "shell.exit"]
    assert states.count(("following", channel)) == 1


async def test_output_goes_on_at_the_byte_after_forced_disconnects(running):
    client, states = watching(running)
    async with client:
        channel = await open_terminal(client, "sh", "-c", COUNTING)
        told, pieces = [], 0
        following = client.subscribe_output(channel, since=0)
        async with asyncio.timeout(30):
            async for each in following:
                told.append(each)
                pieces += isinstance(each, Output)
                if pieces % 60 == 59:
                    for peer in running.daemon._doors.gateway.connections:
                        peer._outlet.abort()
                if isinstance(each, Message) and each.type == "shell.exit":
                    break
    output, events = joined(told)
    assert output == b"".join(b"%d\r\n" % number for number in range(400))
    assert events == ["shell.created", "shell.exit"]
    assert states.count(("following", channel)) > 1
    assert ("gap", channel) not in states


FLOOD = "stty -onlcr; read go; i=0; while [ $i -lt 12000 ]; do echo {line}; i=$((i+1)); done"
FLOODED = b"x" * 99 + b"\n"


@pytest.mark.parametrize("ring", [2 << 20, 256 << 10], ids=["kept", "gone"])
async def test_who_takes_output_slowly_is_paused_and_misses_nothing_that_is_kept(
    start_daemon, monkeypatch, ring
):
    monkeypatch.setattr("daemon.subscription.QUEUED_BYTES", 256 << 10)
    running = await start_daemon(SHELL__RING_BYTES=str(ring))
    client, states = watching(running)
    async with client:
        channel = await open_terminal(client, "sh", "-c", FLOOD.format(line="x" * 99))
        following = client.subscribe_output(channel, since=0)
        first = await anext(following)
        own = client._subscriptions[channel]
        data = {"terminalId": channel.rpartition(":")[2]}
        await client.call("shell.input", {**data, "data": "\n"})
        async with asyncio.timeout(30):
            while not own.paused:
                await asyncio.sleep(0.01)
            while (await client.call("shell.get", data))["terminal"]["state"] == "running":
                await asyncio.sleep(0.01)
        assert own.size < 512 << 10
        output, events = joined([first, *await taken(following)])
    assert events[-1] == "shell.exit"
    assert (("gap", channel) in states) == (ring < 1 << 20)
    begun, reset, rest = output.partition(b"\x1bc")
    if reset:
        assert (FLOODED * 12_000).startswith(begun.lstrip(b"\r\n"))  # that we have typed
        assert rest.endswith(FLOODED * 1000)
    else:
        assert begun.lstrip(b"\r\n") == FLOODED * 12_000


async def test_who_comes_new_gets_the_screen_after_a_reset_and_nothing_where_there_is_none(running):
    client, states = watching(running)
    async with client:
        channel = await open_terminal(client, "sh", "-c", "printf 'abc\n\033[?2004hdef'; read x")
        id_ = channel.rpartition(":")[2]
        await taken_output(client.subscribe_output(channel, since=0), b"def")
        fresh, *rest = await taken_output(client.subscribe_output(channel), b"def")
        assert fresh.fresh
        assert fresh.data.startswith(b"\x1bc")
        assert (rest[0].at, joined(rest)[0]) == (0, b"abc\r\n\x1b[?2004hdef")
        (again,) = await taken_output(client.subscribe_output(channel, since=rest[-1].end - 2), b"")
        assert (again.data, again.fresh) == (b"ef", False)
        await client.call("shell.close", {"terminalId": id_})
        silent = await open_terminal(client, "sh", "-c", "read x; printf 'that is all'")
        following = client.subscribe_output(silent)
        waiting = asyncio.ensure_future(anext(following))
        data = {"terminalId": silent.rpartition(":")[2], "data": "\x04"}
        await client.tell("shell.input", data)
        assert (await waiting).type == "shell.created"
        said = await taken(following)
        assert not said[0].fresh
        assert b"that is all" in joined(said)[0]
    assert not [status for status, _ in states if status == "gap"]


async def taken_output(following, end):
    """Take output until it ends so, and leave."""
    told = []
    async with asyncio.timeout(30):
        async for each in following:
            if isinstance(each, Output):
                told.append(each)
                if each.data.endswith(end) and not each.fresh:
                    break
    await following.aclose()
    return told


def piece(at, data):
    return payload(output_frame(b"shell:terminal:t", at, data))


def told_anew(**told):
    data = {"channel": "shell:terminal:t", "epoch": "e", **told}
    return {"channel": "shell:terminal:t", "type": "global.subscription_success", "data": data}


async def test_nothing_is_handed_out_twice_and_a_resynchronisation_is_told(serve):
    asked = []

    async def telling(ws):
        await ws.send_json(HELLO)
        asked.append(await ws.receive_json())
        await ws.send_bytes(piece(0, b"too early"))
        await ws.send_json(told_anew(offset=20, oldest=0, recovered=True))
        await ws.send_bytes(piece(0, b"abc"))
        await ws.send_bytes(piece(2, b"cdef"))
        title = {"channel": "shell:terminal:t", "type": "shell.title", "data": {}, "ts": 1.0}
        for offset in (4, 4, 5):
            await ws.send_json({**title, "offset": offset})
        await ws.send_bytes(b"\x01\x02" + piece(6, b"of another kind")[2:])
        await ws.send_json(told_anew(offset=200, oldest=100, recovered=False))
        await ws.send_bytes(piece(100, b"\x1bc\x1b[?25h"))
        await ws.send_bytes(piece(102, b"xyz"))
        asked.append(await ws.receive_json())
        ws._req.transport.abort()

    async def again(ws):
        await ws.send_json(HELLO)
        asked.append(await ws.receive_json())
        await ws.send_json(told_anew(offset=106, oldest=100, recovered=True))
        await ws.send_json({**told_anew(), "type": "shell.title", "offset": 5, "ts": 1.0})
        await ws.send_bytes(piece(104, b"z-!"))
        async for _ in ws:
            pass

    address = await serve(Script(telling, again))
    states = []
    client = Client(lambda: address, token=lambda: "t", on_status=lambda *s: states.append(s))
    async with client, asyncio.timeout(30):
        following = client.subscribe_output("shell:terminal:t", since=3)
        told = [await anext(following)]
        while told[-1].data != b"xyz":
            told.append(await anext(following))
        await client.tell("ping", {})
        told.append(await anext(following))
        await following.aclose()
    output = [(each.at, each.data, each.fresh) for each in told if isinstance(each, Output)]
    assert output == [
        (3, b"def", False),
        (100, b"\x1bc\x1b[?25h", True),
        (102, b"xyz", False),
        (105, b"-!", False),
    ]
    assert [each.offset for each in told if isinstance(each, Message)] == [4, 5]
    assert [each.get("data") for each in asked] == [
        {"encoding": "binary", "since": 3},
        {},
        {"encoding": "binary", "since": 105, "epoch": "e"},
    ]
    assert [status for status, _ in states if status in ("gap", "following")] == [
        "following", "gap", "following", "following"
    ]  # fmt: skip


async def test_a_file_is_downloaded_in_pieces_and_a_refusal_is_an_error(running):
    async with running.client() as client:
        channel = await open_terminal(client, "sh", "-c", "echo said; read x", record=True)
        id_ = channel.rpartition(":")[2]
        await taken_output(client.subscribe_output(channel, since=0), b"said\r\n")
        await client.call("shell.stop_recording", {"terminalId": id_})
        pieces = [piece async for piece in client.download(f"/api/terminals/{id_}/recording")]
        assert b'"version":3' in pieces[0]
        assert b"said" in b"".join(pieces)
        with pytest.raises(NotFound):
            await anext(client.download("/api/terminals/nobody/recording"))
