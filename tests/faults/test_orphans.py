"""A daemon that dies together with everything that would have cleaned up after it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from delegation import delegated, entering, processes_in

from daemon.core.spawner import stat_fields

HOLDING = "sleep 1000 & echo ready; wait"


def parent(pid):
    return int(stat_fields(pid)[1])


def alive(pid):
    fields = stat_fields(pid)
    return bool(fields) and fields[0] != b"Z"


async def started(process):
    """Run a session; gives the pid of its program once that is at work."""
    async with process.client() as client:
        data = {"agent": "command", "argv": ["sh", "-c", HOLDING]}
        created = await client.call("session.create", data)
        pid = 0
        async for message in client.subscribe(f"session:{created['sessionId']}", since=0):
            if message.type == "session.started":
                pid = message.data["pid"]
            if message.type == "session.stream_output":
                return pid, created["sessionId"]
    raise AssertionError


def kill_all_that_watch(process, leader):
    """Kill reaper, spawner and daemon, so that none of them ends the program."""
    reaper = parent(leader)
    spawner = parent(reaper)
    os.kill(spawner, signal.SIGSTOP)
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(reaper, signal.SIGKILL)
    os.kill(spawner, signal.SIGKILL)
    process.kill()


async def gone(*pids):
    async with asyncio.timeout(30):
        while any(alive(pid) for pid in pids):
            await asyncio.sleep(0.01)


async def test_the_next_daemon_ends_what_no_reaper_was_left_to_end(daemon_process):
    await asyncio.to_thread(daemon_process.start)
    leader, session = await started(daemon_process)
    (child,) = (int(p) for p in Path(f"/proc/{leader}/task/{leader}/children").read_text().split())
    kill_all_that_watch(daemon_process, leader)
    assert alive(leader)
    assert alive(child)
    await asyncio.to_thread(daemon_process.start)
    await gone(leader, child)
    async with daemon_process.client() as client:
        ended = await client.call("session.get", {"sessionId": session})
    assert ended["session"]["end"]["code"] == "lost"
    assert list((daemon_process.state_dir / "running").iterdir()) == []


async def test_a_forged_record_costs_nobody_their_process(daemon_process):
    running = daemon_process.state_dir / "running"
    running.mkdir(parents=True)
    innocent = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        record = '{"boot": "%s", "reaper": 1, "reaperStart": 1, "leader": %d, "leaderStart": 1}'
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (running / "1.json").write_text(record % (boot, innocent.pid))
        (running / "2.json").write_text(record[:20])
        await asyncio.to_thread(daemon_process.start)
        assert innocent.returncode is None
        assert alive(innocent.pid)
        assert list(running.iterdir()) == []
    finally:
        innocent.kill()
        await innocent.wait()


async def test_with_a_cgroup_even_what_has_left_its_session_is_ended(daemon_process):
    with delegated() as root:
        process = daemon_process
        process.prefix = tuple(entering(root, []))  # it finds itself in what is delegated
        await asyncio.to_thread(process.start)
        leader, _ = await started(process)
        (task,) = root.glob("task-*")
        assert leader in processes_in(task)
        kill_all_that_watch(process, leader)
        assert leader in processes_in(task)
        await asyncio.to_thread(process.start)
        await gone(leader)
        assert list(root.glob("task-*")) == []
        assert await asyncio.to_thread(process.stop) == 0
