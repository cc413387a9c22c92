"""The spawner and its reapers, spoken to over their sockets as the daemon does."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from daemon.core import spawner

SPAWNER = Path(spawner.__file__)
ENV = {"PATH": "/usr/bin:/bin"}
# What is taken away, to see that it works without.
TAKEN_AWAY = {
    "posix_spawn": "del os.posix_spawn",
    "children_files": "os.path.exists = lambda path: False",
}


def until(condition, within=30.0):
    """Wait for what only /proc shows."""
    deadline = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
    return result


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


def state(pid):
    fields = spawner.stat_fields(pid)
    return fields[0].decode() if fields else ""


def children(pid):
    return list(spawner.look_by_scan()(pid))


class Task:
    """The daemon's side of one reaper."""

    def __init__(self, link, *, given=4):
        self.control, theirs = socket.socketpair()
        self.control.settimeout(30)
        self.stdout, writable = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        socket.send_fds(link, [b"r"], [theirs.fileno(), null, writable, writable][:given])
        theirs.close()
        os.close(null)
        os.close(writable)
        self.lines = self.control.makefile("rb")

    def specify(self, *argv, cwd="/", env=ENV, umask=0o022, limits=None):
        spec = {"argv": argv, "cwd": cwd, "env": env, "path": "", "umask": umask}
        spec["limits"] = limits or {}
        body = json.dumps(spec).encode()
        self.control.sendall(len(body).to_bytes(4, "big") + body)
        return self

    def hear(self, event):
        """Read the next line, which must be this event."""
        line = self.lines.readline()
        assert line, f"end of file instead of {event}"
        heard = json.loads(line)
        assert heard["event"] == event, heard
        return heard

    def begin(self):
        self.reaper = self.hear("starting")["reaper"]
        return self.hear("started")["pid"]

    def order(self, **order):
        self.control.sendall(json.dumps(order).encode() + b"\n")

    def ended(self):
        return self.lines.readline() == b""

    def close(self):
        self.lines.close()
        self.control.close()
        with contextlib.suppress(OSError):
            os.close(self.stdout)
        self.stdout = -1


class House:
    """A spawner, and the tasks that it was asked for."""

    def __init__(self, *flags, take_away=""):
        self.link, theirs = socket.socketpair()
        self.tasks = []
        program = [str(SPAWNER)]
        if take_away:
            boot = f"import os, runpy, sys; {take_away}; sys.argv = sys.argv[1:]; "
            program = ["-c", boot + "runpy.run_path(sys.argv[0], run_name='__main__')", *program]
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-I", *program, str(theirs.fileno()), *flags],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            cwd="/",
        )
        theirs.close()

    def ask(self, **how):
        task = Task(self.link, **how)
        self.tasks.append(task)
        return task

    def close(self):
        for task in self.tasks:
            task.close()
        self.link.close()
        assert self.process.wait(30) == 0


@pytest.fixture
def open_house():
    with contextlib.ExitStack() as stack:

        def open_one(*flags, **how):
            house = House(*flags, **how)
            stack.callback(house.close)
            return house

        yield open_one


@pytest.fixture
def house(open_house):
    return open_house()


def test_a_task_is_told_from_its_start_to_its_last_descendant(house):
    task = house.ask().specify("sh", "-c", "exit 7")
    pid = task.begin()
    ended = task.hear("exited")
    assert pid > 0
    assert (ended["code"], ended["signal"]) == (7, None)
    assert ended["maxRssBytes"] > 1 << 20
    assert ended["userSeconds"] + ended["systemSeconds"] < 5
    task.hear("empty")
    assert task.ended()


def test_the_start_time_is_that_of_the_program(house):
    task = house.ask().specify("sleep", new_mark())
    task.hear("starting")
    started = task.hear("started")
    assert started["startTime"] == spawner.start_time(started["pid"])


