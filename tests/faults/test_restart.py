"""The daemon dies or restarts at every moment of its life; what was promised stands afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import signal
import sqlite3
import uuid

import aiohttp
import pytest
from support import ENDS, follow, http_session, processes_with, until

from daemon import home
from daemon.core import spawner
from daemon.core.errors import AgentcmdError
from daemon.core.store import OFFSET_BITS
from daemon.web.auth import Tokens, load_secret

OFFSET = re.compile(r'"offset":(\d+),"ts":[\d.]+\}$')
PROJECT = "project:scratch"
LOST = (aiohttp.ClientError, OSError, TimeoutError, EOFError, TypeError)
"""What a daemon that goes looks like; aiohttp raises TypeError where JSON was due."""


async def begin(client, *argv, **more):
    """Create a session; gives its channel."""
    data = {"agent": "command", "argv": list(argv), **more}
    return f"session:{(await client.call('session.create', data))['sessionId']}"


async def wait_for(client, channel, type_="session.stream_output"):
    async with contextlib.aclosing(client.subscribe(channel, since=0)) as messages:
        async for message in messages:
            if message.type == type_:
                return


async def serves(process):
    async with process.client() as client:
        events = await follow(client, await begin(client, "echo", "well"))
        assert events[-1].type == "session.completed"


async def test_an_idle_daemon_that_is_killed_leaves_nothing_and_comes_back(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    orphan = daemon_process.spawner
    daemon_process.kill()
    await until(lambda: spawner.stat_fields(orphan)[:1] in ([], [b"Z"]), within=30)
    await asyncio.to_thread(daemon_process.start)
    await serves(daemon_process)


@pytest.mark.parametrize("moment", [0, 1, 3])
async def test_a_daemon_that_is_killed_while_it_starts_programs_leaves_none_of_them(
    daemon_process, moment
):
    await asyncio.to_thread(daemon_process.start)
    mark = uuid.uuid4().hex
    argv = ("sh", "-c", f"(setsid env -i sh -c 'sleep 300; : {mark}' &) ; sleep 300; : {mark}")
    async with daemon_process.client() as client:
        creating = [asyncio.ensure_future(begin(client, *argv)) for _ in range(40)]
        await until(lambda: len(processes_with(mark)) >= 3 * moment)
        daemon_process.kill()
        await asyncio.wait(creating, timeout=0.1)
        for each in creating:
            each.cancel()
        given = await asyncio.gather(*creating, return_exceptions=True)
    await until(lambda: not processes_with(mark), within=30)
    promised = [channel for channel in given if isinstance(channel, str)]
    assert all(isinstance(each, str | AgentcmdError | asyncio.CancelledError) for each in given)
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        sessions = (await client.call("session.list", {"limit": 500}))["sessions"]
        assert {f"session:{session['id']}" for session in sessions} >= set(promised)
        for session in sessions:
            events = await follow(client, f"session:{session['id']}")
            assert [e.data["code"] for e in events if e.type in ENDS] == ["lost"]
    await serves(daemon_process)


async def test_a_daemon_that_is_killed_while_it_drains_leaves_nothing(daemon_process):
    daemon_process.environ["AGENTCMD_TASK__STOP_GRACE"] = "60"
    daemon_process.environ["AGENTCMD_SERVER__SHUTDOWN_TIMEOUT"] = "60"
    await asyncio.to_thread(daemon_process.start)
    mark = uuid.uuid4().hex
    script = f"trap '' TERM; (setsid sleep 300 &); echo up; while :; do sleep 1; done; : {mark}"
    async with daemon_process.client() as client:
        channel = await begin(client, "sh", "-c", script)
        await wait_for(client, channel)
        daemon_process.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while (await client.call("system.status"))["status"] != "draining":
                await asyncio.sleep(0.01)
        assert processes_with(mark)
        daemon_process.kill()
    await until(lambda: not processes_with(mark), within=30)
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        events = await follow(client, channel)
    assert [e.data["code"] for e in events if e.type in ENDS] == ["lost"]
    await serves(daemon_process)


class Reader:
    """A client that comes back until it has seen an offset, and keeps the very bytes."""

    def __init__(self, process, door, seed):
        self.process, self.door = process, door
        self.random = random.Random(seed)
        self.bodies = []
        self.epochs = set()
        self.token = Tokens(load_secret(process.state_dir, "", {})).mint("reader")
        self.last = None

    async def run(self):
        while self.last is None or len(self.bodies) < self.last:
            with contextlib.suppress(*LOST):
                await self.visit()
            await asyncio.sleep(0.02)

    async def visit(self):
        if (address := home.discover(self.process.state_dir)) is None:
            return
        async with http_session() as http:
            http.headers["Authorization"] = f"Bearer {self.token}"
            texts = getattr(self, self.door)(http, address.url)
            async with asyncio.timeout(5), contextlib.aclosing(texts):
                for _ in range(self.random.randrange(5, 60)):
                    text = await anext(texts, None)
                    if text is None or len(self.bodies) == self.last:
                        return
                    self.bodies.append(text)
                    assert int(OFFSET.search(text)[1]) == len(self.bodies), "a gap, or twice"

    def place(self):
        return {"since": len(self.bodies), **({"epoch": e} if (e := self.epoch) else {})}

    @property
    def epoch(self):
        return next(iter(self.epochs), "")

    async def ws(self, http, url):
        async with http.ws_connect(f"{url}/ws") as ws:
            await ws.receive_json()
            await ws.send_json({"type": "subscribe", "channel": PROJECT, "data": self.place()})
            told = (await ws.receive_json())["data"]
            if "reconnectMs" in told:
                return  # it drains just now
            assert told["recovered"], told
            self.epochs.add(told["epoch"])
            async for frame in ws:
                if OFFSET.search(frame.data):
                    yield frame.data

    async def sse(self, http, url):
        headers = {}
        if self.epoch:
            headers["Last-Event-ID"] = f"{PROJECT}={self.epoch}:{len(self.bodies)}"
        asked = {"channel": PROJECT, "since": str(len(self.bodies))}
        async with http.get(f"{url}/api/events", params=asked, headers=headers) as answer:
            if answer.status != 200:
                raise EOFError
            async for line in answer.content:
                if line.startswith(b"id: "):
                    self.epochs.add(line.decode().rpartition("=")[2].partition(":")[0])
                if line.startswith(b"data: ") and OFFSET.search(text := line[6:-1].decode()):
                    yield text


def hashed(bodies):
    return hashlib.sha256("\n".join(bodies).encode()).hexdigest()


def journal(state_dir, channel):
    """Read what is on disk of a channel."""
    with contextlib.closing(sqlite3.connect(state_dir / "agentcmd.db")) as db:
        ((id_, epoch),) = db.execute("SELECT id, epoch FROM channel WHERE name = ?", (channel,))
        bodies = db.execute(
            "SELECT body FROM event WHERE id > ? AND id < ? ORDER BY id",
            (id_ << OFFSET_BITS, (id_ + 1) << OFFSET_BITS),
        )
        return epoch, [body.decode() for (body,) in bodies]


async def keep_busy(process):
    """Begin short sessions, whoever answers."""
    while True:
        with contextlib.suppress(AgentcmdError, *LOST):
            async with process.client() as client:
                while True:
                    await begin(client, "sh", "-c", "echo hi; sleep 0.05")
        await asyncio.sleep(0.02)


async def test_clients_resume_over_restarts_under_load_and_have_what_the_journal_has(
    daemon_process,
):
    await asyncio.to_thread(daemon_process.start)
    await serves(daemon_process)
    readers = [Reader(daemon_process, door, n) for n in range(3) for door in ("ws", "sse")]
    reading = [asyncio.ensure_future(reader.run()) for reader in readers]
    load = [asyncio.ensure_future(keep_busy(daemon_process)) for _ in range(4)]
    for end in (daemon_process.kill, daemon_process.stop, daemon_process.kill):
        aim = min(len(reader.bodies) for reader in readers) + 40
        await until(
            lambda aim=aim: (
                min(len(reader.bodies) for reader in readers) >= aim
                or any(task.done() for task in (*reading, *load))
            ),
            within=30,
        )
        await asyncio.to_thread(end)
        await asyncio.to_thread(daemon_process.start)
    for each in load:
        each.cancel()
    await asyncio.wait(load)
    async with daemon_process.client() as client:
        async with asyncio.timeout(30):
            while (await client.call("system.status"))["tasks"]:
                await asyncio.sleep(0.02)
    epoch, kept = journal(daemon_process.state_dir, PROJECT)
    for reader in readers:
        reader.last = len(kept)
    async with asyncio.timeout(30):
        await asyncio.gather(*reading)
    assert {hashed(reader.bodies) for reader in readers} == {hashed(kept)}
    assert set.union(*(reader.epochs for reader in readers)) == {epoch}
