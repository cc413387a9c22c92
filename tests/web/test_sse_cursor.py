"""Cursors of event streams: whatever was accepted can be resumed."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import emit_lines, written

from daemon.core.channel_log import ChannelLog
from daemon.web.sse_cursor import LastPlaces, StreamCursor

NGINX = 8 << 10
"""Bytes of a header that the usual proxies let through."""


def log(name, epoch="0badc0de"):
    return ChannelLog(1, name, epoch, 0, 1)


def many(count=256):
    return [log(f"session:{'x' * 110}{number:018}", f"{number:016x}") for number in range(count)]


def cursor_of(places):
    cursor = StreamCursor()
    for where, offset in places:
        cursor.follow(where, offset)
    return cursor.text().decode()


@pytest.mark.parametrize("count", [1, 4, 5, 20, 256])
def test_a_cursor_brings_back_every_place_and_fits_in_a_header(count):
    logs = many(count)
    text = cursor_of((each, number * 1_000_003) for number, each in enumerate(logs))
    assert len(text) < NGINX
    last = LastPlaces(text)
    for number, each in enumerate(logs):
        assert last.of(each, 7) == (each.epoch, number * 1_000_003)
    assert last.of(log("session:other"), 7) == (None, 7)


def test_a_cursor_moves_with_its_channels():
    logs, cursor = many(20), StreamCursor()
    for each in logs:
        cursor.follow(each, 1)
    cursor.follow(logs[3], 2**40)
    last = LastPlaces(cursor.text().decode())
    assert [last.of(each, None)[1] for each in logs] == [1] * 3 + [2**40] + [1] * 16


def test_another_epoch_is_not_resumed():
    logs = many(20)
    last = LastPlaces(cursor_of((each, 5) for each in logs))
    epoch, offset = last.of(log(logs[0].name, "ffff"), None)
    assert (epoch, offset) == ("", 5)


@given(st.text(max_size=200))
def test_junk_is_ignored(text):
    for junk in (text, f"p1.{text}"):
        assert LastPlaces(junk).of(log("session:1"), 3)[1] is not None


async def events_of(running, names, *, last=None, count):
    """Read so many events as an EventSource does; gives their places, and the last id."""
    query = "&".join(f"channel={name}" for name in names)
    headers = running.headers() | ({"Last-Event-ID": last} if last else {})
    told = []
    async with (
        asyncio.timeout(30),
        running.http.get(f"{running.url}/api/events?{query}&since=0", headers=headers) as answer,
    ):
        assert answer.status == 200
        async for raw in answer.content:
            field, _, value = raw.decode().rstrip("\n").partition(": ")
            if field == "id":
                last = value
            elif field == "data":
                message = json.loads(value)
                told.append((message["channel"], message["offset"]))
                if len(told) == count:
                    break
    return told, last


async def test_a_stream_of_many_channels_is_resumed_by_its_last_event_id(running):
    ids = [f"{'n' * 20}-{number}" for number in range(200)]
    for each in ids:
        emit_lines(running, 2, session=each)
    await running.daemon._journal.flushed()
    names = [f"session:{each}" for each in ids]
    first, last = await events_of(running, names, count=150)
    assert len(last) < NGINX
    more, _ = await events_of(running, names, last=last, count=250)
    assert sorted(first + more) == sorted((name, offset) for name in names for offset in (1, 2))


async def test_a_cursor_of_the_parser_limit_is_accepted(running):
    await written(running, 5)
    epoch = running.daemon._journal.get("session:1").epoch
    places = [f"session:{number}={'0' * 32}:{number}" for number in range(600)]
    last = ",".join([*places, f"session:1={epoch}:3"])
    assert len(last) > 3 * NGINX
    told, _ = await events_of(running, ["session:1"], last=last, count=2)
    assert told == [("session:1", 4), ("session:1", 5)]


@pytest.mark.parametrize("why", ["stops", "crowded"])
async def test_a_reader_that_comes_back_too_early_is_told_to_come_back_later(start_daemon, why):
    """An EventSource gives up for good at any status but 200."""
    running = await start_daemon(WEB__MAX_CONNECTIONS="1")
    await written(running, 1)
    if why == "stops":
        running.daemon._doors.streams.close()
    else:
        await running.ws()
    url = f"{running.url}/api/events?channel=session:1"
    async with running.http.get(
        url, headers=running.headers() | {"Last-Event-ID": "session:1=ab:1"}
    ) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert await answer.read() == b"retry: 3000\n\n"
