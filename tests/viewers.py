"""Viewers of terminals, as a web page or an editor would be: bytes or text over /ws."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
from support import Running

from daemon.core.frames import read_output


class Viewer:
    """One connection that follows one terminal and keeps what it has been told."""

    def __init__(self, raw: aiohttp.ClientWebSocketResponse) -> None:
        self.raw = raw
        self.id = ""
        self.output = bytearray()
        self.start = 0  # byte offset of the first that is kept
        self.next_byte = 0
        self.jumps: list[tuple[int, int]] = []
        self.events: list[dict[str, Any]] = []
        self.answers: dict[Any, dict[str, Any]] = {}
        self.frames = 0
        self.acks = False
        self._ids = 0

    @classmethod
    async def connect(cls, running: Running, **token: Any) -> Viewer:
        headers = {"Authorization": f"Bearer {running.token(**token)}"}
        raw = await running.http.ws_connect(f"{running.url}/ws", headers=headers, max_msg_size=0)
        viewer = cls(raw)
        await viewer.take()
        viewer.events.clear()
        return viewer

    async def create(self, *command: str, binary: bool = True, **fields: Any) -> Viewer:
        """Open a terminal and follow it from its first byte."""
        data = {"cols": 80, "rows": 24, **fields} | ({"command": list(command)} if command else {})
        answer = await self.call("shell.create", data)
        assert answer["type"] == "shell.create.ok", answer
        self.id = answer["data"]["terminalId"]
        await self.follow(self.id, since=0, binary=binary)
        return self

    async def follow(self, id_: str, *, binary: bool = True, **data: Any) -> dict[str, Any]:
        """Subscribe; gives the answer's data."""
        self.id = id_
        encoding = {"encoding": "binary"} if binary else {}
        answer = await self.call("subscribe", {**data, **encoding}, channel=self.channel)
        if answer["type"] == "global.subscription_success" and binary:
            self.start = self.next_byte = data.get("since") or 0
        return answer["data"]

    @property
    def channel(self) -> str:
        return f"shell:terminal:{self.id}"

    async def send(self, type_: str, **data: Any) -> None:
        """Say something about the terminal, without asking for an answer."""
        await self.raw.send_str(
            json.dumps({"type": type_, "data": {"terminalId": self.id, **data}})
        )

    async def type(self, text: str) -> None:
        await self.send("shell.input", data=text)

    async def call(self, type_: str, data: Any = None, **fields: Any) -> dict[str, Any]:
        self._ids += 1
        data = {"terminalId": self.id, **(data or {})} if type_ in ABOUT else data or {}
        await self.raw.send_str(
            json.dumps({"id": self._ids, "type": type_, "data": data, **fields})
        )
        while self._ids not in self.answers:
            await self.take()
        return self.answers.pop(self._ids)

    async def take(self, timeout: float = 30.0) -> None:
        """Take one frame."""
        frame = await self.raw.receive(timeout)
        if frame.type is aiohttp.WSMsgType.BINARY:
            told = read_output(frame.data)
            assert told is not None
            channel, at, data = told
            assert channel == self.channel
            self.frames += 1
            if at != self.next_byte:
                self.jumps.append((self.next_byte, at))
            self.output += data
            self.next_byte = at + len(data)
            if self.acks:
                await self.send("shell.ack", offset=self.next_byte)
            return
        assert frame.type is aiohttp.WSMsgType.TEXT, (frame.type, self.raw.close_code)
        message = json.loads(frame.data)
        if "id" in message:
            self.answers[message["id"]] = message
        elif message["type"] == "shell.output":
            self.events.append(message)
            self.output += message["data"]["data"].encode()
        else:
            self.events.append(message)

    async def until(
        self, wanted: str | bytes | Callable[[], object], timeout: float = 30.0
    ) -> None:
        """Read until the output holds bytes, an event of a type has come, or something is true."""
        looked = 0

        def found() -> object:
            nonlocal looked
            if isinstance(wanted, bytes):  # a flood is not searched from its beginning each time
                start, looked = max(0, looked - len(wanted)), len(self.output)
                return self.output.find(wanted, start) >= 0
            if isinstance(wanted, str):
                return any(event["type"] == wanted for event in self.events)
            return wanted()

        async with asyncio.timeout(timeout):
            while not found():
                await self.take(timeout)

    def told(self, type_: str) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events if event["type"] == type_]

    async def exit(self, timeout: float = 30.0) -> dict[str, Any]:
        """Read to the end of the terminal; gives the data of `shell.exit`."""
        await self.until("shell.exit", timeout=timeout)
        (end,) = self.told("shell.exit")
        return end


ABOUT = {
    "shell.get", "shell.input", "shell.resize", "shell.signal", "shell.ack", "shell.close",
    "shell.record", "shell.stop_recording", "shell.recording",
}  # fmt: skip
