"""A daemon with a probe inside that starts workflows: orders on stdin, one JSON object a line.

`{"do": "run", "project", "workflow", "runs", "args"}` starts runs, and gives the seconds until the
last has ended and the loop's lags meanwhile, in ms; `{"do": "park", ...}` starts them and answers
when each waits; `{"do": "opened"}` gives the seconds that the daemon took to open.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from daemon import settings
from daemon.app import Daemon
from daemon.core.commands import Caller
from daemon.log import logging_to

PROBE = 0.005

CALLER = Caller(sub="bench", grants=(("read", "*"), ("write", "*")), expires_at=float("inf"))


class Probe:
    """What starts runs inside the daemon's loop, and measures there."""

    def __init__(self, daemon: Daemon, opened: float) -> None:
        self.daemon, self.opened = daemon, opened
        self.lags: list[float] = []

    async def call(self, name: str, **data: Any) -> Any:
        answer = self.daemon._dispatcher.call_with(name, data, CALLER)
        if not isinstance(answer, msgspec.Struct):
            answer = await answer
        return msgspec.to_builtins(answer)

    async def sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PROBE
            await asyncio.sleep(PROBE)
            self.lags.append((loop.time() - due) * 1000)

    async def start(self, order: dict[str, Any]) -> None:
        asked = {key: order[key] for key in ("workflow", "args")}
        await asyncio.gather(
            *(
                self.call("workflow.start", projectId=order["project"], **asked)
                for _ in range(order["runs"])
            )
        )

    async def count(self, state: str) -> int:
        found, cursor = 0, None
        while True:
            more = {} if cursor is None else {"cursor": cursor}
            page = await self.call("workflow.runs", state=state, limit=500, **more)
            found += len(page["runs"])
            cursor = page.get("nextCursor")
            if cursor is None:
                return found

    async def run(self, order: dict[str, Any]) -> dict[str, Any]:
        ended = asyncio.Event()
        left = order["runs"]

        def hear(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                ended.set()

        undo = self.daemon._bus.on("workflow.run.completed", hear)
        sampling = asyncio.ensure_future(self.sample())
        begun = time.perf_counter()
        await self.start(order)
        started = time.perf_counter()
        await ended.wait()
        await self.daemon._journal.flushed()
        seconds = time.perf_counter() - begun
        sampling.cancel()
        undo()
        lags, self.lags = self.lags, []
        return {"seconds": seconds, "starting": started - begun, "lags": lags}

    async def park(self, order: dict[str, Any]) -> dict[str, Any]:
        await self.start(order)
        while await self.count("waiting") < order["runs"]:
            await asyncio.sleep(0.05)
        return {"parked": order["runs"]}

    async def obey(self, order: dict[str, Any]) -> Any:
        if order["do"] == "opened":
            return {"seconds": self.opened, "waiting": await self.count("waiting")}
        if order["do"] == "add":
            return await self.call("project.add", path=order["path"])
        return await (self.run(order) if order["do"] == "run" else self.park(order))


async def main(state_dir: str) -> None:
    """Serve until stdin ends."""
    chosen = settings.load(
        environ={
            "AGENTCMD_SERVER__STATE_DIR": state_dir,
            "AGENTCMD_SERVER__PORT": "0",
            "AGENTCMD_LOG__LEVEL": "error",
            "XDG_CONFIG_HOME": str(Path(state_dir) / "none"),
        }
    )
    with logging_to(None, level="error", file_bytes=0, files=0):
        begun = time.perf_counter()
        async with Daemon(chosen) as daemon:
            probe = Probe(daemon, time.perf_counter() - begun)
            gc.freeze()  # as `serve` does
            tell({"pid": os.getpid()})
            while line := await asyncio.to_thread(sys.stdin.readline):
                tell(await probe.obey(json.loads(line)))


def tell(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


asyncio.run(main(sys.argv[1]))
