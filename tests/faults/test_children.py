"""Programs do what they can to stay, to flood or to fail; the daemon keeps what it promised."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from pathlib import Path

import pytest
from support import ENDS, follow, http_session, processes_with, resident, until

from daemon.core import spawner
from daemon.web.auth import Tokens, load_secret

ENDLESS = 128 << 20
"""Bytes of the line that has no end; a gibibyte took 30 s on a busy machine of two cores."""

# A tree of 256 processes, and two chains of processes each of which forks the next one and ends, in
# sessions of their own: children come and go by the thousand, for 20 seconds at the most.
FORK_BOMB = """
import os, signal, time
end = time.monotonic() + 20
for _ in range(2):
    if os.fork() == 0:
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            os.setsid()
        os._exit(0)
for _ in range(8):
    os.fork()
signal.alarm(20)
os.write(1, b"x")
signal.pause()
"""
BOMB_COUNT = 256

STUBBORN = """trap '' TERM INT HUP
(setsid sh -c 'trap "" TERM; sleep 300; : MARK' &)
setsid env -i sh -c 'trap "" TERM; sleep 300; : MARK' &
echo ready
sleep 300; : MARK"""
STUBBORN_COUNT = 3


def command(*argv, **more):
    return {"agent": "command", "argv": list(argv), **more}


async def begin(client, *argv, **more):
    """Create a session; gives its id and its channel."""
    created = await client.call("session.create", command(*argv, **more))
    return created["sessionId"], f"session:{created['sessionId']}"


async def wait_for(client, channel, type_="session.stream_output"):
    """Wait for an event of a session; gives it."""
    async with contextlib.aclosing(client.subscribe(channel, since=0)) as messages:
        async for message in messages:
            assert message.type == type_ or message.type not in ENDS, message
            if message.type == type_:
                return message
    raise AssertionError("it ended without")


async def serves(client):
    """See that a program still runs to its end."""
    _, channel = await begin(client, "echo", "well")
    events = await follow(client, channel)
    assert events[-1].data["exitCode"] == 0, events[-1]
    assert [e.data["content"] for e in events if e.type == "session.stream_output"] == ["well\n"]


def parent(pid):
    return int(spawner.stat_fields(pid)[1])


async def test_a_line_of_a_mebibyte_comes_whole_and_what_follows_it_too(running):
    script = "import sys; sys.stdout.write('x' * (1 << 20) + '\\nafter\\n')"
    async with running.client() as client:
        _, channel = await begin(client, sys.executable, "-c", script)
        events = await follow(client, channel)
    text = "".join(e.data["content"] for e in events if e.type == "session.stream_output")
    assert text == "x" * (1 << 20) + "\nafter\n"


async def test_a_line_without_an_end_passes_through_bounded_memory(daemon_process):
    url = await asyncio.to_thread(daemon_process.start)
    token = Tokens(load_secret(daemon_process.state_dir, "", {})).mint("tester")
    size = peak = 0
    async with http_session() as http:
        headers = {"Authorization": f"Bearer {token}"}
        async with http.ws_connect(f"{url}/ws", headers=headers, max_msg_size=0) as ws:
            endless = f"head -c {ENDLESS} /dev/zero | tr '\\0' '#'"
            data = command("sh", "-c", endless)
            await ws.send_json({"id": 1, "type": "session.create", "data": data})
            async for frame in ws:
                if '"id":1' in frame.data[-20:]:
                    channel = f"session:{json.loads(frame.data)['data']['sessionId']}"
                    asked = {"type": "subscribe", "channel": channel, "data": {"since": 0}}
                    await ws.send_json(asked)
                if "session.stream_output" in frame.data[:200]:
                    size += frame.data.count("#")
                peak = max(peak, resident(daemon_process.pid))
                if "session.completed" in frame.data[:200]:
                    break
    assert size == ENDLESS
    assert peak < 200 << 20


def make_unsuitable(tmp_path):
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "text").write_text("no program\n")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "orphan").write_text("#!/nowhere/interpreter\n")
    (tmp_path / "orphan").chmod(0o755)


@pytest.mark.parametrize("name", ["missing", "plain", "text", "orphan", ""])
async def test_a_program_that_cannot_run_is_the_end_of_its_session_alone(running, tmp_path, name):
    make_unsuitable(tmp_path)
    async with running.client() as client:
        _, channel = await begin(client, f"{tmp_path}/{name}")
        (*_, end) = await follow(client, channel)
        assert (end.type, end.data["code"]) == ("session.error", "spawn_failed")
        assert str(tmp_path) in end.data["message"]
        await serves(client)


async def test_a_folder_that_vanishes_while_its_session_is_queued_is_told(start_daemon, tmp_path):
    running = await start_daemon(TASK__MAX_RUNNING="1")
    folder = tmp_path / "project"
    folder.mkdir()
    async with running.client() as client:
        await client.call("project.add", {"path": str(folder)})
        first, _ = await begin(client, "sleep", "300")
        _, channel = await begin(client, "pwd", cwd=str(folder))
        folder.rmdir()
        await client.call("session.kill", {"sessionId": first})
        (*_, end) = await follow(client, channel)
        assert end.data["code"] == "spawn_failed"
        assert "cannot be entered" in end.data["message"]
        await serves(client)


@pytest.mark.parametrize("who", ["session", "daemon"])
async def test_a_fork_bomb_does_not_outrun_its_end(daemon_process, who):
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        mark = uuid.uuid4().hex
        id_, channel = await begin(client, sys.executable, "-S", "-c", FORK_BOMB, mark)
        ready = 0
        async with contextlib.aclosing(client.subscribe(channel, since=0)) as messages:
            while ready < BOMB_COUNT:
                ready += (await anext(messages)).data.get("content", "").count("x")
        if who == "daemon":
            daemon_process.kill()
            return  # what is left is looked for after every test
        await client.call("session.kill", {"sessionId": id_})
        (*_, end) = await follow(client, channel)
        assert end.type == "session.cancelled"
        assert not processes_with(mark)
        await serves(client)


async def test_a_stop_at_any_step_of_a_start_ends_it_once_and_leaves_nothing(running):
    async with running.client() as client:
        for turns in range(0, 120, 2):
            before = set(running.daemon.tasks)
            creating = asyncio.ensure_future(begin(client, "sh", "-c", "sleep 300"))
            while not (new := set(running.daemon.tasks) - before):
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            (task,) = new
            task.stop(hard=turns % 4 == 0)
            _, channel = await creating
            events = await follow(client, channel)
            assert [e.type for e in events if e.type in ENDS] == ["session.cancelled"]
            types = [event.type for event in events]
            assert types.count("session.started") <= 1
        assert running.daemon.tasks.slots.taken == 0


async def test_two_hundred_sessions_at_once_all_run(daemon_process):
    for name in ("TASK__MAX_RUNNING", "WEB__MAX_COMMANDS"):
        daemon_process.environ[f"AGENTCMD_{name}"] = "200"
    daemon_process.environ["AGENTCMD_WEB__MESSAGES_PER_SECOND"] = "2000"
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        argv = ("sh", "-c", "echo ready; read line; exit 7")
        started = await asyncio.gather(*(begin(client, *argv, keepAlive=True) for _ in range(200)))
        await asyncio.gather(*(wait_for(client, channel) for _, channel in started))
        assert (await client.call("system.status"))["tasks"] == 200
        for id_, _ in started:
            await client.call("session.send_message", {"sessionId": id_, "content": "go"})
        ends = await asyncio.gather(*(follow(client, channel) for _, channel in started))
    assert {events[-1].data["exitCode"] for events in ends} == {7}


async def test_a_thousand_short_programs_leave_no_descriptor_and_no_process(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as one, daemon_process.client() as other:
        await serves(one)
        idle = len(list(Path(f"/proc/{daemon_process.spawner}/fd").iterdir()))

        async def some(client):
            for _ in range(25):
                async with asyncio.TaskGroup() as group:
                    for _ in range(20):
                        group.create_task(begin(client, "true"))
                while (await client.call("system.status"))["tasks"] > 60:
                    await asyncio.sleep(0.05)

        await asyncio.gather(some(one), some(other))
        while (await one.call("system.status"))["tasks"]:
            await asyncio.sleep(0.02)
        spawners = Path(f"/proc/{daemon_process.spawner}/fd")
        await until(lambda: len(list(spawners.iterdir())) <= idle)
        ends, cursor = [], None
        while not ends or cursor:
            page = await one.call("session.list", {"limit": 500, "cursor": cursor})
            ends += [session["end"]["exitCode"] for session in page["sessions"]]
            cursor = page.get("nextCursor")
    assert ends == [0] * 1001


async def test_sessions_outlive_the_spawner_and_the_next_ones_get_another(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        id_, channel = await begin(client, "sh", "-c", "echo up; read x; exit 5", keepAlive=True)
        await wait_for(client, channel)
        first = daemon_process.spawner
        os.kill(first, signal.SIGKILL)
        await until(lambda: spawner.stat_fields(first)[:1] in ([], [b"Z"]))
        await serves(client)
        assert daemon_process.spawner != first
        await client.call("session.send_message", {"sessionId": id_, "content": "go"})
        assert (await follow(client, channel))[-1].data["exitCode"] == 5


async def test_a_daemon_that_is_killed_after_its_spawner_leaves_nothing_either(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    mark = uuid.uuid4().hex
    async with daemon_process.client() as client:
        _, channel = await begin(client, "sh", "-c", STUBBORN.replace("MARK", mark))
        await wait_for(client, channel)
        await until(lambda: len(processes_with(mark)) >= STUBBORN_COUNT)
        os.kill(daemon_process.spawner, signal.SIGKILL)
        await serves(client)
        daemon_process.kill()
    await until(lambda: not processes_with(mark), within=30)


async def test_a_session_whose_reaper_is_killed_is_lost_with_its_whole_tree(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    mark = uuid.uuid4().hex
    async with daemon_process.client() as client:
        neighbour, others = await begin(client, "sh", "-c", "echo up; read x", keepAlive=True)
        await wait_for(client, others)
        _, channel = await begin(client, "sh", "-c", STUBBORN.replace("MARK", mark))
        started = await wait_for(client, channel, "session.started")
        await until(lambda: len(processes_with(mark)) >= STUBBORN_COUNT)
        os.kill(parent(started.data["pid"]), signal.SIGKILL)
        events = await follow(client, channel)
        assert not processes_with(mark)
        assert [e.type for e in events if e.type in ENDS] == ["session.error"]
        assert events[-1].data["code"] == "lost"
        await client.call("session.send_message", {"sessionId": neighbour, "content": "go"})
        assert (await follow(client, others))[-1].type == "session.completed"
