"""The parent of every task: a small process that forks one reaper for each.

It runs as a program (`python -S -E -I spawner.py <link> [--portable]`) and imports nothing of the
project, because what it holds in memory is what every reaper is forked from.

The daemon sends one byte with four descriptors (control, stdin, stdout, stderr); the spawner forks
a reaper which keeps those and nothing else. The reaper reads the specification from its control
socket (four bytes of length, then JSON), starts the program and then only waits: it says
`starting`, `started` or `failed`, `exited`, and `empty` when no descendant is left, one JSON object
a line, and obeys `signal` and `kill`. Its control socket is its lifeline: at end of file it kills
all that is below it, then goes. The link is the lifeline of the spawner, which goes at once:
reapers do not need it.

A reaper that dies leaves its tree to the spawner, which kills it. Until that is done the spawner
keeps a copy of the control socket, so the daemon's end of file means: the reaper is gone *and*
nothing of its tree is left.
"""

# pathlib and typing would be memory in every reaper:
# ruff: noqa: PTH105, PTH106, PTH108, PTH110, PTH112, PTH116, PTH118, PTH123, PTH208

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any, NoReturn

    Lookup = Callable[[int], Sequence[int]]  # the children of a process

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36  # linux/prctl.h
LOW_OOM_SCORE = -500  # a reaper must outlive its task when memory runs out
STRIKE_TIMEOUT = 0.2  # seconds to overtake what forks; what is missed waits for the next round
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25  # seconds between two rounds of killing
REAP_TIMEOUT = 0.05  # seconds: a fork bomb may die faster than it is reaped, with orders unheard
REMOVE_TRIES = 40  # each 5 ms: for what was killed to leave its cgroup
GROUP_LOOK = 0.2  # seconds between two looks at a process group that nobody announces the end of
RESET_SIGNALS = sorted(set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP})


class Refused(Exception):
    """The program cannot be started; the sentence says what to do about it."""

    def __init__(self, number: int, code: str, message: str) -> None:
        """Keep the errno, a stable code and the sentence."""
        super().__init__(message)
        self.errno, self.code, self.message = number, code, message


# --- the platform -------------------------------------------------------------------------------


def libc_prctl(option: int, value: Any) -> bool:
    """Call prctl(2); False where there is none."""
    try:
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (AttributeError, OSError):
        return False


def oom_score(score: int | None = None) -> int:
    """Read the OOM score of this process, or write it as far as allowed."""
    with (
        contextlib.suppress(OSError),
        open("/proc/self/oom_score_adj", "r+b", buffering=0) as file,
    ):
        if score is None:
            return int(file.read())
        file.write(b"%d" % score)
    return 0


def watch_children() -> int:
    """Open a descriptor that becomes readable whenever a child ends."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # ignored, it would never reach the descriptor
    return readable


def drain(readable: int) -> None:
    """Empty the descriptor of watch_children()."""
    with contextlib.suppress(BlockingIOError):
        while len(os.read(readable, 4096)) == 4096:
            pass


def stat_fields(pid: int | str) -> list[bytes]:
    """Read /proc/<pid>/stat from field 3 on (a name may hold spaces and brackets)."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def start_time(pid: int) -> int | None:
    """Return field 22 of /proc/<pid>/stat: with the pid it names a process for good."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def boot_id() -> str:
    """Return what names this run of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.read().decode().strip()
    except OSError:
        return ""


# --- what a reaper leaves in files ----------------------------------------------------------------


def write_file(path: str, text: str) -> bool:
    """Write to a file of the kernel's; False where it refuses, or is not there."""
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(text.encode())
    except OSError:
        return False
    return True


def read_numbers(path: str) -> dict[str, int]:
    """Read a file of names and numbers, or of one number; empty where it is not there."""
    try:
        with open(path, "rb", buffering=0) as file:
            words = [line.split() for line in file.read(65536).decode().splitlines()]
    except OSError:
        return {}
    return {words[0] if words[1:] else "": int(words[-1]) for words in words if words[-1].isdigit()}


