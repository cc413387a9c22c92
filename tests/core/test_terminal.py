"""Programs at a pseudoterminal: what they get, how they end, and that nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time

import pytest
from support import open_descriptors, until

from daemon.core.errors import SpawnFailed, Unavailable
from daemon.core.launcher import Launcher
from daemon.core.program import Program, Size
from daemon.core.spawner import stat_fields
from daemon.core.terminal import TerminalProcess

ENV = {"PATH": "/usr/bin:/bin", "TERM": "xterm-256color"}


@pytest.fixture(params=[False, True], ids=["native", "portable"])
async def launcher(request):
    async with Launcher(portable=request.param) as made:
        yield made


class Seen:
    """A program at a terminal, and what it has written."""

    def __init__(self, launcher):
        self.launcher = launcher
        self.output = b""

    async def start(self, *argv, input_bytes=1 << 20, **fields):
        child = await self.launcher.launch(
            Program(argv=argv, cwd="/", env=ENV, terminal=Size(80, 24), **fields)
        )
        self.process = TerminalProcess(child, self._take, input_bytes=input_bytes)
        return self

    def _take(self, stream, data):
        assert stream == "terminal"
        self.output += data

    async def until(self, text):
        await until(lambda: text in self.output)

    async def end(self):
        await asyncio.wait([self.process.exited], timeout=10)
        return await self.process.finish(0.0)


CONTROLLED = "tty; stty size; stty -a; echo $$; ps -o sid=,tpgid= $$"


async def test_a_terminal_controls_the_session_of_its_program(launcher):
    seen = await Seen(launcher).start("sh", "-c", CONTROLLED)
    assert (await seen.end()).code == 0
    assert b"/dev/pts/" in seen.output
    assert b"24 80" in seen.output
    assert b" iutf8" in seen.output
    pid, sid, foreground = seen.output.split()[-3:]
    assert pid == sid == foreground


async def test_limits_hold_at_a_terminal_too(launcher):
    seen = await Seen(launcher).start("sh", "-c", "tty; ulimit -n", limits={"nofile": 64})
    assert (await seen.end()).code == 0
    assert seen.output.startswith(b"/dev/pts/")
    assert seen.output.endswith(b"\r\n64\r\n")


async def test_the_size_can_be_changed_and_the_program_learns_of_it(launcher):
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.02; done"
    seen = await Seen(launcher).start("sh", "-c", script)
    await seen.until(b"ready")
    seen.process.resize(Size(132, 43))
    await seen.end()
    assert b"43 132" in seen.output


async def test_a_paused_program_waits_and_loses_nothing(launcher):
    seen = await Seen(launcher).start("sh", "-c", "stty -onlcr; seq 1 40000")
    seen.process.pump.pause()
    seen.process.pump.pause()
    await asyncio.sleep(0.1)
    read = len(seen.output)
    assert read < 100_000
    assert not seen.process.exited.done()
    seen.process.pump.resume()
    await seen.end()
    assert seen.output == b"".join(b"%d\n" % number for number in range(1, 40001))


async def test_what_is_there_at_the_end_is_read_though_paused(launcher):
    seen = await Seen(launcher).start("sh", "-c", "echo ready; read go; seq 1 200")
    await seen.until(b"ready")
    seen.process.pump.pause()
    seen.process.feed.write(b"go\n")
    assert (await seen.end()).code == 0
    assert seen.output.endswith(b"199\r\n200\r\n")


async def test_input_beyond_what_may_wait_is_refused(launcher):
    seen = await Seen(launcher).start(
        "sh", "-c", "stty raw -echo; echo ready; sleep 60", input_bytes=100_000
    )
    await seen.until(b"ready")
    seen.process.feed.write(b"x" * 90_000)
    with pytest.raises(Unavailable):
        seen.process.feed.write(b"x" * 60_000)
    seen.process.kill()
    await seen.end()


STUBBORN = "trap '' HUP TERM; echo ready; while :; do sleep 0.1; done"


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("echo ready; sleep 60", signal.SIGHUP),
        ("trap '' HUP; echo ready; while :; do sleep 0.1; done", signal.SIGTERM),
        (STUBBORN, signal.SIGKILL),
        ("kill -STOP $$; echo ready", signal.SIGHUP),
    ],
    ids=["hangs up", "terms", "is killed", "was stopped"],
)
async def test_a_stop_hangs_up_then_asks_then_kills(launcher, script, number):
    seen = await Seen(launcher).start("sh", "-c", script)
    if "STOP" in script:
        await until(lambda: stat_fields(seen.process.pid)[0] == b"T")
    else:
        await seen.until(b"ready")
    await seen.process.stop(signal.SIGHUP, 0.5)
    assert (await seen.end()).signal == number


async def test_a_stop_reaches_a_foreground_job_that_is_not_the_shells(launcher):
    seen = await Seen(launcher).start("bash", "--norc", "-i")
    job = "trap 'echo hung; exit' HUP; echo go; while :; do sleep 0.05; done"
    seen.process.feed.write(f'sh -c "{job}"\n'.encode())
    await seen.until(b"go\r\n")
    await seen.process.stop(signal.SIGHUP, 2.0)
    await seen.end()
    assert b"hung" in seen.output


async def test_a_signal_goes_to_the_foreground_and_not_to_the_shell(launcher):
    seen = await Seen(launcher).start("bash", "--norc", "-i")
    seen.process.feed.write(b"sh -c 'echo go; exec sleep 60'\n")
    await seen.until(b"go\r\n")
    seen.process.signal(signal.SIGTERM)
    seen.process.feed.write(b"echo code-$?; exit 3\n")
    assert (await seen.end()).code == 3
    assert b"code-143" in seen.output


async def test_what_cannot_be_started_leaves_no_terminal_open(launcher):
    before = open_descriptors()
    with pytest.raises(SpawnFailed):
        await Seen(launcher).start("/no/such/program")
    await until(lambda: open_descriptors() == before)


async def test_a_wrapper_that_is_forgotten_neither_waits_nor_kills(launcher):
    before = open_descriptors()
    seen = await Seen(launcher).start("sleep", "60")
    process, pid = seen.process, seen.process.pid
    process.kill()
    await seen.end()
    begun = time.monotonic()
    del seen, process
    gc.collect()
    assert time.monotonic() - begun < 5
    assert open_descriptors() == before
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
