"""Merges, rebases, picks and reverts; stops at conflicts, and goes on or back from there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from daemon.core.commands import Caller, handles
from daemon.core.errand import Finished
from daemon.core.errors import BadRequest, Conflict
from domains.git.arguments import branch_name, revision
from domains.git.carrying import (
    begin,
    carry,
    count,
    head_of,
    squashing,
    stopped_at,
    undone,
)
from domains.git.commands.combining import (
    Abort,
    Aborted,
    CherryPick,
    Combined,
    Continue,
    Merge,
    Rebase,
    Revert,
    Skip,
)
from domains.git.conflicts import conflicts
from domains.git.desk import Desk, Work
from domains.git.messages import FROM_INPUT, keep_end, message_bytes, prepared
from domains.git.once import STOPPED
from domains.git.skipped import COMMIT, MERGE, PICK, REBASE, skipped
from domains.git.standing import stopped_commit, under_way


class Combining:
    """What brings histories together."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(Merge)
    async def merge(self, command: Merge, caller: Caller) -> Combined:
        """Merge a revision into the current branch."""
        named = revision(command.revision)
        said = _message(command.message)
        if command.squash and (command.ff == "never" or said):
            raise BadRequest(
                "a squashed merge makes no commit: leave out ff and message, and commit it after"
            )
        ff = {"auto": "--ff", "only": "--ff-only", "never": "--no-ff"}[command.ff]
        options = [ff, "--squash" if command.squash else "--no-squash"]
        options += ["--no-edit", "--no-stat", "--no-autostash", "--progress"]
        options += ["-m", said[:-1].decode()] if said else []
        async with self._desk.at_work(command, caller) as git:
            before, (target,) = await begin(git, [named])
            async with undone(git, before):
                await carry(git, "merge", "merge", *options, "--end-of-options", named)
            done = await _combined(git, before)
            if command.squash:
                taken = await count(git, target, before)
                return replace(done, commits=taken, up_to_date=not taken, staged=taken > 0)
            done = replace(
                done,
                up_to_date=done.head == before,
                fast_forward=done.head == target != before,
            )
            return await _told(git, done, MERGE)

    @handles(Rebase)
    async def rebase(self, command: Rebase, caller: Caller) -> Combined:
        """Make the commits of a branch anew on another revision."""
        named = revision(command.onto)
        branch = branch_name(command.branch) if command.branch is not None else None
        async with self._desk.at_work(command, caller) as git:
            heads = [f"refs/heads/{branch}"] if branch else []
            before, (onto, *tips) = await begin(git, [named, *heads])
            if before is None:
                raise Conflict("there is no commit yet to rebase")
            autostash = "--autostash" if command.autostash else "--no-autostash"
            args = ["--no-stat", "--no-fork-point", autostash, onto, *([branch] if branch else [])]
            async with undone(git, before):
                finished = await carry(git, "rebase", "rebase", *args)
            return await _told(
                git, await _rebased(git, finished, onto, *(tips or [before])), REBASE
            )

    @handles(CherryPick)
    async def cherry_pick(self, command: CherryPick, caller: Caller) -> Combined:
        """Make commits anew on the current branch."""
        return await self._sequence(command, caller, "cherry-pick")

    @handles(Revert)
    async def revert(self, command: Revert, caller: Caller) -> Combined:
        """Undo commits by new ones."""
        return await self._sequence(command, caller, "revert", "--no-edit")

    async def _sequence(
        self, command: CherryPick | Revert, caller: Caller, verb: str, *options: str
    ) -> Combined:
        named = [revision(each) for each in command.revisions]
        async with self._desk.at_work(command, caller) as git:
            before, commits = await begin(git, named)
            await _check_parents(git, commits, command.mainline)
            if command.mainline is not None:
                options = (*options, f"--mainline={command.mainline}")
            async with undone(git, before):
                await carry(git, verb, verb, *options, *commits)
            return await _told(git, await _combined(git, before), PICK)

    @handles(Continue)
    async def continue_(self, command: Continue, caller: Caller) -> Combined:
        """Go on with what is under way."""
        said = _message(command.message)
        async with self._desk.at_work(command, caller) as git:
            what = await _required(git, "continue")
            if said and what != "merge":
                raise BadRequest(f"message is for a merge; a {what} is under way")
            found = await conflicts(git)
            if found:
                raise await stopped_at(git, what, found)
            if what == "merge":
                before = await head_of(git)
                await _commit(git, what, said)
                return await _told(git, await _combined(git, before), MERGE)
            return await _told(git, await _go_on(git, what, "--continue"), _hooks(what))

    @handles(Skip)
    async def skip(self, command: Skip, caller: Caller) -> Combined:
        """Leave out the commit that it has stopped at."""
        async with self._desk.at_work(command, caller) as git:
            what = await _required(git, "skip")
            if what == "merge":
                raise Conflict("a merge has nothing to skip: resolve it, or run operation abort")
            return await _told(git, await _go_on(git, what, "--skip"), _hooks(what))

    @handles(Abort)
    async def abort(self, command: Abort, caller: Caller) -> Aborted:
        """Give up what is under way."""
        async with self._desk.at_work(command, caller) as git:
            what = await _under_way(git)
            if what is None:
                squashes = await git.observed("a squash", lambda: _word(squashing(git)))
                if not squashes or not await conflicts(git):
                    raise Conflict("nothing is under way: there is nothing to abort")
                await git.run("reset", "--merge")
                return Aborted(aborted="merge", head=await head_of(git))
            await git.run(*(("bisect", "reset") if what == "bisect" else (what, "--abort")))
            return Aborted(aborted=what, head=await head_of(git))


