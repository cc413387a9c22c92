"""What tests of watches are made of: a client's view of changes, and what a watch holds on to."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from domains.file.snapshot import Changes

ROUND = 30.0
"""Seconds, at most, that a test waits for what it knows will come."""


@contextmanager
def in_memory(otherwise):
    """Give a folder in memory where there is one: files change there as fast as can be."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else otherwise
    with tempfile.TemporaryDirectory(dir=place, prefix="agentcmd-test-") as folder:
        yield Path(folder)


def listeners() -> int:
    """Count our descriptors of inotify."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        try:
            count += "inotify" in str(path.readlink())
        except OSError:
            continue
    return count


def ears() -> int:
    return sum(thread.name == "file.watch" for thread in threading.enumerate())


async def until(condition, timeout=ROUND):
    """Wait for something of the operating system's that tells nobody."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def watching(running, path, **options):
    """Connect, make the folder a project, follow its channel, watch it."""
    socket = await running.ws(**options)
    answer = await socket.call("project.add", {"path": str(path)})
    if answer["type"] == "error":
        answer = await socket.call("project.list", {})
        project = next(p["id"] for p in answer["data"]["projects"] if p["path"] == str(path))
    else:
        project = answer["data"]["projectId"]
    view = View(socket, project)
    view.state = await view.watch()
    return view


class View:
    """One client's view of a project's changes."""

    def __init__(self, socket, project):
        self.socket, self.project = socket, project
        self.net, self.overflows, self.events = Changes(), 0, []

    async def watch(self):
        await self.socket.call("subscribe", channel=f"file:project:{self.project}")
        answer = await self.socket.call("file.watch", {"projectId": self.project})
        assert answer["type"] == "file.watch.ok", answer
        return answer["data"]

    async def unwatch(self):
        return (await self.socket.call("file.unwatch", {"projectId": self.project}))["data"]

    async def next(self):
        """Take one report."""
        while True:
            message = await self.socket.next(ROUND)
            if message["type"] == "file.changed":
                data = message["data"]
                self.events.append(data)
                self.overflows += data.get("overflow", False)
                for each in data["changes"]:
                    self.net.note(each["path"], each["change"])
                return data

    async def until(self, **wanted):
        """Take reports until these are among the net changes; gives and forgets all of them."""
        wanted = {path.replace("__", "/"): what for path, what in wanted.items()}
        return await self.took(wanted)

    async def took(self, wanted):
        async with asyncio.timeout(ROUND):
            while any(self.net.get(path) != what for path, what in wanted.items()):
                await self.next()
        net, self.net = dict(self.net), Changes()
        return net


async def settled(view, root):
    """Touch a file of its own and wait for it: what came before has been told then."""
    name = f"settled-{time.monotonic_ns()}"
    (root / name).touch()
    found = await view.took({name: "added"})
    (root / name).unlink()
    more = await view.took({name: "deleted"})
    net = Changes(found)
    net.add(Changes(more))
    return dict(net)
