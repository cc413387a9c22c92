"""Further work trees of a repository, so that nobody steps on what another one does."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from daemon.core.events import Answer, command
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"

WorktreeName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._\-]{0,99}$",
        description="What a worktree in the daemon's own folder is called: no path.",
    ),
]


class Worktree(Answer):
    """One work tree.

    `path` is its folder, absolute, and `name` what it is called in the daemon's own folder for
    those of this project; absent for others. It is on `branch`, absent where its head is detached,
    at the commit `head`, absent before the first one. `main` is that of the repository itself,
    `current` the project's. One that is `locked` is not removed unless forced, for `lock_reason`.
    `prunable` says why it may be forgotten, as that its folder is gone.

    With details: `clean` is whether there is nothing that is not committed and nothing under way
    in it; `merged`, whether its commits are in the main one, in another branch or in its upstream;
    both are absent where that cannot be told. `processes` are those that work in it now.
    """

    path: str
    name: str | None = None
    branch: str | None = None
    head: str | None = None
    main: bool = False
    current: bool = False
    locked: bool = False
    lock_reason: str | None = None
    prunable: str | None = None
    clean: bool | None = None
    merged: bool | None = None
    processes: list[str] = field(default_factory=list)


class ManyWorktrees(Answer):
    """The `worktrees` of this page, and how many there are in all: `total`."""

    worktrees: list[Worktree]
    total: int


class WorktreeMade(Answer):
    """The new `worktree`, and whether its branch is `new` too.

    `submodules` counts those that were filled; `warnings` name links that nothing can fill,
    and what failed after it, as a hook. `hooks_skipped` is as that of a switch.
    """

    worktree: Worktree
    new: bool
    submodules: int = 0
    warnings: list[str] = field(default_factory=list)
    hooks_skipped: bool = False


class WorktreeRemoved(Answer):
    """What was removed: the folder `path`; `branch` was on it, and `branch_deleted` is whether too.

    `kept` says why that branch was left, where it was asked to be deleted.
    """

    path: str
    branch: str | None = None
    branch_deleted: bool = False
    kept: str | None = None


@command("git.worktree_list", action="read", channel=CHANNEL, answer=ManyWorktrees)
class ListWorktrees(GitCommand):
    """List the work trees of the repository, from `offset`, at most `limit` of them.

    With `details` each is looked into, which takes as long as a status does for each.
    """

    details: bool = False
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


@command("git.worktree_add", action="write", channel=CHANNEL, answer=WorktreeMade)
class AddWorktree(GitCommand):
    """Add a work tree in the daemon's own folder, on a branch that exists or is made for it.

    Without `branch` it is called as the work tree. A branch that is made begins at `start`, or
    else where the project is. With `recurse` its submodules are filled too, and theirs.
    """

    name: WorktreeName
    branch: str | None = None
    start: str | None = None
    recurse: bool = False


@command("git.worktree_remove", action="write", channel=CHANNEL, answer=WorktreeRemoved)
class RemoveWorktree(GitCommand):
    """Remove a work tree that is clean and merged, or with `force` any; never one in use.

    It is named by `name`, or by `path` as listed. With `delete_branch` its branch goes too.
    """

    name: WorktreeName | None = None
    path: str | None = None
    force: bool = False
    delete_branch: bool = False
