"""The daemon is killed, stopped, starved; clients and children get what was promised."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import sys
import uuid

import aiohttp
import pytest
from support import ENDS, follow, open_descriptors, processes_with, resident

from daemon import home
from daemon.client import Client
from daemon.core.errors import NotFound, Unavailable
from daemon.web.auth import Tokens, load_secret

LINES = """
import sys, time
for n in range(int(sys.argv[1])):
    print(f"line {n}", flush=True)
    time.sleep(float(sys.argv[2]))
"""

LONG_LINES = """
import sys, time
for n in range(int(sys.argv[1])):
    print(f"line {n} " + "x" * 200, flush=n % 100 == 0)
    if n % 100 == 0:
        time.sleep(0.005)
"""

CLINGING = """
trap '' TERM INT HUP
(setsid sh -c 'trap "" TERM; sleep 300; : MARK' &)
setsid env -i sh -c 'sleep 300; : MARK' &
setsid sh -c 'kill -STOP $$; : MARK' &
nohup sh -c 'sleep 300; : MARK' >/dev/null 2>&1 &
(sh -c 'sleep 300; : MARK' &)
echo ready
sleep 300; : MARK
"""
"""Everything that a child may do to stay; each of them has the mark among its arguments."""


async def gone(marker, within=30.0):
    """Wait until no process has the marker."""
    async with asyncio.timeout(within):
        while processes_with(marker):
            await asyncio.sleep(0.05)


class Wanderer:
    """A client that leaves and comes back at random, and keeps what it has seen."""

    def __init__(self, daemon, channel, seed):
        self.daemon, self.channel = daemon, channel
        self.random = random.Random(seed)
        self.seen = {}
        self.epoch = None
        self.order = []
        self.tokens = Tokens(load_secret(daemon.state_dir, "", {}))

    async def run(self, until):
        while not until(self):
            try:
                await self._visit(until)
            except (aiohttp.ClientError, OSError, TimeoutError, TypeError):
                await asyncio.sleep(0.05)

    async def _visit(self, until):
        address = home.discover(self.daemon.state_dir)
        if address is None:
            raise OSError("not there now")
        headers = {"Authorization": f"Bearer {self.tokens.mint('wanderer')}"}
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{address.url}/ws", headers=headers, max_msg_size=0) as ws,
        ):
            hello = await ws.receive_json(timeout=5)
            assert hello["type"] == "global.connected", hello
            data = {"since": max(self.seen, default=0)}
            if self.epoch:
                data["epoch"] = self.epoch
            await ws.send_json({"type": "subscribe", "channel": self.channel, "data": data})
            success = await ws.receive_json(timeout=5)
            assert success["type"] == "global.subscription_success", success
            if not success["data"]["recovered"]:
                pytest.fail(f"not recovered: {success}, since {data}")
            self.epoch = success["data"]["epoch"]
            for _ in range(self.random.randrange(1, 400)):
                message = await ws.receive_json(timeout=5)
                if "offset" in message:
                    self.order.append(message["offset"])
                    self.seen[message["offset"]] = (message["type"], message["data"])
                if until(self):
                    return
            if self.random.random() < 0.5:
                ws._response.connection.transport.abort()  # leaves without a word


def ended(wanderer):
    return any(type_ in ENDS for type_, _ in wanderer.seen.values())


async def test_eight_clients_that_come_and_go_see_the_same_contiguous_events(daemon_process):
    daemon_process.start()
    async with daemon_process.client() as client:
        argv = [sys.executable, "-c", LINES, "3000", "0.0005"]
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        channel = f"session:{created['sessionId']}"
        wanderers = [Wanderer(daemon_process, channel, seed) for seed in range(8)]
        async with asyncio.timeout(60):
            await asyncio.gather(*(each.run(ended) for each in wanderers))
        expected = {m.offset: (m.type, m.data) for m in await follow(client, channel)}
    assert sorted(expected) == list(range(1, len(expected) + 1))
    text = "".join(d["content"] for t, d in expected.values() if t == "session.stream_output")
    assert text == "".join(f"line {n}\n" for n in range(3000))
    for each in wanderers:
        assert each.seen == expected
        assert each.order == sorted(expected), "a gap, a duplicate or another order"


async def test_what_any_client_has_seen_survives_kill_9_under_load(daemon_process):
    daemon_process.start()
    argv = [sys.executable, "-c", LINES, "1000000", "0.001"]
    for round_ in range(3):
        async with daemon_process.client() as client:
            created = await client.call("session.create", {"agent": "command", "argv": argv})
        channel = f"session:{created['sessionId']}"
        wanderers = [Wanderer(daemon_process, channel, 10 * round_ + n) for n in range(8)]
        running = [asyncio.ensure_future(each.run(ended)) for each in wanderers]
        async with asyncio.timeout(30):
            while min(len(each.seen) for each in wanderers) < 100 * (round_ + 1):
                await asyncio.sleep(0.01)
        daemon_process.kill()
        seen = {}
        for each in wanderers:
            seen |= each.seen
        daemon_process.start()
        async with asyncio.timeout(30):
            await asyncio.gather(*running)
        async with daemon_process.client() as client:
            events = await follow(client, channel)
            session = (await client.call("session.get", {"sessionId": created["sessionId"]}))[
                "session"
            ]
        kept = {m.offset: (m.type, m.data) for m in events}
        assert sorted(kept) == list(range(1, len(kept) + 1))
        assert {offset: kept[offset] for offset in seen} == seen
        assert [m.type for m in events if m.type in ENDS] == ["session.error"]
        assert events[-1].data["code"] == "lost"
        assert (session["state"], session["end"]["code"]) == ("ended", "lost")
        for each in wanderers:
            assert each.order == sorted(kept)


async def test_no_child_survives_kill_9_of_the_daemon(daemon_process):
    daemon_process.start()
    mark = uuid.uuid4().hex
    async with daemon_process.client() as client:
        argv = ["sh", "-c", CLINGING.replace("MARK", mark)]
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            if message.type == "session.stream_output":
                break
        async with asyncio.timeout(30):
            while len(processes_with(mark)) < 6:
                await asyncio.sleep(0.02)
        daemon_process.kill()
        await gone(mark)


@pytest.mark.parametrize("command", ["session.cancel", "session.kill"])
async def test_the_end_of_a_cancel_is_told_when_the_whole_tree_is_gone(start_daemon, command):
    running = await start_daemon(TASK__STOP_GRACE="0.5")
    mark = uuid.uuid4().hex
    async with running.client() as client:
        argv = ["sh", "-c", CLINGING.replace("MARK", mark)]
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            if message.type == "session.stream_output":
                answer = await client.call(command, {"sessionId": created["sessionId"]})
                assert answer["sessionId"] == created["sessionId"]
            if message.type in ENDS:
                assert message.type == "session.cancelled"
                assert not processes_with(mark)
                break
        again = await client.call(command, {"sessionId": created["sessionId"]})
        assert again["state"] == "ended"


async def test_a_stopped_child_can_be_cancelled(running):
    async with running.client() as client:
        argv = ["sh", "-c", "echo ready; kill -STOP $$; sleep 300"]
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            if message.type == "session.stream_output":
                await client.call("session.cancel", {"sessionId": created["sessionId"]})
            if message.type in ENDS:
                break
        assert message.type == "session.cancelled"
        assert message.data["durationMs"] < 4000


async def test_a_grandchild_that_holds_the_pipe_does_not_hold_up_the_end(running):
    async with running.client() as client:
        argv = ["sh", "-c", "(sleep 300; echo late) & echo early; exit 3"]
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        async with asyncio.timeout(30):
            events = await follow(client, f"session:{created['sessionId']}")
        assert events[-1].data["exitCode"] == 3
        assert [e.data["content"] for e in events if e.type == "session.stream_output"] == [
            "early\n"
        ]


async def test_sigterm_drains_and_exits_with_0(daemon_process):
    daemon_process.start()
    states = []
    tokens = Tokens(load_secret(daemon_process.state_dir, "", {}))
    client = Client(
        lambda: home.discover(daemon_process.state_dir),
        token=lambda: tokens.mint("tester"),
        on_status=lambda status, detail: states.append((status, detail)),
    )
    async with client:
        argv = ["sleep", "300"]
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        following = asyncio.ensure_future(follow(client, f"session:{created['sessionId']}"))
        async with asyncio.timeout(30):
            while not (await client.call("task.list"))["tasks"]:
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(daemon_process.stop) == 0
        events = await following
    assert events[-1].data["code"] == "daemon_stopped"
    assert ("disconnected", "1012") in states
    assert home.discover(daemon_process.state_dir) is None


async def test_a_second_sigterm_shortens_the_drain(daemon_process):
    daemon_process.environ["AGENTCMD_TASK__STOP_GRACE"] = "60"
    daemon_process.environ["AGENTCMD_SERVER__SHUTDOWN_TIMEOUT"] = "60"
    daemon_process.start()
    async with daemon_process.client() as client:
        argv = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            if message.type == "session.stream_output":
                break
        daemon_process.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            while (await client.call("system.status"))["status"] != "draining":
                await asyncio.sleep(0.02)
        with pytest.raises(Unavailable):
            await client.call("session.create", {"agent": "command", "argv": ["true"]})
        daemon_process.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon_process.process.wait, 30) == 0


async def test_a_full_disk_is_survived_without_loss(daemon_process):
    daemon_process.start()
    lines = 40_000
    argv = [sys.executable, "-c", LONG_LINES, str(lines)]
    async with daemon_process.client() as client:
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        channel = f"session:{created['sessionId']}"
        following = asyncio.ensure_future(follow(client, channel))
        # A file that may not grow further is what a full disk looks like to SQLite.
        resource.prlimit(daemon_process.pid, resource.RLIMIT_FSIZE, (2 << 20, 64 << 30))
        async with asyncio.timeout(30):
            while (await client.call("system.status"))["journal"] == "ok":
                await asyncio.sleep(0.05)
        assert (await client.call("system.status"))["status"] == "degraded"
        with pytest.raises(Unavailable, match="journal"):
            await client.call("session.create", {"agent": "command", "argv": ["true"]})
        resource.prlimit(daemon_process.pid, resource.RLIMIT_FSIZE, (64 << 30, 64 << 30))
        async with asyncio.timeout(60):
            events = await following
        assert (await client.call("system.status"))["status"] == "ok"
    assert [e.offset for e in events] == list(range(1, len(events) + 1))
    text = "".join(e.data["content"] for e in events if e.type == "session.stream_output")
    assert text.split("\n")[:-1] == [f"line {n} " + "x" * 200 for n in range(lines)]


async def test_a_full_disk_does_not_hold_up_the_stop(daemon_process):
    daemon_process.environ["AGENTCMD_SERVER__SHUTDOWN_TIMEOUT"] = "1"
    daemon_process.start()
    mark = uuid.uuid4().hex
    async with daemon_process.client() as client:
        flood = f"yes 0123456789012345678901234567890123456789; : {mark}"
        await client.call("session.create", {"agent": "command", "argv": ["sh", "-c", flood]})
        resource.prlimit(daemon_process.pid, resource.RLIMIT_FSIZE, (1 << 20, 64 << 30))
        async with asyncio.timeout(30):
            while (await client.call("system.status"))["journal"] == "ok":
                await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(daemon_process.stop) == 0
    assert not processes_with(mark)
    daemon_process.start()
    async with daemon_process.client() as client:
        (session,) = (await client.call("session.list"))["sessions"]
    assert session["end"]["code"] == "lost"


async def test_memory_stays_bounded_while_60_mb_stream_past_stalled_readers(daemon_process):
    url = daemon_process.start()
    host, port = url.removeprefix("http://").split(":")
    tokens = Tokens(load_secret(daemon_process.state_dir, "", {}))
    async with daemon_process.client() as client:
        argv = [
            "sh",
            "-c",
            "sleep 1; yes 0123456789012345678901234567890123456789 | head -c 60000000",
        ]
        created = await client.call("session.create", {"agent": "command", "argv": argv})
        channel = f"session:{created['sessionId']}"
        stalled, token = [], tokens.mint("stalled")
        for _ in range(20):
            _, writer = await asyncio.open_connection(host, int(port), limit=1024)
            ask = f'{{"type":"subscribe","channel":"{channel}"}}'.encode()
            writer.write(
                f"GET /ws HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                f"Sec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
                + bytes((0x81, 0x80 | len(ask))) + b"\0\0\0\0" + ask
            )  # fmt: skip
            stalled.append(writer)
        size = peak = 0
        async for message in client.subscribe(channel, since=0):
            if message.type == "session.stream_output":
                size += len(message.data["content"])
                if message.offset % 100 == 0:
                    peak = max(peak, resident(daemon_process.pid))
            if message.type in ENDS:
                break
        for writer in stalled:
            writer.transport.abort()
    assert size == 60_000_000
    assert peak < 200 << 20


async def test_a_hundred_sessions_and_connections_leave_nothing_behind(daemon_process):
    daemon_process.start()

    async def cycle(count):
        for _ in range(count):
            async with daemon_process.client() as client:
                created = await client.call(
                    "session.create", {"agent": "command", "argv": ["echo", "hi"]}
                )
                await follow(client, f"session:{created['sessionId']}")

    await cycle(5)
    before = open_descriptors(daemon_process.pid)
    await asyncio.gather(*(cycle(20) for _ in range(5)))
    async with asyncio.timeout(30):
        while open_descriptors(daemon_process.pid) > before:
            await asyncio.sleep(0.05)


async def test_out_of_descriptors_is_an_answer_and_passes(daemon_process):
    daemon_process.start()
    async with daemon_process.client() as client:
        used = open_descriptors(daemon_process.pid)
        resource.prlimit(daemon_process.pid, resource.RLIMIT_NOFILE, (used + 1, 4096))
        created = await client.call("session.create", {"agent": "command", "argv": ["true"]})
        events = await follow(client, f"session:{created['sessionId']}")
        assert events[-1].data["code"] == "spawn_failed"
        resource.prlimit(daemon_process.pid, resource.RLIMIT_NOFILE, (4096, 4096))
        created = await client.call("session.create", {"agent": "command", "argv": ["true"]})
        events = await follow(client, f"session:{created['sessionId']}")
        assert events[-1].type == "session.completed"
        assert open_descriptors(daemon_process.pid) <= used + 2


async def test_a_killed_daemon_leaves_nothing_of_a_terminal(daemon_process):
    daemon_process.start()
    mark = uuid.uuid4().hex
    async with daemon_process.client() as client:
        command = ["sh", "-c", CLINGING.replace("MARK", mark)]
        created = await client.call("shell.create", {"command": command, "record": True})
        async with asyncio.timeout(30):
            while len(processes_with(mark)) < 6:
                await asyncio.sleep(0.02)
        daemon_process.kill()
        await gone(mark)
    daemon_process.start()
    async with daemon_process.client() as client:
        assert (await client.call("shell.list"))["terminals"] == []
        with pytest.raises(NotFound):
            await client.call("shell.get", {"terminalId": created["terminalId"]})
