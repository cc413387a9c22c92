"""What tests are made of: core rooms, a daemon in this loop, a daemon as a process, raw sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from daemon import home
from daemon.app import Daemon
from daemon.client import Client, Message
from daemon.core.fanout import Fanout
from daemon.core.journal import Journal
from daemon.core.spawner import look_by_scan
from daemon.core.store import Store
from daemon.core.supervisor import Supervisor
from daemon.settings import Settings, load
from daemon.web.auth import Tokens, load_secret

DURABLE = ("session", "project", "workflow", "git")

ENDS = ("session.completed", "session.error", "session.cancelled")


@dataclass
class Core:
    """The rooms below the doors, open on a file of their own."""

    store: Store
    journal: Journal
    supervisor: Supervisor
    fanout: Fanout


def settings_for(state_dir: Path, **environ: str) -> Settings:
    """Settings of a daemon for a test: own state dir, free port; `environ` as AGENTCMD_ names."""
    return load(
        environ={
            "XDG_CONFIG_HOME": str(state_dir / "no-config"),
            "AGENTCMD_SERVER__STATE_DIR": str(state_dir),
            "AGENTCMD_SERVER__PORT": "0",
            **{f"AGENTCMD_{name}": value for name, value in environ.items()},
        }
    )


@asynccontextmanager
async def http_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session that lets go of every WebSocket made with it, however the test ended."""
    made: list[Noted] = []

    class Noted(aiohttp.ClientWebSocketResponse):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    async with aiohttp.ClientSession(ws_response_class=Noted) as http:
        yield http
        for each in made:
            each._response.close()


class Running:
    """A daemon in this test's loop, and the means to talk to it."""

    def __init__(self, daemon: Daemon, http: aiohttp.ClientSession) -> None:
        self.daemon = daemon
        self.http = http
        self.url = daemon.url

    def token(self, user: str = "tester", **options: Any) -> str:
        return self.daemon.tokens.mint(user, **options)

    def headers(self, **options: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**options)}"}

    async def ws(self, *, token: str | None = None, **options: Any) -> Socket:
        """Connect and take `global.connected`."""
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        raw = await self.http.ws_connect(
            f"{self.url}/ws", headers=headers, max_msg_size=0, **options
        )
        socket = Socket(raw)
        hello = await socket.next()
        assert hello["type"] == "global.connected", hello
        return socket

    def client(self) -> Client:
        state_dir = self.daemon.state_dir
        return Client(lambda: home.discover(state_dir), token=self.token)


class Socket:
    """A raw WebSocket client: JSON out, JSON in, nothing hidden."""

    def __init__(self, raw: aiohttp.ClientWebSocketResponse) -> None:
        self.raw = raw
        self._ids = 0

    async def send(self, type_: str, data: Any = None, **fields: Any) -> None:
        message = {"type": type_, **fields}
        if data is not None:
            message["data"] = data
        await self.raw.send_str(json.dumps(message))

    async def next(self, timeout: float = 30.0) -> dict[str, Any]:
        frame = await self.raw.receive(timeout)
        assert frame.type is aiohttp.WSMsgType.TEXT, (frame.type, self.raw.close_code)
        return json.loads(frame.data)

    async def until(self, *types: str, timeout: float = 30.0) -> list[dict[str, Any]]:
        """Read up to and including the first message of one of these types."""
        seen = []
        async with asyncio.timeout(timeout):
            while not seen or seen[-1]["type"] not in types:
                seen.append(await self.next(timeout))
        return seen

    async def call(self, type_: str, data: Any = None, **fields: Any) -> dict[str, Any]:
        """Send a command and give its whole answer; other messages are passed over."""
        self._ids += 1
        await self.send(type_, data or {}, id=self._ids, **fields)
        while True:
            message = await self.next()
            if message.get("id") == self._ids:
                return message

    async def closed(self, timeout: float = 30.0) -> int | None:
        """Read to the end; gives the close code."""
        async with asyncio.timeout(timeout):
            while True:
                frame = await self.raw.receive()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    return self.raw.close_code


