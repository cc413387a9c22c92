"""A cgroup that is delegated as systemd does it, for a daemon of a test."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def delegated() -> Iterator[Path]:
    """Make one below this process's own; the test is skipped where that is not allowed."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    mounted = next((line.split()[1] for line in mounts if line.split()[2] == "cgroup2"), None)
    if mounted is None:
        pytest.skip("there is no cgroup v2 here")
    own = Path("/proc/self/cgroup").read_text().split("0::/")[1].split()
    made = Path(mounted) / (own[0] if own else "") / f"agentcmd-test-{secrets.token_hex(4)}"
    try:
        made.mkdir()
        os.setxattr(made, "trusted.delegate", b"1")
    except OSError as error:
        with contextlib.suppress(OSError):
            made.rmdir()
        pytest.skip(f"cgroups cannot be made here: {error}")
    try:
        yield made
    finally:
        remove(made)


def remove(path: Path) -> None:
    """Kill what a test has left in its own cgroup, and remove it with all below."""
    deadline = time.monotonic() + 30
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")
    while path.exists() and time.monotonic() < deadline:
        for below in sorted(path.rglob("*"), reverse=True):
            if below.is_dir():
                with contextlib.suppress(OSError):
                    below.rmdir()
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.01)


def entering(path: Path, argv: list[str]) -> list[str]:
    """Give a command line that runs a program inside a cgroup."""
    return ["sh", "-c", f'echo $$ > {path}/cgroup.procs && exec "$@"', "sh", *argv]


def processes_in(path: Path) -> list[int]:
    """List the processes of a cgroup and all below."""
    return [int(pid) for procs in path.rglob("cgroup.procs") for pid in procs.read_text().split()]


def run_inside(path: Path, code: str) -> str:
    """Run Python inside a cgroup; gives what it printed."""
    import sys

    argv = entering(path, [sys.executable, "-c", code])
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
