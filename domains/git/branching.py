"""Makes, renames and deletes branches and tags, and goes from one branch to another."""

from __future__ import annotations

from collections.abc import Sequence

from daemon.core.commands import Caller, handles
from daemon.core.errand import Finished
from daemon.core.errors import AgentcmdError, BadRequest, Conflict, NotFound
from domains.git.arguments import branch_name, revision
from domains.git.carrying import resolve
from domains.git.commands.branching import (
    BranchDeleted,
    BranchMade,
    BranchRenamed,
    CreateBranch,
    CreateTag,
    DeleteBranch,
    DeleteTag,
    RenameBranch,
    SwitchBranch,
    Switched,
    TagDeleted,
    TagMade,
)
from domains.git.desk import Desk, Work
from domains.git.failures import after_checkout, explained
from domains.git.messages import FROM_INPUT, message_bytes
from domains.git.skipped import skipped

HEADS = "refs/heads/"

SHOWN = 500
"""Files that an error lists."""


class Branching:
    """Names for commits, and which of them one is on."""

    def __init__(self, desk: Desk) -> None:
        """Work at this desk."""
        self._desk = desk

    @handles(CreateBranch)
    async def create(self, command: CreateBranch, caller: Caller) -> BranchMade:
        """Make a branch, and go there where that is asked for."""
        name = own_name(command.name)
        start = revision(command.start_point) if command.start_point is not None else None
        async with self._desk.at_work(command, caller) as git:
            warnings: list[str] = []
            if command.switch:
                warnings = await _switch(git, "--create", name, *([start] if start else []))
            else:
                await required(git, start or "HEAD")
                # By its name, so that the branch can follow one of a remote.
                await git.run("branch", "--end-of-options", name, *([start] if start else []))
            (commit,) = await resolve(git, [HEADS + name])
            left = await skipped(git, ("post-checkout",) if command.switch else ())
            return BranchMade(name=name, commit=commit, warnings=warnings, hooks_skipped=left.hooks)

    @handles(SwitchBranch)
    async def switch(self, command: SwitchBranch, caller: Caller) -> Switched:
        """Go elsewhere."""
        args = _destination(command)
        async with self._desk.at_work(command, caller) as git:
            branch, commit = await _here(git)
            warnings = await _switch(git, *args)
            now, at = await _here(git)
            left = await skipped(git, ("post-checkout",))
            return Switched(
                branch=now,
                commit=at,
                previous=branch or commit,
                warnings=warnings,
                hooks_skipped=left.hooks,
            )

    @handles(DeleteBranch)
    async def delete(self, command: DeleteBranch, caller: Caller) -> BranchDeleted:
        """Delete a branch, and tell where it was."""
        name = own_name(command.name)
        async with self._desk.at_work(command, caller) as git:
            (commit,) = await resolve(git, [HEADS + name])
            if commit is None:
                raise NotFound(f"there is no branch {name!r} here; see git.branches")
            if (await _here(git))[0] == name:
                raise Conflict(f"you are on {name!r}: switch to another branch first")
            args = ("branch", "--delete", *(["--force"] if command.force else []), "--", name)
            finished = await git.run(*args, ok=(0, 1, 128))
            if "is not fully merged" in finished.stderr:
                raise Conflict(
                    f"{name!r} has commits that are merged nowhere: with force: true it is "
                    "deleted nevertheless",
                    commit=commit,
                )
            if finished.code:
                raise await explained(args, finished, git.repository)
            return BranchDeleted(name=name, commit=commit)

    @handles(RenameBranch)
    async def rename(self, command: RenameBranch, caller: Caller) -> BranchRenamed:
        """Give a branch another name; never that of another one."""
        name = own_name(command.name) if command.name is not None else None
        new = own_name(command.new_name)
        async with self._desk.at_work(command, caller) as git:
            old = name or (await _here(git))[0]
            if old is None:
                raise Conflict("you are on no branch: say the name of the one to rename")
            await git.run("branch", "--move", "--", old, new)
            return BranchRenamed(old_name=old, name=new)

    @handles(CreateTag)
    async def tag(self, command: CreateTag, caller: Caller) -> TagMade:
        """Make a tag."""
        name = own_name(command.name)
        stdin = message_bytes(command.message) if command.message is not None else None
        async with self._desk.at_work(command, caller) as git:
            commit = await required(git, revision(command.revision))
            # A tag that is not annotated cannot be signed, whatever the configuration says.
            kind = ["--no-sign"] if stdin is None else ["-a", *FROM_INPUT]
            await git.run("tag", *kind, "--end-of-options", name, commit, stdin=stdin)
            if stdin is None:
                return TagMade(name=name, commit=commit)
            object_id = await git.text("rev-parse", "--verify", f"refs/tags/{name}")
            unsigned = (await skipped(git, (), "tag.gpgSign")).signature
            return TagMade(
                name=name, commit=commit, object_id=object_id, signature_skipped=unsigned
            )

    @handles(DeleteTag)
    async def untag(self, command: DeleteTag, caller: Caller) -> TagDeleted:
        """Delete a tag, and tell what it was."""
        name = own_name(command.name)
        async with self._desk.at_work(command, caller) as git:
            ref = f"refs/tags/{name}"
            object_id = await git.text("rev-parse", "--quiet", "--verify", ref, ok=(0, 1))
            if not object_id:
                raise NotFound(f"there is no tag {name!r}; see git.tags")
            await git.run("tag", "--delete", "--", name)
            return TagDeleted(name=name, object_id=object_id)


