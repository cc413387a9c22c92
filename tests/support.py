"""What tests are made of: core rooms, a daemon in this loop, a daemon as a process, raw sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from daemon import home
from daemon.app import Daemon
from daemon.client import Client
from daemon.core.fanout import Fanout
from daemon.core.journal import Journal
from daemon.core.store import Store
from daemon.core.supervisor import Supervisor
from daemon.settings import Settings, load
from daemon.web.auth import Tokens, load_secret

DURABLE = ("session", "project", "workflow", "git")


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

    async def next(self, timeout: float = 10.0) -> dict[str, Any]:
        frame = await self.raw.receive(timeout)
        assert frame.type is aiohttp.WSMsgType.TEXT, (frame.type, self.raw.close_code)
        return json.loads(frame.data)

    async def until(self, *types: str, timeout: float = 10.0) -> list[dict[str, Any]]:
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

    async def closed(self, timeout: float = 10.0) -> int | None:
        """Read to the end; gives the close code."""
        async with asyncio.timeout(timeout):
            while True:
                frame = await self.raw.receive()
                if frame.type is not aiohttp.WSMsgType.TEXT:
                    return self.raw.close_code


class DaemonProcess:
    """`agentcmd serve` as a process of its own, for what kills and restarts it."""

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
            [sys.executable, "-m", "daemon", "serve"],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
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


def open_descriptors(pid: int | str = "self") -> int:
    """Count a process's open descriptors."""
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
