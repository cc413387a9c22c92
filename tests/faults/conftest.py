"""Every fault ends with a look at what it left: processes, descriptors, cgroups, tasks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support import (
    DaemonProcess,
    Running,
    argv_of,
    descendants,
    http_session,
    open_descriptors,
    settings_for,
    until,
)

from daemon.app import Daemon
from daemon.core import spawner

WITHIN = 30.0
"""Seconds in which nothing may be left of a daemon that was killed."""

CGROUPS = next(Path(p) for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if Path(p).is_dir())


def bury(pids):
    """Wait for what was adopted and has ended."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def deserted_cgroups():
    """List the cgroups below ours in which nobody is."""
    with contextlib.suppress(OSError):
        entry = next(
            line[3:]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
        own = CGROUPS / entry.lstrip("/")
        return {
            path.parent
            for path in own.glob("*/**/cgroup.events")
            if "populated 0" in path.read_text()
        }
    return set()


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path):
    """Adopt what any daemon leaves behind, so that it is found here whatever its environment."""
    processes, descriptors, cgroups = (
        descendants(os.getpid()),
        open_descriptors(),
        deserted_cgroups(),
    )
    assert spawner.libc_prctl(spawner.PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
        deadline = time.monotonic() + WITHIN
        left, deserted, records = {0}, {Path()}, []
        while (left or deserted or records) and time.monotonic() < deadline:
            time.sleep(0.01)
            bury(descendants(os.getpid()) - processes)
            left = descendants(os.getpid()) - processes
            records = list(tmp_path.glob("*/running/*"))
            now = deserted_cgroups() - cgroups
            deserted = now if deserted == {Path()} else deserted & now
        told = {pid: argv_of(pid) for pid in left}
        for pid in left:
            spawner.send_signal(pid, signal.SIGKILL)
            bury([pid])
    finally:
        spawner.libc_prctl(spawner.PR_SET_CHILD_SUBREAPER, 0)
    assert not told, "processes are left"
    assert not deserted, "cgroups are left"
    assert not records, "records of programs are left"
    assert open_descriptors() <= descriptors, "descriptors are left"


@pytest.fixture(autouse=True)
async def _no_asyncio_task_is_left(_nothing_is_left):
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left


@pytest.fixture
async def start_daemon(tmp_path):
    """Start daemons in this loop; in the end each is idle again before it is closed."""
    async with AsyncExitStack() as stack:

        async def start(**environ):
            settings = settings_for(tmp_path / "state", **environ)
            daemon = await stack.enter_async_context(Daemon(settings, debug=True))
            idle = len(daemon._supervisor), open_descriptors()
            stack.push_async_callback(idle_again, daemon, idle)
            http = await stack.enter_async_context(http_session())
            return Running(daemon, http)

        yield start


async def idle_again(daemon, idle):
    """Kill what still runs; then there are as many tasks and descriptors as at the beginning."""
    for task in daemon.tasks:
        task.stop(hard=True)
    await daemon.tasks.idle()
    await until(lambda: not daemon._doors.connections)
    await until(lambda: (len(daemon._supervisor), open_descriptors()) <= idle)
    await until(lambda: not spawner.look_by_scan()(daemon._launcher.spawner_pid or 0))


class WatchedDaemon(DaemonProcess):
    """A daemon process that knows how many descriptors it needs when it is idle."""

    idle = 0

    def start(self):
        url = super().start()
        self.idle = open_descriptors(self.pid)
        return url

    @property
    def spawner(self):
        """Give the pid of its spawner, 0 while there is none."""
        below = spawner.look_by_scan()(self.pid)
        return next((pid for pid in below if b"spawner.py" in argv_of(pid)), 0)

    @property
    def runs(self):
        return self.process is not None and self.process.poll() is None

    async def see_off(self):
        """Kill its sessions, see that it is idle as at its start, and stop it politely."""
        async with asyncio.timeout(30), self.client() as client:
            for task in (await client.call("task.list"))["tasks"]:
                await client.call("task.kill", {"taskId": task["id"]})
            while (await client.call("system.status"))["tasks"]:
                await asyncio.sleep(0.02)
        await until(lambda: open_descriptors(self.pid) <= self.idle)
        await until(lambda: not [pid for pid in descendants(self.pid) if pid != self.spawner])
        assert await asyncio.to_thread(self.stop) == 0

    def failures(self):
        """List what its log has with a traceback: a fault is expected, and is a sentence."""
        lines = (self.state_dir / "log" / "agentcmd.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if "exception" in record]


@pytest.fixture
async def daemon_process(tmp_path):
    """A daemon process, not started yet; one that runs in the end is idle, and stops with 0."""
    process = WatchedDaemon(tmp_path / "state")
    yield process
    if process.process is None:
        return
    try:
        if process.runs:
            await process.see_off()
    finally:
        process.process.kill()
        process.close()
    assert process.failures() == []
