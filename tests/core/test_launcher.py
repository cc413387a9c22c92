"""The launcher with real programs: what they get, how they end, and that nothing is left."""

import asyncio
import contextlib
import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from daemon.core import launcher as module
from daemon.core import spawner
from daemon.core.errors import BadRequest, SpawnFailed
from daemon.core.launcher import Launcher
from daemon.core.program import Program

ROOT = Path(module.__file__).parents[2]
ENV = {"PATH": "/usr/bin:/bin"}

# Everything that a task may do to stay: 8 processes that have the mark among their arguments.
CLINGING = r"""
trap '' TERM INT HUP
(setsid sh -c 'trap "" TERM; sleep $0; :' $0 &)
setsid env -i sleep $0 &
setsid sh -c 'kill -STOP $$; sleep $0' $0 &
nohup sleep $0 >/dev/null 2>&1 &
(sleep $0 &)
sleep $0
"""
CLINGING_COUNT = 8

# Chains of processes that fork and end at once, each in a session of its own, for 20 seconds.
FORK_BOMB = """
import os, sys, time
end = time.monotonic() + 20
for _ in range(24):
    if os.fork() == 0:
        break
os.write(1, b"x")
while time.monotonic() < end:
    if os.fork():
        os._exit(0)
    os.setsid()
"""


def program(*argv, cwd="/", env=ENV, **how):
    return Program(argv=argv, cwd=cwd, env=env, **how)


def new_mark():
    """Make a number of seconds that no other process sleeps: a name that survives `env -i`."""
    return f"1000.{uuid.uuid4().int % 10**12:012d}"


