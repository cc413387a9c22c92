"""A daemon with a probe inside: serves, and does on stdin's orders what no client can.

Orders, one JSON object a line: `{"do": "emit", "count", "per", "gap"}` emits structured events on
`session:1`; `{"do": "lag", "seconds"}` gives the loop's lags, in ms; `{"do": "journal",
"count", "turn"}` writes events and gives the seconds until all are on disk; `{"do": "commit",
"rate", "seconds"}` gives the commit latencies at that rate, in ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from daemon import settings
from daemon.app import Daemon
from daemon.log import logging_to
from domains.session.events import StreamOutput

PROBE = 0.005


class Probe:
    """What measures inside the daemon's loop."""

    def __init__(self, daemon: Daemon) -> None:
        self.bus, self.journal = daemon._bus, daemon._journal
        self.lags: list[float] = []

    async def sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PROBE
            await asyncio.sleep(PROBE)
            self.lags.append((loop.time() - due) * 1000)

    def say(self, session: str = "1") -> None:
        text = f"burst 0 line 0 at t={time.time_ns()} {'.' * 40}\n"
        self.bus.emit(StreamOutput(session_id=session, content=text, type="stdout"))

    async def emit(self, count: int, per: int, gap: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for _ in range(count):
            for _ in range(per):
                self.say()
            due += gap
            await asyncio.sleep(max(0.0, due - loop.time()))
        await self.journal.flushed()

    async def lag(self, seconds: float) -> list[float]:
        sampling = asyncio.ensure_future(self.sample())
        await asyncio.sleep(seconds)
        sampling.cancel()
        lags, self.lags = self.lags, []
        return lags

    async def write(self, count: int, turn: int) -> float:
        begun = time.perf_counter()
        for number in range(count):
            self.say("2")
            if number % turn == turn - 1:
                await asyncio.sleep(0)
        await self.journal.flushed()
        return time.perf_counter() - begun

    async def commit(self, rate: int, seconds: float) -> list[float]:
        found = []
        for _ in range(int(rate * seconds)):
            self.say("2")
            begun = time.perf_counter()
            await self.journal.flushed()
            found.append((time.perf_counter() - begun) * 1000)
            await asyncio.sleep(1 / rate)
        return found


async def main(state_dir: str) -> None:
    chosen = settings.load(
        environ={
            "AGENTCMD_SERVER__STATE_DIR": state_dir,
            "AGENTCMD_SERVER__PORT": "0",
            "AGENTCMD_LOG__LEVEL": "error",
            "AGENTCMD_WEB__MAX_CONNECTIONS": "5000",
            "XDG_CONFIG_HOME": str(Path(state_dir) / "none"),
            **{n: v for n, v in os.environ.items() if n.startswith("AGENTCMD_AGENTS__")},
        }
    )
    quietly = logging_to(None, level="error", file_bytes=0, files=0)
    with quietly:
        async with Daemon(chosen) as daemon:
            await serve(daemon)


async def serve(daemon: Daemon) -> None:
    """Carry out orders until stdin ends."""
    probe = Probe(daemon)
    probe.say()
    sys.stdout.write(json.dumps({"url": daemon.url, "token": daemon.tokens.mint("b")}) + "\n")
    sys.stdout.flush()
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        does = {
            "emit": probe.emit,
            "lag": probe.lag,
            "journal": probe.write,
            "commit": probe.commit,
        }[order.pop("do")]
        result = await does(**order)
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


asyncio.run(main(sys.argv[1]))