class Traces:
    """What stands for a task outside its processes: a record in the state dir, and a cgroup."""

    def __init__(self, record: str, cgroup: str, home: str) -> None:
        """Know the paths, each empty where there is none; `home` is the daemon's own cgroup."""
        self.record, self.cgroup, self.home = record, cgroup, home

    def note(self, leader: int = 0) -> None:
        """Write the record anew, so that a later daemon finds what this reaper does not end."""
        if not self.record:
            return
        told = {
            "boot": boot_id(),
            "reaper": os.getpid(),
            "reaperStart": start_time(os.getpid()) or 0,
            "leader": leader,
            "leaderStart": start_time(leader) or 0 if leader else 0,
            "cgroup": self.cgroup,
        }
        if write_file(self.record + "~", json.dumps(told)):
            with contextlib.suppress(OSError):
                os.replace(self.record + "~", self.record)

    def enter(self) -> None:
        """Go into the task's cgroup, where its program is to be born."""
        if self.cgroup and not write_file(f"{self.cgroup}/cgroup.procs", "0"):
            sentence = "The task's cgroup cannot be entered; try again."
            raise Refused(errno.EAGAIN, "no_resources", sentence)

    def leave(self) -> None:
        """Go back where the daemon lives: the cgroup is killed, and its reaper is not."""
        if self.cgroup:
            write_file(f"{self.home}/cgroup.procs", "0")

    def kill(self) -> None:
        """Kill all that is in the cgroup at once."""
        if self.cgroup:
            write_file(f"{self.cgroup}/cgroup.kill", "1")

    def usage(self) -> dict[str, float | int | None]:
        """Tell what the whole tree has used, as far as the cgroup knows."""
        if not self.cgroup:
            return {}
        spent = read_numbers(f"{self.cgroup}/cpu.stat")
        return {
            "userSeconds": spent.get("user_usec", 0) / 1e6,
            "systemSeconds": spent.get("system_usec", 0) / 1e6,
            "peakBytes": read_numbers(f"{self.cgroup}/memory.peak").get(""),
            "oomKills": read_numbers(f"{self.cgroup}/memory.events").get("oom_kill", 0),
            "refusedForks": read_numbers(f"{self.cgroup}/pids.events").get("max", 0),
        }

    def clear(self) -> None:
        """Leave nothing behind."""
        for _ in range(REMOVE_TRIES if self.cgroup else 0):
            try:
                os.rmdir(self.cgroup)
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.005)  # what was killed leaves in its own time
            else:
                break
        if self.record:
            with contextlib.suppress(OSError):
                os.unlink(self.record)


# --- looking at descendants ---------------------------------------------------------------------


def children_by_file(pid: int) -> Sequence[int]:
    """Read the children of each thread: quick, but may miss one while another one ends."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it may end meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
    return found


def by_parent(pairs: Collection[tuple[int, int]]) -> Lookup:
    """Turn pairs of pid and parent into a lookup."""
    children: dict[int, list[int]] = {}
    for pid, parent in pairs:
        children.setdefault(parent, []).append(pid)
    return lambda pid: children.get(pid, ())


def look_by_scan() -> Lookup:
    """Read the parent of every process: slower, and misses none that lives all along."""
    entries = [(int(name), stat_fields(name)) for name in os.listdir("/proc") if name.isdigit()]
    return by_parent([(pid, int(fields[1])) for pid, fields in entries if fields])


def look_by_ps() -> Lookup:
    """Ask ps(1), which is everywhere."""
    readable, writable = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writable, 1)]
    try:
        ps = os.posix_spawnp("ps", ["ps", "-axo", "pid=,ppid="], os.environ, file_actions=actions)
    except OSError:
        os.close(readable)
        return by_parent(())
    finally:
        os.close(writable)
    with open(readable, "rb") as output:
        pairs = [(int(pid), int(parent)) for pid, parent in map(bytes.split, output)]
    os.waitpid(ps, 0)
    return by_parent([pair for pair in pairs if pair[0] != ps])


def choose_look(*, portable: bool) -> Callable[[], Lookup]:
    """Choose the quickest way to look that this machine has."""
    if portable or not stat_fields("self"):
        return look_by_ps
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return lambda: children_by_file
    return look_by_scan


def descendants(lookup: Lookup, spare: Collection[int]) -> list[int]:
    """List everything below this process but the spared children, parents first."""
    found = [pid for pid in lookup(os.getpid()) if pid not in spare]
    for pid in found:  # grows while it is read
        found.extend(lookup(pid))
    return found


def send_signal(pid: int, number: int) -> None:
    """Signal a process that may have ended, or (sudo) may not be ours to signal."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def stop_all(lookup: Lookup, spare: Collection[int]) -> set[int]:
    """Stop everything below and return it: each level at once, before it can fork away."""
    found: set[int] = set()
    level = [pid for pid in lookup(os.getpid()) if pid not in spare]
    while level:
        for pid in level:
            send_signal(pid, signal.SIGSTOP)
        found.update(level)
        level = [child for pid in level for child in lookup(pid)]
    return found


