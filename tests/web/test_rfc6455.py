"""The /ws endpoint against RFC 6455: frames made by hand, on a socket below any library."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import socket
from urllib.parse import urlsplit

import pytest
from client_frames import BINARY, CLOSE, MORE, PING, PONG, TEXT, fragments, frame, goodbye
from structlog.testing import capture_logs
from support import RawSocket, emit_lines, written

LIMIT = 1 << 20
KEY, GUID = "dGhlIHNhbXBsZSBub25jZQ==", "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def asking(id_=1, data=None):
    """Give the text of a message that is answered at once."""
    return json.dumps({"type": "ping", "id": id_, "data": data}, ensure_ascii=False)


class Strict(RawSocket):
    """A client that takes no frame which a server must not send, and overlooks none."""

    @classmethod
    async def begun(cls, raw):
        """Open a WebSocket and take its first message."""
        made = await raw()
        ws = cls(made.reader, made.writer)
        assert (await ws.text())["type"] == "global.connected"
        return ws

    def put(self, *frames):
        """Send frames in one piece."""
        self.writer.write(b"".join(frames))

    async def put_apart(self, *pieces):
        """Send pieces so that each is read before the next is there."""
        own = self.writer.get_extra_info("socket")
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.writer.write(piece)
            for _ in range(3):  # turns of the loop we share: what is sent is readable in the next
                await asyncio.sleep(0)

    async def frame(self):
        async with asyncio.timeout(30):
            first, second = await self.reader.readexactly(2)
            size = second
            if second > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if second == 126 else 8))
            payload = await self.reader.readexactly(size)
        assert first & 0xF0 == 0x80, "a fragment, or a reserved bit: compressed, for one"
        assert second < 0x80, "masked"
        assert second == (size if size < 126 else 126 if size < 65536 else 127), "not the shortest"
        opcode = first & 0xF
        assert opcode == TEXT or (opcode in (CLOSE, PING, PONG) and size < 126)
        return opcode, payload

    async def text(self):
        """Give the message that the next frame is."""
        opcode, payload = await self.frame()
        assert opcode == TEXT, (opcode, payload)
        return json.loads(payload)

    async def answer(self, id_=1):
        """Give the data of the answer that the next frame is."""
        message = await self.text()
        assert (message["type"], message["id"]) == ("global.pong", id_)
        return message["data"]

    async def end(self, *frames):
        """Send frames; gives the code of the Close that comes next, and sees the end after it."""
        self.put(*frames)
        opcode, payload = await self.frame()
        assert opcode == CLOSE, (opcode, payload)
        async with asyncio.timeout(30):
            assert await self.reader.read() == b"", "something after the Close"
        return int.from_bytes(payload[:2]) if payload else None


@pytest.fixture
async def ws(raw):
    return await Strict.begun(raw)


@pytest.fixture
def end(raw):
    """Send frames on a connection of their own; gives the code that ends it."""

    async def ended(*frames):
        return await (await Strict.begun(raw)).end(*frames)

    return ended


# Fragments


@pytest.mark.parametrize("size", [1, 2, 125, 4000])
async def test_a_message_in_many_fragments_is_one_message(ws, size):
    whole = asking(data="x" * 5000)
    ws.put(*fragments(*(whole[at : at + size] for at in range(0, len(whole), size))))
    assert await ws.answer() == "x" * 5000


@pytest.mark.parametrize("at", range(4))
async def test_an_empty_fragment_adds_nothing(ws, at):
    pieces = ['{"type":', '"ping",', '"id":1}']
    ws.put(*fragments(*pieces[:at], "", "", *pieces[at:]), frame(asking(2)))
    await ws.answer(1)
    await ws.answer(2)


@pytest.mark.parametrize(("pieces", "opcode"), [(["", "", ""], TEXT), ("{}{}", BINARY)])
async def test_fragments_of_what_is_no_message_count_once(ws, pieces, opcode):
    ws.put(*fragments(*pieces, opcode=opcode), frame(asking()))
    assert (await ws.text())["data"]["code"] == "bad_message"
    await ws.answer()


async def test_a_ping_between_fragments_is_answered_before_the_message_is_whole(ws):
    first, second, third = fragments('{"type"', ':"ping"', ',"id":1}')
    ws.put(first, frame("one", PING))
    assert await ws.frame() == (PONG, b"one")
    ws.put(frame("unasked", PONG), second, frame("", PING), frame("unasked", PONG))
    assert await ws.frame() == (PONG, b"")
    ws.put(third)
    await ws.answer()


async def test_every_character_comes_back_wherever_its_message_is_split(ws):
    text = "\x7f\x80\u07ff\u0800\ud7ff\ue000\ufeff\ufffe\uffff\U00010000\U0010ffff"
    whole = asking(data=text).encode()
    for cut in range(len(whole)):
        ws.put(*fragments(whole[:cut], whole[cut:]))
        assert await ws.answer() == text


@pytest.mark.parametrize("before", [[], [frame(asking())], fragments(asking()[:5], asking()[5:])])
@pytest.mark.parametrize("fin", [True, False])
async def test_a_continuation_of_nothing_is_refused(ws, before, fin):
    ws.put(*before, frame("more", MORE, fin=fin))
    if before:
        await ws.answer()
    assert await ws.end() == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_new_message_amid_fragments_is_refused(end, opcode):
    for new in (frame(asking(), opcode), frame("{", opcode, fin=False)):
        assert await end(frame("{", fin=False), new) == 1002


# Control frames


async def test_a_ping_is_answered_with_its_payload_and_a_pong_is_not(ws):
    payloads = [bytes(range(size)) for size in range(126)]
    for size, payload in enumerate(payloads):
        mask = bytes((size, 255 - size, 90, 2 * size))
        ws.put(frame(payload, PONG, mask=mask), frame(payload, PING, mask=mask))
    assert [await ws.frame() for _ in payloads] == [(PONG, payload) for payload in payloads]


async def test_however_many_pings_come_they_are_answered_in_order(ws):
    payloads = [b"%0100d" % number for number in range(5000)]
    ws.put(*(frame(payload, PING) for payload in payloads), frame(asking()))
    answers = []
    while (got := await ws.frame())[0] == PONG:
        answers += [got[1]] if got[1] else []  # an empty one is unasked, and allowed
    assert answers == payloads
    assert json.loads(got[1])["id"] == 1


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
async def test_a_control_frame_that_is_long_or_in_fragments_is_refused(end, opcode):
    for size, width in ((126, 2), (65536, 8), (5, 2), (5, 8)):
        assert await end(frame(b"\x03\xe8".ljust(size), opcode, width=width)) == 1002
    assert await end(*fragments(b"\x03\xe8", "", opcode=opcode)) == 1002


# The end


async def test_a_goodbye_is_answered_with_its_own_code(end):
    for code in (1000, 1001, 1002, 1003, *range(1007, 1012), 3000, 3999, 4000, 4999):
        assert await end(goodbye(code, "später €".encode())) == code
    assert await end(frame("{", fin=False), goodbye(1001)) == 1001
    assert await end(frame("", CLOSE)) in (None, 1000)


async def test_a_code_that_may_not_be_sent_is_refused(end):
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535):
        assert await end(goodbye(code)) == 1002


async def test_half_a_code_is_refused_and_a_reason_that_is_no_text(end):
    assert await end(frame(b"\x03", CLOSE)) == 1002
    for reason in (b"\xff", b"bye \xed\xa0\x80", b"bye \xe2\x82"):
        assert await end(goodbye(1000, reason)) in (1002, 1007)


async def test_what_follows_a_goodbye_is_ignored(end):
    for after in (frame(asking()), frame("x", PING), goodbye(1001), frame("", 3), b"\x81"):
        assert await end(goodbye(1000), after) == 1000


async def test_what_a_client_says_between_our_goodbye_and_its_own_is_ignored(ws):
    ws.put(*[frame("junk")] * 3)
    assert [(await ws.text())["data"]["code"] for _ in range(2)] == ["bad_message"] * 2
    opcode, payload = await ws.frame()
    assert (opcode, payload[:2]) == (CLOSE, b"\x11\x30")
    ws.put(frame(asking()), frame("x", PING), goodbye(4400))
    async with asyncio.timeout(30):
        assert await ws.reader.read() == b""


# Text

NO_TEXT = [b"\xff", b"\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80"]
OVERLONG = [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf"]
SURROGATES = [b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80"]


@pytest.mark.parametrize("bad", NO_TEXT + OVERLONG + SURROGATES)
async def test_text_that_is_no_utf8_is_refused_in_one_frame_and_in_several(end, bad):
    whole = asking(data="here").encode().replace(b"here", bad)
    cut = whole.index(bad) + 1
    for frames in ([frame(whole)], fragments(whole[:cut], whole[cut:]), fragments(whole, b"")):
        assert await end(*frames) == 1007


# Masks, reserved bits, opcodes


async def test_a_frame_without_a_mask_is_refused(end):
    assert await end(frame(asking(), mask=b"")) == 1002
    assert await end(frame("", PING, mask=b"")) == 1002


@pytest.mark.parametrize("width", [2, 8])
async def test_a_longer_length_than_needed_does_no_harm(ws, width):
    ws.put(frame(asking(data="x" * 50), width=width))
    assert await ws.answer() == "x" * 50


@pytest.mark.parametrize("opcode", range(16))
async def test_a_reserved_bit_or_opcode_is_refused(end, opcode):
    known = opcode in (MORE, TEXT, BINARY, CLOSE, PING, PONG)
    begun = frame("{", fin=False) if opcode == MORE else b""
    for rsv in (0x10, 0x20, 0x40, 0x70) if known else (0,):
        assert await end(begun, frame(b"\x03\xe8", opcode, rsv=rsv)) == 1002


async def test_what_came_before_a_broken_frame_is_answered_and_nothing_after_it(ws):
    ws.put(frame(asking()), frame("x", PING), frame("", 3), frame(asking(2)))
    await ws.answer()
    assert await ws.frame() == (PONG, b"x")
    assert await ws.end() == 1002


# Lengths


@pytest.mark.parametrize("size", [125, 126, 127, 65535, 65536, LIMIT])
async def test_every_length_is_read_and_written_in_the_fewest_bytes(ws, size):
    ws.put(frame(asking(data="").ljust(size)))
    _, shortest = await ws.frame()
    ws.put(frame(asking(data="x" * (size - len(shortest)))))
    _, payload = await ws.frame()  # which looks at how its length is written
    assert len(payload) == size


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_frame_over_the_limit_is_refused_by_its_head_alone(end, opcode):
    for size in (LIMIT + 1, 1 << 32, (1 << 63) - 1):
        assert await end(frame("", opcode, size=size)) == 1009
    for size in (1 << 63, (1 << 64) - 1):  # the top bit must be zero
        assert await end(frame("", opcode, size=size)) in (1002, 1009)


@pytest.mark.parametrize("pieces", [2, 16])
async def test_fragments_may_reach_the_limit_and_not_go_over_it(ws, pieces):
    whole, size = asking().ljust(LIMIT), LIMIT // pieces
    frames = fragments(*(whole[at : at + size] for at in range(0, LIMIT, size)), "")
    ws.put(*frames)
    await ws.answer()
    assert await ws.end(*frames[:-1], frame("", MORE, size=1)) == 1009


# The stream of bytes


async def test_frames_are_read_one_byte_at_a_time(ws):
    frames = [*fragments(asking()[:5], "", asking()[5:]), frame("x", PING), frame(asking(2, "é"))]
    await ws.put_apart(*(bytes((byte,)) for byte in b"".join(frames)))
    await ws.answer(1)
    assert await ws.frame() == (PONG, b"x")
    assert await ws.answer(2) == "é"
    await ws.put_apart(*(bytes((byte,)) for byte in goodbye(1001, b"bye")))
    assert await ws.end() == 1001


@pytest.mark.parametrize("size", [40, 200, 70_000])
async def test_a_frame_may_be_cut_anywhere(ws, size):
    whole = frame(asking().ljust(size))
    for cut in [*range(1, 24), len(whole) - 1]:
        await ws.put_apart(whole[:cut], whole[cut:])
        await ws.answer()


async def test_messages_in_one_send_are_answered_each_in_order(ws):
    frames = b"".join(frame(asking(number)) for number in range(100))
    await ws.put_apart(frames[:1001], frames[1001:])
    for number in range(100):
        await ws.answer(number)


async def test_events_pings_and_pongs_never_run_into_each_other(running, ws):
    await written(running, 1)
    ws.put(frame(json.dumps({"type": "subscribe", "channel": "session:1"})))
    assert (await ws.text())["type"] == "global.subscription_success"
    (peer,) = running.daemon._doors.gateway.connections
    sizes = [0, 20, 3000, 65_400, 65_600, 200_000] * 20

    async def write():
        for number, size in enumerate(sizes):
            emit_lines(running, 1, size=size)
            ws.put(frame(b"%d" % number, PING), *fragments(asking(number)[:7], asking(number)[7:]))
            peer.ping()
            await running.daemon._journal.flushed()

    writing = asyncio.ensure_future(write())
    taken, pings = [], 0
    while len(taken) < 3 * len(sizes):
        opcode, payload = await ws.frame()
        pings += opcode == PING
        taken += [(opcode, json.loads(payload))] if payload else []
    await writing
    messages = [message for opcode, message in taken if opcode == TEXT]
    events = [(m["offset"], len(m["data"]["content"])) for m in messages if "offset" in m]
    assert events == [(number, size + 2) for number, size in enumerate(sizes, 2)]
    assert [m["id"] for m in messages if "id" in m] == list(range(len(sizes)))
    assert [number for opcode, number in taken if opcode == PONG] == list(range(len(sizes)))
    assert 0 < pings <= len(sizes)  # none is sent while the socket is full


def handshake(running, changed=None, *, method="GET"):
    """Write a handshake, with some headers changed or, for None, left out."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    headers |= {"Host": urlsplit(running.url).netloc, "Sec-WebSocket-Key": KEY}
    headers |= {"Authorization": f"Bearer {running.token()}"} | (changed or {})
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} /ws HTTP/1.1", *lines, "", ""]).encode()


