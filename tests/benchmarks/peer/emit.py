"""python-socketio as its documentation has it: emits each line of a child to a room.

Prints its port; a line on stdin starts the child; prints "done" at the child's end.
"""

from __future__ import annotations

import asyncio
import sys

import socketio
from aiohttp import web


async def main() -> None:
    """Serve until stdin ends."""
    server = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins=[])

    async def subscribe(sid: str, channel: str) -> None:
        await server.enter_room(sid, channel)

    server.on("subscribe", subscribe)
    app = web.Application()
    server.attach(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    say(runner.addresses[0][1])
    await asyncio.to_thread(sys.stdin.readline)
    child = await asyncio.create_subprocess_exec(*sys.argv[1:], stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    async for line in child.stdout:
        data = {"sessionId": "1", "content": line.decode(), "type": "stdout"}
        message = {"type": "session.stream_output", "data": data}
        await server.emit("message", message, room="session:1")
    await child.wait()
    say("done")
    await asyncio.to_thread(sys.stdin.readline)


def say(what: object) -> None:
    """Print one line."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


asyncio.run(main())