def strike(look: Callable[[], Lookup], spare: Collection[int], reap: Callable[[], object]) -> None:
    """Stop everything below, so that nothing forks behind our back, then kill it."""
    deadline = time.monotonic() + STRIKE_TIMEOUT
    before: set[int] | None = None
    while True:
        reap()  # a fork bomb leaves dead by the thousand, which make the lists long
        found = stop_all(look(), spare)
        if found == before or time.monotonic() > deadline:
            break
        before = found
    for pid in descendants(look(), spare):
        send_signal(pid, signal.SIGKILL)


class Killing:
    """Strikes again and again, ever more slowly: what waits for a disk does not die at once."""

    def __init__(self, look: Callable[[], Lookup], reap: Callable[[], object]) -> None:
        """Begin with a strike at once."""
        self.look = look
        self.reap = reap
        self.pause = FIRST_PAUSE
        self.due = 0.0

    def advance(self, spare: Collection[int] = ()) -> int:
        """Strike if it is time; return the milliseconds until the next time."""
        if time.monotonic() >= self.due:
            strike(self.look, spare, self.reap)
            self.due = time.monotonic() + self.pause
            self.pause = min(2 * self.pause, LONGEST_PAUSE)
        return 1 + max(0, int(1000 * (self.due - time.monotonic())))


# --- starting the program -----------------------------------------------------------------------


def shown(name: str) -> str:
    """Quote a name for a sentence, however long it is."""
    return repr(name if len(name) <= 200 else f"{name[:200]}…")


