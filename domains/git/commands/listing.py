"""What a repository has by name: branches, tags, remotes, stashes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from daemon.core.events import Answer, command
from domains.git.answers import Person
from domains.git.commands.making import CHANNEL
from domains.git.desk import GitCommand

Most = Annotated[int, Meta(ge=1, le=10_000, description="How many are listed at most.")]


class Branch(Answer):
    """A branch, at the commit `head` with this `subject`, of `time` in Unix seconds.

    `name` is as in main or origin/main, and `remote` tells that it is one of a remote. `current`:
    it is the one that this work tree is on; `worktree` is the folder that has it checked out.
    `ahead` and `behind` count commits against the `upstream`; `gone`: the upstream is no more.
    """

    name: str
    head: str
    subject: str
    time: int
    remote: bool = False
    current: bool = False
    worktree: str | None = None
    upstream: str | None = None
    ahead: int | None = None
    behind: int | None = None
    gone: bool = False


class Branches(Answer):
    """The `branches`, the one last committed to first; `truncated`: there are more."""

    branches: list[Branch]
    truncated: bool = False


@command("git.branch_list", action="read", channel=CHANNEL, answer=Branches)
class ListBranches(GitCommand):
    """List the branches; with `remote` those of the remotes, too, as they were last fetched."""

    remote: bool = False
    limit: Most = 1_000


class Tag(Answer):
    """A tag: its `name`, and the `target` that it names, mostly a commit.

    `target_type` is commit, tree or blob. An `annotated` one has a `tagger` and a `message`, cut
    where it is long. `time` is when it was made, or the commit was, in Unix seconds.
    """

    name: str
    target: str
    target_type: str
    annotated: bool = False
    tagger: Person | None = None
    message: str = ""
    time: int | None = None


class Tags(Answer):
    """The `tags`, the newest first; `truncated`: there are more."""

    tags: list[Tag]
    truncated: bool = False


@command("git.tag_list", action="read", channel=CHANNEL, answer=Tags)
class ListTags(GitCommand):
    """List the tags."""

    limit: Most = 1_000


class Remote(Answer):
    """A remote by its `name`, and its addresses, without user names and passwords.

    `fetch_url` is where it is fetched from, and `push_urls` are where it is pushed to.
    """

    name: str
    fetch_url: str
    push_urls: list[str]


class Remotes(Answer):
    """The `remotes`."""

    remotes: list[Remote]


@command("git.remote_list", action="read", channel=CHANNEL, answer=Remotes)
class ListRemotes(GitCommand):
    """List the remotes."""


class Stash(Answer):
    """Work put aside: `index` is its place, 0 is the newest, and `commit` is what holds it.

    `message` is what it was called; `branch` is where it was made, absent on a detached head.
    `time` is in Unix seconds, and `parent` is the commit that it was made on.
    """

    index: int
    commit: str
    parent: str
    message: str
    time: int
    branch: str | None = None


class Stashes(Answer):
    """The `stashes`, the newest first; `truncated`: there are more."""

    stashes: list[Stash]
    truncated: bool = False


@command("git.stash_list", action="read", channel=CHANNEL, answer=Stashes)
class ListStashes(GitCommand):
    """List what was put aside."""

    limit: Most = 1_000
