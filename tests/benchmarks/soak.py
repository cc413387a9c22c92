"""Lets nothing rest: `python tests/benchmarks/soak.py --minutes 10` asserts only what always holds.

Sessions of every ill-bred kind are started, talked to, cancelled and killed at random (`--seed`);
clients come and go through all three doors; every `--kill-every` seconds the daemon is killed with
SIGKILL and started again, on the same port and state dir. Then: every event that any client saw is
on disk with the same bytes, offsets and epochs are without a break, every session has ended once,
nothing of a killed daemon lives five seconds later, and an idle daemon has no more descriptors than
at its start. It prints what it saw, the growth of memory in each life, and ends with 1 where any of
this did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import aiohttp
from harness import PYTHON, resident
from verdict import check
from wanderers import LOST, Notebook, Wanderer

from daemon.core import spawner
from daemon.web.auth import Tokens, load_secret

ROOT = Path(__file__).parents[2]
PROJECT = "project:scratch"
ORPHANS_WITHIN = 5.0
STUBBORN = """trap '' TERM INT HUP
(setsid sh -c 'trap "" TERM; sleep 300' &)
setsid env -i sleep 300 &
echo here; sleep 300"""

KINDS = {  # command line, keepAlive
    "short": (["sh", "-c", "echo hi; exit $(( $$ % 3 ))"], False),
    "talker": (["sh", "-c", "for i in $(seq 200); do echo line $i; sleep 0.05; done"], False),
    "errors": (["sh", "-c", "for i in $(seq 60); do echo $i >&2; sleep 0.2; done"], False),
    "flood": (["sh", "-c", "yes 0123456789 | head -c 300000; sleep 5"], False),
    "cat": (["cat"], True),
    "sleeper": (["sleep", "60"], False),
    "stubborn": (["sh", "-c", STUBBORN], False),
    "leaver": (["sh", "-c", "(sleep 300; echo late) & echo early"], False),
    "stopped": (["sh", "-c", "echo up; kill -STOP $$; sleep 300"], False),
    "missing": (["/no/such/program"], False),
}


class Soak:
    """One daemon after another, what is done to them, and what came of it."""

    def __init__(self, args: argparse.Namespace, state_dir: Path) -> None:
        """Choose a port; nothing runs yet."""
        self.args, self.state_dir = args, state_dir
        self.random = Random(args.seed)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.book = Notebook()
        self.did: Counter[str] = Counter()
        self.live: set[str] = set()
        self.created: list[str] = []
        self.clients: list[asyncio.Task[None]] = []
        self.lives: list[list[tuple[float, int]]] = []
        self.restarts: list[float] = []
        self.gone: list[float] = []
        self.listening = 0

    # The daemon

    def start(self) -> None:
        """Start the next daemon, and note what it needs when it is idle."""
        begun = time.monotonic()
        self.daemon = subprocess.Popen(
            [PYTHON, "-m", "daemon", "serve"],
            cwd=ROOT,
            env={
                **os.environ,
                "AGENTCMD_SERVER__STATE_DIR": str(self.state_dir),
                "AGENTCMD_SERVER__PORT": str(self.port),
                "AGENTCMD_TASK__STOP_GRACE": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.daemon.stdout is not None
        if "listening" not in self.daemon.stdout.readline():
            raise RuntimeError("the daemon did not start")
        self.restarts.append(time.monotonic() - begun)
        self.listening = self.daemon.pid
        self.idle = descriptors(self.daemon.pid)
        self.lives.append([])

    async def kill_and_restart(self) -> None:
        """Kill the daemon; what it leaves has five seconds, though the next one runs already."""
        killed, begun = self.daemon, time.monotonic()
        self.listening = 0
        known = {pid: spawner.start_time(pid) for pid in below(os.getpid()) - {killed.pid}}
        killed.kill()
        starting = asyncio.ensure_future(asyncio.to_thread(self.replace, killed))
        while known and time.monotonic() < begun + ORPHANS_WITHIN:
            known = {pid: at for pid, at in known.items() if lives(pid, at)}
            await asyncio.sleep(0.02)
        self.gone.append(time.monotonic() - begun)
        await starting
        await asyncio.sleep(max(0.0, begun + ORPHANS_WITHIN - time.monotonic()))
        bury(left := below(os.getpid()) - below(self.daemon.pid) - {self.daemon.pid})
        for pid in left & below(os.getpid()):
            self.book.violated(f"orphan {pid}: {command_of(pid)}")
            spawner.send_signal(pid, signal.SIGKILL)

    def replace(self, killed: subprocess.Popen[str]) -> None:
        """Bury a daemon and start the next one."""
        killed.wait()
        assert killed.stdout is not None
        killed.stdout.close()
        self.start()

    # What is done

    async def run(self) -> None:
        """Do all of it at once, for as long as asked."""
        await asyncio.to_thread(self.start)
        token = Tokens(load_secret(self.state_dir, "", {})).mint("soak", ttl=86_400)
        wanderers = [
            Wanderer(number, self.url, token, self.book, self.choose)
            for number in range(self.args.clients)
        ]
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(self.url, headers=headers) as http:
            jobs = [self.act(http), self.watch(http), self.sample(), *(w.run() for w in wanderers)]
            self.clients = [asyncio.ensure_future(job) for job in jobs]
            end = time.monotonic() + 60 * self.args.minutes
            while (left := end - time.monotonic()) > 0:
                await asyncio.sleep(min(left, self.args.kill_every or left))
                self.complain()
                if self.args.kill_every and left > self.args.kill_every:
                    await self.kill_and_restart()
            await self.come_to_rest(http)

    def choose(self, random: Random) -> str:
        """Name a channel: a live session, one that has ended, or the project's."""
        if not self.created or random.random() < 0.1:
            return PROJECT
        known = sorted(self.live) if self.live and random.random() < 0.7 else self.created[-200:]
        return f"session:{random.choice(known)}"

    async def act(self, http: aiohttp.ClientSession) -> None:
        """Start while there are too few, and disturb what runs."""
        while True:
            await asyncio.sleep(self.random.expovariate(self.args.rate))
            try:
                if len(self.live) < self.args.sessions:
                    await self.create(http)
                else:
                    await self.disturb(http)
            except LOST:
                self.did["unanswered"] += 1

    async def create(self, http: aiohttp.ClientSession) -> None:
        """Start a session of some kind."""
        kind = self.random.choice(list(KINDS))
        argv, keep = KINDS[kind]
        data = {"agent": "command", "argv": argv, "keepAlive": keep, "name": kind}
        async with http.post("/api/sessions", json=data) as answer:
            if answer.ok:
                session = (await answer.json())["sessionId"]
                self.created.append(session)
                self.live.add(session)
                self.did["created"] += 1
            else:
                self.refused("create", answer.status)

    async def disturb(self, http: aiohttp.ClientSession) -> None:
        """Cancel, kill or talk to somebody."""
        session = self.random.choice(sorted(self.live))
        verb = self.random.choice(["cancel", "cancel", "kill", "input", "input"])
        data = {"data": f"{self.random.random()}\n"} if verb == "input" else {}
        async with http.post(f"/api/sessions/{session}/{verb}", json=data) as answer:
            self.did[verb] += 1
            if answer.status not in (200, 409):  # 409: it has ended, or reads nothing
                self.refused(verb, answer.status)

    def refused(self, what: str, status: int) -> None:
        """Count a refusal; only `unavailable` is one that may be."""
        self.did[f"{what} {status}"] += 1
        if status != 503:
            self.book.violated(f"{what} was answered with {status}")

    async def watch(self, http: aiohttp.ClientSession) -> None:
        """Learn who lives, from the daemon itself."""
        while True:
            await asyncio.sleep(0.5)
            with contextlib.suppress(*LOST):
                asked = set(self.live)
                async with http.get("/api/tasks") as answer:
                    if answer.ok:
                        tasks = (await answer.json())["tasks"]
                        self.live -= asked - {task["id"] for task in tasks}

    async def sample(self) -> None:
        """Note the resident bytes of each daemon as it ages."""
        while True:
            await asyncio.sleep(1)
            with contextlib.suppress(OSError):
                if self.listening:
                    self.lives[-1].append((time.monotonic(), resident(self.listening)))

    def complain(self) -> None:
        """Note a job that has failed: that is a mistake of this program, or of the daemon."""
        for client in self.clients:
            if client.done() and not client.cancelled():
                self.book.violated(f"a job ended: {client.exception()!r}")
        self.clients = [client for client in self.clients if not client.done()]

    # The end

    async def come_to_rest(self, http: aiohttp.ClientSession) -> None:
        """Let all go, kill what is left, and see that the last daemon is idle as at its start."""
        for client in self.clients:
            client.cancel()
        await asyncio.wait(self.clients)
        self.complain()
        async with asyncio.timeout(60):
            while tasks := await self.tasks(http):
                for task in tasks:
                    async with http.post(f"/api/tasks/{task}/kill", json={}):
                        pass
                await asyncio.sleep(0.1)
        await http.close()
        await until(lambda: descriptors(self.daemon.pid) <= self.idle)
        self.left = descriptors(self.daemon.pid)
        if self.left > self.idle:
            self.book.violated(f"{self.left} descriptors are open where {self.idle} were")
        self.daemon.terminate()
        code = await asyncio.to_thread(self.daemon.wait)
        if code:
            self.book.violated(f"the daemon ended with {code}")
        await until(lambda: bury(below(os.getpid())) or not below(os.getpid()))
        for pid in below(os.getpid()):
            self.book.violated(f"left {pid}: {command_of(pid)}")
            spawner.send_signal(pid, signal.SIGKILL)

    @staticmethod
    async def tasks(http: aiohttp.ClientSession) -> list[str]:
        """List what still runs."""
        async with http.get("/api/tasks") as answer:
            return [task["id"] for task in (await answer.json())["tasks"]]


