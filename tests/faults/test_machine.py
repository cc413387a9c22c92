"""The machine runs out, is slow, jumps in time; the parent has odd habits; the daemon goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import ENDS, follow, open_descriptors, resident, until

from daemon.core import spawner
from daemon.core.errors import Unavailable

IGNORING = (
    "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)

STRANGER = 54_321
"""A user id that nobody has: RLIMIT_NPROC does not bind root."""


async def begin(client, *argv, **more):
    """Create a session; gives its id and its channel."""
    data = {"agent": "command", "argv": list(argv), **more}
    created = await client.call("session.create", data)
    return created["sessionId"], f"session:{created['sessionId']}"


async def outcome(client):
    """Ask for a session: its end, or `unavailable`."""
    try:
        _, channel = await begin(client, "sh", "-c", "read line; echo $line", prompt="well")
    except Unavailable:
        return "unavailable"
    (*events, end) = await follow(client, channel)
    if end.type == "session.error":
        assert end.data["code"] == "spawn_failed", end
        assert end.data["message"]
        return "spawn_failed"
    assert [e.data["content"] for e in events if e.type == "session.stream_output"] == ["well\n"]
    return end.type


@contextlib.contextmanager
def limited(pid, what, soft):
    """Let a process have no more than this."""
    old = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, old[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, old)


def room_for(pid, count):
    """Give the limit that leaves a process exactly so many more descriptors."""
    taken = {int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return [number for number in range(len(taken) + count + 1) if number not in taken][count]


@pytest.mark.parametrize("who", ["daemon", "spawner"])
async def test_without_descriptors_a_start_fails_at_each_of_its_steps_and_leaves_none(
    daemon_process, who
):
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        assert await outcome(client) == "session.completed"
        pid = daemon_process.pid if who == "daemon" else daemon_process.spawner
        before, outcomes = open_descriptors(pid), []
        while "session.completed" not in outcomes:
            with limited(pid, resource.RLIMIT_NOFILE, room_for(pid, len(outcomes))):
                outcomes.append(await outcome(client))
            await until(lambda: open_descriptors(pid) <= before)
        assert len(outcomes) > 4, outcomes
        assert set(outcomes[:-1]) <= {"unavailable", "spawn_failed"}
        assert await outcome(client) == "session.completed"
    async with daemon_process.client() as client:
        assert await outcome(client) == "session.completed"


async def test_without_descriptors_whoever_comes_waits_and_is_served_afterwards(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    pid = daemon_process.pid
    async with daemon_process.client() as client:
        with limited(pid, resource.RLIMIT_NOFILE, room_for(pid, 0)):
            address = client._locate().url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(*address)
            request = f"GET /health HTTP/1.0\r\nHost: {':'.join(address)}\r\n\r\n"
            writer.write(request.encode())
            assert (await client.call("system.status"))["status"] == "ok"
        async with asyncio.timeout(30):
            assert b'"status":"ok"' in await reader.read()
        writer.close()
        await writer.wait_closed()


def with_processes_of_its_own(process):
    """Have the daemon be a user's that the limit counts and binds."""
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root is bound by no such limit, and setpriv is missing")
        process.prefix = (
            *("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"),
            *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
        )


def limit_processes(process, soft):
    """Limit the spawner's, as a process of the same user may."""
    script = (
        "import resource as r, sys; pid, soft = map(int, sys.argv[1:]); "
        "hard = r.prlimit(pid, r.RLIMIT_NPROC)[1]; r.prlimit(pid, r.RLIMIT_NPROC, (soft, hard))"
    )
    argv = [sys.executable, "-c", script, str(process.spawner), str(soft)]
    subprocess.run([*process.prefix, *argv], check=True)


async def test_without_processes_a_start_fails_at_each_of_its_steps_and_leaves_none(daemon_process):
    with_processes_of_its_own(daemon_process)
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        assert await outcome(client) == "session.completed"
        outcomes = []
        while outcomes[-1:] != ["session.completed"]:
            limit_processes(daemon_process, len(outcomes))
            outcomes.append(await outcome(client))
            if os.getuid() != 0:
                break  # others of this user come and go: there is no telling which step fails
        assert outcomes[0] == "spawn_failed"
        limit_processes(daemon_process, 10_000)
        assert await outcome(client) == "session.completed"


async def test_a_parent_that_ignores_the_end_of_its_children_hands_that_on_to_nobody(
    daemon_process,
):
    daemon_process.prefix = (sys.executable, "-c", IGNORING)
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        _, channel = await begin(client, "sh", "-c", "(exit 3); echo $?; exit 4")
        (*events, end) = await follow(client, channel)
        assert end.data["exitCode"] == 4
        assert [e.data["content"] for e in events if e.type == "session.stream_output"] == ["3\n"]
        os.kill(daemon_process.spawner, signal.SIGKILL)
        await until(lambda: not daemon_process.spawner)
        assert await outcome(client) == "session.completed"


@contextlib.contextmanager
def stranger_that_waits_for_every_child():
    """Reap whatever ends, as a careless library does; gives what it has got."""
    reaped, done = [], threading.Event()

    def reap():
        while not done.is_set():
            with contextlib.suppress(ChildProcessError):
                if (found := os.waitpid(-1, os.WNOHANG))[0]:
                    reaped.append(found)
            done.wait(0.002)

    thread = threading.Thread(target=reap)
    thread.start()
    try:
        yield reaped
    finally:
        done.set()
        thread.join()


