"""A look at a repository ends, whatever lies in the place of what git reads."""

from __future__ import annotations

import asyncio
import json
import os
from urllib.parse import urlsplit

import aiohttp
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


def request_of(running, project, verb, method="GET"):
    body = json.dumps({"all": True}) if method == "POST" else ""
    return (
        f"{method} /api/git/{project}/{verb} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
        f"{running.token()}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def begun(running, blocked, request):
    """Send a request over HTTP, and wait for its git."""
    parts = urlsplit(running.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    async with asyncio.timeout(20):
        while not gits(blocked):
            await asyncio.sleep(0.01)
    return reader, writer


async def none_left(blocked):
    async with asyncio.timeout(10):
        while gits(blocked):
            await asyncio.sleep(0.01)


def free(blocked):
    """Let whoever waits at the FIFO find an empty file."""
    rules = blocked / ".gitignore"
    number = os.open(rules, os.O_WRONLY | os.O_NONBLOCK)
    rules.unlink()
    os.close(number)


@pytest.mark.parametrize("how", ["close", "abort", "two", "late"])
async def test_a_look_over_http_ends_with_whoever_has_asked(running, blocked, how):
    async with running.client() as client:
        project = await added(client, blocked)
    request = request_of(running, project, "status")
    _, writer = await begun(running, blocked, request * 2 if how == "two" else request)
    if how == "abort":
        writer.transport.abort()
    elif how == "late":
        writer.write_eof()
        await asyncio.sleep(0)
        writer.close()
    else:
        writer.close()
    await none_left(blocked)


async def test_a_look_over_http_ends_with_a_client_that_has_waited_long_enough(running, blocked):
    async with running.client() as client:
        project = await added(client, blocked)
    with pytest.raises(TimeoutError):
        async with running.http.get(
            f"{running.url}/api/git/{project}/status",
            headers=running.headers(),
            timeout=aiohttp.ClientTimeout(total=1),
        ):
            pass
    await none_left(blocked)


async def test_whoever_has_only_closed_its_side_is_answered_when_the_look_is_done(running, blocked):
    async with running.client() as client:
        project = await added(client, blocked)
    reader, writer = await begun(running, blocked, request_of(running, project, "status"))
    writer.write_eof()
    async with asyncio.timeout(20):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        free(blocked)
        told = await reader.read()
    writer.close()
    told = told.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    head, _, body = told.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["files"] == []


async def test_what_changes_goes_on_when_whoever_has_asked_over_http_leaves(running, blocked):
    async with running.client() as client:
        project = await added(client, blocked)
        (blocked / ".gitignore").unlink()  # at the top it would be refused before git runs
        below = blocked / "below"
        below.mkdir()
        (below / "b").write_text("2")
        os.mkfifo(below / ".gitignore")
        request = request_of(running, project, "stage", "POST")
        _, writer = await begun(running, blocked, request)
        writer.transport.abort()
        left = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < left + 1.5:
            assert gits(blocked)
            await asyncio.sleep(0.05)
        free(below)
        await none_left(blocked)
        found = await client.call("git.status", {"projectId": project})
        assert [(each["path"], each["index"]) for each in found["files"]] == [("below/b", "added")]


def gits(path):
    """Find the gits that look there."""
    return processes_with(f"GIT_CEILING_DIRECTORIES={path.parent}\0")
