"""A look at a repository ends, whatever lies in the place of what git reads."""

from __future__ import annotations

import asyncio
import os

import pytest
from repositories import Repo, added
from support import processes_with

from daemon.core.errors import Unavailable
from domains.git.looks import AT_ONCE


@pytest.fixture
def blocked(tmp_path):
    """A repository in which every git that looks for rules waits for ever."""
    repo = Repo(tmp_path / "own")
    repo.commit({"a": "1"})
    os.mkfifo(repo.path / ".gitignore")
    return repo.path


async def test_a_look_that_is_blocked_ends_and_says_what_may_block_it(start_daemon, blocked):
    running = await start_daemon(TASK__KINDS__GIT__RUN_TIMEOUT="1", TASK__STOP_GRACE="0.5")
    async with running.client() as client:
        project = await added(client, blocked)
        asked = [
            ("git.status", {}),
            ("file.tree", {}),
            ("file.search", {"query": "1", "in": "names"}),
            ("file.watch", {}),
        ]
        for name, data in asked:
            with pytest.raises(Unavailable, match="FIFO"):
                await client.call(name, {"projectId": project, **data})
        many = [client.call("git.status", {"projectId": project}) for _ in range(12)]
        most = 0
        waiting = asyncio.gather(*many, return_exceptions=True)
        while not waiting.done():
            most = max(most, len(gits(blocked)))
            await asyncio.sleep(0.01)
        assert all(isinstance(each, Unavailable) for each in waiting.result())
        assert most <= AT_ONCE
        (blocked / ".gitignore").unlink()
        await client.call("git.status", {"projectId": project})


async def test_a_look_ends_with_whoever_has_asked(running, blocked):
    async with running.client() as client:
        project = await added(client, blocked)
        socket = await running.ws()
        await socket.send("git.status", {"projectId": project})
        async with asyncio.timeout(20):
            while not gits(blocked):
                await asyncio.sleep(0.01)
            await socket.raw.close()
            while gits(blocked):
                await asyncio.sleep(0.01)


def gits(path):
    """Find the gits that look there."""
    return processes_with(f"GIT_CEILING_DIRECTORIES={path.parent}\0")