async def test_a_stranger_who_waits_for_our_children_changes_no_exit(running):
    async with running.client() as client:
        with stranger_that_waits_for_every_child() as reaped:
            for code in (0, 3, 255):
                _, channel = await begin(client, "sh", "-c", f"exit {code}")
                assert (await follow(client, channel))[-1].data["exitCode"] == code
            os.kill(running.daemon._launcher.spawner_pid, signal.SIGKILL)
            await until(lambda: reaped)
            assert await outcome(client) == "session.completed"
        assert await outcome(client) == "session.completed"


async def test_who_spoke_while_the_loop_was_blocked_was_not_silent(start_daemon):
    running = await start_daemon(TASK__SILENCE_TIMEOUT="1")
    script = "echo up; for i in $(seq 12); do sleep 0.2; echo $i; done"
    async with running.client() as client:
        _, channel = await begin(client, "sh", "-c", script)
        events = []
        async for message in client.subscribe(channel, since=0):
            events.append(message)
            if len(events) == 5:
                time.sleep(1.5)  # whatever blocks the loop blocks the timers too
            if message.type in ENDS:
                break
    assert events[-1].type == "session.completed", events[-1]
    text = "".join(e.data["content"] for e in events if e.type == "session.stream_output")
    assert text.split() == ["up", *map(str, range(1, 13))]


async def test_a_daemon_that_stood_still_goes_on_where_it_was_and_loses_nothing(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    lines = 200_000
    async with daemon_process.client() as client:
        _, channel = await begin(client, "sh", "-c", f"echo up; seq {lines}")
        following = asyncio.ensure_future(follow(client, channel))
        await until(lambda: channel in client._subscriptions)
        os.kill(daemon_process.pid, signal.SIGSTOP)
        await until(lambda: spawner.stat_fields(daemon_process.pid)[0] == b"T")
        os.kill(daemon_process.pid, signal.SIGCONT)
        async with asyncio.timeout(30):
            events = await following
    assert [e.offset for e in events] == list(range(1, len(events) + 1))
    text = "".join(e.data["content"] for e in events if e.type == "session.stream_output")
    assert text.split() == ["up", *map(str, range(1, lines + 1))]


@pytest.mark.parametrize("jump", [-10 * 365 * 86_400, 10 * 365 * 86_400], ids=["back", "ahead"])
async def test_a_clock_that_jumps_ends_nobody_and_makes_no_negative_time(
    start_daemon, monkeypatch, jump
):
    running = await start_daemon(
        TASK__RUN_TIMEOUT="60", TASK__SILENCE_TIMEOUT="60", TASK__QUEUE_TIMEOUT="60"
    )
    real = time.time
    async with running.client() as client:
        id_, channel = await begin(client, "sh", "-c", "echo up; read x; exit 5", keepAlive=True)
        async for message in client.subscribe(channel, since=0):
            if message.type == "session.stream_output":
                monkeypatch.setattr(time, "time", lambda: real() + jump)
                await client.call("session.send_message", {"sessionId": id_, "content": "go"})
            if message.type in ENDS:
                break
        assert message.data["exitCode"] == 5
        assert 0 <= message.data["durationMs"] < 60_000
        assert await outcome(client) == "session.completed"
        assert (await client.call("system.status"))["status"] == "ok"
    monkeypatch.undo()


async def test_a_session_that_was_lost_before_the_clock_went_back_has_no_negative_duration(
    daemon_process, start_daemon, monkeypatch
):
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        id_, channel = await begin(client, "sh", "-c", "echo up; sleep 300")
        async for message in client.subscribe(channel, since=0):
            if message.type == "session.stream_output":
                break
        daemon_process.kill()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    running = await start_daemon()
    monkeypatch.undo()
    async with running.client() as client:
        end = (await client.call("session.get", {"sessionId": id_}))["session"]["end"]
    assert (end["code"], end["durationMs"]) == ("lost", 0)


async def test_what_fills_the_disk_is_told_and_the_next_daemon_reads_all_of_it(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        id_, channel = await begin(client, "yes", "0123456789" * 9)
        seen = {}
        resource.prlimit(daemon_process.pid, resource.RLIMIT_FSIZE, (1 << 20, 64 << 30))

        async def look_on():
            async for message in client.subscribe(channel, since=0):
                seen[message.offset] = message.raw

        looking = asyncio.create_task(look_on())
        async with asyncio.timeout(30):
            while not seen or (await client.call("system.status"))["journal"] == "ok":
                await asyncio.sleep(0.02)
        looking.cancel()  # what is full says no more
        await asyncio.wait([looking])
        pid = (await client.call("session.get", {"sessionId": id_}))["session"]["pid"]
        await until(held_up(pid))
        assert resident(daemon_process.pid) < 200 << 20
        daemon_process.kill()  # as it stands: full
    await asyncio.to_thread(daemon_process.start)
    async with daemon_process.client() as client:
        events = await follow(client, channel)
    assert [e.offset for e in events] == list(range(1, len(events) + 1))
    assert events[-1].data["code"] == "lost"
    kept = {e.offset: e.raw for e in events}
    assert {offset: kept.get(offset) for offset in seen} == seen


def held_up(pid, looks=10):
    """Tell whether a program has written nothing more for some looks: its pipe is not read."""
    seen = []

    def look():
        seen.append(Path(f"/proc/{pid}/io").read_text().split("\n")[1])
        return len(seen) >= looks and len(set(seen[-looks:])) == 1

    return look