def marked(mark):
    """List the live processes that have the mark among their arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def children(pid):
    return list(spawner.look_by_scan()(pid))


def descriptors_of(pid):
    return {fd.name for fd in Path(f"/proc/{pid}/fd").iterdir()}


def open_descriptors():
    gc.collect()
    return {
        f"{fd.name} {fd.readlink()}" for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()
    }


async def until(condition, within=30.0):
    """Wait for what only /proc shows."""
    deadline = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.005)
    return result


async def read(fd):
    """Read our end of a pipe to its end."""
    loop = asyncio.get_running_loop()
    output = b""
    while True:
        readable = loop.create_future()
        loop.add_reader(fd, readable.set_result, None)
        try:
            await readable
        finally:
            loop.remove_reader(fd)
        block = os.read(fd, 1 << 20)
        if not block:
            return output
        output += block


async def run(launcher, started):
    """Run a program to its end; return its output and how it ended."""
    child = await launcher.launch(started)
    try:
        output = await read(child.stdout)
        ended = await child.exited
        await child.empty
    finally:
        child.close()
    return output, ended


@contextlib.contextmanager
def nothing_left():
    """Check that no descriptor is left open; what an earlier test forgot may go meanwhile."""
    before = open_descriptors()
    yield
    assert open_descriptors() <= before


@pytest.fixture
async def launcher():
    with nothing_left():
        async with Launcher() as launcher:
            yield launcher
            pid = launcher.spawner_pid
        assert pid is None or not spawner.stat_fields(pid)


@pytest.fixture
async def quiet(launcher):
    """Check that a test leaves no descriptor and no reaper, once the spawner has been used."""
    await run(launcher, program("true"))
    await until(lambda: not children(launcher.spawner_pid))
    with nothing_left():
        yield launcher
        await until(lambda: not children(launcher.spawner_pid))


# --- what a program gets, and how it ends -------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 255])
async def test_the_exit_code_is_reported_with_usage(launcher, code):
    _, ended = await run(launcher, program("sh", "-c", f"exit {code}"))
    assert (ended.code, ended.signal, ended.lost) == (code, None, False)
    assert ended.max_rss_bytes > 1 << 20


async def test_used_processor_time_is_reported(launcher):
    loop = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
    _, ended = await run(launcher, program("sh", "-c", loop))
    assert ended.user_seconds > 0.01


async def test_the_signal_that_ended_a_program_is_reported(quiet):
    child = await quiet.launch(program("sleep", new_mark()))
    child.signal(signal.SIGTERM)
    ended = await child.exited
    assert (ended.code, ended.signal) == (None, signal.SIGTERM)
    await child.empty
    child.close()


async def test_stdout_and_stderr_come_apart_and_stdin_goes_in(quiet):
    script = "read line; echo out $line; echo err $line >&2"
    child = await quiet.launch(program("sh", "-c", script, stdin=True))
    os.write(child.stdin, b"hello\n")
    child.close_stream(child.stdin)
    assert await read(child.stdout) == b"out hello\n"
    assert await read(child.stderr) == b"err hello\n"
    await child.empty
    child.close()


async def test_without_stdin_a_program_reads_nothing(launcher):
    output, ended = await run(launcher, program("cat"))
    assert (output, ended.code) == (b"", 0)


async def test_the_ends_of_the_program_block_and_ours_do_not(quiet):
    script = "import os; print([os.get_blocking(fd) for fd in (0, 1, 2)])"
    child = await quiet.launch(program(sys.executable, "-c", script, stdin=True))
    assert not any(os.get_blocking(fd) for fd in (child.stdin, child.stdout, child.stderr))
    assert await read(child.stdout) == b"[True, True, True]\n"
    await child.empty
    child.close()


async def test_the_environment_is_exactly_the_given_one(launcher):
    env = {"PATH": "/bin:/usr/bin", "EMPTY": "", "UMLAUT": "ä", "BYTES": os.fsdecode(b"\xff")}
    output, _ = await run(launcher, program("cat", "/proc/self/environ", env=env))
    assert output == b"PATH=/bin:/usr/bin\0EMPTY=\0UMLAUT=\xc3\xa4\0BYTES=\xff\0"


async def test_an_environment_may_be_empty(launcher):
    output, ended = await run(launcher, program("cat", "/proc/self/environ", env={}))
    assert (output, ended.code) == (b"", 0)


async def test_signals_are_as_a_login_would_set_them(launcher):
    output, _ = await run(launcher, program("cat", "/proc/self/status"))
    fields = dict(line.split(":\t", 1) for line in output.decode().splitlines())
    own = 0b11 << 31  # 32 and 33 belong to glibc, whose posix_spawn leaves them ignored
    assert [int(fields[name], 16) & ~own for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


async def test_signals_are_so_though_the_launcher_ignores_and_blocks_some():
    ignored = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        async with Launcher() as launcher:
            await test_signals_are_as_a_login_would_set_them(launcher)
    finally:
        signal.signal(signal.SIGUSR1, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@pytest.mark.parametrize("limits", [{}, {"core": 0}], ids=["spawned", "forked"])
async def test_only_the_three_streams_are_open(quiet, limits):
    waiting = program("sh", "-c", "echo up; read line", stdin=True, limits=limits)
    child = await quiet.launch(waiting)
    await until(lambda: select.select([child.stdout], [], [], 0)[0])  # past its dynamic loader
    assert descriptors_of(child.pid) == {"0", "1", "2"}
    child.close()
    await child.empty


async def test_the_umask_the_folder_and_the_limits_are_the_given_ones(launcher, tmp_path):
    asked = program(
        "sh", "-c", "umask; pwd; ulimit -n", cwd=str(tmp_path), umask=0o027, limits={"nofile": 99}
    )
    assert (await run(launcher, asked))[0].decode() == f"0027\n{tmp_path}\n99\n"


async def test_a_program_leads_a_session_of_its_own(quiet):
    child = await quiet.launch(program("sleep", new_mark()))
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    assert child.start_time == spawner.start_time(child.pid)
    child.kill()
    await child.empty
    child.close()


async def test_arguments_of_a_megabyte_arrive(launcher):
    arguments = [character * 100_000 for character in "abcdefghijk"]
    script = "for a; do printf '%s' ${#a},; done"
    output, _ = await run(launcher, program("sh", "-c", script, "sh", *arguments))
    assert output == b"100000," * len(arguments)


async def test_a_relative_program_is_looked_up_from_its_folder(launcher, tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\necho found $0\n")
    (tmp_path / "tool").chmod(0o755)
    assert (await run(launcher, program("./tool", cwd=str(tmp_path))))[0] == b"found ./tool\n"


async def test_a_program_is_looked_up_on_its_own_path(launcher, tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\necho own\n")
    (tmp_path / "tool").chmod(0o755)
    output, _ = await run(launcher, program("tool", env={"PATH": str(tmp_path)}))
    assert output == b"own\n"


# --- what cannot be started ---------------------------------------------------------------------


def _unsuitable(folder):
    (folder / "plain").write_text("#!/bin/sh\n")
    (folder / "text").write_text("no program\n")
    (folder / "orphan").write_text("#!/nowhere/interpreter\n")
    for name in ("text", "orphan"):
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("argv", "number", "reason"),
    [
        (["no-such-program"], errno.ENOENT, "program_not_found"),
        (["./missing"], errno.ENOENT, "program_not_found"),
        (["./plain"], errno.EACCES, "not_executable"),
        (["."], errno.ENOENT, "program_not_found"),
        (["./"], errno.EISDIR, "is_directory"),
        (["./text"], errno.ENOEXEC, "exec_format"),
        (["./orphan"], errno.ENOENT, "interpreter_missing"),
        (["true", "x" * 200_000], errno.E2BIG, "too_big"),
        (["./" + "n" * 100_000], errno.ENAMETOOLONG, "not_executable"),
    ],
)
@pytest.mark.parametrize("limits", [{}, {"core": 0}], ids=["spawned", "forked"])
async def test_what_cannot_be_started_says_why(quiet, tmp_path, argv, number, reason, limits):
    asked = program(*argv, cwd=str(_unsuitable(tmp_path)), limits=limits)
    with pytest.raises(SpawnFailed) as failed:
        await quiet.launch(asked)
    assert failed.value.details == {"errno": number, "reason": reason}
    assert len(failed.value.message) < 400


async def test_a_vanished_folder_says_so(quiet, tmp_path):
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone").rmdir()
    with pytest.raises(SpawnFailed, match="gone") as failed:
        await quiet.launch(program("true", cwd=str(tmp_path / "gone")))
    assert failed.value.details == {"errno": errno.ENOENT, "reason": "cwd_missing"}


async def test_a_limit_beyond_what_is_allowed_says_so(quiet):
    beyond = (1 << 62) // 1024
    with pytest.raises(SpawnFailed, match="nofile") as failed:
        await quiet.launch(program("true", limits={"nofile": beyond}))
    assert failed.value.details["reason"] == "limit"


@pytest.mark.parametrize(
    "wrong",
    [
        {"argv": []},
        {"argv": [""]},
        {"argv": "true"},
        {"argv": ["true", "a\0b"]},
        {"argv": ["true", 1]},
        {"argv": ["true", b"bytes"]},
        {"argv": ["true", "\ud800"]},
        {"cwd": "relative"},
        {"cwd": "/a\0b"},
        {"env": {"A": "a\0b"}},
        {"env": {"A\0": "b"}},
        {"env": {"A=": "b"}},
        {"env": {"": "b"}},
        {"env": {"A": 1}},
        {"umask": 0o1000},
        {"limits": {"nonsense": 1}},
        {"limits": {"nofile": -2}},
    ],
    ids=repr,
)
async def test_what_no_program_can_be_given_is_a_bad_request(quiet, wrong):
    with pytest.raises(BadRequest):
        await quiet.launch(Program(**{"argv": ["true"], "cwd": "/", "env": ENV, **wrong}))


async def test_a_launcher_that_is_closed_starts_nothing():
    with nothing_left():
        async with Launcher() as launcher:
            pass
        with pytest.raises(SpawnFailed):
            await launcher.launch(program("true"))


# --- kill ---------------------------------------------------------------------------------------


async def cling(launcher):
    """Start what does everything to stay."""
    mark = new_mark()
    child = await launcher.launch(program("sh", "-c", CLINGING, mark))

    def complete():
        found = marked(mark)
        return len(found) == CLINGING_COUNT and any(
            spawner.stat_fields(pid)[:1] == [b"T"] for pid in found
        )

    await until(complete)
    return child, mark


async def test_kill_is_final(quiet):
    child, mark = await cling(quiet)
    child.kill()
    assert (await child.exited).signal == signal.SIGKILL
    await child.empty
    assert not marked(mark)
    child.close()


async def test_kill_leaves_the_neighbour_alone(quiet):
    neighbour, others = await cling(quiet)
    child, mark = await cling(quiet)
    child.kill()
    await child.empty
    assert not marked(mark)
    assert len(marked(others)) == CLINGING_COUNT
    neighbour.kill()
    await neighbour.empty
    for each in (child, neighbour):
        each.close()


async def test_close_kills_and_still_says_when_it_is_done(quiet):
    child, mark = await cling(quiet)
    child.close()
    child.close()
    assert (await child.exited).signal == signal.SIGKILL
    await child.empty
    assert not marked(mark)


async def test_a_leader_may_end_before_what_it_leaves_behind(quiet):
    mark = new_mark()
    child = await quiet.launch(program("sh", "-c", "setsid sleep $0 & exit 3", mark))
    assert (await child.exited).code == 3
    await until(lambda: marked(mark))
    assert not child.empty.done()
    child.kill()
    await child.empty
    assert not marked(mark)
    child.close()


async def test_a_fork_bomb_is_overtaken(quiet):
    mark = new_mark()
    child = await quiet.launch(program(sys.executable, "-S", "-c", FORK_BOMB, mark))
    await until(lambda: select.select([child.stdout], [], [], 0)[0])
    child.kill()
    async with asyncio.timeout(30):
        await child.empty
    assert not marked(mark)
    child.close()


async def test_a_task_that_stops_its_reaper_is_still_killed(quiet):
    mark = new_mark()
    child = await quiet.launch(program("sh", "-c", "kill -STOP $PPID; sleep $0", mark))
    await until(lambda: len(marked(mark)) == 2)
    child.kill()
    await child.empty
    assert not marked(mark)
    child.close()


async def test_orders_to_what_has_ended_are_nothing(quiet):
    child = await quiet.launch(program("true"))
    await child.empty
    child.signal(signal.SIGTERM)
    child.kill()
    child.close()
    child.close()


async def test_leaving_the_launcher_kills_what_is_still_there():
    with nothing_left():
        async with Launcher() as launcher:
            child, mark = await cling(launcher)
        assert not marked(mark)
        assert child.exited.result().signal == signal.SIGKILL
        assert child.empty.done()


# --- when one of the three dies -----------------------------------------------------------------

DAEMON = """
import asyncio, sys
from daemon.core.launcher import Launcher
from daemon.core.program import Program