class RawSocket:
    """A client below any library: bytes in, bytes out, reading only when told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, running: Running, request: bytes, *, receive_bytes: int = 0) -> RawSocket:
        """Connect and send bytes; `receive_bytes` is what the kernel takes for us unread."""
        parts = urlsplit(running.url)
        own = socket.socket()
        if receive_bytes:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, (parts.hostname, parts.port))
        raw = cls(*await asyncio.open_connection(sock=own, limit=receive_bytes or 2**16))
        raw.writer.write(request)
        return raw

    @classmethod
    async def connect(
        cls, running: Running, *, token: bytes | None = None, receive_bytes: int = 0
    ) -> RawSocket:
        """Open a WebSocket; the token goes into the header as it is."""
        token = running.token().encode() if token is None else token
        host = urlsplit(running.url).netloc
        request = (
            f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\n"
        ).encode() + (b"Authorization: Bearer %b\r\n\r\n" % token if token else b"\r\n")
        raw = await cls.open(running, request, receive_bytes=receive_bytes)
        await raw.reader.readuntil(b"\r\n\r\n")
        return raw

    def send(self, text: str | bytes, *, opcode: int = 1, fin: bool = True) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        size = len(data)
        if size < 126:
            length = bytes((0x80 | size,))
        elif size < 65536:
            length = b"\xfe" + struct.pack("!H", size)
        else:
            length = b"\xff" + struct.pack("!Q", size)
        self.writer.write(bytes(((0x80 if fin else 0) | opcode,)) + length + b"\0\0\0\0" + data)

    async def frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0xF, await self.reader.readexactly(size)

    async def next(self) -> dict[str, Any]:
        """Give the next text message."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 1:
                return json.loads(payload)
            if opcode == 8:
                return {"type": "close", "code": struct.unpack("!H", payload[:2])[0]}

    def close(self) -> None:
        self.writer.transport.abort()


def split_frames(joined: bytes) -> Iterator[tuple[int, bytes]]:
    """Take joined frames of a server apart again: opcode and payload of each."""
    while joined:
        size, head = joined[1], 2
        if size == 126:
            size, head = int.from_bytes(joined[2:4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(joined[2:10], "big"), 10
        yield joined[0] & 0xF, joined[head : head + size]
        joined = joined[head + size :]


def emit_lines(running: Running, count: int, *, session: str = "1", size: int = 0) -> None:
    """Put events on a session's channel, as its domain would."""
    from domains.session.events import StreamOutput

    for number in range(count):
        text = f"{number}{'x' * size}\n"
        running.daemon._bus.emit(StreamOutput(session_id=session, content=text, type="stdout"))


async def written(running: Running, count: int, **options: Any) -> None:
    """Emit lines, and wait until they are on disk."""
    emit_lines(running, count, **options)
    await running.daemon._journal.flushed()


def free_port() -> int:
    """Give a port that is free, and that the system gives to nobody else before it is used."""
    own = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.SystemRandom().randrange(10_000, max(int(own[0]), 20_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def standing_in_for(number: int, other: int) -> Iterator[None]:
    """Have a descriptor be another one for a while."""
    before = os.dup(number)
    os.dup2(other, number)
    try:
        yield
    finally:
        os.dup2(before, number)
        os.close(before)


class DaemonProcess:
    """`agentcmd serve` as a process of its own, for what kills and restarts it."""

    prefix: tuple[str, ...] = ()
    """What starts it, as another parent would: a command line that runs its arguments."""

    umask = -1
    """That of the tests, or another one."""

    def __init__(self, state_dir: Path, **environ: str) -> None:
        self.state_dir = state_dir
        self.environ = {
            **os.environ,
            "AGENTCMD_SERVER__STATE_DIR": str(state_dir),
            "AGENTCMD_SERVER__PORT": "0",
            **{f"AGENTCMD_{name}": value for name, value in environ.items()},
        }
        self.process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> str:
        """Start it and wait for its one line; gives the URL."""
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "daemon", "serve"],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            umask=self.umask,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "listening on" in line, line
        return line.rsplit(" ", 1)[1].strip()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as `systemctl stop` does; gives its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.close()

    def close(self) -> int:
        """Wait for the end, which it has been told, and let go."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(30)

    def client(self) -> Client:
        tokens = Tokens(load_secret(self.state_dir, "", {}))
        return Client(lambda: home.discover(self.state_dir), token=lambda: tokens.mint("tester"))


async def follow(client: Client, channel: str, since: int = 0) -> list[Message]:
    """Give the events of a session to its end, which comes within a minute."""
    events = []
    async with asyncio.timeout(60):
        async for message in client.subscribe(channel, since=since):
            events.append(message)
            if message.type in ENDS:
                break
    return events


async def until(condition: Callable[[], Any], within: float = 30.0) -> Any:
    """Wait for what only /proc, or a look into the daemon, shows."""
    async with asyncio.timeout(within):
        while not (found := condition()):
            await asyncio.sleep(0.01)
    return found


def descendants(pid: int) -> set[int]:
    """List what is below a process, the dead that nobody has buried included."""
    lookup = look_by_scan()
    found = list(lookup(pid))
    for each in found:
        found.extend(lookup(each))
    return set(found)


def resident(pid: int) -> int:
    """Give the resident bytes of a process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def argv_of(pid: int) -> bytes:
    """Give the command line of a process; empty when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return b""


def open_descriptors(pid: int | str = "self") -> int:
    """Count a process's open descriptors; of ours, those that no garbage of a test holds."""
    if pid == "self":
        gc.collect()
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def processes_with(marker: str) -> list[int]:
    """Find live processes whose command line or environment has a marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if marker.encode() in text and state != "Z":
                found.append(int(entry.name))
    return found
