"""The front end of the seed, unchanged, beside a daemon that restarts."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import npm
import pytest
from node_client import SOCKET_IO_CLIENT, node
from support import free_port

from daemon.web.auth import Tokens, load_secret

SCRIPT = Path(__file__).parent.parent / "seed_client.js"
GREET = ["sh", "-c", "read name; echo hello $name"]


@asynccontextmanager
async def front_end(url, token):
    """Run the front end; gives what says a line to it, and what waits for something told."""
    folder = await asyncio.to_thread(npm.package, SOCKET_IO_CLIENT)
    process = await asyncio.create_subprocess_exec(
        node(),
        str(SCRIPT),
        str(folder),
        url,
        token,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    seen = []

    def show(session):
        process.stdin.write(session.encode() + b"\n")

    async def told(**wanted):
        async with asyncio.timeout(30):
            while True:
                line = json.loads(await process.stdout.readline())
                seen.append(line)
                if wanted.items() <= line.items():
                    return line

    try:
        yield show, told, seen
    finally:
        process.stdin.close()
        await process.wait()


async def begin(process):
    async with process.client() as client:
        data = {"agent": "command", "argv": GREET, "keepAlive": True}
        return (await client.call("session.create", data))["sessionId"]


async def greet(process, session, name):
    async with process.client() as client:
        await client.call("session.input", {"sessionId": session, "data": f"{name}\n", "end": True})


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_the_seeds_front_end_follows_a_session_survives_a_restart_and_unsubscribes(
    daemon_process, end
):
    daemon_process.environ["AGENTCMD_SERVER__PORT"] = str(free_port())
    url = await asyncio.to_thread(daemon_process.start)
    token = Tokens(load_secret(daemon_process.state_dir, "", {})).mint("front-end")
    async with front_end(url, token) as (show, told, seen):
        await told(connected=True)
        first = await begin(daemon_process)
        show(first)
        await told(subscribed=first)
        await greet(daemon_process, first, "first")
        completed = await told(status="completed")
        assert completed["data"]["sessionId"] == first
        outputs = [line["output"]["content"] for line in seen if "output" in line]
        assert outputs == ["hello first\n"]

        second = await begin(daemon_process)
        show(second)
        await told(subscribed=second)
        await asyncio.to_thread(getattr(daemon_process, end))
        if end == "stop":
            stopped = await told(status="error")
            assert stopped["data"]["code"] == "daemon_stopped"
        await told(connected=False)
        await asyncio.to_thread(daemon_process.start)
        await told(connected=True)

        third = await begin(daemon_process)
        show(third)
        await told(subscribed=third)
        await greet(daemon_process, third, "third")
        assert (await told(status="completed"))["data"]["sessionId"] == third

        fourth, fifth = await begin(daemon_process), await begin(daemon_process)
        show(fourth)
        await told(subscribed=fourth)
        show(fifth)
        await told(subscribed=fifth)
        await greet(daemon_process, fourth, "nobody")
        async with daemon_process.client() as client:
            async for message in client.subscribe(f"session:{fourth}", since=0):
                if message.type == "session.completed":
                    break
        await greet(daemon_process, fifth, "fifth")
        await told(status="completed")
        heard = [line["output"]["content"] for line in seen if "output" in line]
        assert heard == ["hello first\n", "hello third\n", "hello fifth\n"]
