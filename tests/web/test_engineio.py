"""Engine.IO on both of its transports: HTTP and frames made by hand, below any library."""

from __future__ import annotations

import asyncio
import itertools
import json
import random

import pytest
from engineio_client import (
    POLLING,
    UPGRADE,
    WEBSOCKET,
    Poller,
    asking,
    connected,
    ended,
    following,
    offsets,
    only,
    probed,
    raw_request,
    said,
    sessions,
    until,
)
from support import Running, emit_lines, http_session, settings_for, written

from daemon.app import Daemon

BEFORE_PROBE, AFTER_PROBE = pytest.param(False, id="before"), pytest.param(True, id="after")


pytestmark = pytest.mark.usefixtures("quiet")

# The handshake


async def test_a_handshake_tells_what_a_client_must_know(running, websocket):
    poller = await Poller(running).begin(token=False)
    assert set(poller.opening) == {"sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"}
    assert poller.opening["upgrades"] == ["websocket"]
    assert (poller.opening["pingInterval"], poller.opening["maxPayload"]) == (25_000, 1 << 20)
    await websocket(running)
    assert len(sessions(running)) == 2


async def test_a_handshake_that_is_none_is_refused_and_leaves_nothing(running):
    wrong = ["", "EIO=4", "EIO=4&transport=flashsocket", "transport=polling", WEBSOCKET]
    wrong += ["EIO=3&transport=polling", "EIO=3&transport=websocket", f"{POLLING}&j=0"]
    wrong += [f"{POLLING}&sid=unknown", f"{WEBSOCKET}&sid=unknown"]
    for query, method in (*itertools.product(wrong, ("GET", "POST")), (POLLING, "POST")):
        status, text = await Poller(running, query).answer(method)
        assert (status, json.loads(text)["error"]["code"]) == (400, "bad_request"), query
    assert not sessions(running)


@pytest.mark.parametrize("query", [POLLING, f"{POLLING}&sid="], ids=["no sid", "blank sid"])
async def test_exactly_as_many_as_may_come_are_let_in_at_once(start_daemon, query):
    running = await start_daemon(WEB__MAX_CONNECTIONS="3")

    async def come():
        poller = await Poller(running, query).begin(token=False)
        await poller.post(f'40{{"token":"{running.token()}"}}')
        return (await poller.poll())[0][:2]

    answers = await asyncio.gather(*(come() for _ in range(40)))
    assert sorted(answers) == ["40"] * 3 + ["44"] * 37
    assert (await Poller(running, query).answer("GET"))[0] == 429


async def test_a_handshake_that_breaks_off_holds_no_place(start_daemon, raw_to, websocket):
    running = await start_daemon(WEB__MAX_CONNECTIONS="2")
    whole = raw_request(running, WEBSOCKET, more=UPGRADE)
    for cut in (-30, None) * 10:
        (await raw_to(running, request=whole[:cut])).close()
    await until(lambda: not connected(running) and not sessions(running))
    await websocket(running, token=True)


# Polling


async def test_two_polls_at_once_end_the_session(running):
    poller = await Poller(running).begin()
    first = asyncio.ensure_future(poller.poll())
    await until(lambda: only(running).polling)
    assert await poller.poll() == [400]
    assert await first == ["1"]
    await until(lambda: not sessions(running))


async def test_two_requests_at_once_end_the_session(running, raw_to):
    poller = await Poller(running).begin()
    head = raw_request(running, poller.query, method="POST", more="Content-Length: 2\r\n")
    await raw_to(running, request=head)
    await until(lambda: only(running).posting)
    assert await poller.post("3") == 400
    assert await poller.poll() == ["1"]
    await until(lambda: not sessions(running) and connected(running) <= 1)


async def test_a_request_that_comes_in_pieces_is_heard_whole(running, raw_to):
    poller = await Poller(running).begin()
    body = asking(200_000).encode()
    more = f"Content-Length: {len(body)}\r\n"
    head = raw_request(running, poller.query, method="POST", more=more)
    slow = await raw_to(running, request=head + body[:1000])
    await until(lambda: only(running).posting)
    slow.writer.write(body[1000:])
    assert b" 200 " in await slow.reader.readuntil(b"\r\n\r\n")
    (packet,) = await poller.poll()
    assert len(packet) > 200_000


async def test_each_acknowledgement_comes_before_the_events_that_it_begins(running):
    for session in "12":
        await written(running, 3, session=session)
    poller = await Poller(running).begin()
    await poller.post(following("session:1", id_=1))
    await poller.post(following("session:2", id_=2), following("session:1", id_=3))
    await until(lambda: len(only(running)._waiting) == 9)
    packets = await poller.poll()
    kinds = [packet[:3] if packet[1] == "3" else packet.split(":")[2][:1] for packet in packets]
    assert [kinds.index(f"43{number}") for number in (1, 2)] < [kinds.index("1"), kinds.index("2")]
    assert offsets(packets) == [1, 2, 3] * 2


