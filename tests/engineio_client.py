"""A client of Engine.IO made by hand: packets in, packets out, nothing done by itself."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from urllib.parse import urlsplit

POLLING, WEBSOCKET = "EIO=4&transport=polling", "EIO=4&transport=websocket"

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


def raw_request(running, query, *, method="GET", path="/socket.io/", more=""):
    host = urlsplit(running.url).netloc
    return f"{method} {path}?{query} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode()


class Poller:
    """A client that polls, packet by packet."""

    def __init__(self, running, query=POLLING):
        self.running, self.query = running, query

    async def begin(self, *, token=True):
        """Shake hands, and introduce itself."""
        self.opening = json.loads((await self.poll())[0][1:])
        self.query = f"{POLLING}&sid={self.opening['sid']}"
        if token:
            assert await self.post(f'40{{"token":"{self.running.token()}"}}') == 200
            assert [packet[:2] for packet in await self.poll()] == ["40", "42"]
        return self

    async def answer(self, method, **options):
        url = f"{self.running.url}/socket.io/?{self.query}"
        async with asyncio.timeout(30), self.running.http.request(method, url, **options) as answer:
            return answer.status, await answer.text()

    async def post(self, *packets):
        return (await self.answer("POST", data="\x1e".join(packets)))[0]

    async def poll(self):
        status, text = await self.answer("GET")
        return text.split("\x1e") if status == 200 else [status]


async def said(ws):
    """Give the text of the next frame, or the code of a Close."""
    async with asyncio.timeout(30):
        opcode, payload = await ws.frame()
    return payload.decode() if opcode == 1 else int.from_bytes(payload[:2])


async def ended(ws):
    """Read to the end; gives the last frame."""
    last = None
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            last = await said(ws)
    return last


def following(channel="session:1", since=0, id_=1):
    return f'42{id_}["subscribe",{{"channel":"{channel}","since":{since}}}]'


def asking(size=0, id_=7):
    return f'42{id_}["command",{{"type":"ping","data":"{"x" * size}"}}]'


def offsets(packets):
    """Give the offsets of the events among packets."""
    told = [json.loads(packet[2:])[1] for packet in packets if packet.startswith("42[")]
    return [message["offset"] for message in told if "offset" in message]


# What the daemon has


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def sessions(running):
    return running.daemon._doors.socketio._engine.sessions


def connected(running):
    return sum(1 for each in running.daemon._runner.server.connections if each.transport)


def only(running):
    (session,) = sessions(running).values()
    return session


async def probed(websocket, running, poller):
    """Go over as far as the probe."""
    ws = await websocket(running, f"{WEBSOCKET}&sid={poller.opening['sid']}")
    ws.send("2probe")
    assert await said(ws) == "3probe"
    return ws
