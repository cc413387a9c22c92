"""A mebibyte of hostile text holds up nobody: in the parsers of each door, and through them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
import zlib
from urllib.parse import urlsplit

import pytest
from aiohttp.test_utils import make_mocked_request
from engineio_client import POLLING, Poller
from loop_watch import allowed
from multidict import CIMultiDict
from plain_sockets import end_of

from daemon.core.channels import parse_channel
from daemon.core.errors import AgentcmdError
from daemon.web import socketio_packets
from daemon.web.auth import Doorkeeper, Tokens, is_forwarded, parse_scope, token_of
from daemon.web.http_connection import HEAD_BYTES
from daemon.web.messages import Refused, parse
from daemon.web.public_path import PublicPath
from daemon.web.sse_cursor import LastPlaces

MIB = 1 << 20
KIB = 1 << 10

HOLD = allowed()
"""Seconds of the processor in which a text has to be read, or refused."""

TRIES = 3
"""Times that it may be tried: what is quadratic is slow each time, a busy machine is not."""


def nested(text):
    return text * (MIB // len(text))


TEXTS = {
    "brackets": nested("["),
    "objects": nested('{"a":'),
    "digits": nested("1"),
    "fraction": "0." + nested("0"),
    "exponent": "1e" + nested("9"),
    "spaces": nested(" "),
    "zeros": nested("\0"),
    "escapes": '"' + nested("\\u0041") + '"',
    "surrogates": '"' + nested("\\ud83d") + '"',
    "backslashes": '"' + nested("\\\\"),
    "a long list": "[" + nested("1,") + "1]",
    "small objects": "[" + nested("{},") + "{}]",
    "keys": "{" + ",".join(f'"{number}":1' for number in range(MIB // 12)) + "}",
    "dashes": nested("-"),
    "slashes": nested("/"),
    "commas": nested(","),
    "colons": nested(":"),
    "stars": nested("*:"),
    "dots": nested("."),
    "places": nested("a=0:1,"),
    "base64": nested("A"),
    "open base64": nested("__"),
    "authorities": "http://" + nested("@"),
    "addresses": "http://[" + nested(":") + "]",
}

DOORKEEPER = Doorkeeper(bound=["127.0.0.1"], hosts=[], origins=["http://a.example"])
TOKENS = Tokens(b"s" * 32)
PUBLIC = PublicPath("/agents", ["unix"])


def message(before, after=""):
    return lambda text: parse(f"{before}{text}{after}")


def packet(before):
    def read(text):
        return socketio_packets.arguments_of(socketio_packets.read(before + text))

    return read


def encoded(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


PARSERS = {
    "message": message(""),
    "type": message('{"type":', "}"),
    "data": message('{"type":"x","id":1,"data":', "}"),
    "channel": message('{"type":"x","channel":', "}"),
    "id": message('{"type":"x","id":', "}"),
    "packet": packet(""),
    "event": packet("42"),
    "event with an id": packet("421"),
    "event's arguments": packet('42["a",'),
    "event with attachments": packet("451-"),
    "namespace": packet("42/"),
    "cursor": LastPlaces,
    "packed cursor": lambda text: LastPlaces(f"p1.{text}"),
    "host": lambda text: DOORKEEPER.check({"Host": text}),
    "origin": lambda text: DOORKEEPER.check({"Host": "localhost", "Origin": text}),
    "origin's host": lambda text: DOORKEEPER.check(
        {"Host": "localhost", "Origin": f"http://{text}"}
    ),
    "token": TOKENS.verify,
    "token's head": lambda text: TOKENS.verify(f"{encoded(text)}.e30.AAAA"),
    "token's claims": lambda text: TOKENS.verify(f"eyJhbGciOiJIUzI1NiJ9.{encoded(text)}.AAAA"),
    "authorization": lambda text: token_of(CIMultiDict(Authorization=f"Bearer {text}"), {}),
    "subprotocols": lambda text: token_of(
        CIMultiDict({"Sec-WebSocket-Protocol": text[:HEAD_BYTES]}), {}
    ),
    "scope": parse_scope,
    "scope's channel": lambda text: parse_scope(f"read:{text}"),
    "channel name": parse_channel,
    "prefix": lambda text: PUBLIC.before(
        make_mocked_request("GET", "/", headers={"X-Forwarded-Prefix": text})
    ),
    "path": PUBLIC.inner,
    "forwarded": lambda text: is_forwarded(CIMultiDict({"Forwarded": text})),
}


@pytest.mark.parametrize("parser", PARSERS)
def test_no_text_holds_a_parser_up(parser):
    slow = {}
    for name, text in TEXTS.items():
        for _ in range(TRIES):
            began = time.thread_time()
            with contextlib.suppress(AgentcmdError, Refused):
                PARSERS[parser](text)
            slow[name] = time.thread_time() - began
            if slow[name] < HOLD:
                break
    assert {name: took for name, took in slow.items() if took >= HOLD} == {}


# Through the doors


class LoopWatch:
    """The longest time that one callback of this thread's loop has held it, in processor time."""

    def __init__(self, monkeypatch):
        self.longest = 0.0
        run = asyncio.Handle._run

        def watched(handle):
            began = time.thread_time()
            run(handle)
            self.longest = max(self.longest, time.thread_time() - began)

        monkeypatch.setattr(asyncio.Handle, "_run", watched)