def unsuitable(path: str) -> Refused | None:
    """Say why this file cannot be executed, or None."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            sentence = f"There is no program {shown(path)}; install it or correct the path."
            return Refused(errno.ENOENT, "program_not_found", sentence)
        sentence = f"The program {shown(path)} cannot be reached: {error.strerror}."
        return Refused(error.errno or errno.EIO, "not_executable", sentence)
    if os.path.isdir(path):
        sentence = f"{shown(path)} is a directory; name a program inside it."
        return Refused(errno.EISDIR, "is_directory", sentence)
    if not os.access(path, os.X_OK):
        sentence = f"{shown(path)} is not executable; run chmod +x on it."
        return Refused(errno.EACCES, "not_executable", sentence)
    return None


def resolve(name: str, search: str) -> str:
    """Find a program as execvp(3) would, on the task's own PATH.

    Empty entries of a PATH mean the current folder. They are accidents more often than not, and
    would let a repository bring a git of its own, so they are skipped.
    """
    if "/" in name:
        if refusal := unsuitable(name):
            raise refusal
        return name
    sentence = f"There is no program {shown(name)} on the task's PATH; install it or set PATH."
    best = Refused(errno.ENOENT, "program_not_found", sentence)
    for folder in filter(None, search.split(":")):
        path = os.path.join(folder, name)
        refusal = unsuitable(path)
        if refusal is None:
            return path
        if best.errno == errno.ENOENT and refusal.errno not in {errno.ENOENT, errno.EISDIR}:
            best = refusal
    raise best


def refusal_of(number: int, path: str) -> Refused:
    """Turn the errno of a failed exec into a sentence."""
    code, advice = {
        errno.ENOEXEC: (
            "exec_format",
            "it is not in a format this machine runs; begin it with #!/bin/sh or the like",
        ),
        errno.ENOENT: ("interpreter_missing", "the interpreter in its first line does not exist"),
        errno.EACCES: ("not_executable", "check its permissions and that its disk allows programs"),
        errno.E2BIG: ("too_big", "its arguments and environment are too long; pass them by a file"),
        errno.EAGAIN: ("no_resources", "too many processes are running; try again later"),
        errno.ENOMEM: ("no_resources", "memory is short; try again later"),
        errno.EMFILE: ("no_resources", "too many files are open; raise the nofile limit"),
    }.get(number, ("spawn_error", os.strerror(number)))
    return Refused(number, code, f"The program {shown(path)} could not be started: {advice}.")


def spawn(path: str, spec: dict[str, Any], streams: Sequence[int]) -> int:
    """Start the program in a session of its own, with nothing open but 0, 1 and 2.

    A terminal is opened by its path, after setsid: so it becomes the one that controls the session.
    """
    actions: list[tuple[Any, ...]]
    if spec.get("terminal"):
        actions = [(os.POSIX_SPAWN_OPEN, 0, spec["terminal"], os.O_RDWR, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
    else:
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)]
    if not spec["limits"]:
        try:
            return os.posix_spawn(
                path,
                spec["argv"],
                spec["env"],
                file_actions=actions,
                setsid=True,
                setsigmask=[],
                setsigdef=RESET_SIGNALS,
            )
        except (NotImplementedError, AttributeError):
            pass  # an old libc without setsid; a fork can do it
        except OSError as error:
            raise refusal_of(error.errno or errno.EIO, path) from None
    return fork_and_exec(path, spec, streams)


def fork_and_exec(path: str, spec: dict[str, Any], streams: Sequence[int]) -> int:
    """Start it by fork: so that limits reach the task and not the reaper, which must open /proc."""
    readable, writable = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(readable)
        os.close(writable)
        raise refusal_of(error.errno or errno.EAGAIN, path) from None
    if pid == 0:
        become_program(path, spec, streams, writable)
    os.close(writable)
    with open(readable, "rb", buffering=0) as report:
        stage, _, number = report.read(64).decode().partition(" ")
    if not stage:
        return pid
    os.waitpid(pid, 0)
    if stage == "exec":
        raise refusal_of(int(number), path)
    sentence = f"The limit {stage} cannot be set: it is above what this system allows; lower it."
    raise Refused(int(number), "limit", sentence)


def become_program(
    path: str, spec: dict[str, Any], streams: Sequence[int], report: int
) -> NoReturn:
    """Turn this forked process into the program, or report `stage errno` and end."""
    stage = "exec"
    try:
        os.setsid()
        if spec.get("terminal"):
            streams = [os.open(spec["terminal"], os.O_RDWR)] * 3
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        signal.set_wakeup_fd(-1)
        for number in RESET_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for name, value in spec["limits"].items():
            stage = name
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (value, value))
        stage = "exec"
        os.execve(path, spec["argv"], spec["env"])  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(report, b"%s %d" % (stage.encode(), error.errno or errno.EIO))
    except ValueError:  # what setrlimit makes of EPERM and EINVAL
        os.write(report, b"%s %d" % (stage.encode(), errno.EPERM))
    finally:
        os._exit(127)


# --- the two processes --------------------------------------------------------------------------


def tell(control: int, event: str, **facts: Any) -> None:
    """Send one event; a daemon that is gone must never stop a reaper from killing its tree."""
    with contextlib.suppress(OSError):
        os.write(control, json.dumps({"event": event, **facts}).encode() + b"\n")


def tell_failure(control: int, number: int, sentence: str) -> None:
    """Send the failure of something the spawner itself needs."""
    tell(control, "failed", errno=number, code="no_resources", message=sentence)


class Reaper:
    """Starts one program, reports how it ends, and kills everything below when told to."""

    def __init__(self, control: int, streams: Sequence[int], *, oom: int, portable: bool) -> None:
        """Take over the control socket and the three streams of the program."""
        self.control = control
        self.streams = streams
        self.oom = oom
        self.portable = portable
        self.look = choose_look(portable=portable)
        self.leader = 0  # its pid until it is reaped, and so nobody else's
        self.group = 0  # its process group, where only that tells whether somebody is left
        self.killing: Killing | None = None
        self.behind = False  # whether more has ended than was reaped
        self.buffer = b""
        self.traces = Traces("", "", "")

    def run(self) -> None:
        """Serve one task from its specification to its last descendant."""
        head = self.receive(4)
        body = self.receive(int.from_bytes(head, "big"))
        if not head or not body or self.hung_up():
            return
        libc_prctl(PR_SET_NAME, b"agentcmd-reap")
        tell(self.control, "starting", reaper=os.getpid())
        if not self.portable:
            libc_prctl(PR_SET_CHILD_SUBREAPER, 1)  # adopts orphans from below
        wakeup = watch_children()
        spec = json.loads(body)
        self.traces = Traces(*(spec.get(name, "") for name in ("record", "cgroup", "home")))
        self.traces.note()  # before there is anything that could be left behind
        try:
            self.leader = self.start(spec)
        except Refused as refused:
            self.traces.leave()
            self.traces.clear()
            facts = {"errno": refused.errno, "code": refused.code, "message": refused.message}
            tell(self.control, "failed", **facts)
            return
        self.traces.leave()
        self.traces.note(self.leader)
        self.group = self.leader if self.portable else 0
        del body, spec
        for fd in self.streams:
            os.close(fd)  # or the daemon would never read the end of the output
        os.chdir("/")
        oom_score(LOW_OOM_SCORE)
        tell(self.control, "started", pid=self.leader, startTime=start_time(self.leader))
        self.serve(wakeup)
        used = self.traces.usage()
        self.traces.clear()
        tell(self.control, "empty", **used)

    def receive(self, size: int) -> bytes:
        """Read exactly this much, or nothing if the daemon goes meanwhile."""
        data = bytearray()
        while len(data) < size:
            try:
                block = os.read(self.control, min(size - len(data), 1 << 20))
            except OSError:
                block = b""
            if not block:
                return b""
            data += block
        return bytes(data)

    def hung_up(self) -> bool:
        """Whether the daemon gave this task up before it was started."""
        poll = select.poll()
        poll.register(self.control, getattr(select, "POLLRDHUP", 0))
        return bool(poll.poll(0))

    def start(self, spec: dict[str, Any]) -> int:
        """Enter the task's folder and start its program from there."""
        try:
            os.chdir(spec["cwd"])
        except OSError as error:
            sentence = f"The folder {shown(spec['cwd'])} cannot be entered: {error.strerror}."
            raise Refused(error.errno or errno.EIO, "cwd_missing", sentence) from None
        if spec["umask"] is not None:
            os.umask(spec["umask"])
        oom_score(self.oom)
        search = spec["path"] or spec["env"].get("PATH", os.defpath)
        path = resolve(spec["argv"][0], search)
        self.traces.enter()
        return spawn(path, spec, self.streams)

    def serve(self, wakeup: int) -> None:
        """Report and obey until nothing is left."""
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        poll.register(self.control, select.POLLIN)
        while self.collect():
            timeout = None
            if self.killing:
                self.traces.kill()
                timeout = self.killing.advance()
                self.strike_group(signal.SIGKILL)
            elif self.group and not self.leader:
                timeout = int(1000 * GROUP_LOOK)
            for fd, _ in poll.poll(0 if self.behind else timeout):
                if fd == wakeup:
                    drain(wakeup)
                elif not self.obey():
                    poll.unregister(self.control)
                    self.killing = self.killing or Killing(self.look, self.collect)

    def collect(self) -> bool:
        """Reap what has ended; return whether anything is left."""
        self.behind = False
        deadline = time.monotonic() + REAP_TIMEOUT
        while time.monotonic() < deadline:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return self.strike_group(0)
            if pid == 0:
                return True
            if pid != self.leader:
                continue
            self.leader = 0
            code = os.waitstatus_to_exitcode(status)
            tell(
                self.control,
                "exited",
                code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
                userSeconds=usage.ru_utime,
                systemSeconds=usage.ru_stime,
                maxRssBytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            )
        self.behind = True
        return True

    def strike_group(self, number: int) -> bool:
        """Without a subreaper: signal the group, which holds what we cannot see any more."""
        try:
            if self.group:
                os.killpg(self.group, number)
        except PermissionError:
            return True
        except ProcessLookupError:
            self.group = 0  # from now on the number may be a stranger's
        return bool(self.group)

    def obey(self) -> bool:
        """Carry out what the daemon says; return False when it is gone."""
        try:
            data = os.read(self.control, 65536)
        except OSError:
            return False
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if order["op"] == "kill":
                self.killing = self.killing or Killing(self.look, self.collect)
            elif self.leader:
                with contextlib.suppress(OSError):
                    os.killpg(self.leader, order["signal"])
            else:
                for pid in descendants(self.look(), ()):
                    send_signal(pid, order["signal"])
        return bool(data)


