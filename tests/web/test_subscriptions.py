"""Subscriptions by the letter: where they begin, what they answer, and what they deliver."""

from __future__ import annotations

import asyncio
import json

import pytest
from support import emit_lines, written


async def subscribed(ws, data=None, channel="session:1"):
    answer = await ws.call("subscribe", data or {}, channel=channel)
    assert answer["type"] == "global.subscription_success", answer
    assert answer["channel"] == answer["data"]["channel"] == channel
    assert "offset" not in answer
    return answer["data"]


async def offsets(ws, count):
    return [(await ws.next())["offset"] for _ in range(count)]


async def quiet(ws):
    """Nothing is on its way: the answer to a ping comes first."""
    assert (await ws.call("ping"))["type"] == "global.pong"
    await ws.send("ping", "last")
    message = await ws.next()
    assert (message["type"], message["data"]) == ("global.pong", "last")


@pytest.mark.parametrize(
    ("data", "recovered", "first"),
    [
        ({}, True, 11),
        ({"since": 0}, True, 1),
        ({"since": 4}, True, 5),
        ({"since": 9}, True, 10),
        ({"since": 10}, True, 11),
        ({"since": 11}, False, 11),
        ({"since": 10**30}, False, 11),
        ({"since": 2**63}, False, 11),
        ({"since": 4, "epoch": "EPOCH"}, True, 5),
        ({"since": 4, "epoch": "other"}, False, 11),
        ({"since": 4, "epoch": ""}, False, 11),
        ({"since": 4, "epoch": None}, True, 5),
        ({"since": None}, True, 11),
        ({"epoch": "EPOCH"}, True, 11),
        ({"since": 0, "epoch": "other"}, True, 1),
    ],
)
async def test_a_subscription_begins_where_the_contract_says(running, data, recovered, first):
    await written(running, 10)
    epoch = running.daemon._journal.get("session:1").epoch
    data = {key: epoch if value == "EPOCH" else value for key, value in data.items()}
    ws = await running.ws()
    told = await subscribed(ws, data)
    assert told == {
        "channel": "session:1",
        "epoch": epoch,
        "offset": 10,
        "oldest": 1,
        "recovered": recovered,
    }
    await written(running, 2)
    assert await offsets(ws, 13 - first) == list(range(first, 13))
    await quiet(ws)


@pytest.mark.parametrize(
    ("since", "recovered", "first"), [(0, True, 6), (4, False, 11), (5, True, 6), (7, True, 8)]
)
async def test_what_is_older_than_the_oldest_kept_is_not_recovered(
    running, since, recovered, first
):
    await written(running, 10)
    running.daemon._journal.get("session:1").oldest_on_disk = 6
    ws = await running.ws()
    told = await subscribed(ws, {"since": since})
    assert (told["oldest"], told["recovered"]) == (6, recovered)
    await written(running, 1)
    assert await offsets(ws, 12 - first) == list(range(first, 12))


@pytest.mark.parametrize("since", [-1, -(2**70), 1.5, 1.0, "1", True, [], {}])
async def test_a_since_that_is_no_offset_is_a_subscription_error(running, since):
    await written(running, 2)
    ws = await running.ws()
    answer = await ws.call("subscribe", {"since": since}, channel="session:1")
    assert answer["type"] == "global.subscription_error"
    assert answer["data"]["channel"] == answer["channel"] == "session:1"
    assert answer["data"]["code"] == "bad_request"
    assert "since" in answer["data"]["message"]
    await written(running, 1)
    await quiet(ws)


@pytest.mark.parametrize(
    "data", [7, "x", [1], {"epoch": 7}, {"channels": "session:1"}, {"channels": [7]}]
)
async def test_data_of_another_shape_is_a_subscription_error(running, data):
    ws = await running.ws()
    answer = await ws.call("subscribe", data, channel="session:1")
    assert answer["type"] == "global.subscription_error"
    assert answer["data"]["code"] == "bad_request"


@pytest.mark.parametrize("data", [{}, {"channels": []}, {"channels": ["session:1"] * 257}])
@pytest.mark.parametrize("type_", ["subscribe", "unsubscribe"])
async def test_without_a_channel_or_with_too_many_it_is_refused_once(running, type_, data):
    ws = await running.ws()
    answer = await ws.call(type_, data)
    assert (answer["type"], answer["data"]["code"]) == ("global.error", "bad_request")
    assert "channel" in answer["data"]["message"]
    await quiet(ws)


