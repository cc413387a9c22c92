"""Lock files of git: who holds one, and none left behind by what was killed here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from daemon.core.errand import Ended
from domains.git.repository import Repository

_LOCKED = re.compile(r"[Uu]nable to create '([^']+\.lock)'")


async def explain_lock(said: str, repository: Repository | None) -> str | None:
    """Say whose lock is in the way, where that is what git complains of.

    A quiet git-stash(1) says nothing at all of the index's.
    """
    if not said and repository is not None:
        lock = Path(repository.git_dir, "index.lock")
        there = await asyncio.to_thread(lock.exists)
        return await asyncio.to_thread(_explain, lock, repository) if there else None
    found = _LOCKED.search(said)
    if found is None or "File exists" not in said:
        return None
    return await asyncio.to_thread(_explain, Path(found[1]), repository)


def _explain(lock: Path, repository: Repository | None) -> str:
    try:
        age = f"{max(0.0, time.time() - lock.stat().st_mtime):.0f} s old"
    except OSError:
        return f"{lock.name} was in the way and is gone now; try again"
    owners = holders(repository) if repository else []
    if owners:
        named = ", ".join(f"{argv} (pid {pid})" for pid, argv in owners[:3])
        return f"another git works in this repository: {named}; {lock.name} is {age}; try again"
    return (
        f"{lock} is {age} and no git runs in this repository: it was left by one that was killed; "
        "operation unlock removes it"
    )


def holders(repository: Repository) -> list[tuple[int, str]]:
    """Find git processes that may hold a lock of a repository: `(pid, command)`, from proc(5).

    One that only looks on our behalf holds none: it runs with GIT_OPTIONAL_LOCKS=0.
    """
    places = (repository.root, repository.git_dir, repository.common_dir)
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            argv = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if not Path(os.fsdecode(argv[0])).name.startswith("git"):
                continue
            cwd = (entry / "cwd").readlink()
            if not any(cwd.is_relative_to(place) for place in places):
                continue
            if b"GIT_OPTIONAL_LOCKS=0" not in (entry / "environ").read_bytes().split(b"\0"):
                found.append((int(entry.name), _said(argv)))
    return found


def _said(argv: list[bytes]) -> str:
    """Name a git and its command: options may be many, and an argument may hold a password."""
    at = 1
    while argv[at : at + 1] in ([b"-c"], [b"-C"]):
        at += 2
    return b" ".join((b"git", *argv[at : at + 1])).decode(errors="replace")[:100]


def lock_files(repository: Repository) -> Iterator[Path]:
    """Yield the lock files that git has in a repository now.

    Not that of a checkpoint's own index: it is taken whoever works there, and is in nobody's way.
    """
    for place in {repository.git_dir, repository.common_dir}:
        yield from (p for p in Path(place).glob("*.lock") if not p.name.startswith("agentcmd-"))
        yield from Path(place, "refs").rglob("*.lock")
    objects = Path(repository.common_dir, "objects")
    yield from (objects / "info").rglob("*.lock")
    yield from (objects / "pack").glob("*.lock")


def _half_written(repository: Repository) -> Iterator[Path]:
    """Yield packs that were being received or written."""
    packs = Path(repository.common_dir, "objects", "pack")
    yield from packs.glob("tmp_*")
    yield from packs.glob(".tmp-*")


@asynccontextmanager
async def leave_no_locks(repository: Repository) -> AsyncIterator[None]:
    """Remove the lock files that came while this was open, where git did not come to its end.

    A git that is asked to stop removes them itself; one that had to be killed cannot.
    """
    began = time.time()
    try:
        yield
    except (Ended, asyncio.CancelledError):
        await asyncio.shield(asyncio.to_thread(remove_left, repository, began))
        raise


def remove_left(repository: Repository, since: float = 0.0) -> list[str]:
    """Remove lock files from a moment on that no process has left; gives their names.

    With them go packs that nobody will write to the end.
    """
    if holders(repository):
        return []
    removed = [
        str(path.relative_to(repository.common_dir))
        for path in lock_files(repository)
        if _removed(path, since)
    ]
    for path in _half_written(repository):
        _removed(path, since)
    return removed


def remove_copies(git_dir: str, since: float) -> None:
    """Remove the copies of the index that a daemon left which has died, made from a moment on."""
    for left in Path(git_dir).glob("agentcmd-*.index*"):
        with contextlib.suppress(OSError):
            if left.stat().st_ctime >= since:  # the other time is that of the index itself
                left.unlink()


def _removed(path: Path, since: float) -> bool:
    with contextlib.suppress(OSError):
        if path.stat().st_mtime >= since - 1:
            path.unlink()
            return True
    return False