def own_name(text: str) -> str:
    """Give a name for a branch or tag of ours; HEAD is one that git itself could mistake."""
    if branch_name(text) == "HEAD" or text.startswith("refs/"):
        raise BadRequest(f"{text[:80]!r} would be mistaken for something else; choose another name")
    return text


async def required(git: Work, name: str) -> str:
    """Give the commit that a revision names; NotFound where there is none."""
    (commit,) = await resolve(git, [name])
    if commit is not None:
        return commit
    if name == "HEAD":
        raise Conflict("there is no commit yet: commit something first")
    raise NotFound(f"there is no commit {name[:80]!r}; look at branches, tags and the log")


def overwritten(said: str) -> Conflict | None:
    """Make the error for changes that git refuses to lose, with the files that it lists."""
    if "would be overwritten by" not in said and "would be removed by" not in said:
        return None
    found = [line.strip() for line in said.splitlines() if line.startswith("\t")]
    named = ", ".join(each[:200] for each in found[:3]) or "some files"
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return Conflict(
        f"changes in {named}{more} would be lost: commit, stash or discard them first",
        paths=found[:SHOWN],
    )


def _destination(command: SwitchBranch) -> Sequence[str]:
    """Say where to go; BadRequest for what names two places or none."""
    if command.detach:
        if command.branch is not None or command.create or command.revision is None:
            raise BadRequest("detach goes to a revision alone: leave branch and create out")
        return ("--detach", revision(command.revision))
    if command.branch is None:
        raise BadRequest("say the branch to go to, or a revision and detach: true")
    name = own_name(command.branch)
    if command.create:
        start = [revision(command.revision)] if command.revision is not None else []
        return ("--create", name, *start)
    if command.revision is not None:
        raise BadRequest("revision is where a new branch begins: say create: true, or leave it out")
    return ("--guess", name)


async def _switch(git: Work, *where: str) -> list[str]:
    """Go there; returns a warning where only what comes after it has failed."""
    args = ("switch", "--quiet", "--no-recurse-submodules", "--no-progress", *where)
    detached = where[0] == "--detach"
    wanted = (await resolve(git, [where[1]]))[0] if detached else where[1]
    finished: Finished = await git.run(*args, ok=(0, 1, 128))
    if not finished.code:
        return []
    branch, commit = await _here(git)
    there = (commit if branch is None else None) if detached else branch
    if wanted is not None and there == wanted and (said := after_checkout(finished)):
        return said
    raise await _refused(git, args, finished)


async def _refused(git: Work, args: Sequence[str], finished: Finished) -> AgentcmdError:
    said = finished.stderr
    lost = overwritten(said)
    if lost is not None:
        return lost
    if "needs merge" in said or "resolve your current index" in said:
        return Conflict("files are in conflict: resolve and commit them, or abort, then switch")
    if "invalid reference" in said:
        return NotFound(f"there is no branch or commit {args[-1][:80]!r}; see git.branches")
    return await explained(args, finished, git.repository)


async def _here(git: Work) -> tuple[str | None, str | None]:
    """Tell the current branch and commit; either may be missing."""
    name = await git.text("symbolic-ref", "--quiet", "HEAD", ok=(0, 1))
    (commit,) = await resolve(git, ["HEAD"])
    return name.removeprefix(HEADS) or None, commit