async def test_a_poll_whose_connection_broke_takes_no_event_with_it(running, raw_to):
    await written(running, 1)
    poller = await Poller(running).begin()
    assert await poller.post(following(since=1)) == 200
    await poller.poll()
    before = connected(running)
    poll = await raw_to(running, request=raw_request(running, poller.query))
    await until(lambda: only(running).polling)
    poll.close()
    await until(lambda: connected(running) == before)
    await written(running, 1)
    await until(lambda: not sessions(running))
    assert await poller.poll() == [400], "it has ended, and says so: `since` brings the event"


async def test_many_packets_of_one_request_hold_nobody_up(running):
    busy, other = await Poller(running).begin(), await Poller(running).begin()
    session = sessions(running)[busy.opening["sid"]]
    post = asyncio.ensure_future(busy.post(*"3" * 100_000))
    await until(lambda: session.received > 100_000)
    assert await other.post(asking()) == 200
    assert not post.done()
    assert await post == 200


# Going over


@pytest.mark.parametrize("seed", range(3))
async def test_events_keep_their_order_and_come_once_while_clients_go_over(
    start_daemon, websocket, seed
):
    chance = random.Random(seed)
    running = await start_daemon(JOURNAL__RING_BYTES="20000")
    await written(running, 300, size=400)
    for _ in range(8):
        poller, told = await Poller(running).begin(), []
        await poller.post(following(since=(since := chance.choice((0, 100, 290)))))
        for _ in range(chance.randrange(3)):
            emit_lines(running, chance.randrange(1, 30), size=chance.choice((10, 800)))
            told += offsets(await poller.poll())
        waiting = asyncio.ensure_future(poller.poll())
        ws = await probed(websocket, running, poller)
        told += offsets(await waiting)
        emit_lines(running, chance.randrange(1, 30), size=chance.choice((10, 800)))
        ws.send("5")
        ws.send(asking())
        await running.daemon._journal.flushed()
        last = running.daemon._journal.get("session:1").flushed
        while not told or told[-1] < last:
            told += offsets([await said(ws)])
        assert told == list(range(since + 1, last + 1))
        ws.close()


async def test_only_one_goes_over_at_a_time_and_the_session_stays_whole(running, websocket):
    poller = await Poller(running).begin()
    ws = await probed(websocket, running, poller)
    with pytest.raises(AssertionError, match="101"):
        await websocket(running, f"{WEBSOCKET}&sid={poller.opening['sid']}")
    ws.send("5")
    ws.send(asking())
    assert (await said(ws)).startswith("437[")
    assert await poller.poll() == [400], "it has a WebSocket"
    assert await poller.post("3") == 400
    assert len(sessions(running)) == 1


@pytest.mark.parametrize("after", [BEFORE_PROBE, AFTER_PROBE])
async def test_one_who_gives_up_going_over_polls_on(running, websocket, after):
    await written(running, 1)
    poller = await Poller(running).begin()
    if after:
        ws = await probed(websocket, running, poller)
        assert await poller.poll() == ["6"]
    else:
        ws = await websocket(running, f"{WEBSOCKET}&sid={poller.opening['sid']}")
    ws.close()
    await until(lambda: not only(running).probing)
    assert await poller.post(following(since=1)) == 200
    assert [packet[:3] for packet in await poller.poll()] == ["431"]
    waiting = asyncio.ensure_future(poller.poll())
    await until(lambda: only(running).polling)
    await written(running, 1)
    assert offsets(await waiting) == [2], "it waits for what comes, and is not answered at once"


async def test_a_request_is_answered_before_its_client_goes_over(running, websocket):
    """It has polled for the last time, yet waits for that answer; we must not wait for a poll."""
    await written(running, 100, size=20_000)
    poller = await Poller(running).begin()
    await poller.post(following())
    session = only(running)
    await until(lambda: not session.has_room())
    held = asyncio.ensure_future(poller.post(asking()))
    await until(lambda: session.posting and session.received > 200)
    ws = await probed(websocket, running, poller)
    assert await held == 200
    assert await poller.post(asking()) == 200
    ws.send("5")
    told = []
    while len(told) < 100:
        told += offsets([await said(ws)])
    assert told == list(range(1, 101))


