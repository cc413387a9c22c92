"""Server-Sent Events: the same events, resumable by `Last-Event-ID`."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import time
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs
from support import emit_lines, written


async def until(condition, timeout=30.0):
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Stream:
    """A reader of `/api/events`: `(id, message)` pairs, as an EventSource would take them."""

    def __init__(self, response):
        self.response = response
        self.last = None

    @classmethod
    async def open(cls, running, query, *, last=None, **token):
        headers = running.headers(**token) | ({"Last-Event-ID": last} if last else {})
        stream = cls(await running.http.get(f"{running.url}/api/events?{query}", headers=headers))
        stream.last = last
        return stream

    async def next(self):
        """Give the next message; None at the end of the stream."""
        async for raw in self.response.content:
            line = raw.decode().rstrip("\n")
            field, _, value = line.partition(": ")
            assert field in ("", "id", "data", "retry"), line
            if field == "id":
                self.last = value
            elif field == "data":
                return json.loads(value)
        return None

    async def take(self, count):
        async with asyncio.timeout(30):
            return [await self.next() for _ in range(count)]

    def close(self):
        self.response.close()


async def test_the_messages_are_those_of_the_wire(running):
    await written(running, 3)
    ws = await running.ws()
    await ws.send("subscribe", {"since": 0}, channel="session:1")
    await ws.next()
    wire = [await ws.next() for _ in range(3)]
    stream = await Stream.open(running, "channel=session:1&since=0")
    assert stream.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["Cache-Control"] == "no-store"
    assert await stream.take(3) == wire
    stream.close()


async def test_without_since_it_is_live(running):
    await written(running, 3)
    stream = await Stream.open(running, "channel=session:1")
    await until(lambda: running.daemon._doors.streams.open)
    await written(running, 1)
    assert [m["offset"] for m in await stream.take(1)] == [4]
    stream.close()


@pytest.mark.parametrize("seed", range(3))
async def test_forced_reconnects_see_each_event_of_all_channels_once(running, seed):
    chance = random.Random(seed)
    names = [str(number) for number in range(4)]
    for name in names:
        await written(running, 1, session=name)

    async def write():
        for _ in range(60):
            emit_lines(running, chance.randrange(1, 8), session=chance.choice(names), size=200)
            await running.daemon._journal.flushed()
        for name in names:
            running.daemon._bus.broadcast(f"session:{name}", {"type": "test.last", "data": {}})

    writing = asyncio.ensure_future(write())
    query = "&".join(f"channel=session:{name}" for name in names) + "&since=0"
    seen, last, ended = {f"session:{name}": [] for name in names}, None, 0
    while ended < len(names):
        stream = await Stream.open(running, query, last=last)
        for _ in range(chance.randrange(1, 40)):
            message = (await stream.take(1))[0]
            seen[message["channel"]].append(message["offset"])
            ended += message["type"] == "test.last"
            if ended == len(names):
                break
        last = stream.last
        stream.close()
    await writing
    for name, offsets in seen.items():
        head = running.daemon._journal.get(name).head
        assert offsets == list(range(1, head + 1)), name


async def test_a_last_event_id_goes_before_since_and_junk_is_ignored(running):
    await written(running, 5)
    epoch = running.daemon._journal.get("session:1").epoch
    for last, first in (
        (f"session:1={epoch}:3", 4),
        ("junk", 1),
        ("session:1=zz:3", 1),
        (f"session:2={epoch}:3", 1),
        (f"junk,session:1={epoch}:4,,=", 5),
        ("x" * 7000, 1),
    ):
        stream = await Stream.open(running, "channel=session:1&since=0", last=last)
        assert (await stream.take(1))[0]["offset"] == first, last
        stream.close()


@pytest.mark.parametrize("last", ["session:1=0badc0de:3", "session:1=EPOCH:999"])
async def test_what_cannot_be_resumed_is_said_once_and_goes_on_live(running, last):
    await written(running, 5)
    last = last.replace("EPOCH", running.daemon._journal.get("session:1").epoch)
    stream = await Stream.open(running, "channel=session:1&channel=session:1&since=0", last=last)
    (said,) = await stream.take(1)
    assert said["type"] == "global.subscription_success"
    assert (said["channel"], said["data"]["recovered"], said["data"]["offset"]) == (
        "session:1",
        False,
        5,
    )
    await written(running, 1)
    assert (await stream.take(1))[0]["offset"] == 6
    stream.close()
    resumed = await Stream.open(running, "channel=session:1", last=stream.last)
    await written(running, 1)
    assert (await resumed.take(1))[0]["offset"] == 7
    resumed.close()


async def test_a_stream_that_ended_before_its_first_event_is_resumed_where_it_began(running):
    await written(running, 2)
    stream = await Stream.open(running, "channel=session:1")
    async with asyncio.timeout(30):
        while not (line := await stream.response.content.readline()).startswith(b"id: "):
            pass
    stream.close()
    await written(running, 2)  # while nobody reads
    last = line.decode().removeprefix("id: ").rstrip()
    resumed = await Stream.open(running, "channel=session:1", last=last)
    assert [m["offset"] for m in await resumed.take(2)] == [3, 4]
    resumed.close()


async def test_a_stream_is_resumed_without_the_channels_that_have_gone(running):
    await written(running, 2)
    last = f"session:1={running.daemon._journal.get('session:1').epoch}:1,session:gone=0badc0de:7"
    query = "channel=session:gone&channel=session:1"
    stream = await Stream.open(running, query, last=last)
    assert stream.response.status == 200
    said, event = await stream.take(2)
    assert (said["type"], said["data"]["channel"], said["data"]["code"]) == (
        "global.subscription_error",
        "session:gone",
        "not_found",
    )
    assert event["offset"] == 2
    stream.close()
    nothing = await Stream.open(running, "channel=session:gone", last=last)
    assert nothing.response.status == 404


async def test_a_wildcard_and_a_channel_deliver_an_event_once(running):
    await written(running, 2)
    stream = await Stream.open(running, "channel=session:*&channel=session:1&since=0")
    assert [m["offset"] for m in await stream.take(2)] == [1, 2]
    await written(running, 1)
    await written(running, 1, session="2")
    await written(running, 1)
    told = [(m["channel"], m["offset"]) for m in await stream.take(3)]
    assert told == [("session:1", 3), ("session:2", 1), ("session:1", 4)]
    assert stream.last == f"session:1={running.daemon._journal.get('session:1').epoch}:4"
    stream.close()


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "bad_request"),
        ("channel=", 400, "invalid_channel"),
        ("channel=a%20b", 400, "invalid_channel"),
        ("channel=session:none", 404, "not_found"),
        ("channel=session:1&channel=session:none", 404, "not_found"),
        ("channel=project:scratch", 403, "forbidden"),
        ("channel=*", 403, "forbidden"),
        ("channel=session:1&since=", 400, "bad_request"),
        ("channel=session:1&since=1.5", 400, "bad_request"),
        ("channel=session:1&since=%D9%A1", 400, "bad_request"),
        ("channel=session:1&since=" + "9" * 30, 400, "bad_request"),
    ],
)
async def test_what_cannot_be_streamed_is_refused_before_it_begins(running, query, status, code):
    await written(running, 1)
    stream = await Stream.open(running, query, scope="read:session:*")
    assert stream.response.status == status
    assert (await stream.response.json())["error"]["code"] == code
    assert not running.daemon._doors.streams.open


async def test_too_many_channels_and_too_many_streams_are_refused(start_daemon):
    running = await start_daemon(WEB__MAX_SUBSCRIPTIONS="2", WEB__MAX_CONNECTIONS="1")
    for name in "123":
        await written(running, 1, session=name)
    refused = await Stream.open(
        running, "channel=session:1&channel=session:2&channel=session:3&since=0"
    )
    assert refused.response.status == 429
    held = await Stream.open(running, "channel=session:1&channel=session:2&channel=session:1")
    assert held.response.status == 200
    refused = await Stream.open(running, "channel=session:1")
    assert (await refused.response.json())["error"]["code"] == "rate_limited"
    held.close()


async def test_only_get_reads_a_stream(running):
    async with running.http.head(
        f"{running.url}/api/events?channel=project:scratch", headers=running.headers()
    ) as response:
        assert response.status == 404
    assert not running.daemon._doors.streams.open


async def test_a_stream_ends_with_its_token(running):
    await written(running, 1)
    stream = await Stream.open(running, "channel=session:1&since=0", ttl=0.8)
    assert (await stream.take(1))[0]["offset"] == 1
    async with asyncio.timeout(30):
        assert await stream.next() is None
    assert not running.daemon._doors.streams.open


async def test_a_slow_reader_is_waited_for_and_misses_nothing(start_daemon, raw_to):
    running = await start_daemon(WEB__BUFFER_BYTES="65536")
    await written(running, 2000, size=2000)
    request = (
        f"GET /api/events?channel=session:1&since=0&token={running.token()} HTTP/1.0\r\n"
        "Host: localhost\r\n\r\n"
    ).encode()
    slow = await raw_to(running, request=request, receive_bytes=16_384)
    await until(lambda: running.daemon._doors.streams.open)
    (stream,) = running.daemon._doors.streams.open
    emit_lines(running, 500, size=2000)
    seen = []
    while len(seen) < 2500:
        line = await slow.reader.readuntil(b"\n")
        if line.startswith(b"data: "):
            seen.append(json.loads(line[6:])["offset"])
            assert stream._size < 2 << 20  # the buffer, and what one turn delivers
    assert seen == list(range(1, 2501))


async def test_a_stalled_reader_is_cut(start_daemon, raw_to):
    from support import open_descriptors

    running = await start_daemon(WEB__STALL_TIMEOUT="0.5")
    await written(running, 5000, size=4000)
    before = open_descriptors()
    request = (
        f"GET /api/events?channel=session:1&since=0&token={running.token()} HTTP/1.1\r\n"
        "Host: localhost\r\n\r\n"
    )
    await raw_to(running, request=request.encode(), receive_bytes=8192)
    await until(lambda: running.daemon._doors.streams.open)
    await until(lambda: not running.daemon._doors.streams.open)
    await until(lambda: open_descriptors() <= before + 1)


async def test_readers_that_leave_as_they_come_are_no_failure_of_ours(running):
    await written(running, 1)
    where = urlsplit(running.url)
    request = (
        "GET /api/events?channel=session:1&since=0 HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {running.token()}\r\n\r\n"
    ).encode()
    with capture_logs() as lines:
        for _ in range(50):
            with socket.create_connection((where.hostname, where.port)) as own:
                # Closed like this, what was sent is followed by a reset.
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                own.sendall(request)
        async with running.http.get(f"{running.url}/health") as response:
            assert response.status == 200
        await until(lambda: not running.daemon._doors.streams.open)
    assert [line for line in lines if line["event"] == "internal"] == []


async def test_a_drain_delivers_what_waits_before_the_stream_ends(tmp_path):
    import aiohttp
    from support import Running, settings_for

    from daemon.app import Daemon

    async with aiohttp.ClientSession() as http:
        async with Daemon(settings_for(tmp_path / "own")) as daemon:
            running = Running(daemon, http)
            async with running.client() as client:
                created = await client.call(
                    "session.create", {"agent": "command", "argv": ["sleep", "99"]}
                )
            channel = f"session:{created['sessionId']}"
            stream = await Stream.open(running, f"channel={channel}&since=0")
            await stream.take(2)
            reading = asyncio.ensure_future(stream.take(2))
            begun = time.monotonic()
        end, nothing = await reading
        assert (end["type"], end["data"]["code"]) == ("session.error", "daemon_stopped")
        assert nothing is None
        assert time.monotonic() - begun < 5
