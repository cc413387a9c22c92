"""Branches and tags made, renamed, deleted, and switched to."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from daemon.core.events import Answer, command
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"

NewName = Annotated[str, Meta(description="The name, as git allows it.")]


class BranchMade(Answer):
    """A new branch: its `name`, and the `commit` it is at, absent before the first one.

    `warnings` say what failed after it was made, as a hook. `hooks_skipped` is as that of a switch.
    """

    name: str
    commit: str | None = None
    warnings: list[str] = field(default_factory=list)
    hooks_skipped: bool = False


class Switched(Answer):
    """Where you are now.

    `branch` is absent on a detached head, `commit` before the first one. `previous` is the branch,
    or the commit of a detached head, that you were at. `warnings` say what failed after it, as a
    hook. `hooks_skipped`: there is a post-checkout hook that was not run, because the project is
    not trusted.
    """

    branch: str | None = None
    commit: str | None = None
    previous: str | None = None
    warnings: list[str] = field(default_factory=list)
    hooks_skipped: bool = False


class BranchDeleted(Answer):
    """A branch that is gone; made again at `commit` it is as it was. `name` was its name."""

    name: str
    commit: str


class BranchRenamed(Answer):
    """A branch with another name: from `old_name` to `name`."""

    old_name: str
    name: str


class TagMade(Answer):
    """A new tag: its `name`, the `commit` it is of, and `object_id` where it is annotated.

    `signature_skipped`: such tags are to be signed, and this one is not, because the project is not
    trusted.
    """

    name: str
    commit: str
    object_id: str | None = None
    signature_skipped: bool = False


class TagDeleted(Answer):
    """A tag that is gone: its `name`, and what it named, a tag object or a commit: `object_id`."""

    name: str
    object_id: str


@command("git.branch_create", action="write", channel=CHANNEL, answer=BranchMade)
class CreateBranch(GitCommand):
    """Make a branch at `start_point`, a revision, or where you are; with `switch` go there too.

    Begun from a branch of a remote it follows that one.
    """

    name: NewName
    start_point: str | None = None
    switch: bool = False


@command("git.switch", action="write", channel=CHANNEL, answer=Switched)
class SwitchBranch(GitCommand):
    """Go to another branch; refused where that would lose changes.

    `branch` is one that exists here or on a remote, or with `create` a new one that begins at
    `revision`. With `detach` it is `revision` alone, without a branch.
    """

    branch: str | None = None
    revision: str | None = None
    create: bool = False
    detach: bool = False


@command("git.branch_delete", action="write", channel=CHANNEL, answer=BranchDeleted)
class DeleteBranch(GitCommand):
    """Delete a branch of this repository, but not the one that you are on.

    It must be merged into what it follows, or into the current branch, unless `force` is given.
    """

    name: NewName
    force: bool = False


@command("git.branch_rename", action="write", channel=CHANNEL, answer=BranchRenamed)
class RenameBranch(GitCommand):
    """Give a branch `new_name`; without `name` it is the current one."""

    new_name: str
    name: NewName | None = None


@command("git.tag_create", action="write", channel=CHANNEL, answer=TagMade)
class CreateTag(GitCommand):
    """Make a tag: annotated where it has a `message`, else light."""

    name: NewName
    revision: Annotated[str, Meta(description="What it is of: a branch, a commit.")] = "HEAD"
    message: str | None = None


@command("git.tag_delete", action="write", channel=CHANNEL, answer=TagDeleted)
class DeleteTag(GitCommand):
    """Delete a tag of this repository."""

    name: NewName
