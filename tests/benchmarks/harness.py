"""What every benchmark needs: daemons, the peer, viewers, CPU and memory of a process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
PYTHON = sys.executable
TICK = os.sysconf("SC_CLK_TCK")


class Figure(NamedTuple):
    """One line of the result: what was measured, the ratio or value, and what to reach."""

    name: str
    value: float
    target: float
    unit: str
    detail: str
    larger_is_better: bool = False

    @property
    def met(self) -> bool:
        if self.larger_is_better:
            return self.value >= self.target
        return self.value <= self.target

    def line(self) -> str:
        sign = ">=" if self.larger_is_better else "<="
        mark = "met " if self.met else "MISS"
        aim = f"{sign} {self.target:g}"
        return f"{mark} {self.name:34} {self.value:9.3f} {self.unit:9} {aim:9} {self.detail}"


class Program:
    """A process that is talked to by lines."""

    def __init__(self, argv: list[str], **environ: str) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        return line.strip()

    def write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, **order: Any) -> Any:
        self.write(json.dumps(order))
        return json.loads(self.read())

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextmanager
def program(argv: list[str], **environ: str) -> Iterator[Program]:
    """Run a program while this is open."""
    running = Program(argv, **environ)
    try:
        yield running
    finally:
        running.end()


class Inside(NamedTuple):
    """A daemon with a probe inside, and how to reach it."""

    program: Program
    port: str
    token: str
    url: str


@contextmanager
def daemon(**environ: str) -> Iterator[Inside]:
    """Run a daemon on a state dir of its own, with further settings."""
    folder = tempfile.mkdtemp(prefix="agentcmd-benchmark-")
    try:
        with program([PYTHON, str(HERE / "inside.py"), folder], **environ) as running:
            told = json.loads(running.read())
            yield Inside(running, told["url"].rsplit(":", 1)[1], told["token"], told["url"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def viewers(kind: str, port: str, token: str, channel: str, count: int) -> Iterator[Program]:
    """Run subscribed viewers; ask them with a line."""
    argv = [PYTHON, str(HERE / "viewers.py"), kind, port, token, channel, str(count)]
    with program(argv) as running:
        assert running.read() == "ready"
        yield running


def peer_folder() -> Path:
    """Install the peer once, outside the checkout; gives its folder."""
    wanted = (HERE / "peer" / "package.json").read_bytes()
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "agentcmd-benchmark" / hashlib.sha256(wanted).hexdigest()[:12]
    if not (folder / "node_modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_bytes(wanted)
        npm = shutil.which("npm") or "npm"
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run([npm, "install", *quiet], cwd=folder, check=True)
    shutil.copy(HERE / "peer" / "server.js", folder / "server.js")
    return folder


def node_pty() -> Path:
    """Compile the peer's terminals once, with the headers beside Node where they are installed."""
    folder = peer_folder()
    if not (folder / "node_modules/node-pty/build/Release/pty.node").exists():
        npm, node = (shutil.which(name) or name for name in ("npm", "node"))
        beside = Path(node).resolve().parents[1]
        headers = {"npm_config_nodedir": str(beside)} if (beside / "include/node").exists() else {}
        argv = [npm, "rebuild", "node-pty", "--silent"]
        quiet = subprocess.DEVNULL
        subprocess.run(argv, cwd=folder, env={**os.environ, **headers}, stdout=quiet, check=True)
    shutil.copy(HERE / "peer" / "terminals.js", folder / "terminals.js")
    return folder


def cpu_seconds(pid: int) -> float:
    """Read the user and system time of one process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def cpu_clock(pid: int) -> float:
    """Read the same from the process's own clock, which /proc rounds to ticks of 10 ms."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), which Python has not


def resident(pid: int) -> int:
    """Read the resident bytes of one process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def percentile(values: list[float], part: float) -> float:
    """Give a percentile of measured values."""
    ordered = sorted(values) or [0.0]
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]