async def _required(git: Work, verb: str) -> str:
    """Tell what is under way; Conflict where nothing is that one could go on with."""
    what = await _under_way(git)
    if what is None:
        raise Conflict(f"nothing is under way: there is nothing to {verb}")
    if what == "bisect":
        raise Conflict("a bisect is under way, which goes on by 'git bisect'; or run abort")
    return what


async def _under_way(git: Work) -> str | None:
    """Return what was unfinished when the operation began, also after a restart of the daemon."""
    found = await git.observed("under way", lambda: under_way(git.repository.git_dir) or "")
    return found or None


def _word(said: bool) -> str:
    return "yes" if said else ""


async def _check_parents(git: Work, commits: Sequence[str], mainline: int | None) -> None:
    """Refuse before anything is changed what git would refuse half-way."""
    listed = await git.text("rev-list", "--no-walk=unsorted", "--parents", *commits)
    for line in listed.splitlines():
        commit, *parents = line.split()
        if mainline is None and len(parents) > 1:
            raise BadRequest(
                f"{commit[:12]} is a merge: say by mainline which parent it is against"
            )
        if mainline is not None and not 1 < len(parents) >= mainline:
            raise BadRequest(f"{commit[:12]} has no parent {mainline} of a merge; see mainline")


async def _go_on(git: Work, what: str, how: str) -> Combined:
    before = await head_of(git)
    found = await git.observed("a rebase", lambda: "\n".join(_rebasing(git.repository.git_dir)))
    onto, tip = found.split("\n")
    at_one = await git.observed(STOPPED, lambda: stopped_commit(git.repository.git_dir, what))
    if how == "--continue" and what != "rebase" and at_one:
        await _commit(git, what)  # git's own way reads its message for comments
        if await asyncio.to_thread(under_way, git.repository.git_dir) is None:
            return await _combined(git, before)
    if how == "--continue" and what == "rebase":
        await keep_end(git)
    finished = await carry(git, what, what, how)
    if what == "rebase" and onto and tip:
        return await _rebased(git, finished, onto, tip)
    return await _combined(git, before)


async def _commit(git: Work, what: str, message: bytes = b"") -> None:
    """Commit what was in conflict, with the message that it has."""
    said = message or await prepared(git)
    words = FROM_INPUT if said else ("--no-edit", "--cleanup=strip")
    await carry(git, what, "commit", "--quiet", *words, stdin=said or None)


def _rebasing(git_dir: str) -> tuple[str, str]:
    """Read what a rebase goes onto, and what it began from."""
    for folder in ("rebase-merge", "rebase-apply"):
        with contextlib.suppress(OSError):
            place = Path(git_dir) / folder
            return (place / "onto").read_text().strip(), (place / "orig-head").read_text().strip()
    return "", ""


async def _rebased(git: Work, finished: Finished, onto: str, before: str) -> Combined:
    done = await _combined(git, onto)
    said = finished.stderr + finished.stdout.decode(errors="replace")
    same = done.head == before
    return replace(
        done,
        commits=0 if same else done.commits,
        up_to_date=same,
        fast_forward=done.head == onto != before and await count(git, before, onto) == 0,
        stashed="Your changes are safe in the stash" in said,
    )


def _hooks(what: str) -> Sequence[str]:
    return REBASE if what == "rebase" else COMMIT


async def _told(git: Work, done: Combined, hooks: Sequence[str]) -> Combined:
    """Say what was left out of it without trust."""
    if done.up_to_date:
        return done
    made = done.commits > 0 and not done.fast_forward
    if not made and hooks is MERGE:
        hooks = ("post-merge",)
    left = await skipped(git, hooks, "commit.gpgSign" if made else "")
    return replace(done, hooks_skipped=left.hooks, signature_skipped=left.signature)


async def _combined(git: Work, since: str | None) -> Combined:
    """Say where the head is now, and how many commits it has that were not there before."""
    found = await git.text("rev-parse", "HEAD", "--symbolic-full-name", "HEAD")
    head, _, name = found.partition("\n")
    branch = name.removeprefix("refs/heads/") if name != "HEAD" else None
    return Combined(head=head, branch=branch, commits=await count(git, head, since))


def _message(text: str | None) -> bytes:
    """Return a message as it goes to git's input; empty where there is none."""
    return message_bytes(text) if text is not None and text.strip() else b""
