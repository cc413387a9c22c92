"""Frames at the borders of RFC 6455's lengths."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core import frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_a_frame_gives_its_payload_back(size):
    framed = frames.frame(b"x" * size)
    assert frames.payload(framed) == b"x" * size
    assert framed[0] == 0x81
    header = len(framed) - size
    assert header == (2 if size < 126 else 4 if size < 65536 else 10)


def test_a_body_is_the_wire_message():
    body = frames.body(frames.head_of("session:1", "a.b"), b'{"x":1}', 42, 1732312345.1234)
    assert json.loads(body) == {
        "channel": "session:1",
        "type": "a.b",
        "data": {"x": 1},
        "offset": 42,
        "ts": 1732312345.123,
    }
    assert frames.answer("a.ok", b"{}", id_=b'"7"') == (
        b'{"channel":"global","type":"a.ok","data":{},"id":"7"}'
    )


BORDERS = (0, 1, 2, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537, 200_000)


async def read_back(stream, cut):
    """Let aiohttp's client read what a server writes after the handshake, `cut` bytes a time."""

    async def serve(reader, writer):
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = re.search(r"Sec-WebSocket-Key: (\S+)", request, re.IGNORECASE).group(1)
        accept = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(accept)
        )
        for start in range(0, len(stream), cut):
            writer.write(stream[start : start + cut])
            await writer.drain()
        writer.write(b"\x88\x02\x03\xe8")  # close 1000
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with (
        server,
        aiohttp.ClientSession() as http,
        http.ws_connect(url, max_msg_size=0) as ws,
    ):
        found = [message.data async for message in ws]
        assert ws.close_code == 1000
    return found


@pytest.mark.parametrize("cut", [1000, 65_536, 1 << 30])
async def test_aiohttp_reads_back_every_frame_alone_and_joined(cut):
    texts = ["x" * size for size in BORDERS] + ["\u20ac" * (size // 3) for size in BORDERS]
    stream = b"".join(frames.frame(text.encode()) for text in texts)
    assert await asyncio.wait_for(read_back(stream, cut), 30) == texts


@given(size=st.one_of(st.sampled_from(BORDERS), st.integers(0, 70_000)))
def test_any_frame_is_as_long_as_its_header_says(size):
    framed = frames.frame(b"y" * size)
    assert frames.payload(framed) == b"y" * size
    assert len(framed) - size == (2 if size < 126 else 4 if size < 65_536 else 10)
    assert not framed[1] & 0x80  # a server does not mask


@given(
    channel=st.from_regex(r"[a-z]{1,5}:[a-zA-Z0-9_.-]{1,9}", fullmatch=True),
    data=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    ),
    offset=st.integers(1, 2**40),
)
def test_a_body_is_json_that_reads_back_whatever_it_tells(channel, data, offset):
    head = frames.head_of(channel, 'odd."type"')
    told = json.loads(frames.body(head, frames.encode(data), offset, 1.0005))
    assert told["channel"] == channel
    assert told["type"] == 'odd."type"'
    assert told["data"] == data
    assert told["offset"] == offset
    assert told["ts"] == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("id_", [b"7", b'"seven"', b"1.5", b""])
def test_an_answer_repeats_the_id_only_where_there_was_one(id_):
    told = json.loads(frames.answer("a.ok", b'{"n":1}', channel="session:1", id_=id_))
    assert told.pop("id", None) == (json.loads(id_) if id_ else None)
    assert told == {"channel": "session:1", "type": "a.ok", "data": {"n": 1}}
