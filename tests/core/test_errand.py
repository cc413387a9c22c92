"""Errands: programs run to their end for what they print, as supervised tasks."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support import until

from daemon.core.errand import Asked, Ended, Errands
from daemon.core.errors import SpawnFailed, TooLarge, Unavailable
from daemon.core.gate import Gate
from daemon.core.launcher import Launcher
from daemon.core.supervisor import Supervisor
from daemon.core.task import Tasks, TaskSettings

ME = Asked("1", "session:1", "u")
ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
async def tasks(tmp_path):
    async with AsyncExitStack() as stack:
        launcher = await stack.enter_async_context(Launcher(records=tmp_path))
        supervisor = await stack.enter_async_context(Supervisor())
        yield await stack.enter_async_context(
            Tasks(supervisor, launcher, Gate(lambda: 0, 1 << 20), limit=1)
        )


@pytest.fixture
def sh(tasks):
    errands = Errands(tasks, TaskSettings(stop_grace=0.5), "test")

    def run(script, **options):
        return errands.run(["sh", "-c", script], ME, cwd="/", env=ENVIRONMENT, **options)

    return run


async def test_it_gives_what_was_printed_and_the_exit_code(sh):
    heard = []
    done = await sh("cat; printf 'a\\rb\\nc' >&2; exit 3", stdin=b"in\0put", heard=heard.append)
    assert (done.code, done.stdout, done.stderr) == (3, b"in\0put", "a\rb\nc")
    assert heard == ["a", "b"]


async def test_more_input_than_a_pipe_holds_arrives_whole(sh):
    data = os.urandom(3 << 20)
    assert (await sh("cat", stdin=data)).stdout == data


async def test_one_after_the_other_may_have_one_id(sh, tasks):
    for number in range(3):
        assert (await sh(f"echo {number}")).stdout == b"%d\n" % number
    assert len(tasks) == 0


async def test_one_that_says_too_much_is_ended(sh, tasks):
    with pytest.raises(TooLarge, match="1000 bytes"):
        await sh("while :; do echo flood; done", limit=1000)
    await until(lambda: not len(tasks))


async def test_who_cancels_the_task_cancels_the_errand(sh, tasks):
    waiting = asyncio.create_task(sh("sleep 60"))
    task = await until(lambda: tasks.get("1") if tasks.get("1") and tasks.get("1").pid else None)
    task.stop()
    with pytest.raises(Ended, match="cancelled") as found:
        await waiting
    assert found.value.reason == "cancelled"


async def test_who_no_longer_waits_ends_it(sh, tasks):
    waiting = asyncio.create_task(sh("sleep 60"))
    pid = (await until(lambda: tasks.get("1") and tasks.get("1").pid)) or 0
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not Path(f"/proc/{pid}").exists()


async def test_a_limit_of_its_kind_is_named(tasks):
    settings = TaskSettings(run_timeout=0.1, stop_grace=0.1)
    errands = Errands(tasks, settings, "test")
    with pytest.raises(Ended, match="took longer"):
        await errands.run(["sleep", "60"], ME, cwd="/", env=ENVIRONMENT)


async def test_a_program_that_is_not_there_and_a_daemon_that_stops_say_so(tasks):
    errands = Errands(tasks, TaskSettings(), "test")
    with pytest.raises(SpawnFailed, match="no-such-program"):
        await errands.run(["no-such-program"], ME, cwd="/", env=ENVIRONMENT)
    tasks.close()
    with pytest.raises(Unavailable):
        await errands.run(["true"], ME, cwd="/", env=ENVIRONMENT)
