"""A cgroup for each task, where the daemon has a part of the tree delegated (cgroups(7), v2).

It is found, never required: `kill` then reaches a task's whole tree in one write, limits hold for
the tree and not for each process, and usage is that of everything that ever ran in it. systemd
delegates with `Delegate=yes` and notes it on the folder.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Self

import structlog

log = structlog.get_logger(__name__)

DELEGATED = ("user.delegate", "trusted.delegate")
"""Where systemd notes a delegation (systemd.resource-control(5))."""

UNIT = "agentcmd.service"
"""Our unit, which has `Delegate=yes`; a user manager of 252 does not note that on the folder."""

HOME = "daemon"
"""Where the daemon itself lives: a cgroup with children may have no processes of its own."""

TASK = "task-"
CONTROLLERS = ("memory", "pids")

REMOVE_TIMEOUT = 0.2
"""Seconds to wait for killed processes to leave their cgroups, which then are removed."""


class Cgroups:
    """The daemon's part of the tree: a home for itself, and a cgroup for each task."""

    def __init__(self, root: Path) -> None:
        """Move all that is in `root` into its home, and let the tasks have limits."""
        self.root = root
        self.home = root / HOME
        self.home.mkdir(exist_ok=True)
        for pid in (root / "cgroup.procs").read_text().split():
            _write(self.home / "cgroup.procs", pid)
        self.controllers: frozenset[str] = frozenset()
        for name in CONTROLLERS:
            with contextlib.suppress(OSError):  # not every machine lends every controller
                _write(root / "cgroup.subtree_control", f"+{name}")
                self.controllers |= {name}

    @classmethod
    def delegated(cls) -> Self | None:
        """Take over what is delegated to this process, or give None where nothing is."""
        root = _own_cgroup()
        if root is None or not _is_delegated(root):
            return None
        try:
            return cls(root)
        except OSError as error:
            log.warning("cgroup.unusable", path=str(root), error=str(error))
            return None

    def make(self, name: str, *, memory_bytes: int = 0, processes: int = 0) -> Path:
        """Make a task's cgroup with its limits, 0 for none; OSError where that fails."""
        made = self.root / f"{TASK}{name}"
        made.mkdir()
        try:
            if memory_bytes and "memory" in self.controllers:
                _write(made / "memory.max", str(memory_bytes))
                with contextlib.suppress(OSError):  # a machine without swap
                    _write(made / "memory.swap.max", "0")
            if processes and "pids" in self.controllers:
                _write(made / "pids.max", str(processes))
        except OSError:
            made.rmdir()
            raise
        return made

    def sweep(self) -> None:
        """End what an earlier daemon has left in the cgroups of its tasks."""
        left = [path for path in self.root.glob(f"{TASK}*") if path.is_dir()]
        deadline = time.monotonic() + REMOVE_TIMEOUT
        while (left := [path for path in left if not end(path)]) and time.monotonic() < deadline:
            time.sleep(0.005)
        for path in left:
            log.warning("cgroup.left", path=str(path))


def end(path: Path) -> bool:
    """Kill all that is in a task's cgroup and remove it; False where it is not empty yet."""
    if not path.exists():
        return True
    with contextlib.suppress(OSError):
        _write(path / "cgroup.kill", "1")
    try:
        path.rmdir()
    except OSError:
        return not path.exists()
    return True


def is_task(path: Path) -> bool:
    """Tell whether this is a cgroup that a daemon of ours has made for a task."""
    return path.name.startswith(TASK) and (path / "cgroup.procs").exists()


def _write(path: Path, text: str) -> None:
    """Write to a file that the kernel has made; where there is none, none is made."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _own_cgroup() -> Path | None:
    """Find this process's cgroup of the v2 hierarchy."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    mounted = [line.split()[1] for line in mounts if line.split()[2:3] == ["cgroup2"]]
    if own is None or not mounted:
        return None
    return Path(mounted[-1]) / own  # the last one hides those before


def _is_delegated(root: Path) -> bool:
    """Tell whether the folder says so, or is our own unit's, where a manager cannot say it."""
    if not os.access(root / "cgroup.procs", os.W_OK):
        return False
    if root.name == UNIT and os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid()):
        return True
    for name in DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(root, name) == b"1":
                return True
    return False
