"""What goes into the next commit, commits made, and changes thrown away with a way back."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from daemon.core.events import Answer, command
from domains.git.answers import Summary
from domains.git.desk import GitCommand

CHANNEL = "git:project:{project_id}"

Paths = Annotated[
    list[str],
    Meta(
        min_length=1,
        max_length=10_000,
        description="Files and folders, relative to the project, as they are called.",
    ),
]
"""Names as they are: nothing in them is a pattern."""

DiscardId = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-z]{1,40}$",
        description="What was discarded, as its answer and `git.discard_list` name it.",
    ),
]


class Staged(Answer):
    """Where the repository stands after it: `summary`.

    `warnings` say what is not as one may expect: a repository inside this one is staged as a link
    to its commit, without its files.
    """

    summary: Summary
    warnings: list[str] = field(default_factory=list)


class Discarded(Answer):
    """What was thrown away: `paths` names at most 1000 of the `count` files.

    It can be had back by `discard_id` for 30 days.
    """

    discard_id: str
    paths: list[str]
    count: int


class DiscardedWork(Answer):
    """What was lost from the work tree at one time, and can be had back by its `discard_id`.

    `operation` is what threw it away: discard, reset or discard_restore. `at` is when, in Unix
    seconds. `paths` names at most 20 of the `count` files; `commit` holds them as they were.
    """

    discard_id: str
    operation: str
    at: int
    commit: str
    paths: list[str]
    count: int


class DiscardedWorks(Answer):
    """What can be had back, the newest first: `discarded`; `truncated`: there is more."""

    discarded: list[DiscardedWork]
    truncated: bool = False


class DiscardRestored(Answer):
    """What has come back: `written` and `removed` name at most 1000 files each.

    `written_count` and `removed_count` count all of them. What stood there before is discarded as
    `discard_id`, absent where nothing had to change.
    """

    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    written_count: int = 0
    removed_count: int = 0
    discard_id: str | None = None


class Committed(Answer):
    """A new commit, by its id.

    `summary` is the first paragraph of its message; `files`, `insertions` and `deletions` count
    what it changes against its first parent. `hooks_skipped`: the repository has hooks for commits
    that were not run, because the project is not trusted. `signature_skipped`: commits are to be
    signed, and this one is not, for the same reason.
    """

    commit: Annotated[str, Meta(description="The id of the new commit.")]
    summary: str
    files: int = 0
    insertions: int = 0
    deletions: int = 0
    hooks_skipped: bool = False
    signature_skipped: bool = False


class WasReset(Answer):
    """Where the branch is now, and where it was: `commit` and `before`.

    What a hard reset has thrown away can be had back by `discard_id` for 30 days; it is absent
    where nothing was lost.
    """

    commit: str
    before: str
    discard_id: str | None = None


@command("git.stage", action="write", channel=CHANNEL, answer=Staged)
class Stage(GitCommand):
    """Put files as they are now into the next commit, also new and deleted ones.

    Either `paths` or `all`. `force` takes also what git ignores.
    """

    paths: Paths | None = None
    all: bool = False
    force: bool = False


@command("git.unstage", action="write", channel=CHANNEL, answer=Staged)
class Unstage(GitCommand):
    """Take files out of the next commit; they stay as they are in the work tree.

    Either `paths` or `all`.
    """

    paths: Paths | None = None
    all: bool = False


@command("git.discard", action="write", channel=CHANNEL, answer=Discarded)
class Discard(GitCommand):
    """Throw away what is changed and not staged; it can be had back for 30 days.

    Either `paths` or `all`. With `untracked` new files are deleted too, but never what git ignores,
    nor a repository inside this one.
    """

    paths: Paths | None = None
    all: bool = False
    untracked: bool = False


@command("git.discard_restore", action="write", channel=CHANNEL, answer=DiscardRestored)
class RestoreDiscarded(GitCommand):
    """Bring back what was discarded: each file as it was, or only `paths` of them."""

    discard_id: DiscardId
    paths: Paths | None = None


@command("git.discard_list", action="read", channel=CHANNEL, answer=DiscardedWorks)
class ListDiscarded(GitCommand):
    """List what was discarded in this work tree and can be had back, the newest first."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 50


@command("git.commit", action="write", channel=CHANNEL, answer=Committed)
class MakeCommit(GitCommand):
    """Commit what is staged.

    With `all` what is changed in tracked files is staged before; with `paths` just these files are
    committed as they are now, whatever else is staged. `author` is "Name <mail>", where it is not
    you. `sign_off` adds a line Signed-off-by. `amend` replaces the last commit, whose message
    stays where `message` is left out. `allow_empty` makes a commit also where nothing is staged.
    """

    message: Annotated[str | None, Meta(description="The message, first line a summary.")] = None
    all: bool = False
    paths: Paths | None = None
    author: str | None = None
    sign_off: bool = False
    amend: bool = False
    allow_empty: bool = False


@command("git.reset", action="write", channel=CHANNEL, answer=WasReset)
class Reset(GitCommand):
    """Move the current branch to a revision.

    `mode` soft leaves index and files as they are; mixed makes the index like the revision; hard
    the files too, and what is lost of them can be had back for 30 days; keep does so only for
    files without changes of their own, and refuses otherwise.
    """

    revision: Annotated[str, Meta(description="Where to: a branch, a tag, a commit.")] = "HEAD"
    mode: Literal["soft", "mixed", "hard", "keep"] = "mixed"
