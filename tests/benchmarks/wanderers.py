"""Clients of all three doors that come, read a while and go, and the note of all that they saw."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from random import Random

import aiohttp

DOORS = ("ws", "sse", "socketio")
SILENCE = 5.0
"""Seconds without a message after which a reader leaves by itself."""

CHANNEL = re.compile(r'\{"channel":"([^"]+)"')
OFFSET = re.compile(r'"offset":(\d+),"ts":[\d.]+\}$')
PLACE = re.compile(r"id: ([^=\n]+)=([0-9a-f]+):\d+\n")
LOST = (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError, EOFError)
"""What a daemon that is killed looks like."""

Visit = Callable[[str], AsyncIterator[str]]


def digest(body: bytes) -> bytes:
    """Shorten an event to what tells it from any other."""
    return blake2b(body, digest_size=8).digest()


class Notebook:
    """All events that any client saw, by channel and offset, and each promise that was broken."""

    def __init__(self) -> None:
        """Begin empty."""
        self.seen: dict[str, dict[int, bytes]] = {}
        self.epochs: dict[str, str] = {}
        self.violations: list[str] = []
        self.visits = dict.fromkeys(DOORS, 0)
        self.delivered = 0

    def last(self, channel: str) -> int:
        """Give the highest offset that was seen."""
        return max(self.seen.get(channel, {0: b""}))

    def violated(self, sentence: str) -> None:
        """Note a broken promise; the first hundred are enough."""
        if len(self.violations) < 100:
            self.violations.append(sentence)

    def epoch(self, channel: str, epoch: str) -> None:
        """Note a channel's epoch, which no death of the daemon changes."""
        if self.epochs.setdefault(channel, epoch) != epoch:
            self.violated(f"{channel} has another epoch")

    def note(self, channel: str, text: str, expected: int) -> int:
        """Note one event; gives its offset."""
        found, named = OFFSET.search(text), CHANNEL.match(text)
        if found is None or named is None or named[1] != channel:
            self.violated(f"no event of {channel}: {text[:200]}")
            return expected
        offset, body = int(found[1]), digest(text.encode())
        if offset != expected:
            self.violated(f"{channel}: offset {offset} came where {expected} was due")
        if self.seen.setdefault(channel, {}).setdefault(offset, body) != body:
            self.violated(f"{channel}: offset {offset} was seen with other bytes")
        self.delivered += 1
        return offset