# Who is gone at once


@pytest.mark.parametrize(
    "sent",
    [frame("x", 3), frame("p", PING) * 150, frame(asking()) * 150],
    ids=["violation", "pings", "messages"],
)
async def test_one_that_is_gone_before_it_is_answered_is_no_failure(running, caplog, sent):
    address, loop = urlsplit(running.url), asyncio.get_running_loop()
    with capture_logs() as lines:
        for _ in range(20):
            with socket.create_connection((address.hostname, address.port)) as client:
                client.sendall(handshake(running))
                client.setblocking(False)
                greeting = b""
                while b"global.connected" not in greeting:  # unread, its end would be a reset
                    greeting += await loop.sock_recv(client, 4096)
                client.send(sent)
            while running.daemon._doors.gateway.connections:
                await asyncio.sleep(0.001)
    assert [line for line in lines if line["log_level"] not in ("debug", "info")] == []
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


# The handshake


@pytest.fixture
def shake(running, raw):
    """Send a handshake with some headers changed; gives status, headers and the socket."""

    async def sent(changed=None, *, method="GET", behind=b""):
        made = await raw(request=handshake(running, changed, method=method) + behind)
        async with asyncio.timeout(30):
            head = await made.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")[:-2]
        got = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return int(status.split()[1]), got, Strict(made.reader, made.writer)

    return sent