async def main():
    async with Launcher() as launcher:
        program = Program(argv=["sh", "-c", *sys.argv[1:]], cwd="/", env={"PATH": "/usr/bin:/bin"})
        for _ in range(3):
            await launcher.launch(program)
        print("ready", launcher.spawner_pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def start_daemon(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", DAEMON, *arguments], cwd=ROOT, stdout=subprocess.PIPE
    )


async def test_nothing_outlives_a_killed_daemon():
    mark = new_mark()
    with start_daemon(CLINGING, mark) as process:
        lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(2)]
        pid = int(next(line for line in lines if line.startswith(b"ready")).split()[1])
        await until(lambda: len(marked(mark)) == 3 * CLINGING_COUNT + 1)
        process.kill()
        process.wait()
    await until(lambda: not marked(mark), within=30)
    await until(lambda: spawner.stat_fields(pid)[:1] in ([], [b"Z"]), within=30)


async def test_children_outlive_the_spawner_and_the_next_launch_starts_another(launcher):
    child, mark = await cling(launcher)
    first = launcher.spawner_pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: launcher.spawner_pid is None)
    assert len(marked(mark)) == CLINGING_COUNT
    assert (await run(launcher, program("echo", "again")))[0] == b"again\n"
    assert launcher.spawner_pid not in {None, first}
    child.kill()
    assert (await child.exited).signal == signal.SIGKILL
    await child.empty
    assert not marked(mark)
    child.close()


