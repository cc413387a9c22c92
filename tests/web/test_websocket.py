"""What a client sends reaches who listens: at once, in order, in its context, and no more of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar

import pytest
from aiohttp import WSMsgType, web
from client_frames import CLOSE, MORE, PING, frame

from daemon.web.receiver import Receiver
from daemon.web.websocket import AT_ONCE, accept

who = ContextVar("who", default="nobody")
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
LIMIT = 1 << 20


@pytest.fixture
async def serving():
    """Serve with a function of the WebSocket; gives a socket to it, its frames right behind."""
    ended, writers, runners = [], [], []

    async def start(serve, behind=b""):
        async def handle(request):
            ws = await accept(request, max_bytes=LIMIT)
            try:
                await serve(ws)
            except RuntimeError as error:
                ended.append(error)
            finally:
                ws.transport.close()
            return ws.response

        app = web.Application()
        app.router.add_get("/", handle)
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runners[-1].addresses[0][:2])
        writers.append(writer)
        writer.write(HANDSHAKE + behind)
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer

    start.ended = ended
    yield start
    for writer in writers:
        writer.transport.abort()
    for runner in runners:
        await runner.cleanup()


async def gone(reader):
    async with asyncio.timeout(10):
        return await reader.read()


async def test_messages_are_heard_in_the_context_of_who_listens(serving):
    heard = []

    async def serve(ws):
        who.set("the listener")
        await ws.listen(lambda message: bool(heard.append((message.data, who.get()))) or True)

    reader, writer = await serving(serve, frame("with the handshake"))
    writer.write(frame("after it"))
    writer.write(frame(b"\x03\xe8", CLOSE))
    await gone(reader)
    texts = ["with the handshake", "after it", 1000]
    assert heard == [(text, "the listener") for text in texts]


async def test_a_failure_while_a_message_is_heard_is_the_listeners(serving):
    def hear(message):
        raise RuntimeError(message.data)

    async def serve(ws):
        assert (await ws.receive()).data == "first"
        await ws.listen(hear)

    reader, writer = await serving(serve, frame("first"))
    writer.write(frame("second"))
    await gone(reader)
    assert [str(error) for error in serving.ended] == ["second"]


async def test_who_has_enough_hears_the_rest_later_and_in_order(serving):
    heard = []

    def three(message):
        heard.append(message.data)
        return message.data != "2"

    async def serve(ws):
        while not ws.over:
            await ws.listen(three)
            heard.append("pause")
            await asyncio.sleep(0.01)

    reader, writer = await serving(serve)
    writer.write(b"".join(frame(str(number)) for number in range(5)) + frame("", CLOSE))
    await gone(reader)
    assert heard == ["0", "1", "2", "pause", "3", "4", 0, "pause"]


async def test_who_does_not_ask_is_sent_no_more_than_fits_on_the_way(serving):
    asked = asyncio.Event()
    total = []

    async def serve(ws):
        await asked.wait()
        while not ws.over:
            total.append((await ws.receive()).data)

    reader, writer = await serving(serve)
    one = frame("x" * 100_000)
    for _ in range(400):
        writer.write(one)
    for _ in range(50):
        await asyncio.sleep(0.01)
        stuck = writer.transport.get_write_buffer_size()
    assert stuck > 10_000_000
    asked.set()
    writer.write(frame("", CLOSE))
    await gone(reader)
    assert [len(data) for data in total[:-1]] == [100_000] * 400


async def test_after_a_violation_nothing_is_read_and_the_end_is_seen(serving):
    seen = []

    async def serve(ws):
        seen.append(await ws.receive())
        assert (ws.over, ws.broken) == (True, True)
        seen.append(await ws.receive())
        await ws.gone()
        seen.append("gone")

    _, writer = await serving(serve, frame("x", 3) + frame("after"))
    writer.write(frame("later") * 1000)
    await writer.drain()
    writer.close()
    async with asyncio.timeout(10):
        while "gone" not in seen:
            await asyncio.sleep(0.01)
    assert [message.type for message in seen[:-1]] == [WSMsgType.ERROR, WSMsgType.CLOSED]
    assert seen[0].data.code == 1002


@pytest.mark.parametrize("asks", ["receive", "listen"])
async def test_the_end_of_a_client_ends_the_wait_for_it(serving, asks):
    ends = []

    async def serve(ws):
        if asks == "receive":
            ends.append((await ws.receive()).type)
        else:
            await ws.listen(lambda _: True)
            ends.append(ws.over)

    _, writer = await serving(serve)
    writer.transport.abort()
    async with asyncio.timeout(10):
        while not ends:
            await asyncio.sleep(0.01)
    assert ends == [WSMsgType.CLOSED if asks == "receive" else True]


@pytest.mark.parametrize("asks", ["receive", "listen"])
@pytest.mark.parametrize("what", ["pings", "fragments"])
async def test_a_flood_of_frames_leaves_others_their_turns(serving, monkeypatch, asks, what):
    turns, taken, heard = [0], [], []
    take = Receiver.next

    def counted(receiver):
        taken.append(turns[0])
        return take(receiver)

    async def count():
        while True:
            await asyncio.sleep(0)
            turns[0] += 1

    async def serve(ws):
        counting = asyncio.ensure_future(count())
        while not ws.over:
            if asks == "receive":
                heard.append(await ws.receive())
            else:
                await ws.listen(lambda message: heard.append(message) or True)
        counting.cancel()

    monkeypatch.setattr(Receiver, "next", counted)
    number = 20_000
    flood = frame("", PING) if what == "pings" else frame("", MORE, fin=False)
    begun = frame("", PING) if what == "pings" else frame("", fin=False)
    reader, _ = await serving(serve, begun + flood * number + frame("", CLOSE))
    await gone(reader)
    assert len(heard) == (number + 2 if what == "pings" else 1)
    assert max(Counter(taken).values()) <= 2 * AT_ONCE