class Wanderer:
    """One client; each visit is of a channel that `choose` names."""

    def __init__(
        self, number: int, url: str, token: str, book: Notebook, choose: Callable[[Random], str]
    ) -> None:
        """Come through the same door every time."""
        self.door = DOORS[number % len(DOORS)]
        self.random = Random(f"client {number}")
        self.url, self.headers = url, {"Authorization": f"Bearer {token}"}
        self.book, self.choose = book, choose
        self.places: dict[str, int] = {}

    async def run(self) -> None:
        """Come and go for ever."""
        while True:
            try:
                await self.visit(self.choose(self.random))
            except TimeoutError:
                pass  # it has read for as long as it wanted
            except LOST:
                await asyncio.sleep(self.random.uniform(0.1, 0.5))

    async def visit(self, channel: str) -> None:
        """Go on with a channel where this client has left it, or from its beginning."""
        since = self.places.get(channel, 0) if self.random.random() < 0.8 else 0
        leave = asyncio.get_running_loop().time() + self.random.uniform(0.3, 6.0)
        self.book.visits[self.door] += 1
        async with aiohttp.ClientSession(headers=self.headers) as http:
            door = {"ws": self.ws, "sse": self.sse, "socketio": self.socketio}[self.door]
            async with door(http, channel, since) as texts:
                offset = since
                while (left := leave - asyncio.get_running_loop().time()) > 0:
                    async with asyncio.timeout(min(left, SILENCE)):
                        if (text := await anext(texts, None)) is None:
                            return
                    offset = self.book.note(channel, text, offset + 1)
                    self.places[channel] = offset

    def stands(self, channel: str, told: dict[str, object], since: int) -> None:
        """Check the answer to a subscription."""
        if not told["recovered"]:
            self.book.violated(f"{channel}: not recovered after {since}: {told}")
        self.book.epoch(channel, str(told["epoch"]))

    def resume(self, channel: str, since: int) -> dict[str, object]:
        """Say where to go on."""
        epoch = self.book.epochs.get(channel)
        return {"since": since, **({"epoch": epoch} if epoch else {})}

    @asynccontextmanager
    async def socket(
        self, http: aiohttp.ClientSession, path: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket, and leave it without a word half of the time."""
        async with http.ws_connect(self.url + path, max_msg_size=0, compress=0) as ws:
            try:
                yield ws
            finally:
                connection = ws._response.connection
                if self.random.random() < 0.5 and connection and connection.transport:
                    connection.transport.abort()

    @asynccontextmanager
    async def ws(
        self, http: aiohttp.ClientSession, channel: str, since: int
    ) -> AsyncIterator[AsyncIterator[str]]:
        """Come over /ws."""
        async with self.socket(http, "/ws") as ws:
            await heard(ws)
            data = self.resume(channel, since)
            await ws.send_json({"type": "subscribe", "channel": channel, "data": data})
            answer = json.loads(await heard(ws))
            if answer["type"] != "global.subscription_success":
                self.book.violated(f"{channel}: {answer}")
                raise EOFError
            self.stands(channel, answer["data"], since)
            yield every(ws, lambda text: text)

    @asynccontextmanager
    async def socketio(
        self, http: aiohttp.ClientSession, channel: str, since: int
    ) -> AsyncIterator[AsyncIterator[str]]:
        """Come over Socket.IO, in plain WebSocket frames."""
        path = "/socket.io/?EIO=4&transport=websocket"
        async with self.socket(http, path) as ws:
            await heard(ws, "0{")
            await ws.send_str("40")
            await heard(ws, "40{")
            asked = {"channel": channel, **self.resume(channel, since)}
            await ws.send_str("420" + json.dumps(["subscribe", asked]))
            (told,) = json.loads((await heard(ws, "430["))[3:])
            if not told.get("ok", True) or "epoch" not in told.get("data", told):
                self.book.violated(f"{channel}: {told}")
                raise EOFError
            self.stands(channel, told.get("data", told), since)
            yield every(ws, event_of)

    @asynccontextmanager
    async def sse(
        self, http: aiohttp.ClientSession, channel: str, since: int
    ) -> AsyncIterator[AsyncIterator[str]]:
        """Come as a browser's EventSource does."""
        epoch = self.book.epochs.get(channel)
        headers = {"Last-Event-ID": f"{channel}={epoch}:{since}"} if epoch else {}
        query = {"channel": channel, "since": str(since)}
        async with http.get(self.url + "/api/events", params=query, headers=headers) as answer:
            if answer.status != 200:
                raise EOFError
            yield self.events(answer, channel)

    async def events(self, answer: aiohttp.ClientResponse, channel: str) -> AsyncIterator[str]:
        """Give each event of a stream."""
        buffer = b""
        async for chunk in answer.content.iter_any():
            *blocks, buffer = (buffer + chunk).split(b"\n\n")
            for block in map(bytes.decode, blocks):
                if (place := PLACE.match(block)) is not None:
                    self.book.epoch(place[1], place[2])
                _, found, data = block.partition("data: ")
                if found and place is not None:
                    yield data
                elif found:
                    self.book.violated(f"{channel}: {data[:200]}")


async def heard(ws: aiohttp.ClientWebSocketResponse, begins: str = "") -> str:
    """Wait for the next text, passing over what begins otherwise."""
    while True:
        frame = await ws.receive(10)
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise EOFError
        if frame.data.startswith(begins):
            return str(frame.data)


async def every(
    ws: aiohttp.ClientWebSocketResponse, taken: Callable[[str], str]
) -> AsyncIterator[str]:
    """Give every event of a socket; what is no event of a channel is passed over."""
    while True:
        text = await heard(ws)
        if text == "2":  # Engine.IO's ping
            await ws.send_str("3")
        elif OFFSET.search(event := taken(text)):
            yield event


def event_of(packet: str) -> str:
    """Take the event out of a Socket.IO packet."""
    return packet[13:-1] if packet.startswith('42["message",') else ""