def descriptors(pid: int) -> int:
    """Count a process's open descriptors."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def below(pid: int) -> set[int]:
    """List all that is below a process."""
    lookup = spawner.look_by_scan()
    found = list(lookup(pid))
    for each in found:
        found.extend(lookup(each))
    return set(found)


def lives(pid: int, at: int | None) -> bool:
    """Tell whether this very process still does anything."""
    fields = spawner.stat_fields(pid)
    return bool(fields) and fields[0] != b"Z" and spawner.start_time(pid) == at


def bury(pids: set[int]) -> None:
    """Wait for what was adopted and has ended."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def command_of(pid: int) -> str:
    """Give a process's command line."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
    return "?"


async def until(condition: object, within: float = ORPHANS_WITHIN) -> None:
    """Wait for what only /proc shows; the caller looks again."""
    deadline = time.monotonic() + within
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        await asyncio.sleep(0.05)


def slope(points: list[tuple[float, int]]) -> float:
    """Fit a line through one life's memory; gives KiB a minute."""
    fitted = statistics.linear_regression([t for t, _ in points], [size for _, size in points])
    return fitted.slope * 60 / 1024


def tell(soak: Soak, ends: Counter[str]) -> None:
    """Print the summary."""
    book = soak.book
    slopes = [slope(life) for life in soak.lives if len(life) > 10]
    late = [slope(life[len(life) // 2 :]) for life in soak.lives if len(life) > 20]
    largest = max(size for life in soak.lives for _, size in life) / 1e6
    growth = [f"{statistics.median(some):+.0f}" for some in (slopes or [0], late or [0])]
    kept = sum(map(len, book.seen.values()))
    lines = [
        f"did: {dict(soak.did)}",
        f"ends: {dict(ends)}",
        f"visits: {book.visits}; delivered {book.delivered}, events seen {kept}",
        f"daemons: {len(soak.lives)}, listening within {max(soak.restarts):.2f} s",
        f"nothing of a killed one was left within {max(soak.gone, default=0):.2f} s",
        f"descriptors: {soak.idle} at the last start, {soak.left} in the end",
        f"resident: {largest:.0f} MB at the most; KiB a minute, median of the lives: {growth[0]}",
        f"and of their second halves: {growth[1]}",
        *(f"VIOLATION {sentence}" for sentence in book.violations),
        f"{len(book.violations)} violations",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> int:
    """Soak, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--sessions", type=int, default=50, help="alive at once")
    parser.add_argument("--clients", type=int, default=100, help="that come and go")
    parser.add_argument("--kill-every", type=float, default=30.0, help="seconds; 0: never")
    parser.add_argument("--rate", type=float, default=10.0, help="orders a second")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    spawner.libc_prctl(spawner.PR_SET_CHILD_SUBREAPER, 1)  # what a daemon leaves is found below us
    folder = Path(tempfile.mkdtemp(prefix="agentcmd-soak-"))
    soak = Soak(args, folder)
    try:
        asyncio.run(soak.run())
        ends = check(soak.book, folder, soak.created)
    finally:
        for pid in below(os.getpid()):
            spawner.send_signal(pid, signal.SIGKILL)
            bury({pid})
        shutil.rmtree(folder, ignore_errors=True)
    tell(soak, ends)
    return 1 if soak.book.violations else 0


if __name__ == "__main__":
    sys.exit(main())
