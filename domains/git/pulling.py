"""The second half of a pull: what was fetched is brought into the current branch."""

from __future__ import annotations

from typing import Literal

from daemon.core.errors import Conflict
from domains.git.carrying import begin, carry, count, undone
from domains.git.commands.remotes import Pulled
from domains.git.desk import Work
from domains.git.skipped import MERGE, REBASE, Skipped, skipped
from domains.git.standing import summarise

Way = Literal["merge", "rebase"]


async def require_rested(git: Work) -> None:
    """See, before anything is fetched, that nothing is under way that a pull would run into."""
    await begin(git, [])


async def pulled(
    git: Work, remote: str, branch: str, *, rebase: bool | None, ff_only: bool
) -> Pulled:
    """Bring a branch that was fetched into the current one."""
    before, (target,) = await begin(git, [f"refs/remotes/{remote}/{branch}"])
    ours, theirs = await count(git, before, target), await count(git, target, before)
    way: Way = "merge"
    if ours and theirs:
        if ff_only:
            raise Conflict("both sides have commits of their own: pull without ffOnly, or rebase")
        way = _way(rebase) or await _configured(git)
    if theirs:
        async with undone(git, before):
            if way == "rebase":
                kept = ["--no-stat", "--no-autostash", "--no-fork-point"]
                await carry(git, way, way, *kept, target)
            else:
                ff = "--ff" if ours else "--ff-only"
                options = (ff, "--no-edit", "--no-stat", "--no-autostash", "--progress")
                message = ("-m", f"Merge branch '{branch}' of {remote}") if ours else ()
                await carry(git, way, way, *options, *message, "--end-of-options", target)
    left = Skipped()
    if theirs:
        hooks = (REBASE if way == "rebase" else MERGE) if ours else ("post-merge",)
        left = await skipped(git, hooks, "commit.gpgSign" if ours else "")
    return Pulled(
        remote=remote,
        branch=branch,
        commit=target,
        commits=theirs,
        summary=await summarise(git),
        fast_forward=not ours and theirs > 0,
        rebased=way == "rebase",
        up_to_date=not theirs,
        hooks_skipped=left.hooks,
        signature_skipped=left.signature,
    )


def _way(rebase: bool | None) -> Way | None:
    return None if rebase is None else "rebase" if rebase else "merge"


async def _configured(git: Work) -> Way:
    """Read which of both it is to be, as git's own pull does."""
    branch = await git.text("symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1))
    for key in (f"branch.{branch}.rebase", "pull.rebase"):
        said = await git.text("config", "--get", key, ok=(0, 1))
        if said:
            return "merge" if said in ("false", "no", "off", "0") else "rebase"
    raise Conflict(
        "both sides have commits of their own: say rebase true, or false to merge them, or set "
        "pull.rebase"
    )