@pytest.mark.parametrize("after", [BEFORE_PROBE, AFTER_PROBE])
async def test_a_websocket_that_a_session_would_go_over_to_ends_with_it(
    start_daemon, websocket, after
):
    running = await start_daemon(WEB__MAX_CONNECTIONS="1")
    for _ in range(3):
        poller = await Poller(running).begin(token=False)
        ws = await websocket(running, f"{WEBSOCKET}&sid={poller.opening['sid']}")
        if after:
            ws.send("2probe")
        assert await poller.post("1") == 200
        await until(lambda: not sessions(running))
        await ended(ws)


# What is no packet


async def test_what_is_no_packet_is_told_and_the_third_time_ends_it(running, websocket):
    for packet in ("", "x", "²", "2probe", "5", "6", "bAAA", "4", "47", "4[]"):
        poller, ws = await Poller(running).begin(), await websocket(running, token=True)
        await poller.post(*[packet] * 3)
        told = await poller.poll()
        assert ["bad_message" in each for each in told[:2]] == [True, True]
        assert told[2:] == ["41", "1"]
        for _ in range(3):
            ws.send(packet)
        assert ["bad_message" in await said(ws) for _ in range(2)] == [True, True]
        assert [await said(ws), await said(ws)] == ["41", 4400]
        stranger = await websocket(running)
        stranger.send(packet)
        assert [await said(stranger), await said(stranger)] == ["41", 4400]


async def test_an_event_may_not_be_called_what_the_protocol_calls_its_own(running, websocket):
    ws = await websocket(running, token=True)
    for name in ("connect", "disconnect", "connect_error", "message"):
        ws.send(f'427["{name}",{{"token":"{running.token()}"}}]')
        assert "unknown_command" in await said(ws)
    assert len(running.daemon._doors.socketio.peers) == 1


async def test_text_is_no_attachment_and_one_too_many_is_none(running, websocket):
    ws = await websocket(running, token=True)
    ws.send('451-7["command",{"type":"ping","data":{"_placeholder":true,"num":0}}]')
    ws.send("4" + "y" * 1_000_000)
    ws.send(b"one", opcode=2)
    ws.send(b"two", opcode=2)
    told = [await said(ws) for _ in range(3)]
    assert ['"bad_request"' in each for each in told] == [True, False, False]
    assert [each.startswith("437[") for each in told] == [True, False, False]
    assert "of 3 bytes" in told[2]


async def test_a_large_message_is_answered_whatever_is_in_it(running, websocket):
    for junk in ("[],", '{"a":1},', "[" * 3):
        ws = await websocket(running, token=True)
        ws.send(f'427["command",{{"type":"ping","data":[{junk * (1_000_000 // len(junk))}0]}}]')
        assert (await said(ws)).startswith("437[")
    ws.send("4" + "x" * (1 << 20))
    assert await ended(ws) == 1009


# The end of the daemon


@pytest.mark.usefixtures("impatient")
async def test_a_drain_waits_for_no_client_and_leaves_nothing(
    tmp_path, monkeypatch, websocket, raw_to
):
    monkeypatch.setattr("daemon.app.SHUTDOWN_STEP", 60.0)  # what waits for it fails, not passes
    settings = settings_for(tmp_path, WEB__BUFFER_BYTES="6000000", WEB__STALL_TIMEOUT="60")
    before = asyncio.all_tasks()
    async with http_session() as http, asyncio.timeout(30):
        async with Daemon(settings) as daemon:
            running = Running(daemon, http)
            await written(running, 60, size=200_000)
            pollers = [await Poller(running).begin() for _ in range(6)]
            idle = asyncio.ensure_future(pollers[0].poll())
            await websocket(running, f"{WEBSOCKET}&sid={pollers[1].opening['sid']}")
            await probed(websocket, running, pollers[2])
            half = "Content-Length: 9\r\n"
            head = raw_request(running, pollers[3].query, method="POST", more=half)
            await raw_to(running, request=head)
            await pollers[4].post(following())
            full = sessions(running)[pollers[4].opening["sid"]]
            await until(lambda: not full.has_room())
            request = raw_request(running, pollers[4].query)
            await raw_to(running, request=request, receive_bytes=4096)
            stalled = await websocket(running, token=True, receive_bytes=4096)
            stalled.send(following())
            await Poller(running).begin(token=False)
            states = list(sessions(running).values())
            await until(lambda: any(each.posting for each in states))
            await until(lambda: any(each.outlet and not each.has_room() for each in states))
            await until(lambda: any(each.answering for each in states))
        packets = await idle
        assert "global.draining" in packets[0]
    assert not sessions(running)
    assert not running.daemon._doors.socketio.peers
    assert asyncio.all_tasks() <= before
