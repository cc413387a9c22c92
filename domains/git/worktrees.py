"""Adds work trees in the daemon's own folder, and removes those in which nothing would be lost."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import structlog

from daemon.core.commands import Caller, handles
from daemon.core.errand import Ended
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from domains.git.arguments import branch_name, revision
from domains.git.carrying import ANY, resolve
from domains.git.commands.worktrees import (
    AddWorktree,
    ListWorktrees,
    ManyWorktrees,
    RemoveWorktree,
    Worktree,
    WorktreeMade,
    WorktreeRemoved,
)
from domains.git.desk import Desk, Work
from domains.git.failures import after_checkout, explained
from domains.git.repository import look_up
from domains.git.skipped import skipped
from domains.git.standing import under_way
from domains.git.submodules import Filled, fill, only_here
from domains.git.worktree_listing import Listed, inside, listed, shown

log = structlog.get_logger(__name__)


PATIENCE = 2.0
"""Seconds that processes have to leave the work tree of a session that has ended."""

LOOK_AGAIN = 0.1
"""Seconds between two looks whether they have."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,99}")
"""One segment of a path, whoever asks for it."""

CLEAN = (
    *("status", "--porcelain=v2", "-z", "--untracked-files=normal"),
    *("--no-renames", "--ignore-submodules=none"),
)