async def test_a_launch_that_went_under_with_the_spawner_is_made_again(launcher):
    await run(launcher, program("true"))
    pid = launcher.spawner_pid
    os.kill(pid, signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        launches = [group.create_task(run(launcher, program("echo", str(n)))) for n in range(5)]
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
    assert [launch.result()[0] for launch in launches] == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]
    assert launcher.spawner_pid != pid


async def test_orphans_of_a_killed_reaper_are_killed_before_it_is_told(quiet):
    neighbour = await quiet.launch(program("cat", stdin=True))
    child, mark = await cling(quiet)
    os.kill(child._reaper, signal.SIGKILL)
    ended = await child.exited
    await child.empty
    assert not marked(mark)
    assert (ended.code, ended.signal, ended.lost) == (None, None, True)
    child.close()
    neighbour.close_stream(neighbour.stdin)
    assert (await neighbour.exited).code == 0
    await neighbour.empty
    neighbour.close()


async def test_a_task_that_kills_its_reaper_dies_of_it(quiet):
    mark = new_mark()
    script = "read line; kill -9 $PPID; setsid sleep $0"
    child = await quiet.launch(program("sh", "-c", script, mark, stdin=True))
    os.write(child.stdin, b"now\n")
    assert (await child.exited).lost
    await child.empty
    assert not marked(mark)
    child.close()


