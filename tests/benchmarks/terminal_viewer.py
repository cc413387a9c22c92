"""A cheap viewer of one terminal: `agentcmd|node-pty|terminado PORT TOKEN TERMINAL`.

It reads a raw socket, and does the same for every kind of server but for what is around the output.
The terminal's program says READY, and then carries out one line of shell, the job. Prints "ready"
then, and answers orders, one JSON object a line, most with the `job` to type first, if any:
`{"do": "flood"}` reads until the MARK, and gives what came and how long it took; `{"do": "keys",
"count"}` types so many keys and gives the time until each comes back, in ms; `{"do": "stall",
"seconds"}` reads nothing; `{"do": "interrupt", "rate", "after", "patience"}` renders so many bytes
a second, types Ctrl-C, and gives the seconds until the last byte was rendered, null where that
takes longer; `{"do": "close"}` ends the terminal and gives what was told of it.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import sys
import time
from collections.abc import Iterator

READY, MARK = b"ready\n", b"<end of the job>"
ACK = 128 << 10
"""Bytes between two acknowledgements."""
SIP = 16 << 10
"""Bytes of one read of a viewer that renders at a rate."""
SLACK = 0.002
"""Seconds that such a viewer does not bother to sleep, and may catch up."""
TEXT, BINARY = 1, 2


class Wire:
    """A WebSocket on a raw socket, as little as it can be."""

    def __init__(self, port: str, path: str, token: str) -> None:
        self._buffer = bytearray(8 << 20)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._socket = socket.create_connection(("127.0.0.1", int(port)), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        while (head := self._buffer.find(b"\r\n\r\n", 0, self._end)) < 0:
            self.fill()
        assert self._buffer.startswith(b"HTTP/1.1 101"), bytes(self._buffer[: self._end])
        self._start = head + 4

    def fill(self, most: int = 1 << 20) -> int:
        """Wait for some bytes and take at most so many."""
        if self._start == self._end:
            self._start = self._end = 0
        elif len(self._buffer) - self._end < most:
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        got = self._socket.recv_into(self._view[self._end : self._end + most])
        if not got:
            raise EOFError("the server has hung up")
        self._end += got
        return got

    def frames(self) -> Iterator[tuple[int, memoryview]]:
        """Give opcode and payload of each frame that is whole; a server does not mask."""
        view = self._view
        while (left := self._end - self._start) >= 2:
            start = self._start + 2
            size = view[self._start + 1]
            if size >= 126:
                wide = 2 if size == 126 else 8
                size = int.from_bytes(view[start : start + wide], "big")
                start += wide
            if left < start - self._start + size:
                return
            opcode = view[self._start] & 15
            self._start = start + size
            yield opcode, view[start : start + size]

    def send(self, text: str) -> None:
        """Send a text message; a mask of zeros is a mask."""
        data = text.encode()
        size = len(data)
        head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
        self._socket.sendall(head + b"\0\0\0\0" + data)


class NodePty:
    """A terminal as it is: output in binary messages, input in text messages."""

    path = "/"
    gaps = 0

    def __init__(self, port: str, token: str) -> None:
        self.wire = Wire(port, self.path, token)
        self._tail = b""

    def outputs(self) -> Iterator[memoryview | bytes]:
        """Give what is output in the frames that have come."""
        for opcode, payload in self.wire.frames():
            if opcode == BINARY:
                yield payload

    def type(self, text: str) -> None:
        self.wire.send(text)

    def rendered(self, *, every: int = ACK) -> None:
        """Tell that all that came is rendered; nobody here asks."""

    def until(self, mark: bytes, most: int = 1 << 20) -> Iterator[bytes]:
        """Read output until it ends in the mark."""
        tail = b""
        while True:
            self.wire.fill(most)
            for output in self.outputs():
                yield bytes(output)
                tail = (tail + output[-len(mark) :])[-len(mark) :]
            self.rendered()
            if tail == mark:
                return

    @staticmethod
    def decoded(output: bytes) -> bytes:
        return output

    def close(self) -> object:
        return None


class Terminado(NodePty):
    """terminado: `["stdout", TEXT]` in text messages; the text stays escaped until the end."""

    path = "/websocket"
    _START, _END = b'["stdout", "', b'"]'

    def outputs(self) -> Iterator[memoryview | bytes]:
        for _, payload in self.wire.frames():
            if payload[: len(self._START)] == self._START:
                yield payload[len(self._START) : -len(self._END)]

    def type(self, text: str) -> None:
        self.wire.send(json.dumps(["stdin", text]))

    def until(self, mark: bytes, most: int = 1 << 20) -> Iterator[bytes]:
        return super().until(json.dumps(mark.decode())[1:-1].encode(), most)

    @staticmethod
    def decoded(output: bytes) -> bytes:
        text: str = json.loads(b'"%b"' % output)
        return text.encode()


class Agentcmd(NodePty):
    """Ours: binary frames that say where they begin, and acknowledgements of what is rendered."""

    path = "/ws"

    def __init__(self, port: str, token: str, terminal: str) -> None:
        super().__init__(port, token)
        self._terminal = terminal
        self._offset = self._told = 0
        self._exit: object = None
        channel = f"shell:terminal:{terminal}"
        self._header = 12 + len(channel)
        order = {"since": 0, "encoding": "binary"}
        self.wire.send(json.dumps({"type": "subscribe", "channel": channel, "data": order}))

    def outputs(self) -> Iterator[memoryview | bytes]:
        for opcode, payload in self.wire.frames():
            if opcode == BINARY:
                begins = int.from_bytes(payload[2:10], "big")
                self.gaps += begins != self._offset
                output = payload[self._header :]
                self._offset = begins + len(output)
                yield output
            elif opcode == TEXT:
                self._told_of(json.loads(bytes(payload)))

    def _told_of(self, message: dict[str, object]) -> None:
        """Take a message that is no output."""
        if message["type"] in {"global.error", "global.subscription_error"}:
            raise RuntimeError(str(message))
        if message["type"] == "shell.exit":
            self._exit = message["data"]

    def type(self, text: str) -> None:
        self._command("shell.input", data=text)

    def rendered(self, *, every: int = ACK) -> None:
        if self._offset - self._told >= every:
            self._told = self._offset
            self._command("shell.ack", offset=self._offset)

    def _command(self, type_: str, **data: object) -> None:
        told = {"terminalId": self._terminal, **data}
        self.wire.send(json.dumps({"type": type_, "data": told}, separators=(",", ":")))

    def close(self) -> object:
        self._command("shell.close")
        while self._exit is None:
            self.wire.fill()
            for _ in self.outputs():
                pass
        return self._exit


class Orders:
    """What a viewer can be asked to do."""

    def __init__(self, terminal: NodePty) -> None:
        self._terminal = terminal
        self._pauses = random.Random(7)

    def flood(self, job: str) -> object:
        begun = time.perf_counter()
        self._terminal.type(job)
        parts = list(self._terminal.until(MARK))
        seconds = time.perf_counter() - begun
        output = self._terminal.decoded(b"".join(parts)).removesuffix(MARK)
        return {
            "seconds": seconds,
            "frames": len(parts),
            "bytes": len(output),
            "hash": hashlib.sha256(output).hexdigest(),
            "gaps": self._terminal.gaps,
        }

    def keys(self, job: str, count: int) -> list[float]:
        if job:
            self._terminal.type(job)
        found = []
        for _ in range(count):
            time.sleep(self._pauses.uniform(0.002, 0.005))
            begun = time.perf_counter()
            self._terminal.type("x")
            for _ in self._terminal.until(b"x"):
                pass
            found.append((time.perf_counter() - begun) * 1000)
        return found

    def stall(self, job: str, seconds: float) -> None:
        self._terminal.rendered(every=1)  # one that paces the terminal, until it is given up
        self._terminal.type(job)
        time.sleep(seconds)

    def interrupt(self, job: str, rate: float, after: float, patience: float) -> float | None:
        self._terminal.type(job)
        begun = due = time.perf_counter()
        typed = 0.0
        for output in self._terminal.until(MARK, SIP):
            now = time.perf_counter()
            due = max(due, now - SLACK) + len(output) / rate
            if not typed and now - begun >= after:
                typed = now
                self._terminal.type("\x03")
            if typed and now - typed > patience:
                return None
            if due - now > SLACK:
                time.sleep(due - now)
        return time.perf_counter() - typed

    def close(self) -> object:
        return self._terminal.close()


def main(kind: str, port: str, token: str, terminal: str) -> None:
    """Carry out orders until stdin ends."""
    viewer = {
        "agentcmd": lambda: Agentcmd(port, token, terminal),
        "node-pty": lambda: NodePty(port, token),
        "terminado": lambda: Terminado(port, token),
    }[kind]()
    for _ in viewer.until(READY):
        pass
    orders = Orders(viewer)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        sys.stdout.write(json.dumps(getattr(orders, order.pop("do"))(**order)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
