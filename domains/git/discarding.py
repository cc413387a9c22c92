"""Throws changes away so that they can be had back for a while."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence

from daemon.core.commands import Caller, handles
from daemon.core.errors import Conflict, NotFound
from domains.git import snapshots
from domains.git.arguments import revision
from domains.git.carrying import resolve
from domains.git.commands.staging import (
    Discard,
    Discarded,
    DiscardedWork,
    DiscardedWorks,
    DiscardRestored,
    ListDiscarded,
    Reset,
    RestoreDiscarded,
    WasReset,
)
from domains.git.desk import Desk, Work
from domains.git.differences import SUBMODULE, Change, changes, without_note
from domains.git.once import DISCARDED
from domains.git.snapshots import Below
from domains.git.staging import chosen
from domains.git.submodules import check_out

KEPT = 30 * 24 * 3600.0
"""Seconds for which it can be had back."""

NAMED = 20
"""Files of one entry that a list names."""

_ADDED = b"A"
_UNMERGED = b"U"


class Discarding:
    """What takes changes out of the work tree, and brings them back."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(Discard)
    async def discard(self, command: Discard, caller: Caller) -> Discarded:
        """Make files like the index again, and delete untracked ones where that is asked for."""
        chosen(command.paths, everything=command.all)
        async with self._desk.at_work(command, caller) as git:
            wanted = await _unstaged(git, command.paths)
            if command.untracked:
                wanted += await _untracked(git, command.paths)
            if not wanted:
                untracked = "" if command.untracked else "; for new files say untracked: true"
                raise Conflict(f"there is nothing to discard there{untracked}")
            id_ = await snapshots.name_for(git)
            links = [each for each in wanted if each.mode == SUBMODULE]
            files = [each for each in wanted if each.mode != SUBMODULE]
            async with snapshots.kept(git, DISCARDED + id_, _message(git)) as lost:
                await _follow(git, links)  # first: it may be refused
                await lost.write(files)
            await _refresh(git)
            await snapshots.prune(git, DISCARDED, self._desk.calendar.now() - KEPT)
            paths = [each.path for each in lost.changes]
            return Discarded(discard_id=id_, paths=snapshots.shown(paths), count=len(paths))

    @handles(RestoreDiscarded)
    async def restore(self, command: RestoreDiscarded, caller: Caller) -> DiscardRestored:
        """Bring back what one discard has thrown away."""
        if command.paths is not None:
            chosen(command.paths, everything=False)
        async with self._desk.at_work(command, caller) as git:
            ref = DISCARDED + command.discard_id
            (commit,) = await resolve(git, [ref])
            if commit is None:
                raise NotFound(
                    f"nothing is kept as {command.discard_id}: see git.discard_list; it is kept "
                    f"for {KEPT / 86400:.0f} days"
                )
            undo = await snapshots.name_for(git)
            restored = await snapshots.restore(
                git,
                commit,
                command.paths,
                what_it_changed=True,
                undo_ref=DISCARDED + undo,
                message=_message(git),
            )
            links = await _links_of(git, commit, command.paths)
            await _follow(git, links)
            await _refresh(git)
            return DiscardRestored(
                written=[*restored.written, *snapshots.shown([each.path for each in links])],
                removed=restored.removed,
                written_count=restored.written_count + len(links),
                removed_count=restored.removed_count,
                discard_id=undo if restored.undo else None,
            )

    @handles(ListDiscarded)
    async def list(self, command: ListDiscarded, caller: Caller) -> DiscardedWorks:
        """List what was discarded in this work tree."""
        async with self._desk.at_work(command, caller) as git:
            said = await git.run(
                "for-each-ref",
                "--sort=-committerdate",
                "--sort=-refname",
                "--format=%(refname)%00%(objectname)%00%(committerdate:unix)%00"
                "%(contents:subject)%00%(contents:body)%00",
                DISCARDED,
            )
            found = await asyncio.to_thread(_kept, said.stdout, git.root)
            shown = found[: command.limit]
            lists = await _lost(git, [each.commit for each in shown])
            return DiscardedWorks(
                discarded=[
                    DiscardedWork(
                        discard_id=each.discard_id,
                        operation=each.operation,
                        at=each.at,
                        commit=each.commit,
                        paths=snapshots.shown(lists.get(each.commit, [])[:NAMED]),
                        count=len(lists.get(each.commit, [])),
                    )
                    for each in shown
                ],
                truncated=len(found) > len(shown),
            )

    @handles(Reset)
    async def reset(self, command: Reset, caller: Caller) -> WasReset:
        """Move the branch; what a hard reset loses is kept as if it were discarded."""
        wanted = revision(command.revision)
        async with self._desk.at_work(command, caller) as git:
            before, commit = await resolve(git, ["HEAD", wanted])
            if before is None:
                raise Conflict("there is no commit yet: there is nothing to reset to")
            if commit is None:
                raise NotFound(f"there is no commit {wanted[:80]!r}; look at branches and the log")
            args = ("reset", "--quiet", "--no-recurse-submodules", f"--{command.mode}", commit)
            if command.mode == "keep":
                await _refresh(git)  # it takes a file with another time for changed
            if command.mode != "hard":
                await git.run(*args)
                return WasReset(commit=commit, before=before)
            id_ = await snapshots.name_for(git)
            async with snapshots.kept(git, DISCARDED + id_, _message(git)) as lost:
                await git.run(*args)
            await snapshots.prune(git, DISCARDED, self._desk.calendar.now() - KEPT)
            return WasReset(commit=commit, before=before, discard_id=id_ if lost.commit else None)