async def test_a_stopped_reaper_without_a_spawner_is_continued_to_kill(launcher):
    child, mark = await cling(launcher)
    os.kill(launcher.spawner_pid, signal.SIGKILL)
    await until(lambda: launcher.spawner_pid is None)
    os.kill(child._reaper, signal.SIGSTOP)
    child.kill()
    await child.empty
    assert not marked(mark)
    child.close()


async def test_a_group_is_killed_though_both_spawner_and_reaper_are(launcher):
    mark = new_mark()
    child = await launcher.launch(program("sh", "-c", "sleep $0 & sleep $0", mark))
    await until(lambda: len(marked(mark)) == 3)
    os.kill(launcher.spawner_pid, signal.SIGKILL)
    await until(lambda: launcher.spawner_pid is None)
    os.kill(child._reaper, signal.SIGKILL)
    assert (await child.exited).lost
    await until(lambda: not marked(mark))
    child.close()


async def test_without_a_subreaper_it_works_too():
    with nothing_left():
        async with Launcher(portable=True) as launcher:
            mark = new_mark()
            child = await launcher.launch(program("sh", "-c", "sleep $0 & sleep $0", mark))
            await until(lambda: len(marked(mark)) == 3)
            child.kill()
            assert (await child.exited).signal == signal.SIGKILL
            await child.empty
            await until(lambda: not marked(mark))
            child.close()


# --- many, cancelled, and out of descriptors ----------------------------------------------------


async def test_two_hundred_at_once(quiet):
    mark = new_mark()
    launches = (quiet.launch(program("sleep", mark)) for _ in range(200))
    started = await asyncio.gather(*launches)
    assert len({child.pid for child in started}) == 200
    assert len(marked(mark)) == 200
    for child in started:
        child.kill()
    await asyncio.gather(*(child.empty for child in started))
    assert not marked(mark)
    for child in started:
        child.close()


async def cancel_after(turns, launching):
    """Cancel a launch after so many turns of the loop; return whether it was too late."""
    async with asyncio.TaskGroup() as group:
        launch = group.create_task(launching)
        for _ in range(turns):
            await asyncio.sleep(0)
        launch.cancel()
    if launch.cancelled():
        return False
    launch.result().close()
    await launch.result().empty
    return True


