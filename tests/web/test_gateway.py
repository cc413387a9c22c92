"""The /ws endpoint as a client meets it, well-behaved or not."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest
from support import RawSocket, Socket, emit_lines, written

# Messages


@pytest.mark.parametrize(
    "id_", ["7", '"seven"', "7.50", "0", "-1", '"\\u00e9\\n"', "123456789012345678901234567890"]
)
async def test_an_id_comes_back_as_it_was(running, id_):
    ws = await running.ws()
    await ws.raw.send_str(f'{{"id":{id_},"type":"ping","data":{{"n":1}}}}')
    frame = await ws.raw.receive(30)
    assert frame.data == f'{{"channel":"global","type":"global.pong","data":{{"n":1}},"id":{id_}}}'


@pytest.mark.parametrize("id_", ["[1]", "{}", "true", '"' + "x" * 300 + '"'])
async def test_an_id_of_another_kind_is_refused(running, id_):
    ws = await running.ws()
    await ws.raw.send_str(f'{{"id":{id_},"type":"ping"}}')
    answer = await ws.next()
    assert answer["type"] == "global.error"
    assert answer["data"]["code"] == "bad_request"
    assert "id" not in answer


@pytest.mark.parametrize(
    "text", ["nonsense", "[]", "7", "{}", '{"type":7}', '{"type":null}', "", "[" * 100_000]
)
async def test_a_bad_message_is_answered_twice_and_the_third_closes(running, text):
    ws = await running.ws()
    for _ in range(2):
        await ws.raw.send_str(text)
        assert (await ws.next())["data"]["code"] == "bad_message"
    await ws.raw.send_str(text)
    assert await ws.closed() == 4400


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ('{"id":1,"type":"ping","data":' + "[" * 100_000 + "]" * 100_000 + "}", None),
        ('{"id":2,"type":"session.create","data":{"agent":"\\ud800"}}', 2),
        ('{"id":"\\ud800","type":"ping"}', "\ud800"),
    ],
    ids=["deep", "half a character", "half a character as id"],
)
async def test_what_cannot_be_read_but_has_a_type_is_no_strike(running, text, id_):
    ws = await running.ws()
    for _ in range(4):
        await ws.raw.send_str(text)
        answer = await ws.next()
        assert answer["data"]["code"] == "bad_request"
        assert answer.get("id") == id_


async def test_binary_where_none_is_known_is_a_bad_message(running):
    ws = await running.ws()
    await ws.raw.send_bytes(b"\x01\x02")
    assert (await ws.next())["data"]["code"] == "bad_message"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "no.such"}, "unknown_command"),
        ({"type": "session.get", "data": {}}, "bad_request"),
        ({"type": "session.get", "data": []}, "bad_request"),
        ({"type": "session.get", "data": {"sessionId": 7}}, "bad_request"),
        ({"type": "session.get", "data": {"sessionId": "no"}}, "not_found"),
        ({"type": "session.list", "data": {"typo": 1}}, "bad_request"),
        ({"type": "session.create", "data": {"agent": "command"}}, "bad_request"),
        ({"type": "session.create", "data": {"agent": "nobody"}}, "bad_request"),
        ({"type": "session.create", "data": {"agent": "command", "argv": [""]}}, "bad_request"),
        ({"type": "session.create", "data": {"agent": "command", "argv": ["a\0"]}}, "bad_request"),
        ({"type": "project.add", "data": {"path": "relative"}}, "bad_request"),
        ({"type": "project.add", "data": {"path": "/no/such/folder"}}, "bad_request"),
        ({"type": "project.get", "data": {"projectId": "no"}}, "not_found"),
        ({"type": "task.cancel", "data": {"taskId": "no"}}, "not_found"),
        ({"type": "ping", "channel": "no channel"}, "invalid_channel"),
        ({"type": "ping", "channel": 7}, "invalid_channel"),
        ({"type": "subscribe"}, "bad_request"),
        ({"type": "auth", "data": {"token": "junk"}}, "unauthorized"),
    ],
)
async def test_a_request_that_cannot_be_carried_out_gets_its_code_and_its_id(
    running, message, code
):
    ws = await running.ws()
    await ws.raw.send_str(json.dumps({"id": "x", **message}))
    answer = await ws.next()
    assert (answer["type"], answer["id"]) == ("global.error", "x")
    assert answer["data"]["code"] == code
    assert len(answer["data"]["message"]) > 10
    assert (await ws.call("ping"))["type"] == "global.pong"


async def test_fragments_and_pings_between_them_are_one_message(raw):
    socket = await raw()
    assert (await socket.next())["type"] == "global.connected"
    socket.send('{"type":"pi', fin=False)
    socket.send("are you there", opcode=9)
    socket.send('ng","id":1}', opcode=0)
    opcode, payload = await socket.frame()
    assert (opcode, payload) == (10, b"are you there")
    assert (await socket.next())["id"] == 1


async def test_a_message_over_the_limit_closes_with_1009_that_really_arrives(raw):
    socket = await raw()
    await socket.next()
    socket.send('{"type":"ping","data":"' + "x" * 3_000_000 + '"}')
    for _ in range(20):
        socket.send('{"type":"ping","data":"' + "x" * 200_000 + '"}')
    assert await socket.next() == {"type": "close", "code": 1009}


async def test_over_the_rate_answers_rate_limited_and_a_flood_closes_4429(start_daemon):
    running = await start_daemon(WEB__MESSAGES_PER_SECOND="20")
    ws = await running.ws()
    for number in range(200):
        await ws.send("ping", id=number)
    answers = []
    while (frame := await ws.raw.receive(30)).type is aiohttp.WSMsgType.TEXT:
        answers.append(json.loads(frame.data))
    assert ws.raw.close_code == 4429
    refused = [a for a in answers if a["type"] == "global.error"]
    assert refused
    assert all(a["data"]["code"] == "rate_limited" and "id" in a for a in refused)


async def test_one_connection_too_many_is_closed_with_4409(start_daemon):
    running = await start_daemon(WEB__MAX_CONNECTIONS="2")
    held = [await running.ws(), await running.ws()]
    third = await running.http.ws_connect(f"{running.url}/ws", headers=running.headers())
    assert await Socket(third).closed() == 4409
    assert all(not each.raw.closed for each in held)


# Subscriptions


async def test_live_only_without_since(running):
    await written(running, 3)
    ws = await running.ws()
    answer = await ws.call("subscribe", channel="session:1")
    assert answer["type"] == "global.subscription_success"
    assert answer["channel"] == "session:1"
    assert answer["data"]["offset"] == 3
    assert answer["data"]["recovered"] is True
    await written(running, 1)
    assert (await ws.next())["offset"] == 4


async def test_since_replays_exactly_what_was_missed_then_goes_live(running):
    await written(running, 500)
    ws = await running.ws()
    answer = await ws.call("subscribe", {"since": 200}, channel="session:1")
    assert answer["data"]["recovered"] is True
    emit_lines(running, 100)
    messages = [await ws.next() for _ in range(400)]
    assert [m["offset"] for m in messages] == list(range(201, 601))
    assert messages[0]["data"] == {"sessionId": "1", "content": "200\n", "type": "stdout"}


async def test_a_wrong_epoch_or_an_offset_beyond_the_head_is_not_recovered(running):
    await written(running, 3)
    ws = await running.ws()
    for data in ({"since": 1, "epoch": "other"}, {"since": 4}, {"epoch": "other"}):
        answer = await ws.call("subscribe", data, channel="session:1")
        assert answer["data"]["recovered"] is False
        await ws.call("unsubscribe", channel="session:1")
    answer = await ws.call("subscribe", {"since": 0, "epoch": "other"}, channel="session:1")
    assert answer["data"]["recovered"] is True
    assert (await ws.next())["offset"] == 1


async def test_subscribing_again_changes_nothing(running):
    await written(running, 3)
    ws = await running.ws()
    await ws.call("subscribe", {"since": 0}, channel="session:1")
    assert [(await ws.next())["offset"] for _ in range(3)] == [1, 2, 3]
    await ws.call("subscribe", {"since": 0}, channel="session:1")
    await written(running, 1)
    assert (await ws.next())["offset"] == 4


async def test_many_channels_get_one_answer_each(running):
    await written(running, 1)
    ws = await running.ws()
    await ws.send("subscribe", {"channels": ["session:1", "session:none", "bad name"]}, id=1)
    answers = [await ws.next() for _ in range(3)]
    assert [a["id"] for a in answers] == [1, 1, 1]
    assert answers[0]["type"] == "global.subscription_success"
    assert [a["data"]["code"] for a in answers[1:]] == ["not_found", "invalid_channel"]


async def test_a_channel_and_a_wildcard_over_it_deliver_an_event_once(running):
    await written(running, 2)
    ws = await running.ws()
    await ws.call("subscribe", channel="session:*")
    await ws.call("subscribe", channel="*")
    await ws.call("subscribe", {"since": 0}, channel="session:1")
    await written(running, 2)
    assert [(await ws.next())["offset"] for _ in range(4)] == [1, 2, 3, 4]
    await written(running, 1, session="2")
    assert (await ws.next())["channel"] == "session:2"
    await ws.call("unsubscribe", channel="session:1")
    await written(running, 1)
    message = await ws.next()
    assert (message["channel"], message["offset"]) == ("session:1", 5)


async def test_after_unsubscribe_nothing_follows(running):
    await written(running, 1)
    ws = await running.ws()
    await ws.call("subscribe", channel="session:1")
    answer = await ws.call("unsubscribe", channel="session:1")
    assert answer["type"] == "global.unsubscribed"
    await written(running, 5)
    assert (await ws.call("ping"))["type"] == "global.pong"


async def test_the_number_of_subscriptions_is_limited(start_daemon):
    running = await start_daemon(WEB__MAX_SUBSCRIPTIONS="2")
    for session in "123":
        await written(running, 1, session=session)
    ws = await running.ws()
    for session in "12":
        answer = await ws.call("subscribe", channel=f"session:{session}")
        assert answer["type"] == "global.subscription_success"
    answer = await ws.call("subscribe", channel="session:3")
    assert answer["data"]["code"] == "rate_limited"
    answer = await ws.call("subscribe", channel="session:1")
    assert answer["type"] == "global.subscription_success"


# Slow readers


async def test_twenty_stalled_readers_change_nothing_for_a_healthy_one(running, raw):
    await written(running, 1)
    for _ in range(20):
        stalled = await raw()
        await stalled.next()
        stalled.send('{"type":"subscribe","channel":"session:1"}')
        await stalled.next()
    healthy = await running.ws()
    await healthy.call("subscribe", channel="session:1")
    seen = []

    async def read():
        while len(seen) < 2000:
            seen.append((await healthy.next())["offset"])

    reading = asyncio.ensure_future(read())
    for _ in range(20):
        await written(running, 100, size=2000)
    await asyncio.wait_for(reading, 30)
    assert seen == list(range(2, 2002))


async def test_a_reader_that_takes_nothing_is_cut_and_resumes_without_loss(start_daemon):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.5", WEB__BUFFER_BYTES="65536")
    await written(running, 1)
    stalled = await RawSocket.connect(running)
    await stalled.next()
    stalled.send('{"type":"subscribe","channel":"session:1","data":{"since":0}}')
    success = await stalled.next()
    for _ in range(40):
        await written(running, 100, size=5000)
    async with asyncio.timeout(30):
        while running.daemon._doors.gateway.connections:
            await asyncio.sleep(0.05)
    assert running.daemon._doors.gateway.slow_closes == 1
    stalled.close()
    ws = await running.ws()
    answer = await ws.call(
        "subscribe", {"since": 1, "epoch": success["data"]["epoch"]}, channel="session:1"
    )
    assert answer["data"]["recovered"] is True
    offsets = [(await ws.next())["offset"] for _ in range(4000)]
    assert offsets == list(range(2, 4002))


async def test_a_reader_that_is_slow_but_steady_is_never_cut(start_daemon):
    running = await start_daemon(WEB__STALL_TIMEOUT="0.6", WEB__BUFFER_BYTES="65536")
    await written(running, 1)
    slow = await RawSocket.connect(running)
    await slow.next()
    slow.send('{"type":"subscribe","channel":"session:1","data":{"since":0}}')
    assert (await slow.next())["type"] == "global.subscription_success"
    for _ in range(11):
        await written(running, 100, size=5000)
    for number in range(1, 1102):
        message = await slow.next()
        assert message["offset"] == number
        if number % 50 == 0:
            await asyncio.sleep(0.1)  # the slowness is what is tested: 2 s in all
    slow.close()


async def test_a_quiet_peer_is_pinged_and_a_silent_one_dropped(start_daemon):
    running = await start_daemon(WEB__HEARTBEAT="0.2", WEB__PEER_TIMEOUT="1")
    silent = await RawSocket.connect(running)
    await silent.next()
    opcode, payload = await silent.frame()
    assert (opcode, payload) == (9, b"")
    answering = await running.ws()
    reading = asyncio.ensure_future(answering.closed())  # a client that reads answers pings
    async with asyncio.timeout(30):
        while (await silent.next())["type"] != "close":
            pass
    await asyncio.sleep(0.5)  # longer than the peer timeout, counted from its beginning
    assert not reading.done()
    reading.cancel()
    await asyncio.wait([reading])
    silent.close()


async def test_nobody_was_silent_while_the_daemon_stood_still(start_daemon):
    running = await start_daemon(WEB__HEARTBEAT="0.2", WEB__PEER_TIMEOUT="1")
    ws = await running.ws()
    time.sleep(1.5)  # whatever blocks the loop blocks its ears
    await asyncio.sleep(0.1)  # until it has looked at its clients
    assert (await ws.call("ping"))["type"] == "global.pong"


# The end


async def test_a_drain_warns_and_closes_with_1012(tmp_path):
    from support import Running, settings_for

    from daemon.app import Daemon

    async with aiohttp.ClientSession() as http:
        async with Daemon(settings_for(tmp_path / "own")) as daemon:
            running = Running(daemon, http)
            ws = await running.ws()
            created = await ws.call("session.create", {"agent": "command", "argv": ["sleep", "99"]})
            session = created["data"]["sessionId"]
            await ws.call("subscribe", {"since": 0}, channel=f"session:{session}")
            await ws.until("session.started")

            async def read():
                return await ws.until("session.error"), await ws.closed()

            reading = asyncio.ensure_future(read())
        rest, code = await reading
    assert code == 1012
    draining = next(m for m in rest if m["type"] == "global.draining")
    assert 0 <= draining["data"]["reconnectMs"] <= 2000
    assert rest[-1]["data"]["code"] == "daemon_stopped"