@pytest.mark.parametrize("key", [KEY, "8PHy8/T19vf4+fr7/P3+/w=="])
@pytest.mark.parametrize("names", [("websocket", "Upgrade"), ("WebSocket", "keep-alive, UPGRADE")])
async def test_the_key_is_answered_with_its_proof(shake, key, names):
    changed = {"Sec-WebSocket-Key": key, "Upgrade": names[0], "Connection": names[1]}
    status, headers, _ = await shake(changed)
    proof = hashlib.sha1((key + GUID).encode()).digest()
    assert headers["sec-websocket-accept"] == base64.b64encode(proof).decode()
    assert (status, headers["upgrade"].lower()) == (101, "websocket")
    assert headers["connection"].lower() == "upgrade"


async def test_frames_right_behind_the_handshake_are_read(shake):
    status, _, ws = await shake(behind=frame(asking()) + goodbye(1000))
    assert (status, (await ws.text())["type"]) == (101, "global.connected")
    await ws.answer()
    assert await ws.end() == 1000


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("Host", [None, "", "a.example"]),
        ("Upgrade", [None, "", "h2c"]),
        ("Connection", [None, "", "keep-alive"]),
        ("Sec-WebSocket-Version", [None, "", "0", "12", "14", "013", "13, 13"]),
        ("Sec-WebSocket-Key", [None, "", "x", "AAAA", "é", "eHh4eHh4eHh4eHh4eHh4eHg="]),
    ],
)
async def test_a_handshake_that_is_wrong_in_one_thing_is_refused(shake, name, wrong):
    for value in wrong:
        assert (await shake({name: value}))[0] in (400, 403, 426), value