@pytest.fixture
def loop_watch(monkeypatch):
    return LoopWatch(monkeypatch)


async def never_held(loop_watch, act):
    """Carry an act out, again where it was slow: the first time imports modules."""
    for _ in range(TRIES):
        loop_watch.longest = 0.0
        await act()
        if loop_watch.longest < HOLD:
            return
    raise AssertionError(f"the loop was held for {loop_watch.longest:.3f} s")


async def answered(running, head, body=b"", *, piece=64 * KIB):
    """Send a request piece by piece, and read all that comes back."""
    parts = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    told = asyncio.ensure_future(end_of(reader))
    try:
        data = head.encode() + b"Connection: close\r\n\r\n" + body
        for start in range(0, len(data), piece):
            writer.write(data[start : start + piece])
            await writer.drain()
    except ConnectionError:
        pass  # it had heard enough
    answer = await told
    writer.close()
    return answer


LONG = 60 * KIB
LINES = {
    "slashes": "/" * 200 * KIB,
    "API slashes": "/api/" + "/" * 200 * KIB,
    "steps up": "/.." * 60 * KIB,
    "percents": "/" + "%" * 200 * KIB,
    "escaped slashes": "/" + "%2f" * 60 * KIB,
    "ampersands": "/api/events?" + "&" * 200 * KIB,
    "channels": "/api/events?" + "channel=a:b&" * 16 * KIB,
    "escapes in a query": "/api/events?channel=" + "%41" * 60 * KIB,
    "a sid": "/socket.io/?EIO=4&transport=polling&sid=" + "x" * 200 * KIB,
}
HEADERS = {
    "Content-Type": "multipart/form-data" + ";" * LONG,
    "Cookie": "a=b;" * (LONG // 4),
    "If-None-Match": '"a" ,' * (LONG // 5),
    "If-Modified-Since": "1 " * (LONG // 2),
    "Range": "bytes=" + "9" * LONG,
    "Origin": "http://[" + ":" * LONG,
    "Host": "[" * LONG,
    "Authorization": "Bearer " + "." * LONG,
    "Last-Event-ID": "a=0:1," * (LONG // 6),
    "Accept-Encoding": "gzip;q=0," * (LONG // 9),
    "Forwarded": "for=a," * (LONG // 6),
    "X-Forwarded-Prefix": "/a," * (LONG // 3),
    "X-Request-Id": "a" * LONG,
    "Transfer-Encoding": "chunked," * (LONG // 8),
    "Sec-WebSocket-Extensions": "permessage-deflate"
    + "; server_no_context_takeover" * (LONG // 28),
    "Sec-WebSocket-Protocol": "bearer.," * (LONG // 8),
}
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


@pytest.mark.parametrize("line", LINES)
async def test_no_first_line_holds_the_loop(running, loop_watch, line):
    async def act():
        told = await answered(running, f"GET {LINES[line]} HTTP/1.1\r\nHost: localhost\r\n")
        assert told.split()[1] in (b"400", b"401", b"404", b"414"), told[:100]

    await never_held(loop_watch, act)


@pytest.mark.parametrize("name", HEADERS)
async def test_no_header_holds_the_loop(running, loop_watch, name):
    value = HEADERS[name]

    async def act():
        for method, path, more in (
            ("GET", "/docs", ""),
            ("GET", "/ws", UPGRADE if name.startswith("Sec-") else ""),
            ("GET", "/api/events?channel=session:1", ""),
            (
                "POST",
                "/api/uploads",
                f"Content-Length: 1\r\nX-A: Bearer\r\n{authorized(running, name)}",
            ),
        ):
            host = "" if name == "Host" else "Host: localhost\r\n"
            head = f"{method} {path} HTTP/1.1\r\n{host}{more}{name}: {value}\r\n"
            async with asyncio.timeout(30):
                assert await begun(running, head)

    await never_held(loop_watch, act)


def authorized(running, name):
    return "" if name == "Authorization" else f"Authorization: Bearer {running.token()}\r\n"


async def begun(running, head):
    """Send a head and a byte; gives the first bytes of the answer."""
    parts = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(head.encode() + b"\r\nx")
    try:
        return await reader.read(100)
    finally:
        writer.transport.abort()


def posted(running, path, **headers):
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{authorized(running, '')}{more}"


BODIES = {name: text.encode() for name, text in TEXTS.items()} | {
    "separators": b"\x1e" * MIB,
    "pongs": b"3\x1e" * (MIB // 2),
    "no UTF-8": b"\xff" * MIB,
}


@pytest.mark.parametrize("body", BODIES)
async def test_no_body_of_a_command_holds_the_loop(running, loop_watch, body):
    data = BODIES[body][: MIB - 1]

    async def act():
        head = posted(running, "/api/sessions", Content_Length=len(data))
        told = await answered(running, head, data)
        assert told.split()[1] == b"400", told[:200]

    await never_held(loop_watch, act)


@pytest.mark.parametrize("body", BODIES)
async def test_no_body_of_polling_holds_the_loop(running, loop_watch, body):
    data = BODIES[body][: MIB - 100]

    async def act():
        for before in (b"", b"4", b"42"):
            poller = await Poller(running).begin()
            head = posted(
                running,
                f"/socket.io/?{POLLING}&sid={poller.opening['sid']}",
                Content_Length=len(before + data),
            )
            told = await answered(running, head, before + data)
            assert told.split()[1] in (b"200", b"400"), told[:200]

    await never_held(loop_watch, act)


@pytest.mark.parametrize("body", BODIES)
async def test_no_message_of_a_websocket_holds_the_loop(running, loop_watch, body, raw_to):
    data = BODIES[body][: MIB - 100]

    async def act():
        ws = await raw_to(running)
        assert (await ws.next())["type"] == "global.connected"
        ws.send(data)
        ws.send(json.dumps({"type": "ping", "id": 1}))
        while (told := await ws.next())["type"] not in ("global.pong", "close"):
            pass
        assert told.get("code", 1007) == 1007
        ws.close()

    await never_held(loop_watch, act)


FORMS = {
    "boundaries": b"--x\r\n" * (MIB // 5),
    "boundaries in a row": b"--x" * (MIB // 3),
    "line ends": b"--x\r\nA: b\r\n\r\n" + b"\r\n" * (MIB // 2),
    "headers": b"--x\r\n" + b"A: b\r\n" * (MIB // 6),
    "parts": b"--x\r\nA: b\r\n\r\n\r\n" * (MIB // 15),
    "disposition": b"--x\r\nContent-Disposition: form-data" + b";" * 8000 + b"\r\n\r\n",
    "half boundaries": b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\n'
    + b"\r\n--" * (MIB // 4),
    "preamble": b"\r\n" * (MIB // 2),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
async def test_no_form_holds_the_loop(running, loop_watch, form):
    data = FORMS[form]

    async def act():
        head = posted(
            running,
            "/api/uploads",
            Content_Type="multipart/form-data; boundary=x",
            Content_Length=len(data),
        )
        told = await answered(running, head, data)
        assert told.split()[1] in (b"400", b"413"), told[:200]

    await never_held(loop_watch, act)


async def test_no_chunking_holds_the_loop(running, loop_watch):
    async def act():
        head = posted(running, "/api/sessions", Transfer_Encoding="chunked")
        told = await answered(running, head, b"1\r\n \r\n" * 200_000 + b"0\r\n\r\n")
        assert told.split()[1] == b"400", told[:200]

    await never_held(loop_watch, act)


async def test_no_compression_holds_the_loop(running, loop_watch):
    bomb = zlib.compress(bytes(64 * MIB))

    async def act():
        head = posted(
            running, "/api/sessions", Content_Encoding="deflate", Content_Length=len(bomb)
        )
        told = await answered(running, head, bomb)
        assert told.split()[1] in (b"400", b"413"), told[:200]

    await never_held(loop_watch, act)
