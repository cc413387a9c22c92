"""Checkpoints of a session: what the files were before each turn, kept under private refs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from daemon.core.errors import Conflict, NotFound, TooLarge
from domains.git import snapshots
from domains.git.configuration import Use
from domains.git.desk import Desk, Work
from domains.git.raw_files import settings
from domains.git.snapshots import Restored

PREFIX = "refs/agentcmd/checkpoints"

KEPT = 30 * 86_400.0
"""Seconds that checkpoints are kept; a session that is older is looked at, not restored."""

PATCH_BYTES = 4 << 20
"""Longest patch of a turn that is shown; of a longer one the files are listed only."""

NEW_BYTES = 64 << 20
"""Most that one checkpoint copies into the repository."""

UNDO = "undo"
NOW = "now"
"""Names beside those of turns: before the last restore, and as it is at this moment."""


class ChangedFile(NamedTuple):
    """One file that a turn has changed; lines are not counted in a binary one."""

    path: str
    old_path: str | None
    status: str
    additions: int | None
    deletions: int | None


class Comparison(NamedTuple):
    """What has changed from one snapshot to another; `patch` is None where it is too long."""

    older: str
    newer: str
    files: list[ChangedFile]
    patch: str | None


class Checkpoints:
    """Takes, compares and restores; a name is a turn's number, or one of `UNDO` and `NOW`."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk
        self._pruned: dict[str, float] = {}

    async def take(
        self, project_id: str, root: str | None, session_id: str, name: str
    ) -> str | None:
        """Note what the files are now; gives the commit, None where there is no usable repository.

        It waits for nobody's turn: a snapshot touches nothing that an operation uses.
        """
        work = self._desk.look(project_id, root=root)
        try:
            await self._desk.open(work)
        except (Conflict, NotFound):
            return None
        await _require_little(work)
        await self._prune(work)
        return await snapshots.take(work, _ref(session_id, name), f"{session_id} {name}")

    async def compare(
        self,
        project_id: str,
        root: str | None,
        session_id: str,
        name: str,
        until: str,
        *,
        now: bool = True,
    ) -> Comparison:
        """Tell what has changed from one checkpoint to another, or to now where that is missing.

        Without `now` that is NotFound: the work tree that the checkpoints are of is no more.
        """
        work = self._desk.look(project_id, root=root)
        await self._desk.open(work)
        older = await self._commit(work, session_id, name)
        try:
            newer = await self._commit(work, session_id, until)
        except NotFound:
            if not now:
                raise
            await _require_little(work)
            ref = _ref(session_id, NOW)
            newer = await snapshots.take(work, ref, f"{session_id} {NOW}")
        options = ("--no-ext-diff", "--no-textconv", "--find-renames")
        between = ("--end-of-options", older, newer, "--")
        listed = await work.run("diff", *options, "--raw", "--numstat", "-z", *between)
        patch: str | None = None
        try:
            said = await work.run("diff", *options, *between, limit=PATCH_BYTES)
            patch = said.stdout.decode(errors="replace")
        except TooLarge:
            pass
        return Comparison(older, newer, list(changed_files(listed.stdout)), patch)

    async def restore(
        self, project_id: str, root: str | None, session_id: str, name: str
    ) -> Restored:
        """Make the files what they were; what they are now becomes the checkpoint `UNDO`."""
        async with self._desk.quietly(project_id, root=root, use=Use.LOOKS) as work:
            commit = await self._commit(work, session_id, name)
            return await snapshots.restore(work, commit, None, undo_ref=_ref(session_id, UNDO))

    async def _commit(self, work: Work, session_id: str, name: str) -> str:
        ref = _ref(session_id, name)
        found = await work.run("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", ok=(0, 1))
        if found.code:
            raise NotFound(
                f"there is no checkpoint {name} of the session {session_id}: none was taken, or it "
                "is no longer kept"
            )
        return found.stdout.decode().strip()

    async def _prune(self, work: Work) -> None:
        """Drop old checkpoints, about once a day for each repository."""
        now, place = time.monotonic(), work.repository.common_dir
        if now - self._pruned.get(place, float("-inf")) > 86_400:
            self._pruned[place] = now
            await snapshots.prune(work, f"{PREFIX}/", self._desk.calendar.now() - KEPT)


async def _require_little(work: Work) -> None:
    """Refuse to copy much into the repository: what is large and new had better be ignored."""
    new_or_changed = ("ls-files", "-z", "--others", "--modified", "--exclude-standard")
    new = await work.run(*new_or_changed, ok=(0, 128))
    if new.code:  # a filter fails, or something else does again
        configured = await settings(work.run)
        new = await work.run(*configured.unfiltered(), *new_or_changed)
    size = await asyncio.to_thread(_size, work.root, new.stdout)
    if size > NEW_BYTES:
        raise TooLarge(
            f"new and changed files have {size >> 20} MiB; have git ignore what is no work of yours"
        )


def _size(root: str, listing: bytes) -> int:
    """Add up the sizes of files, given by names that end in NUL."""
    top, size = os.fsencode(root), 0
    for name in set(listing.split(b"\0")):
        with contextlib.suppress(OSError):
            size += os.lstat(os.path.join(top, name)).st_size if name else 0  # noqa: PTH118  # bytes
    return size


def _ref(session_id: str, name: str) -> str:
    return f"{PREFIX}/{session_id}/{name}"


def changed_files(listing: bytes) -> Iterable[ChangedFile]:
    """Read `git diff --raw --numstat -z`: all files by their states, then by their lines."""
    fields = iter(listing.split(b"\0"))
    states: dict[str, tuple[str, str | None]] = {}
    for field in fields:
        if field.startswith(b":"):
            status = field.rpartition(b" ")[2].decode()
            first = _text(next(fields, b""))
            moved = status[0] in "RC"
            states[_text(next(fields, b"")) if moved else first] = (
                WORDS.get(status[0], "modified"),
                first if moved else None,
            )
        elif field:
            added, removed, path = field.split(b"\t", 2)
            if not path:  # the names of a moved file follow by themselves
                next(fields, b"")
                path = next(fields, b"")
            name = _text(path)
            status, old = states.get(name, ("modified", None))
            yield ChangedFile(name, old, status, _count(added), _count(removed))


WORDS = {"A": "added", "D": "deleted", "M": "modified", "R": "renamed", "T": "type_changed"}
"""What git's letters stand for; a copy is told as what it adds."""


def _text(path: bytes) -> str:
    return path.decode(errors="replace")


def _count(number: bytes) -> int | None:
    return None if number == b"-" else int(number)