def test_a_specification_may_come_in_pieces(house):
    task = house.ask()
    body = json.dumps(
        {"argv": ["true"], "cwd": "/", "env": ENV, "path": "", "umask": 0o22, "limits": {}}
    ).encode()
    for byte in len(body).to_bytes(4, "big") + body:
        task.control.sendall(bytes([byte]))
    task.begin()
    assert task.hear("exited")["code"] == 0


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\1\0{"])
def test_half_a_specification_and_then_nothing_ends_the_reaper(house, sent):
    task = house.ask()
    task.control.sendall(sent)
    until(lambda: children(house.process.pid))
    task.control.shutdown(socket.SHUT_WR)
    assert task.ended()
    until(lambda: not children(house.process.pid))


def test_a_task_given_up_before_its_reaper_looks_never_runs(house, tmp_path):
    house.ask().specify("true").begin()
    os.kill(house.process.pid, signal.SIGSTOP)
    task = house.ask().specify("touch", str(tmp_path / "ran"))
    task.control.shutdown(socket.SHUT_WR)
    os.kill(house.process.pid, signal.SIGCONT)
    assert task.ended()
    assert not (tmp_path / "ran").exists()


def test_a_request_with_too_few_descriptors_is_refused(house):
    task = house.ask(given=2)
    assert task.hear("failed")["code"] == "no_resources"
    assert task.ended()


def test_a_reaper_holds_neither_the_pipes_nor_the_folder_nor_the_lifeline_of_another(
    house, tmp_path
):
    first = house.ask().specify("sleep", new_mark())
    first.begin()
    task = house.ask().specify("sh", "-c", "exec sleep $0 >&- 2>&-", new_mark(), cwd=str(tmp_path))
    task.begin()
    assert os.read(task.stdout, 1) == b""
    folder = Path(f"/proc/{task.reaper}")
    assert (folder / "cwd").readlink() == Path("/")
    extra = [fd.readlink() for fd in (folder / "fd").iterdir() if int(fd.name) > 2]
    assert len(extra) == 3, "its control socket and both ends of what SIGCHLD wakes"
    first.close()
    until(lambda: first.reaper not in children(house.process.pid))


def test_the_spawner_ignores_what_a_terminal_or_a_service_manager_sends(house):
    house.ask().specify("true").begin()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(house.process.pid, number)
    task = house.ask().specify("true")
    task.begin()
    assert task.hear("exited")["code"] == 0


def test_without_the_daemon_the_spawner_goes_at_once_and_its_reapers_stay(house):
    task = house.ask().specify("sleep", new_mark())
    pid = task.begin()
    house.link.shutdown(socket.SHUT_RDWR)
    assert house.process.wait(30) == 0
    task.order(op="signal", signal=signal.SIGTERM)
    assert task.hear("exited")["signal"] == signal.SIGTERM
    task.hear("empty")
    assert state(pid) == ""


def test_a_reaper_kills_its_tree_though_nobody_hears_it(house):
    mark = new_mark()
    task = house.ask().specify("sh", "-c", "setsid sleep $0 & trap '' TERM; sleep $0", mark)
    task.begin()
    until(lambda: len(marked(mark)) == 3)
    task.close()
    until(lambda: not marked(mark))
    until(lambda: not children(house.process.pid))


@pytest.mark.parametrize("missing", [None, *TAKEN_AWAY])
def test_kill_is_final_whatever_the_system_lacks(open_house, missing):
    house = open_house(take_away=TAKEN_AWAY.get(missing, ""))
    mark = new_mark()
    script = "(setsid sh -c 'trap \"\" TERM; sleep $0; :' $0 &); setsid env -i sleep $0 & sleep $0"
    task = house.ask().specify("sh", "-c", script, mark)
    pid = task.begin()
    assert os.getsid(pid) == pid
    until(lambda: len(marked(mark)) == 5)
    task.order(op="kill")
    assert task.hear("exited")["signal"] == signal.SIGKILL
    task.hear("empty")
    assert not marked(mark)


def test_a_signal_reaches_what_is_left_when_the_leader_has_gone(house):
    mark = new_mark()
    task = house.ask().specify("sh", "-c", "setsid sleep $0 & :", mark)
    task.begin()
    task.hear("exited")
    until(lambda: len(marked(mark)) == 1)
    task.order(op="signal", signal=signal.SIGTERM)
    task.hear("empty")
    assert not marked(mark)


def test_without_a_subreaper_the_group_is_killed_and_awaited(open_house):
    house = open_house("--portable")
    mark = new_mark()
    task = house.ask().specify("sh", "-c", "trap '' TERM; (sleep $0 &); :", mark)
    task.begin()
    assert task.hear("exited")["code"] == 0
    until(lambda: len(marked(mark)) == 1)
    task.order(op="kill")
    task.hear("empty")
    assert not marked(mark)


def test_without_a_subreaper_a_session_still_attached_is_found_through_ps(open_house):
    house = open_house("--portable")
    mark = new_mark()
    task = house.ask().specify("sh", "-c", "setsid sleep $0 & wait", mark)
    task.begin()
    until(lambda: len(marked(mark)) == 2)
    task.order(op="kill")
    assert task.hear("exited")["signal"] == signal.SIGKILL
    task.hear("empty")
    until(lambda: not marked(mark))


def test_limits_are_the_task_s_and_not_the_reaper_s(house):
    task = house.ask().specify("sh", "-c", "ulimit -n; ulimit -Hn", limits={"nofile": 17})
    task.begin()
    task.hear("exited")
    assert os.read(task.stdout, 100) == b"17\n17\n"
    task = house.ask().specify("sleep", new_mark(), limits={"nofile": 4})
    task.begin()
    limits = Path(f"/proc/{task.reaper}/limits").read_text().splitlines()
    ours = Path("/proc/self/limits").read_text().splitlines()
    assert [line for line in limits if "open files" in line] == [
        line for line in ours if "open files" in line
    ]
    task.order(op="kill")
    task.hear("exited")
    task.hear("empty")


def test_a_program_that_cannot_run_is_refused_with_limits_too(house, tmp_path):
    (tmp_path / "text").write_text("no program\n")
    (tmp_path / "text").chmod(0o755)
    task = house.ask().specify("./text", cwd=str(tmp_path), limits={"core": 0})
    task.hear("starting")
    assert task.hear("failed")["code"] == "exec_format"
    assert task.ended()


def test_the_oom_killer_takes_the_task_before_its_reaper(house):
    ours = Path("/proc/self/oom_score_adj")
    task = house.ask().specify("sleep", new_mark())
    pid = task.begin()
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == ours.read_text()
    status = Path("/proc/self/status").read_text()
    may_lower = int(status.partition("CapEff:")[2].split()[0], 16) >> 24 & 1  # CAP_SYS_RESOURCE
    if may_lower:
        until(lambda: int(Path(f"/proc/{task.reaper}/oom_score_adj").read_text()) <= -500)


@pytest.mark.parametrize("look", [spawner.look_by_scan, spawner.look_by_ps])
def test_every_way_to_look_sees_the_same_children(look):
    with subprocess.Popen(["sleep", new_mark()]) as child:
        assert child.pid in look()(os.getpid())
        assert child.pid in spawner.children_by_file(os.getpid())
        child.kill()


def test_an_empty_entry_of_the_path_is_not_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "git").write_text("#!/bin/sh\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(spawner.Refused) as refused:
        spawner.resolve("git", "::")
    assert refused.value.code == "program_not_found"
    assert spawner.resolve("./git", "") == "./git"
    assert spawner.resolve("git", f"/nowhere:{tmp_path}") == str(tmp_path / "git")


def test_a_program_later_on_the_path_is_taken_when_an_earlier_one_is_not_executable(tmp_path):
    for name, mode in (("first", 0o644), ("second", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tool").write_text("#!/bin/sh\n")
        (tmp_path / name / "tool").chmod(mode)
    path = f"{tmp_path / 'first'}:{tmp_path / 'second'}"
    assert spawner.resolve("tool", path) == str(tmp_path / "second" / "tool")
    with pytest.raises(spawner.Refused) as refused:
        spawner.resolve("tool", str(tmp_path / "first"))
    assert refused.value.code == "not_executable"
