"""Puts work aside and takes it up again."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from daemon.core.commands import Caller, handles
from daemon.core.errand import Finished
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from domains.git import arguments
from domains.git.branching import overwritten, required
from domains.git.carrying import resolve
from domains.git.commands.stashing import (
    ApplyStash,
    DropStash,
    PopStash,
    SaveStash,
    StashApplied,
    StashDropped,
    StashSaved,
)
from domains.git.conflicts import LISTED, NAMED, conflicts
from domains.git.desk import Desk, Work
from domains.git.failures import explained
from domains.git.snapshots import in_the_way, shown
from domains.git.staging import FROM_STDIN

MESSAGE_LENGTH = 500
"""Characters of what a stash is listed with: it is one line, and an argument of git."""


class _Found(NamedTuple):
    """One stash: its place on the list, None where it is on it no more, and its commit."""

    place: int | None
    commit: str

    @property
    def name(self) -> str:
        """Give what git calls it."""
        return self.commit if self.place is None else f"stash@{{{self.place}}}"


class Stashing:
    """The stash: a list of work put aside, the newest first."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(SaveStash)
    async def save(self, command: SaveStash, caller: Caller) -> StashSaved:
        """Put work aside."""
        message = _line(command.message) if command.message is not None else None
        stdin = None
        if command.paths is not None:
            stdin = arguments.paths(command.paths)
        args = (
            *("stash", "push", "--quiet"),
            *([f"--message={message}"] if message else []),
            *(["--include-untracked"] if command.include_untracked else []),
            *(["--keep-index"] if command.keep_index else []),
            *(FROM_STDIN if stdin else ()),
        )
        async with self._desk.at_work(command, caller) as git:
            await required(git, "HEAD")
            before = await _listed(git)
            finished = await git.run(*args, stdin=stdin, ok=(0, 1, 128))
            if "needs merge" in finished.stderr or b"needs merge" in finished.stdout:
                raise Conflict("files are in conflict: resolve and stage them, or abort, first")
            if finished.code:
                raise await explained(args, finished, git.repository)
            now = await _listed(git)
            if len(now) == len(before):
                new = "" if command.include_untracked else "; for new files: includeUntracked"
                raise Conflict(f"there are no changes to put aside{new}")
            said = await git.text("log", "-g", "--max-count=1", "--format=%gs", "refs/stash", "--")
            return StashSaved(commit=now[0], message=said)

    @handles(ApplyStash)
    async def apply(self, command: ApplyStash, caller: Caller) -> StashApplied:
        """Take work up, and keep it on the list."""
        async with self._desk.at_work(command, caller) as git:
            found = await _find(git, command.index, command.commit, listed_only=False)
            await _take_up(git, "apply", found, restore_index=command.restore_index)
            return StashApplied(commit=found.commit)

    @handles(PopStash)
    async def pop(self, command: PopStash, caller: Caller) -> StashApplied:
        """Take work up, and from the list."""
        async with self._desk.at_work(command, caller) as git:
            found = await _find(git, command.index, command.commit)
            await _take_up(git, "pop", found, restore_index=command.restore_index)
            return StashApplied(commit=found.commit, dropped=True)

    @handles(DropStash)
    async def drop(self, command: DropStash, caller: Caller) -> StashDropped:
        """Take work from the list."""
        async with self._desk.at_work(command, caller) as git:
            found = await _find(git, command.index, command.commit)
            await git.run("stash", "drop", "--quiet", found.name)
            return StashDropped(commit=found.commit)


def _line(text: str) -> str:
    if not text.strip() or len(text) > MESSAGE_LENGTH or not text.isprintable():
        raise BadRequest(f"the message of a stash is one line of at most {MESSAGE_LENGTH} letters")
    return text.strip()


async def _listed(git: Work) -> list[str]:
    """List the commits of the stash, the newest first."""
    return (await git.text("stash", "list", "--format=%H")).split()


async def _find(
    git: Work, index: int | None, commit: str | None, *, listed_only: bool = True
) -> _Found:
    """Find a stash by its place or its commit; NotFound tells how many there are."""
    if index is not None and commit is not None:
        raise BadRequest("say either index or commit")
    listed = await _listed(git)
    if commit is not None:
        places = [at for at, each in enumerate(listed) if each.startswith(commit)]
        if places:
            return _Found(places[0], listed[places[0]])
        if listed_only or len(commit) < 40:
            raise NotFound(f"{commit} is not on the stash; see git.stash_list")
        return _Found(None, commit)
    place = index or 0
    if place >= len(listed):
        there = f"there are {len(listed)}" if listed else "the stash is empty"
        raise NotFound(f"there is no stash {place}: {there}; see git.stash_list")
    return _Found(place, listed[place])


async def _take_up(git: Work, how: str, found: _Found, *, restore_index: bool) -> None:
    before = await conflicts(git)
    if before:
        raise Conflict(
            f"{before[0].path[:200]} is in conflict: resolve and stage it, or abort, first",
            conflicts=msgspec.to_builtins(before[:LISTED]),
        )
    new = await _new_files(git, found)
    args = ("stash", how, "--quiet", *(["--index"] if restore_index else []), found.name)
    there = [] if git.has_run(*args) else await asyncio.to_thread(in_the_way, git.root, new)
    if there:  # git would take up the rest of it
        names = shown(there)
        raise Conflict(
            f"{names[0][:200]} is there already, and new in the stash: move it away or discard it "
            "first",
            paths=names[:LISTED],
        )
    finished = await git.run(*args, ok=(0, 1, 128))
    if finished.code:
        error = await _refused(git, args, finished)
        if "conflicts" not in error.details:
            await asyncio.to_thread(_take_away, git.root, new)
        raise error


async def _new_files(git: Work, found: _Found) -> list[bytes]:
    """List the untracked files that a stash holds: its third parent has them."""
    (untracked,) = await resolve(git, [f"{found.commit}^3"])
    if untracked is None:
        return []
    said = await git.run("ls-tree", "-r", "-z", "--name-only", untracked)
    return said.stdout.removesuffix(b"\0").split(b"\0")


def _take_away(root: str, new: list[bytes]) -> None:
    """Delete files that git has brought although it refused the rest, and their folders."""
    for path in new:
        if in_the_way(root, [path]) == [path]:  # so no link leads there
            place = Path(root, os.fsdecode(path))
            with contextlib.suppress(OSError):  # a folder that is not empty is somebody's
                place.unlink()
                for folder in place.relative_to(root).parents[:-1]:
                    Path(root, folder).rmdir()


async def _refused(git: Work, args: tuple[str, ...], finished: Finished) -> AgentcmdError:
    """Say why it was not taken up; git keeps it on the list then."""
    said = f"{finished.stderr}\n{finished.stdout.decode(errors='replace')}"
    found = await conflicts(git)
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        named = ", ".join(each.path[:200] for each in found[:NAMED]) + more
        return Conflict(
            f"the work is taken up, with conflicts in {named}: resolve and stage them; it is "
            "still on the stash, drop it then",
            conflicts=msgspec.to_builtins(found[:LISTED]),
            conflictCount=len(found),
        )
    lost = overwritten(said)
    if lost is not None:
        return lost
    if "without --index" in said:
        return Conflict("what was staged then does not fit any more: leave restoreIndex out")
    if "stash-like" in said:
        return NotFound("that commit is no stash, or is gone by now; see git.stash_list")
    return await explained(args, finished, git.repository)
