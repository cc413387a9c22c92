"""An Engine.IO session from its first packet to its last, with clients that are slow, or gone."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest
from engineio_client import (
    POLLING,
    Poller,
    asking,
    connected,
    ended,
    following,
    offsets,
    only,
    raw_request,
    said,
    sessions,
    until,
)
from support import open_descriptors, written

from daemon.web.engineio_session import Session

pytestmark = pytest.mark.usefixtures("quiet")

# Who is slow


async def test_one_who_does_not_fetch_his_answers_is_not_heard_and_then_cut(start_daemon):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.3")
    poller = await Poller(running).begin()
    session = only(running)
    packets = [asking(50_000, number) for number in range(20)]
    assert await poller.post(*packets) == 200, "it is answered when the session ends"
    assert session.code == 4408 or running.daemon._doors.socketio.slow_closes == 1
    assert session._size < 400_000
    await until(lambda: not sessions(running))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("size", [1000, 6_000_000], ids=["between two polls", "in an answer"])
async def test_one_who_reads_no_more_of_what_he_polls_is_cut(start_daemon, raw_to, size):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.5", WEB__BUFFER_BYTES=str(size))
    await written(running, 60, size=200_000)
    poller = await Poller(running).begin()
    await poller.post(following())
    await until(lambda: not only(running).has_room())
    poll = await raw_to(running, request=raw_request(running, poller.query), receive_bytes=4096)
    await until(lambda: not sessions(running))
    assert running.daemon._doors.socketio.slow_closes == 1
    poll.close()


async def test_one_whose_connection_closed_after_his_last_poll_is_cut(start_daemon, raw_to):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.5")
    await written(running, 1)
    poller = await Poller(running).begin()
    await poller.post(following(since=1))
    before = connected(running)
    poll = await raw_to(running, request=raw_request(running, poller.query))
    await poll.reader.readuntil(b"global.subscription_success")
    poll.close()
    await until(lambda: connected(running) == before)
    await written(running, 1)
    await until(lambda: not sessions(running))
    assert running.daemon._doors.socketio.slow_closes == 1


async def test_one_who_sends_and_never_reads_is_not_read_either(start_daemon, websocket):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.5", WEB__MESSAGES_PER_SECOND="100000")
    rude = await websocket(running, token=True, receive_bytes=8192)
    session = only(running)
    for _ in range(300):
        rude.send(asking(100_000))
    await until(lambda: not session.has_room())
    assert session.outlet.transport.get_write_buffer_size() < (1 << 20)
    await until(lambda: not sessions(running))
    assert running.daemon._doors.socketio.slow_closes == 1


async def test_a_slow_reader_of_a_large_answer_is_neither_stalled_nor_silent(start_daemon, raw_to):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.6", WEB__PEER_TIMEOUT="1.2")
    await written(running, 2, size=500_000)
    poller = await Poller(running).begin()
    await poller.post(following())
    poll = await raw_to(running, request=b"", receive_bytes=8192)
    taken = ""
    while offsets(taken.split("\x1e")) != [1, 2]:
        poll.writer.write(raw_request(running, poller.query))
        head = (await poll.reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head.splitlines()[0], head
        left = int(head.split(b"content-length: ")[1].split()[0])
        body = b""
        while len(body) < left:
            body += await poll.reader.read(min(4096, left - len(body)))
            await asyncio.sleep(0.01)  # the pace is what is tested
        taken += "\x1e" + body.decode()
    assert len(sessions(running)) == 1


async def test_a_slow_reader_of_a_long_replay_is_neither_stalled_nor_silent(
    start_daemon, websocket
):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.6", WEB__PEER_TIMEOUT="1.2")
    await written(running, 120, size=20_000)
    ws = await websocket(running, token=True, receive_bytes=16_384)
    ws.send(following())
    told = []
    while len(told) < 120:
        told += offsets([await said(ws)])
        await asyncio.sleep(0.02)  # the pace is what is tested
    assert told == list(range(1, 121))


async def test_nobody_was_slow_or_silent_while_the_daemon_stood_still(start_daemon):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.5", WEB__PEER_TIMEOUT="1")
    await written(running, 1)
    poller = await Poller(running).begin()
    await poller.post(following())
    await until(lambda: only(running).waits)
    time.sleep(1.5)  # whatever blocks the loop blocks its ears
    assert offsets(await poller.poll()) == [1]
    assert only(running).code is None


# Its end


async def test_pings_are_sent_and_one_who_answers_none_is_taken_for_gone(start_daemon, websocket):
    running = await start_daemon(WEB__HEARTBEAT="0.2", WEB__PEER_TIMEOUT="1.2")
    poller = await Poller(running).begin()
    ws = await websocket(running, token=True)
    for _ in range(5):
        assert await said(ws) == "2"
        ws.send("3")
        assert set(await poller.poll()) == {"2"}
        await poller.post("3")
    assert await ended(ws) == 1000
    await until(lambda: not sessions(running))


@pytest.mark.usefixtures("impatient")
async def test_a_goodbye_is_answered_on_both_transports(running, websocket):
    poller, ws = await Poller(running).begin(), await websocket(running, token=True)
    waiting = asyncio.ensure_future(poller.poll())
    await until(lambda: any(session.polling for session in sessions(running).values()))
    assert await poller.post("1", asking()) == 200
    assert await waiting == ["1"], "and nothing of what follows a goodbye"
    ws.send("1")
    ws.send(asking())
    assert await said(ws) == 1000
    assert await ended(ws) is None, "one who stays is cut"
    await until(lambda: not sessions(running) and not running.daemon._doors.socketio.peers)


async def test_nothing_is_kept_of_sessions_that_have_ended(running, websocket):
    await (await Poller(running).begin()).post("41")
    await until(lambda: not sessions(running))
    before = open_descriptors()
    for number in range(60):
        poller = await Poller(running).begin(token=False)
        await poller.post("1", f"40/{number}", f'40{{"token":"{running.token()}"}}', '451-["x"]')
        ws = await websocket(running, token=True)
        ws.send(following("session:*") if number % 2 else "1")
        ws.send(f'40{{"token":"{running.token()}"}}')
        ws.close()
    await until(lambda: not sessions(running))
    await until(lambda: open_descriptors() <= before)
    assert not running.daemon._fanout._wild
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, Session)]


async def test_a_stranger_who_is_turned_away_leaves_his_connection_to_others(start_daemon, raw_to):
    running = await start_daemon(AUTH__TIMEOUT="0.3")
    await written(running, 1)
    shared = await raw_to(running, request=raw_request(running, POLLING))
    assert b'"sid"' in await shared.reader.readuntil(b"}")
    more = f"Authorization: Bearer {running.token()}\r\n"
    events = raw_request(running, "channel=session:1", path="/api/events", more=more)
    shared.writer.write(events)
    assert b" 200 " in await shared.reader.readuntil(b"\r\n\r\n")
    await until(lambda: not sessions(running))
    await written(running, 1)
    assert await shared.reader.readuntil(b'"offset":2')