@pytest.mark.parametrize("size", [1, 900_000], ids=["small", "large"])
async def test_a_cancelled_launch_leaves_nothing(quiet, size):
    mark = new_mark()
    pieces = ["x" * 100_000] * (size // 100_000)
    for turns in range(80):
        await cancel_after(turns, quiet.launch(program("sh", "-c", "sleep $0", mark, *pieces)))
    await until(lambda: not marked(mark))


@pytest.mark.parametrize("size", [1, 900_000], ids=["small", "large"])
async def test_a_launch_cancelled_while_the_spawner_hangs_leaves_nothing(quiet, size):
    mark = new_mark()
    pieces = ["x" * 100_000] * (size // 100_000)
    quiet._spawner.link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    os.kill(quiet.spawner_pid, signal.SIGSTOP)
    asked = program("sh", "-c", "sleep $0", mark, *pieces)
    try:
        async with asyncio.TaskGroup() as group:
            launches = [group.create_task(quiet.launch(asked)) for _ in range(40)]
            await until(lambda: quiet._spawner.writable is not None)
            for launch in launches:
                launch.cancel()
    finally:
        os.kill(quiet.spawner_pid, signal.SIGCONT)
    assert all(launch.cancelled() for launch in launches)
    assert not marked(mark)


async def test_launches_wait_for_a_spawner_that_is_behind(quiet):
    quiet._spawner.link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    os.kill(quiet.spawner_pid, signal.SIGSTOP)
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(run(quiet, program("echo", "here"))) for _ in range(40)]
        await until(lambda: quiet._spawner.writable is not None)
        os.kill(quiet.spawner_pid, signal.SIGCONT)
    assert {each.result()[0] for each in runs} == {b"here\n"}


async def test_a_spawner_that_was_stopped_makes_one_launch_fail_in_time(launcher):
    launcher._start_timeout = 0.05
    os.kill(launcher.spawner_pid, signal.SIGSTOP)
    with pytest.raises(SpawnFailed) as failed:
        await launcher.launch(program("true"))
    assert failed.value.details["errno"] == errno.ETIMEDOUT
    launcher._start_timeout = 10
    assert (await run(launcher, program("echo", "again")))[0] == b"again\n"


@contextlib.contextmanager
def room_for(count):
    """Leave this process exactly so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    listed = list(Path("/proc/self/fd").iterdir())  # with what lists it, gone in the next line
    taken = {int(fd.name) for fd in listed if fd.is_symlink()}
    free = [number for number in range(len(taken) + count + 2) if number not in taken]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[count], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_launch_out_of_descriptors_fails_at_each_of_its_steps_and_leaves_nothing(quiet):
    needed = 8  # two sockets and three pipes
    for count in range(needed):
        with nothing_left(), room_for(count), pytest.raises(SpawnFailed) as failed:
            await quiet.launch(program("true", stdin=True))
        assert failed.value.details["errno"] == errno.EMFILE
    with room_for(needed):
        child = await quiet.launch(program("true", stdin=True))
    await child.empty
    child.close()


async def enters():
    """Enter and leave a launcher; return whether that was possible."""
    try:
        async with Launcher():
            return True
    except SpawnFailed as failed:
        return failed.details["errno"] != errno.EMFILE


async def test_a_spawner_out_of_descriptors_is_not_started_and_leaves_nothing():
    await asyncio.to_thread(int)  # its thread is there before the count
    entered = []
    for count in range(12):
        with nothing_left(), room_for(count):
            entered.append(await enters())
    assert entered == sorted(entered)
    assert entered[0] is False
    assert entered[-1] is True


async def fill(launcher, started):
    """Start programs until no more can be."""
    while len(started) < 100:
        started += [await launcher.launch(program("sleep", new_mark()))]


async def test_a_spawner_that_holds_too_many_descriptors_says_so():
    started = []
    with nothing_left():
        async with contextlib.AsyncExitStack() as stack:
            with room_for(12):  # for it too: it gets our limit
                launcher = await stack.enter_async_context(Launcher())
            with pytest.raises(SpawnFailed) as failed:
                await fill(launcher, started)
            assert failed.value.details["errno"] == errno.EMFILE
            for child in started:
                child.close()
                await child.empty
            assert (await run(launcher, program("echo", "again")))[0] == b"again\n"


async def test_without_a_cgroup_memory_is_limited_for_each_process(launcher):
    hungry = [sys.executable, "-c", "bytearray(200 << 20)"]
    for limit, code in ((64 << 20, 1), (0, 0)):
        program = Program(argv=hungry, cwd="/", env=os.environ, memory_bytes=limit)
        child = await launcher.launch(program)
        await asyncio.wait([child.empty])
        assert child.end().code == code
        child.close()


async def test_a_record_is_there_while_a_task_is_and_names_what_was_started(tmp_path):
    async with Launcher(records=tmp_path) as launcher:
        child = await launcher.launch(Program(argv=["sleep", "100"], cwd="/", env=os.environ))
        (path,) = tmp_path.iterdir()
        async with asyncio.timeout(30):
            while (record := json.loads(path.read_text()))["leader"] == 0:
                await asyncio.sleep(0.01)
        assert (record["leader"], record["leaderStart"]) == (child.pid, child.start_time)
        child.kill()
        await asyncio.wait([child.empty])
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(SpawnFailed):
            await launcher.launch(Program(argv=["/no/such"], cwd="/", env={}))
        assert list(tmp_path.iterdir()) == []