def _message(git: Work) -> str:
    """Note what throws it away, and in which of the repository's work trees."""
    return f"{git.name}\n\n{git.root}\n"


async def _refresh(git: Work) -> None:
    """Have the index know the files' times, as a look at the status cannot."""
    await git.run("update-index", "-q", "--refresh", ok=(0, 1, 128))


async def _follow(git: Work, links: Sequence[Change]) -> None:
    """Check out these commits in submodules; the ones that were there stay in their reflogs."""
    for each in links:
        await check_out(git, os.fsdecode(each.path), each.object_id.decode())


async def _links_of(git: Work, commit: str, paths: Sequence[str] | None) -> list[Change]:
    """List the submodules of which something was kept."""
    wanted = Below(paths) if paths is not None else None
    return [
        each
        for each in await changes(git, f"{commit}^", commit)
        if each.mode == SUBMODULE and (wanted is None or each.path in wanted)
    ]


async def _unstaged(git: Work, paths: Sequence[str] | None) -> list[Change]:
    """List how tracked files would be written as the index has them; Conflict for unmerged ones."""
    said = await git.run(
        *("diff", "--raw", "-z", "--no-renames", "--no-abbrev", "--ignore-submodules=dirty"),
        *("--no-ext-diff", "--no-textconv"),
    )
    return await asyncio.to_thread(_as_in_index, said.stdout, paths)


def _as_in_index(output: bytes, paths: Sequence[str] | None) -> list[Change]:
    """Read `git diff --raw -z`: what is old there is what the index has."""
    wanted = Below(paths) if paths is not None else None
    fields = output.split(b"\0")
    found, unmerged = [], []
    for said, path in zip(fields[0::2], fields[1::2], strict=False):
        if wanted is not None and path not in wanted:
            continue
        mode, was, object_id, _, status = said.removeprefix(b":").split(b" ")
        if status == _UNMERGED:
            unmerged.append(path)
        elif status != _ADDED:  # of a file that is only announced the index has nothing
            found.append(Change(path, was, mode, object_id))
    if unmerged and wanted is not None:
        named = b", ".join(unmerged[:3]).decode(errors="replace")[:300]
        raise Conflict(
            f"{named} is in conflict: resolve and stage it, or abort what is under way",
            paths=snapshots.shown(unmerged),
        )
    clashing = set(unmerged)
    return [each for each in found if each.path not in clashing]


async def _untracked(git: Work, paths: Sequence[str] | None) -> list[Change]:
    """List untracked files as to be removed; a repository inside this one is none."""
    said = await git.run("ls-files", "-z", "--others", "--exclude-standard")
    wanted = Below(paths) if paths is not None else None
    return [
        Change.removal(path)
        for path in said.stdout.split(b"\0")
        if path and not path.endswith(b"/") and (wanted is None or path in wanted)
    ]


def _kept(output: bytes, root: str) -> list[DiscardedWork]:
    """Read the refs of what was discarded in one work tree."""
    fields = output.decode(errors="replace").split("\0")
    found = []
    for at in range(0, len(fields) - 4, 5):
        ref, commit, when, operation, body = fields[at : at + 5]
        if without_note(body) == root:
            found.append(
                DiscardedWork(
                    discard_id=ref.strip("\n").removeprefix(DISCARDED),
                    operation=operation,
                    at=int(when),
                    commit=commit,
                    paths=[],
                    count=0,
                )
            )
    return found


async def _lost(git: Work, commits: Sequence[str]) -> dict[str, list[bytes]]:
    """List the files of each: where it differs from its parent."""
    if not commits:
        return {}
    said = await git.run(
        *("diff-tree", "--stdin", "-r", "-z", "--raw", "--no-renames", "--root"),
        *("--no-ext-diff", "--no-textconv", "--diff-merges=first-parent"),
        stdin="".join(f"{commit}\n" for commit in commits).encode(),
    )
    found: dict[str, list[bytes]] = {}
    fields = iter(said.stdout.split(b"\0"))
    for commit, path in _pairs(fields):
        found.setdefault(commit, []).append(path)
    return found


def _pairs(fields: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Read a commit's id, then `:MODES IDS STATUS` and a path for each of its files."""
    commit = ""
    for field in fields:
        if field.startswith(b":"):
            yield commit, next(fields, b"")
        elif field:
            commit = field.decode().strip()
