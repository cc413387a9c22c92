"""Many cheap WebSocket clients: `agentcmd|socketio PORT TOKEN CHANNEL COUNT`.

They count lines by their escaped newline and time those of a few clients. Prints "ready"
when all are subscribed; a number on stdin has them wait until so many lines have come, and print
the count and the latencies as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

KIND, PORT, TOKEN, CHANNEL, COUNT = (*sys.argv[1:5], int(sys.argv[5]))
TIMED = 5
STAMP = re.compile(rb"t=(\d{19})")
lines = 0
bytes_ = 0
latencies: list[float] = []


def masked(text: str) -> bytes:
    """Frame a client's text message; a mask of zeros is a mask."""
    data = text.encode()
    return bytes((0x81, 0x80 | len(data))) + b"\0\0\0\0" + data


class Viewer(asyncio.Protocol):
    """One client."""

    def __init__(self, number: int, ready: asyncio.Event) -> None:
        self.timed = number % max(1, COUNT // TIMED) == 0
        self.ready = ready
        self.buffer = b""
        self.streaming = self.greeted = self.joined = self.split = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        path = "/ws" if KIND == "agentcmd" else "/socket.io/?EIO=4&transport=websocket"
        self.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        if KIND == "agentcmd":
            self.write(masked(json.dumps({"type": "subscribe", "channel": CHANNEL})))

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        global lines, bytes_  # noqa: PLW0603  # one process, one count
        if not self.streaming:
            self.buffer += data
            if KIND == "socketio":
                self.shake_hands()
            if b"subscription_success" in self.buffer or b"430[" in self.buffer:
                self.streaming = True
                self.ready.set()
            return
        if data == b"\x81\x012":  # Engine.IO's ping
            self.write(masked("3"))
            return
        lines += data.count(b"\\n") + (self.split and data.startswith(b"n"))
        self.split = data.endswith(b"\\")  # an escaped newline may come in two parts
        bytes_ += len(data)
        if self.timed:
            now = time.time_ns()
            latencies.extend((now - int(stamp)) / 1e6 for stamp in STAMP.findall(data))

    def shake_hands(self) -> None:
        """Answer Engine.IO's and Socket.IO's greeting, each once."""
        if not self.greeted and b'0{"sid"' in self.buffer:
            self.greeted = True
            self.write(masked("40"))
        if not self.joined and b'40{"sid"' in self.buffer:
            self.joined = True
            self.write(masked(f'420["subscribe","{CHANNEL}"]'))


async def main() -> None:
    loop = asyncio.get_running_loop()
    for number in range(COUNT):
        ready = asyncio.Event()
        await loop.create_connection(lambda n=number, r=ready: Viewer(n, r), "127.0.0.1", int(PORT))
        await ready.wait()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    order = await asyncio.to_thread(sys.stdin.readline)
    while lines < int(order or 0):  # a count that a protocol raises has no event
        await asyncio.sleep(0.002)
    ordered = sorted(latencies) or [0.0]
    told = {
        "lines": lines,
        "bytes": bytes_,
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[int(len(ordered) * 0.99)],
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


asyncio.run(main())
