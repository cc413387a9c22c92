"""FIFOs and devices in the place of files that git reads: opening one may wait for ever.

What is known to be read is looked at before git changes anything. Files of these names may lie in
any folder, and others are named by configuration: a git that waits for the other end of a FIFO is
found by what it sleeps in (proc(5)), and ended.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from daemon.core.errors import Conflict
from domains.git.repository import Repository

RULES = (".gitattributes", ".gitignore")
"""What git reads in each folder of a work tree."""

TOP = (*RULES, ".gitmodules", ".lfsconfig", ".mailmap")
"""What it reads at the top."""

FOLDERS = ("", "info", "rebase-apply", "rebase-merge", "sequencer")
"""Folders of a git dir in which any file may be read."""

LOOKED_AFTER = 5.0
"""Seconds between two looks at a git that changes something, whether it waits for a FIFO."""

WALKED = 200_000
"""Folders in which a FIFO is looked for that git waits for."""

_WAITS = frozenset({"wait_for_partner", "fifo_open"})
"""Where Linux has a process sleep that opens a FIFO which nobody else has open."""

_SESSION = 3
"""Field of /proc/<pid>/stat, counted from the state."""


def require_openable(repository: Repository) -> None:
    """Raise Conflict for what git would wait for, in the places that it always reads."""
    for path in chain(_at_top(repository), _in_git_dir(repository)):
        raise Conflict(f"git cannot read {_shown(path, repository)}: {_REMEDY}")


def waited_for(leader: int, repository: Repository) -> str:
    """Return why a git of this session does not go on, where it waits for a FIFO; else nothing."""
    if not any(_waits(pid) for pid in _gits(leader)):
        return ""
    found = chain(_at_top(repository), _in_git_dir(repository), _deeper(repository))
    path = next(found, None)
    shown = "a file that its configuration names" if path is None else _shown(path, repository)
    return f"git waits for {shown}: {_REMEDY}"


_REMEDY = (
    "a FIFO, a socket or a device is in its place, which may keep git waiting for ever; put a file "
    "there, or remove it"
)


def _shown(path: str, repository: Repository) -> str:
    shown = os.path.relpath(path, repository.root)
    return os.fsencode(path if shown.startswith("..") else shown).decode(errors="replace")


def _at_top(repository: Repository) -> Iterator[str]:
    """Yield what is no file at the top of the work tree; git follows no symlinks there."""
    for name in TOP:
        path = f"{repository.root}/{name}"
        with contextlib.suppress(OSError):
            mode = os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                yield path


def _in_git_dir(repository: Repository) -> Iterator[str]:
    for place in dict.fromkeys((repository.git_dir, repository.common_dir)):
        for folder in FOLDERS:
            with contextlib.suppress(OSError), os.scandir(f"{place}/{folder}") as entries:
                yield from (entry.path for entry in entries if _blocks(entry))


def _blocks(entry: os.DirEntry[str]) -> bool:
    """Return whether it is, or leads to, a FIFO or a device; the socket there is of fsmonitor."""
    if entry.is_file(follow_symlinks=False) or entry.is_dir():
        return False
    with contextlib.suppress(OSError):
        found = entry.stat()
        if stat.S_ISCHR(found.st_mode):
            return found.st_rdev != os.stat(os.devnull).st_rdev  # noqa: PTH116
        return stat.S_ISFIFO(found.st_mode) or stat.S_ISBLK(found.st_mode)
    return False


def _deeper(repository: Repository) -> Iterator[str]:
    """Yield FIFOs that have the name of rules in a work tree, or are anywhere in a git dir."""
    for place in dict.fromkeys((repository.git_dir, repository.common_dir, repository.root)):
        in_tree = place == repository.root
        skipped = (".git",) if in_tree else ("objects", "hooks")
        walk = os.walk(place)
        for _, (folder, folders, files) in zip(range(WALKED), walk, strict=False):
            for name in files:
                path = f"{folder}/{name}"
                with contextlib.suppress(OSError):
                    is_read = name in RULES or not in_tree
                    if is_read and stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116
                        yield path
            folders[:] = [name for name in folders if name not in skipped]


def _gits(leader: int) -> Iterator[int]:
    """Yield the git processes of a session; none where there is no /proc."""
    with contextlib.suppress(OSError), os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, ValueError, IndexError):
                said = Path(entry.path, "stat").read_text(errors="replace")
                name, _, rest = said.partition("(")[2].rpartition(") ")
                if name.startswith("git") and int(rest.split()[_SESSION]) == leader:
                    yield int(entry.name)


def _waits(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/wchan").read_text() in _WAITS
    return False
