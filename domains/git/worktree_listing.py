"""Which work trees a repository has, as git lists them, and who works in one."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from domains.git.desk import Work

LISTED = 10_000
"""Work trees that are read of a list; a folder from somewhere may claim any number."""


class Listed(NamedTuple):
    """One work tree; the first of a list is the main one.

    `locked` is the reason, empty where none was given, None where it is not. `prunable` says why
    it may be forgotten.
    """

    path: str
    head: str | None = None
    branch: str | None = None
    locked: str | None = None
    prunable: str | None = None


async def listed(git: Work) -> list[Listed]:
    """List the work trees of a repository."""
    finished = await git.run("worktree", "list", "--porcelain", "-z", ok=(0, 129))
    if finished.code:  # before git 2.36, where a newline in a name cannot be told
        finished = await git.run("worktree", "list", "--porcelain")
        return await asyncio.to_thread(parse_worktrees, finished.stdout, b"\n")
    return await asyncio.to_thread(parse_worktrees, finished.stdout)


def parse_worktrees(output: bytes, end: bytes = b"\0") -> list[Listed]:
    """Read `git worktree list --porcelain -z`: lines of one work tree, then an empty one."""
    found = []
    for block in output.split(end + end, LISTED)[:LISTED]:
        lines = block.strip(end).split(end)
        said = {name: value for name, _, value in (line.partition(b" ") for line in lines)}
        if b"worktree" not in said:
            continue
        head = said.get(b"HEAD", b"").decode()
        branch = said.get(b"branch")
        found.append(
            Listed(
                path=os.fsdecode(said[b"worktree"]),
                head=head if head.strip("0") else None,
                branch=_text(branch.removeprefix(b"refs/heads/")) if branch else None,
                locked=_text(said[b"locked"]) if b"locked" in said else None,
                prunable=_text(said[b"prunable"]) if b"prunable" in said else None,
            )
        )
    return found


def inside(path: str) -> list[str]:
    """Name the processes that work in a folder, from proc(5)."""
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc/self").exists() else ():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(path):
                name = (entry / "comm").read_text(errors="replace").strip()
                found.append(f"{name} (pid {entry.name})")
    return found


def shown(path: str) -> str:
    """Give a path as it can be told: bytes that are no UTF-8 stand as U+FFFD."""
    return os.fsencode(path).decode(errors="replace")


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