@pytest.mark.parametrize(
    ("channel", "code"),
    [
        ("session:none", "not_found"),
        ("nothing", "invalid_channel"),
        ("nothing:1", "not_found"),
        ("session:", "invalid_channel"),
        (":1", "invalid_channel"),
        ("Session:1", "invalid_channel"),
        ("session:a b", "invalid_channel"),
        ("session:é", "invalid_channel"),
        ("session:1\n", "invalid_channel"),
        ("session:" + "x" * 129, "invalid_channel"),
        ("session:" + "x" * 128, "not_found"),
        ("session:1*", "invalid_channel"),
        ("**", "invalid_channel"),
        ("session.*", "invalid_channel"),
        ("session:*x", "invalid_channel"),
        ("../etc", "invalid_channel"),
    ],
)
async def test_a_channel_that_is_none_is_told_apart_from_one_that_cannot_be(running, channel, code):
    ws = await running.ws()
    answer = await ws.call("subscribe", channel=channel)
    assert answer["type"] == "global.subscription_error"
    assert answer["data"]["channel"] == channel
    assert answer["data"]["code"] == code
    answer = await ws.call("unsubscribe", channel=channel)
    assert answer["data"]["channel"] == channel


async def test_two_hundred_channels_at_once_each_have_an_answer_and_then_their_events(running):
    names = [f"session:{number}" for number in range(200)]
    for number in range(200):
        emit_lines(running, 3, session=str(number))
    await running.daemon._journal.flushed()
    ws = await running.ws()
    await ws.send("subscribe", {"channels": names, "since": 1}, id="all")
    answered, seen = [], {name: [] for name in names}
    while len(answered) < 200 or sum(map(len, seen.values())) < 400:
        message = await ws.next()
        if "offset" in message:
            assert message["channel"] in answered, "an event before its answer"
            seen[message["channel"]].append(message["offset"])
        else:
            assert (message["id"], message["data"]["recovered"]) == ("all", True)
            answered.append(message["channel"])
    assert answered == names
    assert all(found == [2, 3] for found in seen.values())


async def test_the_limit_counts_what_is_followed_now(start_daemon):
    running = await start_daemon(WEB__MAX_SUBSCRIPTIONS="3")
    for session in "12345":
        await written(running, 1, session=session)
    ws = await running.ws()
    await ws.send("subscribe", {"channels": ["session:1", "session:*", "session:2"]})
    for _ in range(3):
        assert (await ws.next())["type"] == "global.subscription_success"
    for refused in ("session:3", "project:*"):
        answer = await ws.call("subscribe", channel=refused)
        assert answer["data"]["code"] == "rate_limited"
    for again in ("session:1", "session:*"):
        await subscribed(ws, channel=again)
    await ws.call("unsubscribe", channel="session:*")
    await subscribed(ws, channel="session:3")


async def test_overlapping_wildcards_deliver_an_event_once_and_in_order(running):
    await written(running, 1)
    ws = await running.ws()
    for pattern in ("*", "session:*", "session:1"):
        await subscribed(ws, channel=pattern)
    await written(running, 50)
    assert await offsets(ws, 50) == list(range(2, 52))
    for pattern in ("*", "session:1"):
        await ws.call("unsubscribe", channel=pattern)
    await written(running, 5)
    assert await offsets(ws, 5) == list(range(52, 57))
    await ws.call("unsubscribe", channel="session:*")
    await written(running, 5)
    await quiet(ws)


async def test_a_wildcard_is_live_only_and_says_so(running):
    await written(running, 3)
    ws = await running.ws()
    assert (await subscribed(ws, {"since": 1}, channel="session:*"))["recovered"] is False
    await quiet(ws)
    await written(running, 1, session="made-later")
    message = await ws.next()
    assert (message["channel"], message["offset"]) == ("session:made-later", 1)