class Worktrees:
    """The work trees of projects; sessions have theirs by `add_for` and `remove_unneeded`."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(ListWorktrees)
    async def list(self, command: ListWorktrees, caller: Caller) -> ManyWorktrees:
        """List work trees."""
        async with self._desk.at_work(command, caller) as git:
            found = await listed(git)
            page = found[command.offset : command.offset + command.limit]
            answers = [
                await self._told(git, each, found[0], details=command.details) for each in page
            ]
            return ManyWorktrees(worktrees=answers, total=len(found))

    @handles(AddWorktree)
    async def add(self, command: AddWorktree, caller: Caller) -> WorktreeMade:
        """Add a work tree."""
        branch = branch_name(command.name if command.branch is None else command.branch)
        start = revision(command.start) if command.start is not None else None
        async with self._desk.at_work(command, caller) as git:
            path, new, warnings = await self._add(git, command.name, branch, start)
            filled = Filled([], [])
            if command.recurse:
                filled = await self._fill(git, caller, path, branch if new else None)
            found = await listed(git)
            made = next((each for each in found if each.path == path), None)
            if made is None:
                raise Conflict("the worktree was removed again meanwhile")
            left = await skipped(git, ("post-checkout",))
            return WorktreeMade(
                worktree=await self._told(git, made, found[0], details=False),
                new=new,
                submodules=len(filled.submodules),
                warnings=[*warnings, *filled.warnings],
                hooks_skipped=left.hooks,
            )

    @handles(RemoveWorktree)
    async def remove(self, command: RemoveWorktree, caller: Caller) -> WorktreeRemoved:
        """Remove a work tree."""
        if (command.name is None) == (command.path is None):
            raise BadRequest("say which worktree: by name, or by path as operation worktree_list")
        async with self._desk.at_work(command, caller) as git:
            found = await listed(git)
            path = command.path or str(self._place(git.project_id) / str(command.name))
            entry = next((each for each in found if shown(each.path) == path), None)
            if entry is None:
                raise NotFound(f"there is no worktree {path[:200]!r}; see operation worktree_list")
            if entry is found[0] or entry.path == git.root:
                raise Conflict("that is the project's or the repository's own work tree: it stays")
            used = await _used(entry.path)
            if used:
                raise Conflict(f"the worktree stays: {used}; end that first", path=path)
            half = Path(entry.path).parent == self._place(git.project_id) and command.force
            if not half or await asyncio.to_thread(Path(entry.path, ".git").exists):
                await _require_own(git, entry)
            if not command.force:
                why = _locked(entry) or await self._needed(git, entry, found[0])
                if why:
                    raise Conflict(f"the worktree stays: {why}; or force it", path=path)
            await _remove(git, entry, force=command.force)
            kept = None
            if command.delete_branch and entry.branch:
                kept = await _delete_branch(git, entry.branch)
            return WorktreeRemoved(
                path=path,
                branch=entry.branch,
                branch_deleted=bool(command.delete_branch and entry.branch and kept is None),
                kept=kept,
            )

    async def branch_for(self, project_id: str, branch: str) -> None:
        """Make a branch where the project is, and switch to it with all changes; told to nobody."""
        async with self._desk.quietly(project_id) as git:
            await git.run("switch", "--create", branch_name(branch))

    async def add_for(
        self, project_id: str, name: str, branch: str, start: str | None
    ) -> tuple[str, str]:
        """Make a branch and a work tree with it, told to nobody: `(path, branch)`.

        A branch that is there already, and nowhere checked out, is taken up again.
        """
        if start is not None:
            revision(start)
        async with self._desk.quietly(project_id) as git:
            path, _, _ = await self._add(git, name, branch_name(branch), start)
            return path, branch

    async def remove_unneeded(self, project_id: str, path: str, branch: str) -> str | None:
        """Remove a work tree and its branch where nothing would be lost; else say why it stays."""
        try:
            await _used(path, PATIENCE)  # what was told to end may be about to
            async with self._desk.quietly(project_id) as git:
                return await self._remove_unneeded(git, path, branch)
        except AgentcmdError as error:
            return error.message

    async def _remove_unneeded(self, git: Work, path: str, branch: str) -> str | None:
        found = await listed(git)
        entry = next((each for each in found if each.path == path), None)
        if entry is not None:
            if entry is found[0] or entry.path == git.root:
                return "it is the repository's own work tree"
            why = _locked(entry) or await _used(entry.path)
            why = why or await self._needed(git, entry, found[0])
            if why:
                return why
            await _remove(git, entry, force=False)
        elif await asyncio.to_thread(Path(path).exists):
            return "it is no worktree of this repository any more"
        (tip,) = await resolve(git, [f"refs/heads/{branch}"])
        if tip and await _merged(git, tip, branch, found[0]):
            kept = await _delete_branch(git, branch)
            if kept:
                log.info("git.branch_kept", project=git.project_id, why=kept)
        return None

    async def _add(
        self, git: Work, name: str, branch: str, start: str | None
    ) -> tuple[str, bool, Sequence[str]]:
        """Add one; gives its path, whether the branch is new, and what failed after it."""
        if not NAME.fullmatch(name):
            raise BadRequest("a worktree's name is letters, digits and ._-, the first no sign")
        path = self._place(git.project_id) / name
        if any(each.path == str(path) for each in await listed(git)):
            raise Conflict(f"there is a worktree {name} already; choose another name, or remove it")
        known, origin = await resolve(git, [f"refs/heads/{branch}", start or "HEAD"])
        if known and start is not None:
            raise Conflict(f"there is a branch {branch} already; leave out start to work on it")
        if not known and origin is None:
            if start is None:
                raise Conflict("there is no commit yet that a branch could begin at; commit first")
            raise NotFound(f"there is no commit {start[:80]!r}; look at branches, tags and the log")
        what = [branch] if known else [start or "HEAD"]
        named = [] if known else ["-b", branch]
        adding = ("worktree", "add", "--quiet", *named, "--end-of-options", str(path), *what)
        if not git.has_run(*adding) and await asyncio.to_thread(path.exists):
            raise Conflict(f"the folder {path} is in the way; choose another name")
        await asyncio.to_thread(path.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            finished = await git.run(*adding, ok=ANY)
            warnings = after_checkout(finished)
            if finished.code and not (warnings and await _whole(git, str(path), branch)):
                raise await explained(adding, finished, git.repository)
        except AgentcmdError:
            with git.taking_back():
                await _undo_add(git, path, None if known else branch)
            raise
        return str(path), not known, warnings

    async def _fill(self, git: Work, caller: Caller, path: str, branch: str | None) -> Filled:
        """Fill the submodules of a new work tree, which is taken away again where that fails."""
        try:
            return await fill(self._desk, git, caller, folder=path)
        except AgentcmdError:
            with git.taking_back():
                await _undo_add(git, Path(path), branch)
            raise

    def _place(self, project_id: str) -> Path:
        return self._desk.worktrees / project_id

    async def _told(self, git: Work, entry: Listed, main: Listed, *, details: bool) -> Worktree:
        clean = merged = None
        processes: list[str] = []
        if details:
            processes = await asyncio.to_thread(inside, entry.path)
            if entry.prunable is None:
                with contextlib.suppress(AgentcmdError):
                    clean = await self._dirt(git, entry) is None
            merged = entry is main or await _merged(git, entry.head, entry.branch, main)
        path = Path(entry.path)
        return Worktree(
            path=shown(entry.path),
            name=shown(path.name) if path.parent == self._place(git.project_id) else None,
            branch=entry.branch,
            head=entry.head,
            main=entry is main,
            current=entry.path == git.root,
            locked=entry.locked is not None,
            lock_reason=entry.locked or None,
            prunable=entry.prunable,
            clean=clean,
            merged=merged,
            processes=processes[:20],
        )

    async def _needed(self, git: Work, entry: Listed, main: Listed) -> str | None:
        """Say what would be lost with it."""
        if entry.prunable is None:
            why = await self._dirt(git, entry)
            look = self._desk.look(git.project_id, root=entry.path)
            why = why or await only_here(look, entry.path)
            if why:
                return why
        if not await _merged(git, entry.head, entry.branch, main):
            return "it has commits that are on no other branch; merge or push them"
        return None

    async def _dirt(self, git: Work, entry: Listed) -> str | None:
        """Say what is not committed in it; Conflict where that cannot be told.

        What is looked at is only a work tree that names this repository as its own: a file in a
        repository may list any folder.
        """
        look = self._desk.look(git.project_id, root=entry.path)
        await _require_own(git, entry)
        await self._desk.open(look)
        what = await asyncio.to_thread(under_way, look.repository.git_dir)
        if what is not None:
            return f"a {what} is under way in it"
        if (await look.run(*CLEAN)).stdout:
            return "it has changes or files that are not committed"
        return None


async def _used(path: str, patience: float = 0) -> str | None:
    """Say who works in a folder, as soon as nobody does or when the patience is over."""
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    while found := await asyncio.to_thread(inside, path):
        if loop.time() >= until:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            return f"{', '.join(found[:3])}{more} works in it"
        await asyncio.sleep(LOOK_AGAIN)
    return None


async def _merged(git: Work, head: str | None, branch: str | None, main: Listed) -> bool:
    """Tell whether commits are in another branch, in the upstream, or in the main work tree."""
    if head is None:
        return True
    upstream = ""
    if branch is not None:
        upstream = await git.text("for-each-ref", "--format=%(upstream)", f"refs/heads/{branch}")
    others = [upstream] if upstream else []
    contain = await git.text(
        "for-each-ref", f"--contains={head}", "--format=%(refname)", "refs/heads", *others
    )
    if set(contain.split("\n")) - {f"refs/heads/{branch}", ""}:
        return True
    if main.head is None or main.branch is not None:
        return False  # its branch was among those
    finished = await git.run("merge-base", "--is-ancestor", head, main.head, ok=(0, 1))
    return finished.code == 0


async def _require_own(git: Work, entry: Listed) -> None:
    """Raise Conflict for a folder that is there, and no work tree of this repository."""
    if await asyncio.to_thread(Path(entry.path).exists):
        found = await look_up(entry.path, trusted=git.trusted)
        if found.common_dir != git.repository.common_dir:
            raise Conflict(f"{shown(entry.path)} belongs to another repository")


async def _remove(git: Work, entry: Listed, *, force: bool) -> None:
    """Remove one that is known to be its own, or half removed and in the daemon's folder."""
    if force and not await asyncio.to_thread(Path(entry.path, ".git").exists):
        await asyncio.to_thread(shutil.rmtree, entry.path, ignore_errors=True)
    forced = ("--force", "--force") if force else ()
    args = ("worktree", "remove", *forced, "--end-of-options", entry.path)
    try:
        finished = await git.run(*args, ok=(0, 128))
        if "containing submodules" in finished.stderr:  # it is known what would be lost with it
            await git.run("worktree", "remove", "--force", "--end-of-options", entry.path)
        elif finished.code:
            raise await explained(args, finished, git.repository)
    except Ended:
        if not await asyncio.to_thread(Path(entry.path, ".git").exists):  # half of it is gone
            with git.taking_back():
                await _take_away(git, Path(entry.path))
        raise


async def _delete_branch(git: Work, branch: str) -> str | None:
    """Delete a branch; says why it was left."""
    try:
        await git.run("branch", "--delete", "--force", "--end-of-options", branch)
    except Conflict as error:
        return error.message
    return None


async def _whole(git: Work, path: str, branch: str) -> bool:
    """Return whether a work tree was added and filled, whatever came after that."""
    entry = next((each for each in await listed(git) if each.path == path), None)
    if entry is None or entry.branch != branch:
        return False
    look = ("-C", path, "diff-index", "--quiet", "--cached", "HEAD")
    return not (await git.run(*look, ok=ANY)).code


async def _undo_add(git: Work, path: Path, branch: str | None) -> None:
    """Take away what was begun; the branch too, if it was made for it."""
    await _take_away(git, path)
    if branch is not None:
        with contextlib.suppress(AgentcmdError):
            await _delete_branch(git, branch)


async def _take_away(git: Work, path: Path) -> None:
    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
    with contextlib.suppress(AgentcmdError):
        await git.run("worktree", "remove", "--force", "--force", "--end-of-options", str(path))


def _locked(entry: Listed) -> str | None:
    if entry.locked is None:
        return None
    return "it is locked" + (f": {entry.locked[:200]}" if entry.locked else "")
