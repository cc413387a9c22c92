"""One connection as the other side meets it: slow, stalled, vanished, resumed."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import emit_lines, open_descriptors, written


async def until(condition, timeout=30.0):
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def follow(socket, since=0, session="1"):
    """Subscribe with a raw socket; gives the answer's data."""
    data = {"type": "subscribe", "channel": f"session:{session}", "data": {"since": since}}
    socket.send(json.dumps(data))
    while True:
        message = await socket.next()
        if message["type"].startswith("global.subscription"):
            return message["data"]


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# Slow readers


async def test_one_that_takes_little_but_steadily_is_never_cut(start_daemon, raw_to):
    running = await start_daemon(
        WEB__STALL_TIMEOUT="1.5", WEB__PEER_TIMEOUT="2", WEB__HEARTBEAT="0.3"
    )
    await written(running, 4000, size=4000)
    slow = await raw_to(running, receive_bytes=32_768)
    await slow.next()
    await follow(slow)
    (peer,) = running.daemon._doors.gateway.connections
    stop = time.monotonic() + 4  # the slowness is what is tested: 100 KB/s, far below the buffers
    while time.monotonic() < stop:
        await slow.reader.readexactly(5000)
        await asyncio.sleep(0.05)
        assert peer.code is None, "it was cut though it takes"


async def test_twenty_that_stop_reading_cost_a_bounded_memory_and_are_cut(start_daemon, raw_to):
    running = await start_daemon(WEB__STALL_TIMEOUT="1")
    await written(running, 1)
    for _ in range(20):
        stalled = await raw_to(running, receive_bytes=8192)
        await stalled.next()
        await follow(stalled)
    healthy = await running.ws()
    await healthy.call("subscribe", channel="session:1")
    before = resident_bytes()

    async def read():
        return [(await healthy.next())["offset"] for _ in range(6000)]

    reading = asyncio.ensure_future(read())
    for _ in range(60):
        await written(running, 100, size=10_000)  # 60 MB in all
    async with asyncio.timeout(30):
        assert await reading == list(range(2, 6002))
    assert resident_bytes() - before < 80 << 20
    await until(lambda: len(running.daemon._doors.gateway.connections) == 1)
    assert running.daemon._doors.gateway.slow_closes == 20
    assert (await healthy.call("ping"))["type"] == "global.pong"


async def test_one_that_takes_nothing_is_told_4408_where_its_socket_has_room_for_it(running):
    """The close frame is best effort: here it goes out because the peer reads again in time."""
    ws = await running.ws()
    (peer,) = running.daemon._doors.gateway.connections
    peer.cut(4408, "nothing was taken")
    assert await ws.closed() == 4408


@pytest.mark.usefixtures("impatient")
async def test_one_that_says_goodbye_and_reads_nothing_leaves_nothing_behind(running, raw):
    await written(running, 3000, size=4000)
    before = open_descriptors()
    rude = []
    for _ in range(5):
        each = await raw(receive_bytes=8192)
        await each.next()
        each.send('{"type":"subscribe","channel":"session:1","data":{"since":0}}')
        rude.append(each)
    await until(
        lambda: all(not peer.has_room() for peer in running.daemon._doors.gateway.connections)
    )
    for each in rude:
        each.send(b"\x03\xe8", opcode=8)
    await until(lambda: not running.daemon._doors.gateway.connections)
    await until(lambda: open_descriptors() <= before + 5)  # our own five ends


async def test_one_that_sends_and_never_reads_is_not_read_either(start_daemon, raw_to):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.5", WEB__MESSAGES_PER_SECOND="100000")
    rude = await raw_to(running, receive_bytes=8192)
    await rude.next()
    (peer,) = running.daemon._doors.gateway.connections
    ping = json.dumps({"type": "ping", "data": "x" * 100_000})
    for _ in range(300):
        rude.send(ping)
    await until(lambda: not peer.has_room())
    size = peer._outlet.transport.get_write_buffer_size()
    assert size < (1 << 20)
    await until(lambda: not running.daemon._doors.gateway.connections)
    assert running.daemon._doors.gateway.slow_closes == 1


async def test_a_peer_that_vanishes_leaves_nothing_behind(running, raw):
    await written(running, 2000, size=4000)
    before = open_descriptors()
    for _ in range(10):
        gone = await raw()
        await gone.next()
        gone.send('{"type":"subscribe","channel":"session:1","data":{"since":0}}')
        gone.send('{"type":"subscribe","channel":"*"}')
        await gone.next()
        gone.close()
    await until(lambda: not running.daemon._doors.gateway.connections)
    await until(lambda: open_descriptors() <= before)
    assert not running.daemon._journal.get("session:1").followers
    assert not running.daemon._fanout._wild
    await until(lambda: not any(t.get_name() == "fanout.catch_up" for t in asyncio.all_tasks()))


