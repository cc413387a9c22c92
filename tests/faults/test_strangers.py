"""Crowds without a token: whoever has one notices nothing of them."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from support import DaemonProcess, resident

STRANGERS = Path(__file__).parents[1] / "strangers.py"

PINGS = 300

LATE = 0.05
"""Seconds by which the slowest hundredth of pings may be slower than with nobody else there."""

MEMORY = 100 << 20

CROWDS = {
    "images of another site": [("image", 1005)],
    "sessions": [("session", 1005)],
    "silent sockets": [("silent", 1000)],
    "websockets": [("websocket", 1000)],
    "half requests": [("half", 3000)],
    "unfinished frames": [("frame", 300)],
    "unfinished bodies": [("body", 300)],
    "readers who do not read": [("reader", 500)],
    "all together": [("image", 1005), ("websocket", 1000), ("half", 3000), ("frame", 300)],
}


@asynccontextmanager
async def crowd(url, kind, count):
    """Have strangers come; they stay as long as they are let."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(STRANGERS), url, kind, str(count)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
        process.stdin.close()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process._transport.close()


async def pings(client, count=PINGS):
    """Give the seconds within which 99 of 100 pings were answered."""
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await client.call("ping")
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.01)
    return sorted(took)[int(count * 0.99)]


@pytest.fixture
def quiet_daemon(tmp_path):
    """A daemon beside the other, on the same busy machine, to which no stranger comes."""
    process = DaemonProcess(tmp_path / "quiet")
    process.start()
    yield process
    process.process.kill()
    process.close()


@pytest.mark.parametrize("kinds", CROWDS.values(), ids=CROWDS)
async def test_clients_with_a_token_notice_nothing_of_a_crowd_without(
    daemon_process, quiet_daemon, kinds
):
    url = daemon_process.start()
    async with daemon_process.client() as owner, quiet_daemon.client() as elsewhere:
        await asyncio.gather(pings(owner, 20), pings(elsewhere, 20))
        idle = resident(daemon_process.pid)
        async with AsyncExitStack() as stack:
            crowds = [await stack.enter_async_context(crowd(url, *each)) for each in kinds]
            meanwhile, alone = await asyncio.gather(pings(owner), pings(elsewhere))
            for each in crowds:
                assert await each.stdout.readline() == b"all are there\n"
            used = resident(daemon_process.pid) - idle
            async with asyncio.timeout(10), daemon_process.client() as another:
                assert (await another.call("ping")) == {}
                request = {"agent": "command", "argv": ["true"]}
                assert (await another.call("session.create", request))["sessionId"]
    assert meanwhile < alone + LATE
    assert used < MEMORY