async def test_a_wildcard_reaches_its_own_domain_only(running):
    ws = await running.ws()
    await subscribed(ws, channel="session:*")
    running.daemon._bus.broadcast("workflow:run:1", {"type": "test.event", "data": {}})
    await written(running, 1)
    assert (await ws.next())["channel"] == "session:1"
    await subscribed(ws, channel="workflow:*")
    running.daemon._bus.broadcast("workflow:run:1", {"type": "test.event", "data": {"n": 2}})
    message = await ws.next()
    assert (message["channel"], message["offset"], message["data"]) == (
        "workflow:run:1",
        2,
        {"n": 2},
    )


async def test_unsubscribing_ends_a_replay_under_way(running):
    await written(running, 2000, size=2000)
    ws = await running.ws()
    await ws.send("subscribe", {"since": 0}, channel="session:1")
    await ws.send("unsubscribe", channel="session:1")
    while (message := await ws.next())["type"] != "global.unsubscribed":
        last = message.get("offset", 0)
    assert last < 2000
    await quiet(ws)
    await ws.send("subscribe", {"since": last}, channel="session:1")
    assert (await ws.next())["data"]["recovered"] is True
    assert await offsets(ws, 2000 - last) == list(range(last + 1, 2001))


async def test_subscribing_again_and_again_in_mid_replay_changes_nothing(running):
    await written(running, 1000, size=2000)
    ws = await running.ws()
    for _ in range(20):
        await ws.send("subscribe", {"since": 0}, channel="session:1")
    seen = []
    while len(seen) < 1000:
        message = await ws.next()
        if "offset" in message:
            seen.append(message["offset"])
    assert seen == list(range(1, 1001))
    await quiet(ws)


async def test_replay_while_live_events_flow_has_no_gap_and_no_double(running):
    await written(running, 500, size=1000)
    stop = asyncio.Event()

    async def flow():
        while not stop.is_set():
            await written(running, 20, size=1000)

    flowing = asyncio.ensure_future(flow())
    sockets = []
    for since in (0, 1, 250, 499, 500):
        ws = await running.ws()
        await ws.send("subscribe", {"since": since}, channel="session:1")
        assert (await ws.next())["data"]["recovered"] is True
        sockets.append((since, ws))
    for since, ws in sockets:
        assert await offsets(ws, 1500) == list(range(since + 1, since + 1501))
    stop.set()
    await flowing


async def test_a_wildcard_subscription_needs_a_grant_that_covers_it(running):
    await written(running, 1)
    cases = {
        "read:session:*": {"session:*": None, "session:1": None, "*": "forbidden"},
        "read:session:1": {"session:*": "forbidden", "session:1": None, "session:2": "forbidden"},
        "read:*": {"*": None, "session:*": None},
        "write:* admin:*": {"session:1": "forbidden", "*": "forbidden"},
        "read:workflow:*:x": {"workflow:*": "forbidden", "workflow:run:x": "not_found"},
    }
    for scope, wanted in cases.items():
        ws = await running.ws(token=running.token(scope=scope))
        for channel, code in wanted.items():
            answer = await ws.call("subscribe", channel=channel)
            assert answer["data"].get("code") == code, (scope, channel)


async def test_an_event_over_a_mebibyte_comes_cut_with_the_way_to_the_whole(running):
    await written(running, 1)
    ws = await running.ws()
    await subscribed(ws)
    data = {"sessionId": "1", "text": "\u00e9\n" * 700_000, "list": list(range(10)), "n": 7}
    running.daemon._bus.broadcast("session:1", {"type": "test.large", "data": data})
    frame = await ws.raw.receive(30)
    assert len(frame.data.encode()) <= 1 << 20
    message = json.loads(frame.data)
    assert (message["offset"], message["data"]["truncated"]) == (2, True)
    assert (message["data"]["sessionId"], message["data"]["n"]) == ("1", 7)
    await running.daemon._journal.flushed()
    url = running.url + message["data"]["href"]
    async with running.http.get(url, headers=running.headers()) as response:
        whole = await response.json()
    assert whole["data"] == data
    assert (whole["offset"], whole["channel"]) == (2, "session:1")
    async with running.http.get(url) as response:
        assert response.status == 401
    async with running.http.get(url, headers=running.headers(scope="read:project:*")) as response:
        assert response.status == 403