async def test_a_version_that_is_not_spoken_is_answered_with_the_one_that_is(shake):
    _, headers, _ = await shake({"Sec-WebSocket-Version": "12"})
    assert headers["sec-websocket-version"] == "13"


async def test_another_method_than_get_is_refused(shake):
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
        assert (await shake(method=method))[0] == 405


@pytest.mark.parametrize("offered", ["agentcmd.v1", "x, agentcmd.v1,bearer.y", "other", None])
async def test_the_one_subprotocol_is_chosen_where_it_is_offered(shake, offered):
    status, headers, ws = await shake({"Sec-WebSocket-Protocol": offered})
    chosen = "agentcmd.v1" if "agentcmd.v1" in (offered or "") else None
    assert (status, headers.get("sec-websocket-protocol")) == (101, chosen)
    assert (await ws.text())["type"] == "global.connected"


async def test_no_extension_is_negotiated_and_nothing_is_compressed(shake):
    offered = "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"
    status, headers, ws = await shake({"Sec-WebSocket-Extensions": offered})
    assert "sec-websocket-extensions" not in headers
    assert (status, (await ws.text())["type"]) == (101, "global.connected")
    ws.put(frame(asking(data="x" * 100_000)))
    assert await ws.answer() == "x" * 100_000
    assert await ws.end(frame(asking(), rsv=0x40)) == 1002
