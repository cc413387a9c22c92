"""A cgroup for each task, where the machine lends them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from delegation import delegated, entering, processes_in

from daemon.core import cgroup
from daemon.core.cgroup import Cgroups

LAUNCH = """
import asyncio, json, sys
from contextlib import contextmanager
from pathlib import Path
import structlog
from daemon.core.cgroup import Cgroups
from daemon.core.launcher import Launcher
from daemon.core.program import Program

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main(script, memory_bytes, processes):
    cgroups = Cgroups.delegated()
    async with Launcher(cgroups=cgroups) as launcher:
        program = Program(
            argv=["sh", "-c", script], cwd="/", env={"PATH": "/usr/bin:/bin"},
            memory_bytes=memory_bytes, processes=processes,
        )
        child = await launcher.launch(program)
        made = [path.name for path in cgroups.root.glob("task-*")]
        inside = Path(f"/proc/{child.pid}/cgroup").read_text()
        reaper = Path(f"/proc/{child._reaper}/cgroup").read_text()
        print(json.dumps({"made": made, "inside": inside, "reaper": reaper}), flush=True)
        sys.stdin.readline()
        child.kill()
        await asyncio.wait([child.empty])
        end = child.end()
    left = [path.name for path in cgroups.root.glob("task-*")]
    print(json.dumps({"left": left, "cpu": end.cpu_seconds, "signal": end.signal}))

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.fixture
def root():
    with delegated() as made:
        yield made


@contextmanager
def launched(root, script, memory_bytes=0, processes=0):
    """Run a program under a launcher inside a delegated cgroup; gives what tells about both."""
    argv = [sys.executable, "-c", LAUNCH, script, str(memory_bytes), str(processes)]
    with subprocess.Popen(
        entering(root, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def end():
            process.stdin.write("\n")
            process.stdin.close()
            return json.loads(process.stdout.readline())

        try:
            yield json.loads(process.stdout.readline()), end
        finally:
            process.kill()


def test_without_a_delegation_there_are_none():
    code = "from daemon.core.cgroup import Cgroups; print(Cgroups.delegated())"
    argv = [sys.executable, "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "None\n"


def test_the_cgroup_of_our_own_unit_is_taken_for_delegated(root):
    unit = root / "agentcmd.service"
    unit.mkdir()
    code = (
        "import os, sys; os.environ['SYSTEMD_EXEC_PID'] = sys.argv[1] or str(os.getpid());"
        "from daemon.core.cgroup import Cgroups; made = Cgroups.delegated();"
        "print(made and made.root.name)"
    )
    for pid, found in (("1", "None"), ("", "agentcmd.service")):
        argv = entering(unit, [sys.executable, "-c", code, pid])
        told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert told == f"{found}\n"


def test_a_program_is_born_in_a_cgroup_of_its_own_and_its_reaper_stays_outside(root):
    with launched(root, "sleep 100") as (told, end):
        (made,) = told["made"]
        assert told["inside"].strip().endswith(f"/{made}")
        assert told["reaper"].strip().endswith("/daemon")
        assert end() == {"left": [], "cpu": pytest.approx(0, abs=1), "signal": 9}


def test_kill_reaches_what_has_detached_itself_and_the_usage_is_that_of_all(root):
    busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 100"
    with launched(root, f"(setsid sh -c '{busy}' &) ; sleep 100") as (told, end):
        (made,) = told["made"]
        wait_for(lambda: cpu_of(root / made) > 0.05)
        spent = cpu_of(root / made)
        ended = end()
    assert ended["left"] == []
    assert ended["cpu"] >= round(spent, 3) - 0.001
    assert processes_in(root) == []


def cpu_of(task):
    fields = dict(line.split() for line in (task / "cpu.stat").read_text().splitlines())
    return int(fields["usage_usec"]) / 1e6


def wait_for(condition):
    async def poll():
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)

    asyncio.run(poll())


def test_a_sweep_ends_what_an_earlier_daemon_left(root):
    task = root / "task-1-1"
    task.mkdir()
    left = subprocess.Popen(entering(task, ["sleep", "100"]))
    wait_for(lambda: processes_in(task) == [left.pid])
    sweeper = "from daemon.core.cgroup import Cgroups; Cgroups.delegated().sweep()"
    subprocess.run(entering(root, [sys.executable, "-c", sweeper]), check=True)
    assert left.wait(30) == -9
    assert not task.exists()


def test_what_is_not_empty_yet_is_tried_again(tmp_path):
    (tmp_path / "task-1").mkdir()
    (tmp_path / "task-1" / "busy").touch()
    assert cgroup.end(tmp_path / "task-1") is False
    (tmp_path / "task-1" / "busy").unlink()
    assert cgroup.end(tmp_path / "task-1") is True
    assert cgroup.end(tmp_path / "task-1") is True


def test_limits_are_written_where_the_controllers_are_lent(tmp_path, monkeypatch):
    (tmp_path / "cgroup.procs").touch()
    monkeypatch.setattr(Path, "mkdir", kernel_mkdir)
    made = Cgroups(tmp_path)
    made.controllers = frozenset({"memory", "pids"})
    limited = made.make("1", memory_bytes=4096, processes=7)
    assert (limited / "memory.max").read_text() == "4096"
    assert (limited / "memory.swap.max").read_text() == "0"
    assert (limited / "pids.max").read_text() == "7"
    made.controllers = frozenset()
    bare = made.make("2", memory_bytes=4096, processes=7)
    assert (bare / "memory.max").read_text() == ""


def kernel_mkdir(path, exist_ok=False):
    """Make a folder with the files that the kernel puts into a cgroup."""
    os.makedirs(path, exist_ok=exist_ok)  # noqa: PTH103  # the other one is replaced
    for name in ("cgroup.procs", "memory.max", "memory.swap.max", "pids.max"):
        (path / name).touch()