class Spawner:
    """Forks reapers, buries them, and kills the tree of one that died before its time."""

    def __init__(self, link: socket.socket, *, portable: bool) -> None:
        """Prepare this process to be forked from."""
        self.link = link
        self.portable = portable
        self.look = choose_look(portable=portable)
        self.reapers: dict[int, int] = {}  # pid: our copy of its control socket
        self.mourned: list[int] = []  # copies for reapers whose orphans may still live
        self.killing: Killing | None = None
        self.behind = False  # whether more has ended than was reaped
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self.wakeup = watch_children()
        self.oom = oom_score()
        oom_score(min(self.oom, LOW_OOM_SCORE))
        if not portable:
            libc_prctl(PR_SET_CHILD_SUBREAPER, 1)  # adopts orphans from below

    def run(self) -> None:
        """Serve until the daemon is gone."""
        poll = select.poll()
        poll.register(self.wakeup, select.POLLIN)
        poll.register(self.link, select.POLLIN)
        gc.disable()
        gc.freeze()  # no collection writes to what is shared with the reapers
        timeout = None
        while True:
            for fd, _ in poll.poll(0 if self.behind else timeout):
                if fd == self.wakeup:
                    drain(self.wakeup)
                elif not self.accept():
                    return
            self.bury()
            timeout = self.sweep()

    def accept(self) -> bool:
        """Take one request; return False when the daemon is gone."""
        cloexec = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        try:
            data, messages, _, _ = self.link.recvmsg(1, socket.CMSG_SPACE(4 * 4), cloexec)
        except OSError:
            return False
        fds = [fd for *_, content in messages for fd in memoryview(content).cast("i")]
        for fd in fds:
            os.set_inheritable(fd, False)
        if len(fds) == 4:
            self.fork(fds[0], fds[1:])
        elif fds:
            tell_failure(fds[0], errno.EMFILE, "Too many tasks run at once; raise nofile.")
            os.close(fds[0])
        for fd in fds[1:]:
            os.close(fd)
        return bool(data)

    def fork(self, control: int, streams: Sequence[int]) -> None:
        """Fork the reaper of one task."""
        try:
            pid = os.fork()
        except OSError as error:
            tell_failure(control, error.errno or errno.EAGAIN, "Too many processes run; wait.")
            os.close(control)
            return
        if pid:
            self.reapers[pid] = control
            return
        status = 1
        try:
            self.close_all_but({control, *streams})
            Reaper(control, streams, oom=self.oom, portable=self.portable).run()
            status = 0
        except BaseException:  # noqa: BLE001 - the border of a process, which says why it dies
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def close_all_but(self, keep: set[int]) -> None:
        """Close what a fresh reaper inherited: it must not hold the lifeline of another one."""
        last = max(keep | {self.link.fileno(), *self.reapers.values(), *self.mourned})
        signal.set_wakeup_fd(-1)
        first = 3
        for fd in [*sorted(keep), last + 64]:
            os.closerange(first, fd)
            first = fd + 1

    def bury(self) -> None:
        """Reap what has ended (a reaper that ended badly leaves orphans), continue what stopped."""
        self.behind = False
        deadline = time.monotonic() + REAP_TIMEOUT
        while time.monotonic() < deadline:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                if pid in self.reapers:  # `kill -STOP $PPID` in a task: it would not hear anything
                    send_signal(pid, signal.SIGCONT)
                continue
            control = self.reapers.pop(pid, None)
            if control is not None and status == 0:
                os.close(control)
                continue
            if control is not None:
                self.mourned.append(control)
            self.killing = self.killing or Killing(self.look, self.bury)
        self.behind = True

    def sweep(self) -> int | None:
        """Kill orphans, if there are; return the milliseconds until they are looked at again."""
        if self.killing is None:
            return None
        timeout = self.killing.advance(self.reapers)
        self.bury()
        look = self.look if self.portable else look_by_scan  # the one that cannot miss a child
        if any(pid not in self.reapers for pid in look()(os.getpid())):
            return timeout
        for control in self.mourned:
            os.close(control)
        self.mourned.clear()
        self.killing = None
        return None


def main() -> None:
    """Serve on the descriptor named by the first argument."""
    link = socket.socket(fileno=int(sys.argv[1]))
    link.set_inheritable(False)
    portable = "--portable" in sys.argv or not libc_prctl(PR_SET_NAME, b"agentcmd-spawn")
    Spawner(link, portable=portable).run()


if __name__ == "__main__":
    main()
