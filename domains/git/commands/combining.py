"""Branches brought together, and commits carried from one to another."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from daemon.core.events import Answer, command
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"

Revisions = Annotated[
    list[str],
    Meta(min_length=1, max_length=100, description="The commits, in the order in which to go."),
]

Mainline = Annotated[
    Annotated[int, Meta(ge=1, le=16)] | None,
    Meta(description="For merge commits: which parent, from 1, the change is to be seen against."),
]


class Combined(Answer):
    """What came of it.

    `head` is the commit that is checked out now, on `branch`, absent where the head is detached.
    `commits` counts those that came to the branch, of a rebase those that were made anew, of a
    squashed merge those that are in it. `fast_forward`: nothing had to be merged. `up_to_date`:
    there was nothing to do. `staged`: a squashed merge waits to be committed. `stashed`: the
    changes that were put aside did not fit any more, and are in the stash.

    `hooks_skipped`: there are hooks for it that were not run, because the project is not trusted.
    `signature_skipped`: the commits that were made are to be signed, and are not, for the same
    reason.
    """

    head: str
    branch: str | None = None
    commits: int = 0
    fast_forward: bool = False
    up_to_date: bool = False
    staged: bool = False
    stashed: bool = False
    hooks_skipped: bool = False
    signature_skipped: bool = False


class Aborted(Answer):
    """What was `aborted`, as a merge or a rebase; `head` is the commit that it began from."""

    aborted: str
    head: str | None = None


@command("git.merge", action="write", channel=CHANNEL, answer=Combined)
class Merge(GitCommand):
    """Merge a revision into the current branch; conflicts are told, and left to resolve or abort.

    `ff`: auto makes a commit only where it must, only refuses where it must, never makes one
    always. With `squash` the changes are staged, and no merge is recorded. `message` is that of
    the merge commit, instead of git's own.
    """

    revision: Annotated[str, Meta(description="What to merge: a branch, a tag, a commit.")]
    ff: Literal["auto", "only", "never"] = "auto"
    squash: bool = False
    message: str | None = None


@command("git.rebase", action="write", channel=CHANNEL, answer=Combined)
class Rebase(GitCommand):
    """Make the commits of a branch anew on another revision; it stops at each conflict.

    `onto` is that revision. `branch` is switched to before; without it, it is the current one.
    With `autostash` changes that are not committed are put aside meanwhile; without, they refuse
    it.
    """

    onto: str
    branch: str | None = None
    autostash: bool = False


@command("git.cherry_pick", action="write", channel=CHANNEL, answer=Combined)
class CherryPick(GitCommand):
    """Make commits of elsewhere anew on the current branch; it stops at each conflict."""

    revisions: Revisions
    mainline: Mainline = None


@command("git.revert", action="write", channel=CHANNEL, answer=Combined)
class Revert(GitCommand):
    """Undo commits by new ones; it stops at each conflict."""

    revisions: Revisions
    mainline: Mainline = None


@command("git.continue", action="write", channel=CHANNEL, answer=Combined)
class Continue(GitCommand):
    """Go on with the merge, rebase, cherry-pick or revert, once what was in conflict is staged.

    `message` is that of the merge commit, instead of git's own; only for a merge.
    """

    message: str | None = None


@command("git.abort", action="write", channel=CHANNEL, answer=Aborted)
class Abort(GitCommand):
    """Give up the merge, rebase, cherry-pick, revert or bisect: all is as it was before it."""


@command("git.skip", action="write", channel=CHANNEL, answer=Combined)
class Skip(GitCommand):
    """Leave out the commit that a rebase, cherry-pick or revert has stopped at, and go on."""