# Resuming


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_resumes_at_random_points_sees_each_event_once(running, raw, seed):
    chance = random.Random(seed)
    total = 1500
    await written(running, 1)

    async def write():
        done = 1
        while done < total:
            count = min(chance.randrange(1, 60), total - done)
            await written(running, count, size=chance.choice((0, 50, 3000)))
            done += count

    async def one(seen):
        epoch = None
        while len(seen) < total:
            socket = await raw(receive_bytes=chance.choice((0, 16_384)))
            await socket.next()
            data = {"since": len(seen)} | ({"epoch": epoch} if epoch else {})
            socket.send(json.dumps({"type": "subscribe", "channel": "session:1", "data": data}))
            answer = await socket.next()
            assert answer["data"]["recovered"] is True
            epoch = answer["data"]["epoch"]
            for _ in range(min(chance.randrange(400), total - len(seen))):
                seen.append((await socket.next())["offset"])
            socket.close()

    clients = [[] for _ in range(4)]
    async with asyncio.timeout(30):
        await asyncio.gather(write(), *(one(seen) for seen in clients))
    assert all(seen == list(range(1, total + 1)) for seen in clients)


# Limits


async def test_a_flood_is_closed_with_4429_however_it_is_spread(start_daemon):
    """Ten times the rate, evenly: now and then one message is within it."""
    running = await start_daemon(WEB__MESSAGES_PER_SECOND="5")
    ws = await running.ws()
    reading = asyncio.ensure_future(ws.closed())
    sent = 0
    while not reading.done() and sent < 1000:
        await ws.raw.send_str('{"type":"ping"}')
        sent += 1
        await asyncio.sleep(0.02)  # the spread is what is tested
    assert await reading == 4429
    assert sent < 1000


async def test_within_the_rate_nobody_is_refused(start_daemon):
    running = await start_daemon(WEB__MESSAGES_PER_SECOND="100")
    ws = await running.ws()
    for _ in range(3):
        for _ in range(30):
            assert (await ws.call("ping"))["type"] == "global.pong"
        await asyncio.sleep(0.35)  # what a second allows comes back with time
    assert not ws.raw.closed


async def test_a_refused_message_is_answered_and_not_carried_out(start_daemon, monkeypatch):
    running = await start_daemon(WEB__MESSAGES_PER_SECOND="5")
    ws = await running.ws()
    now = time.monotonic()  # nothing of what is allowed comes back while they are sent
    monkeypatch.setattr("daemon.web.peer.time", SimpleNamespace(monotonic=lambda: now))
    for number in range(8):
        await ws.send("project.add", {"path": "/tmp", "name": f"n{number}"}, id=number)
    answers = [await ws.next() for _ in range(8)]
    assert {a["id"] for a in answers} == set(range(8))
    refused = {a["id"] for a in answers if a["data"].get("code") == "rate_limited"}
    assert refused == {5, 6, 7}


async def test_a_place_that_becomes_free_can_be_taken(start_daemon):
    running = await start_daemon(WEB__MAX_CONNECTIONS="1")
    first = await running.ws()
    second = await running.http.ws_connect(f"{running.url}/ws", headers=running.headers())
    message = json.loads((await second.receive()).data)
    assert (message["type"], message["data"]["code"]) == ("global.error", "rate_limited")
    await second.receive()
    assert second.close_code == 4409
    await first.raw.close()
    await until(lambda: not running.daemon._doors.gateway.connections)
    await running.ws()


# The end


async def test_a_goodbye_is_answered_with_its_code(raw):
    socket = await raw()
    await socket.next()
    socket.send(b"\x0f\xa0bye", opcode=8)
    assert await socket.next() == {"type": "close", "code": 4000}


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_does_not_answer_the_close_is_cut(running, raw):
    socket = await raw()
    await socket.next()
    for _ in range(3):
        socket.send("junk")
    for _ in range(2):
        await socket.next()
    assert await socket.next() == {"type": "close", "code": 4400}
    begun = time.monotonic()
    assert await socket.reader.read() == b""
    assert time.monotonic() - begun < 5
    await until(lambda: not running.daemon._doors.gateway.connections)


async def test_the_log_tells_who_came_and_how_it_ended(start_daemon, tmp_path):
    from daemon.log import FILE_NAME, logging_to

    with logging_to(tmp_path, level="info", file_bytes=1 << 20, files=1, quiet=True):
        running = await start_daemon()
        ws = await running.ws()
        await ws.call("ping")
        await ws.raw.close()
        lost = await running.ws()
        lost.raw._response.connection.transport.abort()
        await until(lambda: not running.daemon._doors.gateway.connections)
    lines = [json.loads(line) for line in (tmp_path / "log" / FILE_NAME).read_text().splitlines()]
    ends = [line for line in lines if line["event"] == "connection.closed"]
    assert [(end["user"], end["code"]) for end in ends] == [("tester", 1000), ("tester", 1006)]
    assert ends[0]["sent"] > 100
    assert ends[0]["received"] > 10
    assert ends[0]["seconds"] >= 0
    assert {line["connection"] for line in lines if line["event"] == "connection.opened"} == {
        end["connection"] for end in ends
    }


async def test_events_told_before_the_close_arrive_before_it(running):
    ws = await running.ws()
    await written(running, 1)
    await ws.call("subscribe", channel="session:1")
    emit_lines(running, 500, size=1000)
    await running.daemon._journal.settle()
    running.daemon._fanout.finish()
    closing = asyncio.ensure_future(running.daemon._doors.gateway.close())
    assert [(await ws.next())["offset"] for _ in range(500)] == list(range(2, 502))
    assert await ws.closed() == 1012
    await closing
