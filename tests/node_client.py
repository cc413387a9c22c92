"""The real socket.io-client, in Node, driven from a test."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import npm

SOCKET_IO_CLIENT = "socket.io-client@4.8.4"
DRIVER = Path(__file__).parent / "socketio_driver.js"


def node() -> str:
    """Give the path of Node."""
    found = shutil.which("node")
    assert found, "the tests with Socket.IO clients need Node; install it"
    return found


class NodeClients:
    """One Node process with any number of sockets, each by a name."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._seen: list[dict[str, Any]] = []
        self._acks = 0

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[NodeClients]:
        """Run Node while this is open."""
        folder = await asyncio.to_thread(npm.package, SOCKET_IO_CLIENT)
        process = await asyncio.create_subprocess_exec(
            node(),
            str(DRIVER),
            str(folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        try:
            yield cls(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()

    def open(self, name: str, url: str, token: str | None = None, **options: Any) -> None:
        """Begin a socket, as the seed does: `io(url, {auth: {token}})`."""
        auth = {"auth": {"token": token}} if token else {}
        self._order(do="open", name=name, url=url, options={**auth, **options})

    def emit(self, name: str, event: str, *args: Any) -> None:
        """Emit without an acknowledgement."""
        self._order(do="emit", name=name, event=event, args=args)

    async def ask(self, name: str, event: str, *args: Any) -> Any:
        """Emit and wait for the acknowledgement; gives what it carries."""
        self._acks += 1
        number = self._acks
        self._order(do="emit", name=name, event=event, args=args, ack=number)
        told = await self.until(lambda seen: seen.get("ack") == number)
        (answer,) = told["answer"]
        return answer

    def drop(self, name: str) -> None:
        """End the transport below a socket, as a lost network does."""
        self._order(do="drop", name=name)

    def raw(self, name: str, text: str) -> None:
        """Write one Engine.IO message as it is."""
        self._order(do="raw", name=name, text=text)

    def close(self, name: str) -> None:
        """Disconnect a socket."""
        self._order(do="close", name=name)

    async def connected(self, name: str) -> dict[str, Any]:
        """Wait for `connect` and `global.connected`; gives what the first told."""
        connect = await self.on(name, "connect")
        await self.message(name, "global.connected")
        return connect

    async def on(self, name: str, event: str) -> dict[str, Any]:
        """Wait for the next such event of a socket."""
        return await self.until(lambda seen: (seen["name"], seen["on"]) == (name, event))

    async def message(self, name: str, *types: str) -> dict[str, Any]:
        """Wait for the next message of one of these types."""
        told = await self.until(
            lambda seen: (
                (seen["name"], seen["on"]) == (name, "message")
                and (not types or seen["message"]["type"] in types)
            )
        )
        found: dict[str, Any] = told["message"]
        return found

    async def events(self, name: str, channel: str, last: int) -> list[dict[str, Any]]:
        """Collect a channel's events up to an offset."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["offset"] < last:
            message = await self.message(name)
            if message["channel"] == channel and "offset" in message:
                found.append(message)
        return found

    async def until(self, wanted: Any, timeout: float = 30.0) -> dict[str, Any]:
        """Take the first thing that fits, of what has been told or will be."""
        for index, seen in enumerate(self._seen):
            if wanted(seen):
                return self._seen.pop(index)
        async with asyncio.timeout(timeout):
            while True:
                seen = await self._next()
                if wanted(seen):
                    return seen
                self._seen.append(seen)

    def passed_over(self, name: str, event: str) -> list[dict[str, Any]]:
        """Give what was told so far and nobody has asked for."""
        return [seen for seen in self._seen if (seen["name"], seen["on"]) == (name, event)]

    async def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "Node has ended"
        told: dict[str, Any] = json.loads(line)
        return told

    def _order(self, **order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order, default=_bytes).encode() + b"\n")


def _bytes(value: Any) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    raise TypeError(type(value).__name__)
